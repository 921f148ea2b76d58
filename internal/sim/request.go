package sim

import (
	"math/rand/v2"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// wall is the calendar, which all hosts share here.
func (w *world) wall() time.Time { return time.Unix(1_800_000_000, w.now) }

// number is the serial of a request to a node, the same for none else.
func (w *world) number() int64 {
	w.asked++
	return w.asked
}

// now is the time of a request that is to be carried out at once.
var now time.Time

// request writes /failover as an operator would.
func (w *world) request(leader, candidate string, at time.Time) {
	if w.ghost.unsettled() {
		return // nobody asks for that before it is known what etcd's keys are worth
	}
	f := dcs.Failover{Leader: leader, Candidate: candidate, ScheduledAt: at}
	rev, _ := w.srv.Put(base+"/failover", f.Encode(), 0)
	w.ghost.requests[rev] = at
	w.pump()
}

// schedule asks for a switchover at a time before everything heals.
func (w *world) schedule(n *node, r *rand.Rand) {
	if at := w.later(r); !at.IsZero() {
		w.request(w.leaderName(), []string{"", n.name}[r.IntN(2)], at)
	}
}

// later is a time of the calendar before everything heals, zero if that is soon.
func (w *world) later(r *rand.Rand) time.Time {
	left := w.plan.Heal - 2*sec - w.now
	if left <= sec {
		return time.Time{}
	}
	return w.wall().Add(time.Duration(between(r, sec, min(left, 20*sec))))
}

// restarts (S12): a request to restart the server is carried out once, and a
// scheduled one at its time or not at all.
func (g *ghost) restarts(n *node, o *ha.Observation, r *ha.RestartRequest) {
	if g.restarted[r.Serial] {
		g.w.fail("S12", "%s restarts its server a second time for request %d", n.name, r.Serial)
	}
	g.restarted[r.Serial] = true
	g.w.sometimes("a server was restarted on request")
	if wait := o.Settings.LoopWait * 3 / 2; !r.At.IsZero() && (o.Wall.Before(r.At) || o.Wall.After(r.At.Add(wait+time.Second))) {
		g.w.fail("S12", "%s restarts its server at %s, scheduled for %s", n.name, o.Wall.Format(time.TimeOnly), r.At.Format(time.TimeOnly))
	}
}

// handsOver (S12): a request with a time is carried out at that time or not at
// all, and once by each run of an agent.
func (g *ghost) handsOver(n *node, o *ha.Observation, d *ha.Decision) {
	f := o.DCS.Cluster.Failover
	if d.Reason != ha.HandOver || f.Empty() {
		return
	}
	if g.back.stale(f.ModRevision) && g.back.noticed[n.index] {
		g.w.fail("S12", "%s carries out a request of revision %d, from before etcd went back to %d", n.name, f.ModRevision, g.back.revision)
	}
	at, known := g.requests[f.ModRevision]
	if !known || at.IsZero() {
		return
	}
	if wait := o.Settings.LoopWait * 3 / 2; o.Wall.Before(at) || o.Wall.After(at.Add(wait+time.Second)) {
		g.w.fail("S12", "%s hands over at %s, scheduled for %s", n.name, o.Wall.Format(time.TimeOnly), at.Format(time.TimeOnly))
	}
	done := handOver{n.name, n.since, f.ModRevision}
	if g.handed[done] {
		g.w.fail("S12", "%s carries out the request of revision %d a second time", n.name, f.ModRevision)
	}
	g.handed[done] = true
	g.w.sometimes("a scheduled switchover was carried out")
}

// handOver is one request carried out by one run of an agent.
type handOver struct {
	node     string
	run      int64
	revision int64
}
