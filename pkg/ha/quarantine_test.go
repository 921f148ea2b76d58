package ha

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// seen: this member knows etcd cluster 1 up to revision 5000.
func seen(o *Observation) {
	o.Memory.Seen = Seen{ClusterID: 1, Revision: 5000, Epoch: myEpoch, Timeline: 1, SystemID: sysID}
}

// emptied: etcd was made anew; nothing is in it but the member keys.
func emptied(o *Observation) {
	seen(o)
	members := o.DCS.Cluster.Members
	o.DCS.Cluster = &dcs.Cluster{ID: 2, Revision: 7, Members: members}
}

// restored: etcd shows a state of before, with a leader key of n3's that is long over.
func restored(o *Observation) {
	seen(o)
	c := o.DCS.Cluster
	c.Revision, c.Leader = 90, &dcs.Leader{Name: "n3", Epoch: 60}
	c.Status = &dcs.Status{Optime: 900, ModRevision: 80, Beat: &dcs.Beat{Beat: 3, Epoch: 60, Holder: "h3", TTL: 30000}}
}

func TestRegressed(t *testing.T) {
	s := Seen{ClusterID: 1, Revision: 100, Epoch: 50, Timeline: 3, SystemID: sysID}
	history := func(tl ...uint32) *dcs.History {
		h := &dcs.History{}
		for _, n := range tl {
			h.Lines = append(h.Lines, dcs.HistoryLine{Timeline: timeline(n)})
		}
		return h
	}
	for name, test := range map[string]struct {
		change func(c *dcs.Cluster)
		want   string
	}{
		"the same":                 {func(*dcs.Cluster) {}, ""},
		"newer":                    {func(c *dcs.Cluster) { c.Revision, c.Leader.Epoch, c.History = 101, 101, history(1, 2, 3) }, ""},
		"another etcd":             {func(c *dcs.Cluster) { c.ID = 2 }, "another cluster"},
		"older":                    {func(c *dcs.Cluster) { c.Revision = 99 }, "revision was 100 and is 99"},
		"bumped: an older leader":  {func(c *dcs.Cluster) { c.Revision, c.Leader.Epoch = 1e9, 49 }, "/leader was made at revision 50"},
		"bumped: an older history": {func(c *dcs.Cluster) { c.Revision, c.Leader, c.History = 1e9, nil, history(1) }, "leads to 2"},
		"no history any more":      {func(c *dcs.Cluster) { c.History = nil }, "leads to 1"},
		"garbage in /history":      {func(c *dcs.Cluster) { c.History, c.Invalid = nil, map[dcs.Key]string{dcs.KeyHistory: "x"} }, ""},
		"no leader":                {func(c *dcs.Cluster) { c.Leader = nil }, ""},
		"the prefix was deleted":   {func(c *dcs.Cluster) { *c = dcs.Cluster{ID: 1, Revision: 101} }, "/initialize is gone"},
		"garbage in /initialize":   {func(c *dcs.Cluster) { c.Initialize, c.Invalid = nil, map[dcs.Key]string{dcs.KeyInitialize: "x"} }, ""},
		"a restore order is open":  {func(c *dcs.Cluster) { c.History, c.Restore = nil, &dcs.Restore{State: dcs.RestoreRequested} }, ""},
		"a restore led further": {func(c *dcs.Cluster) {
			c.History, c.Restore = history(1), &dcs.Restore{State: dcs.RestoreDone, Timeline: 4}
		}, ""},
	} {
		c := &dcs.Cluster{ID: 1, Revision: 100, Leader: &dcs.Leader{Name: "n1", Epoch: 50}, Initialize: &dcs.Initialize{SystemID: sysID}, History: history(1, 2)}
		test.change(c)
		if got := s.Regressed(c); test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q", name, got)
		}
		if got := (Seen{}).Regressed(c); got != "" {
			t.Errorf("%s: one who has seen nothing says %q", name, got)
		}
	}
}

func TestQuarantine(t *testing.T) {
	certain := func(o *Observation) {
		o.Memory.Quarantine = Quarantine{Why: "x", Etcd: o.DCS.Cluster.ID, Since: plus(-40 * sec), Revision: 95, Status: 80, Certain: true}
		o.Memory.SeenStatus, o.Memory.SeenAt = 80, plus(-40*sec)
	}
	for name, test := range map[string]struct {
		change func(o *Observation)
		reason Reason
		action Action
	}{
		"standby, etcd emptied: stays as it is":      {func(o *Observation) { replica(o); emptied(o) }, Quarantined, nil},
		"standby, older leader key: does not follow": {func(o *Observation) { replica(o); restored(o) }, Quarantined, nil},
		"standby, the key carries my name": {func(o *Observation) {
			replica(o)
			restored(o)
			o.DCS.Cluster.Leader.Name = "n1"
		}, Quarantined, nil},
		"down, etcd emptied: comes up read-only": {func(o *Observation) { replica(o); emptied(o); down(o, "in production"); o.PG.StandbySignal = false }, QuarantineStarts, Start{}},
		"down, after a failed start": {func(o *Observation) {
			replica(o)
			emptied(o)
			down(o, "shut down")
			o.Memory.FailedStart = plus(-sec)
		}, StartRetryLater, nil},
		"empty directory, etcd emptied: no new cluster": {func(o *Observation) {
			replica(o)
			emptied(o)
			down(o, "")
			o.PG.DataDir = DataDirEmpty
		}, Quarantined, nil},
		"diverged: no rewind": {func(o *Observation) {
			replica(o)
			restored(o)
			o.Memory.Rewind = RewindNeed
			down(o, "shut down")
		}, QuarantineStarts, Start{}},
		"a standby's leash is let go": {func(o *Observation) {
			replica(o)
			emptied(o)
			o.Leash.Armed = 50
		}, SecondaryDisarms, DisarmLeash{Epoch: 50}},
		"reinit waits": {func(o *Observation) { replica(o); restored(o); o.Reinit = Reinit{Serial: 1} }, Quarantined, nil},
		"primary without a deadline stops": {func(o *Observation) {
			emptied(o)
			lost(o)
			o.Leash.Armed = 0
		}, DemoteNoLock, Stop{Mode: StopFast, Escalate: 2500 * time.Millisecond}},
		"primary that does not answer, and its deadline comes": {func(o *Observation) {
			restored(o)
			o.Now, o.PG.Known, o.PG.Process = o.Leash.Deadline.Add(-sec), false, ProcessUnsure
		}, DemoteNoLock, Stop{Mode: StopFast, Escalate: 500 * time.Millisecond}},
		"primary, etcd emptied: claims by rule (d)":               {emptied, LeaseRenewal, Claim{}},
		"primary, older leader key: stays first":                  {func(o *Observation) { restored(o) }, Quarantined, nil},
		"primary, older leader key that stands still: removes it": {func(o *Observation) { restored(o); certain(o) }, QuarantineDrops, DropLeader{Epoch: 60}},
		"primary, leader key of after: not mine to remove": {func(o *Observation) {
			restored(o)
			certain(o)
			o.DCS.Cluster.Leader.Epoch, o.DCS.Cluster.Revision = 97, 98
		}, Quarantined, nil},
		"primary, somebody renews the older key": {func(o *Observation) {
			restored(o)
			certain(o)
			o.DCS.Cluster.Revision, o.DCS.Cluster.Status.ModRevision = 98, 97
		}, Quarantined, nil},
		"primary, a restart of its agent":               {func(o *Observation) { emptied(o); lost(o) }, LeaseRenewal, Claim{}},
		"primary, the last round was refused":           {func(o *Observation) { emptied(o); did(o, Renew{}, ResultConflict); o.Memory.Lease.Attempt = o.Now }, LeaseRenewal, Claim{}},
		"primary crashed without the lock of this etcd": {func(o *Observation) { restored(o); down(o, "in production") }, Quarantined, nil},
		"primary crashed under the lock of this etcd": {func(o *Observation) {
			restored(o)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: myEpoch}
			down(o, "in production")
		}, StartAsPrimary, Start{Primary: true}},
		"paused: a primary without the lock claims it": {func(o *Observation) { emptied(o); lost(o); paused3(o) }, QuarantineClaims, Claim{}},
		"paused: a primary on an older timeline does not": {func(o *Observation) {
			emptied(o)
			lost(o)
			paused3(o)
			o.Memory.Seen.Timeline = o.PG.Row.Timeline + 1
		}, Quarantined, nil},
		"paused: a standby stays": {func(o *Observation) { replica(o); emptied(o); paused3(o) }, Quarantined, nil},
		"paused: the leash is set aside": {func(o *Observation) {
			emptied(o)
			o.Settings.Pause = true
			o.Memory.Lease.Renewed = o.Now
			o.Memory.Lease.Attempt = o.Now
			o.Memory.Leaderless = 1
		}, PausedSuspends, SuspendLeash{}},
	} {
		o := base()
		test.change(o)
		d := decide(o)
		if d.Reason != test.reason || d.Action != test.action {
			t.Errorf("%s: %s, %T%+v; want %s, %+v", name, d.Text("n1"), d.Action, d.Action, test.reason, test.action)
		}
		if d.Memory.Quarantine.Why == "" || d.Memory.Seen.ClusterID != 1 || d.Memory.Seen.Revision != 5000 {
			t.Errorf("%s: %+v, %+v", name, d.Memory.Quarantine, d.Memory.Seen)
		}
		v := NewView(o, &d)
		o.Memory = d.Memory
		if v.Quarantine == "" || MemberDocument(o).Quarantine != v.Quarantine {
			t.Errorf("%s: published %q, %q", name, v.Quarantine, MemberDocument(o).Quarantine)
		}
	}
}

// TestRepublish: etcd was made anew under a running primary, which takes the lock
// and writes every key; nothing is restarted and nobody else is promoted.
func TestRepublish(t *testing.T) {
	o := base()
	o.PG.Row.Timeline, o.PG.HistoryLocal, o.PG.HistoryTime = 2, wal.History{{Timeline: 1, LSN: 500}}, o.Wall
	o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1, NewLeader: "n1"}}}
	emptied(o)
	o.Memory.Seen.Timeline = 2
	step := func(want Reason) Action {
		t.Helper()
		o.Now = o.Now.Add(10 * time.Millisecond)
		d := decide(o)
		if d.Reason != want {
			t.Fatalf("%s (%T%+v), want %s", d.Text("n1"), d.Action, d.Action, want)
		}
		o.Memory, o.Last = d.Memory, Outcome{Action: d.Action, Result: ResultOK, Sent: o.Now, Timing: o.Memory.Lease.Timing}
		return d.Action
	}
	c := o.DCS.Cluster
	step(LeaseRenewal)
	o.Last.Epoch = 8
	c.Revision, c.Leader = 8, &dcs.Leader{Name: "n1", Epoch: 8}
	c.Status = &dcs.Status{ModRevision: 8, Beat: &dcs.Beat{Holder: "h1", TTL: 30000}}
	c.Failover = &dcs.Failover{Candidate: "n3", ModRevision: 6} // somebody had copied it over
	step(LeaderArming)
	if o.Memory.Seen.Count != 1 || o.Memory.Lease.Epoch != 8 || o.Memory.Hold(8) <= myEpoch {
		t.Fatalf("count %d, lease %+v", o.Memory.Seen.Count, o.Memory.Lease)
	}
	o.Leash.Armed, o.Leash.Highest = o.Memory.Hold(8), o.Memory.Hold(8)
	if a := step(FailoverCleaned); a != (CleanFailover{Revision: 6}) {
		t.Fatalf("%+v", a)
	}
	c.Failover = nil
	step(LeaderRepairsInitialize)
	c.Initialize = &dcs.Initialize{SystemID: sysID, ModRevision: 9}
	step(LeaderRepairsConfig)
	c.Config = &dcs.Config{Raw: []byte(`{"ttl":30}`), ModRevision: 10}
	lines := step(LeaderWritesHistory).(WriteHistory).Lines
	c.History, c.Revision = &dcs.History{Lines: lines, ModRevision: 11}, 11
	d := decide(o)
	if m := d.Memory; m.Quarantine.Why != "" || m.Seen != (Seen{ClusterID: 2, Revision: 11, Epoch: 8, Timeline: 2, SystemID: sysID, Count: 2, Stale: 7, Given: 2, GivenOf: sysID, TTL: 30000}) {
		t.Fatalf("%s, %+v, %+v", d.Text("n1"), m.Quarantine, m.Seen)
	}
	if _, arms := d.Action.(ArmLeash); !arms { // by the new count
		t.Fatalf("%s", d.Text("n1"))
	}
}

// TestRepublishedByAnother: what ends the quarantine of a standby.
func TestRepublishedByAnother(t *testing.T) {
	for name, test := range map[string]struct {
		change func(o *Observation)
		over   bool
	}{
		"a beat of the holder":   {func(*Observation) {}, true},
		"a Patroni leader":       {func(o *Observation) { o.DCS.Cluster.Status.Beat = nil }, true},
		"nothing was written":    {func(o *Observation) { o.DCS.Cluster.Status.ModRevision = 80 }, false},
		"the claim alone":        {func(o *Observation) { o.DCS.Cluster.Status.Beat.Epoch = 0 }, false},
		"it is no primary":       {func(o *Observation) { mem(o, "n2").Role = "replica" }, false},
		"it is starting":         {func(o *Observation) { mem(o, "n2").State = "starting" }, false},
		"an older timeline":      {func(o *Observation) { o.Memory.Seen.Timeline = 2 }, false},
		"other data":             {func(o *Observation) { o.DCS.Cluster.Initialize.SystemID = "7710903353966102499" }, false},
		"no identifier yet":      {func(o *Observation) { o.DCS.Cluster.Initialize = nil }, false},
		"a member key of before": {func(o *Observation) { mem(o, "n2").ModRevision = 95 }, false},
		"put back once more":     {func(o *Observation) { o.DCS.Cluster.ID = 2 }, false},
		"and to before that":     {func(o *Observation) { o.Memory.Quarantine.Newest = 120 }, false},
		"an operator's word":     {func(o *Observation) { o.DCS.Cluster.Initialize = nil; o.Accepted = Acceptance{Serial: 1, By: "me"} }, true},
	} {
		o := base()
		replica(o)
		restored(o)
		c := o.DCS.Cluster
		c.Revision, c.Leader = 99, &dcs.Leader{Name: "n2", Epoch: 97}
		c.Status.ModRevision, c.Status.Beat.Epoch = 98, 97
		mem(o, "n2").ModRevision = 96
		o.Memory.Quarantine = Quarantine{Why: "x", Etcd: o.DCS.Cluster.ID, Since: plus(-40 * sec), Revision: 95, Status: 80, Certain: true}
		test.change(o)
		d := decide(o)
		if over := d.Memory.Quarantine.Why == ""; over != test.over {
			t.Errorf("%s: over %v, %s", name, over, d.Text("n1"))
		}
		if test.over && (d.Memory.Seen.Count != 1 || d.Memory.Seen.Revision != 99 || d.Memory.Seen.Stale != 95) {
			t.Errorf("%s: %+v", name, d.Memory.Seen)
		}
		if test.over && c.Leader.Epoch == 97 && d.Memory.Rewind != RewindCheck && d.Memory.Rewind != RewindIdle {
			t.Errorf("%s: rewind %d", name, d.Memory.Rewind)
		}
	}
}

// TestOldAnswer: an answer from before, of one etcd member, holds everything up for
// as long as it is the newest, and no longer; after a lease time it is no old answer.
func TestOldAnswer(t *testing.T) {
	o := base()
	leaderless(o)
	o.Memory.Seen = Seen{ClusterID: 1, Revision: 131, Epoch: 90, Timeline: 1, SystemID: sysID}
	d := decide(o)
	if d.Reason != Quarantined {
		t.Fatal(d.Text("n1"))
	}
	o.Memory, o.Now = d.Memory, plus(sec)
	o.DCS.Cluster.Revision = 131
	if d := decide(o); d.Memory.Quarantine.Why != "" || d.Memory.Seen.Count != 0 {
		t.Fatal(d.Text("n1"))
	}
	o.DCS.Cluster.Revision = 130
	o.Now = plus(31 * sec)
	o.Memory = decide(o).Memory
	o.DCS.Cluster.Revision = 140
	if d := decide(o); d.Reason != Quarantined {
		t.Fatal(d.Text("n1"))
	}
}

// TestStaleOrders: requests that etcd had before it went back are void, and stay so.
func TestStaleOrders(t *testing.T) {
	o := base()
	failover(o, "n1", "n2")
	o.DCS.Cluster.Restore = &dcs.Restore{ID: "a", State: dcs.RestoreRequested, Member: "n1", ModRevision: 127}
	o.Memory.Seen.Stale = 128
	if d := decide(o); d.Reason != FailoverCleaned || d.Action != (CleanFailover{Revision: o.DCS.Cluster.Failover.ModRevision}) {
		t.Error(d.Text("n1"))
	}
	order := o.DCS.Cluster.Failover
	o.DCS.Cluster.Failover = nil
	if d := decide(o); d.Reason != RestoreFails {
		t.Error(d.Text("n1"))
	}
	o.DCS.Cluster.Failover, o.DCS.Cluster.Restore = order, nil
	o.Memory.Seen.Stale = 127
	if d := decide(o); d.Reason == LeaderNoAction {
		t.Error(d.Text("n1"))
	}
	o = base()
	o.Memory.Quarantine = Quarantine{Why: "x", Etcd: o.DCS.Cluster.ID, Revision: 130, Status: 120, Since: noon, Certain: true}
	seen(o)
	o.DCS.Cluster.Restore = &dcs.Restore{ID: "a", State: dcs.RestoreRequested, Member: "n2", ModRevision: 127}
	if d := decide(o); d.Reason != RestoreFails {
		t.Error(d.Text("n1"))
	}
}

// TestAcceptedWithoutLeader: after an operator's word the ordinary election goes
// on, also where etcd has lost the identifier and all servers are standbys.
func TestAcceptedWithoutLeader(t *testing.T) {
	o := base()
	leaderless(o)
	emptied(o)
	o.DCS.Cluster.Members = []dcs.Member{member("n1", "replica"), member("n3", "replica")}
	o.Memory.Quarantine = Quarantine{Why: "x", Etcd: o.DCS.Cluster.ID, Since: plus(-40 * sec), Revision: 7, Certain: true}
	o.Accepted = Acceptance{Serial: 1, By: "me"}
	d := decide(o)
	if d.Action != (WriteInitialize{SystemID: sysID}) || d.Memory.AcceptSeen != 1 {
		t.Errorf("%s, %+v", d.Text("n1"), d.Action)
	}
}

// TestLeashOfAnotherEtcd: the record of a leash outlives a cluster on its host. The
// numbers of a new one's epochs go past it; within one etcd cluster, and where
// nothing is known for sure, a latched epoch is never given another number.
func TestLeashOfAnotherEtcd(t *testing.T) {
	for name, test := range map[string]struct {
		change func(o *Observation)
		count  int64
	}{
		"of this etcd":                      {func(o *Observation) { o.Leash.Etcd = 1 }, 0},
		"an earlier leash, which says less": {func(*Observation) {}, 0},
		"of another, and this is the first": {func(o *Observation) { o.Leash.Etcd, o.Memory.Seen = 2, Seen{} }, 1},
		"of another, and this is known":     {func(o *Observation) { o.Leash.Etcd = 2 }, 1},
		"of another, and counted already":   {func(o *Observation) { o.Leash.Etcd, o.Memory.Seen.Count = 2, 3 }, 3},
		"of another, twice":                 {func(o *Observation) { o.Leash.Etcd, o.Leash.Highest = 2, 4<<countShift|7 }, 5},
		"its deadline is ahead":             {func(o *Observation) { o.Leash.Etcd, o.Leash.Armed = 2, 5000 }, 0},
		"etcd changed just now: S11":        {func(o *Observation) { o.Leash.Etcd, o.Memory.Seen.ClusterID = 2, 2 }, 0},
	} {
		o := base()
		replica(o)
		o.DCS.Cluster.ID = 1
		o.Memory.Seen = Seen{ClusterID: 1}
		o.Leash = Leash{Attached: true, Highest: 5000}
		test.change(o)
		m := decide(o).Memory
		if m.Seen.Count != test.count || m.Seen.Count != 0 && m.Hold(3) <= o.Leash.Highest {
			t.Errorf("%s: count %d, want %d", name, m.Seen.Count, test.count)
		}
	}
}

// TestStaleOrdersWithoutLeader: who holds a request for void takes it out of etcd.
// Another member, which looked later, would wait for what it names for ever.
func TestStaleOrdersWithoutLeader(t *testing.T) {
	order := func(o *Observation) {
		o.DCS.Cluster.Restore = &dcs.Restore{ID: "a", State: dcs.RestoreRequested, Member: "n1", ModRevision: 127}
	}
	for name, test := range map[string]struct {
		change func(o *Observation)
		reason Reason
	}{
		"a request": {func(o *Observation) { failover(o, "n2", "n1") }, FailoverCleaned},
		"an order":  {order, RestoreFails},
		"an order, and the directory is half-made": {func(o *Observation) {
			order(o)
			down(o, "")
			o.PG.DataDir = DataDirHalfMade
		}, RestoreFails},
		"an order that could not be written a moment ago": {func(o *Observation) {
			order(o)
			did(o, WriteRestore{}, ResultFailed)
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, ElectionWins},
	} {
		o := base()
		leaderless(o)
		o.Memory.Seen.Stale = 200
		test.change(o)
		if d := decide(o); d.Reason != test.reason {
			t.Errorf("%s: %s, %T%+v", name, d.Text("n1"), d.Action, d.Action)
		}
	}
}

// TestDoubtKept: an agent that restarts in a quarantine that was certain goes on with
// it, though etcd's revisions have caught up.
func TestDoubtKept(t *testing.T) {
	o := base()
	replica(o)
	restored(o)
	o.Memory.Quarantine = Quarantine{Why: "x", Etcd: o.DCS.Cluster.ID, Since: plus(-40 * sec), Revision: 85, Newest: 90, Status: 80}
	o.Memory = Memory{Seen: decide(o).Memory.Seen}
	o.DCS.Cluster.Revision, o.DCS.Cluster.Leader = 6000, nil
	d := decide(o)
	if q := d.Memory.Quarantine; d.Reason != Quarantined || !q.Certain || q.Revision != 85 || q.Status != 80 || q.Since != o.Now {
		t.Fatalf("%s, %+v", d.Text("n1"), q)
	}
	o.Memory, o.Now = d.Memory, plus(31*sec)
	o.Accepted = Acceptance{Serial: 1, By: "me"}
	if m := decide(o).Memory; m.Quarantine.Why != "" || m.Seen.Doubt != (Doubt{}) {
		t.Fatalf("%+v", m)
	}
}

// TestRefusedByOlder: a round that was refused, and the key of an older leadership,
// prove that etcd went back; the primary need not wait until its own time is over.
func TestRefusedByOlder(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(o *Observation)
		certain bool
	}{
		"refused":                  {func(*Observation) {}, true},
		"no answer":                {func(o *Observation) { o.Last.Result = ResultUnknown }, false},
		"no round":                 {func(o *Observation) { o.Last.Action = ArmLeash{} }, false},
		"the key is gone":          {func(o *Observation) { o.DCS.Cluster.Leader = nil }, false},
		"the key is of this epoch": {func(o *Observation) { o.DCS.Cluster.Leader.Epoch = myEpoch }, false},
	} {
		o := base()
		restored(o)
		did(o, Renew{}, ResultConflict)
		o.Last.Sent = o.Now
		test.change(o)
		m := decide(o).Memory
		if q := m.Quarantine; q.Why == "" || q.Certain != test.certain || m.Lease.Epoch != myEpoch {
			t.Errorf("%s: %+v, %+v", name, q, m.Lease)
		}
	}
}

// TestWordWaits: an operator's word is for when whoever led before has stopped. What
// it announced is not in the present etcd, and makes no claim wait.
func TestWordWaits(t *testing.T) {
	o := base()
	replica(o)
	emptied(o)
	o.Accepted = Acceptance{Serial: 1, By: "me"}
	at := func(after time.Duration, over bool) {
		t.Helper()
		o.Now = plus(after)
		d := decide(o)
		if o.Memory = d.Memory; (o.Memory.Quarantine.Why == "") != over {
			t.Fatalf("after %v: %s", after, d.Text("n1"))
		}
	}
	at(0, false)
	if d := decide(o); !strings.Contains(d.Text("n1"), "accepted, which takes effect once") {
		t.Error(d.Text("n1"))
	}
	o.Memory.Seen.TTL = 40_000 // that of the last beat seen, and longer than what is configured now
	at(39*sec, false)
	at(40*sec, true)

	o.Memory = Memory{}
	emptied(o)
	o.Accepted.Serial = 2
	at(0, false)
	o.DCS.Cluster.Revision = 6 // etcd went back once more: the word was for what it held before
	at(sec, false)
	at(50*sec, false)
}

// TestLeashedLease: the leash kills by the ttl under which it was armed, which may be
// another one than that of the present /config; others are made to wait for the longest.
func TestLeashedLease(t *testing.T) {
	o := base()
	emptied(o)
	lost(o)
	o.Settings.TTL, o.Settings.LoopWait, o.Settings.RetryTimeout = 5*time.Second, time.Second, time.Second
	l := decide(o).Memory.Lease
	if wait := l.Announce(o.Now, l.Timing); l.Epoch == 0 || o.Now.Add(wait) < o.Leash.Deadline.Add(2*time.Second) {
		t.Errorf("%+v: others wait %v, until %v after its deadline", l, wait, o.Now.Add(wait).Sub(o.Leash.Deadline))
	}
}

// Etcd may go back once more while a member is in doubt: what it saw in the meantime
// counts as well, how far etcd was and how long whoever led there may act.
func TestQuarantineTwice(t *testing.T) {
	o := base()
	replica(o)
	seen(o)
	epoch := o.Memory.Seen.Epoch
	at := func(rev int64, ttl int64) Decision {
		o.DCS.Cluster.Revision, o.DCS.Cluster.Leader.Epoch = rev, epoch-1
		o.DCS.Cluster.Status = &dcs.Status{ModRevision: 80, Beat: &dcs.Beat{Epoch: 60, Holder: "h3", TTL: ttl}}
		d := decide(o)
		o.Memory = d.Memory
		return d
	}
	known := o.Memory.Seen.Revision
	at(known+9, 90000)
	at(known-3, 5000)
	o.DCS.Cluster.Leader = nil
	o.DCS.Cluster.Revision = known + 1
	if d := decide(o); d.Reason != Quarantined {
		t.Errorf("%s, though etcd was at revision %d", d.Reason, known+9)
	}
	if o.Memory.Seen.TTL != 90000 {
		t.Errorf("waits for %d ms after an operator's word", o.Memory.Seen.TTL)
	}
}
