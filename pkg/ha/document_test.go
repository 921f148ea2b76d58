package ha

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// golden reads the keys that a real Patroni 4.1.4 wrote (testdata).
func golden(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestMemberDocument compares byte for byte with recorded member keys.
func TestMemberDocument(t *testing.T) {
	at := wal.LSN(67109536)
	standby := Row{InRecovery: true, Timeline: 2, Position: at, Receive: at, Replay: at, ReplicationState: "streaming"}
	tags := dcs.Tags{{Name: "nofailover", Value: true}, {Name: "clonefrom", Value: true}, {Name: "zone", Value: "ad3"}}
	for _, c := range []struct {
		file, node, ip string
		change         func(o *Observation)
	}{
		{"after-switchover.json", "pg-db-01", "192.0.2.1", func(o *Observation) { o.PG.Row = Row{Timeline: 2, Position: at} }},
		{"after-switchover.json", "pg-db-02", "192.0.2.2", func(o *Observation) { replica(o); o.PG.Row = standby }},
		{"after-switchover.json", "pg-db-03", "192.0.2.3", func(o *Observation) { replica(o); o.PG.Row, o.Settings.Tags = standby, tags }},
		{"paused.json", "pg-db-01", "192.0.2.1", func(o *Observation) { paused3(o); o.PG.Row = Row{Timeline: 2, Position: at} }},
		{"paused.json", "pg-db-03", "192.0.2.3", func(o *Observation) {
			replica(o)
			o.PG.Row, o.Settings.Tags, o.Settings.Pause = standby, tags, true
		}},
		{"pending-restart.json", "pg-db-03", "192.0.2.3", func(o *Observation) {
			replica(o)
			o.PG.Row, o.Settings.Tags = standby, tags
			o.PG.PendingRestart = map[string]PendingRestart{"max_connections": {Old: "100", New: "120"}}
		}},
	} {
		o := base()
		c.change(o)
		o.Me.Name, o.Me.ConnURL, o.Me.APIURL = c.node, "postgres://"+c.ip+":5432/postgres", "http://"+c.ip+":8008/patroni"
		doc := MemberDocument(o)
		if got, want := string(doc.Encode()), golden(t, c.file)["members/"+c.node]; got != want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.file, c.node, got, want)
		}
	}
}

func TestMemberDocumentOddities(t *testing.T) {
	o := base()
	o.PG.CheckpointPending = true
	if doc := MemberDocument(o); doc.CheckpointAfterPromote == nil || *doc.CheckpointAfterPromote {
		t.Error("a primary without its checkpoint must say so")
	}
	replica(o)
	if doc := MemberDocument(o); doc.CheckpointAfterPromote != nil {
		t.Error("a replica has no checkpoint to wait for")
	}
	runs(o, OpClone)
	if doc := MemberDocument(o); doc.State != "creating replica" || doc.Role != "uninitialized" || doc.XLogLocation != 0 {
		t.Errorf("while cloning: %+v", doc)
	}
}

func TestStateAndRole(t *testing.T) { // wire contract §4.2
	for _, c := range []struct {
		name        string
		change      func(o *Observation)
		state, role string
	}{
		{"primary", func(*Observation) {}, "running", "primary"},
		{"replica", replica, "running", "replica"},
		{"starting", func(o *Observation) { replica(o); o.PG.Process = ProcessStarting }, "starting", "replica"},
		{"crashed primary", func(o *Observation) { lost(o); down(o, "in production"); o.PG.Crashed = true }, "crashed", "demoted"},
		{"crashed leader", func(o *Observation) { down(o, "in production"); o.PG.Crashed = true }, "crashed", "primary"},
		{"stopped replica", func(o *Observation) { replica(o); down(o, "shut down in recovery") }, "stopped", "replica"},
		{"start failed", func(o *Observation) { replica(o); down(o, "shut down"); o.Memory.FailedTries = 1 }, "start failed", "replica"},
		{"stopping", func(o *Observation) { runs(o, OpStop) }, "stopping", "primary"},
		{"promoting", func(o *Observation) { standbyLeaderToBe(o); runs(o, OpPromote) }, "running", "promoted"},
		{"starting as primary", func(o *Observation) { down(o, "in production"); runs(o, OpStartPrimary) }, "starting", "primary"},
		{"initdb", func(o *Observation) { lost(o); o.PG = Postgres{}; runs(o, OpBootstrap) }, "initializing new cluster", "uninitialized"},
		{"initdb failed", func(o *Observation) {
			o.PG = Postgres{}
			o.Memory.Bootstrap = BootstrapFailed
			ended(o, OpBootstrap, "no")
		}, "initdb failed", "uninitialized"},
		{"bootstrap by a method", func(o *Observation) { lost(o); o.PG = Postgres{}; runs(o, OpBootstrap); o.Op.Method = "pgbackrest" }, "running custom bootstrap script", "uninitialized"},
		{"and its recovery", func(o *Observation) {
			lost(o)
			o.PG = Postgres{DataDir: DataDirHalfMade, Process: ProcessStarting}
			runs(o, OpBootstrap)
			o.Op.Method = "pgbackrest"
		}, "starting after custom bootstrap", "uninitialized"},
		{"and its failure", func(o *Observation) {
			o.PG = Postgres{}
			o.Memory.Bootstrap = BootstrapFailed
			ended(o, OpBootstrap, "no")
			o.Op.Method = "pgbackrest"
		}, "custom bootstrap failed", "uninitialized"},
		{"restore, still a primary", func(o *Observation) { runs(o, OpRestore) }, "running", "primary"},
		{"restore, files", func(o *Observation) { restoring1(o); o.PG.Crashed = true }, "stopped", "primary"},
		{"restore, recovery", func(o *Observation) { restoring1(o); o.PG.Process = ProcessRunning }, "starting", "primary"},
		{"restore, without the lock", func(o *Observation) { restoring1(o); lost(o) }, "stopped", "demoted"},
		{"unsure", func(o *Observation) { o.PG.Process = ProcessUnsure }, "stopping", "primary"},
	} {
		o := base()
		c.change(o)
		if s, r := o.State(), o.Role(); s != c.state || r != c.role {
			t.Errorf("%s: state %q role %q, want %q %q", c.name, s, r, c.state, c.role)
		}
	}
}

// TestNoLeaderWhileRestoring: the role endpoints say primary only while the
// restore has not taken the server away.
func TestNoLeaderWhileRestoring(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(o *Observation)
		leading bool
	}{
		{"before the stop", func(o *Observation) { ordered(o, "n1"); o.Memory.Restore.ID = "a1"; runs(o, OpRestore) }, true},
		{"stopping", func(o *Observation) { restoring1(o); o.PG.DataDir, o.PG.Process = DataDirPresent, ProcessRunning }, false},
		{"files", restoring1, false},
		{"the private recovery", func(o *Observation) { restoring1(o); o.PG.Process = ProcessRunning }, false},
	} {
		o := base()
		c.change(o)
		d := Decide(*o)
		if v := NewView(o, &d); v.Leading != c.leading {
			t.Errorf("%s: leading is %v", c.name, v.Leading)
		}
	}
}

// TestProgressDocument: what runs for long is published, and nothing else.
func TestProgressDocument(t *testing.T) {
	o := base()
	for k, name := range map[OpKind]string{OpClone: "clone", OpRestore: "restore", OpBootstrap: "bootstrap", OpRewind: "", OpStop: ""} {
		runs(o, k)
		o.Op.Method, o.Op.Done, o.Op.Total, o.Op.Rate = "pgbackrest", 5, 10, 3
		p := MemberDocument(o).Progress
		if name == "" {
			if p != nil {
				t.Errorf("%s: %+v", k, p)
			}
			continue
		}
		if want := (dcs.Progress{Operation: name, Method: "pgbackrest", Done: 5, Total: 10, Rate: 3, Started: o.Wall.Add(-5 * sec)}); p == nil || *p != want {
			t.Errorf("%s: %+v, want %+v", k, p, want)
		}
		o.Op.Running = false
		if MemberDocument(o).Progress != nil {
			t.Errorf("%s: published after its end", k)
		}
	}
}

// TestStatusDocument: as recorded, but for the order of the slots and our beat.
func TestStatusDocument(t *testing.T) {
	o := base()
	o.Me.Name = "pg-db-01"
	o.Settings.UseSlots, o.Settings.MemberSlotsTTL = true, 30*time.Minute
	o.PG.Row = Row{Timeline: 2, Position: 67109536}
	o.PG.Slots = physical(map[string]wal.LSN{"pg_db_02": 67109536, "pg_db_03": 67109536})
	for _, n := range []string{"pg_db_01", "pg_db_02", "pg_db_03"} {
		o.Memory.Retain = append(o.Memory.Retain, Retained{Name: n, Seen: noon})
	}
	st := NextStatus(o, noon, o.Memory.Lease.Timing)
	if want := (dcs.Beat{Beat: 8, Epoch: myEpoch, Holder: "h1", TTL: 30000, Timeline: 2}); *st.Beat != want {
		t.Errorf("beat %+v, want %+v", *st.Beat, want)
	}
	st.Beat = nil
	var got, want any
	if json.Unmarshal(st.Encode(), &got) != nil || json.Unmarshal([]byte(golden(t, "after-switchover.json")["status"]), &want) != nil {
		t.Fatal("not JSON")
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestStatusKeepsWhatIsUnknown(t *testing.T) {
	o := base()
	o.DCS.Cluster.Status.Slots = map[string]wal.LSN{"a": 1}
	o.DCS.Cluster.Status.RetainSlots = []string{"a"}
	o.PG.Known = false
	st := NextStatus(o, noon, o.Memory.Lease.Timing)
	if st.Optime != 1000 || len(st.Slots) != 1 || len(st.RetainSlots) != 1 {
		t.Errorf("%+v", st)
	}
	rel := ReleasedStatus(o, myEpoch, 900)
	if want := (dcs.Beat{Beat: 7, Epoch: myEpoch, Holder: "h1", TTL: 30000, Released: true}); *rel.Beat != want || rel.Optime != 1000 {
		t.Errorf("released %+v optime %d", *rel.Beat, rel.Optime)
	}
	if rel = ReleasedStatus(o, myEpoch, 1100); rel.Optime != 1100 {
		t.Errorf("optime %d, want the shutdown position", rel.Optime)
	}
	// No beat has told of timeline 2: 1000 is of the leader before.
	o.DCS.Cluster.Status.Beat.Timeline, o.Memory.Numbers = 1, Numbers{Timeline: 2, Position: 850}
	if rel = ReleasedStatus(o, myEpoch, 900); rel.Optime != 900 {
		t.Errorf("optime %d, want the shutdown position of the new timeline", rel.Optime)
	}
	if rel = ReleasedStatus(o, myEpoch, 0); rel.Optime != 850 {
		t.Errorf("optime %d, want the last one of the new timeline", rel.Optime)
	}
	if st = NextStatus(o, noon, o.Memory.Lease.Timing); st.Optime != 850 {
		t.Errorf("a beat tells of %d, want the last position of the new timeline", st.Optime)
	}
	o.DCS.Cluster.Status.Beat.Timeline, o.Memory.Numbers = 0, Numbers{}
	o.Memory.Lease = Lease{}
	cl := ClaimStatus(o, noon, base().Memory.Lease.Timing)
	if want := (dcs.Beat{Holder: "h1", TTL: 30000}); *cl.Beat != want {
		t.Errorf("claim %+v", *cl.Beat)
	}
}

func TestHistoryLines(t *testing.T) {
	o := base()
	o.Me.Name = "pg-db-01"
	o.PG.Row.Timeline = 2
	o.PG.HistoryLocal = wal.History{{Timeline: 1, LSN: 67109256, Reason: "no recovery target specified"}}
	o.PG.HistoryTime = time.Date(2026, 11, 22, 8, 3, 56, 948895000, time.UTC)
	lines, stale := o.historyLines()
	want := golden(t, "after-switchover.json")["history"]
	if got := (&dcs.History{Lines: lines}).Encode(); !stale || string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	old := dcs.HistoryLine{Timeline: 1, LSN: 67109256, Reason: "x", Timestamp: "then", NewLeader: "n9"}
	o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{old}}
	if _, stale := o.historyLines(); stale {
		t.Error("a complete last line is left alone")
	}
	o.PG.Row.Timeline = 3
	o.PG.HistoryLocal = append(o.PG.HistoryLocal, wal.Switch{Timeline: 2, LSN: 67119256, Reason: "y"})
	lines, stale = o.historyLines()
	if !stale || len(lines) != 2 || lines[0].Timestamp != "then" || lines[0].NewLeader != "n9" || lines[1].NewLeader != "pg-db-01" {
		t.Errorf("lines %+v", lines)
	}
	o.Settings.MaxTimelinesHistory = 1
	if lines, _ = o.historyLines(); len(lines) != 1 || lines[0].Timeline != 2 {
		t.Errorf("not cut to the newest: %+v", lines)
	}
	o.PG.Row.Timeline = 1
	if lines, stale = o.historyLines(); !stale || !bytes.Equal((&dcs.History{Lines: lines}).Encode(), []byte("[]")) {
		t.Errorf("timeline 1: %+v %v", lines, stale)
	}
	o.PG.Row.Timeline, o.PG.HistoryLocal = 5, nil
	if _, stale = o.historyLines(); stale {
		t.Error("an unknown history is not written")
	}
}
