package ha

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// dice turns fuzz input into choices; when it has run out, all are 0.
type dice struct{ data []byte }

func (d *dice) of(n int) int {
	if len(d.data) == 0 {
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return int(b) % n
}

func (d *dice) yes() bool { return d.of(2) == 1 }

func pick[T any](d *dice, of ...T) T { return of[d.of(len(of))] }

// observation builds an observation out of anything: most are impossible, and all of
// them must have a decision.
func observation(d *dice) *Observation {
	o := base()
	pick(d, func(*Observation) {}, replica, leaderless)(o)
	o.Now = plus(pick(d, 0, 4*sec, 20*sec, 22*sec, 40*sec, -2*sec))
	c := o.DCS.Cluster
	switch d.of(8) {
	case 0:
		o.DCS.Cluster = nil
	case 1:
		o.DCS.Fresh = false
	}
	c.Leader = pick(d, c.Leader, c.Leader, nil, &dcs.Leader{Name: "n1", Epoch: myEpoch}, &dcs.Leader{Name: "n2", Epoch: 110}, &dcs.Leader{Epoch: 3})
	c.Initialize = pick(d, c.Initialize, c.Initialize, c.Initialize, nil, &dcs.Initialize{}, &dcs.Initialize{SystemID: "junk"}, &dcs.Initialize{SystemID: "12345678901234"})
	c.Config = pick(d, c.Config, c.Config, nil)
	c.History = pick(d, nil, &dcs.History{}, &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}, &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 7}}})
	if d.of(4) == 0 {
		c.Failover = &dcs.Failover{Leader: pick(d, "", "n1", "n2"), Candidate: pick(d, "", "n1", "n3"), Bad: d.of(5) == 1, ModRevision: 9}
		if d.yes() {
			c.Failover.ScheduledAt = o.Wall.Add(pick(d, 0, time.Hour, -time.Hour))
		}
	}
	if d.of(4) == 0 {
		c.Status = pick(d, nil, &dcs.Status{ModRevision: 120}, &dcs.Status{Optime: 1 << 40, ModRevision: 121, Beat: &dcs.Beat{Holder: pick(d, "h1", "h2", ""), Epoch: int64(d.of(200)), TTL: int64(d.of(60)) * 1000, Released: d.yes(), Timeline: wal.Timeline(d.of(3)), Next: wal.Timeline(d.of(5))}})
	}
	if c.Status != nil && c.Status.Beat != nil && d.yes() {
		c.Status.Beat.Next = wal.Timeline(d.of(5))
	}
	for i := range c.Members {
		m := &c.Members[i]
		m.State, m.Role = pick(d, m.State, m.State, "starting"), pick(d, m.Role, m.Role, "primary", "replica", "uninitialized")
		m.ConnURL, m.APIURL = pick(d, m.ConnURL, m.ConnURL, m.ConnURL, ""), pick(d, m.APIURL, m.APIURL, m.APIURL, "")
		m.Timeline = wal.Timeline(d.of(3))
		if d.of(6) == 1 {
			m.Tags = dcs.Tags{{Name: pick(d, "nofailover", "clonefrom", "nostream"), Value: true}}
		}
	}
	s := &o.Settings
	s.Pause, s.LeashOff, s.NoFailover = d.of(5) == 1, d.of(5) == 1, d.of(8) == 1
	s.TTL, s.LoopWait = pick(d, s.TTL, 5*sec, 0, -sec), pick(d, s.LoopWait, sec, 0)
	s.PrimaryStartTimeout = pick(d, s.PrimaryStartTimeout, 0)
	s.WipeOnDivergence, s.WipeOnRewindFailure = d.yes(), d.yes()
	s.UseSlots, s.MemberSlotsTTL = d.yes(), pick(d, 0, time.Hour)
	if d.yes() {
		s.Slots = []config.Slot{{Name: pick(d, "l", "x", "n2"), Type: "logical", Database: "d", Plugin: "p"}, {Name: "y", Type: "physical"}}
		s.IgnoreSlots = pick(d, nil, []config.SlotFilter{{Name: "x"}})
	}
	s.ReplicateFrom = pick(d, "", "", "n3", "n1")
	pg := &o.PG
	pg.DataDir = pick(d, DataDirPresent, DataDirPresent, DataDirPresent, DataDirPresent, DataDirEmpty, DataDirHalfMade, DataDirUnreadable)
	pg.SystemID = pick(d, sysID, sysID, sysID, "", "1234567890123", "junk")
	pg.Process, pg.Known = pick(d, ProcessRunning, ProcessRunning, ProcessDown, ProcessStarting, ProcessUnsure), d.of(4) != 1
	pg.Row.InRecovery, pg.Row.Timeline = d.yes(), wal.Timeline(d.of(4))
	pg.Row.Position = pick[wal.LSN](d, 1000, 0, 1001, 1<<40)
	pg.Row.ReplicationState = pick(d, "", "streaming")
	pg.StandbySignal, pg.CanRewind = d.yes(), d.yes()
	pg.Control.State = pick(d, "", "in production", "shut down", "shutting down", "in archive recovery", "shut down in recovery")
	if d.yes() {
		pg.Slots = map[string]SlotState{
			"n2": {Type: pick(d, SlotPhysical, SlotLogical), Restart: wal.LSN(d.of(9)), At: wal.LSN(d.of(9)), Active: d.yes(), HasXmin: d.yes(), Lost: d.yes()},
			"x":  {Type: pick(d, SlotPhysical, SlotLogical), Restart: 1, At: 1, Failover: d.yes(), Synced: d.yes()},
		}
		pg.WALLevel, pg.MaxSlots = pick(d, "logical", "replica"), d.of(9)
	}
	if d.yes() {
		pg.HistoryLocal = wal.History{{Timeline: 1, LSN: 500}}
	}
	o.Op = Operation{Kind: OpKind(d.of(int(OpCopySlots) + 2)), Serial: int64(d.of(3)), Running: d.of(4) == 1, Started: plus(-time.Duration(d.of(400)) * sec),
		Ended: plus(-time.Duration(d.of(20)) * sec), Error: pick(d, "", "", "failed"), Divergence: Divergence(d.of(3)), Damaged: d.yes()}
	if d.yes() {
		answered(o, pick(d, Peer{}, standbyPeer(1000), standbyPeer(2000), Peer{Reachable: true}), pick(d, Peer{}, standbyPeer(900), standbyPeer(1000)))
		o.Peers.AskedAt = o.Now
	}
	o.Leash = pick(d, o.Leash, o.Leash, Leash{}, Leash{Attached: true}, Leash{Attached: true, Armed: 110, Highest: 110}, Leash{Attached: true, Armed: myEpoch, Highest: myEpoch, Suspended: true}, Leash{Attached: true, Highest: 1000})
	o.Leash.Etcd = pick[uint64](d, 0, 1, 2)
	if d.yes() {
		did(o, pick[Action](d, Renew{}, Claim{}, TakeBack{Epoch: myEpoch}, Release{Epoch: myEpoch}, WriteInitialize{}, MoveAside{}, ArmLeash{}, SyncSlots{}, AskPeers{}, WriteHistory{}, WriteFailsafe{}),
			pick(d, ResultOK, ResultConflict, ResultUnknown, ResultFailed, ResultLeaseLost))
	}
	m := &o.Memory
	if d.of(3) == 1 {
		m.Lease = Lease{}
	}
	m.Bootstrap, m.Rewind = BootstrapStep(max(0, d.of(15)-10)), RewindState(d.of(5))
	m.Demoting, m.Offline, m.Recovered, m.Primary, m.WasPaused = d.of(4) == 1, d.of(4) == 1, d.yes(), d.yes(), d.of(6) == 1
	m.Releasing = pick[int64](d, 0, 0, myEpoch)
	if d.of(4) == 1 {
		m.NamesUnsure = &[]string{"", "n2", "ANY 1 (n2,n3)", "((("}[d.of(4)]
	}
	m.ComeBack, m.HandedOver = d.of(4) == 1, pick[int64](d, 0, 9)
	m.FailedTries, m.OpSeen = d.of(3), int64(d.of(3))
	m.YieldUntil, m.FailedOp, m.FailedStart = plus(time.Duration(d.of(9)-6)*sec), plus(time.Duration(d.of(9)-8)*sec), plus(time.Duration(d.of(9)-8)*sec)
	o.Stopping = d.of(10) == 1
	if d.of(3) == 1 {
		c.Restore = &dcs.Restore{ID: pick(d, "a", "b"), State: pick(d, dcs.RestoreRequested, dcs.RestoreRequested, dcs.RestoreDone, dcs.RestoreFailed, "?"),
			Member: pick(d, "n1", "n1", "n2", ""), Timeline: wal.Timeline(d.of(4)), ModRevision: 7}
		m.Restore = RestoreMemory{ID: pick(d, "a", "a", ""), Ended: d.of(3) == 1, Error: pick(d, "", "failed"), Interrupted: d.of(4) == 1}
	}
	if d.of(4) == 1 {
		o.Reinit = Reinit{Serial: int64(d.of(3)), Force: d.yes(), FromLeader: d.yes(), Cancel: d.yes()}
		m.Reinit = ReinitMemory{Seen: int64(d.of(3)), Wanted: d.yes()}
		m.Reinit.Held = d.yes() && !m.Reinit.Wanted // an order of its own, which takes the place of the other
	}
	if d.of(4) == 1 {
		o.Restart = Restarts{Now: RestartRequest{Serial: int64(d.of(3)), Pending: d.yes()},
			Scheduled: RestartRequest{Serial: int64(d.of(3)), At: o.Wall.Add(pick(d, 0, time.Hour, -time.Hour, sec)), Document: []byte(`{"a":1}`), PostmasterStart: pick(d, "", "x")}}
		m.Restart = RestartMemory{Now: int64(d.of(3)), Scheduled: int64(d.of(3)), Runs: d.yes(), Overdue: d.yes()}
	}
	if d.of(3) == 1 {
		s.Failsafe = d.of(4) != 1
		c.Failsafe = pick(d, nil, &dcs.Failsafe{ModRevision: 50}, &dcs.Failsafe{Members: map[string]string{"n1": "u"}, ModRevision: 50}, &dcs.Failsafe{Members: map[string]string{"n1": "u", "n4": ""}, ModRevision: 51})
		m.FailsafeSent = pick(d, FailsafeWrite{}, FailsafeWrite{Revision: 50, Members: map[string]string{"n1": "u"}, Any: map[string]string{"n5": "v"}, Done: d.yes()})
		o.Failsafe = FailsafeRound{Running: d.of(4) == 1, Complete: d.yes(), Epoch: pick[int64](d, myEpoch, 3), Sent: plus(-time.Duration(d.of(30)) * sec), Timing: m.Lease.Timing}
		o.Promise = Promise{Leader: "n2", Until: plus(time.Duration(d.of(60)-30) * sec)}
	}
	pg.HalfBootstrap, pg.Resumable, s.CloneWithoutLeader = d.of(4) == 1, d.of(4) == 1, d.of(4) == 1
	s.WatchdogRequired, o.Leash.Watchdog = d.of(4) == 1, pick(d, "", "no device")
	if d.of(3) == 1 {
		m.Seen = Seen{ClusterID: pick[uint64](d, 1, 1, 2), Revision: pick[int64](d, 100, 130, 5000), Epoch: pick[int64](d, 90, myEpoch, 200), Timeline: wal.Timeline(d.of(4)),
			SystemID: pick(d, sysID, ""), Count: pick[int64](d, 0, 0, 3), Stale: pick[int64](d, 0, 9, 60)}
		m.Quarantine = pick(d, Quarantine{}, Quarantine{Why: "x", Since: plus(-40 * sec), Etcd: uint64(d.of(3)), Revision: 125, Status: int64(d.of(200)), Certain: d.yes()})
		o.Accepted = pick(d, Acceptance{}, Acceptance{}, Acceptance{Serial: 1})
	}
	pg.Shutdown.Checkpoint = pick[wal.LSN](d, 0, 0, 900)
	if d.of(3) == 1 {
		pg.Health.Connect = Check{Failing: plus(-time.Duration(d.of(9)) * sec), Failures: d.of(5), Fault: pick(d, FaultNone, FaultHang)}
		pg.Health.Data = Check{Failing: plus(-time.Duration(d.of(30)) * sec), Failures: d.of(5), Fault: Fault(d.of(5))}
		o.Memory.StopBy = plus(time.Duration(d.of(4)-2) * sec)
	}
	if d.of(3) == 1 { // synchronous modes and freezing
		s.Sync = SyncSettings{Mode: pick(d, config.SyncOn, config.SyncQuorum, config.SyncOff), Count: d.of(3), Strict: d.yes()}
		c.Sync = pick(d, nil, &dcs.Sync{ModRevision: 30}, &dcs.Sync{Leader: pick(d, "n1", "n2"), Quorum: d.of(3), Standbys: pick(d, nil, []string{"n1", "n3"}, []string{"n3"}), ModRevision: 30})
		pg.Frozen, o.Freeze, m.FreezeSeen, m.Thawed = d.yes(), int64(d.of(3)), int64(d.of(2)), pick[int64](d, 0, 90, 110, myEpoch)
		if d.yes() && o.DCS.Cluster != nil {
			o.Peers.Ballot = o.ballot()
		}
		if p, ok := o.Peers.Answers["n3"]; ok {
			p.Frozen, p.Unaware = d.yes(), d.of(4) == 1
			o.Peers.Answers["n3"] = p
		}
		if d.yes() {
			did(o, pick[Action](d, Freeze{}, Freeze{Asked: true}, Thaw{Epoch: 90}, Follow{}), pick(d, ResultOK, ResultConflict, ResultFailed))
		}
		pg.Upstream, pg.UpstreamURL = pick(d, "", "n2"), pick(d, "", "postgres://n2:5432/postgres")
	}
	m.Looked = d.of(4) != 1
	if d.of(4) == 1 {
		m.Promoting, m.Dropping, m.NoTaker = d.yes(), int64(d.of(6)), plus(-time.Duration(d.of(20))*sec)
		m.Numbers = Numbers{Epoch: pick[int64](d, 90, myEpoch), Timeline: wal.Timeline(d.of(4)), Next: wal.Timeline(d.of(5))}
		m.FailsafeSeen = pick(d, nil, &dcs.Failsafe{Members: map[string]string{"n6": "w"}, ModRevision: 60})
		m.FailsafeTrusted = pick(d, nil, &dcs.Failsafe{Members: map[string]string{"n7": "x"}, ModRevision: 50})
	}
	m.Crashes = Crashes{Epoch: pick[int64](d, 0, myEpoch), At: [3]Instant{plus(-sec), plus(-2 * sec), plus(-time.Duration(d.of(200)) * sec)}}
	return o
}

// checkDecision are the rules that hold for every decision whatsoever.
func checkDecision(t *testing.T, o *Observation) {
	t.Helper()
	d := Decide(*o)
	if again := Decide(*o); !reflect.DeepEqual(d, again) {
		t.Fatalf("two decisions on one observation:\n%+v\n%+v", d, again)
	}
	if d.Wait <= 0 || d.Reason <= NoReason || d.Reason >= reasons || d.Text("n1") == "" {
		t.Fatalf("malformed decision %+v", d)
	}
	if !d.Again && d.Memory.Restart.Now != o.Restart.Now.Serial && (d.Reason != SyncLeaves || o.Now >= d.Memory.LeavesSync.Add(2*o.Settings.LoopWait)) {
		t.Fatal("a request to restart has no answer")
	}
	v := NewView(o, &d)
	if v.IsLeader(d.Memory.Lease.StopAt()) && !o.Settings.Pause {
		t.Fatal("answers as the leader at the stop instant")
	}
	_ = MemberDocument(o)
	m, l := &d.Memory, d.Memory.Lease
	armed := o.Settings.LeashOff || o.Leash.Attached && o.Leash.Armed == m.Hold(l.Epoch) && !o.Leash.Suspended
	c := o.DCS.Cluster
	if m.Quarantine.Why != "" && o.DCS.Fresh { // S11
		switch a := d.Action.(type) {
		case Promote, Rewind, Clone, Bootstrap, CrashRecovery, Follow, PublishReleased:
			t.Fatalf("%T in quarantine", d.Action)
		case WriteInitialize:
			if !o.PG.Known || o.PG.Row.InRecovery || a.SystemID == "" {
				t.Fatal("initializes in quarantine")
			}
		case Claim:
			if !o.PG.Known || o.PG.Row.InRecovery || l.Epoch == 0 && !o.Settings.Pause {
				t.Fatal("claims in quarantine, and does not run as the primary")
			}
		case DropLeader:
			if !l.Held(o.Now) && !o.Settings.Pause || a.Epoch > m.Quarantine.Revision || o.PG.Row.InRecovery {
				t.Fatalf("removes the leader key of epoch %d in quarantine", a.Epoch)
			}
		case Start:
			if a.Primary && c.Leader.Epoch != l.Epoch {
				t.Fatal("starts as a primary in quarantine, without the lock")
			}
		}
	}
	checkFreeze(t, o, d)
	if m.Promoting && o.PG.Process != ProcessDown { // S1: it may become writable at any moment
		if r, _ := d.Action.(Release); r.Clean {
			t.Fatalf("says that nobody needs to wait for a server whose promotion may still end: %s", d.Text("n1"))
		}
		if _, lets := d.Action.(DisarmLeash); lets {
			t.Fatalf("takes the deadline off a server whose promotion may still end: %s", d.Text("n1"))
		}
	}
	switch a := d.Action.(type) {
	case Promote: // S6
		if o.PG.DataDir != DataDirPresent || !o.PG.Known || !o.PG.Row.InRecovery {
			t.Fatalf("promotes %+v", o.PG)
		}
		if c == nil || !o.DCS.Fresh || c.LeaderName() != "n1" || l.Epoch != c.Leader.Epoch {
			t.Fatalf("promotes without the lock: lease %+v", l)
		}
		if o.Settings.Pause {
			if c.Failover == nil || c.Failover.Candidate != "n1" {
				t.Fatal("promotes in pause, and nobody asked for it")
			}
			return
		}
		if m.Releasing == l.Epoch {
			t.Fatal("promotes in an epoch that is being released")
		}
		if !l.Held(o.Now) || l.StopAt().Sub(o.Now) < promotionBudget(l.Timing) || !armed {
			t.Fatalf("promotes with lease %+v, leash %+v at %v", l, o.Leash, o.Now)
		}
		if o.watchdogFault() != "" {
			t.Fatal("promotes without the watchdog that is required")
		}
		if b := c.Status.Beat; b == nil || b.Holder != o.Me.Holder || a.Timeline > b.Next || a.Timeline <= o.PG.Row.Timeline { // S2
			t.Fatalf("promotes to timeline %d, the beat being %+v", a.Timeline, b)
		}
		if c.Initialize == nil || c.Initialize.SystemID != o.PG.SystemID || o.PG.Row.Timeline < clusterTimeline(c) {
			t.Fatalf("promotes identifier %q on timeline %d", o.PG.SystemID, o.PG.Row.Timeline)
		}
	case Restart:
		if o.PG.DataDir != DataDirPresent || o.Op.Running || o.Stopping || !o.DCS.Fresh || m.Demoting {
			t.Fatalf("restarts %+v", o.PG)
		}
		if m.Restart.Now != o.Restart.Now.Serial && m.Restart.Scheduled != o.Restart.Scheduled.Serial {
			t.Fatal("restarts without noting for whom")
		}
		if a.Primary && (m.Releasing != 0 && m.Releasing == l.Epoch || !o.Settings.Pause && (!l.Held(o.Now) || !armed || o.watchdogFault() != "")) {
			t.Fatalf("restarts a primary with lease %+v, leash %+v", l, o.Leash)
		}
	case Start: // S9
		if o.PG.DataDir != DataDirPresent || o.PG.Process != ProcessDown || o.Settings.Pause && !o.Memory.ComeBack {
			t.Fatalf("starts %+v", o.PG)
		}
		if a.Primary && m.Releasing == l.Epoch {
			t.Fatal("starts as a primary in an epoch that is being released")
		}
		if a.Primary && (!l.Held(o.Now) || !armed || o.PG.StandbySignal || m.Demoting) {
			t.Fatalf("starts as a primary with lease %+v, leash %+v", l, o.Leash)
		}
	case Clone: // S9
		src := c.Member(a.From.Member)
		leader := c.Member(c.LeaderName())
		if a.Wipe && (o.PG.Process != ProcessDown || leader == nil || leader.Name == "n1" || leader.Role != "primary" || leader.State != "running") {
			t.Fatalf("wipes the directory, the leader being %+v", leader)
		}
		if a.Wipe && o.PG.DataDir == DataDirPresent && !o.Settings.WipeOnDivergence && !o.Settings.WipeOnRewindFailure && !o.coveredByRestore() && !m.Reinit.Wanted {
			t.Fatal("wipes what it may not")
		}
		if alone := a == (Clone{}); alone && (!o.Settings.CloneWithoutLeader || c.Leader != nil || o.Settings.Pause) {
			t.Fatal("makes a copy of nobody's")
		} else if !alone && (src == nil || src.Name == "n1" || o.Settings.Pause && !m.Reinit.Wanted) {
			t.Fatalf("copies from %+v", a.From)
		}
		if m.Reinit.Held {
			t.Fatal("copies after an operator cancelled it")
		}
	case Restore: // S1, S9: under the lock and the leash only, and only what was asked of this node
		if r := c.Restore; !r.Open() || r.Member != "n1" || a.Order != *r || o.Settings.Pause || m.Restore.Ended {
			t.Fatalf("restores %+v, the order being %+v", a.Order, r)
		}
		if !l.Held(o.Now) || c.LeaderName() != "n1" || !armed || m.Releasing == l.Epoch || m.Demoting {
			t.Fatalf("restores with lease %+v, leash %+v", l, o.Leash)
		}
		if o.PG.DataDir == DataDirUnreadable || o.PG.DataDir == DataDirHalfMade && o.PG.Process != ProcessDown {
			t.Fatalf("restores over %+v", o.PG)
		}
	case WriteRestore:
		if r := c.Restore; !r.Open() || a.Order.ID != r.ID || a.Order.ModRevision != r.ModRevision || a.Order.Open() {
			t.Fatalf("writes %+v over %+v", a.Order, r)
		}
		if a.Order.State == dcs.RestoreDone && (!l.Held(o.Now) || o.PG.Row.InRecovery || a.Order.Timeline == 0 || a.Order.Error != "") {
			t.Fatalf("calls it done: %+v, lease %+v", a.Order, l)
		}
	case WriteInitialize:
		if a.SystemID == "" && c.Restore.Open() && m.Bootstrap == BootstrapNone {
			t.Fatal("bootstraps while a restore order is open")
		}
	case Rewind:
		if o.PG.Process != ProcessDown || !a.From.Checkpointed || a.From.Member != c.LeaderName() || a.From.Member == "n1" || o.Settings.Pause && !o.Memory.ComeBack { // S13
			t.Fatalf("rewinds from %+v", a.From)
		}
	case Claim: // S6, S7
		if l.Epoch == 0 && o.Now < o.Promise.Until && !Released(c) {
			t.Fatal("breaks a promise")
		}
		if c == nil || c.Leader != nil || o.Stopping && l.Epoch == 0 {
			t.Fatalf("claims: leader %+v", c.Leader)
		}
		if c.Restore.Open() && c.Restore.Member != "n1" && c.Restore.ModRevision > m.Seen.Stale && l.Epoch == 0 && m.Bootstrap == BootstrapNone {
			t.Fatalf("%s: claims while %s is to restore the cluster", d.Text("n1"), c.Restore.Member)
		}
	case WriteFailsafe:
		if l.Epoch == 0 || !o.Settings.Failsafe || a.Members["n1"] == "" {
			t.Fatalf("writes %+v", a)
		}
	case WriteHistory:
		if l.Epoch == 0 { // S10
			t.Fatal("writes /history without an epoch")
		}
	case Stop:
		if can := o.failoverPossible(failoverQuery{}); a.Mode == StopKill && (o.fault() == "" || !can || o.Settings.Pause || !l.Held(o.Now)) {
			t.Fatalf("kills a server: fault %q, somebody can take over: %v, lease %+v", o.fault(), can, l)
		}
	case Release:
		if a.Clean && o.PG.Process != ProcessDown && !(o.PG.Known && o.PG.Row.InRecovery) && !(o.Op.Running && o.Op.Kind == OpStop && o.PG.Shutdown.Checkpoint != 0) {
			t.Fatalf("says that nobody can write: %+v", o.PG)
		}
	case PublishReleased:
		if o.PG.Process != ProcessDown && !(o.PG.Known && o.PG.Row.InRecovery) || c.Leader != nil {
			t.Fatal("marks a leadership as over that may not be")
		}
	}
}

// checkFreeze: who stands for election in a synchronous mode streams from nobody,
// and in quorum mode has enough voters behind it that do not either (S6, B.5); and
// nobody streams from anybody under a leadership that etcd has not confirmed (S16).
func checkFreeze(t *testing.T, o *Observation, d Decision) {
	t.Helper()
	c, m := o.DCS.Cluster, &d.Memory
	up, streams := streams(d.Action)
	if l := o.leadership(); streams && l != nil && m.Thawed != l.Epoch && (o.Settings.Sync.on() || o.PG.Frozen) {
		if _, restart := d.Action.(Restart); !restart || up != (Upstream{Member: o.PG.Upstream, ConnURL: o.PG.UpstreamURL}) {
			t.Fatalf("%+v under epoch %d, confirmed is %d", d.Action, l.Epoch, m.Thawed)
		}
	}
	if _, claim := d.Action.(Claim); !claim || m.Lease.Epoch != 0 || d.Reason != ElectionWins || !o.PG.Row.InRecovery || o.endedWell() {
		return
	}
	s, on := o.voters()
	switch f := c.Failover; {
	case !on:
	case !o.PG.Frozen:
		t.Fatal("claims while it may stream from the leader of before")
	case o.quorumElects() && (f.Empty() || f.Candidate != "n1"):
		votes := 0
		for name, p := range o.Peers.Answers {
			if s.Voter(name) && p.Reachable && p.Position <= o.PG.Row.Position && (p.Frozen || p.Unaware) {
				votes++
			}
		}
		if !s.Voter("n1") {
			votes--
		}
		if votes < s.Quorum && s.Leader != "n1" {
			t.Fatalf("claims with %d votes of %+v", votes, s)
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) { checkDecision(t, observation(&dice{data})) })
}

// TestDecideAnything is the fuzz target on random input, for every run.
func TestDecideAnything(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 256)
	n := 20000
	if testing.Short() {
		n = 5000
	}
	for range n {
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		checkDecision(t, observation(&dice{data}))
	}
}
