package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/pkg/config"
)

func tryNode(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := New(Options{Name: "n1", Scope: "demo", Process: &ExecLauncher{}, Config: config.Postgres{DataDir: dir}})
	must(t, err)
	return s
}

func TestTryDisk(t *testing.T) {
	dir := t.TempDir()
	wal := filepath.Join(dir, "pg_wal")
	must(t, os.Mkdir(wal, 0o700))
	s := tryNode(t, dir)
	must(t, s.TryDisk())
	must(t, s.TryWALDisk())
	must(t, os.Remove(wal))
	must(t, os.Symlink("/dev/shm", wal)) // another file system
	must(t, s.TryWALDisk())
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// A path that leads nowhere is no fault of a disk.
	if err := tryNode(t, filepath.Join(dir, "nowhere")).TryDisk(); !errors.Is(err, fs.ErrNotExist) || isDiskFault(err) {
		t.Errorf("no directory: %v", err)
	}
	if err := tryNode(t, "/proc/self").TryDisk(); err == nil || isDiskFault(err) {
		t.Errorf("a directory that cannot be written to: %v", err)
	}
}

func isDiskFault(err error) bool {
	return errors.Is(err, ErrDiskFull) || errors.Is(err, ErrDiskReadOnly) || errors.Is(err, ErrDiskBroken)
}

func TestDiskErrors(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.ENOSPC: ErrDiskFull, unix.EDQUOT: ErrDiskFull, unix.EROFS: ErrDiskReadOnly, unix.EIO: ErrDiskBroken, unix.EUCLEAN: ErrDiskBroken,
		unix.EMFILE: nil, unix.EACCES: nil, unix.ENOENT: nil,
	} {
		err := diskError(fmt.Errorf("write: %w", errno))
		if !errors.Is(err, errno) || want != nil && !errors.Is(err, want) || want == nil && isDiskFault(err) {
			t.Errorf("%v: %v, want %v", errno, err, want)
		}
	}
	if diskError(nil) != nil {
		t.Error("nil is an error")
	}
}
