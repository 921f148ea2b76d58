package ha

import "github.com/pgha/pgha/pkg/dcs"

// paused is maintenance mode (ha-behaviour 1.23): PostgreSQL is left alone.
// Nothing is started, stopped or promoted, except what an operator names.
func paused(o *Observation) Decision {
	m := &o.Memory
	m.WasPaused = true
	mine := o.leaderIsMe()
	switch {
	case o.PG.DataDir != DataDirPresent: // 9, D2x
		if mine {
			return o.then(o.releaseKey(o.PG.Process == ProcessDown), DataDirRelease)
		}
		return o.rest(PausedLeaves, "there is no usable data directory")
	case mine && m.Lease.Epoch == 0:
		return takeBackPaused(o)
	case o.foreign(): // E3
		if mine {
			return o.then(o.releaseKey(false), PausedReleases, "the system identifier is another cluster's")
		}
		return o.rest(PausedLeaves, "the system identifier is another cluster's")
	case o.PG.Process == ProcessDown: // 8, G1
		if mine {
			return o.then(o.releaseKey(true), PausedReleases, "the server is down")
		}
		if m.ComeBack {
			return comeBack(o)
		}
		return o.rest(PausedLeaves, "the server is down")
	case !o.PG.Known: // 11
		return o.rest(PausedLeaves, "the server does not answer")
	case o.mustSuspend(): // B.6
		return o.then(SuspendLeash{}, PausedSuspends)
	case mine:
		return pausedLeader(o)
	case o.DCS.Cluster.Leader == nil:
		return pausedLeaderless(o)
	case !o.PG.Row.InRecovery: // 4
		return o.rest(PausedLeaves, "it runs as a primary without the lock")
	}
	if d, repoint := o.repoint(); repoint { // 12
		return d
	}
	if plan, stale := o.slotPlan(); stale { // 16
		return o.then(plan, SecondarySlots)
	}
	return o.rest(PausedNoAction, "")
}

func (o *Observation) mustSuspend() bool {
	return !o.Settings.LeashOff && o.Leash.Attached && o.Leash.Binds()
}

func takeBackPaused(o *Observation) Decision {
	if o.PG.Process == ProcessDown {
		return o.then(o.releaseKey(true), PausedReleases, "the server is down")
	}
	return o.then(TakeBack{Epoch: o.DCS.Cluster.Leader.Epoch}, TakeBackOwn)
}

func pausedLeader(o *Observation) Decision {
	if d, missing := o.repairKeys(); missing { // S6, S7
		return d
	}
	f := o.DCS.Cluster.Failover
	if o.PG.Row.InRecovery && o.Settings.Standby.On {
		return pausedStandby(o)
	}
	if o.PG.Row.InRecovery {
		if o.PG.Row.Timeline < clusterTimeline(o.DCS.Cluster) {
			return o.then(o.releaseKey(o.ReadOnly()), PausedReleases, "my timeline is older than the cluster's") // S2
		}
		if o.wanted() || f != nil && f.Candidate == o.Me.Name { // 7, H1
			if left, due := o.retryDue(o.Memory.FailedOp); !due && o.Op.Kind == OpPromote {
				return o.wait(left, LeaderPromoting, o.Op.Error)
			}
			o.Memory.Promoting = true
			return o.begin(Promote{From: o.PG.Row.Timeline, Timeline: o.nextTimeline(), Until: o.Memory.Lease.Deadline}, PausedPromotes)
		}
		return o.then(o.releaseKey(o.ReadOnly()), PausedReleases, "the server was demoted by hand") // 6, H2
	}
	if d, ok := manualFailover(o); ok {
		return d
	}
	if d, ok := keepSync(o); ok { // 23
		return d
	}
	if d, stale := o.writeFailsafe(); stale {
		return d
	}
	if lines, stale := o.historyLines(); stale {
		return o.then(WriteHistory{Lines: lines}, LeaderWritesHistory)
	}
	if plan, stale := o.slotPlan(); stale { // 16
		return o.then(plan, LeaderSlots)
	}
	const why = ", the leader with the lock"
	if o.syncSettles() {
		return o.wait(syncLook, PausedNoAction, why)
	}
	return o.untilSilent(o.rest(PausedNoAction, why))
}

func pausedLeaderless(o *Observation) Decision {
	if o.orderedElsewhere() {
		return o.rest(PausedNoAction, ", there is no leader: "+o.DCS.Cluster.Restore.Member+" is to restore the cluster after the pause")
	}
	i := o.DCS.Cluster.Initialize
	known := i == nil || i.SystemID == "" || !dcs.InitializeValid(i.SystemID) || i.SystemID == o.PG.SystemID
	f := o.raceRequest()
	switch {
	case !o.PG.Row.InRecovery && f != nil && f.Candidate != "" && f.Candidate != o.Me.Name && o.DCS.Cluster.Member(f.Candidate) == nil: // 20
		return o.then(CleanFailover{Revision: f.ModRevision}, FailoverCleaned, f.Candidate+" is no member any more")
	case !o.PG.Row.InRecovery && f != nil && f.Candidate != "" && f.Candidate != o.Me.Name: // 2.4
		return o.rest(PausedNoAction, ", leaving it to the requested candidate "+f.Candidate)
	case (!o.PG.Row.InRecovery || o.wanted()) && o.PG.Row.Timeline < o.reached(): // S2, whoever named or promoted it
		return o.rest(PausedNoAction, ", there is no leader, and my timeline is older than the cluster's")
	case o.overtaken():
		return o.rest(PausedNoAction, ", there is no leader, and a later one may have made a timeline above mine")
	case o.unlisted(o.Me.Name) && (!o.PG.Row.InRecovery || o.wanted()):
		return o.rest(PausedNoAction, ", there is no leader, and one that lives by the members of /failsafe would not hear of me: I am not in it")
	case !o.PG.Row.InRecovery && known && o.Memory.holdOff(o) == 0: // 3
		return o.then(Claim{}, ElectionWins)
	case o.wanted() && o.DCS.Cluster.Failover.ScheduledAt.IsZero() && !o.Settings.NoFailover: // 2, 2.1.2
		return o.then(Claim{}, ElectionWins)
	}
	return o.rest(PausedNoAction, ", there is no leader")
}
