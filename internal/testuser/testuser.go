// Package testuser lets tests that run servers give up root, under which
// PostgreSQL refuses to run.
package testuser

import (
	"flag"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Postgres makes the calling test binary run as the user postgres, for a TestMain
// that has parsed the flags. Without root, without that user and while fuzzing it
// does nothing: tests that need a server skip or fail then.
func Postgres() error {
	if os.Geteuid() != 0 || flag.Lookup("test.fuzz").Value.String() != "" {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil // no server here either
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	// What the go tool wants written lies in its own private directory.
	for _, name := range []string{"test.testlogfile", "test.coverprofile"} {
		path := flag.Lookup(name).Value.String()
		for dir := filepath.Dir(path); path != "" && strings.Contains(dir, "go-build"); dir = filepath.Dir(dir) {
			if err := os.Chown(dir, uid, gid); err != nil {
				return err
			}
		}
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return err
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return err
	}
	return os.Setenv("HOME", os.TempDir())
}
