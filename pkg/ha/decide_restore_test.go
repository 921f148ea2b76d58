package ha

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// ordered: an open restore order for member.
func ordered(o *Observation, member string) *dcs.Restore {
	r := &dcs.Restore{ID: "a1", State: dcs.RestoreRequested, Member: member, Set: "20261122-010001F", SystemID: sysID,
		Target: dcs.RestoreTarget{Type: "time", Value: "2026-11-22 11:00:00+00"}, ModRevision: 126}
	o.DCS.Cluster.Restore = r
	return r
}

// restoring1: n1 leads and its Restore runs; its server is away.
func restoring1(o *Observation) {
	ordered(o, "n1")
	o.DCS.Cluster.Status.Beat.Next = 2
	o.Memory.Restore.ID = "a1"
	runs(o, OpRestore)
	down(o, "")
	o.PG.DataDir, o.PG.Problem = DataDirHalfMade, "an interrupted restore"
}

// restored1: it has ended; the server runs on timeline 4, with less WAL.
func restored1(o *Observation, errText string) {
	ordered(o, "n1")
	o.Memory.Restore.ID = "a1"
	ended(o, OpRestore, errText)
	if errText == "" || strings.Contains(errText, "connections") {
		o.Op.Timeline = 4
	}
	o.PG.Row = Row{Timeline: 4, Position: 600}
	o.PG.HistoryLocal = wal.History{{Timeline: 1, LSN: 500}}
	o.DCS.Cluster.Status.Optime = 600
	o.DCS.Cluster.Status.Beat.Timeline, o.DCS.Cluster.Status.Beat.Next = 4, 5
}

func writes(change func(r *dcs.Restore)) func(*testing.T, Decision) {
	o := base()
	want := *ordered(o, "n1")
	want.Ended = o.Wall
	change(&want)
	return wants(WriteRestore{Order: want})
}

func TestRestoreOfMine(t *testing.T) {
	mine := func(o *Observation) {
		ordered(o, "n1")
		o.DCS.Cluster.Status.Beat.Next = 2 // as the round before has said
	}
	gone := func(o *Observation) { // its agent was away for a while; the key ran out
		leaderless(o)
		ordered(o, "n1")
		down(o, "")
		o.PG.DataDir, o.PG.Problem = DataDirHalfMade, "an interrupted restore"
	}
	runTable(t, []row{
		{name: "mine, lock held and armed: begins", change: mine, action: Restore{}, reason: RestoreRuns, check: func(t *testing.T, d Decision) {
			if a := d.Action.(Restore); a.Order.ID != "a1" || a.Order.ModRevision != 126 || d.Memory.Restore.ID != "a1" {
				t.Errorf("%+v", d)
			}
		}},
		{name: "its end makes a timeline: the number is published first (S2)", change: func(o *Observation) { ordered(o, "n1") }, action: Renew{}, reason: LeaseRenewal},
		{name: "not armed: arms first", change: func(o *Observation) { mine(o); o.Leash.Armed = 0 }, action: ArmLeash{}, reason: LeaderArming},
		{name: "cannot arm: stops", change: func(o *Observation) { mine(o); o.Leash.Armed = 0; did(o, ArmLeash{}, ResultFailed) }, action: Stop{}, reason: LeaderUnarmed},
		{name: "cannot arm, the server is down: releases", change: func(o *Observation) {
			mine(o)
			down(o, "shut down")
			o.Leash.Armed = 0
			did(o, ArmLeash{}, ResultFailed)
		}, action: Release{}, reason: LeaderUnarmed, check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "with the server down", change: func(o *Observation) { mine(o); down(o, "in production") }, action: Restore{}, reason: RestoreRuns},
		{name: "with a half-made directory: goes on", change: func(o *Observation) {
			gone(o)
			base := base()
			o.Memory.Lease = base.Memory.Lease
			o.DCS.Cluster.Leader = base.DCS.Cluster.Leader
			o.DCS.Cluster.Status.Beat = &dcs.Beat{Beat: 7, Epoch: myEpoch, Holder: "h1", TTL: 30000, Next: 2}
			o.Leash = base.Leash
		}, action: Restore{}, reason: RestoreRuns},
		{name: "what runs on a half-made directory is stopped first", change: func(o *Observation) { mine(o); o.PG.DataDir, o.PG.Known = DataDirHalfMade, false }, action: Stop{}, reason: DataDirBad,
			check: wants(Stop{Mode: StopImmediate})},
		{name: "in pause it waits", change: func(o *Observation) { mine(o); paused3(o) }, reason: PausedNoAction},
		{name: "the round goes first", change: func(o *Observation) { mine(o); o.Now = plus(4 * sec) }, action: Renew{}, reason: LeaseRenewal},
		{name: "a switchover request is dropped", change: func(o *Observation) { mine(o); failover(o, "n1", "n2") }, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "but does not hold it up", change: func(o *Observation) {
			mine(o)
			failover(o, "n1", "n2")
			did(o, CleanFailover{Revision: 128}, ResultConflict)
		}, action: Restore{}, reason: RestoreRuns},
		{name: "a hand-over under way ends first", change: func(o *Observation) { mine(o); down(o, "shut down"); o.Memory.Demoting = true }, action: Release{}, reason: HandOverStops},
		{name: "an agent that restarted takes its key back", change: func(o *Observation) {
			gone(o)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: myEpoch}
			o.DCS.Cluster.Status.Beat.Holder = "h1"
		},
			action: TakeBack{}, reason: TakeBackOwn},
		{name: "or gives it up when its time is over", change: func(o *Observation) {
			gone(o)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: myEpoch}
			o.DCS.Cluster.Status.Beat.Holder, o.Leash.Highest = "h1", myEpoch
		}, action: Release{}, reason: TakeBackLatched},
		{name: "no leader: waits for the last one", change: func(o *Observation) { gone(o); o.Memory.SeenAt = plus(-29 * sec) }, reason: ElectionHoldOff},
		{name: "no leader: claims with a half-made directory", change: gone, action: Claim{}, reason: RestoreClaims},
		{name: "no leader: claims with its server down", change: func(o *Observation) { gone(o); o.PG.DataDir = DataDirPresent; down(o, "shut down") }, action: Claim{}, reason: RestoreClaims},
		{name: "no leader: claims with a standby that is behind", change: func(o *Observation) { leaderless(o); ordered(o, "n1"); answered(o, Peer{}, standbyPeer(2000)) }, action: Claim{}, reason: RestoreClaims},
		{name: "no leader, no watchdog that is required", change: func(o *Observation) { gone(o); unwatched(o) }, reason: ElectionRefused},
		{name: "no leader, nofailover", change: func(o *Observation) { gone(o); o.Settings.NoFailover = true }, action: Claim{}, reason: RestoreClaims},
		{name: "no leader: a primary stops first", change: func(o *Observation) { leaderless(o); ordered(o, "n1"); o.PG.Row.InRecovery = false }, action: Stop{}, reason: DemoteNoLock},
		{name: "no leader: its own last beat needs no wait", change: func(o *Observation) { gone(o); o.DCS.Cluster.Status.Beat.Holder = "h1" }, action: PublishReleased{}, reason: TakeBackFinished},
		{name: "no leader: the leash is told", change: func(o *Observation) { gone(o); o.Leash.Armed = 50 }, action: DisarmLeash{}, reason: SecondaryDisarms},
		{name: "no leader: not at once after giving the key away", change: func(o *Observation) { gone(o); o.Memory.YieldUntil = plus(sec) }, reason: RestoreClaims},
		{name: "no leader: another cluster's directory ends it", change: func(o *Observation) { leaderless(o); ordered(o, "n1"); o.PG.SystemID = "7710903353966102418" }, action: Exit{}, reason: ForeignSystem},
		{name: "the directory cannot be used: says so", change: func(o *Observation) { mine(o); o.PG.DataDir, o.PG.Problem = DataDirUnreadable, "I/O error" }, action: WriteRestore{}, reason: RestoreFails,
			check: writes(func(r *dcs.Restore) {
				r.State, r.Error = dcs.RestoreFailed, "the data directory cannot be used: I/O error"
			})},
		{name: "another leads: failed", change: func(o *Observation) { replica(o); ordered(o, "n1") }, action: WriteRestore{}, reason: RestoreFails,
			check: writes(func(r *dcs.Restore) { r.State, r.Error = dcs.RestoreFailed, "n2 leads now" })},

		{name: "A runs: left alone", change: restoring1, reason: OperationRuns},
		{name: "A renewed meanwhile", change: func(o *Observation) { restoring1(o); o.Now = plus(5 * sec) }, action: Renew{}, reason: LeaseRenewal},
		{name: "A the lease is lost: cancelled, and the order stands", change: func(o *Observation) { restoring1(o); lost(o); o.DCS.Fresh = false }, action: CancelOperation{}, reason: OperationCancelled,
			check: func(t *testing.T, d Decision) {
				if !d.Memory.Restore.Interrupted {
					t.Error("not marked as interrupted")
				}
			}},
		{name: "A etcd is away, the lease is not", change: func(o *Observation) { restoring1(o); o.DCS.Fresh = false }, reason: OperationRuns},
		{name: "A the agent ends", change: func(o *Observation) { restoring1(o); o.Stopping = true }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "A taken back by an operator", change: func(o *Observation) { restoring1(o); o.DCS.Cluster.Restore.State = dcs.RestoreFailed }, action: CancelOperation{}, reason: OperationCancelled,
			check: func(t *testing.T, d Decision) {
				if d.Memory.Restore.Interrupted {
					t.Error("marked as interrupted")
				}
			}},
		{name: "A another order took its place", change: func(o *Observation) { restoring1(o); o.DCS.Cluster.Restore.ID = "b2" }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "A it vanished", change: func(o *Observation) { restoring1(o); o.DCS.Cluster.Restore = nil }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "A the key was taken anew: the leash is armed anew", change: func(o *Observation) { restoring1(o); o.Leash.Armed = 90 }, action: ArmLeash{}, reason: LeaderArming},
		{name: "A a switchover request is dropped", change: func(o *Observation) { restoring1(o); failover(o, "", "n2") }, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "A pause does not end it", change: func(o *Observation) { restoring1(o); paused3(o) }, reason: OperationRuns},
		{name: "A progress is looked at often", change: func(o *Observation) { restoring1(o); o.Op.Method = "pgbackrest" }, reason: OperationRuns,
			check: func(t *testing.T, d Decision) {
				if d.Wait > ProgressPeriod {
					t.Errorf("waits %s", d.Wait)
				}
			}},

		{name: "done: written, with the timeline", change: func(o *Observation) { restored1(o, "") }, action: WriteRestore{}, reason: RestorePublishes,
			check: writes(func(r *dcs.Restore) { r.State, r.Timeline = dcs.RestoreDone, 4 })},
		{name: "done: not before a write of /sync that may still arrive is ended", change: func(o *Observation) {
			restored1(o, "")
			o.Settings.Sync = SyncSettings{Mode: config.SyncOn, Count: 1, MaxLag: -1}
			o.DCS.Cluster.Sync = &dcs.Sync{Leader: "n1", ModRevision: 125}
			o.Memory.SyncUnsure = true
		}, action: WriteSync{}, reason: SyncPublishes},
		{name: "done: not before the beat tells the new timeline", change: func(o *Observation) { restored1(o, ""); o.DCS.Cluster.Status.Beat.Timeline = 3 }, reason: RestorePublishes},
		{name: "done: not before the server waits for whom /sync lets elect (S5)", change: func(o *Observation) {
			restored1(o, "")
			o.Settings.Sync = SyncSettings{Mode: config.SyncOn, Strict: true, Count: 2}
			o.DCS.Cluster.Sync = &dcs.Sync{Leader: "n1", Standbys: []string{"n2", "n3"}}
			o.PG.Row.SyncNames = "n2"
		}, action: SetSyncNames{}, reason: SyncSetsNames},
		{name: "done: not before /status tells the new position", change: func(o *Observation) { restored1(o, ""); o.DCS.Cluster.Status.Optime = 1000 }, reason: RestorePublishes},
		{name: "done: not while the server does not answer", change: func(o *Observation) { restored1(o, ""); o.PG.Known = false }, reason: LeaderNoQuery},
		{name: "done, and crashed: started as any primary", change: func(o *Observation) { restored1(o, ""); down(o, "in production") }, action: Start{}, reason: StartAsPrimary},
		{name: "done, and it does not start: again, a period later", change: func(o *Observation) {
			restored1(o, "")
			down(o, "in production")
			o.Memory.OpSeen, o.Memory.Restore = o.Op.Serial, RestoreMemory{ID: "a1", Ended: true, Timeline: 4}
			o.Memory.FailedTries, o.Memory.FailedStart = 2, plus(-sec)
		}, reason: StartRetryLater},
		{name: "done, and it never starts", change: func(o *Observation) {
			restored1(o, "")
			down(o, "in production")
			o.Memory.OpSeen, o.Memory.Restore = o.Op.Serial, RestoreMemory{ID: "a1", Ended: true, Timeline: 4}
			o.Memory.FailedTries, o.Memory.FailedStart = 3, plus(-sec)
		}, action: WriteRestore{}, reason: RestoreFails},
		{name: "restored, but its first start failed: started again", change: func(o *Observation) {
			restored1(o, "it did not accept connections in time")
			down(o, "shut down")
		}, action: Start{}, reason: StartAsPrimary},
		{name: "done, and gone", change: func(o *Observation) { restored1(o, ""); down(o, ""); o.PG.DataDir = DataDirEmpty }, action: WriteRestore{}, reason: RestoreFails},
		{name: "done, the lock was lost: it is taken again", change: func(o *Observation) {
			leaderless(o)
			restored1(o, "")
			o.PG.Row.InRecovery = true
		}, action: Claim{}, reason: RestoreClaims},
		{name: "done, another leads", change: func(o *Observation) { replica(o); restored1(o, ""); o.PG.Row.InRecovery = true }, action: WriteRestore{}, reason: RestoreFails},
		{name: "failed: written", change: func(o *Observation) { restored1(o, "no such backup") }, action: WriteRestore{}, reason: RestoreFails,
			check: writes(func(r *dcs.Restore) { r.State, r.Error = dcs.RestoreFailed, "no such backup" })},
		{name: "cancelled: written", change: func(o *Observation) { restored1(o, "context canceled"); o.Op.Cancelled = true }, action: WriteRestore{}, reason: RestoreFails,
			check: writes(func(r *dcs.Restore) { r.State, r.Error = dcs.RestoreFailed, "cancelled" })},
		{name: "failed, and no leader: written all the same", change: func(o *Observation) { leaderless(o); restored1(o, "no") }, action: WriteRestore{}, reason: RestoreFails},
		{name: "interrupted: begun again", change: func(o *Observation) {
			restored1(o, "context canceled")
			o.Op.Cancelled, o.Memory.Restore.Interrupted = true, true
		}, action: Restore{}, reason: RestoreRuns},
		{name: "its server was killed: goes on after a period", change: func(o *Observation) {
			restored1(o, "the server was ended from outside")
			o.Op.Interrupted = true
			down(o, "")
			o.Op.Ended = o.Now.Add(-time.Hour)
			o.PG.DataDir = DataDirHalfMade
		}, action: Restore{}, reason: RestoreRuns, check: func(t *testing.T, d Decision) {
			if d.Memory.Restore.Killed != 1 || d.Memory.Restore.Ended {
				t.Errorf("memory: %+v", d.Memory.Restore)
			}
		}},
		{name: "its server was killed just now: waits a period", change: func(o *Observation) {
			restored1(o, "the server was ended from outside")
			o.Op.Interrupted = true
			down(o, "")
		}, reason: RestoreRuns},
		{name: "its server is killed again and again: failed", change: func(o *Observation) {
			restored1(o, "the server was ended from outside")
			o.Op.Interrupted = true
			o.Memory.Restore.Killed = maxKilled
			down(o, "")
		}, action: WriteRestore{}, reason: RestoreFails},
		{name: "interrupted too late: done", change: func(o *Observation) { restored1(o, ""); o.Memory.Restore.Interrupted = true }, action: WriteRestore{}, reason: RestorePublishes},
		{name: "the write conflicted: looked at again", change: func(o *Observation) {
			restored1(o, "no")
			did(o, WriteRestore{}, ResultConflict)
		}, action: WriteRestore{}, reason: RestoreFails},
		{name: "a new order is not the old one's result", change: func(o *Observation) { restored1(o, "no"); o.DCS.Cluster.Restore.ID = "b2" }, action: Restore{}, reason: RestoreRuns},
		{name: "after a failure with a half-made directory the key is given away", change: func(o *Observation) {
			restored1(o, "no")
			o.DCS.Cluster.Restore.State = dcs.RestoreFailed
			down(o, "")
			o.PG.DataDir = DataDirHalfMade
		}, action: Release{}, reason: DataDirRelease},
		{name: "and it is cloned from the next leader", change: func(o *Observation) {
			replica(o)
			ordered(o, "n1").State = dcs.RestoreFailed
			down(o, "")
			o.PG.DataDir = DataDirHalfMade
		}, action: Clone{}, reason: CloneRuns, check: func(t *testing.T, d Decision) {
			if !d.Action.(Clone).Wipe {
				t.Error("does not wipe")
			}
		}},
		{name: "positions of the data before are forgotten", change: func(o *Observation) {
			restored1(o, "")
			o.Memory.ShutdownLSN = 5000
		}, action: WriteRestore{}, reason: RestorePublishes, check: func(t *testing.T, d Decision) {
			if d.Memory.ShutdownLSN != 0 {
				t.Errorf("still %s", d.Memory.ShutdownLSN)
			}
		}},
		{name: "S7 its end is not told while the leash is about to end the server", change: func(o *Observation) {
			restored1(o, "the archive does not take WAL")
			o.Now = o.Memory.Lease.StopAt()
			o.Memory.Lease.Attempt = o.Now.Add(-sec)
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "no crash failover while the order is open", change: func(o *Observation) {
			restored1(o, "")
			down(o, "in production")
			o.Settings.PrimaryStartTimeout = 0
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, action: Start{}, reason: StartAsPrimary},
	})
}

func TestRestoreOfOthers(t *testing.T) {
	runTable(t, []row{
		{name: "its member leads and is away: waits", change: func(o *Observation) { replica(o); ordered(o, "n2"); mem(o, "n2").State = "stopped" }, reason: SecondaryNoUpstream},
		{name: "its member leads: a primary without the lock stops", change: func(o *Observation) { replica(o); ordered(o, "n2"); o.PG.Row.InRecovery = false }, action: Stop{}, reason: DemoteNoLock},
		{name: "no leader: no race", change: func(o *Observation) { leaderless(o); ordered(o, "n2") }, reason: RestoreAwaited, check: func(t *testing.T, d Decision) {
			if want := "no action while n2 is to restore the cluster; if it does not come back, take the order back: `pghactl restore --cancel`"; d.Text("n1") != want {
				t.Error(d.Text("n1"))
			}
		}},
		{name: "no leader: not even who is wanted", change: func(o *Observation) { leaderless(o); ordered(o, "n2"); failover(o, "", "n1") }, reason: RestoreAwaited},
		{name: "no leader: a primary stops", change: func(o *Observation) { leaderless(o); ordered(o, "n2"); o.PG.Row.InRecovery = false }, action: Stop{}, reason: DemoteNoLock,
			check: wants(Stop{Mode: StopImmediate})},
		{name: "no leader: the leash is told", change: func(o *Observation) { leaderless(o); ordered(o, "n2"); o.Leash.Armed = 50 }, action: DisarmLeash{}, reason: SecondaryDisarms},
		{name: "no leader: the own last leadership is marked as over", change: func(o *Observation) { leaderless(o); ordered(o, "n2"); o.DCS.Cluster.Status.Beat.Holder = "h1" },
			action: PublishReleased{}, reason: TakeBackFinished},
		{name: "no leader: a server that is down comes up read-only", change: func(o *Observation) { leaderless(o); ordered(o, "n2"); down(o, "shut down in recovery") }, action: Start{}, reason: StartReadOnly},
		{name: "no leader: an empty directory stays empty", change: func(o *Observation) {
			leaderless(o)
			ordered(o, "n2")
			down(o, "")
			o.PG.DataDir, o.DCS.Cluster.Initialize, o.Settings.CloneWithoutLeader = DataDirEmpty, nil, true
		}, reason: RestoreAwaited},
		{name: "no leader, in pause: no claim", change: func(o *Observation) {
			leaderless(o)
			ordered(o, "n2")
			paused3(o)
			o.PG.Row.InRecovery = false
		}, reason: PausedNoAction},
		{name: "the own key vanished before its deadline: kept by rule (d)", change: func(o *Observation) { ordered(o, "n2"); o.DCS.Cluster.Leader = nil }, action: Claim{}, reason: LeaseRenewal},
		{name: "I lead: it failed", change: func(o *Observation) { ordered(o, "n2") }, action: WriteRestore{}, reason: RestoreFails,
			check: writes(func(r *dcs.Restore) { r.Member, r.State, r.Error = "n2", dcs.RestoreFailed, "n1 leads now" })},
		{name: "a third one leads: that one says so", change: func(o *Observation) { replica(o); ordered(o, "n3") }, reason: SecondaryNoAction},
		{name: "once it is taken back the race is on", change: func(o *Observation) { leaderless(o); ordered(o, "n2").State = dcs.RestoreFailed }, action: Claim{}, reason: ElectionWins},
		{name: "done: an old timeline does not race, whatever /history says", change: func(o *Observation) {
			leaderless(o)
			r := ordered(o, "n2")
			r.State, r.Timeline = dcs.RestoreDone, 4
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1, LSN: 500}}}
			o.PG.Row.Timeline = 3
		}, reason: ElectionRefused},
		{name: "done: the restored timeline races", change: func(o *Observation) {
			leaderless(o)
			r := ordered(o, "n2")
			r.State, r.Timeline = dcs.RestoreDone, 4
			o.PG.Row.Timeline = 4
		}, action: Claim{}, reason: ElectionWins},
	})
}

// diverged: n2 leads on timeline 4, which an order made; this node is from before.
func diverged(o *Observation) {
	replica(o)
	r := ordered(o, "n2")
	r.State, r.Timeline = dcs.RestoreDone, 4
	mem(o, "n2").Timeline = 4
	o.PG.Row.ReplicationState = ""
	o.Memory.Rewind = RewindNeed
	down(o, "shut down in recovery")
	o.PG.Control.Timeline = 3
	o.PG.CanRewind = false
}

func TestRejoinAfterRestore(t *testing.T) {
	given := func(more func(o *Observation)) func(o *Observation) {
		return func(o *Observation) { diverged(o); more(o) }
	}
	runTable(t, []row{
		{name: "no pg_rewind: the order is the permission to copy", change: diverged, action: Clone{}, reason: ReinitDiverged,
			check: wants(Clone{From: Upstream{Member: "n2", ConnURL: "postgres://n2:5432/postgres", Checkpointed: true}, Wipe: true})},
		{name: "a running server is stopped for it", change: given(func(o *Observation) {
			o.PG.Process, o.PG.Known, o.PG.Row = ProcessRunning, true, Row{InRecovery: true, Timeline: 3, Position: 1000}
		}), action: Stop{}, reason: StopForRewind},
		{name: "pg_rewind where it is possible", change: given(func(o *Observation) { o.PG.CanRewind = true }), action: Rewind{}, reason: RewindRunning},
		{name: "pg_rewind failed: copied", change: given(func(o *Observation) { o.PG.CanRewind, o.Memory.Rewind = true, RewindFailed }), action: Clone{}, reason: ReinitDiverged},
		{name: "later leaders too", change: given(func(o *Observation) { mem(o, "n2").Timeline = 6 }), action: Clone{}, reason: ReinitDiverged},
		{name: "S9 not while the leader does not run", change: given(func(o *Observation) { mem(o, "n2").State = "stopped" }), reason: SecondaryNoUpstream},
		{name: "S9 no order", change: given(func(o *Observation) { o.DCS.Cluster.Restore = nil }), action: Start{}, reason: StartAsStandby},
		{name: "S9 a failed order is none", change: given(func(o *Observation) { o.DCS.Cluster.Restore.State = dcs.RestoreFailed }), action: Start{}, reason: StartAsStandby},
		{name: "S9 a leader from before it", change: given(func(o *Observation) { mem(o, "n2").Timeline = 3 }), action: Start{}, reason: StartAsStandby},
		{name: "S9 what diverged after it", change: given(func(o *Observation) { o.PG.Control.Timeline = 4 }), action: Start{}, reason: StartAsStandby},
		{name: "S9 what had followed it already", change: given(func(o *Observation) { o.PG.Control.MinRecoveryEndTLI = 4 }), action: Start{}, reason: StartAsStandby},
		{name: "S9 an unknown timeline", change: given(func(o *Observation) { o.PG.Control.Timeline = 0 }), action: Start{}, reason: StartAsStandby},
		{name: "S9 not while the next one is open", change: given(func(o *Observation) {
			o.DCS.Cluster.Restore.State = dcs.RestoreRequested
			o.Settings.WipeOnDivergence = true
		}), reason: RestoreAwaited},
		{name: "a failed copy is not tried at once", change: given(func(o *Observation) { ended(o, OpClone, "no") }), reason: CloneRetryLater},
		{name: "a cancelled one not at all", change: given(func(o *Observation) { o.Memory.Reinit.Held = true }), reason: CloneHeld},
	})
}

func TestReinit(t *testing.T) {
	asked := func(o *Observation) { replica(o); o.Reinit = Reinit{Serial: 1} }
	leader := Upstream{Member: "n2", ConnURL: "postgres://n2:5432/postgres", Checkpointed: true}
	stopped := func(o *Observation) { asked(o); down(o, "in archive recovery") }
	runTable(t, []row{
		{name: "1.20 the server is stopped", change: asked, action: Stop{}, reason: ReinitStops, check: wants(Stop{Mode: StopImmediate})},
		{name: "1.20 then copied", change: stopped, action: Clone{}, reason: CloneRuns, check: wants(Clone{From: leader, Wipe: true})},
		{name: "1.20 from_leader", change: func(o *Observation) {
			stopped(o)
			o.Reinit.FromLeader = true
			mem(o, "n3").Tags = dcs.Tags{{Name: "clonefrom", Value: true}}
		},
			action: Clone{}, reason: CloneRuns, check: wants(Clone{From: leader, Wipe: true, FromLeader: true})},
		{name: "6.3 otherwise from a clonefrom member", change: func(o *Observation) { stopped(o); mem(o, "n3").Tags = dcs.Tags{{Name: "clonefrom", Value: true}} },
			action: Clone{}, reason: CloneRuns, check: wants(Clone{From: Upstream{Member: "n3", ConnURL: "postgres://n3:5432/postgres"}, Wipe: true})},
		{name: "1.20 in pause, too", change: func(o *Observation) { stopped(o); paused3(o) }, action: Clone{}, reason: CloneRuns},
		{name: "1.20 in pause the server is stopped for it", change: func(o *Observation) { asked(o); paused3(o) }, action: Stop{}, reason: ReinitStops},
		{name: "1.20 an empty directory", change: func(o *Observation) { stopped(o); o.PG.DataDir = DataDirEmpty }, action: Clone{}, reason: CloneRuns},
		{name: "1.20 the leash first", change: func(o *Observation) { stopped(o); o.Leash.Armed = 50 }, action: DisarmLeash{}, reason: SecondaryDisarms},
		{name: "1.20 not the leader", change: func(o *Observation) { o.Reinit = Reinit{Serial: 1} }, reason: LeaderNoAction, check: func(t *testing.T, d Decision) {
			if d.Memory.Reinit.Wanted {
				t.Error("remembered for later")
			}
		}},
		{name: "1.20 not without a leader", change: func(o *Observation) { leaderless(o); o.Reinit = Reinit{Serial: 1} }, action: Claim{}, reason: ElectionWins},
		{name: "1.20 not while the leader is to restore", change: func(o *Observation) { asked(o); ordered(o, "n2") }, reason: SecondaryNoAction},
		{name: "1.20 not while the leader does not run", change: func(o *Observation) { asked(o); mem(o, "n2").State = "starting" }, reason: SecondaryNoUpstream,
			check: func(t *testing.T, d Decision) {
				if !d.Memory.Reinit.Wanted {
					t.Error("forgotten")
				}
			}},
		{name: "once made it is made", change: func(o *Observation) {
			replica(o)
			o.Reinit, o.Memory.Reinit = Reinit{Serial: 1}, ReinitMemory{Seen: 1, Wanted: true}
			ended(o, OpClone, "")
		}, reason: SecondaryNoAction},
		{name: "a failure is tried again, a period later", change: func(o *Observation) { stopped(o); ended(o, OpClone, "no") }, reason: CloneRetryLater},
		{name: "an operation that runs goes on", change: func(o *Observation) { asked(o); runs(o, OpRewind) }, reason: OperationRuns},
		{name: "force cancels it", change: func(o *Observation) { asked(o); o.Reinit.Force = true; runs(o, OpRewind) }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "force: an older copy", change: func(o *Observation) { asked(o); o.Reinit.Force = true; runs(o, OpClone) }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "force: a stop ends by itself", change: func(o *Observation) { asked(o); o.Reinit.Force = true; runs(o, OpStop) }, reason: OperationRuns},
		{name: "force is spent when the copy begins", change: func(o *Observation) { stopped(o); o.Reinit.Force = true }, action: Clone{}, reason: CloneRuns, check: func(t *testing.T, d Decision) {
			if d.Memory.Reinit.Force || !d.Memory.Reinit.Wanted {
				t.Errorf("%+v", d.Memory.Reinit)
			}
		}},
		{name: "cancel ends a copy", change: func(o *Observation) { replica(o); o.Reinit = Reinit{Serial: 2, Cancel: true}; runs(o, OpClone) }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "and nothing else", change: func(o *Observation) { replica(o); o.Reinit = Reinit{Serial: 2, Cancel: true}; runs(o, OpRewind) }, reason: OperationRuns},
		{name: "nothing is copied after that", change: func(o *Observation) {
			replica(o)
			down(o, "")
			o.PG.DataDir = DataDirHalfMade
			o.Reinit, o.Memory.Reinit = Reinit{Serial: 2, Cancel: true}, ReinitMemory{Seen: 2, Held: true}
			ended(o, OpClone, "cancelled")
		}, reason: CloneHeld},
		{name: "nor by a method that needs no leader", change: func(o *Observation) { alone(o); o.Memory.Reinit.Held = true }, reason: CloneHeld},
		{name: "until the next request", change: func(o *Observation) {
			replica(o)
			down(o, "")
			o.PG.DataDir = DataDirHalfMade
			o.Reinit, o.Memory.Reinit = Reinit{Serial: 3}, ReinitMemory{Seen: 2, Held: true}
			o.Memory.FailedOp = plus(-20 * sec)
		}, action: Clone{}, reason: CloneRuns},
		{name: "or the next life of the agent", change: func(o *Observation) { replica(o); down(o, ""); o.PG.DataDir = DataDirHalfMade }, action: Clone{}, reason: CloneRuns},
		{name: "or a copy that streams", change: func(o *Observation) { replica(o); o.Memory.Reinit.Held = true }, reason: SecondaryNoAction, check: func(t *testing.T, d Decision) {
			if d.Memory.Reinit.Held {
				t.Error("still held")
			}
		}},
		{name: "a cancel when nothing was asked", change: func(o *Observation) { replica(o); o.Reinit = Reinit{Serial: 2, Cancel: true} }, reason: SecondaryNoAction},
	})
}

// alone: there is no leader, no data, and a method that needs no leader.
func alone(o *Observation) {
	leaderless(o)
	down(o, "")
	o.PG.DataDir, o.PG.SystemID, o.Settings.CloneWithoutLeader = DataDirEmpty, "", true
}

func TestCloneAlone(t *testing.T) {
	given := func(more func(o *Observation)) func(o *Observation) {
		return func(o *Observation) { alone(o); more(o) }
	}
	runTable(t, []row{
		{name: "D7x a method that needs no leader", change: alone, action: Clone{}, reason: CloneWithoutLeader, check: wants(Clone{})},
		{name: "D7x without one", change: given(func(o *Observation) { o.Settings.CloneWithoutLeader = false }), reason: BootstrapWaits},
		{name: "D7x not while the cluster is being made", change: given(func(o *Observation) { o.DCS.Cluster.Initialize.SystemID = "" }), reason: BootstrapWaits},
		{name: "D5x a cluster that is none is bootstrapped", change: given(func(o *Observation) { o.DCS.Cluster.Initialize = nil }), action: WriteInitialize{}, reason: BootstrapClaims},
		{name: "D7x an interrupted copy goes on", change: given(func(o *Observation) { o.PG.DataDir, o.PG.Resumable = DataDirHalfMade, true }), action: Clone{}, reason: CloneWithoutLeader},
		{name: "D7x what cannot go on is left", change: given(func(o *Observation) { o.PG.DataDir = DataDirHalfMade }), reason: DataDirBad},
		{name: "D7x a failure waits", change: given(func(o *Observation) { ended(o, OpClone, "no") }), reason: CloneRetryLater},
		{name: "C an interrupted recovery of a new cluster goes on", change: given(func(o *Observation) {
			o.PG.DataDir, o.PG.HalfBootstrap, o.PG.Resumable = DataDirHalfMade, true, true
			o.DCS.Cluster.Initialize.SystemID = ""
		}), reason: BootstrapResumes, check: func(t *testing.T, d Decision) {
			if d.Memory.Bootstrap != BootstrapWon || !d.Again {
				t.Errorf("%+v", d)
			}
		}},
		{name: "C what cannot go on is undone", change: given(func(o *Observation) {
			o.PG.DataDir, o.PG.HalfBootstrap = DataDirHalfMade, true
			o.DCS.Cluster.Initialize.SystemID = ""
		}), reason: BootstrapCleans},
		{name: "C2 hours of recovery are waited for", change: given(func(o *Observation) {
			o.Memory.Bootstrap = BootstrapWon
			runs(o, OpBootstrap)
			o.Op.Started = plus(-5 * time.Hour)
		}), reason: OperationRuns},
		{name: "D6x an interrupted restore of a replica is made again", change: func(o *Observation) {
			replica(o)
			down(o, "")
			o.PG.DataDir, o.PG.Resumable = DataDirHalfMade, true
		}, action: Clone{}, reason: CloneRuns, check: func(t *testing.T, d Decision) {
			if !d.Action.(Clone).Wipe {
				t.Error("the copy may not wipe")
			}
		}},
	})
}
