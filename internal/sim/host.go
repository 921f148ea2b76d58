package sim

import (
	"math/rand/v2"

	"github.com/pgha/pgha/pkg/ha"
)

// powerOff ends everything on the node at once; its clock starts anew with it.
func (n *node) powerOff(r *rand.Rand, d int64) {
	if n.off {
		return
	}
	n.off = true
	n.killAgent()
	n.disk, n.deaf = sick{}, sick{}
	n.server.crash("power cut")
	n.server.orphans = 0
	n.leash = leash{n: n, timer: n.leash.timer + 1, late: n.leash.late, forgets: n.leash.forgets, sparing: n.leash.sparing}
	n.w.after(d, func() {
		if !n.off {
			return
		}
		n.off = false
		n.offset = -n.w.now + between(r, sec, 100*sec)
		n.w.ghost.rounds[n.name] = round{}
		n.startAgent()
	})
}

// answersLeader: does the REST interface of n say that it leads?
func (w *world) answersLeader(n *node) bool {
	if n.loop == nil || n.off || n.view == nil || n.hung > w.now {
		return false
	}
	if w.Mutant == "M21" {
		return n.view.IsLeader(n.view.At)
	}
	return n.view.IsLeader(n.clock())
}

// trap ends the agent (or all of the node) in the middle of a phase.
type trap struct {
	phase       ha.OpKind
	after, down int64
	what        int // what happens: power, postmaster, or the agent alone
}

// spring is called when a long action begins.
func (n *node) spring(k ha.OpKind) {
	t := n.trap
	if t.phase != k || k == ha.OpNone {
		return
	}
	n.trap = trap{}
	serial := n.op.Serial
	n.w.after(t.after, func() {
		if n.op.Serial != serial || n.w.now >= n.w.plan.Heal {
			return
		}
		n.w.trace(n, "FAULT: trap during %s", k)
		switch t.what {
		case 0:
			n.powerOff(n.w.srvr, t.down)
		case 1:
			n.server.beheaded(min(t.down, 4*sec))
		default:
			n.killAgent()
			n.w.after(t.down, n.startAgent)
		}
	})
}

// byHand is an operator at the server while the cluster is paused: a stop, a
// restart, or a kill that nobody mends.
func (n *node) byHand(r *rand.Rand, d int64) {
	s, w := &n.server, n.w
	if !w.conf.Pause || n.off || s.proc != ha.ProcessRunning || n.op.Running {
		return
	}
	primary := !s.recovery
	if r.IntN(3) == 0 {
		s.crash("killed by hand")
	} else {
		s.shut(ha.StopFast)
	}
	if r.IntN(3) > 0 {
		w.after(min(d, 5*sec), func() {
			if w.conf.Pause && !n.off && !n.op.Running {
				s.startByHand(primary)
			}
		})
	}
}

// restartLate stops the agent until it is so long before the deadline of its
// leash, and starts another one at once.
func (n *node) restartLate(left int64) {
	w, l := n.w, &n.leash
	if n.loop == nil || l.armed == 0 || l.suspended {
		return
	}
	at := w.now
	if t := n.truly(l.deadline) - left; t > at && t < w.plan.Heal {
		n.hung, at = t, t
	}
	w.at(at, func() {
		n.killAgent()
		n.startAgent()
	})
}
