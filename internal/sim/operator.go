package sim

import (
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// operator runs the long actions of a node's agent. Stop, start and promotion
// go on without the agent, once begun; copies and rewinds die with it.
type operator struct{ n *node }

func (p operator) Poll() ha.Operation { return p.n.op }

func (p operator) Cancel() {
	p.n.opCancel = true
	p.n.op.Cancelled = p.n.op.Cancelled || p.n.op.Running
}

func (p operator) Begin(a ha.Action) {
	n, s := p.n, &p.n.server
	if n.op.Running {
		n.w.fail("C.1", "%s begins %T while %s runs", n.name, a, n.op.Kind)
	}
	n.reach(before(effBegin))
	n.op = ha.Operation{Kind: ha.Kind(a), Serial: n.op.Serial + 1, Running: true, Started: n.clock()}
	n.opCancel = false
	n.spring(n.op.Kind)
	r := n.w.srvr
	switch a := a.(type) {
	case ha.Bootstrap:
		s.dir, s.making = ha.DataDirHalfMade, true // until FinishBootstrap
		n.finish(between(r, 500*ms, 2*sec), func() string {
			s.signal, s.control = false, "in production"
			s.br, s.flush, s.written, s.known, s.point = &branch{number: 1}, 1000, 1000, 1, 1
			s.proc, s.recovery, s.closed = ha.ProcessRunning, false, true
			s.gen++
			s.sync.write(&n.settings, true)
			s.inForce(s.sync.file)
			return ""
		})
	case ha.PostBootstrap:
		n.finish(between(r, 100*ms, 500*ms), func() string {
			if s.proc != ha.ProcessRunning {
				return "the server is gone"
			}
			return ""
		})
	case ha.Clone:
		p.clone(a)
	case ha.Restore:
		p.restore(a.Order)
	case ha.Rewind:
		p.rewind(a)
	case ha.CrashRecovery:
		n.finish(between(r, 100*ms, sec), func() string {
			s.signal, s.control, s.crashed = false, "shut down", false
			s.flush += 100
			s.written = s.flush
			return ""
		})
	case ha.Start:
		if err := s.start(a.Primary, a.Upstream); err != nil {
			n.finish(5*ms, err.Error)
			return
		}
		n.poll(func() (bool, string) {
			switch {
			case s.proc == ha.ProcessRunning:
				return true, ""
			case s.proc == ha.ProcessDown:
				return true, "it did not come up"
			case n.opCancel:
				s.shut(ha.StopImmediate)
				return true, "cancelled"
			}
			return false, ""
		})
	case ha.Stop:
		s.shut(a.Mode)
		begun, hurried := n.w.now, false
		n.poll(func() (bool, string) {
			if l := &n.leash; s.proc == ha.ProcessDown && !l.gone && l.hung <= n.w.now && !l.sparing {
				s.orphans = min(s.orphans, n.w.now) // the sweep that ends every stop
			}
			if s.proc == ha.ProcessDown && !s.orphaned() {
				if s.dir == ha.DataDirPresent && s.control == "shut down" {
					n.op.ShutdownLSN = s.flush
				}
				return true, ""
			}
			if a.Escalate > 0 && !hurried && n.w.now-begun > int64(a.Escalate) {
				hurried = true
				s.quit(min(sec, int64(a.Escalate)/2))
			}
			return false, ""
		})
	case ha.Restart:
		p.restart(a)
	case ha.Promote:
		if n.clock() >= a.Until {
			n.finish(ms, func() string { return "the leadership ended before the promotion began" })
			return
		}
		if s.proc == ha.ProcessRunning {
			n.w.ghost.promote(n)
			s.promote(a.Timeline)
		}
		n.poll(func() (bool, string) {
			switch {
			case s.proc != ha.ProcessRunning:
				return true, "the server is gone"
			case !s.recovery:
				return true, ""
			case n.opCancel:
				return true, "cancelled"
			}
			return false, ""
		})
	case ha.CheckDivergence:
		n.finish(between(r, 5*ms, 50*ms), func() string { return p.compare(a.Leader.Member) })
	default:
		n.w.fail("C.1", "%s: the model cannot %T", n.name, a)
	}
	n.reach(after(effBegin))
}

// restart stops the server in good order and starts it in the same role.
func (p operator) restart(a ha.Restart) {
	n, s := p.n, &p.n.server
	s.shut(ha.StopFast)
	n.once(func() bool { return s.proc == ha.ProcessDown }, func() {
		if err := s.start(a.Primary, a.Upstream); err != nil {
			n.end(err.Error())
			return
		}
		n.once(func() bool { return s.proc != ha.ProcessStarting }, func() {
			if s.proc != ha.ProcessRunning {
				n.end("it did not come up")
				return
			}
			n.end("")
		})
	})
}

// finish ends the operation after d; what it returns is the error.
func (n *node) finish(d int64, f func() string) {
	serial := n.op.Serial
	n.w.after(n.delay(d), func() {
		if n.op.Serial == serial && n.op.Running {
			n.end(f())
		}
	})
}

// poll ends the operation when done says so.
func (n *node) poll(done func() (bool, string)) {
	serial := n.op.Serial
	var look func()
	look = func() {
		if n.op.Serial != serial || !n.op.Running {
			return
		}
		if ok, why := done(); ok {
			n.end(why)
			return
		}
		n.w.after(15*ms, look)
	}
	n.w.after(15*ms, look)
}

func (n *node) end(why string) {
	n.op.Running, n.op.Error, n.op.Ended = false, why, n.clock()
	n.w.trace(n, "operation %s ended %q", n.op.Kind, why)
	n.wake()
}

// source returns the server called name if it can be copied from.
func (n *node) source(name string) *server {
	from := n.w.node(name)
	if from == nil || !n.w.linked(n, from) || from.server.proc != ha.ProcessRunning || from.server.stopping || from.hangs() {
		return nil
	}
	return &from.server
}

func (p operator) clone(a ha.Clone) {
	n, s := p.n, &p.n.server
	begun := n.source(a.From.Member)
	if a.Wipe && begun == nil { // S9: a copy is given up only for a leader that demonstrably runs
		n.finish(20*ms, func() string { return "the source does not run" })
		return
	}
	n.w.ghost.wipe(n)
	s.dir, s.restoring, s.making = ha.DataDirHalfMade, false, false
	gen := 0
	if begun != nil {
		gen = begun.gen
	}
	n.finish(between(n.w.srvr, 200*ms, 2*sec), func() string {
		from := n.source(a.From.Member)
		if from == nil || from.gen != gen || n.opCancel {
			n.w.sometimes("a copy was cut off half-way")
			return "the source went away"
		}
		s.dir, s.signal, s.control, s.crashed = ha.DataDirPresent, true, "in archive recovery", false
		s.sync.file = from.sync.file
		s.br, s.flush, s.written, s.known, s.point = from.br, from.flush, from.flush, max(from.known, from.br.number), from.point
		return ""
	})
}

func (p operator) rewind(a ha.Rewind) {
	n, s := p.n, &p.n.server
	from := n.source(a.From.Member)
	if from == nil || from.recovery {
		n.finish(20*ms, func() string { return "the source is no running primary" })
		return
	}
	if from.point != from.br.number && n.w.Mutant != "M16" { // as the driver does, what the source's control file says
		n.finish(20*ms, func() string { return "the source has not finished the checkpoint of its timeline" })
		return
	}
	n.w.ghost.rewind(n, from)
	gen := from.gen
	if n.tooOld(from) {
		n.finish(20*ms, func() string {
			n.op.Damaged = true
			return "could not find previous WAL record"
		})
		return
	}
	s.dir, s.restoring, s.making = ha.DataDirHalfMade, false, false
	n.finish(between(n.w.srvr, 100*ms, 1500*ms), func() string {
		now := n.source(a.From.Member)
		if now == nil || now.gen != gen || n.opCancel {
			n.w.sometimes("a rewind was cut off half-way")
			if n.w.srvr.IntN(2) == 0 {
				s.dir = ha.DataDirPresent
			}
			return "the source went away"
		}
		br, at := now.br.common(s.br, s.flush)
		if br == nil {
			n.op.Damaged = true
			return "nothing in common"
		}
		s.dir, s.signal, s.control = ha.DataDirPresent, true, "in archive recovery"
		s.sync.file = now.sync.file
		s.br, s.flush, s.written, s.known = br, at, at, max(s.known, now.known)
		s.br, s.flush, s.written = now.br, max(at, now.br.start), max(at, now.br.start)
		return ""
	})
}

// compare is the real comparison of package wal over what the model knows.
func (p operator) compare(name string) string {
	n, s := p.n, &p.n.server
	from := n.source(name)
	if from == nil || from.recovery {
		return "the leader is no running primary"
	}
	at, end, standby := s.flush, wal.LSN(0), true
	if s.proc == ha.ProcessDown {
		switch s.control {
		case "shut down":
			standby, at, end = false, s.flush-100, s.flush
		case "shut down in recovery", "in archive recovery":
		default:
			return ""
		}
	}
	n.op.Divergence = ha.DivergenceNone
	if wal.Compare(s.br.number, at, end, standby, from.br.number, from.br.history()) == wal.ForkDiverged {
		n.op.Divergence = ha.DivergenceFound
	}
	return ""
}
