package ha

import (
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
)

var theRemote = Upstream{Member: "192.0.2.9:5432", ConnURL: "remote://192.0.2.9:5432/", Checkpointed: true, Remote: true, Host: true}

// standbyOf: the cluster is a standby of the remote, which is known to be of it.
func standbyOf(o *Observation) {
	o.Settings.Standby = StandbyCluster{On: true, Remote: theRemote}
	o.Memory.Remote = RemoteMemory{Asked: theRemote, Answered: true}
	for i := range o.DCS.Cluster.Members {
		if m := &o.DCS.Cluster.Members[i]; m.Role == "primary" {
			m.Role = "standby_leader"
		}
	}
}

// standbyLeads: n1 leads a standby cluster and streams from the remote.
func standbyLeads(o *Observation) {
	standbyOf(o)
	o.PG.Row = Row{InRecovery: true, Timeline: 3, Position: 1000, Receive: 1000, Replay: 1000, ReplicationState: "streaming"}
	o.PG.StandbySignal, o.PG.Control.State = true, "in archive recovery"
	o.PG.Upstream, o.PG.UpstreamURL = theRemote.Member, theRemote.ConnURL
	o.Leash.Armed, o.Leash.Highest = 0, 50
	o.Memory.Primary = false
}

// archiveOnly: there is nobody to stream from.
func archiveOnly(o *Observation) {
	r := Upstream{Member: "an archive", ConnURL: "remote://an archive/", Remote: true}
	o.Settings.Standby.Remote = r
	o.PG.Upstream, o.PG.UpstreamURL = r.Member, r.ConnURL
}

func TestStandbyLeader(t *testing.T) { // ha-behaviour 1.24
	runTable(t, []row{
		{name: "nothing to do", change: standbyLeads, reason: StandbyNoAction},
		{name: "never promotes, whatever the timelines", change: func(o *Observation) {
			standbyLeads(o)
			o.DCS.Cluster.Status.Beat.Timeline = 2
		}, reason: StandbyNoAction},
		{name: "needs no watchdog", change: func(o *Observation) { standbyLeads(o); unwatched(o) }, reason: StandbyNoAction},
		{name: "an armed leash would end it", change: func(o *Observation) { standbyLeads(o); o.Leash.Armed = myEpoch }, action: DisarmLeash{}, reason: SecondaryDisarms},
		{name: "another remote: asks it first", change: func(o *Observation) { standbyLeads(o); o.Memory.Remote = RemoteMemory{} },
			action: CheckRemote{}, reason: StandbyAsks, check: wants(CheckRemote{Remote: theRemote})},
		{name: "which is of another system: stays", change: func(o *Observation) {
			standbyLeads(o)
			o.PG.Upstream = "n2"
			ended(o, OpCheckRemote, "it has another system identifier")
			o.Op.Foreign = true
		}, reason: StandbyRefused},
		{name: "which does not answer: PostgreSQL goes on trying", change: func(o *Observation) {
			standbyLeads(o)
			o.PG.Upstream = "n2"
			ended(o, OpCheckRemote, "connection refused")
		}, action: Follow{}, reason: SecondaryFollows, check: wants(Follow{Upstream: theRemote})},
		{name: "an archive alone is not asked", change: func(o *Observation) { standbyLeads(o); archiveOnly(o); o.Memory.Remote = RemoteMemory{} }, reason: StandbyNoAction},
		{name: "and not compared with", change: func(o *Observation) { standbyLeads(o); archiveOnly(o); o.Memory.armRewind() }, reason: StandbyNoAction},
		{name: "compares with the remote", change: func(o *Observation) {
			standbyLeads(o)
			o.PG.Row.ReplicationState = "in archive recovery"
			o.Memory.armRewind()
		}, action: CheckDivergence{}, reason: DivergenceChecking, check: wants(CheckDivergence{Leader: theRemote})},
		{name: "streams, and the remote is no primary yet: that will do", change: func(o *Observation) {
			standbyLeads(o)
			o.Memory.armRewind()
			ended(o, OpCheckDivergence, "it is in recovery")
		}, reason: StandbyNoAction},
		{name: "diverged: is stopped to be rewound", change: func(o *Observation) { standbyLeads(o); o.Memory.Rewind = RewindNeed }, action: Stop{}, reason: StopForRewind},
		{name: "rewinds from the remote", change: func(o *Observation) {
			standbyLeads(o)
			down(o, "shut down in recovery")
			o.Memory.Rewind = RewindNeed
		}, action: Rewind{}, reason: RewindRunning, check: wants(Rewind{From: theRemote})},
		{name: "is started as a standby of the remote", change: func(o *Observation) { standbyLeads(o); down(o, "shut down in recovery") },
			action: Start{}, reason: StandbyStarts, check: wants(Start{Upstream: theRemote})},
		{name: "a failed start ends it", change: func(o *Observation) {
			standbyLeads(o)
			down(o, "shut down in recovery")
			ended(o, OpStartStandby, "bad setting")
		}, action: Release{}, reason: StartFailedRelease},
		{name: "replay that stands still is resumed", change: func(o *Observation) { standbyLeads(o); o.PG.Row.ReplayPaused, o.PG.ServerVersion = true, 150000 },
			action: ResumeReplay{}, reason: SecondaryResumes},
		{name: "its replicas get slots", change: func(o *Observation) {
			standbyLeads(o)
			o.Settings.UseSlots, o.Settings.MemberSlotsTTL = true, 0
			o.PG.Slots = map[string]SlotState{}
		}, action: SyncSlots{}, reason: LeaderSlots},
		{name: "a switchover needs no stop", change: func(o *Observation) {
			standbyLeads(o)
			failover(o, "n1", "n2")
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, action: Release{}, reason: StandbyHandsOver, check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "in pause, too", change: func(o *Observation) {
			standbyLeads(o)
			paused3(o)
			failover(o, "n1", "n2")
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, action: Release{}, reason: StandbyHandsOver},
		{name: "in pause it keeps the lock", change: func(o *Observation) { standbyLeads(o); paused3(o); o.Leash = Leash{} }, reason: PausedNoAction},
		{name: "nothing is restored", change: func(o *Observation) {
			standbyLeads(o)
			o.DCS.Cluster.Restore = &dcs.Restore{ID: "r1", State: dcs.RestoreRequested, Member: "n1"}
		}, action: WriteRestore{}, reason: RestoreFails},
		{name: "after an agent's restart it takes its lock back", change: func(o *Observation) { standbyLeads(o); lost(o) }, action: TakeBack{}, reason: TakeBackOwn},
	})
}

func TestDemoteCluster(t *testing.T) { // F4
	demoted := func(o *Observation) { standbyOf(o); mem(o, "n1").Role = "primary" }
	runTable(t, []row{
		{name: "asks the remote first", change: func(o *Observation) { demoted(o); o.Memory.Remote = RemoteMemory{} }, action: CheckRemote{}, reason: StandbyAsks},
		{name: "goes on as a primary beside another system", change: func(o *Observation) {
			demoted(o)
			o.Memory.Remote = RemoteMemory{Asked: theRemote}
			ended(o, OpCheckRemote, "it has another system identifier")
			o.Op.Foreign = true
		}, reason: StandbyRefused},
		{name: "and asks again after a period", change: func(o *Observation) {
			demoted(o)
			o.Memory.Remote = RemoteMemory{Asked: theRemote}
			ended(o, OpCheckRemote, "connection refused")
			o.Op.Ended = plus(-10 * sec)
		}, action: CheckRemote{}, reason: StandbyAsks},
		{name: "stops in good order", change: demoted, action: Stop{}, reason: StandbyDemotes,
			check: wants(Stop{Mode: StopFast, Checkpoint: true, Escalate: handOverLimit, Archive: true})},
		{name: "without a host at once", change: func(o *Observation) { demoted(o); archiveOnly(o) }, action: Stop{}, reason: StandbyDemotes},
		{name: "not in pause", change: func(o *Observation) { demoted(o); paused3(o) }, reason: PausedNoAction},
		{name: "stopped: gives its epoch back", change: func(o *Observation) {
			demoted(o)
			down(o, "shut down")
			o.Memory.Demoting = true
		}, action: Release{}, reason: HandOverStops},
		{name: "crashed meanwhile: too", change: func(o *Observation) { demoted(o); down(o, "in production") }, action: Release{}, reason: HandOverStops},
		{name: "and comes up behind the remote", change: func(o *Observation) {
			leaderless(o)
			standbyOf(o)
			down(o, "shut down")
			o.PG.StandbySignal = false
		}, action: Start{}, reason: StandbyStarts, check: wants(Start{Upstream: theRemote})},
	})
}

func TestStandbyMembers(t *testing.T) {
	follows := func(o *Observation) { replica(o); standbyOf(o) }
	runTable(t, []row{
		{name: "follows the standby leader", change: follows, reason: SecondaryOfStandby},
		{name: "not one that is a primary yet", change: func(o *Observation) { follows(o); mem(o, "n2").Role = "primary" }, reason: SecondaryNoUpstream},
		{name: "compares with the remote, not with the leader", change: func(o *Observation) {
			follows(o)
			o.PG.Row.ReplicationState = "in archive recovery"
			o.Memory.armRewind()
		}, action: CheckDivergence{}, reason: DivergenceChecking, check: wants(CheckDivergence{Leader: theRemote})},
		{name: "no copy is given up for the remote", change: func(o *Observation) {
			follows(o)
			o.Memory.Rewind, o.Settings.WipeOnDivergence, o.PG.CanRewind = RewindNeed, true, false
		}, reason: SecondaryOfStandby},
		{name: "is started behind the leader", change: func(o *Observation) { follows(o); down(o, "shut down in recovery") }, action: Start{}, reason: StartAsStandby},
		{name: "an empty one is a copy of the leader", change: func(o *Observation) { follows(o); down(o, ""); o.PG.DataDir = DataDirEmpty }, action: Clone{}, reason: CloneRuns,
			check: wants(Clone{From: Upstream{Member: "n2", ConnURL: "postgres://n2:5432/postgres", Checkpointed: true}})},
		{name: "races without regard to timelines", change: func(o *Observation) {
			leaderless(o)
			standbyOf(o)
			o.DCS.Cluster.Status.Beat.Timeline = 2
		}, action: Claim{}, reason: ElectionWins},
		{name: "waits for nobody who has more: the remote has", change: func(o *Observation) {
			leaderless(o)
			standbyOf(o)
			o.DCS.Cluster.Status.Beat.Released = true
			o.PG.Row.Position = 900
			answered(o, Peer{}, standbyPeer(900))
		}, action: Claim{}, reason: ElectionWins},
		{name: "the last one, and empty: a copy of the remote", change: func(o *Observation) {
			leaderless(o)
			standbyOf(o)
			o.DCS.Cluster.Members = []dcs.Member{member("n1", "replica")}
			down(o, "")
			o.PG.DataDir = DataDirEmpty
		}, action: Clone{}, reason: CloneRuns, check: wants(Clone{From: theRemote})},
	})
}

func TestStandbyBootstrap(t *testing.T) {
	fresh := func(o *Observation) {
		standbyOf(o)
		o.DCS.Cluster.Leader, o.DCS.Cluster.Members = nil, nil
		down(o, "")
		o.PG.DataDir, o.PG.SystemID = DataDirEmpty, ""
		o.Leash, o.Memory = Leash{}, Memory{}
	}
	runTable(t, []row{
		{name: "D5x the race", change: func(o *Observation) { fresh(o); o.DCS.Cluster.Initialize = nil; unwatched(o) }, action: WriteInitialize{}, reason: BootstrapClaims},
		{name: "the winner copies the remote", change: func(o *Observation) { fresh(o); o.Memory.Bootstrap = BootstrapWon }, action: Bootstrap{}, reason: StandbyBootstraps, check: wants(Bootstrap{From: theRemote})},
		{name: "goes on after a crash", change: func(o *Observation) {
			fresh(o)
			o.DCS.Cluster.Initialize.SystemID = ""
			o.PG.DataDir = DataDirHalfMade
		}, reason: BootstrapResumes},
		{name: "its roles came with the copy", change: func(o *Observation) {
			standbyLeads(o)
			o.DCS.Cluster.Initialize.SystemID = ""
			o.Memory.Bootstrap = BootstrapWon
			ended(o, OpBootstrap, "")
		}, action: WriteInitialize{}, reason: BootstrapPublishes},
		{name: "the leash is not needed", change: func(o *Observation) { standbyLeads(o); o.Memory.Bootstrap = BootstrapRoles }, reason: BootstrapLeader},
		{name: "E4 an etcd that was made anew", change: func(o *Observation) {
			leaderless(o)
			standbyOf(o)
			o.DCS.Cluster.Initialize, o.Memory.LastEpoch = nil, 0
		}, action: WriteInitialize{}, reason: ClaimsInitialize},
	})
}

// TestPromoteCluster: without the section a standby leader is one like any other.
func TestPromoteCluster(t *testing.T) {
	removed := func(o *Observation) { standbyLeads(o); o.Settings.Standby = StandbyCluster{} }
	runTable(t, []row{
		{name: "arms the leash first", change: removed, action: ArmLeash{}, reason: LeaderArming},
		{name: "publishes the number of its timeline", change: func(o *Observation) { removed(o); o.Leash.Armed = myEpoch }, action: Renew{}, reason: LeaseRenewal},
		{name: "S2 promotes past it", change: func(o *Observation) {
			removed(o)
			o.Leash.Armed = myEpoch
			o.DCS.Cluster.Status.Beat.Next = 4
		}, action: Promote{}, reason: LeaderPromotes, check: wants(Promote{From: 3, Timeline: 4, Until: base().Memory.Lease.Deadline})},
		{name: "S2 not behind what this cluster once had", change: func(o *Observation) {
			removed(o)
			o.Leash.Armed = myEpoch
			o.DCS.Cluster.Status.Beat.Timeline = 5
		}, action: Release{}, reason: LeaderBehind},
	})
}

// TestStandbyPublishes: what others read of a standby leader.
func TestStandbyPublishes(t *testing.T) {
	o := base()
	standbyLeads(o)
	o.PG.Row.Position = 2000
	d := decide(o)
	v := NewView(o, &d)
	if !v.IsLeader(o.Now) || v.Role != "standby_leader" || MemberDocument(o).Role != "standby_leader" {
		t.Errorf("leads %v as %s", v.Leading, v.Role)
	}
	st := NextStatus(o, noon, o.Memory.Lease.Timing)
	if st.Optime != 2000 || st.Beat.Next != 0 {
		t.Errorf("optime %s, next timeline %d", st.Optime, st.Beat.Next)
	}
	if c := d.Callbacks; len(c) != 1 || c[0].Role != "standby_leader" {
		t.Errorf("callbacks %v", c)
	}
	o.Memory.Lease = Lease{}
	if o.Role() != "replica" {
		t.Errorf("without the lock it is a %s", o.Role())
	}
}
