package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// A restore order (/pgha/restore) sets the cluster back to an earlier state.
// While one is open the leader key belongs to the member it names, whether that
// member lives or not: any other leader would go on with the data that the
// operator wants to be rid of. All rules that end a primary stay in force.

// order returns the open restore order, nil without one.
func (o *Observation) order() *dcs.Restore {
	if c := o.DCS.Cluster; c != nil && c.Restore.Open() {
		return c.Restore
	}
	return nil
}

// orderedElsewhere: another member is to carry out the open order.
func (o *Observation) orderedElsewhere() bool {
	r := o.order()
	return r != nil && r.Member != o.Me.Name
}

// noteOrder keeps the memory to the order at hand.
func (o *Observation) noteOrder() {
	m, r := &o.Memory, o.DCS.Cluster.Restore
	if r == nil || r.ID != m.Restore.ID {
		m.Restore = RestoreMemory{}
	}
}

// maxKilled is how often a restore goes on after its server was ended from
// outside: once is somebody's hand or the end of the leash, more is a reason.
const maxKilled = 3

// noteRestored takes in the end of a Restore. One that was cut short by this
// node itself (the lease was lost, the agent ends) has not ended: it goes on
// when this node leads again.
func (o *Observation) noteRestored() {
	m, op := &o.Memory, o.Op
	m.ShutdownLSN = 0 // of the data before
	interrupted := m.Restore.Interrupted
	m.Restore.Interrupted = false
	// With a timeline the data is restored, whatever the start of the server came
	// to; that is tried again as for any leader.
	done := op.Error == "" || op.Timeline != 0 && o.PG.DataDir == DataDirPresent
	if !done && interrupted {
		return
	}
	if !done && op.Interrupted && !op.Cancelled && m.Restore.Killed < maxKilled {
		m.Restore.Killed++
		return
	}
	m.Restore.Ended, m.Restore.Timeline = true, op.Timeline
	switch {
	case !done && op.Cancelled:
		m.Restore.Error = "cancelled"
	case !done:
		m.Restore.Error = op.Error
	default: // what was known of the data before is void
		m.Rewind, m.RewindFor = RewindIdle, m.LastEpoch
		m.Recovered, m.FailedTries, m.CrashedPrimary, m.Offline = false, 0, 0, false
	}
}

// restoring decides while an order is open; ok is false where the ordinary rows
// are right as they are.
func restoring(o *Observation) (d Decision, ok bool) {
	r := o.order()
	if r == nil || o.Memory.Lease.Epoch == 0 && o.leashNear() { // no time is left for what etcd should know
		return d, false
	}
	led, leader := o.DCS.Cluster.Leader != nil, o.DCS.Cluster.LeaderName()
	if m := &o.Memory.Restore; r.Member == o.Me.Name && m.Ended && m.Error != "" {
		return o.endOrder(r, m.Error)
	}
	if o.Settings.Standby.On && r.Member == o.Me.Name && !o.Op.Running {
		return o.endOrder(r, "this is a standby cluster now")
	}
	switch {
	case led && leader != r.Member:
		return superseded(o, r, leader)
	case r.Member != o.Me.Name && !led:
		return awaitRestorer(o, r)
	case r.Member != o.Me.Name:
		return d, false // its server is away for a while: nothing that a follower does not know
	case !led:
		return claimToRestore(o)
	case o.mustTakeBack():
		return takeBack(o), true
	}
	return restoreAsLeader(o, r)
}

// superseded: somebody else leads, so the order cannot be carried out as it was
// meant. Its member says so, or the leader, if the member is gone.
func superseded(o *Observation, r *dcs.Restore, leader string) (d Decision, ok bool) {
	if r.Member == o.Me.Name || leader == o.Me.Name && o.holds() {
		return o.endOrder(r, leader+" leads now")
	}
	return d, false
}

// endOrder writes that the order failed. A write that did not get through is
// decided anew from the next snapshot.
func (o *Observation) endOrder(r *dcs.Restore, why string) (Decision, bool) {
	next := *r
	next.State, next.Ended, next.Error = dcs.RestoreFailed, o.Wall, why
	return o.then(WriteRestore{Order: next}, RestoreFails, why), true
}

// awaitRestorer: the leader key is kept free for the order's member.
func awaitRestorer(o *Observation, r *dcs.Restore) (d Decision, ok bool) {
	switch {
	case o.Memory.Lease.Epoch != 0:
		return d, false // rule (d): until the deadline nobody else can lead
	case o.PG.DataDir != DataDirPresent && o.PG.Process == ProcessDown:
		return o.rest(RestoreAwaited, r.Member), true
	case o.PG.DataDir != DataDirPresent || o.foreign() || o.PG.Process == ProcessDown || o.PG.Process == ProcessStarting:
		return d, false // made to stop, or brought up read-only
	case o.mayWrite():
		o.Memory.armRewind()
		return o.begin(Stop{Mode: StopImmediate}, DemoteNoLock, r.Member+" is to restore the cluster"), true
	case o.ownLastBeat():
		return o.then(PublishReleased{}, TakeBackFinished), true
	case o.Leash.Armed != 0 && o.PG.Known:
		return o.disarm(), true
	}
	return o.rest(RestoreAwaited, r.Member), true
}

// claimToRestore: this node's agent or lease was lost on the way. It takes the
// leader key again whatever its server and its directory are like; how much WAL
// the others have does not matter.
func claimToRestore(o *Observation) (d Decision, ok bool) {
	m := &o.Memory
	switch {
	case o.PG.DataDir == DataDirPresent && o.foreign():
		return d, false
	case m.Lease.Epoch != 0:
		return o.rest(ElectionReclaims), true
	case o.mayWrite() || o.PG.DataDir != DataDirPresent && o.PG.Process != ProcessDown:
		return o.begin(Stop{Mode: StopImmediate}, DemoteNoLock, "I am to restore the cluster, and do not lead"), true
	case o.ownLastBeat():
		return o.then(PublishReleased{}, TakeBackFinished), true
	case o.Leash.Armed != 0 && o.ReadOnly():
		return o.disarm(), true
	case o.Now < m.YieldUntil: // what made it give the key away may need a moment to pass
		return o.wait(m.YieldUntil.Sub(o.Now), RestoreClaims), true
	}
	if fault := o.watchdogFault(); fault != "" {
		return o.rest(ElectionRefused, "the watchdog is required and cannot be used: "+fault), true
	}
	if hold := m.holdOff(o); hold > 0 {
		return o.wait(hold, ElectionHoldOff, hold.Round(100*time.Millisecond).String()), true
	}
	return o.then(Claim{}, RestoreClaims), true
}

// restoreAsLeader carries out the order, and says what became of it.
func restoreAsLeader(o *Observation, r *dcs.Restore) (d Decision, ok bool) {
	m := &o.Memory
	switch {
	case !o.holds() || m.Demoting || m.Releasing == m.Lease.Epoch:
		return d, false // the leadership ends first, in good order
	case o.PG.DataDir == DataDirPresent && o.foreign():
		return d, false
	case m.Restore.Ended:
		return publishRestored(o, r)
	case !o.armed() && o.armFailed():
		if o.PG.Process == ProcessDown {
			return o.then(o.releaseKey(true), LeaderUnarmed, o.Last.Error), true
		}
		return giveUpUnarmed(o), true
	case !o.armed():
		return o.then(ArmLeash{}, LeaderArming), true
	}
	if d, ok := dropFailover(o); ok {
		return d, true
	}
	if o.PG.DataDir != DataDirPresent && o.PG.Process != ProcessDown {
		return o.begin(Stop{Mode: StopImmediate}, DataDirBad, o.PG.Problem), true
	}
	if left, due := o.retryDue(m.FailedOp); !due && m.Restore.Killed > 0 {
		return o.wait(left, RestoreRuns, r.Set), true
	}
	if d, ok := o.publishNumber(); ok {
		return d, true
	}
	m.Restore = RestoreMemory{ID: r.ID, Killed: m.Restore.Killed}
	return o.begin(Restore{Order: *r}, RestoreRuns, r.Set), true
}

// restoreStarts is how often a restored server is started before it is given up.
const restoreStarts = 3

// publishRestored ends the order once the restored server is the primary, and
// /status no longer shows a position of the data before, by which the others
// would be judged in an election, and shows the restored timeline, which must be
// known when the next order has taken this one's place.
func publishRestored(o *Observation, r *dcs.Restore) (d Decision, ok bool) {
	if o.PG.DataDir != DataDirPresent {
		return o.endOrder(r, "the restored data directory is gone: "+o.PG.Problem)
	}
	if o.Memory.FailedTries >= restoreStarts {
		return o.endOrder(r, "the restored server does not start: "+o.Op.Error)
	}
	if !o.armed() || !o.PG.Known || o.PG.Row.InRecovery || o.PG.Row.Timeline == 0 {
		return d, false
	}
	if b := o.ownBeat(); b == nil || b.Timeline < o.PG.Row.Timeline || o.DCS.Cluster.Status.Optime > o.PG.Row.Position {
		return o.rest(RestorePublishes), true
	}
	// Until the order is done nobody races, whatever the server waits for.
	if d, ok := beforePromotion(o); ok {
		return d, true
	}
	next := *r
	next.State, next.Ended, next.Error = dcs.RestoreDone, o.Wall, ""
	next.Timeline = max(o.Memory.Restore.Timeline, o.PG.Row.Timeline)
	return o.then(WriteRestore{Order: next}, RestorePublishes), true
}

// dropFailover cleans a request for another leader while an order is open.
func dropFailover(o *Observation) (d Decision, ok bool) {
	f := o.DCS.Cluster.Failover
	if f.Empty() || o.Last.Action == (CleanFailover{Revision: f.ModRevision}) && o.Last.Result != ResultOK {
		return d, false
	}
	return o.then(CleanFailover{Revision: f.ModRevision}, FailoverCleaned, "a restore is under way"), true
}

// duringRestore is table A for a Restore: it may go on while the lease does and
// the order is open.
func duringRestore(o *Observation) Decision {
	r := o.order()
	switch {
	case !o.mayLead():
		o.Memory.Restore.Interrupted = true
		return o.cancel()
	case o.DCS.Fresh && (r == nil || r.ID != o.Memory.Restore.ID):
		return o.cancel() // taken back
	case o.Settings.Pause || !o.DCS.Fresh:
	case !o.armed() && !o.armFailed(): // the key was taken anew by rule (d)
		return o.then(ArmLeash{}, LeaderArming)
	default:
		if d, ok := dropFailover(o); ok {
			return d
		}
	}
	return o.goesOn()
}

// coveredByRestore tells whether an operator's order is why this node's WAL and
// the leader's differ: the leader's timeline is the restored one or came after
// it, and this node's is from before. The order is then the permission to give
// the data here up (S9).
func (o *Observation) coveredByRestore() bool {
	r := o.DCS.Cluster.Restore
	if r == nil || r.State != dcs.RestoreDone || r.Timeline == 0 {
		return false
	}
	mine := max(o.PG.Control.Timeline, o.PG.Control.MinRecoveryEndTLI)
	if o.PG.Known {
		mine = max(mine, o.PG.Row.Timeline)
	}
	return mine != 0 && mine < r.Timeline && o.leaderTimeline() >= r.Timeline
}
