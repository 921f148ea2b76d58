package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// DirState is what the data directory looks like.
type DirState int

const (
	// DirEmpty means absent, or nothing in it but dot files and lost+found.
	DirEmpty DirState = iota
	// DirPresent means a data directory that may be started.
	DirPresent
	// DirUnreadable means something is there that we cannot or must not use.
	DirUnreadable
	// DirInProgress means a clone, rewind or restore began and did not finish.
	DirInProgress
)

// String names the state for logs.
func (d DirState) String() string {
	switch d {
	case DirEmpty:
		return "empty"
	case DirPresent:
		return "present"
	case DirInProgress:
		return "in progress"
	default:
		return "unreadable"
	}
}

// DataDir is the answer of State.
type DataDir struct {
	State DirState
	Kind  Kind  // of DirInProgress
	Err   error // of DirUnreadable: one line that says how to mend it
	// Resumable, of DirInProgress: an interrupted bootstrap from the repository
	// or restore can be continued by calling it again.
	Resumable bool
	Order     string // of a restore: the id of its order
}

// State looks at the data directory. It costs a few stat calls.
func (s *Server) State() DataDir {
	dir := s.config().DataDir
	entries, err := os.ReadDir(dir)
	if oerr := checkOwner(dir); oerr != nil && !errors.Is(err, fs.ErrNotExist) {
		return DataDir{State: DirUnreadable, Err: oerr} // a marker inside could not even be read
	}
	kind, marked, merr := s.inProgress()
	if merr != nil {
		return DataDir{State: DirUnreadable, Err: merr}
	}
	if d, ok := s.unfinished(kind, marked); ok {
		return d
	}
	if errors.Is(err, fs.ErrNotExist) {
		return DataDir{State: DirEmpty}
	}
	if err != nil {
		return DataDir{State: DirUnreadable, Err: fmt.Errorf("read data directory: %w", err)}
	}
	if _, err := os.Stat(filepath.Join(dir, "global", "pg_control")); err != nil {
		if errors.Is(err, fs.ErrNotExist) && isEmpty(entries) {
			return DataDir{State: DirEmpty}
		}
		return DataDir{State: DirUnreadable, Err: fmt.Errorf(
			"data directory %s is not empty, but has no global/pg_control: move its content away, or mount the right disk", dir)}
	}
	if err := checkMode(dir); err != nil {
		return DataDir{State: DirUnreadable, Err: err}
	}
	if _, err := s.MajorVersion(); err != nil {
		return DataDir{State: DirUnreadable, Err: err}
	}
	return DataDir{State: DirPresent}
}

func isEmpty(entries []fs.DirEntry) bool {
	for _, e := range entries {
		if e.Name() != "lost+found" && !strings.HasPrefix(e.Name(), ".") {
			return false
		}
	}
	return true
}

// checkOwner demands that dir belongs to the user we run as.
func checkOwner(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at data directory: %w", err)
	}
	if !fi.IsDir() {
		return fmt.Errorf("data directory %s is not a directory", dir)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() {
		return nil
	}
	me := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(me); err == nil {
		me = u.Username
	}
	return fmt.Errorf("data directory %s belongs to uid %d, not to %s: chown -R %s %s, or run the agent as its owner",
		dir, st.Uid, me, me, dir)
}

// checkMode demands what the server itself demands: 0700 or 0750.
func checkMode(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at data directory: %w", err)
	}
	if perm := fi.Mode().Perm(); perm&^fs.FileMode(0o750) != 0 || perm&0o700 != 0o700 {
		return fmt.Errorf("data directory %s has mode %04o: chmod 0700 (or 0750) %s", dir, perm, dir)
	}
	return nil
}

func isNotDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

// ErrNotOurs means that a directory does not look like something this driver
// may delete.
var ErrNotOurs = errors.New("not ours to delete")

// ErrRunning means that the operation needs a stopped server.
var ErrRunning = errors.New("the server is running")

// Wipe empties the data directory, the target of a pg_wal link and our
// version directories in tablespaces. The directories themselves stay, since
// they may be mount points. Whether the copy may go is the caller's decision
// (safety S9); Wipe only refuses what it cannot prove to be a data directory
// of our own. It survives a crash: the marker stays until all is gone.
func (s *Server) Wipe() error {
	if _, ok := s.Running(); ok {
		return fmt.Errorf("wipe data directory: %w", ErrRunning)
	}
	dir, err := filepath.EvalSymlinks(s.config().DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wipe data directory: %w", err)
	}
	_, marked, err := s.inProgress()
	if err != nil {
		return fmt.Errorf("wipe data directory: %w", err)
	}
	if err := s.verifyOurs(dir, marked); err != nil {
		return fmt.Errorf("wipe data directory: %w", err)
	}
	outside, err := externals(dir)
	if err != nil {
		return fmt.Errorf("wipe data directory: %w", err)
	}
	if !marked {
		if err := s.Begin(KindWipe, true); err != nil {
			return err
		}
	}
	for _, e := range outside {
		if err := emptyDir(e.path, e.only); err != nil {
			return fmt.Errorf("wipe %s: %w", e.path, err)
		}
	}
	if err := emptyDir(dir, func(name string) bool { return name != markerName && name != "lost+found" }); err != nil {
		return fmt.Errorf("wipe data directory: %w", err)
	}
	if marked {
		return removeFile(filepath.Join(dir, markerName))
	}
	return s.Finish()
}

// verifyOurs refuses directories of other users and directories with content
// that is not a data directory.
func (s *Server) verifyOurs(dir string, marked bool) error {
	if err := checkOwner(dir); err != nil {
		return fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if marked || isEmpty(entries) {
		return nil
	}
	if _, err := s.MajorVersion(); err != nil {
		return fmt.Errorf("%w: %s has content but no PG_VERSION of ours", ErrNotOurs, dir)
	}
	return nil
}

// external is a directory outside PGDATA whose entries named by only are part
// of it.
type external struct {
	path string
	only func(name string) bool
}

var (
	walEntry  = regexp.MustCompile(`^([0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history|archive_status|summaries|xlogtemp\.\d+|RECOVERY.*)$`)
	tblspcDir = regexp.MustCompile(`^PG_[0-9]+_[0-9]+$`)
)

// externals resolves the links out of a data directory and verifies them.
func externals(dir string) ([]external, error) {
	var out []external
	if target, ok, err := linkTarget(filepath.Join(dir, "pg_wal")); err != nil {
		return nil, err
	} else if ok {
		entries, err := os.ReadDir(target)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !walEntry.MatchString(e.Name()) && e.Name() != "lost+found" && !strings.HasPrefix(e.Name(), ".") {
				return nil, fmt.Errorf("%w: %s, the target of pg_wal, holds %q, which is not WAL", ErrNotOurs, target, e.Name())
			}
		}
		out = append(out, external{target, walEntry.MatchString})
	}
	links, err := os.ReadDir(filepath.Join(dir, "pg_tblspc"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, l := range links {
		target, ok, err := linkTarget(filepath.Join(dir, "pg_tblspc", l.Name()))
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, external{target, tblspcDir.MatchString})
		}
	}
	return out, nil
}

// linkTarget resolves a symbolic link to a directory of ours. A dangling link
// and something that is no link give ok false.
func linkTarget(path string) (target string, ok bool, err error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && fi.Mode()&fs.ModeSymlink == 0 {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	target, err = filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if err := checkOwner(target); err != nil {
		return "", false, fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	return target, true, nil
}

// emptyDir removes the entries of dir chosen by only. It never follows a link
// out of dir (os.Root) and never crosses into another file system.
func emptyDir(dir string, only func(name string) bool) error {
	if err := sameDevice(dir); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !only(e.Name()) {
			continue
		}
		if err := root.RemoveAll(e.Name()); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// sameDevice refuses a tree with a mount point inside.
func sameDevice(dir string) error {
	dev := func(fi fs.FileInfo) uint64 {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			return uint64(st.Dev)
		}
		return 0
	}
	top, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if dev(fi) != dev(top) {
			return fmt.Errorf("%w: %s is a mount point inside %s", ErrNotOurs, path, dir)
		}
		return nil
	})
}

// MoveAside renames the data directory to <dir>.failed, replacing an older
// one, so that an operator can look at it (ha-behaviour 6.4). WAL and
// tablespace directories outside it move along.
func (s *Server) MoveAside() error {
	if _, ok := s.Running(); ok {
		return fmt.Errorf("move data directory aside: %w", ErrRunning)
	}
	dir, err := filepath.EvalSymlinks(s.config().DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("move data directory aside: %w", err)
	}
	if err := s.verifyOurs(dir, true); err != nil {
		return fmt.Errorf("move data directory aside: %w", err)
	}
	if err := moveLinked(dir); err != nil {
		return fmt.Errorf("move data directory aside: %w", err)
	}
	if err := moveDir(dir); err != nil {
		return fmt.Errorf("move data directory aside: %w", err)
	}
	if dir != s.config().DataDir {
		// The configured path is a link: give it a directory to point to.
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("move data directory aside: %w", err)
		}
	}
	return s.Finish()
}

// moveLinked moves the directories that links in dir point to, and mends the links.
func moveLinked(dir string) error {
	links := []string{filepath.Join(dir, "pg_wal")}
	entries, err := os.ReadDir(filepath.Join(dir, "pg_tblspc"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		links = append(links, filepath.Join(dir, "pg_tblspc", e.Name()))
	}
	for _, link := range links {
		target, ok, err := linkTarget(link)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := moveDir(target); err != nil {
			return err
		}
		if err := os.Remove(link); err != nil {
			return err
		}
		if err := os.Symlink(target+".failed", link); err != nil {
			return err
		}
	}
	return nil
}

// moveDir renames dir to dir.failed; an older one of ours makes room.
func moveDir(dir string) error {
	to := dir + ".failed"
	if _, err := os.Lstat(to); err == nil {
		if err := checkOwner(to); err != nil {
			return fmt.Errorf("%w: %w", ErrNotOurs, err)
		}
		if err := sameDevice(to); err != nil {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	if err := os.Rename(dir, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}
