package dcs

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// recorded is one key as Patroni 4.1.4 stored it.
type recorded struct {
	State, Key, Value string
	Leased            bool
}

func loadRecorded(t testing.TB) map[string][]recorded {
	t.Helper()
	text, err := os.ReadFile("testdata/recorded.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []recorded
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	states := map[string][]recorded{}
	for _, r := range all {
		states[r.State] = append(states[r.State], r)
	}
	return states
}

const recordedBase = "/service/pg-ha-cluster"

// Every recorded value is understood, and written back to the byte; slots are
// the exception: their order means nothing, and ours is sorted.
func TestRecordedRoundTrip(t *testing.T) {
	values := 0
	for state, keys := range loadRecorded(t) {
		var kvs []KV
		for i, r := range keys {
			kvs = append(kvs, KV{Key: r.Key, Value: []byte(r.Value), CreateRevision: 7, ModRevision: int64(i + 10), LeaseID: 5})
		}
		c := Decode(recordedBase, kvs)
		if len(c.Invalid) > 0 {
			t.Errorf("%s: invalid: %v", state, c.Invalid)
		}
		for i, r := range keys {
			key := Key(strings.TrimPrefix(r.Key, recordedBase+"/"))
			if rev := c.ModRevision(key); rev != int64(i+10) && key != KeyLeader {
				t.Errorf("%s: %s: mod revision %d", state, key, rev)
			}
			got, ok := encodeKey(c, key)
			if !ok {
				t.Errorf("%s: %s was not decoded", state, key)
			} else if key == KeyStatus && !sameJSON(t, got, r.Value) || key != KeyStatus && got != r.Value {
				t.Errorf("%s: %s\n got %s\nwant %s", state, key, got, r.Value)
			}
			values++
		}
	}
	if values < 40 {
		t.Fatalf("only %d values", values)
	}
}

func encodeKey(c *Cluster, key Key) (string, bool) {
	if name, ok := memberOf(key); ok {
		if m := c.Member(name); m != nil {
			return string(m.Encode()), true
		}
		return "", false
	}
	switch {
	case key == KeyLeader && c.Leader != nil && c.Leader.Epoch == 7 && c.Leader.LeaseID == 5:
		return c.LeaderName(), true
	case key == KeyInitialize && c.Initialize != nil:
		return c.Initialize.SystemID, true
	case key == KeyConfig && c.Config != nil:
		return string(c.Config.Raw), true
	case key == KeyFailover && c.Failover != nil:
		return string(c.Failover.Encode()), true
	case key == KeySync && c.Sync != nil:
		return string(c.Sync.Encode()), true
	case key == KeyHistory && c.History != nil:
		return string(c.History.Encode()), true
	case key == KeyStatus && c.Status != nil:
		return string(c.Status.Encode()), true
	case key == KeyFailsafe && c.Failsafe != nil:
		return string(c.Failsafe.Encode()), true
	}
	return "", false
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		t.Fatalf("not JSON: %s or %s", a, b)
	}
	return reflect.DeepEqual(x, y)
}

func TestEncode(t *testing.T) {
	no := false
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.FixedZone("", 5*3600+1800))
	tests := []struct{ name, got, want string }{
		{"member, all fields", string((&Member{
			ConnURL: "postgres://10.0.0.1:5432/postgres", APIURL: "http://10.0.0.1:8008/patroni", State: "running", Role: "primary",
			Version: "4.1.4", ProxyURL: "postgres://p:1/postgres", CheckpointAfterPromote: &no, Tags: Tags{{"b", json.Number("1.50")}, {"a", true}},
			PendingRestart: true, PendingRestartReason: json.RawMessage(`{"x": {"old_value": "1"}}`), XLogLocation: 5, ReplayLSN: 6, ReceiveLSN: 7,
			ReplicationState: "streaming", Timeline: 3, ScheduledRestart: json.RawMessage(`{"schedule":"x"}`), Pause: true,
		}).Encode()), `{"conn_url":"postgres://10.0.0.1:5432/postgres","api_url":"http://10.0.0.1:8008/patroni","state":"running","role":"primary","version":"4.1.4","proxy_url":"postgres://p:1/postgres","checkpoint_after_promote":false,"tags":{"b":1.50,"a":true},"pending_restart":true,"pending_restart_reason":{"x":{"old_value":"1"}},"xlog_location":5,"replay_lsn":6,"receive_lsn":7,"replication_state":"streaming","timeline":3,"scheduled_restart":{"schedule":"x"},"pause":true}`},
		{"failover, none", string((*Failover)(nil).Encode()), `{}`},
		{"failover, empty", string((&Failover{}).Encode()), `{}`},
		{"failover, scheduled", string((&Failover{Leader: "a", Candidate: "b", ScheduledAt: at}).Encode()), `{"leader":"a","member":"b","scheduled_at":"2026-01-31T12:00:00+05:30"}`},
		{"failover, microseconds", string((&Failover{Candidate: "b", ScheduledAt: at.Add(1500)}).Encode()), `{"member":"b","scheduled_at":"2026-01-31T12:00:00.000001+05:30"}`},
		{"sync, off", string((&Sync{}).Encode()), `{"leader":null,"quorum":0,"sync_standby":null}`},
		{"sync, quorum", string((&Sync{Leader: "n1", Quorum: 1, Standbys: []string{"n3", "n2"}}).Encode()), `{"leader":"n1","quorum":1,"sync_standby":"n2,n3"}`},
		{"history, empty", string((&History{}).Encode()), `[]`},
		{"history, 3 to 5 columns", string((&History{Lines: []HistoryLine{{1, 2, "r", "", ""}, {2, 3, "r", "t", ""}, {3, 4, `q"`, "t", "n"}}}).Encode()), `[[1,2,"r"],[2,3,"r","t"],[3,4,"q\"","t","n"]]`},
		{"status, bare", string((&Status{Optime: 9}).Encode()), `{"optime":9}`},
		{"status, beat", string((&Status{Optime: 9, Slots: map[string]wal.LSN{"b": 2, "a": 1}, RetainSlots: []string{"b", "a"},
			Beat: &Beat{Beat: 4, Epoch: 5, TTL: 30000, Holder: "h", Released: true}}).Encode()),
			`{"optime":9,"slots":{"a":1,"b":2},"retain_slots":["a","b"],"pgha":{"beat":4,"epoch":5,"ttl":30000,"holder":"h","released":true}}`},
		{"failsafe", string((&Failsafe{Members: map[string]string{"b": "u2", "a": "u1"}}).Encode()), `{"a":"u1","b":"u2"}`},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%s\n got %s\nwant %s", test.name, test.got, test.want)
		}
	}
}

func TestDecodeMember(t *testing.T) {
	m, err := DecodeMember("a", []byte("postgres://u:5433/db?application_name=http://h:8008/patroni"))
	if err != nil || m.APIURL != "http://h:8008/patroni" || m.ConnURL != "postgres://u:5433/db" {
		t.Errorf("legacy URL: %+v, %v", m, err)
	}
	m, err = DecodeMember("a", []byte(`{"role":"master","xlog_location":"12","checkpoint_after_promote":false,"version":1,"extra":[1]}`))
	if err != nil || m.Role != "primary" || m.XLogLocation != 12 || m.CheckpointDone() || m.Version != "" {
		t.Errorf("old member: %+v, %v", m, err)
	}
	if m, err = DecodeMember("a", []byte(`{"state":"running"}`)); err != nil || !m.CheckpointDone() || m.XLogLocation != 0 {
		t.Errorf("short member: %+v, %v", m, err)
	}
	for name, value := range map[string]string{
		"array": `[1]`, "text": `hello`, "cut": `{"state":"run`, "negative": `{"state":"running","xlog_location":-1}`,
		"too high": `{"state":"running","xlog_location":9223372036854775808}`, "timeline": `{"state":"running","timeline":4294967296}`,
		"fraction": `{"state":"running","replay_lsn":1.5}`, "tags": `{"state":"running","tags":[]}`, "large": `{"state":"` + strings.Repeat("x", MaxValue) + `"}`,
	} {
		c := Decode("/b", []KV{{Key: "/b/members/a", Value: []byte(value), ModRevision: 3}})
		if len(c.Members) != 1 || c.Members[0].Name != "a" || c.Invalid["members/a"] == "" || c.ModRevision("members/a") != 3 {
			t.Errorf("%s: %+v, invalid %v", name, c.Members, c.Invalid)
		}
	}
}

func TestDecodeFailover(t *testing.T) {
	utc := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		in   string
		want Failover
	}{
		{``, Failover{}},
		{`{}`, Failover{}},
		{`[]`, Failover{}},
		{`{"leader":"a"}`, Failover{Leader: "a"}},
		{`{"leader":null,"member":"b","scheduled_at":null}`, Failover{Candidate: "b"}},
		{`a:b`, Failover{Leader: "a", Candidate: "b"}},
		{` :b `, Failover{Candidate: "b"}},
		{`a`, Failover{Leader: "a"}},
		{`{"leader":"a","scheduled_at":"2026-01-01T12:00:00+00:00"}`, Failover{Leader: "a", ScheduledAt: utc}},
		{`{"leader":"a","scheduled_at":"2026-01-01 12:00Z"}`, Failover{Leader: "a", ScheduledAt: utc}},
		{`{"leader":"a","scheduled_at":"2026-01-01T12:00:00.5+0000"}`, Failover{Leader: "a", ScheduledAt: utc.Add(time.Second / 2)}},
		{`{"leader":"a","scheduled_at":"2026-01-01T12:00:00"}`, Failover{Leader: "a", Bad: true}},
		{`{"leader":"a","scheduled_at":"soon"}`, Failover{Leader: "a", Bad: true}},
		{`{"leader":"a","scheduled_at":5}`, Failover{Leader: "a", Bad: true}},
	}
	for _, test := range tests {
		got, err := DecodeFailover([]byte(test.in))
		if err != nil || got.Leader != test.want.Leader || got.Candidate != test.want.Candidate || got.Bad != test.want.Bad || !got.ScheduledAt.Equal(test.want.ScheduledAt) {
			t.Errorf("%s: %+v, %v", test.in, got, err)
		}
	}
	if _, err := DecodeFailover([]byte(`{"leader":`)); err == nil {
		t.Error("cut JSON was accepted")
	}
}

func TestDecodeStatus(t *testing.T) {
	full := &Status{Optime: 7, Slots: map[string]wal.LSN{"a": 1}, RetainSlots: []string{"a"}}
	tests := []struct {
		in   string
		want *Status
	}{
		{`67395656`, &Status{Optime: 67395656}},
		{`{}`, &Status{}},
		{`{"optime":7,"slots":{"a":1,"b":null},"retain_slots":["a"]}`, full},
		{`{"optime":"7","slots":"{\"a\":1}","retain_slots":"[\"a\"]"}`, full},
		{`{"optime":7,"slots":null,"retain_slots":"","pgha":null}`, &Status{Optime: 7}},
		{`{"optime":7,"pgha":{"beat":3,"epoch":4,"ttl":5,"holder":"h","released":true,"later":1}}`, &Status{Optime: 7, Beat: &Beat{Beat: 3, Epoch: 4, TTL: 5, Holder: "h", Released: true}}},
		{`{"optime":-7}`, nil},
		{`{"optime":7,"slots":[1]}`, nil},
		{`{"optime":7,"slots":{"a":"x"}}`, nil},
		{`{"optime":7,"retain_slots":{}}`, nil},
		{`{"optime":7,"pgha":{"ttl":99999999999}}`, nil},
		{`{"optime":7,"pgha":{"beat":-1}}`, nil},
		{`{"optime":7,"pgha":{"timeline":4,"next_timeline":5}}`, &Status{Optime: 7, Beat: &Beat{Timeline: 4, Next: 5}}},
		{`{"optime":7,"pgha":{"next_timeline":4294967296}}`, nil},
		{`{"optime":7,"pgha":"x"}`, nil},
		{`null`, nil},
		{``, nil},
	}
	for _, test := range tests {
		got, err := DecodeStatus([]byte(test.in))
		if (err != nil) != (test.want == nil) || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v", test.in, got, err)
		}
	}
}

func TestDecodeSyncAndHistory(t *testing.T) {
	s, err := DecodeSync([]byte(`{"leader":"A","sync_standby":" b , ,C"}`))
	if err != nil || s.Quorum != 0 || !reflect.DeepEqual(s.Standbys, []string{"b", "C"}) || !s.Has("c") || !s.Voter("a") || s.Voter("d") || s.Has("a") {
		t.Errorf("sync %+v, %v", s, err)
	}
	if s, err = DecodeSync([]byte(`{"leader":null,"quorum":1,"sync_standby":"b"}`)); err != nil || s.Quorum != 0 || len(s.Standbys) != 0 || s.Voter("") {
		t.Errorf("inactive sync %+v, %v", s, err)
	}
	for _, bad := range []string{`[]`, `x`, `{"leader":"a","quorum":-1}`, `{"leader":"a","quorum":1.5}`, `{"leader":"a","sync_standby":["b"]}`} {
		if s, err := DecodeSync([]byte(bad)); err == nil {
			t.Errorf("%s was read as %+v", bad, s)
		}
	}
	h, err := DecodeHistory([]byte(`[[1,2,"r"],[2,3,"r","t"],[3,4,"r","t","n"]]`))
	want := []HistoryLine{{1, 2, "r", "", ""}, {2, 3, "r", "t", ""}, {3, 4, "r", "t", "n"}}
	if err != nil || !reflect.DeepEqual(h.Lines, want) {
		t.Errorf("history %+v, %v", h, err)
	}
	for _, bad := range []string{`{}`, `[1]`, `[[1,2]]`, `[[-1,2,"r"]]`, `[[1,"x","r"]]`, `[[1,-2,"r"]]`} {
		if h, err := DecodeHistory([]byte(bad)); err == nil {
			t.Errorf("%s was read as %+v", bad, h)
		}
	}
}

func TestDecodeOddKeys(t *testing.T) {
	c := Decode("/b", []KV{
		{Key: "/b/leader", Value: []byte("a\nb"), CreateRevision: 4, ModRevision: 5},
		{Key: "/b/status", Value: []byte("{"), ModRevision: 6},
		{Key: "/b/optime/leader", Value: []byte("77"), ModRevision: 7},
		{Key: "/b/members/x/y", Value: []byte("{}")},
		{Key: "/b/members/", Value: []byte("{}")},
		{Key: "/bb/config", Value: []byte("{}")},
		{Key: "/b/config", Value: []byte("{}" + strings.Repeat(" ", MaxValue)), ModRevision: 8},
		{Key: "/b/initialize", Value: []byte{0xff}, ModRevision: 9},
		{Key: "/b/failsafe", Value: []byte(`{"a":1}`), ModRevision: 10},
	})
	if c.Leader == nil || c.Leader.Name != "" || c.Leader.Epoch != 4 || c.Invalid[KeyLeader] == "" {
		t.Errorf("bad leader: %+v %v", c.Leader, c.Invalid)
	}
	if c.Status != nil || c.Config != nil || c.Initialize != nil || c.Failsafe != nil || len(c.Members) != 0 || len(c.Invalid) != 5 {
		t.Errorf("%+v", c)
	}
	for k, rev := range map[Key]int64{KeyStatus: 6, KeyConfig: 8, KeyInitialize: 9, KeyFailsafe: 10, KeySync: 0, "members/z": 0} {
		if got := c.ModRevision(k); got != rev {
			t.Errorf("%s: revision %d, want %d", k, got, rev)
		}
	}
	if c := Decode("/b", []KV{{Key: "/b/optime/leader", Value: []byte("77"), ModRevision: 7}}); c.Status == nil || c.Status.Optime != 77 || c.ModRevision(KeyStatus) != 0 {
		t.Errorf("legacy optime: %+v", c.Status)
	}
	if (*Cluster)(nil).ModRevision(KeyStatus) != 0 {
		t.Error("nil cluster")
	}
}

func TestNames(t *testing.T) {
	for _, test := range [][3]string{
		{"", "batman", "/service/batman"}, {"/service/", "/batman/", "/service/batman"}, {"a//b", "c", "/a/b/c"}, {"/", "x", "/service/x"},
	} {
		if got := Base(test[0], test[1]); got != test[2] {
			t.Errorf("Base(%q, %q) = %q, want %q", test[0], test[1], got, test[2])
		}
	}
	for prefix, end := range map[string]string{"/service/batman/": "/service/batman0", "a\xff": "b", "\xff": ""} {
		if got := PrefixEnd(prefix); got != end {
			t.Errorf("PrefixEnd(%q) = %q", prefix, got)
		}
	}
	for name, slot := range map[string]string{
		"pg-db.01": "pg_db_01", "Node_A": "node_a", "Node A": "nodeu0032a", "a b": "au0032b", "é": "u0233", strings.Repeat("x", 70): strings.Repeat("x", 63),
	} {
		if got := SlotName(name); got != slot {
			t.Errorf("SlotName(%q) = %q, want %q", name, got, slot)
		}
	}
	for id, valid := range map[string]bool{"7710903353966102417": true, "1234567890": true, "123456789": false, "": false, "12345x7890": false, "+1234567890": false, "99999999999999999999": false} {
		if InitializeValid(id) != valid {
			t.Errorf("InitializeValid(%q)", id)
		}
	}
}

func TestTags(t *testing.T) {
	tags := func(text string) Tags {
		var tg Tags
		if err := json.Unmarshal([]byte(text), &tg); err != nil {
			t.Fatal(err)
		}
		return tg
	}
	tests := []struct {
		in         string
		nofailover bool
		priority   int
	}{
		{`{}`, false, 1},
		{`{"nofailover":true}`, true, 0},
		{`{"nofailover":"On"}`, true, 0},
		{`{"nofailover":1,"failover_priority":5}`, true, 0},
		{`{"nofailover":false,"failover_priority":0}`, false, 0},
		{`{"nofailover":null,"failover_priority":0}`, true, 0},
		{`{"failover_priority":"3"}`, false, 3},
		{`{"failover_priority":-1}`, true, -1},
		{`{"failover_priority":"x"}`, false, 1},
		{`{"failover_priority":2.5}`, false, 2},
	}
	for _, test := range tests {
		m := &Member{Tags: tags(test.in)}
		if m.NoFailover() != test.nofailover || m.FailoverPriority() != test.priority {
			t.Errorf("%s: nofailover %v, priority %d", test.in, m.NoFailover(), m.FailoverPriority())
		}
	}
	m := &Member{Tags: tags(`{"z":{"b":1,"a":[null,1e3]},"replicatefrom":"up","nosync":true,"sync_priority":4,"clonefrom":"yes","nostream":"maybe"}`)}
	if m.ReplicateFrom() != "up" || !m.NoSync() || m.SyncPriority() != 0 || !m.CloneFrom() || m.NoStream() || m.NoLoadBalance() {
		t.Errorf("%+v", m.Tags)
	}
	text, err := json.Marshal(m.Tags)
	if want := `{"z":{"a":[null,1e3],"b":1},"replicatefrom":"up","nosync":true,"sync_priority":4,"clonefrom":"yes","nostream":"maybe"}`; err != nil || string(text) != want {
		t.Errorf("tags written as %s, %v", text, err)
	}
}
