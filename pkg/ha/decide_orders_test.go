package ha

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

func TestSwitchover(t *testing.T) { // 1.12, 1.18, 2.5
	good := func(o *Observation) { answered(o, standbyPeer(1000), standbyPeer(1000)) }
	runTable(t, []row{
		{name: "M1 empty request", change: func(o *Observation) { failover(o, "", "") }, reason: LeaderNoAction},
		{name: "M2 not due yet", change: func(o *Observation) { failover(o, "n1", "n2").ScheduledAt = o.Wall.Add(sec) }, reason: LeaderNoAction},
		{name: "M2 due", change: func(o *Observation) { good(o); failover(o, "n1", "n2").ScheduledAt = o.Wall }, action: Stop{}, reason: HandOver},
		{name: "M2 stale", change: func(o *Observation) { good(o); failover(o, "n1", "n2").ScheduledAt = o.Wall.Add(-16 * sec) }, action: CleanFailover{}, reason: FailoverCleaned,
			check: wants(CleanFailover{Revision: 128})},
		{name: "M2 a time that cannot be read", change: func(o *Observation) { failover(o, "n1", "n2").Bad = true }, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "M3 names another source", change: func(o *Observation) { good(o); failover(o, "n3", "n2") }, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "M4 names me as the candidate", change: func(o *Observation) { good(o); failover(o, "", "n1") }, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "M6 nobody is eligible", change: func(o *Observation) { answered(o, Peer{}, Peer{}); failover(o, "n1", "") }, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "M6 the candidate lags", change: func(o *Observation) {
			o.PG.Row.Position = 1001 + 1<<20
			good(o)
			failover(o, "n1", "n2")
		}, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "M6/2.5 the candidate's timeline is old: it would refuse", change: func(o *Observation) {
			good(o)
			o.PG.Row.Timeline = 2
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1, NewLeader: "n1"}}}
			failover(o, "n1", "n2")
		}, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "M6/2.5 the candidate is nofailover", change: func(o *Observation) {
			good(o)
			mem(o, "n2").Tags = dcs.Tags{{Name: "nofailover", Value: true}}
			failover(o, "n1", "n2")
		}, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "2.5 candidates are asked", change: func(o *Observation) { failover(o, "n1", "") }, action: AskPeers{}, reason: SwitchoverAsks,
			check: func(t *testing.T, d Decision) {
				if a := d.Action.(AskPeers); len(a.Await) != 2 || a.Timeout != 2*sec {
					t.Errorf("asks %v for %v", a.Await, a.Timeout)
				}
			}},
		{name: "2.5 only the one that counts", change: func(o *Observation) { failover(o, "n1", "n3") }, action: AskPeers{}, reason: SwitchoverAsks,
			check: func(t *testing.T, d Decision) {
				if a := d.Action.(AskPeers); len(a.Await) != 1 || a.Await[0].Name != "n3" {
					t.Errorf("asks %v", a.Await)
				}
			}},
		{name: "M7 switchover: stops gracefully", change: func(o *Observation) { good(o); failover(o, "n1", "n2") }, action: Stop{}, reason: HandOver,
			check: func(t *testing.T, d Decision) {
				wants(Stop{Mode: StopFast, Checkpoint: true, Escalate: 60 * sec})(t, d)
				if !d.Memory.Demoting {
					t.Error("not demoting")
				}
			}},
		{name: "M7 manual failover", change: func(o *Observation) { good(o); failover(o, "", "n3") }, action: Stop{}, reason: HandOver},
		{name: "U1 first things first: the promotion", change: func(o *Observation) { standbyLeaderToBe(o); failover(o, "n2", "n1") }, action: Promote{From: 1, Timeline: 2}, reason: LeaderPromotes},
		{name: "U1 then the request is cleaned", change: func(o *Observation) { failover(o, "n2", "n1") }, action: CleanFailover{}, reason: FailoverCleaned,
			check: func(t *testing.T, d Decision) {
				if d.Detail != "it is fulfilled" {
					t.Errorf("because %q", d.Detail)
				}
			}},
		{name: "U1 also when it named no candidate", change: func(o *Observation) {
			did(o, Claim{}, ResultOK)
			o.Memory.LastLeader, o.Last.Epoch = "n2", myEpoch
			o.DCS.Cluster.Status = &dcs.Status{ModRevision: myEpoch, Beat: &dcs.Beat{Holder: "h1", TTL: 30000}}
			failover(o, "n2", "")
		}, action: CleanFailover{}, reason: FailoverCleaned, check: func(t *testing.T, d Decision) {
			if d.Detail != "it is fulfilled" {
				t.Errorf("because %q", d.Detail)
			}
		}},
		{name: "1.12 a request that cannot be cleaned does not stop the leader", change: func(o *Observation) {
			good(o)
			failover(o, "n3", "n2")
			did(o, CleanFailover{Revision: 128}, ResultConflict)
		}, reason: LeaderNoAction},
	})
}

func TestPaused(t *testing.T) { // 1.23, G1, H1, H2, H4
	no := func(o *Observation) { o.DCS.Cluster.Leader = nil; lost(o); o.Memory.Leaderless = plus(-sec) }
	runTable(t, []row{
		{name: "1.23.1 the leash is suspended", change: func(o *Observation) { o.Settings.Pause = true }, action: SuspendLeash{}, reason: PausedSuspends},
		{name: "1.23 the leader keeps the lock", change: paused3, reason: PausedNoAction},
		{name: "1.23.5/H4 renewal fails for long: nothing is demoted", change: func(o *Observation) {
			paused3(o)
			o.Now = o.Memory.Lease.Deadline.Add(sec)
			o.Memory.Lease.Attempt = o.Now
		}, reason: PausedNoAction},
		{name: "1.23.2 a standby never wins by itself", change: func(o *Observation) { leaderless(o); paused3(o) }, reason: PausedNoAction},
		{name: "1.23.2 a named candidate does", change: func(o *Observation) { leaderless(o); paused3(o); failover(o, "", "n1") }, action: Claim{}, reason: ElectionWins},
		{name: "2.1.9 nor one that a leader in the failsafe mode would not ask", change: func(o *Observation) {
			leaderless(o)
			paused3(o)
			failover(o, "", "n1")
			o.Settings.Failsafe, o.DCS.Cluster.Failsafe = true, &dcs.Failsafe{Members: map[string]string{"n2": "http://n2:8008/patroni"}}
		}, reason: PausedNoAction},
		{name: "1.23.2 not by a schedule", change: func(o *Observation) {
			leaderless(o)
			paused3(o)
			failover(o, "n2", "n1").ScheduledAt = o.Wall.Add(sec)
		}, reason: PausedNoAction},
		{name: "2.1.2 not with nofailover", change: func(o *Observation) {
			leaderless(o)
			paused3(o)
			o.Settings.NoFailover = true
			failover(o, "", "n1")
		}, reason: PausedNoAction},
		{name: "1.23.3 a running primary takes a free lock", change: func(o *Observation) {
			paused3(o)
			no(o)
			o.DCS.Cluster.Status.Beat = nil
		}, action: Claim{}, reason: ElectionWins},
		{name: "1.23.3 nor below one that a later claim announced", change: func(o *Observation) {
			paused3(o)
			no(o)
			o.DCS.Cluster.Status.Beat.Released, o.DCS.Cluster.Status.Beat.Holder, o.DCS.Cluster.Status.Beat.Next = true, "h2", 2
		}, reason: PausedNoAction},
		{name: "1.23.3 not on a timeline that was left", change: func(o *Observation) { // S2: all others would take its word for etcd going back
			paused3(o)
			no(o)
			o.DCS.Cluster.Status.Beat.Released, o.DCS.Cluster.Status.Beat.Timeline = true, 2
		}, reason: PausedNoAction},
		{name: "1.23.3 after the hold-off", change: func(o *Observation) { paused3(o); no(o) }, reason: PausedNoAction},
		{name: "1.23.4 a primary without the lock goes on", change: func(o *Observation) { paused3(o); lost(o); o.DCS.Cluster.Leader.Name = "n2" }, reason: PausedLeaves},
		{name: "1.23.6/H2 demoted by hand: release", change: func(o *Observation) { paused3(o); o.PG.Row.InRecovery = true }, action: Release{}, reason: PausedReleases},
		{name: "1.23.6/G1 server down: release", change: func(o *Observation) { paused3(o); down(o, "shut down") }, action: Release{}, reason: PausedReleases},
		{name: "1.23.7/H1 candidate is me: promotes", change: func(o *Observation) { paused3(o); o.PG.Row.InRecovery = true; failover(o, "", "n1") }, action: Promote{}, reason: PausedPromotes,
			check: wants(Promote{From: 1, Timeline: 2, Until: base().Memory.Lease.Deadline})},
		{name: "1.23.7 a failed promotion is repeated once per period", change: func(o *Observation) {
			paused3(o)
			o.PG.Row.InRecovery = true
			failover(o, "", "n1")
			ended(o, OpPromote, "no")
		}, reason: LeaderPromoting},
		{name: "1.23.8/G2 server down: left down", change: func(o *Observation) { replica(o); paused3(o); down(o, "shut down") }, reason: PausedLeaves},
		{name: "1.23.9/D2x directory gone: release", change: func(o *Observation) { paused3(o); down(o, ""); o.PG.DataDir = DataDirEmpty }, action: Release{}, reason: DataDirRelease},
		{name: "1.23.11 starting server is left", change: func(o *Observation) { replica(o); paused3(o); o.PG.Process, o.PG.Known = ProcessStarting, false }, reason: PausedLeaves},
		{name: "1.23.12 replicas still re-point", change: func(o *Observation) { replica(o); paused3(o); upstream(o, "n3") }, action: Follow{}, reason: SecondaryFollows},
		{name: "1.23.12 with nobody to follow they stay", change: func(o *Observation) { leaderless(o); paused3(o) }, reason: PausedNoAction},
		{name: "1.23.17/M5 a switchover needs a candidate", change: func(o *Observation) { paused3(o); failover(o, "n1", "") }, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "1.23.17/M2 a scheduled one waits", change: func(o *Observation) { paused3(o); failover(o, "n1", "n2").ScheduledAt = o.Wall.Add(-time.Hour) }, reason: PausedNoAction},
		{name: "1.23.18/M7 to a candidate it works", change: func(o *Observation) {
			paused3(o)
			failover(o, "n1", "n2")
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, action: Stop{}, reason: HandOver},
		{name: "1.23.19 SIGTERM leaves PostgreSQL running", change: func(o *Observation) { paused3(o); o.Stopping = true }, action: Exit{}, reason: Stopped},
		{name: "1.23 synchronous replication is kept up", change: func(o *Observation) {
			paused3(o)
			o.Settings.Sync = SyncSettings{Mode: config.SyncOn, Count: 1, MaxLag: -1}
			o.DCS.Cluster.Sync = &dcs.Sync{Leader: "n0", Standbys: []string{"n2"}, ModRevision: 125}
		}, action: WriteSync{}, reason: SyncPublishes, check: wants(WriteSync{Sync: dcs.Sync{Leader: "n1", ModRevision: 125}})},
		{name: "1.23 restarted agent renews", change: func(o *Observation) { paused3(o); lost(o) }, action: TakeBack{}, reason: TakeBackOwn},
		{name: "1.23 restarted agent, server down: release", change: func(o *Observation) { paused3(o); lost(o); down(o, "shut down") }, action: Release{}, reason: PausedReleases},
		{name: "1.23.8 a leader that handed over comes back", change: func(o *Observation) {
			replica(o)
			paused3(o)
			down(o, "shut down")
			o.PG.StandbySignal, o.Memory.ComeBack = false, true
		}, action: Start{}, reason: StartAsStandby, check: wants(Start{Upstream: Upstream{Member: "n2", ConnURL: "postgres://n2:5432/postgres", Checkpointed: true}})},
		{name: "1.23.8 after a comparison", change: func(o *Observation) {
			replica(o)
			paused3(o)
			down(o, "shut down")
			o.Memory.ComeBack, o.Memory.Rewind = true, RewindCheck
		}, action: CheckDivergence{}, reason: DivergenceChecking},
		{name: "1.23.8 rewound where needed", change: func(o *Observation) {
			replica(o)
			paused3(o)
			down(o, "shut down")
			o.Memory.ComeBack, o.Memory.Rewind = true, RewindNeed
		}, action: Rewind{}, reason: RewindRunning},
		{name: "1.23.8 nothing is given up for it", change: func(o *Observation) {
			replica(o)
			paused3(o)
			down(o, "shut down")
			o.Memory.ComeBack, o.Memory.Rewind, o.Settings.WipeOnRewindFailure = true, RewindFailed, true
		}, reason: PausedLeaves},
		{name: "1.23.8 the leash lets it go first", change: func(o *Observation) {
			replica(o)
			paused3(o)
			down(o, "shut down")
			o.Memory.ComeBack, o.Leash.Armed = true, myEpoch
		}, action: DisarmLeash{}, reason: SecondaryDisarms},
		{name: "1.23.8 others go first", change: func(o *Observation) {
			leaderless(o)
			paused3(o)
			down(o, "shut down")
			o.Memory.ComeBack, o.Memory.YieldUntil = true, plus(sec)
		}, reason: HandOverYield},
		{name: "1.23.8 when nobody takes over, it is open for reading", change: func(o *Observation) {
			leaderless(o)
			paused3(o)
			down(o, "shut down")
			o.Memory.ComeBack = true
		}, action: Start{}, reason: StartReadOnly, check: wants(Start{})},
		{name: "1.23.8 once per period", change: func(o *Observation) {
			leaderless(o)
			paused3(o)
			down(o, "shut down")
			o.Memory.ComeBack = true
			ended(o, OpStartStandby, "no")
		}, reason: StartRetryLater},
		{name: "1.23.8 once it runs, the exception is over", change: func(o *Observation) { replica(o); paused3(o); o.Memory.ComeBack = true }, reason: PausedNoAction, check: func(t *testing.T, d Decision) {
			if d.Memory.ComeBack {
				t.Error("it would be started again after an operator stopped it")
			}
		}},
		{name: "1.23.15 replay is not resumed", change: func(o *Observation) { replica(o); paused3(o); o.PG.ServerVersion, o.PG.Row.ReplayPaused = 150000, true }, reason: PausedNoAction},
		{name: "1.23.16 slots are made", change: func(o *Observation) {
			paused3(o)
			o.Settings.UseSlots, o.PG.Slots = true, physical(map[string]wal.LSN{"n2": 1, "stray": 1})
		}, action: SyncSlots{}, reason: LeaderSlots},
		{name: "1.23.16 and none dropped", change: func(o *Observation) {
			paused3(o)
			o.Settings.UseSlots, o.PG.Slots = true, physical(map[string]wal.LSN{"n2": 1, "n3": 1, "stray": 1})
		}, reason: PausedNoAction},
		{name: "1.23.16 on a replica, too", change: func(o *Observation) {
			replica(o)
			paused3(o)
			o.Settings.UseSlots, o.PG.Slots = true, physical(map[string]wal.LSN{})
			mem(o, "n3").Tags = dcs.Tags{{Name: "replicatefrom", Value: "n1"}}
		}, action: SyncSlots{}, reason: SecondarySlots},
		{name: "2.4 a running primary leaves a free lock to the requested candidate", change: func(o *Observation) {
			paused3(o)
			no(o)
			o.DCS.Cluster.Status.Beat = nil
			failover(o, "", "n2")
		}, reason: PausedNoAction},
		{name: "1.23.20 unless that is gone", change: func(o *Observation) {
			paused3(o)
			no(o)
			o.DCS.Cluster.Status.Beat = nil
			failover(o, "", "n9")
		}, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "1.23.20 a replica does not clean", change: func(o *Observation) { leaderless(o); paused3(o); failover(o, "", "n9") }, reason: PausedNoAction},
		{name: "S6 /initialize is repaired", change: func(o *Observation) { paused3(o); o.DCS.Cluster.Initialize = nil }, action: WriteInitialize{}, reason: LeaderRepairsInitialize},
		{name: "S7 /config is", change: func(o *Observation) { paused3(o); o.DCS.Cluster.Config = nil }, action: WriteConfig{}, reason: LeaderRepairsConfig},
		{name: "E1 nothing to repair /initialize with", change: func(o *Observation) { paused3(o); o.DCS.Cluster.Initialize, o.PG.SystemID = nil, "" }, reason: NoSystemID},
		{name: "1.23 /history is kept current", change: func(o *Observation) {
			paused3(o)
			o.PG.Row.Timeline = 2
			o.PG.HistoryLocal = wal.History{{Timeline: 1, LSN: 500}}
		}, action: WriteHistory{}, reason: LeaderWritesHistory},
	})
}

func TestStopping(t *testing.T) { // 1.22
	term := func(o *Observation) { o.Stopping = true }
	runTable(t, []row{
		{name: "1.22.4 leader: stops with a checkpoint", change: term, action: Stop{}, reason: StoppingServer, check: wants(Stop{Mode: StopFast, Checkpoint: true, Escalate: 60 * sec})},
		{name: "1.22.4 standby: stops", change: func(o *Observation) { replica(o); term(o) }, action: Stop{}, reason: StoppingServer, check: wants(Stop{Mode: StopFast, Escalate: 60 * sec})},
		{name: "1.22.5 stopped: releases", change: func(o *Observation) { term(o); down(o, "shut down"); o.Memory.ShutdownLSN = 77 }, action: Release{}, reason: HandOverStops,
			check: wants(Release{Epoch: myEpoch, Clean: true, Optime: 77})},
		{name: "1.22.5 released: ends", change: func(o *Observation) {
			term(o)
			down(o, "shut down")
			did(o, Release{Epoch: myEpoch, Clean: true}, ResultOK)
		}, action: Exit{}, reason: Stopped},
		{name: "1.22.6 refused to stop", change: func(o *Observation) { term(o); ended(o, OpStop, "timed out") }, reason: StoppingWaits},
		{name: "1.22 etcd silent for long: stops before the leash has to", change: func(o *Observation) { term(o); silent(o); o.Now = o.Leash.Deadline.Add(-4 * sec) }, action: Stop{}, reason: StoppingServer,
			check: wants(Stop{Mode: StopFast, Escalate: 2 * sec})},
		{name: "1.22 etcd silent: stops all the same", change: func(o *Observation) { term(o); silent(o) }, action: Stop{}, reason: StoppingServer},
	})
}
