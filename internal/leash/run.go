package leash

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// BeatInterval is how often a leash that is armed or has a server shows that
// it is alive.
const BeatInterval = 500 * time.Millisecond

// Config is what a leash is started with.
type Config struct {
	RunDir string        // absolute
	Quiet  time.Duration // q of safety B.1
	Lmax   time.Duration // clamp of deadlines
	Idle   time.Duration // leave after this long without agent and server
	Ready  func()        // called when it listens
}

// errLocked: another leash holds the run directory.
var errLocked = errors.New("another leash holds the run directory")

// leash is the shell around Step. Everything runs on the main thread, which
// is the parent of postgres.
type leash struct {
	cfg   Config
	log   *asyncLog
	state State
	rec   *record
	said  published // what the record says

	lock, null int // held open for life
	timer      int
	wake       [2]int // written by the signal goroutine
	listener   int
	term       atomic.Bool

	srv      *server
	lastExit *Exit
	dog      dog
	conns    []*conn
	owed     []debt // answers that wait for the end of a sweep
	alone    int64  // since when no agent is attached
	beat     int64
	leaving  bool
}

// Run is the life of a leash. It must be called on the locked main thread of
// the process, and returns when it was told to leave.
func Run(cfg Config) error {
	if unix.Gettid() != os.Getpid() {
		return errors.New("run leash: not on the main thread")
	}
	l := &leash{cfg: cfg, log: newLog(), lock: -1, null: -1, timer: -1, wake: [2]int{-1, -1}, listener: -1}
	defer l.log.close()
	defer l.shut()
	if err := l.open(); err != nil {
		return err
	}
	l.log.printf("ready in %s, protocol %d", cfg.RunDir, Protocol)
	if cfg.Ready != nil {
		cfg.Ready()
	}
	for !l.leaving {
		if err := l.turn(); err != nil {
			// Without poll there is no deadline: end, and let the kernel
			// stop the server with us.
			l.log.printf("%v", err)
			return err
		}
	}
	l.log.printf("leaving")
	return nil
}

func (l *leash) open() error {
	unix.Umask(0o077)
	if err := prepareRunDir(l.cfg.RunDir); err != nil {
		return err
	}
	if err := l.openLock(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	var err error
	if l.null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return fmt.Errorf("create timer: %w", err)
	}
	if err := unix.Pipe2(l.wake[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("create pipe: %w", err)
	}
	l.watchSignals()
	if err := l.openState(); err != nil {
		return err
	}
	l.alone = Now()
	return l.listen()
}

func prepareRunDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("stat run directory %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return fmt.Errorf("run directory %s: must be a directory of uid %d with mode 0700", dir, os.Geteuid())
	}
	return nil
}

func (l *leash) openLock() error {
	path := filepath.Join(l.cfg.RunDir, lockName)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	l.lock = fd
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			return errLocked
		}
		return fmt.Errorf("lock %s: %w", path, err)
	}
	return nil
}

// watchSignals turns SIGCHLD into a byte in a pipe. The others are caught so
// that they do not end the leash, and caught rather than ignored, because an
// ignored signal stays ignored in postgres.
func (l *leash) watchSignals() {
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	go func() {
		for sig := range ch {
			if sig == unix.SIGTERM || sig == unix.SIGINT {
				l.term.Store(true)
			}
			_, _ = unix.Write(l.wake[1], []byte{0}) // full: a wake-up is pending anyway
		}
	}()
}

// openState takes over what a leash before this one published since boot: the
// epochs it knew, and a deadline that is still in force.
func (l *leash) openState() error {
	rec, err := openRecord(filepath.Join(l.cfg.RunDir, recordName), true)
	if err != nil {
		return err
	}
	l.rec = rec
	boot, err := bootID()
	if err != nil {
		return err
	}
	l.state = State{Lmax: int64(l.cfg.Lmax), Quiet: int64(l.cfg.Quiet)}
	if rec.check(boot) != nil {
		rec.reset(boot)
	} else if p, ok := rec.published(); ok {
		l.state = restore(l.state, p)
	} else {
		l.state.Highest = rec.highestEver()
		l.state.Latched = l.state.Highest
		l.log.printf("the record was left half written: epochs up to %d count as latched", l.state.Latched)
	}
	l.publish()
	return nil
}

func restore(s State, p published) State {
	s.Armed, s.Epoch, s.Deadline = p.Armed, p.Epoch, p.Deadline
	s.Highest, s.Latched, s.Etcd, s.Suspended = p.Highest, p.Latched, p.Etcd, p.Suspended
	if s.Suspended {
		s.Reason = "taken over from an earlier leash"
	}
	return s
}

// turn waits for something to happen and deals with all of it.
func (l *leash) turn() error {
	if err := l.setTimer(); err != nil {
		return err
	}
	fds := l.pollSet()
	if _, err := unix.Poll(fds, l.pollTimeout()); err != nil && err != unix.EINTR {
		return fmt.Errorf("poll: %w", err)
	}
	// The deadline comes before anything else, also before a request that
	// arrived with it. Its refusal cannot be: time is never refused.
	_ = l.apply(Tick{})
	l.drain()
	l.reap()
	if l.srv != nil && !l.srv.exited && readable(fds[fdServer]) {
		l.serverExited()
	}
	if l.state.Phase == Sweeping {
		l.sweepPass()
	}
	l.serve(fds)
	l.maybeLeave()
	l.publish()
	l.beat = Now()
	l.rec.beat(l.beat)
	if l.srv != nil && l.state.Phase == Running {
		l.srv.learnShm()
	}
	return nil
}

// apply is the only place where the state changes. What the new state says is
// published before anything is done about it.
func (l *leash) apply(in Input) error {
	before := l.state
	s, acts, err := Step(l.state, l.rec.extension(), in, Now())
	l.state = s
	l.publish()
	for _, a := range acts {
		l.perform(a)
	}
	if s.Latched > before.Latched && before.Armed {
		l.deadlinePassed(s.Latched)
	}
	return err
}

func (l *leash) perform(a Action) {
	switch a := a.(type) {
	case SendSignal:
		if l.srv == nil {
			return
		}
		if err := l.srv.signal(a.Sig); err != nil && !errors.Is(err, unix.ESRCH) {
			l.log.printf("signal %v to postmaster %d: %v", a.Sig, l.srv.pid, err)
		}
	case BeginSweep:
		if l.srv != nil {
			l.srv.delay = 0
		}
	case MarkStandby:
		if err := l.srv.markStandby(); err != nil {
			l.log.printf("%v", err)
		}
	case OpenWatchdog:
		l.openDog()
	case PingWatchdog:
		l.pingDog()
	case CloseWatchdog:
		l.closeDog()
	case Leave:
		l.leaving = true
	}
}

func (l *leash) deadlinePassed(epoch int64) {
	late := time.Duration(Now() - l.state.Deadline)
	l.log.printf("deadline of epoch %d passed (noticed after %v), server %s", epoch, late, l.state.Phase)
	if l.srv != nil {
		l.srv.fenced = epoch
	}
	l.push(Event{Kind: DeadlinePassed, Epoch: epoch})
}

func (l *leash) publish() {
	s := l.state
	p := published{
		Armed: s.Armed, Suspended: s.Suspended, Epoch: s.Epoch, Deadline: s.Deadline,
		Highest: s.Highest, Latched: s.Latched, Lmax: s.Lmax, PID: int64(os.Getpid()), Phase: s.Phase, Etcd: s.Etcd,
	}
	if l.srv != nil {
		p.ServerPID = int64(l.srv.pid)
	}
	if p != l.said {
		l.rec.publish(p)
		l.said = p
	}
}

// setTimer sets the one timer to the next instant that matters.
func (l *leash) setTimer() error {
	next := l.state.Wake()
	if l.state.Armed || l.srv != nil {
		next = sooner(next, l.beat+int64(BeatInterval))
	} else if !l.attached() {
		next = sooner(next, l.alone+int64(l.cfg.Idle))
	}
	var spec unix.ItimerSpec // zero disarms
	if next != 0 {
		spec.Value = unix.NsecToTimespec(max(next, 1))
	}
	if err := unix.TimerfdSettime(l.timer, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	return nil
}

func sooner(a, b int64) int64 {
	if a == 0 || b < a {
		return b
	}
	return a
}

// pollTimeout is in milliseconds. Only a sweep needs one: processes that are
// not our children and detached memory send no event.
func (l *leash) pollTimeout() int {
	if l.state.Phase != Sweeping || l.srv == nil {
		return -1
	}
	return int(l.srv.delay / time.Millisecond)
}

// drain empties the timer and the pipe; what they announced is looked at anew.
func (l *leash) drain() {
	var buf [64]byte
	_, _ = unix.Read(l.timer, buf[:8])
	for {
		if n, err := unix.Read(l.wake[0], buf[:]); err != nil || n < len(buf) {
			return
		}
	}
}

// reap collects every child: the postmaster, and orphans of servers.
func (l *leash) reap() {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if l.srv != nil && pid == l.srv.pid {
			l.srv.status, l.srv.reaped = syscall.WaitStatus(ws), true
			l.serverExited()
		}
	}
}

func (l *leash) serverExited() {
	if l.srv.exited {
		return
	}
	l.srv.exited, l.srv.exitAt = true, Now()
	_ = l.apply(Exited{}) // a fact, not refused
}

func (l *leash) sweepPass() {
	s := l.srv
	done, err := s.pass(Now())
	l.reap()
	if err != nil {
		l.log.printf("sweep %s: %v", s.dataDir, err)
	}
	s.backOff()
	if !done {
		if s.exited && !s.stuck && Now() > s.exitAt+int64(stuckAfter) {
			s.stuck = true
			l.log.printf("sweep %s: processes are left that do not die; the server counts as not stopped", s.dataDir)
		}
		return
	}
	l.swept()
}

// swept says that the server is gone: first to the record, then to the agents.
func (l *leash) swept() {
	s := l.srv
	exit := s.exit()
	_ = l.apply(Swept{}) // a fact, not refused
	l.srv = nil
	s.close()
	l.publish()
	if s.pid != 0 {
		l.lastExit = &exit
		l.log.printf("postmaster %d of %s is gone: %s, %d orphans", exit.PID, exit.DataDir, exit.reason(), exit.Orphans)
		l.push(Event{Kind: ServerExited, Epoch: exit.Epoch, Exit: &exit})
	}
	l.payDebts()
}

func (s *server) exit() Exit {
	e := Exit{
		PID: s.pid, DataDir: s.dataDir, At: s.exitAt, Gone: Now(), Code: -1, Unknown: !s.reaped,
		Orphans: s.orphans, Killed: len(s.killed), Fenced: s.fenced != 0, Epoch: s.fenced,
	}
	if s.reaped && s.status.Exited() {
		e.Code = s.status.ExitStatus()
	}
	if s.reaped && s.status.Signaled() {
		e.Signal = int(s.status.Signal())
	}
	return e
}

func (e Exit) reason() string {
	switch {
	case e.Unknown:
		return "exit status unknown"
	case e.Signal != 0:
		return fmt.Sprintf("killed by signal %d", e.Signal)
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// maybeLeave ends a leash that nobody needs.
func (l *leash) maybeLeave() {
	if l.term.Swap(false) {
		if err := l.apply(Quit{}); err != nil {
			l.log.printf("signal to leave ignored: %v", err)
		}
	}
	if l.attached() {
		l.alone = Now()
		return
	}
	if l.state.Phase == NoServer && Now() >= l.alone+int64(l.cfg.Idle) {
		l.log.printf("no agent attached for %v and no server", l.cfg.Idle)
		_ = l.apply(Quit{}) // not refused without a server
	}
}

// shut removes the socket under the lock. The record stays: it remembers the
// epochs for the next leash.
func (l *leash) shut() {
	if l.listener >= 0 {
		_ = os.Remove(filepath.Join(l.cfg.RunDir, socketName))
		_ = unix.Close(l.listener)
	}
	for _, c := range l.conns {
		_ = unix.Close(c.fd)
	}
	for _, fd := range []int{l.timer, l.null, l.lock} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
