package sim

import (
	"math/rand/v2"

	"github.com/pgha/pgha/pkg/ha"
)

// sick is something that does not work until then, and what the agent's probe has
// found out about it.
type sick struct {
	until int64
	fault ha.Fault
	check ha.Check
}

func (s *sick) is(now int64, f ha.Fault) bool { return s.until > now && s.fault == f }

// ail begins a fault of s for d; the probe of the agent tries on, and wakes it.
func (n *node) ail(s *sick, f ha.Fault, d int64) {
	w := n.w
	if s.until > w.now {
		return
	}
	*s = sick{until: w.now + d, fault: f}
	until, limit := s.until, int64(n.probing().Limit)
	var fails func()
	fails = func() {
		if s.until != until || s.until <= w.now {
			return
		}
		if n.loop != nil && n.hung <= w.now {
			if s.check.Failures == 0 {
				s.check.Failing = n.local(w.now - limit)
			}
			s.check.Failures++
			s.check.Fault, s.check.Error = f, "no good"
			n.wake()
		}
		w.after(limit+limit/4, fails)
	}
	w.after(limit, fails)
	w.at(until, func() {
		if s.until == until {
			n.cure(s)
		}
	})
}

func (n *node) probing() ha.Probing {
	set := n.current()
	return set.Probing()
}

// cure ends a fault: what the disk held goes on.
func (n *node) cure(s *sick) {
	if s == &n.deaf {
		n.heard = n.clock()
	}
	*s = sick{}
	if srv := &n.server; s == &n.disk && srv.dying {
		srv.crash("gone, now that its disk answers")
	}
	n.wake()
}

// hangs tells whether the disk answers nothing at all.
func (n *node) hangs() bool { return n.disk.is(n.w.now, ha.FaultHang) }

// full tells whether nothing can be written.
func (n *node) full() bool { return n.disk.is(n.w.now, ha.FaultFull) }

// deafens lets the postmaster stand still: it takes no connections and hears no
// signal, but its processes go on.
func (n *node) deafens(d int64) {
	if n.server.proc == ha.ProcessRunning {
		n.ail(&n.deaf, ha.FaultHang, d)
	}
}

// deafAtStop: the postmaster heard nothing of a stop that began, with a limit of its
// own, before the time to give up a leadership had come.
func (n *node) deafAtStop() bool {
	t, _ := ha.NewTiming(n.current().TTL, n.current().LoopWait, n.current().RetryTimeout)
	deaf := n.deaf.until != 0 || n.heard >= n.op.Started
	return deaf && n.op.Running && n.op.Kind == ha.OpStop && n.op.Started < n.leash.deadline.Add(-t.Stop)
}

// faulty is what the agent tells the others of its server.
func (n *node) faulty() string {
	if n.view == nil {
		return ""
	}
	return n.view.Fault
}

// delay is how much longer something takes that needs the disk.
func (n *node) delay(d int64) int64 {
	if n.hangs() {
		d += n.disk.until - n.w.now
	}
	return d
}

// askRestart is an operator who wants the server restarted: at once or at a time, in
// whatever role or in one.
func (n *node) askRestart(r *rand.Rand) {
	w := n.w
	if n.loop == nil {
		return
	}
	q := ha.RestartRequest{Serial: w.number(), Role: []string{"", "", "primary", "replica"}[r.IntN(4)]}
	if r.IntN(2) == 0 {
		n.restarts.Now = q
		n.wake()
		return
	}
	if q.At = w.later(r); q.At.IsZero() {
		return
	}
	q.PostmasterStart = n.server.started
	if r.IntN(4) == 0 {
		q.PostmasterStart = ""
	}
	n.restarts.Scheduled = q
	n.wake()
}
