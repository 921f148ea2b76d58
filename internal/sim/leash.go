package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

// leash models the process that owns postgres and the deadline. Its record
// survives the agent and itself, not the host.
type leash struct {
	n         *node
	gone      bool // it died, and the agent has not started another yet
	armed     int64
	etcd      uint64 // whose epochs it counts
	deadline  ha.Instant
	highest   int64
	latched   int64 // highest epoch whose deadline passed
	suspended bool
	timer     int   // number of the timer that counts
	doomed    int   // the server it is killing or has killed, by its gen
	slow      int64 // until then it gets its processor late, within K
	hung      int64 // stopped by a signal until then
	late      int64 // more than it may be: see Mutants
	forgets   bool  // see Mutants
	sparing   bool  // see Mutants
}

var errNoLeash = errors.New("leash: no connection")

func (l *leash) Status() ha.Leash {
	if l.gone {
		return ha.Leash{}
	}
	return ha.Leash{Attached: true, Armed: l.armed, Deadline: l.deadline, Highest: l.highest, Suspended: l.suspended, Etcd: l.etcd}
}

// ask takes the time of a question over the socket; a stopped leash does not answer.
func (l *leash) ask(ctx context.Context) error {
	n := l.n
	if l.hung > n.w.now {
		n.sleep(n.w.budget(ctx))
		return errNoLeash
	}
	n.sleep(between(n.w.net, ms/2, 5*ms))
	if l.gone || l.hung > n.w.now {
		return errNoLeash
	}
	return nil
}

func (l *leash) Arm(ctx context.Context, epoch int64, deadline ha.Instant, etcd uint64) error {
	n := l.n
	n.reach(before(effArm))
	if err := l.ask(ctx); err != nil {
		return err
	}
	again := epoch == l.armed && l.armed != 0
	switch {
	case epoch < l.highest || epoch == l.highest && !again:
		n.w.sometimes("a latched epoch was not armed again")
		return fmt.Errorf("arm leash: epoch %d is not above %d", epoch, l.highest)
	case deadline <= n.clock():
		return fmt.Errorf("arm leash: the deadline has passed")
	}
	n.w.ghost.arm(n, epoch, deadline)
	if l.suspended {
		n.w.sometimes("the leash was armed again after a pause")
	}
	l.armed, l.etcd, l.highest, l.deadline, l.suspended = epoch, etcd, epoch, deadline, false
	n.server.unguarded = false
	n.server.open()
	l.set()
	n.reach(after(effArm))
	return nil
}

func (l *leash) Extend(epoch int64, deadline ha.Instant) {
	if l.gone || epoch != l.armed || l.armed == 0 || l.suspended || deadline <= l.deadline {
		return
	}
	l.n.w.ghost.arm(l.n, epoch, deadline)
	l.deadline = deadline
	l.set()
}

func (l *leash) Disarm(ctx context.Context, epoch int64) error {
	n := l.n
	n.reach(before(effDisarm))
	if err := l.ask(ctx); err != nil {
		return err
	}
	if s := &n.server; s.proc != ha.ProcessDown && !(s.signal && s.recovery) {
		return fmt.Errorf("disarm leash: the server may be writable")
	}
	if epoch == l.armed {
		l.armed, l.deadline, l.suspended = 0, 0, false
		l.timer++
	}
	n.reach(after(effDisarm))
	return nil
}

func (l *leash) Suspend(ctx context.Context) error {
	l.n.reach(before(effSuspend))
	if err := l.ask(ctx); err != nil {
		return err
	}
	l.suspended = true
	l.timer++
	l.n.reach(after(effSuspend))
	return nil
}

// set puts the timer: it fires at the deadline, as late as a busy host makes it.
func (l *leash) set() {
	n := l.n
	l.timer++
	timer, late := l.timer, between(n.w.srvr, 0, 50*ms)
	if l.slow > n.w.now {
		late = between(n.w.srvr, l.kill()/4, l.kill()/2)
	}
	n.w.at(n.truly(l.deadline)+ms/10+late+l.late, func() { l.fire(timer) })
}

func (l *leash) fire(timer int) {
	switch {
	case l.timer != timer || l.armed == 0:
	case l.hung > l.n.w.now:
		l.n.w.at(l.hung, func() { l.fire(timer) })
	default:
		l.fence()
	}
}

// kill is K in ns.
func (l *leash) kill() int64 {
	return int64(killOf(max(l.n.w.ghost.rounds[l.n.name].ttl, time.Second)))
}

// fence latches the epoch and kills every process before K is over.
func (l *leash) fence() {
	n, s := l.n, &l.n.server
	n.w.trace(n, "LEASH: deadline of epoch %d passed, killing", l.armed)
	n.w.ghost.fenced(n)
	l.latched = max(l.latched, l.armed)
	if l.forgets {
		l.highest = l.armed - 1
	}
	least, most := 20*ms, l.kill()/2-100*ms
	if n.w.now > n.truly(l.deadline)+l.kill()/2 { // one that woke late has no second to give
		least, most = ms, 30*ms
	}
	l.armed, l.deadline = 0, 0
	l.timer++
	if s.proc == ha.ProcessDown && s.orphans <= n.w.now {
		n.wake()
		return
	}
	n.w.sometimes("the leash killed a server")
	gen := s.gen
	l.doomed = gen
	n.w.after(between(n.w.srvr, least, most)+l.late, func() {
		if s.gen != gen {
			return
		}
		if l.sparing { // the postmaster only
			s.beheaded(10 * sec)
			return
		}
		s.crash("killed by the leash")
		s.orphans = 0
		s.signal = true
	})
}

// die: its death is the signal for postgres to end (Pdeathsig). The agent starts
// another one after d; it knows the record.
func (l *leash) die(d int64) {
	n := l.n
	if l.gone || n.off {
		return
	}
	n.server.unguarded = n.unguarded() // until it ends
	l.gone, l.armed, l.deadline, l.suspended = true, 0, 0, false
	l.timer++
	gen := n.server.gen
	n.w.after(between(n.w.srvr, 10*ms, 100*ms), func() {
		if n.server.gen == gen {
			n.server.crash("ended with its leash")
			n.server.orphans = 0
		}
	})
	n.w.after(d, func() {
		l.gone = false
		n.wake()
	})
	n.wake()
}

// hang stops the leash by a signal. Without its pings the watchdog, if there is
// one and a leadership to guard, resets the host.
func (l *leash) hang(d int64) {
	n := l.n
	l.hung = n.w.now + d
	if !n.w.plan.Watchdog || l.armed == 0 || l.suspended {
		return
	}
	wd := 2 * sec
	switch t := n.w.ghost.rounds[n.name].ttl; {
	case t >= 20*time.Second:
		wd = 5 * sec
	case t >= 8*time.Second:
		wd = 4 * sec
	}
	until := l.hung
	latest := max(n.truly(hardLimit(n.w.ghost.rounds[n.name])), n.w.now) // no ping lets it count past H
	n.w.at(min(n.w.now+between(n.w.srvr, wd/2, wd), latest), func() {
		if l.hung == until && l.hung > n.w.now && !n.off {
			n.w.sometimes("the watchdog reset a host")
			n.powerOff(n.w.srvr, between(n.w.srvr, 2*sec, 10*sec))
		}
	})
}
