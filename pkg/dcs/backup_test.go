package dcs

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

var clock = time.Date(2026, 1, 31, 12, 30, 5, 0, time.UTC)

func fullRestore() *Restore {
	return &Restore{
		ID: "5f3a", State: RestoreFailed, Member: "n1", Stanza: "other", Set: "20260131-010000F", SystemID: "7710903353966102417", Force: true,
		Target: RestoreTarget{Type: "time", Value: "2026-01-31 12:00:00+00", Timeline: "current", Exclusive: true},
		By:     "admin@10.0.0.1", Requested: clock, Ended: clock.Add(time.Minute), Timeline: 7, Error: "line one\nline \"two\"",
	}
}

func fullProgress() *Progress {
	return &Progress{Operation: "clone", Method: "pgbackrest", Done: 5, Total: 10, Rate: 2, Started: clock}
}

func TestEncodeOwnKeys(t *testing.T) {
	west := time.FixedZone("", -5*3600)
	tests := []struct{ name, got, want string }{
		{"restore, all fields", string(fullRestore().Encode()), `{"id":"5f3a","state":"failed","member":"n1","stanza":"other","set":"20260131-010000F","target":{"type":"time","value":"2026-01-31 12:00:00+00","timeline":"current","exclusive":true},"system_id":"7710903353966102417","force":true,"requested":"2026-01-31T12:30:05Z","by":"admin@10.0.0.1","ended":"2026-01-31T12:31:05Z","timeline":7,"error":"line one\nline \"two\""}`},
		{"restore, short", string((&Restore{ID: "x", State: RestoreRequested}).Encode()), `{"id":"x","state":"requested"}`},
		{"backup, all fields", string((&Backup{Requested: "full", RequestedAt: clock.In(west), RequestedBy: "a\nb", Type: "diff", Member: "n2", Due: clock, Started: clock.Add(1500 * time.Millisecond),
			Ended: clock.Add(time.Hour), Label: "l", Error: "e", Tries: 3}).Encode()),
			`{"requested":"full","requested_at":"2026-01-31T12:30:05Z","requested_by":"a b","type":"diff","member":"n2","due":"2026-01-31T12:30:05Z","started":"2026-01-31T12:30:06Z","ended":"2026-01-31T13:30:05Z","label":"l","error":"e","tries":3}`},
		{"backup, empty", string((&Backup{}).Encode()), `{}`},
		{"lock", string((&BackupLock{Member: "n1", Type: "full", Started: clock, Progress: fullProgress()}).Encode()),
			`{"member":"n1","type":"full","started":"2026-01-31T12:30:05Z","progress":{"operation":"clone","method":"pgbackrest","done":5,"total":10,"rate":2,"started":"2026-01-31T12:30:05Z"}}`},
		{"lock, short", string((&BackupLock{Member: "n1"}).Encode()), `{"member":"n1"}`},
		{"member with progress", string((&Member{State: "running", Pause: true, Progress: fullProgress()}).Encode()),
			`{"conn_url":"","api_url":"","state":"running","role":"","version":"","pause":true,"pgha":{"operation":"clone","method":"pgbackrest","done":5,"total":10,"rate":2,"started":"2026-01-31T12:30:05Z"}}`},
		{"member without progress", string((&Member{State: "running"}).Encode()), `{"conn_url":"","api_url":"","state":"running","role":"","version":""}`},
		{"quarantine", string((&Member{Quarantine: "etcd went back"}).Encode()), `{"conn_url":"","api_url":"","state":"","role":"","version":"","pgha":{"quarantine":"etcd went back"}}`},
		{"slots", string((&Member{Slots: []SlotUsage{{Name: "a", Percent: 80, Budget: 5}, {Name: "b", Lost: true}}}).Encode()),
			`{"conn_url":"","api_url":"","state":"","role":"","version":"","pgha":{"slots":[{"name":"a","percent":80,"budget":5},{"name":"b","percent":0,"budget":0,"lost":true}]}}`},
		{"timeline of a server that is down", string((&Member{DataTimeline: 5}).Encode()), `{"conn_url":"","api_url":"","state":"","role":"","version":"","pgha":{"data_timeline":5}}`},
		{"progress, nothing known", string((&Member{Progress: &Progress{Done: -1}}).Encode()), `{"conn_url":"","api_url":"","state":"","role":"","version":"","pgha":{}}`},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%s\n got %s\nwant %s", test.name, test.got, test.want)
		}
	}
}

func ownKVs() []KV {
	backup := &Backup{Requested: "incr", RequestedAt: clock, RequestedBy: "x", Type: "full", Member: "n1", Due: clock, Started: clock, Ended: clock, Label: "l", Error: "e", Tries: 2}
	lock := &BackupLock{Member: "n1", Type: "full", Started: clock, Progress: fullProgress()}
	member := &Member{ConnURL: "u", State: "running", Progress: fullProgress()}
	var kvs []KV
	for i, v := range []struct {
		key   Key
		value []byte
	}{{KeyRestore, fullRestore().Encode()}, {KeyBackup, backup.Encode()}, {KeyBackupLock, lock.Encode()}, {"members/n1", member.Encode()}} {
		kvs = append(kvs, KV{Key: v.key.Path("/b"), Value: v.value, CreateRevision: 2, ModRevision: int64(10 + i), LeaseID: int64(100 + i)})
	}
	return kvs
}

// Every field survives being written and read; a field that is forgotten on
// either side shows as a difference, as no field here is zero.
func TestOwnKeysRoundTrip(t *testing.T) {
	c := Decode("/b", ownKVs())
	if len(c.Invalid) > 0 || c.Restore == nil || c.Backup == nil || c.BackupLock == nil || c.Member("n1").Progress == nil {
		t.Fatalf("%+v", c)
	}
	want := fullRestore()
	want.ModRevision = 10
	if !reflect.DeepEqual(c.Restore, want) {
		t.Errorf("got  %+v\nwant %+v", c.Restore, want)
	}
	if !reflect.DeepEqual(c.BackupLock, &BackupLock{Member: "n1", Type: "full", Started: clock, Progress: fullProgress(), LeaseID: 102, ModRevision: 12}) {
		t.Errorf("%+v", c.BackupLock)
	}
	if !reflect.DeepEqual(c.Member("n1").Progress, fullProgress()) {
		t.Errorf("%+v", c.Member("n1").Progress)
	}
	for _, v := range []any{*c.Restore, c.Restore.Target, *c.Backup, *c.BackupLock, *c.BackupLock.Progress} {
		rv := reflect.ValueOf(v)
		for i := range rv.NumField() {
			if rv.Field(i).IsZero() {
				t.Errorf("%s.%s did not survive, or the test leaves it out", rv.Type(), rv.Type().Field(i).Name)
			}
		}
	}
	for i, k := range []Key{KeyRestore, KeyBackup, KeyBackupLock} {
		if got := c.ModRevision(k); got != int64(10+i) {
			t.Errorf("%s at %d", k, got)
		}
		if got := (&Cluster{}).ModRevision(k); got != 0 {
			t.Errorf("absent %s at %d", k, got)
		}
	}
	if !c.Restore.Requested.Equal(clock) || c.Restore.Open() {
		t.Errorf("%+v", c.Restore)
	}
}

func TestOwnKeysBadValues(t *testing.T) {
	long := strings.Repeat("x", maxWord+1)
	bad := map[Key][]string{
		KeyRestore: {
			``, `x`, `[]`, `null`, `{}`, `{"id":"a"}`, `{"state":"requested"}`, `{"id":"a","state":"soon"}`, `{"id":5,"state":"done"}`, `{"id":"a","state":"done","target":[]}`,
			`{"id":"a","state":"done","target":{"type":"tme"}}`, `{"id":"a","state":"done","target":{"exclusive":"yes"}}`, `{"id":"a","state":"done","target":{"value":"a\nb"}}`,
			`{"id":"a","state":"done","force":1}`, `{"id":"a","state":"done","requested":"2026-01-31 12:00"}`, `{"id":"a","state":"done","timeline":4294967296}`,
			`{"id":"a","state":"done","timeline":-1}`, `{"id":"a\u0000","state":"done"}`, `{"id":"a","state":"done","set":"` + long + `"}`,
			`{"id":"a","state":"done","error":"` + strings.Repeat("x", maxMessage+1) + `"}`, `{"id":"a","state":"done"}` + strings.Repeat(" ", MaxValue), `{"id":"a","state":"done"} {}`,
		},
		KeyBackup:     {`x`, `[]`, `{"requested":"ful"}`, `{"type":"rm"}`, `{"tries":-1}`, `{"tries":1.5}`, `{"due":5}`, `{"due":"0000-00-00T00:00:00Z"}`, `{"member":["a"]}`},
		KeyBackupLock: {`x`, `[]`, `{}`, `{"member":""}`, `{"member":"a","progress":5}`, `{"member":"a","progress":{"done":9223372036854775808}}`, `{"member":"a","progress":{"started":"x"}}`},
		"members/a":   {`{"state":"running","pgha":5}`, `{"state":"running","pgha":{"done":-1}}`, `{"state":"running","pgha":{"method":"a\u0007"}}`},
	}
	for key, values := range bad {
		for _, v := range values {
			c := Decode("/b", []KV{{Key: key.Path("/b"), Value: []byte(v), ModRevision: 3}})
			if c.Restore != nil || c.Backup != nil || c.BackupLock != nil || c.Invalid[key] == "" || c.ModRevision(key) != 3 {
				t.Errorf("%s %.80q: %+v", key, v, c)
			}
			if msg := c.Invalid[key]; len(msg) > 200 || strings.ContainsAny(msg, "\n\x00") {
				t.Errorf("%s %.80q: message %q", key, v, msg)
			}
			if m := c.Member("a"); key == "members/a" && (m == nil || m.State != "running" || m.Progress != nil) {
				t.Errorf("%s: the rest of the member is lost: %+v", v, m)
			}
		}
	}
	// What a newer release may add does no harm.
	c := Decode("/b", []KV{{Key: "/b/pgha/restore", Value: []byte(`{"id":"a","state":"done","new":{"x":1},"target":null,"error":null}`)}, {Key: "/b/pgha/other", Value: []byte("x")}})
	if c.Restore == nil || len(c.Invalid) > 0 {
		t.Errorf("%+v", c)
	}
}

// Free text of any length and kind must not spoil the key it is in.
func TestOwnKeysFreeText(t *testing.T) {
	for _, text := range []string{strings.Repeat("é", 50000), strings.Repeat("\xff", 50000), strings.Repeat("€", maxMessage), "\x00\x1b[0m", strings.Repeat("a", maxMessage-1) + "€"} {
		r := &Restore{ID: "a", State: RestoreFailed, By: text, Error: text}
		got, err := DecodeRestore(r.Encode())
		if err != nil {
			t.Errorf("%.20q: %v", text, err)
			continue
		}
		valid := strings.ToValidUTF8(text, "?")
		if len(got.Error) < min(len(valid), maxMessage)-3 || !strings.HasPrefix(valid, got.Error) {
			t.Errorf("%.20q became %.20q (%d bytes)", text, got.Error, len(got.Error))
		}
		if _, err := DecodeBackup((&Backup{RequestedBy: text, Error: text}).Encode()); err != nil {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestProgressLeft(t *testing.T) {
	for _, c := range []struct {
		p    *Progress
		want time.Duration
	}{{nil, 0}, {&Progress{Total: 10}, 0}, {&Progress{Total: 10, Done: 4, Rate: 2}, 3 * time.Second}, {&Progress{Done: 4, Rate: 2}, 0}} {
		if got := c.p.Left(); got != c.want {
			t.Errorf("%s: %v", fmt.Sprint(c.p), got)
		}
	}
}
