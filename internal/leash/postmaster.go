package leash

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// server is the one server of the leash, from its start until nothing is left.
type server struct {
	pid     int // of the postmaster; 0: it was dead before the leash came
	pidfd   int
	started int64
	adopted bool // not our child: exit status and orphans go elsewhere
	dataDir string
	dir     fileID
	exe     fileID
	dirFD   int // of dataDir, open in advance: a fence opens nothing there
	shm     shm
	// diskHung: reading the data directory took too long, it is not read again.
	diskHung bool
	hold     string // why the kernel may not stop it with the leash, or ""
	// unverified: hold is not known yet, because the exec was under way.
	unverified bool

	exited  bool
	exitAt  int64
	status  syscall.WaitStatus
	reaped  bool
	fenced  int64 // epoch whose deadline passed
	killed  map[procKey]bool
	orphans int
	quiet   int           // passes in a row that found nothing
	delay   time.Duration // until the next pass
	stuck   bool          // said so in the log
}

type procKey struct {
	pid   int
	start uint64
}

func newServer(dataDir string) (*server, error) {
	fd, err := unix.Open(dataDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dataDir, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("stat %s: %w", dataDir, err)
	}
	return &server{
		pidfd: -1, dataDir: dataDir, dirFD: fd, dir: fileID{st.Dev, st.Ino},
		started: Now(), killed: map[procKey]bool{},
	}, nil
}

func (s *server) close() {
	if s.pidfd >= 0 {
		_ = unix.Close(s.pidfd)
	}
	_ = unix.Close(s.dirFD)
}

// spawn makes the postmaster a child of this thread, which must be the main
// one: the parent-death signal fires when the thread that forked ends.
func (s *server) spawn(r StartRequest, in int) error {
	out := int(os.Stderr.Fd())
	if r.LogPath != "" {
		fd, err := openLog(r.LogPath)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		out = fd
	}
	pidfd := -1
	env := append(r.Env[:len(r.Env):len(r.Env)], staleLockEnv(r.DataDir, r.Env)...)
	pid, err := syscall.ForkExec(r.Path, append([]string{r.Path}, r.Args...), &syscall.ProcAttr{
		Dir:   r.DataDir,
		Env:   env,
		Files: []uintptr{uintptr(in), uintptr(out), uintptr(out)},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT, PidFD: &pidfd},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", r.Path, err)
	}
	if pidfd < 0 { // kernel before 5.2; our own child cannot be reused unreaped
		if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			return fmt.Errorf("open process of %s: %w", r.Path, err)
		}
	}
	s.pid, s.pidfd = pid, pidfd
	s.exe, _ = statID(procPath(pid, "exe"))
	s.unverified = true
	return nil
}

// staleLockEnv is for a pid file whose pid belongs to a zombie or a stranger.
// PostgreSQL would take it for a running server and refuse to start. The
// caller has checked that it is none; PostgreSQL goes on to look at the shared
// memory, so the interlock stays, and nobody has to delete a pid file.
func staleLockEnv(dataDir string, env []string) []string {
	const name = "PG_GRANDPARENT_PID="
	f, err := readPidFile(dataDir)
	if err != nil || f.pid <= 0 || slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name) }) {
		return nil
	}
	if _, ok := readProc(f.pid); !ok {
		return nil
	}
	return []string{name + strconv.Itoa(f.pid)}
}

// openLog opens a file to append to. A FIFO without a reader must not block
// the leash, and one with a reader must not block the server.
func openLog(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return -1, fmt.Errorf("open log %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || (st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFCHR) {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("open log %s: not a regular file", path)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("open log %s: %w", path, err)
	}
	return fd, nil
}

// degraded says why the kernel may not stop the server with the leash, or "".
// The kernel closes the descriptors of a process that executes postgres, which
// is when its start counts as successful, before it writes the auxiliary
// vector: what could not be read is read again by the next question.
func (s *server) degraded() string {
	if s.unverified && !s.exited {
		secure, err := secureExec(s.pid)
		s.unverified = err != nil
		switch {
		case err != nil:
			s.hold = "the hold on the server cannot be verified: " + err.Error()
		case secure:
			s.hold = "the exec of postgres was a change of privilege, which clears the parent-death signal: run agent, leash and postgres in one security domain"
		default:
			s.hold = ""
		}
	}
	return s.hold
}

// identify opens the postmaster of the data directory for adoption. The
// handle is opened first and verified after, so that the pid cannot change
// hands in between.
func (s *server) identify() error {
	f, err := readPidFile(s.dataDir)
	if err != nil {
		return err
	}
	if f.pid <= 0 {
		return fmt.Errorf("%s is used by a single-user backend", s.dataDir)
	}
	if f.pid == os.Getpid() || f.pid == os.Getppid() {
		return fmt.Errorf("pid %d of the pid file is the leash or its parent: the file is stale", f.pid)
	}
	fd, err := unix.PidfdOpen(f.pid, 0)
	if err != nil {
		return fmt.Errorf("no process %d, the pid file is stale: %w", f.pid, err)
	}
	p, alive := readProc(f.pid)
	if !alive || p.dead() || !runsServerIn(f.pid, s.dir) || backendTitle(f.pid) {
		_ = unix.Close(fd)
		return fmt.Errorf("process %d is not the postmaster of %s: the pid file is stale", f.pid, s.dataDir)
	}
	s.pid, s.pidfd, s.shm, s.adopted = f.pid, fd, f.shm, true
	s.exe, _ = statID(procPath(f.pid, "exe"))
	s.hold = "the server was adopted: the kernel does not stop it if the leash dies, until its next start"
	return nil
}

func (s *server) signal(sig syscall.Signal) error {
	if s.pidfd < 0 {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(s.pidfd, sig, nil, 0)
}

// learnShm looks for the shared memory while the data directory answers; a
// fence does not want to read there. A disk that hangs is asked once.
func (s *server) learnShm() {
	if s.shm.known || s.diskHung {
		return
	}
	dataDir := s.dataDir
	var f pidFile
	err := inTime(func() (err error) { f, err = readPidFile(dataDir); return err })
	switch {
	case errors.Is(err, errDiskHung):
		s.diskHung = true
	case err == nil && (f.pid == s.pid || s.pid == 0):
		s.shm = f.shm
	}
}

// diskPatience bounds what a hung disk may cost the main thread while there
// is a deadline to keep, and after the kill.
const diskPatience = 250 * time.Millisecond

var errDiskHung = errors.New("the disk does not answer")

// inTime runs f on another thread and waits for it for diskPatience. What f
// writes may be read only if the error is not errDiskHung.
func inTime(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(diskPatience):
		return errDiskHung
	}
}

// markStandby creates standby.signal, so that a stray pg_ctl start comes up
// read-only. It is best effort: everything is dead already.
func (s *server) markStandby() error {
	fd, err := unix.Dup(s.dirFD) // the attempt may outlive the server
	if err == nil {
		err = inTime(func() error { return createStandbySignal(fd) })
	}
	if err != nil {
		return fmt.Errorf("create %s in %s: %w", standbySignal, s.dataDir, err)
	}
	return nil
}

func createStandbySignal(dir int) error {
	defer unix.Close(dir)
	var st unix.Stat_t
	if unix.Fstatat(dir, recoverySignal, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return nil // recovery to a target: standby.signal would change its meaning
	}
	fd, err := unix.Openat(dir, standbySignal, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fsync(dir); err != nil {
		return fmt.Errorf("sync data directory: %w", err)
	}
	return nil
}
