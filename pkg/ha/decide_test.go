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
		{name: "1.13.1 a primary that lost its watchdog stops in order", change: unwatched, action: Stop{}, reason: LeaderUnwatched,
			check: wants(Stop{Mode: StopFast, Escalate: 2500 * time.Millisecond})},
		{name: "1.13.1 a watchdog that is not required demotes nobody", change: func(o *Observation) { unwatched(o); o.Settings.WatchdogRequired = false }, reason: LeaderNoAction},
		{name: "1.13.1 a watchdog that is required and well", change: func(o *Observation) { unwatched(o); o.Leash.Watchdog = "" }, reason: LeaderNoAction},
		{name: "1.13.1 required, and nobody to own it", change: func(o *Observation) {
			o.Leash, o.Settings.LeashOff, o.Settings.WatchdogRequired = Leash{}, true, true
		}, action: Stop{}, reason: LeaderUnwatched},
		{name: "1.13.1 a standby without the watchdog is not promoted", change: func(o *Observation) {
			standbyLeaderToBe(o)
			unwatched(o)
		}, action: Release{}, reason: LeaderUnwatched, check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "1.13.3 /history is kept current", change: func(o *Observation) {
			o.PG.Row.Timeline = 2
			o.PG.HistoryLocal = wal.History{{Timeline: 1, LSN: 500, Reason: "no recovery target specified"}}
		}, action: WriteHistory{}, reason: LeaderWritesHistory},
		{name: "1.13.5 promotes", change: standbyLeaderToBe, action: Promote{From: 1, Timeline: 2}, reason: LeaderPromotes},
		{name: "1.13.5/S6 not with too little time left", change: func(o *Observation) {
			standbyLeaderToBe(o)
			o.Memory.Lease.Attempt, o.Memory.Lease.Renewed = plus(21*sec), plus(21*sec)
			o.Now = o.Memory.Lease.StopAt().Add(-900 * time.Millisecond)
			o.Memory.Lease.Attempt = o.Now
		}, reason: LeaderTooLate},
		{name: "1.13.5 a failed promotion is repeated once per period", change: func(o *Observation) { standbyLeaderToBe(o); ended(o, OpPromote, "no") }, reason: LeaderPromoting},
		{name: "8.5 pre_promote refuses", change: func(o *Observation) { standbyLeaderToBe(o); ended(o, OpPromote, "no"); o.Op.Refused = true }, action: Release{}, reason: LeaderRefused,
			check: func(t *testing.T, d Decision) {
				if want := noon.Add(30 * sec); d.Memory.SitOut != want {
					t.Errorf("sits out until %v, want %v", d.Memory.SitOut, want)
				}
			}},
		{name: "S2 not on an old timeline", change: func(o *Observation) {
			standbyLeaderToBe(o)
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}
		}, action: Release{}, reason: LeaderBehind},
		{name: "S6 not with an identifier that cannot be read", change: func(o *Observation) { standbyLeaderToBe(o); o.PG.SystemID = "" }, reason: NoSystemID},
		{name: "4.2 slots of the others are made", change: func(o *Observation) {
			o.Settings.UseSlots, o.Settings.MemberSlotsTTL = true, time.Hour
			o.PG.Slots = physical(map[string]wal.LSN{})
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
	o.DCS.Cluster.Status.Beat.Next = 2
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
		{name: "X1 etcd silent just after the key was taken anew: the leash is told", change: func(o *Observation) { silent(o); o.Leash.Armed-- }, action: ArmLeash{}, reason: LeaderArming},
		{name: "B.6 a round that is due waits for that", change: func(o *Observation) { o.Now = o.Memory.Lease.Renewed.Add(10 * sec); o.Leash.Armed-- }, action: ArmLeash{}, reason: LeaderArming},
		{name: "X1 etcd silent just after a pause: the leash is told", change: func(o *Observation) { silent(o); o.Leash.Suspended = true }, action: ArmLeash{}, reason: LeaderArming},
		{name: "X1 which it refuses", change: func(o *Observation) { silent(o); o.Leash.Armed--; o.Memory.Unarmed = "no" }, reason: OfflineWaiting},
		{name: "X3 late: half of what is left is for good order", change: func(o *Observation) { silent(o); o.Now = o.Leash.Deadline.Add(-sec) }, action: Stop{}, reason: DemoteOffline,
			check: wants(Stop{Mode: StopFast, Escalate: 500 * time.Millisecond})},
		{name: "X3 too late: a moment all the same", change: func(o *Observation) { silent(o); o.Now = o.Leash.Deadline.Add(sec) }, action: Stop{}, reason: DemoteOffline,
			check: wants(Stop{Mode: StopFast, Escalate: 100 * time.Millisecond})},
		{name: "X3 a restored server that starts as a primary", change: func(o *Observation) {
			silent(o)
			o.Now, o.Memory.Primary, o.PG.Known, o.PG.Process = o.Memory.Lease.StopAt(), false, false, ProcessStarting
		}, action: Stop{}, reason: DemoteOffline, check: wants(Stop{Mode: StopImmediate})},
		{name: "X1 in pause nothing is touched", change: func(o *Observation) {
			silent(o)
			paused3(o)
			o.Now = o.Memory.Lease.StopAt()
			o.Memory.Lease.Attempt = o.Now
		}, reason: OfflineWaiting},
		{name: "X3 a leash that was not told of the pause ends the server, as after a restore", change: func(o *Observation) {
			silent(o)
			paused3(o)
			o.Now, o.Leash.Suspended = o.Memory.Lease.StopAt(), false
			o.Memory.Lease.Attempt = o.Now
		}, action: Stop{}, reason: DemoteOffline},
		{name: "X4 a standby that starts", change: func(o *Observation) {
			silent(o)
			o.Now, o.Memory.Primary, o.PG.Known, o.PG.Process, o.PG.StandbySignal = o.Memory.Lease.StopAt(), false, false, ProcessStarting, true
		}, reason: OfflineWaiting},
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
		{name: "X4 one that was started read-only and does not answer yet is left alone", change: func(o *Observation) {
			silent(o)
			lost(o)
			o.PG.Known, o.PG.Process, o.Memory.Offline = false, ProcessStarting, true
			ended(o, OpStartStandby, "it does not answer in time")
		}, reason: OfflineWaiting},
		{name: "X4 a standby only waits", change: func(o *Observation) { replica(o); silent(o) }, reason: OfflineWaiting},
		{name: "X1 server down: report only", change: func(o *Observation) { silent(o); lost(o); down(o, "in production") }, reason: OfflineWaiting},
		{name: "X1 paused: nothing is demoted", change: func(o *Observation) { silent(o); lost(o); paused3(o) }, reason: OfflineWaiting},
		{name: "X1 a primary that an agent before this one left running stops before its leash has to", change: func(o *Observation) {
			silent(o)
			lost(o)
			o.DCS.Cluster, o.Leash.Armed, o.Leash.Deadline = nil, 50, plus(3*sec)
		}, action: Stop{}, reason: DemoteOffline},
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
		{name: "S11 of before etcd went back: released, and not as one that is over", change: func(o *Observation) {
			lost(o)
			o.Memory.Seen.Stale = myEpoch
			o.PG.Row.InRecovery, o.Leash.Armed = true, 0
		}, action: Release{}, reason: TakeBackStale, check: wants(Release{Epoch: myEpoch})},
		{name: "S11 its server runs as the primary: renewed", change: func(o *Observation) { lost(o); o.Memory.Seen.Stale = myEpoch }, action: TakeBack{}, reason: TakeBackOwn},
		{name: "B.6 latched and dead: release", change: func(o *Observation) { lost(o); o.Leash.Armed = 0; down(o, "in production") }, action: Release{}, reason: TakeBackLatched,
			check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "B.6 another installation wrote the beat", change: func(o *Observation) { lost(o); o.DCS.Cluster.Status.Beat.Holder = "h9" }, reason: ElectionRefused},
		{name: "S7 a lease that rounds in vain ran out of is not tried again, however short a stop is by settings of now", change: func(o *Observation) {
			o.Now = o.Memory.Lease.StopAt()
			o.Memory.Lease.Attempt = o.Now.Add(-sec)
			o.Settings.TTL, o.Settings.LoopWait, o.Settings.RetryTimeout = 5*sec, sec, sec
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "S7 the server of a restore may write, though it was a standby's before and does not answer yet", change: func(o *Observation) {
			o.Now = o.Memory.Lease.StopAt()
			o.Memory.Lease.Attempt = o.Now.Add(-sec)
			ended(o, OpRestore, "cancelled")
			o.Memory.Primary, o.PG.Known, o.PG.Row = false, false, Row{}
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "1.4 a lapsed lease is tried once more", change: func(o *Observation) { o.Now = o.Memory.Lease.StopAt() }, action: TakeBack{}, reason: TakeBackOwn, check: noLease},
	})
}

func TestDuringOperation(t *testing.T) { // table A
	runTable(t, []row{
		{name: "A2 the key was taken again meanwhile: the leash is told", change: func(o *Observation) { runs(o, OpPromote); o.Leash.Armed = myEpoch - 1 }, action: ArmLeash{}, reason: LeaderArming},
		{name: "A2 the leash refused that: the operation goes on", change: func(o *Observation) {
			runs(o, OpPromote)
			o.Leash.Armed, o.Memory.Unarmed = myEpoch-1, "no"
		}, reason: OperationRuns},
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
		{name: "D5x not without a watchdog that is required", change: and(fresh, unwatched), reason: BootstrapWaits},
		{name: "D5x not with nofailover", change: and(fresh, func(o *Observation) { o.Settings.NoFailover = true }), reason: BootstrapWaits},
		{name: "D7x/D8x another node bootstraps", change: and(fresh, func(o *Observation) { o.DCS.Cluster.Initialize = &dcs.Initialize{ModRevision: 4} }), reason: BootstrapWaits},
		{name: "D5x won", change: and(fresh, func(o *Observation) { did(o, WriteInitialize{}, ResultOK) }), action: Bootstrap{}, reason: BootstrapInitDB},
		{name: "D5x lost the race", change: and(fresh, func(o *Observation) {
			did(o, WriteInitialize{}, ResultConflict)
			o.DCS.Cluster.Initialize = &dcs.Initialize{ModRevision: 4}
		}), reason: BootstrapWaits},
		{name: "C3 initdb done: roles", change: and(step(BootstrapWon), func(o *Observation) { ended(o, OpBootstrap, "") }), action: PostBootstrap{}, reason: BootstrapPost},
		{name: "C4 identifier first", change: step(BootstrapRoles), action: WriteInitialize{}, reason: BootstrapPublishes, check: wants(WriteInitialize{SystemID: sysID, Revision: 4})},
		{name: "C4 then the mark goes", change: and(step(BootstrapRoles), func(o *Observation) {
			o.DCS.Cluster.Initialize.SystemID = sysID
			o.PG.DataDir, o.PG.HalfBootstrap = DataDirHalfMade, true
		}), action: FinishBootstrap{}, reason: BootstrapPublishes},
		{name: "C4 the agent died between identifier and mark", change: func(o *Observation) {
			o.Memory, o.DCS.Cluster.Leader = Memory{}, nil
			o.PG.DataDir, o.PG.HalfBootstrap = DataDirHalfMade, true
		}, action: FinishBootstrap{}, reason: BootstrapPublishes},
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
		{name: "S15 C1 but not the key of whoever began meanwhile", change: and(step(BootstrapFailed), empty, func(o *Observation) { o.Memory.Dropping = 3 }), action: Exit{}, reason: BootstrapGaveUp},
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
		{name: "S9 a half-made copy and nobody to copy from: left alone", change: and(leaderless, empty, func(o *Observation) {
			o.PG.DataDir, o.PG.Problem = DataDirHalfMade, "an earlier clone of it was interrupted"
		}), reason: DataDirBad,
			check: func(t *testing.T, d Decision) {
				if d.Detail != "an earlier clone of it was interrupted; nobody is there to copy from" {
					t.Error(d.Detail)
				}
			}},
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
