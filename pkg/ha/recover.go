package ha

import "github.com/pgha/pgha/pkg/dcs"

// recoverServer is row G4 with ha-behaviour 1.10: the server is down and the
// cluster is not paused.
func recoverServer(o *Observation) Decision {
	if o.holds() {
		return recoverLeader(o)
	}
	if o.Leash.Armed != 0 {
		return o.disarm()
	}
	if o.DCS.Cluster.Leader == nil {
		return recoverLeaderless(o)
	}
	return recoverMember(o)
}

// recoverLeader: rows R1, R2, R7 and the post-recovery check (S11).
func recoverLeader(o *Observation) Decision {
	m := &o.Memory
	if m.Demoting || m.Releasing == m.Lease.Epoch {
		return o.then(o.release(), HandOverStops)
	}
	if d, ok := handOverFault(o); ok { // it would only end again
		return d
	}
	if o.Settings.Standby.On {
		return recoverStandbyLeader(o)
	}
	o.noteCrash()
	if m.FailedTries > 0 && o.order() == nil {
		return o.then(o.release(), StartFailedRelease, o.Op.Error)
	}
	if left, due := o.retryDue(m.FailedStart); m.FailedTries > 0 && !due { // nobody else may lead
		return o.wait(left, StartRetryLater, o.Op.Error)
	}
	if !o.wasPrimary() { // R7: comes up read-only, is promoted in a later turn
		return o.begin(Start{}, StartReadOnly)
	}
	if fault := o.watchdogFault(); fault != "" { // it could not be armed, or would go on unguarded
		return o.then(o.release(), LeaderUnwatched, fault)
	}
	if loop := o.crashLoop(); loop || o.startOverdue() { // R1 when the timeout is 0
		can, ask := o.takers(failoverQuery{})
		switch {
		case len(ask) > 0:
			return o.ask(ask, CrashAskPeers)
		case can && loop:
			return o.then(o.release(), CrashLoop)
		case can:
			return o.then(o.release(), CrashFailover)
		}
		if left, due := o.retryDue(m.Crashes.At[0]); loop && !due {
			return o.wait(left, CrashLoopWaits)
		}
	}
	switch {
	case o.armed():
		if d, ok := o.endSync(); ok {
			return d
		}
		return o.begin(Start{Primary: true}, StartAsPrimary) // R2
	case o.armFailed(): // a leash that was started anew takes only a new epoch
		return o.then(o.release(), LeaderUnarmed, m.Unarmed)
	}
	return o.then(ArmLeash{}, LeaderArming)
}

// wasPrimary tells whether the stopped server ran read-write when it ended.
func (o *Observation) wasPrimary() bool {
	if o.PG.StandbySignal {
		return false
	}
	switch o.PG.Control.State {
	case "in production", "in crash recovery", "shutting down", "shut down":
		return true
	}
	return false
}

// unclean tells whether single-user recovery is called for (R4, R5).
func (o *Observation) unclean() bool {
	if o.Memory.Recovered || o.PG.Control.HasBackupLabel {
		return false
	}
	switch o.PG.Control.State {
	case "in production", "in crash recovery", "shutting down":
		return true
	}
	return false
}

// recoverLeaderless brings the server up read-only, so that it can race.
func recoverLeaderless(o *Observation) Decision {
	m := &o.Memory
	switch {
	case o.ownLastBeat():
		return o.then(PublishReleased{}, TakeBackFinished)
	case o.Now < m.YieldUntil && o.others():
		return o.wait(m.YieldUntil.Sub(o.Now), HandOverYield)
	case o.claimsInitialize():
		return o.claimInitialize()
	case o.unclean(): // R5
		return o.begin(CrashRecovery{}, CrashRecoveryRunning)
	case o.Settings.Standby.On:
		return o.startStandbyLeader(o.Settings.Standby.Remote)
	}
	if left, due := o.retryDue(m.FailedStart); !due {
		return o.wait(left, StartRetryLater, o.Op.Error)
	}
	return o.begin(Start{}, StartReadOnly)
}

// ownLastBeat: the last leadership was this very node's, it was not marked as
// over, and its server is dead or in recovery now.
func (o *Observation) ownLastBeat() bool {
	st := o.DCS.Cluster.Status
	if st == nil || st.Beat == nil || st.Beat.Released || st.Beat.Holder != o.Me.Holder || o.Me.Holder == "" {
		return false
	}
	return o.ReadOnly()
}

// others tells whether any other member might take the leadership.
func (o *Observation) others() bool {
	for i := range o.DCS.Cluster.Members {
		mem := &o.DCS.Cluster.Members[i]
		if mem.Name != o.Me.Name && mem.APIURL != "" && !mem.NoFailover() {
			return true
		}
	}
	return false
}

// claimsInitialize: row E5, for a directory older than the cluster's keys. The claim
// of a bootstrap that etcd went back to is nobody's any more.
func (o *Observation) claimsInitialize() bool {
	i := o.DCS.Cluster.Initialize
	free := i == nil || i.SystemID != "" && !dcs.InitializeValid(i.SystemID) || i.SystemID == "" && i.ModRevision <= o.Memory.Seen.Stale
	return free && dcs.InitializeValid(o.PG.SystemID)
}

func (o *Observation) claimInitialize() Decision {
	return o.then(WriteInitialize{SystemID: o.PG.SystemID, Revision: initializeRevision(o.DCS.Cluster)}, ClaimsInitialize)
}

// recoverMember brings a stopped node back under another leader: compare,
// rewind or copy where the WAL went another way, then start.
func recoverMember(o *Observation) Decision {
	m := &o.Memory
	ref, known := o.reference(o.upstream(o.DCS.Cluster.LeaderName()))
	if d, done := rejoin(o, ref, known); done {
		return d
	}
	if left, due := o.retryDue(m.FailedStart); !due {
		return o.wait(left, StartRetryLater, o.Op.Error)
	}
	up := o.followed()
	return o.begin(Start{Upstream: up}, StartAsStandby, up.Member)
}

// rejoin is ha-behaviour 5.2 for a node that runs or not; done is false when
// nothing stands in the way of following the leader.
func rejoin(o *Observation, leader Upstream, ready bool) (d Decision, done bool) {
	m := &o.Memory
	down := o.PG.Process == ProcessDown
	if o.Settings.Standby.On && (!ready || m.Rewind == RewindFailed || !o.PG.CanRewind) {
		return d, false // nobody to compare with; and the remote may be the wrong one: no copy is given up for it
	}
	if m.Rewind == RewindFailed {
		if o.Settings.WipeOnRewindFailure || o.Settings.WipeOnDivergence || o.coveredByRestore() {
			if !ready { // S9: the last copy is never wiped
				return o.rest(SecondaryNoUpstream, leader.Member), down
			}
			return cloneDiverged(o, leader), true
		}
		return d, false
	}
	if !o.PG.CanRewind && !o.Settings.WipeOnDivergence && !o.coveredByRestore() || m.Rewind != RewindCheck && m.Rewind != RewindNeed {
		return d, false // 5.1: nothing could be done about a divergence
	}
	if !ready {
		return o.rest(SecondaryNoUpstream, leader.Member), down
	}
	if m.Rewind == RewindCheck {
		if down && o.unclean() && o.PG.CanRewind {
			return o.begin(CrashRecovery{}, CrashRecoveryRunning), true
		}
		if _, due := o.retryDue(m.FailedOp); !due && o.Op.Kind == OpCheckDivergence || m.undecided(o) {
			return d, false // could not be found out just now: follow, and ask again later
		}
		return o.begin(CheckDivergence{Leader: leader}, DivergenceChecking, leader.Member), true
	}
	switch {
	case o.PG.CanRewind && !leader.Checkpointed:
		return o.rest(RewindWaitsForLeader, leader.Member), true
	case o.PG.CanRewind && o.diskFault() != "": // it would leave a damaged directory
		return o.rest(DiskAwaited, o.diskFault()), true
	case o.PG.CanRewind:
		if left, due := o.retryDue(m.FailedOp); !due && o.Op.Kind == OpRewind {
			return o.wait(left, RewindRunning, leader.Member), true
		}
		if down && (o.unclean() || o.PG.Control.State == "in archive recovery" && !m.Recovered) {
			return o.begin(CrashRecovery{}, CrashRecoveryRunning), true
		}
		return stopOr(o, Rewind{From: leader}, RewindRunning, leader.Member), true
	default:
		return cloneDiverged(o, leader), true
	}
}

// cloneDiverged gives up a copy that went another way, for one of the leader's.
func cloneDiverged(o *Observation, leader Upstream) Decision {
	if r := o.order(); r != nil && o.PG.DataDir == DataDirPresent { // S9: the leader's copy may be gone soon
		return o.rest(RestoreAwaited, r.Member)
	}
	if o.Memory.Reinit.Held {
		return o.rest(CloneHeld)
	}
	if o.Settings.Pause { // 1.23.8: a leader that handed over comes back, but gives nothing up
		return o.rest(PausedLeaves, "its WAL and "+leader.Member+"'s went different ways; a new copy is made after the pause, or by a reinit")
	}
	if left, due := o.retryDue(o.Memory.FailedOp); !due && o.Op.Kind == OpClone {
		return o.wait(left, CloneRetryLater, o.Op.Error)
	}
	return stopOr(o, Clone{From: leader, Wipe: true}, ReinitDiverged, leader.Member)
}

// undecided: the last comparison ended without an answer less than a period ago.
func (m *Memory) undecided(o *Observation) bool {
	return o.Op.Kind == OpCheckDivergence && o.Op.Divergence == DivergenceUnknown && o.Op.Ended != 0 && o.Now.Sub(o.Op.Ended) < o.period()
}

// stopOr stops a running server first, and begins a once it is down.
func stopOr(o *Observation, a Action, r Reason, detail string) Decision {
	if o.PG.Process != ProcessDown {
		return o.begin(Stop{Mode: StopFast, Escalate: o.Settings.stopLimit()}, StopForRewind)
	}
	return o.begin(a, r, detail)
}

// starting is table B: the postmaster is alive and not accepting connections.
func starting(o *Observation) Decision {
	m := &o.Memory
	if o.holds() {
		if d, ok := handOverFault(o); ok {
			return d
		}
	}
	switch {
	case o.holds() && o.startOverdue() && m.CrashedPrimary != 0: // B2, B3
		m.Demoting = true
		d := o.giveUpIfSomebodyCan(StartTimeout, o.begin(Stop{Mode: StopImmediate}, StartTimeout))
		if _, stops := d.Action.(Stop); !stops {
			d.Memory.Demoting = false
		}
		return d
	case o.holds(): // B4
		return o.rest(StartingUp)
	case m.Primary && !o.PG.StandbySignal: // B1
		return o.begin(Stop{Mode: StopImmediate}, DemoteNoLock, "the server was starting as a primary")
	default: // B5
		return o.rest(StartingUp)
	}
}
