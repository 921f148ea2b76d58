package ha

import "testing"

// After a cluster was stopped in good order, the node that ended it has the
// most WAL; one that is behind gives it one lease time to come back (L8).
func TestAwaitMoreWAL(t *testing.T) {
	stopped := func(o *Observation) {
		leaderless(o)
		o.DCS.Cluster.Status.Beat.Released = true
		o.DCS.Cluster.Status.Optime = 1001
	}
	runTable(t, []row{
		{name: "L8 behind the end of the last leadership: waits", change: stopped, reason: ElectionWaitsForMore},
		{name: "L8 not for ever", change: func(o *Observation) { stopped(o); o.Memory.Leaderless = plus(-30 * sec) }, action: Claim{}, reason: ElectionWins},
		{name: "L8 not behind", change: func(o *Observation) { stopped(o); o.PG.Row.Position = 1001 }, action: Claim{}, reason: ElectionWins},
		{name: "L8 not when the last leader was lost: it will not be back soon", change: func(o *Observation) {
			stopped(o)
			o.DCS.Cluster.Status.Beat.Released = false
		}, action: Claim{}, reason: ElectionWins},
		{name: "L8 not when an operator named this node", change: func(o *Observation) {
			stopped(o)
			failover(o, "", "n1")
		}, action: Claim{}, reason: ElectionWins},
	})
}
