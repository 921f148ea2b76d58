package ha

import (
	"cmp"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// Decide returns the next step. It is a function of o alone, and total: any
// observation, however odd, has a decision.
//
// The order of the cases is the policy; the first that applies decides.
func Decide(o Observation) Decision {
	o.note()
	before := o.Memory
	d := o.untilScheduled(o.settleRestart(o.thawed(o.bound(policy(&o), before))))
	d.Callbacks = o.noteCallbacks(&d)
	return d
}

func policy(o *Observation) Decision {
	switch {
	case o.retaken() && !o.armFailed():
		return o.then(ArmLeash{}, LeaderArming) // no round helps a server that the old epoch's deadline ends
	case o.roundDue():
		return o.then(renewal(o), LeaseRenewal) // before all else, and nothing else in this turn
	case o.Op.Running:
		return duringOperation(o)
	case o.Stopping && o.Memory.Bootstrap != BootstrapNone && o.DCS.Fresh && !o.published():
		return cleanBootstrap(o)
	case o.Stopping:
		return stopping(o)
	case !o.DCS.Fresh:
		return withoutDCS(o)
	case o.quarantined():
		return quarantine(o)
	}
	if d, ok := o.dropStale(); ok && o.DCS.Cluster.Leader == nil && o.ReadOnly() {
		return d
	}
	if d, ok := reinit(o); ok {
		return d
	}
	if d, ok := restart(o); ok {
		return d
	}
	switch {
	case o.Settings.Pause:
		return paused(o)
	case o.PG.DataDir == DataDirUnreadable:
		return unreadable(o)
	case o.Memory.Bootstrap != BootstrapNone:
		return bootstrapping(o)
	}
	if d, ok := restoring(o); ok {
		return d
	}
	switch {
	case o.PG.DataDir != DataDirPresent:
		return emptyDirectory(o)
	case o.foreign():
		return o.exit(1, ForeignSystem, o.PG.SystemID+", the cluster's is "+o.DCS.Cluster.Initialize.SystemID)
	case o.mustTakeBack():
		return takeBack(o)
	case o.PG.Process == ProcessDown:
		return recoverServer(o)
	case o.PG.Process == ProcessStarting:
		return starting(o)
	case o.holds():
		return lead(o)
	case o.DCS.Cluster.Leader == nil:
		return elect(o)
	default:
		return follow(o)
	}
}

// note folds what this observation shows into the memory.
func (o *Observation) note() {
	m := &o.Memory
	o.DCS.Fresh = o.DCS.Fresh && o.DCS.Cluster != nil
	if m.WasPaused && !o.Settings.Pause { // S4b: what happened in pause is not known
		m.WasPaused = false
		m.Rewind = RewindCheck
	}
	o.noteOutcome()
	if o.Op.Serial != m.OpSeen && !o.Op.Running {
		m.OpSeen = o.Op.Serial
		o.noteOperation()
	}
	if o.PG.Known {
		m.Primary = !o.PG.Row.InRecovery
	}
	o.notePromoting()
	o.noteFailsafe() // before the snapshot, which may show that somebody else leads
	if o.DCS.Fresh {
		o.noteSeen()
		o.voidStale()
		o.noteCluster()
		o.noteOrder()
	}
	if m.Lease.Epoch != 0 && !m.Lease.Held(o.Now) && !o.Settings.Pause {
		if m.Lease.Attempt > m.Lease.Renewed {
			m.Lapsed = m.Lease.Epoch
		}
		m.Lease = Lease{} // its time for an orderly stop has begun: not a leader any more
	}
	o.noteNumbers()
	o.noteReinit()
	if o.DCS.Cluster != nil {
		o.noteSync()
	}
	if o.PG.Process == ProcessRunning {
		m.Recovered, m.FailedTries, m.CrashedPrimary, m.Restart.Overdue = false, 0, 0, false
		m.Demoting, m.ComeBack = m.Demoting && o.Op.Running, m.ComeBack && o.Op.Running
	}
	o.noteRestart()
	o.noteRelieved()
}

func (o *Observation) noteCluster() {
	m, c := &o.Memory, o.DCS.Cluster
	if rev := c.ModRevision(dcs.KeyStatus); rev != m.SeenStatus || m.SeenAt == 0 {
		m.SeenStatus, m.SeenAt = rev, o.Now
	}
	if o.quarantined() {
		o.noteQuarantined()
		return
	}
	if l := c.Leader; l != nil {
		if l.Epoch != m.LastEpoch {
			m.LastEpoch = l.Epoch
			if l.Name != o.Me.Name && m.Rewind != RewindNeed && m.RewindFor != l.Epoch {
				m.armRewind() // a new leadership, of whomever: compare before following
			}
		}
		m.noteLeader(l.Name, o.Me.Name)
		m.LastMembers, m.Leaderless = c.Members, 0
		if l.Name != o.Me.Name {
			m.YieldUntil = 0
		}
	} else if m.Leaderless == 0 {
		m.Leaderless = o.Now
	}
	if m.Lease.Epoch == 0 {
		m.Retain = nil
		return
	}
	m.Retain = o.retain()
	switch l := c.Leader; {
	case l == nil:
		if !m.ownStatus(o) { // rule (d) does not apply
			m.Lease = Lease{}
		}
	case l.Epoch != m.Lease.Epoch:
		m.Lease = Lease{}
	}
}

// noteOutcome takes in what became of the action decided just before.
func (o *Observation) noteOutcome() {
	m, last := &o.Memory, o.Last
	switch a := last.Action.(type) {
	case ArmLeash:
		if m.Unarmed = ""; last.Result != ResultOK {
			m.Unarmed = cmp.Or(last.Error, "no answer")
		}
	case Claim:
		m.Unarmed = ""
		if last.Result == ResultOK {
			m.Lease, m.Demoting = m.Lease.Reclaimed(last.Epoch, last.Sent, last.Timing), false
			m.noteLeader(o.Me.Name, o.Me.Name)
			m.LastEpoch, m.Leaderless, m.YieldUntil, m.ShutdownLSN = last.Epoch, 0, 0, 0
			m.SyncUnsure = false // what is under way names the epoch of before
			if o.quarantined() { // an epoch of etcd's present count
				m.Seen.Count++
			}
		}
	case TakeBack:
		if last.Result == ResultOK {
			m.Lease = Resumed(o, a.Epoch).Extended(last.Sent, last.Timing, last.Beat)
			m.SyncUnsure = true // what the agent before me sent
		}
	case Renew:
		switch last.Result {
		case ResultOK:
			m.Lease = m.Lease.Extended(last.Sent, last.Timing, last.Beat)
		case ResultConflict:
			m.Lease.Attempt = last.Sent
			if !o.DCS.Fresh || o.DCS.Cluster.Leader != nil && m.Seen.Regressed(o.DCS.Cluster) == "" {
				m.Lease = Lease{} // somebody else holds the key: a definite no. Nobody: rule (d)
			} // an etcd that went back knows nothing of it: the deadline stands
		default:
			m.Lease.Attempt = last.Sent
		}
	case Release:
		if last.Result == ResultUnknown {
			m.Releasing = a.Epoch
		}
		if last.Result == ResultOK || last.Result == ResultConflict {
			m.Lease, m.Demoting = Lease{}, false
			m.YieldUntil = o.Now.Add(yield)
			m.armRewind()
		}
	case Freeze:
		if last.Result == ResultOK {
			m.Thawed = 0
		}
	case Thaw:
		if last.Result == ResultOK {
			m.Thawed = a.Epoch
		}
	case WriteInitialize:
		if a.SystemID == "" && last.Result == ResultOK {
			m.Bootstrap = BootstrapWon
		}
	case WriteSync:
		m.SyncUnsure = last.Result == ResultUnknown
	case SetSyncNames:
		if m.NamesUnsure = nil; last.Result != ResultOK {
			m.NamesUnsure = a.Names
		}
	case WriteFailsafe:
		m.FailsafeSent.Done = last.Result == ResultOK
	case MoveAside:
		m.Bootstrap = BootstrapFailed
	default: // the others show in the next observation
	}
}

// noteOperation takes in the result of a long action that has ended.
func (o *Observation) noteOperation() {
	m, op := &o.Memory, o.Op
	failed := op.Error != ""
	if failed {
		m.FailedOp = op.Ended
	}
	switch op.Kind {
	case OpBootstrap, OpPostBootstrap:
		if m.Bootstrap == BootstrapNone {
			return
		}
		switch {
		case failed:
			m.Bootstrap = BootstrapFailed
		case op.Kind == OpBootstrap && o.Settings.Standby.On: // its roles came with the copy
			m.Bootstrap = BootstrapRoles
		case op.Kind == OpBootstrap:
			m.Bootstrap = BootstrapMade
		default:
			m.Bootstrap = BootstrapRoles
		}
	case OpRestore:
		o.noteRestored()
	case OpClone:
		if !failed {
			m.Reinit.Wanted = false
			m.Rewind, m.RewindFor = RewindIdle, m.LastEpoch
		}
	case OpStartPrimary, OpStartStandby:
		if op.Kind == OpStartStandby {
			m.Primary = false // also one that does not answer yet
		}
		if failed {
			m.FailedStart = op.Ended
			m.FailedTries++
		} else {
			m.Offline = false
			if m.Rewind == RewindDone || m.Rewind == RewindFailed {
				m.Rewind, m.RewindFor = RewindIdle, m.LastEpoch
			}
		}
	case OpStop:
		m.StopBy = 0
		if failed {
			m.Demoting = false
		} else {
			m.ShutdownLSN = op.ShutdownLSN
		}
	case OpCrashRecovery:
		m.Recovered = true
	case OpRestart:
		o.noteRestarted()
	case OpCheckDivergence:
		o.noteDivergence()
	case OpCheckRemote:
		o.noteRemote()
	case OpRewind:
		switch {
		case !failed:
			m.Rewind = RewindDone
		case op.Damaged:
			m.Rewind = RewindFailed
		}
	case OpPromote:
		if op.Refused {
			m.Promoting = false
			m.Refused, m.SitOut = m.Lease.Epoch, o.Now.Add(o.Settings.TTL)
		}
	case OpCopySlots, OpNone:
	}
}

func (o *Observation) noteDivergence() {
	m := &o.Memory
	if m.Rewind != RewindCheck {
		return
	}
	switch o.Op.Divergence {
	case DivergenceNone:
		m.Rewind, m.RewindFor = RewindIdle, m.LastEpoch
	case DivergenceFound:
		m.Rewind = RewindNeed
	case DivergenceUnknown: // ask again later
	}
}

// yield is how long a node that gave the leadership away lets others go first.
const yield = 2 * time.Second

// holds tells whether this node is the leader and may act as one.
func (o *Observation) holds() bool {
	m := &o.Memory
	if m.Lease.Epoch == 0 {
		return false
	}
	if o.DCS.Fresh && o.DCS.Cluster.Leader == nil {
		return false
	}
	return o.Settings.Pause || m.Lease.Held(o.Now)
}

// retaken tells whether the key was lost and taken again, and the leash still holds
// the server to the leadership of before.
func (o *Observation) retaken() bool {
	return o.Memory.Lease.Held(o.Now) && o.Leash.Binds() && !o.armed() && !o.Settings.Pause && o.mayWrite()
}

// roundDue tells whether the lease is to be renewed, or taken back by rule (d).
func (o *Observation) roundDue() bool {
	m := &o.Memory
	if m.Lease.Epoch == 0 || m.Demoting && o.PG.Process == ProcessDown || o.kills() {
		return false
	}
	return m.Lease.Due(o.Now) || o.DCS.Fresh && o.DCS.Cluster.Leader == nil && m.Lease.Attempt < m.Leaderless
}

func renewal(o *Observation) Action {
	beside := o.failsafeAsk()
	o.Memory.Lease.Attempt = o.Now
	if o.DCS.Fresh && o.DCS.Cluster.Leader == nil && (!o.quarantined() || o.mayReclaim()) {
		return Claim{} // rule (d): the key is gone, the deadline is not
	}
	return Renew{Beside: beside}
}

// foreign: row E2.
func (o *Observation) foreign() bool {
	i := o.DCS.Cluster.Initialize
	return i != nil && dcs.InitializeValid(i.SystemID) && o.PG.SystemID != "" && o.PG.SystemID != i.SystemID
}

// The constructors of decisions.

// then performs a and looks again at once.
func (o *Observation) then(a Action, r Reason, detail ...string) Decision {
	d := o.wait(o.Settings.LoopWait, r, detail...)
	d.Action, d.Again = a, true
	return d
}

// begin starts a long action; its end is an event.
func (o *Observation) begin(a Action, r Reason, detail ...string) Decision {
	d := o.rest(r, detail...)
	d.Action, d.Again = a, true
	return d
}

// rest does nothing until an event, the next round, or the end of the period.
func (o *Observation) rest(r Reason, detail ...string) Decision {
	return o.wait(o.period(), r, detail...)
}

func (o *Observation) wait(t time.Duration, r Reason, detail ...string) Decision {
	d := Decision{Reason: r, Memory: o.Memory, Wait: max(min(t, o.Memory.Lease.NextLook(o.Now, o.period())), time.Millisecond)}
	if len(detail) > 0 {
		d.Detail = detail[0]
	}
	return d
}

func (o *Observation) exit(code int, r Reason, detail string) Decision {
	d := o.rest(r, detail)
	d.Action = Exit{Code: code, Message: d.Text(o.Me.Name)}
	return d
}

// period is the longest pause of the loop (decision 6 of the architecture).
func (o *Observation) period() time.Duration {
	p := min(o.Settings.LoopWait, o.Settings.TTL/3)
	if p <= 0 {
		p = time.Second
	}
	return p
}

// retryDue spaces attempts after a failure: one per period.
func (o *Observation) retryDue(failed Instant) (time.Duration, bool) {
	if failed == 0 {
		return 0, true
	}
	left := failed.Add(o.period()).Sub(o.Now)
	return left, left <= 0
}

// armed tells whether the leash knows the deadline of the held lease.
func (o *Observation) armed() bool {
	return o.Settings.LeashOff || o.Leash.Attached && o.Leash.Armed == o.Memory.Hold(o.Memory.Lease.Epoch) && !o.Leash.Suspended
}
