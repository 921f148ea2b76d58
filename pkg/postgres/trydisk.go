package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What keeps a server from writing.
var (
	ErrDiskFull     = errors.New("no space left")
	ErrDiskReadOnly = errors.New("read-only file system")
	ErrDiskBroken   = errors.New("input/output error")
)

// scratchSize is what TryDisk writes: a page.
const scratchSize = 8192

// scratchName is used where a file system knows no unnamed files. Base backups,
// pg_rewind and pgBackRest leave out what is called like this.
const scratchName = "pgsql_tmp.pgha"

// TryDisk writes a small file into the data directory and flushes it. The error
// is one of those above; any other one proves nothing about the disk. It has no
// deadline, since nothing ends a write that hangs: call it where that may be.
func (s *Server) TryDisk() error { return tryDisk(s.inData()) }

// TryWALDisk does the same where pg_wal is, if that is another file system.
func (s *Server) TryWALDisk() error {
	var data, wal unix.Stat_t
	if err := unix.Stat(s.inData(), &data); err != nil {
		return diskError(err)
	}
	if err := unix.Stat(s.inData("pg_wal"), &wal); err != nil || wal.Dev == data.Dev {
		return diskError(err)
	}
	return tryDisk(s.inData("pg_wal"))
}

func tryDisk(dir string) error {
	f, remove, err := scratch(dir)
	if err != nil {
		return diskError(err)
	}
	defer remove()
	defer f.Close()
	// New blocks each time: writing over old ones works on a full disk, too.
	if _, err = f.Write(make([]byte, scratchSize)); err == nil {
		err = f.Sync()
	}
	return diskError(err)
}

// scratch makes a file without a name, so that nothing is left behind in a
// directory that may be emptied, copied or given to initdb meanwhile.
func scratch(dir string) (f *os.File, remove func(), err error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), dir), func() {}, nil
	case !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR):
		return nil, nil, err
	}
	path := filepath.Join(dir, scratchName)
	f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { _ = os.Remove(path) }, nil // the next attempt says what is wrong
}

// diskError classes err.
func diskError(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch errno {
	case unix.ENOSPC, unix.EDQUOT:
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case unix.EROFS:
		return fmt.Errorf("%w: %w", ErrDiskReadOnly, err)
	case unix.EIO, unix.EUCLEAN, unix.ENXIO, unix.ENODEV, unix.EREMOTEIO, unix.ESTALE, unix.ETIMEDOUT:
		return fmt.Errorf("%w: %w", ErrDiskBroken, err)
	}
	return err
}
