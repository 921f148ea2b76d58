package leash

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	sweepFirst = time.Millisecond
	sweepMost  = 50 * time.Millisecond
	// loggerGrace lets the logging collector write its last lines after a
	// postmaster that ended by itself.
	loggerGrace = 200 * time.Millisecond
	stuckAfter  = 5 * time.Second
)

// pass is one look at what is left, killing all of it. It is true when two
// looks in a row found no process and no attachment: a single look at /proc
// can miss a process whose parent died during it.
func (s *server) pass(now int64) (done bool, err error) {
	if !s.exited {
		_ = s.signal(unix.SIGSTOP) // no new children (P5); it may be gone, then nothing to stop
	}
	all, err := processes() // nobody where that fails: the postmaster goes all the same, and its children see that
	left := 0
	for _, p := range all {
		if p.dead() || !s.owns(all, p) {
			continue
		}
		left++
		if s.spare(p, now) {
			continue
		}
		if e := killProc(p); e != nil {
			err = e
			continue
		}
		s.count(p)
	}
	if !s.exited {
		left++
		if s.signal(unix.SIGKILL) == nil {
			s.killed[procKey{pid: s.pid}] = true
		}
	}
	if left == 0 && err == nil && s.detached() {
		s.quiet++
	} else {
		s.quiet = 0
	}
	return s.quiet >= 2, err
}

func (s *server) count(p proc) {
	key := procKey{p.pid, p.start}
	if s.killed[key] {
		return
	}
	s.killed[key] = true
	if s.exited {
		s.orphans++
	}
}

// spare the logging collector of a server that stopped in order.
func (s *server) spare(p proc, now int64) bool {
	return s.reaped && s.status.Exited() && now < s.exitAt+int64(loggerGrace) && loggerTitle(p.pid)
}

func (s *server) detached() bool {
	s.learnShm()
	n, err := s.shm.attached()
	return err == nil && n == 0
}

// owns tells whether p belongs to the server. For our own child that is
// decided by descent (the leash is the subreaper of its orphans) and then by
// executable or directory: a descendant with neither is some program the
// server started and let go. Never by directory alone: that is also the
// operator's shell, or a server an operator has just started.
func (s *server) owns(all map[int]proc, p proc) bool {
	self := os.Getpid()
	if p.pid == self || p.pid == s.pid {
		return false
	}
	if !s.adopted || !s.exited {
		ours := func(pid int) bool { return pid == s.pid || (pid == self && !s.adopted) }
		if descends(all, p, ours) && (p.ppid == s.pid || s.related(p.pid)) {
			return true
		}
	}
	return s.adopted && s.foreign(all, p)
}

func (s *server) related(pid int) bool {
	if exe, ok := statID(procPath(pid, "exe")); ok && exe == s.exe {
		return true
	}
	cwd, ok := statID(procPath(pid, "cwd"))
	return ok && cwd == s.dir
}

// foreign is the rule for orphans that are not ours by descent: our uid, a
// postgres executable, this directory, the title of a backend, and no living
// postmaster of this directory above it other than the one being swept.
func (s *server) foreign(all map[int]proc, p proc) bool {
	if !runsServerIn(p.pid, s.dir) || !backendTitle(p.pid) {
		return false
	}
	newer := func(pid int) bool {
		above, ok := all[pid]
		return ok && pid != s.pid && !above.dead() && runsServerIn(pid, s.dir) && !backendTitle(pid)
	}
	return !descends(all, p, newer)
}

// backOff makes the looks rarer while something cannot be killed.
func (s *server) backOff() {
	s.delay = min(max(2*s.delay, sweepFirst), sweepMost)
}
