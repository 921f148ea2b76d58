package sim

// effect is something an agent does to the world outside. Before and after each
// an agent may be made to crash or to hang.
type effect int

const (
	effRead effect = iota
	effClaim
	effRenew
	effRelease
	effKeepAlive
	effMember
	effPut
	effInitialize
	effArm
	effDisarm
	effSuspend
	effFollow
	effAsk
	effBegin
	effSyncNames
	effects
)

var effectNames = [effects]string{
	"a read", "a claim", "a round", "a release", "a keepalive", "a write of the member key", "a write", "the removal of /initialize",
	"arming the leash", "disarming the leash", "suspending the leash", "a change of upstream", "questions to peers", "the begin of an operation", "a change of synchronous_standby_names",
}

// point is the moment before (even) or after (odd) an effect.
type point int

func before(e effect) point { return point(2 * e) }
func after(e effect) point  { return point(2*e + 1) }

func (p point) String() string {
	return [2]string{"before ", "after "}[p%2] + effectNames[p/2]
}

// bug waits for an agent to come to a point.
type bug struct {
	at    point
	crash bool  // else the agent hangs
	down  int64 // for how long; 0: nothing waits
}

// reach is called by the agent at every point.
func (n *node) reach(p point) {
	b := n.bug
	if b.down == 0 || b.at != p || n.w.now >= n.w.plan.Heal {
		return
	}
	n.bug = bug{}
	n.w.res.Points[p]++
	if b.crash {
		n.w.trace(n, "FAULT: the agent crashes %s", p)
		n.restart = b.down
		panic(killed{})
	}
	n.w.trace(n, "FAULT: the agent hangs %s for %s", p, clock(b.down))
	n.hung = n.w.now + b.down
	n.sleep(0)
}
