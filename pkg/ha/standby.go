package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// A standby cluster is one whose leader is a standby itself, of a server
// elsewhere: its remote (ha-behaviour 1.24). The leader key tells the members
// whom to follow, and the outside whom to ask; nobody in the cluster accepts
// writes, so the leash is not armed, and the deadline only says until when this
// node may call itself the leader.
//
// An epoch begins read-only and may become a primary's by a promotion, under the
// conditions that hold for every other (S6). It does not go back: a primary that
// becomes a standby gives its key back, with the word that nobody needs to wait
// for it, so that the leash and the hold-off never see two kinds of leader in one
// epoch.

// StandbyCluster are the values of the section standby_cluster that decisions
// depend on.
type StandbyCluster struct {
	On bool
	// Remote is whom the standby leader follows. Without an address it gets its WAL
	// from an archive alone.
	Remote Upstream
}

// RemoteMemory is what the remote was found to be.
type RemoteMemory struct {
	Asked Upstream // whom the rest is about
	// Answered: it said which system it is; Foreign: another one than ours.
	Answered, Foreign bool
}

// leadsStandby tells whether this node is the leader of a standby cluster.
func (o *Observation) leadsStandby() bool {
	return o.Settings.Standby.On && o.mayLead() && !o.Memory.Primary && o.PG.Process != ProcessDown
}

// followsRemote: the leader does, and while there is none whoever starts its
// server. A member that runs stays where it is until it knows better.
func (o *Observation) followsRemote() bool {
	if !o.Settings.Standby.On {
		return false
	}
	return o.Memory.Lease.Epoch != 0 || o.leaderIsMe() || o.DCS.Cluster.Leader == nil && o.PG.Process == ProcessDown
}

// followed is whom this node is to follow (ha-behaviour 1.14).
func (o *Observation) followed() Upstream {
	if o.followsRemote() {
		return o.Settings.Standby.Remote
	}
	up, _ := o.upstream(o.followName())
	return up
}

// reference is whose history counts: the leader's, in a standby cluster the
// remote's.
func (o *Observation) reference(leader Upstream, ready bool) (Upstream, bool) {
	if s := &o.Settings.Standby; s.On {
		return s.Remote, s.Remote.Host
	}
	return leader, ready
}

// leaderRole is the role that the leader's member key must show.
func (o *Observation) leaderRole() string {
	if o.Settings.Standby.On {
		return "standby_leader"
	}
	return "primary"
}

// reached is the timeline that a candidate must have reached. A standby cluster's
// timelines are made elsewhere, and its leader makes none.
func (o *Observation) reached() timeline {
	if o.Settings.Standby.On {
		return 0
	}
	return clusterTimeline(o.DCS.Cluster)
}

// leadStandby is row H3 of a standby cluster: the lock is held and renewed.
func leadStandby(o *Observation) Decision {
	if d, missing := o.repairKeys(); missing {
		return d
	}
	switch {
	case !o.PG.Known:
		return o.rest(LeaderNoQuery)
	case !o.PG.Row.InRecovery:
		return demoteCluster(o)
	case o.Leash.Armed != 0:
		return o.disarm()
	}
	if d, ok := handOverFault(o); ok {
		return d
	}
	if d, ok := manualFailover(o); ok {
		return d
	}
	if d, ok := followRemote(o); ok {
		return d
	}
	if o.replayStuck() { // F6
		return o.then(ResumeReplay{}, SecondaryResumes)
	}
	if d, stale := o.writeFailsafe(); stale {
		return d
	}
	if plan, stale := o.slotPlan(); stale {
		return o.then(plan, LeaderSlots)
	}
	return o.stays(StandbyNoAction)
}

// followRemote points a standby leader at its remote, unless that is a system of
// another kind, and sees to it that the WAL here is part of the remote's history.
func followRemote(o *Observation) (Decision, bool) {
	m, remote := &o.Memory, o.Settings.Standby.Remote
	if remote.Host {
		if d, ok := o.askRemote(m.Remote.Asked != remote || m.Remote.Foreign); ok {
			return d, true
		}
	}
	if m.Remote.Foreign && m.Remote.Asked == remote {
		return o.rest(StandbyRefused, remote.Member+": "+o.Op.Error), true
	}
	if d, repoint := o.repoint(); repoint {
		return d, true
	}
	if o.PG.Row.ReplicationState == "streaming" && m.Rewind == RewindCheck && m.undecided(o) {
		m.Rewind, m.RewindFor = RewindIdle, m.LastEpoch // the remote is a standby yet, and streams what comes after this
	}
	return rejoin(o, remote, remote.Host)
}

// askRemote asks the remote which system it is, if that is due.
func (o *Observation) askRemote(due bool) (d Decision, ok bool) {
	m, remote := &o.Memory, o.Settings.Standby.Remote
	if !due || m.Remote.Asked == remote && o.Op.Kind == OpCheckRemote && o.Now.Sub(o.Op.Ended) < o.period() {
		return d, false
	}
	m.Remote = RemoteMemory{Asked: remote}
	return o.begin(CheckRemote{Remote: remote}, StandbyAsks, remote.Member), true
}

// noteRemote takes in what the remote said.
func (o *Observation) noteRemote() {
	o.Memory.Remote.Answered = o.Op.Error == ""
	o.Memory.Remote.Foreign = o.Op.Foreign
}

// handOverLimit bounds the stop of a primary whose cluster becomes a standby: all
// of its WAL has to reach the other side, and a standby that is lost is given up
// by wal_sender_timeout long before.
const handOverLimit = 10 * time.Minute

// demoteCluster is row F4: the section standby_cluster appeared, and this node's
// server is a primary. It is stopped in good order, and only for a remote that
// was seen to be of this cluster: an address with a typing error must not cost
// the service.
func demoteCluster(o *Observation) Decision {
	m, remote := &o.Memory, o.Settings.Standby.Remote
	if remote.Host {
		if d, ok := o.askRemote(m.Remote.Asked != remote || !m.Remote.Answered); ok {
			return d
		}
		if m.Remote.Asked != remote || !m.Remote.Answered {
			return o.rest(StandbyRefused, remote.Member+": "+o.Op.Error)
		}
	}
	if left, due := o.retryDue(m.FailedOp); !due && o.Op.Kind == OpStop {
		return o.wait(left, StandbyRefused, remote.Member+": "+o.Op.Error)
	}
	m.Demoting = true
	m.armRewind()
	return o.begin(Stop{Mode: StopFast, Checkpoint: true, Escalate: handOverLimit, Archive: true}, StandbyDemotes, remote.Member)
}

// recoverStandbyLeader brings the server of a standby leader up.
func recoverStandbyLeader(o *Observation) Decision {
	m, remote := &o.Memory, o.Settings.Standby.Remote
	switch {
	case o.Leash.Armed != 0 || o.wasPrimary(): // the epoch was a primary's
		return o.then(o.release(), HandOverStops)
	case m.FailedTries > 0 && o.order() == nil:
		return o.then(o.release(), StartFailedRelease, o.Op.Error)
	}
	return o.startStandbyLeader(remote)
}

// startStandbyLeader starts a server that is down as a standby of the remote,
// rewound if it must be (R9, R10).
func (o *Observation) startStandbyLeader(remote Upstream) Decision {
	if d, done := rejoin(o, remote, remote.Host); done {
		return d
	}
	if left, due := o.retryDue(o.Memory.FailedStart); !due {
		return o.wait(left, StartRetryLater, o.Op.Error)
	}
	return o.begin(Start{Upstream: remote}, StandbyStarts, remote.Member)
}

// clonesRemote: the last member of a standby cluster has lost its copy, and the
// remote has one.
func (o *Observation) clonesRemote() bool {
	i := o.DCS.Cluster.Initialize
	return o.Settings.Standby.On && o.Settings.Standby.Remote.Host && !o.others() && i != nil && dcs.InitializeValid(i.SystemID)
}

// pausedStandby is what a standby leader does in pause.
func pausedStandby(o *Observation) Decision {
	if d, ok := manualFailover(o); ok {
		return d
	}
	if d, repoint := o.repoint(); repoint {
		return d
	}
	if d, stale := o.writeFailsafe(); stale {
		return d
	}
	if plan, stale := o.slotPlan(); stale { // 1.23.16
		return o.then(plan, LeaderSlots)
	}
	return o.rest(PausedNoAction, ", the standby leader with the lock")
}
