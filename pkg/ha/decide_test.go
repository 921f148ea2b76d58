package ha

import (
	"reflect"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

type row struct {
	name   string
	change func(o *Observation)
	action Action // compared by type; nil: nothing to do
	reason Reason
	check  func(t *testing.T, d Decision)
}

func runTable(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			o := base()
			if r.change != nil {
				r.change(o)
			}
			d := decide(o)
			if reflect.TypeOf(d.Action) != reflect.TypeOf(r.action) || d.Reason != r.reason {
				t.Fatalf("decided %#v because %q; want %T because %q", d.Action, d.Text("n1"), r.action, r.reason)
			}
			if r.check != nil {
				r.check(t, d)
			}
		})
	}
}

// wants checks the whole action.
func wants(a Action) func(*testing.T, Decision) {
	return func(t *testing.T, d Decision) {
		t.Helper()
		if !reflect.DeepEqual(d.Action, a) {
			t.Errorf("action %#v, want %#v", d.Action, a)
		}
	}
}

func noLease(t *testing.T, d Decision) {
	t.Helper()
	if d.Memory.Lease.Epoch != 0 {
		t.Errorf("the lease is still held: %+v", d.Memory.Lease)
	}
}

func TestLeader(t *testing.T) {
	runTable(t, []row{
		{name: "H3 healthy leader has nothing to do", action: nil, reason: LeaderNoAction},
		{name: "H3 a round is due after half a period", change: func(o *Observation) { o.Now = plus(4 * sec) }, action: Renew{}, reason: LeaseRenewal},
		{name: "H3 not before", change: func(o *Observation) { o.Now = plus(3900 * time.Millisecond) }, reason: LeaderNoAction},
		{name: "H3 a failed round is repeated after the pause", change: func(o *Observation) { o.Memory.Lease.Attempt = plus(-sec + 1); o.Now = plus(2) }, action: Renew{}, reason: LeaseRenewal},
		{name: "S21/A2 renewal goes first while an operation runs", change: func(o *Observation) { runs(o, OpPromote); o.Now = plus(5 * sec) }, action: Renew{}, reason: LeaseRenewal},
		{name: "S6 invalid /initialize is repaired by the leader", change: func(o *Observation) { o.DCS.Cluster.Initialize.SystemID = "junk" }, action: WriteInitialize{}, reason: LeaderRepairsInitialize,
			check: wants(WriteInitialize{SystemID: sysID, Revision: 5})},
		{name: "S6 missing /initialize too", change: func(o *Observation) { o.DCS.Cluster.Initialize = nil }, action: WriteInitialize{}, reason: LeaderRepairsInitialize,
			check: wants(WriteInitialize{SystemID: sysID})},
		{name: "E1 own identifier unreadable", change: func(o *Observation) { o.DCS.Cluster.Initialize = nil; o.PG.SystemID = "" }, reason: NoSystemID},
		{name: "S7 missing /config is restored", change: func(o *Observation) { o.DCS.Cluster.Config = nil }, action: WriteConfig{}, reason: LeaderRepairsConfig},
		{name: "S7 empty /config is restored", change: func(o *Observation) { o.DCS.Cluster.Config.Raw = []byte("{}") }, action: WriteConfig{}, reason: LeaderRepairsConfig, check: wants(WriteConfig{Revision: 6})},
		{name: "S2 garbage in /config is left to the operator", change: func(o *Observation) {
			o.DCS.Cluster.Config = nil
			o.DCS.Cluster.Invalid = map[dcs.Key]string{dcs.KeyConfig: "bad"}
		}, reason: LeaderNoAction},
		{name: "S19 a query that fails demotes nobody", change: func(o *Observation) { o.PG.Known, o.PG.Process = false, ProcessUnsure }, reason: LeaderNoQuery},
		{name: "1.13.1 leash is armed first", change: func(o *Observation) { o.Leash.Armed = 0 }, action: ArmLeash{}, reason: LeaderArming},
		{name: "1.13.1 a suspended leash is armed anew after pause", change: func(o *Observation) { o.Leash.Suspended = true }, action: ArmLeash{}, reason: LeaderArming},
		{name: "1.13.1 no leash wanted", change: func(o *Observation) { o.Leash = Leash{}; o.Settings.LeashOff = true }, reason: LeaderNoAction},
		{name: "1.13.1 a primary that cannot arm stops", change: func(o *Observation) { o.Leash.Armed = 0; did(o, ArmLeash{}, ResultFailed) }, action: Stop{}, reason: LeaderUnarmed,
			check: wants(Stop{Mode: StopImmediate})},
		{name: "1.13.1 a standby that cannot arm releases", change: func(o *Observation) {
			o.PG.Row.InRecovery, o.Memory.Primary, o.Leash.Armed = true, false, 0
			did(o, ArmLeash{}, ResultFailed)
		}, action: Release{}, reason: LeaderUnarmed, check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "1.13.3 /history is kept current", change: func(o *Observation) {
			o.PG.Row.Timeline = 2
			o.PG.HistoryLocal = wal.History{{Timeline: 1, LSN: 500, Reason: "no recovery target specified"}}
		}, action: WriteHistory{}, reason: LeaderWritesHistory},
		{name: "1.13.5 promotes", change: standbyLeaderToBe, action: Promote{}, reason: LeaderPromotes},
		{name: "1.13.5/S6 not with too little time left", change: func(o *Observation) {
			standbyLeaderToBe(o)
			o.Memory.Lease.Attempt, o.Memory.Lease.Renewed = plus(21*sec), plus(21*sec)
			o.Now = o.Memory.Lease.StopAt().Add(-900 * time.Millisecond)
			o.Memory.Lease.Attempt = o.Now
		}, reason: LeaderTooLate},
		{name: "1.13.5 a failed promotion is repeated once per period", change: func(o *Observation) { standbyLeaderToBe(o); ended(o, OpPromote, "no") }, reason: LeaderPromoting},
		{name: "S2 not on an old timeline", change: func(o *Observation) {
			standbyLeaderToBe(o)
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}
		}, action: Release{}, reason: LeaderBehind},
		{name: "S6 not with an identifier that cannot be read", change: func(o *Observation) { standbyLeaderToBe(o); o.PG.SystemID = "" }, reason: NoSystemID},
		{name: "4.2 slots of the others are made", change: func(o *Observation) {
			o.Settings.UseSlots, o.Settings.MemberSlotsTTL = true, time.Hour
			o.PG.Slots = map[string]wal.LSN{}
		}, action: SyncSlots{}, reason: LeaderSlots},
		{name: "H5 renewal refused, another leads: demote", change: func(o *Observation) {
			did(o, Renew{}, ResultConflict)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 125}
		}, action: Stop{}, reason: DemoteNoLock, check: noLease},
		{name: "H6 renewal refused, standby: just follows", change: func(o *Observation) {
			standbyLeaderToBe(o)
			did(o, Renew{}, ResultConflict)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 125}
			o.Leash.Armed = 0
		}, reason: SecondaryNoUpstream, check: noLease},
		{name: "H7 renewal unknown: deadline stays", change: func(o *Observation) { did(o, Renew{}, ResultUnknown) }, reason: LeaderNoAction,
			check: func(t *testing.T, d Decision) {
				if want := base().Memory.Lease.Deadline; d.Memory.Lease.Deadline != want {
					t.Errorf("deadline %v, want %v", d.Memory.Lease.Deadline, want)
				}
			}},
		{name: "H3 renewal succeeded: deadline counts from the send", change: func(o *Observation) { did(o, Renew{}, ResultOK); o.DCS.Cluster.Status.Beat.Beat = 8 }, reason: LeaderNoAction,
			check: func(t *testing.T, d Decision) {
				if want := plus(-100 * time.Millisecond).Add(26900 * time.Millisecond); d.Memory.Lease.Deadline != want || d.Memory.Lease.Beat != 8 {
					t.Errorf("lease %+v, want deadline %v and beat 8", d.Memory.Lease, want)
				}
			}},
	})
}

// standbyLeaderToBe: n1 holds the lock and is still in recovery.
func standbyLeaderToBe(o *Observation) {
	o.PG.Row = Row{InRecovery: true, Timeline: 1, Position: 1000, Receive: 1000, Replay: 1000}
	upstream(o, "n2")
	o.PG.StandbySignal, o.Memory.Primary = true, false
}

func TestReclaim(t *testing.T) { // safety B.3 (d), and what ends a leadership
	gone := func(o *Observation) { o.DCS.Cluster.Leader = nil }
	runTable(t, []row{
		{name: "B.3d key gone, /status is my last write", change: gone, action: Claim{}, reason: LeaseRenewal},
		{name: "B.3d not when /status is another's", change: func(o *Observation) {
			gone(o)
			o.DCS.Cluster.Status.Beat.Holder = "h2"
		}, action: Stop{}, reason: DemoteNoLock, check: noLease},
		{name: "B.3d not when an unknown round came through", change: func(o *Observation) {
			gone(o)
			o.DCS.Cluster.Status.Beat.Beat = 8
		}, action: Stop{}, reason: DemoteNoLock, check: noLease},
		{name: "B.3d not when /status is gone", change: func(o *Observation) { gone(o); o.DCS.Cluster.Status = nil; answered(o, Peer{}, Peer{}) }, action: Claim{}, reason: ElectionWins, check: noLease},
		{name: "B.3d not after the stop instant", change: func(o *Observation) {
			gone(o)
			o.Now = o.Memory.Lease.StopAt()
		}, action: Stop{}, reason: DemoteNoLock, check: noLease},
		{name: "B.3d a claim that failed is repeated, the server stays", change: func(o *Observation) {
			gone(o)
			o.Memory.Leaderless = plus(-50 * time.Millisecond)
			o.Memory.Lease.Attempt = plus(-20 * time.Millisecond)
			did(o, Claim{}, ResultUnknown)
		}, reason: ElectionReclaims},
		{name: "B.3d refused round and no leader: taken again", change: func(o *Observation) { gone(o); did(o, Renew{}, ResultConflict) }, action: Claim{}, reason: LeaseRenewal},
		{name: "B.3d new epoch keeps what the old one was allowed", change: func(o *Observation) {
			short, _ := NewTiming(5*sec, sec, sec)
			did(o, Claim{}, ResultOK)
			o.Last.Timing = short
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: 131}
			o.DCS.Cluster.Status = &dcs.Status{ModRevision: 131, Beat: &dcs.Beat{Holder: "h1", TTL: 30000}}
		}, action: ArmLeash{}, reason: LeaderArming, check: func(t *testing.T, d Decision) {
			if l := d.Memory.Lease; l.Epoch != 131 || l.Deadline != base().Memory.Lease.Deadline || l.Promise != 30*sec {
				t.Errorf("lease %+v", l)
			}
		}},
		{name: "X1 etcd silent, deadline ahead", change: silent, reason: OfflineWaiting},
		{name: "X3 etcd silent, stop instant reached", change: func(o *Observation) { silent(o); o.Now = o.Memory.Lease.StopAt() }, action: Stop{}, reason: DemoteOffline,
			check: wants(Stop{Mode: StopFast, Escalate: 2500 * time.Millisecond})},
		{name: "X3 stopped offline: the leash is told", change: func(o *Observation) { silent(o); lost(o); down(o, "shut down"); o.Memory.Offline = true }, action: DisarmLeash{}, reason: SecondaryDisarms},
		{name: "X3 then it starts read-only", change: func(o *Observation) {
			silent(o)
			lost(o)
			down(o, "shut down")
			o.Memory.Offline, o.Leash.Armed = true, 0
		}, action: Start{}, reason: OfflineReadOnly, check: wants(Start{})},
		{name: "X3 one attempt per period", change: func(o *Observation) {
			silent(o)
			lost(o)
			down(o, "shut down")
			o.Memory.Offline, o.Leash.Armed, o.Memory.FailedStart = true, 0, plus(-sec)
		}, reason: OfflineWaiting},
		{name: "X4 a standby only waits", change: func(o *Observation) { replica(o); silent(o) }, reason: OfflineWaiting},
		{name: "X1 server down: report only", change: func(o *Observation) { silent(o); lost(o); down(o, "in production") }, reason: OfflineWaiting},
		{name: "X1 paused: nothing is demoted", change: func(o *Observation) { silent(o); lost(o); paused3(o) }, reason: OfflineWaiting},
		{name: "X1 nothing is touched before the first snapshot", change: func(o *Observation) { silent(o); lost(o); o.DCS.Cluster = nil }, reason: OfflineWaiting},
		{name: "X fresh without a cluster is not fresh", change: func(o *Observation) { lost(o); o.DCS.Cluster = nil }, reason: OfflineWaiting},
	})
}

func silent(o *Observation) { o.DCS.Fresh, o.DCS.Error = false, "deadline exceeded" }

func TestTakeBack(t *testing.T) {
	runTable(t, []row{
		{name: "B.6 restarted agent renews its own epoch", change: lost, action: TakeBack{}, reason: TakeBackOwn, check: wants(TakeBack{Epoch: myEpoch})},
		{name: "B.6 success: old deadline binds until it is passed", change: func(o *Observation) {
			lost(o)
			did(o, TakeBack{Epoch: myEpoch}, ResultOK)
			short, _ := NewTiming(5*sec, sec, sec)
			o.Last.Timing = short
		}, reason: LeaderNoAction, check: func(t *testing.T, d Decision) {
			if l := d.Memory.Lease; l.Deadline != base().Leash.Deadline || l.Promise != 30*sec || l.Beat != 8 {
				t.Errorf("lease %+v", l)
			}
		}},
		{name: "B.6 a failed round is repeated while the deadline is ahead", change: func(o *Observation) { lost(o); did(o, TakeBack{Epoch: myEpoch}, ResultFailed) }, action: TakeBack{}, reason: TakeBackOwn},
		{name: "B.6 a failed round at the stop instant: demote", change: func(o *Observation) {
			lost(o)
			did(o, TakeBack{Epoch: myEpoch}, ResultFailed)
			o.Now = o.Leash.Deadline.Add(-5 * sec)
		}, action: Stop{}, reason: DemoteNoLock, check: wants(Stop{Mode: StopFast, Escalate: 2500 * time.Millisecond})},
		{name: "B.6 without a leash one failed round is enough", change: func(o *Observation) {
			lost(o)
			o.Settings.LeashOff, o.Leash = true, Leash{}
			did(o, TakeBack{Epoch: myEpoch}, ResultUnknown)
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "B.6 latched and still running: stop", change: func(o *Observation) { lost(o); o.Leash.Armed = 0 }, action: Stop{}, reason: DemoteNoLock},
		{name: "B.6 latched and dead: release", change: func(o *Observation) { lost(o); o.Leash.Armed = 0; down(o, "in production") }, action: Release{}, reason: TakeBackLatched,
			check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "B.6 another installation wrote the beat", change: func(o *Observation) { lost(o); o.DCS.Cluster.Status.Beat.Holder = "h9" }, reason: ElectionRefused},
		{name: "1.4 a lapsed lease is tried once more", change: func(o *Observation) { o.Now = o.Memory.Lease.StopAt() }, action: TakeBack{}, reason: TakeBackOwn, check: noLease},
	})
}

func TestDuringOperation(t *testing.T) { // table A
	runTable(t, []row{
		{name: "A2 lock held: the operation goes on", change: func(o *Observation) { runs(o, OpPromote) }, reason: OperationRuns},
		{name: "A1 start overdue, nobody asked yet", change: func(o *Observation) { runs(o, OpStartPrimary); o.Op.Started = plus(-300 * sec) }, action: AskPeers{}, reason: CrashAskPeers},
		{name: "A1 start overdue, somebody could take over", change: func(o *Observation) {
			runs(o, OpStartPrimary)
			o.Op.Started = plus(-300 * sec)
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, action: CancelOperation{}, reason: StartTimeout},
		{name: "A1 crash recovery counts from the crash", change: func(o *Observation) {
			down(o, "in production")
			runs(o, OpCrashRecovery)
			o.Memory.CrashedPrimary = plus(-301 * sec)
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, action: CancelOperation{}, reason: StartTimeout},
		{name: "B3 start overdue, nobody could", change: func(o *Observation) {
			runs(o, OpStartPrimary)
			o.Op.Started = plus(-300 * sec)
			answered(o, Peer{}, Peer{})
		}, reason: StartingUp},
		{name: "A3 lock lost during promote", change: func(o *Observation) { replica(o); runs(o, OpPromote) }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "A4 lock lost during primary start", change: func(o *Observation) { replica(o); runs(o, OpStartPrimary) }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "A6 a clone of a standby goes on", change: func(o *Observation) { replica(o); runs(o, OpClone) }, reason: OperationRuns},
		{name: "1.23.14 pause interrupts nothing", change: func(o *Observation) { replica(o); paused3(o); runs(o, OpPromote) }, reason: OperationRuns},
		{name: "1.22.1 SIGTERM cancels a clone", change: func(o *Observation) { replica(o); o.Stopping = true; runs(o, OpClone) }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "1.22.1 but not a stop", change: func(o *Observation) { o.Stopping = true; runs(o, OpStop) }, reason: OperationRuns},
	})
}

func TestStarting(t *testing.T) { // table B
	booting := func(o *Observation) { o.PG.Process, o.PG.Known = ProcessStarting, false }
	runTable(t, []row{
		{name: "B4 leader starts, time left", change: booting, reason: StartingUp},
		{name: "B1 primary starts without the lock", change: func(o *Observation) { booting(o); lost(o); o.DCS.Cluster.Leader.Name = "n2" }, action: Stop{}, reason: DemoteNoLock},
		{name: "B2 overdue, somebody could take over", change: func(o *Observation) {
			booting(o)
			o.Memory.CrashedPrimary = plus(-300 * sec)
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, action: Stop{}, reason: StartTimeout, check: func(t *testing.T, d Decision) {
			if !d.Memory.Demoting {
				t.Error("not demoting")
			}
		}},
		{name: "B2 asks first", change: func(o *Observation) { booting(o); o.Memory.CrashedPrimary = plus(-300 * sec) }, action: AskPeers{}, reason: CrashAskPeers,
			check: func(t *testing.T, d Decision) {
				if d.Memory.Demoting {
					t.Error("demoting already")
				}
			}},
		{name: "B3 overdue, nobody could", change: func(o *Observation) {
			booting(o)
			o.Memory.CrashedPrimary = plus(-300 * sec)
			answered(o, Peer{}, Peer{})
		}, reason: StartingUp},
		{name: "B5 a standby starts", change: func(o *Observation) { replica(o); booting(o) }, reason: StartingUp},
	})
}

func TestBootstrap(t *testing.T) { // tables C and D
	fresh := func(o *Observation) {
		lost(o)
		o.DCS.Cluster = &dcs.Cluster{ID: 1, Revision: 3}
		o.PG = Postgres{}
		o.Leash = Leash{Attached: true}
		o.Memory = Memory{}
	}
	step := func(s BootstrapStep) func(*Observation) {
		return func(o *Observation) {
			fresh(o)
			o.Memory.Bootstrap = s
			o.DCS.Cluster.Initialize = &dcs.Initialize{ModRevision: 4}
			if s != BootstrapWon {
				o.PG = base().PG
			}
		}
	}
	and := func(fs ...func(*Observation)) func(*Observation) {
		return func(o *Observation) {
			for _, f := range fs {
				f(o)
			}
		}
	}
	empty := func(o *Observation) { down(o, ""); o.PG.DataDir = DataDirEmpty }
	runTable(t, []row{
		{name: "D5x first node races for /initialize", change: fresh, action: WriteInitialize{}, reason: BootstrapClaims},
		{name: "D5x not without a bootstrap section", change: and(fresh, func(o *Observation) { o.Me.CanBootstrap = false }), reason: BootstrapWaits},
		{name: "D5x not with nofailover", change: and(fresh, func(o *Observation) { o.Settings.NoFailover = true }), reason: BootstrapWaits},
		{name: "D7x/D8x another node bootstraps", change: and(fresh, func(o *Observation) { o.DCS.Cluster.Initialize = &dcs.Initialize{ModRevision: 4} }), reason: BootstrapWaits},
		{name: "D5x won", change: and(fresh, func(o *Observation) { did(o, WriteInitialize{}, ResultOK) }), action: Bootstrap{}, reason: BootstrapInitDB},
		{name: "D5x lost the race", change: and(fresh, func(o *Observation) {
			did(o, WriteInitialize{}, ResultConflict)
			o.DCS.Cluster.Initialize = &dcs.Initialize{ModRevision: 4}
		}), reason: BootstrapWaits},
		{name: "C3 initdb done: roles", change: and(step(BootstrapWon), func(o *Observation) { ended(o, OpBootstrap, "") }), action: PostBootstrap{}, reason: BootstrapPost},
		{name: "C4 identifier first", change: step(BootstrapRoles), action: WriteInitialize{}, reason: BootstrapPublishes, check: wants(WriteInitialize{SystemID: sysID, Revision: 4})},
		{name: "C4 then /config", change: and(step(BootstrapRoles), func(o *Observation) { o.DCS.Cluster.Initialize.SystemID = sysID }), action: WriteConfig{}, reason: BootstrapPublishes},
		{name: "C4 then the lock", change: and(step(BootstrapRoles), func(o *Observation) {
			o.DCS.Cluster.Initialize.SystemID = sysID
			o.DCS.Cluster.Config = &dcs.Config{Raw: []byte(`{"ttl":30}`), ModRevision: 5}
		}), action: Claim{}, reason: BootstrapPublishes},
		{name: "C4 then the leash", change: func(o *Observation) { o.Memory.Bootstrap, o.Leash.Armed = BootstrapRoles, 0 }, action: ArmLeash{}, reason: LeaderArming},
		{name: "C4 done", change: func(o *Observation) { o.Memory.Bootstrap = BootstrapRoles }, reason: BootstrapLeader},
		{name: "C1 initdb failed: the directory goes aside", change: and(step(BootstrapWon), func(o *Observation) {
			ended(o, OpBootstrap, "no space")
			o.PG.DataDir = DataDirHalfMade
		}), action: MoveAside{}, reason: BootstrapCleans},
		{name: "C1 a server that runs is stopped first", change: and(step(BootstrapRoles), func(o *Observation) { o.Memory.Bootstrap = BootstrapFailed }), action: Stop{}, reason: BootstrapCleans},
		{name: "C1 then the key", change: and(step(BootstrapFailed), empty), action: DropInitialize{}, reason: BootstrapCleans, check: wants(DropInitialize{Revision: 4})},
		{name: "C1 then the agent ends", change: and(step(BootstrapFailed), empty, func(o *Observation) { o.DCS.Cluster.Initialize = nil }), action: Exit{}, reason: BootstrapGaveUp},
		{name: "C1 server died before it was published", change: and(step(BootstrapRoles), func(o *Observation) { down(o, "in production") }), reason: BootstrapCleans},
		{name: "C4 server died after it was published: a crash like any other", change: and(step(BootstrapRoles), func(o *Observation) {
			down(o, "in production")
			o.DCS.Cluster.Initialize.SystemID = sysID
		}), reason: BootstrapLeader},
		{name: "1.22 SIGTERM during bootstrap cleans up", change: and(step(BootstrapWon), func(o *Observation) { o.Stopping = true }), action: DropInitialize{}, reason: BootstrapCleans},
		{name: "D1x empty directory with a server: stop", change: func(o *Observation) { replica(o); o.PG.DataDir = DataDirEmpty }, action: Stop{}, reason: DataDirBad},
		{name: "D2x lock mine, directory empty: release", change: empty, action: Release{}, reason: DataDirRelease},
		{name: "D3x unreadable: report only", change: func(o *Observation) { replica(o); o.PG.DataDir = DataDirUnreadable }, reason: DataDirBad},
		{name: "D2x lock mine, unreadable: release", change: func(o *Observation) { o.PG.DataDir = DataDirUnreadable }, action: Release{}, reason: DataDirRelease,
			check: wants(Release{Epoch: myEpoch})},
		{name: "D4x paused: no clone", change: and(replica, empty, paused3), reason: PausedLeaves},
		{name: "D6x clone from the leader", change: and(replica, empty), action: Clone{}, reason: CloneRuns,
			check: wants(Clone{From: Upstream{Member: "n2", ConnURL: "postgres://n2:5432/postgres", Checkpointed: true}})},
		{name: "6.3 clone from a clonefrom member", change: and(replica, empty, func(o *Observation) { mem(o, "n3").Tags = dcs.Tags{{Name: "clonefrom", Value: true}} }), action: Clone{}, reason: CloneRuns,
			check: wants(Clone{From: Upstream{Member: "n3", ConnURL: "postgres://n3:5432/postgres"}})},
		{name: "D6x leader not running yet", change: and(replica, empty, func(o *Observation) { mem(o, "n2").State = "starting" }), reason: CloneWaits},
		{name: "D6x a failed clone is repeated once per period", change: and(replica, empty, func(o *Observation) { ended(o, OpClone, "refused") }), reason: CloneRetryLater},
		{name: "S9 a half-made copy is made anew", change: and(replica, empty, func(o *Observation) { o.PG.DataDir = DataDirHalfMade }), action: Clone{}, reason: CloneRuns,
			check: func(t *testing.T, d Decision) {
				if !d.Action.(Clone).Wipe {
					t.Error("does not wipe")
				}
			}},
		{name: "S9 a half-made copy and nobody to copy from: left alone", change: and(leaderless, empty, func(o *Observation) { o.PG.DataDir = DataDirHalfMade }), reason: DataDirBad},
	})
}

func TestSystemID(t *testing.T) { // table E
	runTable(t, []row{
		{name: "E2 foreign directory", change: func(o *Observation) { replica(o); o.PG.SystemID = "1234567890123" }, action: Exit{}, reason: ForeignSystem},
		{name: "E3 foreign directory in pause, not leader", change: func(o *Observation) { replica(o); paused3(o); o.PG.SystemID = "1234567890123" }, reason: PausedLeaves},
		{name: "E3 foreign directory in pause, leader", change: func(o *Observation) { paused3(o); o.PG.SystemID = "1234567890123" }, action: Release{}, reason: PausedReleases},
		{name: "E4 a replica without a cluster is not joined", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.Initialize, o.Memory.LastEpoch = nil, 0
		}, action: Exit{}, reason: JoinAborted},
		{name: "E4 unless it had followed a leader", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Initialize = nil }, reason: ElectionRefused},
		{name: "E5 a primary without a cluster claims it", change: func(o *Observation) {
			lost(o)
			o.DCS.Cluster.Leader, o.DCS.Cluster.Initialize = nil, nil
		}, action: WriteInitialize{}, reason: ClaimsInitialize},
		{name: "E5 also when it is down", change: func(o *Observation) {
			lost(o)
			down(o, "shut down")
			o.Leash.Armed, o.DCS.Cluster.Status = 0, nil
			o.DCS.Cluster.Leader, o.DCS.Cluster.Initialize = nil, nil
		}, action: WriteInitialize{}, reason: ClaimsInitialize},
	})
}

func TestServerDown(t *testing.T) { // G4, R1-R11, S11, 5.x
	dead := func(o *Observation) { down(o, "in production") }
	member := func(o *Observation) { replica(o); down(o, "shut down in recovery") }
	ex := func(o *Observation) { replica(o); down(o, "in production"); o.PG.StandbySignal = false }
	runTable(t, []row{
		{name: "R2 crashed primary starts in place", change: dead, action: Start{}, reason: StartAsPrimary, check: wants(Start{Primary: true})},
		{name: "R2 not before the leash is armed", change: func(o *Observation) { dead(o); o.Leash.Armed = 0 }, action: ArmLeash{}, reason: LeaderArming},
		{name: "R7 lock mine, but it was a standby: read-only", change: func(o *Observation) { dead(o); o.PG.StandbySignal = true }, action: Start{}, reason: StartReadOnly, check: wants(Start{})},
		{name: "R7 lock mine, archive recovery", change: func(o *Observation) { down(o, "in archive recovery") }, action: Start{}, reason: StartReadOnly},
		{name: "R1 start timeout 0: asks", change: func(o *Observation) { dead(o); o.Settings.PrimaryStartTimeout = 0 }, action: AskPeers{}, reason: CrashAskPeers},
		{name: "R1 start timeout 0: fails over", change: func(o *Observation) {
			dead(o)
			o.Settings.PrimaryStartTimeout = 0
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, action: Release{}, reason: CrashFailover, check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "R1 start timeout 0, nobody can: starts", change: func(o *Observation) {
			dead(o)
			o.Settings.PrimaryStartTimeout = 0
			answered(o, Peer{}, Peer{})
		}, action: Start{}, reason: StartAsPrimary},
		{name: "S11 the start failed: release", change: func(o *Observation) { dead(o); ended(o, OpStartPrimary, "bad setting") }, action: Release{}, reason: StartFailedRelease},
		{name: "1.21 stopped to hand over: release", change: func(o *Observation) {
			down(o, "shut down")
			o.Memory.Demoting = true
			ended(o, OpStop, "")
			o.Op.ShutdownLSN = 4242
		}, action: Release{}, reason: HandOverStops, check: wants(Release{Epoch: myEpoch, Clean: true, Optime: 4242})},
		{name: "1.21 released: others go first", change: func(o *Observation) {
			leaderless(o)
			down(o, "shut down")
			o.Memory.YieldUntil = plus(sec)
		}, reason: HandOverYield},
		{name: "R11 starts as a replica of the leader", change: member, action: Start{}, reason: StartAsStandby,
			check: wants(Start{Upstream: Upstream{Member: "n2", ConnURL: "postgres://n2:5432/postgres", Checkpointed: true}})},
		{name: "1.14 of the member it replicates from", change: func(o *Observation) { member(o); o.Settings.ReplicateFrom = "n3" }, action: Start{}, reason: StartAsStandby,
			check: wants(Start{Upstream: Upstream{Member: "n3", ConnURL: "postgres://n3:5432/postgres", Checkpointed: true}})},
		{name: "G4 one attempt per period", change: func(o *Observation) { member(o); o.Memory.FailedStart = plus(-sec) }, reason: StartRetryLater},
		{name: "B.6 an armed leash is told first", change: func(o *Observation) { member(o); o.Leash.Armed = 50 }, action: DisarmLeash{}, reason: SecondaryDisarms, check: wants(DisarmLeash{Epoch: 50})},
		{name: "B.3 my own last beat is marked as released", change: func(o *Observation) {
			leaderless(o)
			down(o, "in production")
			o.DCS.Cluster.Status.Beat.Holder = "h1"
		}, action: PublishReleased{}, reason: TakeBackFinished},
		{name: "R5 leaderless and unclean: crash recovery", change: func(o *Observation) { leaderless(o); down(o, "in production"); o.PG.StandbySignal = false }, action: CrashRecovery{}, reason: CrashRecoveryRunning},
		{name: "R5 once", change: func(o *Observation) {
			leaderless(o)
			down(o, "in production")
			o.Memory.Recovered = true
		}, action: Start{}, reason: StartReadOnly, check: wants(Start{})},
		{name: "R4 not with a backup label", change: func(o *Observation) {
			leaderless(o)
			down(o, "in production")
			o.PG.Control.HasBackupLabel = true
		}, action: Start{}, reason: StartReadOnly},
		{name: "G4 leaderless: one attempt per period", change: func(o *Observation) {
			leaderless(o)
			down(o, "shut down in recovery")
			o.Memory.FailedStart = plus(-sec)
		}, reason: StartRetryLater},
		{name: "R8 an unclean ex-primary recovers before the comparison", change: func(o *Observation) { ex(o); o.Memory.armRewind() }, action: CrashRecovery{}, reason: CrashRecoveryRunning},
		{name: "R8/5.2 then compares", change: func(o *Observation) { ex(o); o.Memory.armRewind(); ended(o, OpCrashRecovery, "") }, action: CheckDivergence{}, reason: DivergenceChecking},
		{name: "5.2 not diverged: starts", change: func(o *Observation) {
			ex(o)
			o.Memory.armRewind()
			ended(o, OpCheckDivergence, "")
			o.Op.Divergence = DivergenceNone
		}, action: Start{}, reason: StartAsStandby},
		{name: "5.2 diverged: rewinds", change: func(o *Observation) {
			ex(o)
			o.PG.Control.State = "shut down"
			o.Memory.armRewind()
			ended(o, OpCheckDivergence, "")
			o.Op.Divergence = DivergenceFound
		}, action: Rewind{}, reason: RewindRunning},
		{name: "5.2 unknown: starts, and asks again later", change: func(o *Observation) {
			ex(o)
			o.PG.Control.State = "shut down"
			o.Memory.armRewind()
			ended(o, OpCheckDivergence, "cannot connect")
		}, action: Start{}, reason: StartAsStandby},
		{name: "S13/5.4.3 waits for the leader's checkpoint", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind = RewindNeed
			no := false
			mem(o, "n2").CheckpointAfterPromote = &no
		}, reason: RewindWaitsForLeader},
		{name: "5.2 the leader is not running yet", change: func(o *Observation) { ex(o); o.Memory.Rewind = RewindNeed; mem(o, "n2").Role = "replica" }, reason: SecondaryNoUpstream},
		{name: "5.2 dirty standby recovers before the rewind", change: func(o *Observation) {
			ex(o)
			o.PG.Control.State, o.Memory.Rewind = "in archive recovery", RewindNeed
		}, action: CrashRecovery{}, reason: CrashRecoveryRunning},
		{name: "5.4.5 a failed rewind is repeated once per period", change: func(o *Observation) {
			ex(o)
			o.PG.Control.State, o.Memory.Rewind = "shut down", RewindNeed
			ended(o, OpRewind, "leader went away")
		}, reason: RewindRunning},
		{name: "5.4.6 damaged, wiping allowed: copies", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind, o.Settings.WipeOnRewindFailure = RewindNeed, true
			ended(o, OpRewind, "damaged")
			o.Op.Damaged = true
		}, action: Clone{}, reason: ReinitDiverged},
		{name: "S9 damaged, but the leader does not run: nothing is wiped", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind, o.Settings.WipeOnRewindFailure = RewindFailed, true
			mem(o, "n2").Role = "replica"
		}, reason: SecondaryNoUpstream},
		{name: "5.4.6 damaged, wiping not allowed: just starts", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind = RewindNeed
			ended(o, OpRewind, "damaged")
			o.Op.Damaged = true
		}, action: Start{}, reason: StartAsStandby},
		{name: "5.2 rewind impossible, wiping allowed: copies", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind, o.PG.CanRewind, o.Settings.WipeOnDivergence = RewindNeed, false, true
		}, action: Clone{}, reason: ReinitDiverged},
		{name: "5.1 nothing could be done: just starts", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind, o.PG.CanRewind = RewindNeed, false
		}, action: Start{}, reason: StartAsStandby},
	})
}

func TestFollow(t *testing.T) { // H8, table F
	runTable(t, []row{
		{name: "H8 a streaming standby has nothing to do", change: replica, reason: SecondaryNoAction},
		{name: "F4b a primary under another's lock stops", change: func(o *Observation) { lost(o); o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 110} }, action: Stop{}, reason: DemoteNoLock,
			check: wants(Stop{Mode: StopImmediate})},
		{name: "F4b also when it does not answer", change: func(o *Observation) {
			lost(o)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 110}
			o.PG.Known, o.PG.Process = false, ProcessUnsure
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "B.6 a standby disarms the leash", change: func(o *Observation) { replica(o); o.Leash.Armed = 50 }, action: DisarmLeash{}, reason: SecondaryDisarms},
		{name: "S19 a standby that does not answer is left", change: func(o *Observation) { replica(o); o.PG.Known = false }, reason: SecondaryNoAction},
		{name: "F8 new leader: re-points", change: func(o *Observation) { replica(o); upstream(o, "n3") }, action: Follow{}, reason: SecondaryFollows},
		{name: "F8 a failed re-pointing is not repeated at once", change: func(o *Observation) {
			replica(o)
			upstream(o, "n3")
			did(o, Follow{Upstream: Upstream{Member: "n2", ConnURL: "postgres://n2:5432/postgres", Checkpointed: true}}, ResultFailed)
		}, reason: SecondaryFollows},
		{name: "1.14 replicatefrom", change: func(o *Observation) { replica(o); o.Settings.ReplicateFrom = "n3" }, action: Follow{}, reason: SecondaryFollows,
			check: wants(Follow{Upstream: Upstream{Member: "n3", ConnURL: "postgres://n3:5432/postgres", Checkpointed: true}})},
		{name: "1.14 replicatefrom of an absent member", change: func(o *Observation) { replica(o); o.Settings.ReplicateFrom = "n7" }, reason: SecondaryNoAction},
		{name: "H8 leader not running yet", change: func(o *Observation) { replica(o); mem(o, "n2").Role = "replica" }, reason: SecondaryNoUpstream},
		{name: "F5 a new leadership is compared with", change: func(o *Observation) {
			replica(o)
			o.Memory.LastEpoch, o.Memory.RewindFor, o.PG.Row.ReplicationState = 80, 80, ""
		}, action: CheckDivergence{}, reason: DivergenceChecking},
		{name: "F5 streaming on the leader's timeline is proof enough", change: func(o *Observation) { replica(o); o.Memory.LastEpoch = 80 }, reason: SecondaryNoAction,
			check: func(t *testing.T, d Decision) {
				if d.Memory.Rewind != RewindIdle {
					t.Errorf("rewind state %d", d.Memory.Rewind)
				}
			}},
		{name: "F10 leader's timeline is newer and nothing streams", change: func(o *Observation) {
			replica(o)
			mem(o, "n2").Timeline, o.PG.Row.ReplicationState = 2, ""
		}, action: CheckDivergence{}, reason: DivergenceChecking},
		{name: "F10 but it is not compared all the time", change: func(o *Observation) {
			replica(o)
			mem(o, "n2").Timeline, o.PG.Row.ReplicationState = 2, ""
			o.Memory.armRewind()
			ended(o, OpCheckDivergence, "")
			o.Op.Divergence = DivergenceNone
		}, reason: SecondaryNoAction},
		{name: "F5 diverged while running: stops for the rewind", change: func(o *Observation) { replica(o); o.Memory.Rewind = RewindNeed }, action: Stop{}, reason: StopForRewind},
		{name: "4.2 a standby keeps slots for the others", change: func(o *Observation) {
			replica(o)
			o.Settings.UseSlots, o.Settings.MemberSlotsTTL = true, time.Hour
			o.PG.Slots = map[string]wal.LSN{}
		}, action: SyncSlots{}, reason: SecondarySlots},
		{name: "S4b after pause the WAL is compared again", change: func(o *Observation) {
			replica(o)
			o.Memory.WasPaused, o.Memory.Rewind, o.PG.Row.ReplicationState = true, RewindFailed, ""
		}, action: CheckDivergence{}, reason: DivergenceChecking},
	})
}

func TestElection(t *testing.T) { // table U, 2.1, 2.2, 2.4, B.3
	runTable(t, []row{
		{name: "U1 the healthiest claims", change: leaderless, action: Claim{}, reason: ElectionWins},
		{name: "U1 won: arms before it promotes", change: func(o *Observation) {
			leaderless(o)
			did(o, Claim{}, ResultOK)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: 131}
			o.DCS.Cluster.Status = &dcs.Status{ModRevision: 131, Beat: &dcs.Beat{Holder: "h1", TTL: 30000}}
		}, action: ArmLeash{}, reason: LeaderArming, check: func(t *testing.T, d Decision) {
			if want := plus(-100 * time.Millisecond).Add(26900 * time.Millisecond); d.Memory.Lease.Deadline != want {
				t.Errorf("deadline %v, want %v", d.Memory.Lease.Deadline, want)
			}
		}},
		{name: "U2 lost: somebody else leads", change: func(o *Observation) {
			leaderless(o)
			did(o, Claim{}, ResultConflict)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n3", Epoch: 131}
			mem(o, "n3").Role = "primary"
		}, action: Follow{}, reason: SecondaryFollows},
		{name: "U2 unknown: looks again before it claims again", change: func(o *Observation) {
			leaderless(o)
			did(o, Claim{}, ResultUnknown)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: 131}
			o.DCS.Cluster.Status = &dcs.Status{ModRevision: 131, Beat: &dcs.Beat{Holder: "h1", TTL: 30000}}
		}, action: TakeBack{}, reason: TakeBackOwn},
		{name: "B.3a released: no hold-off", change: func(o *Observation) {
			leaderless(o)
			o.Memory.SeenAt = noon
			o.DCS.Cluster.Status.Beat.Released = true
		}, action: Claim{}, reason: ElectionWins},
		{name: "B.3b no beat: the lease alone decides", change: func(o *Observation) { leaderless(o); o.Memory.SeenAt = noon; o.DCS.Cluster.Status.Beat = nil }, action: Claim{}, reason: ElectionWins},
		{name: "B.3b a Patroni leader was seen after that beat", change: func(o *Observation) { leaderless(o); o.Memory.SeenAt = noon; o.Memory.LastEpoch = 95 }, action: Claim{}, reason: ElectionWins},
		{name: "B.3c a leadership that was never seen here counts in full", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.Status.Beat.Epoch, o.DCS.Cluster.Status.ModRevision = 95, 121
		}, reason: ElectionHoldOff},
		{name: "B.3c the beat stands still not long enough", change: func(o *Observation) { leaderless(o); o.Memory.SeenAt = plus(-29999 * time.Millisecond) }, reason: ElectionHoldOff,
			check: func(t *testing.T, d Decision) {
				if d.Wait != time.Millisecond {
					t.Errorf("waits %v", d.Wait)
				}
			}},
		{name: "B.3c a new beat starts the wait anew", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Status.ModRevision = 121 }, reason: ElectionHoldOff},
		{name: "B.3c the holder's T counts, not mine", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Status.Beat.TTL = 60000 }, reason: ElectionHoldOff},
		{name: "B.3c a claim's own beat carries no epoch yet", change: func(o *Observation) {
			leaderless(o)
			o.Memory.SeenAt = noon
			o.DCS.Cluster.Status.Beat.Epoch, o.Memory.LastEpoch = 0, 120
		}, reason: ElectionHoldOff},
		{name: "B.3 a writable node does not sit out the hold-off", change: func(o *Observation) { leaderless(o); o.Memory.SeenAt = noon; o.PG.Row.InRecovery = false }, action: Stop{}, reason: DemoteNoLock},
		{name: "B.3 peers are asked while the hold-off runs", change: func(o *Observation) { leaderless(o); o.Memory.SeenAt = noon; o.Peers = Peers{} }, action: AskPeers{}, reason: ElectionAsks,
			check: func(t *testing.T, d Decision) {
				a := d.Action.(AskPeers)
				if len(a.Await) != 1 || a.Await[0].Name != "n3" || len(a.Glance) != 1 || a.Glance[0].Name != "n2" {
					t.Errorf("awaits %v, glances at %v", a.Await, a.Glance)
				}
			}},
		{name: "B.3 and again when it ends; who did not answer is not waited for", change: func(o *Observation) {
			leaderless(o)
			o.Peers.AskedAt = plus(-2 * sec)
			o.Peers.Answers["n3"] = Peer{}
		}, action: AskPeers{}, reason: ElectionAsks, check: func(t *testing.T, d Decision) {
			if a := d.Action.(AskPeers); len(a.Await) != 0 || len(a.Glance) != 2 {
				t.Errorf("awaits %v, glances at %v", a.Await, a.Glance)
			}
		}},
		{name: "B.3 a lone node asks nobody", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.Members, o.Memory.LastMembers, o.Peers = o.DCS.Cluster.Members[:1], nil, Peers{}
		}, action: Claim{}, reason: ElectionWins},
		{name: "B.3 my own last beat is marked as released", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Status.Beat.Holder = "h1" }, action: PublishReleased{}, reason: TakeBackFinished},
		{name: "B.6 an armed leash is told first", change: func(o *Observation) { leaderless(o); o.Leash.Armed = 50 }, action: DisarmLeash{}, reason: SecondaryDisarms},
		{name: "B.3 garbage in /status holds everybody off", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster = dcs.Decode("/b/demo", []dcs.KV{
				{Key: "/b/demo/status", Value: []byte("{"), ModRevision: 140},
				{Key: "/b/demo/initialize", Value: []byte(sysID), ModRevision: 5},
			})
		}, reason: ElectionHoldOff},
		{name: "1.21 who gave the lock away yields", change: func(o *Observation) { leaderless(o); o.Memory.YieldUntil = plus(sec) }, reason: ElectionYields},
		{name: "2.1.2 no answer from the server", change: func(o *Observation) { leaderless(o); o.PG.Known = false }, reason: ElectionRefused},
		{name: "2.1.4 primary that slept through a failover", change: func(o *Observation) {
			leaderless(o)
			o.PG.Row.InRecovery = false
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "2.1.4 running primary on the newest timeline", change: func(o *Observation) { leaderless(o); o.PG.Row.InRecovery = false }, action: Claim{}, reason: ElectionWins},
		{name: "2.1.6 nofailover", change: func(o *Observation) { leaderless(o); o.Settings.NoFailover = true }, reason: ElectionRefused},
		{name: "2.1.6 before 2.4: nofailover, although named", change: func(o *Observation) { leaderless(o); o.Settings.NoFailover = true; failover(o, "", "n1") }, reason: ElectionRefused},
		{name: "2.1.8 no leash, no leader", change: func(o *Observation) { leaderless(o); o.Leash = Leash{} }, reason: ElectionRefused},
		{name: "2.2.1 lag limit", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Status.Optime = 1000 + 1<<20 + 1 }, reason: ElectionRefused},
		{name: "2.2.1 lag limit, just within", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Status.Optime = 1000 + 1<<20 }, action: Claim{}, reason: ElectionWins},
		{name: "2.2.1 lag limit below zero is zero", change: func(o *Observation) {
			leaderless(o)
			o.Settings.MaximumLagOnFailover, o.DCS.Cluster.Status.Optime = -1, 1001
		}, reason: ElectionRefused},
		{name: "2.2.2/S2 old timeline", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}
		}, reason: ElectionRefused},
		{name: "2.2.4 somebody is ahead", change: func(o *Observation) { leaderless(o); o.Peers.Answers["n3"] = standbyPeer(1001) }, reason: ElectionRefused},
		{name: "2.2.4 the old primary is alive", change: func(o *Observation) { leaderless(o); o.Peers.Answers["n2"] = Peer{Reachable: true} }, reason: ElectionRefused},
		{name: "2.2.4 equal WAL, higher priority elsewhere", change: func(o *Observation) {
			leaderless(o)
			p := standbyPeer(1000)
			p.Priority = 2
			o.Peers.Answers["n3"] = p
		}, reason: ElectionRefused},
		{name: "2.2.4 a former leader's priority is ignored", change: func(o *Observation) {
			leaderless(o)
			p := standbyPeer(1000)
			p.Priority = 2
			o.Peers.Answers["n2"] = p
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.3 ahead, but not allowed to promote", change: func(o *Observation) {
			leaderless(o)
			p := standbyPeer(2000)
			p.NoFailover = true
			o.Peers.Answers["n3"] = p
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.3 ahead, but not watchdog capable", change: func(o *Observation) {
			leaderless(o)
			p := standbyPeer(2000)
			p.WatchdogFailed = true
			o.Peers.Answers["n3"] = p
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.4 candidate is me: no lag check", change: func(o *Observation) {
			leaderless(o)
			failover(o, "", "n1")
			o.DCS.Cluster.Status.Optime = 1 << 30
			o.Peers.Answers["n3"] = standbyPeer(2000)
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.4/S2 candidate is me, but my timeline is old", change: func(o *Observation) {
			leaderless(o)
			failover(o, "", "n1")
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}
		}, reason: ElectionRefused},
		{name: "2.4 candidate is another, and it is well", change: func(o *Observation) { leaderless(o); failover(o, "n2", "n3") }, reason: ElectionRefused},
		{name: "2.4 candidate is another, and it is not", change: func(o *Observation) {
			leaderless(o)
			failover(o, "n2", "n3")
			o.Peers.Answers["n3"] = Peer{}
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.4 switchover away from me", change: func(o *Observation) { leaderless(o); failover(o, "n1", "") }, reason: ElectionRefused},
		{name: "2.4 switchover away from me, nobody else can", change: func(o *Observation) {
			leaderless(o)
			failover(o, "n1", "")
			o.Peers.Answers["n3"] = Peer{}
		}, action: Claim{}, reason: ElectionWins},
		{name: "U3 refused with a request pending: compares later", change: func(o *Observation) { leaderless(o); failover(o, "n2", "n3") }, reason: ElectionRefused,
			check: func(t *testing.T, d Decision) {
				if d.Memory.Rewind != RewindCheck {
					t.Errorf("rewind state %d", d.Memory.Rewind)
				}
			}},
	})
}

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
				wants(Stop{Mode: StopFast, Checkpoint: true})(t, d)
				if !d.Memory.Demoting {
					t.Error("not demoting")
				}
			}},
		{name: "M7 manual failover", change: func(o *Observation) { good(o); failover(o, "", "n3") }, action: Stop{}, reason: HandOver},
		{name: "U1 first things first: the promotion", change: func(o *Observation) { standbyLeaderToBe(o); failover(o, "n2", "n1") }, action: Promote{}, reason: LeaderPromotes},
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
		{name: "1.23.3 after the hold-off", change: func(o *Observation) { paused3(o); no(o) }, reason: PausedNoAction},
		{name: "1.23.4 a primary without the lock goes on", change: func(o *Observation) { paused3(o); lost(o); o.DCS.Cluster.Leader.Name = "n2" }, reason: PausedLeaves},
		{name: "1.23.6/H2 demoted by hand: release", change: func(o *Observation) { paused3(o); o.PG.Row.InRecovery = true }, action: Release{}, reason: PausedReleases},
		{name: "1.23.6/G1 server down: release", change: func(o *Observation) { paused3(o); down(o, "shut down") }, action: Release{}, reason: PausedReleases},
		{name: "1.23.7/H1 candidate is me: promotes", change: func(o *Observation) { paused3(o); o.PG.Row.InRecovery = true; failover(o, "", "n1") }, action: Promote{}, reason: PausedPromotes},
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
		{name: "1.23 restarted agent renews", change: func(o *Observation) { paused3(o); lost(o) }, action: TakeBack{}, reason: TakeBackOwn},
		{name: "1.23 restarted agent, server down: release", change: func(o *Observation) { paused3(o); lost(o); down(o, "shut down") }, action: Release{}, reason: PausedReleases},
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
		{name: "1.22.4 leader: stops with a checkpoint", change: term, action: Stop{}, reason: StoppingServer, check: wants(Stop{Mode: StopFast, Checkpoint: true})},
		{name: "1.22.4 standby: stops", change: func(o *Observation) { replica(o); term(o) }, action: Stop{}, reason: StoppingServer, check: wants(Stop{Mode: StopFast})},
		{name: "1.22.5 stopped: releases", change: func(o *Observation) { term(o); down(o, "shut down"); o.Memory.ShutdownLSN = 77 }, action: Release{}, reason: HandOverStops,
			check: wants(Release{Epoch: myEpoch, Clean: true, Optime: 77})},
		{name: "1.22.5 released: ends", change: func(o *Observation) {
			term(o)
			down(o, "shut down")
			did(o, Release{Epoch: myEpoch, Clean: true}, ResultOK)
		}, action: Exit{}, reason: Stopped},
		{name: "1.22.6 refused to stop", change: func(o *Observation) { term(o); ended(o, OpStop, "timed out") }, reason: StoppingWaits},
		{name: "1.22 etcd silent: stops all the same", change: func(o *Observation) { term(o); silent(o) }, action: Stop{}, reason: StoppingServer},
	})
}

// TestReasonCoverage lists the reasons that no case of this package reaches.
// It runs last, since tests run in the order of their files and positions.
func TestZReasonCoverage(t *testing.T) {
	never := map[Reason]string{
		NoReason:         "the zero value: no decision has it",
		RewindImpossible: "reserved: rejoin starts the server instead, which reports the divergence itself",
	}
	if testing.Short() {
		t.Log("coverage is of a whole run")
	}
	hits.Lock()
	defer hits.Unlock()
	total := 0
	for _, n := range hits.n {
		total += n
	}
	if total < 200 {
		t.Skip("only a part of the tests ran (-run)")
	}
	for r := range hits.n {
		_, excused := never[Reason(r)]
		switch {
		case hits.n[r] == 0 && !excused:
			t.Errorf("reason %d (%s) is never decided", r, Reason(r))
		case hits.n[r] != 0 && excused:
			t.Errorf("reason %d (%s) is decided, but listed as never", r, Reason(r))
		}
	}
}
