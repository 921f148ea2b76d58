package logging

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/pgha/pgha/pkg/config"
)

// fileName is the log's file in log.dir; older ones are called patroni.log.1
// and so on, as scripts and logrotate rules expect them.
const fileName = "patroni.log"

// file is the newest of the rotated files. Only the log's own goroutine uses it.
type file struct {
	path string
	size int64 // at which it is rotated; 0: never
	keep int   // older files to keep; 0: it is not rotated either
	mode int   // permission bits; -1: by umask

	f    *os.File
	used int64
}

func openFile(c config.Log) (*file, error) {
	l := &file{path: filepath.Join(c.Dir, fileName), size: c.FileSize, keep: c.FileNum, mode: c.Mode}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("log.dir: %w; make the directory writable for this user, or correct log.dir", err)
	}
	return l, nil
}

func (l *file) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	if l.mode >= 0 {
		if err := f.Chmod(os.FileMode(l.mode)); err != nil && !os.IsPermission(err) { // it may be another user's
			_ = f.Close()
			return err
		}
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	l.f, l.used = f, st.Size()
	return nil
}

// Write appends one line, rotating first when it would not fit.
func (l *file) Write(line []byte) (int, error) {
	if l.f != nil && l.size > 0 && l.keep > 0 && l.used > 0 && l.used+int64(len(line)) > l.size {
		l.rotate()
	}
	if l.f == nil {
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(line)
	l.used += int64(n)
	return n, err
}

// rotate renames the files by one; where that fails the newest grows on.
func (l *file) rotate() {
	_ = l.f.Close()
	l.f = nil
	for i := l.keep; i > 0; i-- {
		from := l.path
		if i > 1 {
			from += "." + strconv.Itoa(i-1)
		}
		_ = os.Rename(from, l.path+"."+strconv.Itoa(i)) // a gap in the row is no fault
	}
}

// Close closes the file.
func (l *file) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}
