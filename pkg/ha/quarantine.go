package ha

import (
	"cmp"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// Quarantine is the state of a member that found etcd behind what it saw before
// (safety S11): restored from an older snapshot, made anew, emptied by hand.
// What the keys say may be long untrue, so they make nobody promote, demote,
// rewind, copy or initialize. A primary that runs goes on, within its deadline,
// and publishes itself again.
type Quarantine struct {
	Why   string  // "": none
	Since Instant // of the first look
	// Etcd is the cluster id then, and Revision and Status are the revisions of etcd
	// and of /status. Put back once more, etcd is looked at anew.
	Etcd             uint64
	Revision, Status int64
	// Newest is the newest revision seen since.
	Newest int64
	// Certain: it is no stale answer, which one etcd member may give.
	Certain bool
	// Word: an operator accepted what etcd holds.
	Word bool
}

// Acceptance is an operator's word that what etcd holds now is the truth.
type Acceptance struct {
	Serial int64 // grows with each; 0: none ever
	By     string
}

// noteSeen compares the snapshot with the newest ever seen.
func (o *Observation) noteSeen() {
	m, c, q := &o.Memory, o.DCS.Cluster, &o.Memory.Quarantine
	said := o.Accepted.Serial != m.AcceptSeen
	m.AcceptSeen = o.Accepted.Serial
	m.Seen.Count = max(m.Seen.Count, o.leashCount())
	if q.Why != "" && q.Etcd == m.Seen.ClusterID { // put back once more, it is behind what it was in the meantime, too
		m.Seen.Revision = max(m.Seen.Revision, q.Newest)
	}
	why := m.Seen.Regressed(c)
	if d := m.Seen.Doubt; q.Why == "" && d.Why != "" {
		*q = Quarantine{Why: d.Why, Since: o.Now, Etcd: d.Etcd, Revision: d.Revision, Status: d.Status, Newest: d.Revision, Certain: true}
	}
	switch {
	case q.Why == "" && why == "", why == "" && !q.Certain:
		*q, m.Seen, m.FailsafeTrusted = Quarantine{}, m.Seen.with(c), c.Failsafe
		return
	case q.Why == "", c.ID != q.Etcd, c.Revision < q.Newest:
		*q = Quarantine{Why: cmp.Or(why, q.Why), Since: o.Now, Etcd: c.ID, Revision: c.Revision, Status: c.ModRevision(dcs.KeyStatus), Certain: q.Certain}
	}
	q.Newest = c.Revision
	if st := c.Status; st != nil && st.Beat != nil { // whoever leads here meanwhile, if etcd goes back once more
		m.Seen.TTL = max(m.Seen.TTL, st.Beat.TTL)
	}
	q.Word = q.Word || said
	q.Certain = q.Certain || c.ID != m.Seen.ClusterID || o.Now.Sub(q.Since) >= o.Settings.TTL || o.refusedByOlder()
	if q.Certain {
		m.Seen.Doubt = Doubt{Why: q.Why, Etcd: q.Etcd, Revision: q.Revision, Status: q.Status}
	}
	if q.Word && o.outwaited() || o.republished() {
		m.Seen = m.Seen.anew(c, q.Revision)
		m.LastEpoch, m.RewindFor, m.Numbers, m.FailsafeSeen, m.FailsafeTrusted, *q = 0, 0, Numbers{}, nil, c.Failsafe, Quarantine{}
		m.Leaderless = 0 // in this etcd it begins now
	}
}

// outwaited tells whether whoever led in the etcd of before has stopped. Its last
// beat is not in the present one, so that no claim would wait for it.
func (o *Observation) outwaited() bool {
	m := &o.Memory
	return o.Now.Sub(m.Quarantine.Since) >= max(o.Settings.TTL, time.Duration(m.Seen.TTL)*time.Millisecond)
}

// refusedByOlder tells whether etcd has just refused a round of this leadership,
// and shows, to a look since then, the key of an older one: no stale answer, which
// would have refused nothing, but an etcd that never had the newer one.
func (o *Observation) refusedByOlder() bool {
	l := o.DCS.Cluster.Leader
	_, round := o.Last.Action.(Renew)
	return round && o.Last.Result == ResultConflict && l != nil && l.Epoch < o.Memory.Lease.Epoch
}

// leashCount is the least count whose numbers the leash takes; it may know better
// than the disk. Its record outlives a cluster: where what it armed last was of
// another etcd, and this member knows no other than the present one, the count
// goes past it. Within one etcd cluster it does not: a latched epoch stays so.
func (o *Observation) leashCount() int64 {
	l, c, seen := &o.Leash, o.DCS.Cluster, o.Memory.Seen.ClusterID
	if l.Etcd != 0 && l.Etcd != c.ID && l.Armed == 0 && (seen == 0 || seen == c.ID) {
		return l.Highest>>countShift + 1
	}
	return l.Highest >> countShift
}

// quarantined tells whether S11 is in force.
func (o *Observation) quarantined() bool { return o.Memory.Quarantine.Why != "" }

// voidStale takes requests and restore orders out of the snapshot that are from
// before etcd went back: they were carried out long ago, or never shall be.
func (o *Observation) voidStale() {
	c, stale := o.DCS.Cluster, o.Memory.Seen.Stale
	old := func(rev int64) bool { return rev != 0 && rev <= stale }
	if stale == 0 || !old(c.ModRevision(dcs.KeyFailover)) && !old(c.ModRevision(dcs.KeyRestore)) {
		return
	}
	next := *c
	if old(c.ModRevision(dcs.KeyFailover)) {
		o.staleRequest, next.Failover = c.ModRevision(dcs.KeyFailover), nil
	}
	if old(c.ModRevision(dcs.KeyRestore)) && c.Restore.Open() {
		o.staleOrder, next.Restore = c.Restore, nil
	}
	o.DCS.Cluster = &next
}

// dropStale takes what is void out of etcd: another member looked at another
// revision first, and would wait for what this one does not do.
func (o *Observation) dropStale() (d Decision, ok bool) {
	const why = "it was made before etcd, which went back, was trusted again"
	switch o.Last.Action.(type) {
	case CleanFailover, WriteRestore:
		if o.Last.Result != ResultOK { // it is tried again; there may be more urgent things
			return d, false
		}
	default: // nothing was tried
	}
	switch {
	case o.staleRequest != 0:
		return o.then(CleanFailover{Revision: o.staleRequest}, FailoverCleaned, why), true
	case o.staleOrder != nil:
		return o.endOrder(o.staleOrder, why)
	}
	return d, false
}

// republished tells whether somebody demonstrably runs as the primary of the
// data known here, and writes under the lock of the present etcd: every key that
// this member compares is there again, and /status was written since.
func (o *Observation) republished() bool {
	m, c := &o.Memory, o.DCS.Cluster
	if c.Leader == nil || c.Initialize == nil || m.Seen.SystemID != "" && c.Initialize.SystemID != m.Seen.SystemID || clusterTimeline(c) < m.Seen.Timeline && m.Seen.Timeline > 1 {
		return false
	}
	if c.Leader.Name == o.Me.Name {
		return m.Lease.Epoch == c.Leader.Epoch && m.Lease.Renewed >= m.Quarantine.Since && o.runsAsPrimary()
	}
	st, leader := c.Status, c.Member(c.Leader.Name)
	return st != nil && st.ModRevision > m.Quarantine.Status && (st.Beat == nil || st.Beat.Epoch == c.Leader.Epoch) &&
		leader != nil && leader.ModRevision > m.Quarantine.Revision && leader.Role == "primary" && leader.State == "running" && leader.Timeline >= m.Seen.Timeline
}

// runsAsPrimary: the server answers, and it is no standby.
func (o *Observation) runsAsPrimary() bool { return o.PG.Known && !o.PG.Row.InRecovery }

// noteQuarantined is noteCluster while the keys count for nothing: a lease held
// is not given up for what they say.
func (o *Observation) noteQuarantined() {
	m, c := &o.Memory, o.DCS.Cluster
	switch {
	case c.Leader != nil:
		m.Leaderless = 0
	case m.Leaderless == 0:
		m.Leaderless = o.Now
	}
	if m.Lease.Epoch == 0 && !o.Settings.Pause && o.runsAsPrimary() && o.Leash.Armed>>countShift == m.Seen.Count && !o.Leash.Suspended {
		m.Lease = o.leashed()
	}
	m.Retain = nil
	if m.Lease.Epoch != 0 {
		m.Retain = o.retain()
	}
}

// quarantine is what a member does while S11 is in force.
func quarantine(o *Observation) Decision {
	m, why := &o.Memory, o.Memory.Quarantine.Why
	held := m.Lease.Epoch != 0
	if m.Quarantine.Word {
		why += " (accepted, which takes effect once the last leader must have stopped)"
	}
	switch {
	case o.Settings.Pause && o.mustSuspend() && o.PG.Known:
		return o.then(SuspendLeash{}, PausedSuspends)
	case held && o.runsAsPrimary():
		return republish(o)
	case held && !o.Settings.Pause && o.PG.Process == ProcessDown && o.PG.DataDir == DataDirPresent && o.holds() && o.DCS.Cluster.Leader.Epoch == m.Lease.Epoch:
		return recoverLeader(o) // what was the primary under the lock of this etcd may be it again
	case !held && !o.Settings.Pause && o.leashNear(): // also one that does not answer
		m.Offline = true
		m.armRewind()
		return o.begin(o.demotion(), DemoteNoLock, why)
	case held || o.PG.DataDir != DataDirPresent || o.PG.Process == ProcessUnsure:
		return o.rest(Quarantined, why)
	case o.Settings.Pause && o.runsAsPrimary() && o.PG.Row.Timeline >= m.Seen.Timeline && o.DCS.Cluster.Leader == nil && !o.orderedElsewhere() && m.holdOff(o) == 0:
		return o.then(Claim{}, QuarantineClaims, why)
	case o.Settings.Pause:
		return o.rest(Quarantined, why)
	case o.mayWrite(): // by its deadline, not by a name
		m.Offline = true
		m.armRewind()
		return o.begin(o.demotion(), DemoteNoLock, why)
	case o.Leash.Armed != 0 && o.ReadOnly():
		return o.disarm()
	case o.PG.Process == ProcessDown:
		if left, due := o.retryDue(m.FailedStart); !due {
			return o.wait(left, StartRetryLater, o.Op.Error)
		}
		return o.begin(Start{}, QuarantineStarts, why)
	}
	return o.rest(Quarantined, why)
}

// republish is the running primary's part: it takes the leader key of the present
// etcd, then makes every key say again what is so.
func republish(o *Observation) Decision {
	m, c, q := &o.Memory, o.DCS.Cluster, &o.Memory.Quarantine
	l := c.Leader
	stale := func(rev int64) bool { return rev <= q.Revision }
	switch {
	case l == nil:
		return o.rest(Quarantined, q.Why) // the claim is a round of the lease
	case l.Epoch != m.Lease.Epoch && stale(l.Epoch) && q.Certain && stale(c.ModRevision(dcs.KeyStatus)) && o.Now.Sub(m.SeenAt) >= o.period():
		return o.then(DropLeader{Epoch: l.Epoch}, QuarantineDrops, l.Name)
	case l.Epoch != m.Lease.Epoch:
		return o.wait(settling, Quarantined, q.Why)
	case o.watchdogFault() != "":
		return giveUpUnwatched(o)
	case !o.Settings.Pause && !o.armed() && o.armFailed():
		return giveUpUnarmed(o)
	case !o.Settings.Pause && !o.armed():
		return o.then(ArmLeash{}, LeaderArming)
	case !c.Failover.Empty() && stale(c.Failover.ModRevision):
		return o.then(CleanFailover{Revision: c.Failover.ModRevision}, FailoverCleaned, "it is from before etcd went back")
	case c.Restore.Open() && stale(c.Restore.ModRevision):
		d, _ := o.endOrder(c.Restore, "it is from before etcd went back")
		return d
	case (c.Initialize == nil || !dcs.InitializeValid(c.Initialize.SystemID)) && dcs.InitializeValid(o.PG.SystemID):
		return o.then(WriteInitialize{SystemID: o.PG.SystemID, Revision: initializeRevision(c)}, LeaderRepairsInitialize)
	case configMissing(c):
		return o.then(WriteConfig{Revision: configRevision(c)}, LeaderRepairsConfig)
	}
	if lines, behind := o.historyLines(); behind {
		return o.then(WriteHistory{Lines: lines}, LeaderWritesHistory)
	}
	return o.wait(settling, Quarantined, q.Why)
}

// mayReclaim tells whether rule (d) holds in a quarantine: what /status says is
// no news of this leadership, but the server runs and the deadline is ahead.
func (o *Observation) mayReclaim() bool { return o.quarantined() && o.runsAsPrimary() }

// leashed is the lease that an earlier run of this agent held, as the leash knows
// it: its deadline stands, and nothing is added to it.
func (o *Observation) leashed() Lease {
	t, _ := NewTiming(max(o.Settings.TTL, 5*time.Second), o.Settings.LoopWait, o.Settings.RetryTimeout)
	t.Kill = longestKill // the ttl may be another one since, and the leash kills by that of before
	return Lease{Epoch: o.Leash.Armed & (1<<countShift - 1), Deadline: o.Leash.Deadline, Timing: t, Promise: t.TTL}
}
