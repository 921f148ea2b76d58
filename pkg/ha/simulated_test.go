package ha

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// TestFoundBySimulation: what random schedules found, each as the one decision
// that was wrong.
func TestFoundBySimulation(t *testing.T) {
	latched := func(o *Observation) { // a leash that was started anew knows the epoch, and takes it no more
		o.Leash.Armed, o.Leash.Deadline, o.Memory.Unarmed = 0, 0, "epoch 50 is not above 50"
		did(o, Renew{}, ResultOK)
	}
	listed := func(o *Observation) { // n3 is not in /failsafe
		leaderless(o)
		o.Settings.Failsafe = true
		o.DCS.Cluster.Failsafe = &dcs.Failsafe{Members: map[string]string{"n1": "http://n1:8008/patroni"}}
	}
	runTable(t, []row{
		{name: "a round between does not let a refusal of the leash be forgotten", change: latched, action: Stop{}, reason: LeaderUnarmed},
		{name: "the same with the server down: no arming without end", change: func(o *Observation) { latched(o); down(o, "in production") },
			action: Release{}, reason: LeaderUnarmed},
		{name: "no further attempt after a round failed up to the stop instant", change: func(o *Observation) {
			o.Now = o.Memory.Lease.StopAt()
			did(o, Renew{}, ResultUnknown)
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "the same when a turn without an action came between", change: func(o *Observation) {
			o.Memory.Lease.Attempt = o.Memory.Lease.Renewed.Add(time.Second)
			o.Now = o.Memory.Lease.StopAt()
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "paused: nobody takes the key on a timeline that was left", change: func(o *Observation) {
			leaderless(o)
			paused3(o)
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1, LSN: 900}}}
			failover(o, "", "n1")
		}, reason: PausedNoAction},
		{name: "paused: nobody is promoted on a timeline that was left", change: func(o *Observation) {
			paused3(o)
			o.PG.Row.InRecovery = true
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1, LSN: 900}}}
			failover(o, "", "n1")
		}, action: Release{}, reason: PausedReleases},
		{name: "a requested candidate that may not race is not waited for", change: func(o *Observation) { listed(o); failover(o, "", "n3") },
			action: Claim{}, reason: ElectionWins},
		{name: "a member that may not race is not left the race for its WAL", change: func(o *Observation) {
			listed(o)
			o.Peers.Answers["n3"] = standbyPeer(1001)
		}, action: Claim{}, reason: ElectionWins},
	})
}
