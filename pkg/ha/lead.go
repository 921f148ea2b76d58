package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// mustTakeBack: the snapshot says this node is the leader, the memory does not.
func (o *Observation) mustTakeBack() bool {
	return o.leaderIsMe() && o.Memory.Lease.Epoch == 0
}

// takeBack continues a leadership of this node's own after its agent was
// restarted, or ends it where that is not safe.
func takeBack(o *Observation) Decision {
	l, st := o.DCS.Cluster.Leader, o.DCS.Cluster.Status
	if st != nil && st.Beat != nil && !st.Beat.Released && st.Beat.Holder != o.Me.Holder {
		return o.rest(ElectionRefused, "the leader key carries my name, but another installation wrote it; is "+o.Me.Name+" configured on two hosts?")
	}
	spent := !o.Settings.LeashOff && o.Leash.Highest >= o.Memory.Hold(l.Epoch) && o.Leash.Armed != o.Memory.Hold(l.Epoch)
	// The lease itself knows best: settings, which tell how long a stop takes, may be
	// others since it was renewed.
	late := o.Memory.Lapsed == l.Epoch || o.roundFailed() && o.lastCall(l.Epoch)
	switch {
	case l.Epoch <= o.Memory.Seen.Stale && o.ReadOnly(): // etcd went back to it: whoever led since may do so up to its deadline
		return o.then(Release{Epoch: l.Epoch}, TakeBackStale)
	case o.Memory.Releasing == l.Epoch && o.ReadOnly():
		return o.then(o.releaseKey(true), HandOverStops)
	case !spent && late && o.mayWrite():
		o.Memory.armRewind()
		return o.begin(o.demotion(), DemoteNoLock, "my leadership could not be renewed in time")
	case !spent:
		return o.then(TakeBack{Epoch: l.Epoch}, TakeBackOwn)
	case !o.ReadOnly():
		return o.begin(Stop{Mode: StopImmediate}, DemoteNoLock, "the deadline of my leadership has passed")
	default:
		return o.then(Release{Epoch: l.Epoch, Clean: true}, TakeBackLatched)
	}
}

// roundFailed tells whether the action just before was a round that did not
// succeed. Another one would take time that an orderly stop needs.
func (o *Observation) roundFailed() bool {
	switch o.Last.Action.(type) {
	case TakeBack, Renew, Claim:
		return o.Last.Result != ResultOK
	default:
		return false
	}
}

// lastCall tells whether the time for an orderly stop has come for a leadership
// that was not taken back yet; without a leash there is no later one.
func (o *Observation) lastCall(epoch int64) bool {
	return o.Settings.LeashOff || o.Leash.Armed != o.Memory.Hold(epoch) || o.Now >= o.Leash.Deadline.Add(-o.Memory.stopBudget(o))
}

// lead is row H3: the lock is held and renewed.
func lead(o *Observation) Decision {
	m := &o.Memory
	if m.Demoting && o.Op.Kind == OpStop && o.Op.Error == "" { // the server came back by itself
		m.Demoting = false
	}
	switch {
	case m.Releasing == m.Lease.Epoch && o.ReadOnly():
		return o.then(o.releaseKey(true), HandOverStops)
	case o.Settings.Standby.On:
		return leadStandby(o)
	case o.watchdogFault() != "":
		return giveUpUnwatched(o)
	case !o.armed() && o.armFailed():
		return giveUpUnarmed(o)
	case !o.armed():
		return o.then(ArmLeash{}, LeaderArming)
	}
	if d, ok := handOverFault(o); ok {
		return d
	}
	if d, ok := o.dropStale(); ok {
		return d
	}
	if d, missing := o.repairKeys(); missing {
		return d
	}
	if !o.PG.Known { // S19
		return o.stays(LeaderNoQuery)
	}
	if d, ok := manualFailover(o); ok {
		return d
	}
	if o.PG.Row.InRecovery {
		return promote(o)
	}
	return stayPrimary(o)
}

// repairKeys: rows S6 and S7. The holder of the lock knows what belongs there.
func (o *Observation) repairKeys() (d Decision, missing bool) {
	c := o.DCS.Cluster
	switch {
	case (c.Initialize == nil || !dcs.InitializeValid(c.Initialize.SystemID)) && dcs.InitializeValid(o.PG.SystemID):
		return o.then(WriteInitialize{SystemID: o.PG.SystemID, Revision: initializeRevision(c)}, LeaderRepairsInitialize), true
	case c.Initialize == nil || !dcs.InitializeValid(c.Initialize.SystemID):
		return o.rest(NoSystemID), true
	case configMissing(c):
		return o.then(WriteConfig{Revision: configRevision(c)}, LeaderRepairsConfig), true
	}
	return d, false
}

// armFailed tells whether the leash refused the present leadership. The round
// that keeps the lease meanwhile must not make this be forgotten.
func (o *Observation) armFailed() bool { return o.Memory.Unarmed != "" }

// giveUpUnarmed: 1.13 step 1. A node that nobody would stop in time is no leader.
func giveUpUnarmed(o *Observation) Decision {
	m := &o.Memory
	if o.ReadOnly() {
		return o.then(o.releaseKey(true), LeaderUnarmed, m.Unarmed)
	}
	m.Demoting = true
	m.armRewind()
	return o.begin(Stop{Mode: StopImmediate}, LeaderUnarmed, m.Unarmed)
}

// watchdogFault is why the watchdog that is required cannot be relied on; "" if
// it can, or is not required.
func (o *Observation) watchdogFault() string {
	switch {
	case !o.Settings.WatchdogRequired:
		return ""
	case o.Settings.LeashOff:
		return "pgha.leash is off, and the watchdog is in the hands of the leash"
	}
	return o.Leash.Watchdog
}

// giveUpUnwatched: a primary that loses the watchdog it must have ends in good
// order, and at once: the device may be counting down.
func giveUpUnwatched(o *Observation) Decision {
	m := &o.Memory
	if o.ReadOnly() {
		return o.then(o.releaseKey(true), LeaderUnwatched, o.watchdogFault())
	}
	m.Demoting = true
	m.armRewind()
	return o.begin(o.demotion(), LeaderUnwatched, o.watchdogFault())
}

func configMissing(c *dcs.Cluster) bool {
	return c.Invalid[dcs.KeyConfig] == "" && (c.Config == nil || string(c.Config.Raw) == "{}")
}

func configRevision(c *dcs.Cluster) int64 {
	if c.Config == nil {
		return 0
	}
	return c.Config.ModRevision
}

// promotionBudget is the least time before the stop instant at which a
// promotion is begun (S6).
func promotionBudget(t Timing) time.Duration { return min(t.Period/2, time.Second) }

// promote: 1.13 step 5, with the preconditions of S6.
func promote(o *Observation) Decision {
	m := &o.Memory
	if m.Refused == m.Lease.Epoch {
		return o.then(o.releaseKey(true), LeaderRefused, o.Op.Error)
	}
	if m.Lease.StopAt().Sub(o.Now) < promotionBudget(m.Lease.Timing) {
		return o.wait(m.Lease.NextLook(o.Now, o.period()), LeaderTooLate)
	}
	if left, due := o.retryDue(m.FailedOp); !due && o.Op.Kind == OpPromote {
		return o.wait(left, LeaderPromoting, o.Op.Error)
	}
	if o.PG.SystemID == "" {
		return o.rest(NoSystemID)
	}
	if o.PG.Row.Timeline < clusterTimeline(o.DCS.Cluster) { // S2
		if !o.ReadOnly() {
			m.Demoting = true
			return o.begin(Stop{Mode: StopImmediate}, LeaderBehind)
		}
		return o.then(o.releaseKey(true), LeaderBehind)
	}
	if d, ok := o.publishNumber(); ok {
		return d
	}
	if d, ok := beforePromotion(o); ok {
		return d
	}
	m.Rewind, m.RewindFor = RewindIdle, m.Lease.Epoch
	m.Promoting = true
	return o.begin(Promote{From: o.PG.Row.Timeline, Timeline: o.nextTimeline(), Until: m.Lease.Deadline}, LeaderPromotes)
}

// stayPrimary: 1.13 step 3.
func stayPrimary(o *Observation) Decision {
	if d, ok := keepSync(o); ok {
		return d
	}
	if d, stale := o.writeFailsafe(); stale {
		return d
	}
	if lines, stale := o.historyLines(); stale {
		return o.then(WriteHistory{Lines: lines}, LeaderWritesHistory)
	}
	if plan, stale := o.slotPlan(); stale {
		return o.then(plan, LeaderSlots)
	}
	if o.syncSettles() {
		return o.wait(syncLook, SyncCatchesUp)
	}
	return o.untilSilent(o.stays(LeaderNoAction))
}
