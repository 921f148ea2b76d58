package dcs

import (
	"math/rand"
	"reflect"
	"testing"
)

// memoValues are good and bad values of every key.
func memoValues(t testing.TB) map[Key][]string {
	t.Helper()
	values := map[Key][]string{
		keyOptime: {"5", "x"}, KeyConfig: {`{"ttl":30}`, `[]`}, KeyFailover: {`{"leader":"a"}`, `{`}, KeySync: {`{"leader":"a","sync_standby":"b,c"}`, `x`}, KeyLeader: {"a", "b", ""},
		KeyHistory: {`[[1,2,"r"]]`, `{}`}, KeyStatus: {`{"optime":5,"slots":{"a":1}}`, `{"optime":-1}`}, KeyFailsafe: {`{"a":"u"}`, `{"a":1}`}, KeyInitialize: {"", "1234567890", "\x00"},
		"members/a": {`{"state":"running"}`, `x`}, "members/b": {`{"tags":{"x":[1]},"state":"running"}`, `{"timeline":-1}`}, "members/b/c": {"x"}, "foreign": {"x"},
	}
	for _, kv := range ownKVs() {
		key, _ := relative("/b", kv.Key)
		values[key] = append(values[key], string(kv.Value), "x")
	}
	return values
}

// A memo gives what a fresh Decode gives, whatever changed since: also after a
// restore of etcd, when revisions come a second time with other values. What it
// gave before does not change any more.
func TestMemoEqualsDecode(t *testing.T) {
	values := memoValues(t)
	var keys []Key
	for k := range values {
		keys = append(keys, k)
	}
	rnd := rand.New(rand.NewSource(1))
	var m Memo
	state := map[string]KV{}
	type pair struct{ got, want *Cluster }
	var given []pair
	for range 5000 {
		for range rnd.Intn(3) {
			key := keys[rnd.Intn(len(keys))]
			path := key.Path("/b")
			if rnd.Intn(4) == 0 {
				delete(state, path)
				continue
			}
			v := values[key][rnd.Intn(len(values[key]))]
			state[path] = KV{Key: path, Value: []byte(v), CreateRevision: int64(1 + rnd.Intn(2)), ModRevision: int64(3 + rnd.Intn(3)), LeaseID: int64(rnd.Intn(2))}
		}
		kvs := []KV{{Key: "/bb/leader", Value: []byte("x")}}
		for _, kv := range state {
			kvs = append(kvs, kv)
		}
		got, want := m.Decode("/b", kvs), Decode("/b", kvs)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("memo gives\n %+v, a fresh decode\n %+v", got, want)
		}
		given = append(given, pair{got, want})
	}
	for _, p := range given {
		if !reflect.DeepEqual(p.got, p.want) {
			t.Fatalf("an old snapshot has changed:\n %+v\n was %+v", p.got, p.want)
		}
	}
	if len(m.known) > len(state)+1 {
		t.Errorf("%d keys are remembered, %d exist", len(m.known), len(state))
	}
}

func TestMemoKeepsWhatDidNotChange(t *testing.T) {
	var m Memo
	kvs := []KV{{Key: "/b/config", Value: []byte(`{}`), ModRevision: 2}, {Key: "/b/status", Value: []byte(`5`), ModRevision: 3}}
	a := m.Decode("/b", kvs)
	kvs[1].Value, kvs[1].ModRevision = []byte(`6`), 4
	b := m.Decode("/b", kvs)
	if a.Config != b.Config || a.Status == b.Status || a.Status.Optime != 5 || b.Status.Optime != 6 {
		t.Errorf("%+v %+v", a, b)
	}
	if c := m.Decode("/c", kvs); c.Config != nil {
		t.Errorf("%+v", c)
	}
	m.Decode("/b", nil)
	if len(m.known) != 0 {
		t.Errorf("remembered: %v", m.known)
	}
}

func BenchmarkDecode(b *testing.B) {
	kvs := recordedKVs(b)
	b.Run("fresh", func(b *testing.B) {
		for range b.N {
			Decode(recordedBase, kvs)
		}
	})
	b.Run("memo", func(b *testing.B) {
		var m Memo
		for i := range b.N {
			kvs[i%len(kvs)].ModRevision += int64(i)
			m.Decode(recordedBase, kvs)
		}
	})
}

// recordedKVs is the largest recorded state.
func recordedKVs(b *testing.B) []KV {
	b.Helper()
	var most []KV
	for _, keys := range loadRecorded(b) {
		var kvs []KV
		for i, r := range keys {
			kvs = append(kvs, KV{Key: r.Key, Value: []byte(r.Value), CreateRevision: 7, ModRevision: int64(i + 10), LeaseID: 5})
		}
		if len(kvs) > len(most) {
			most = kvs
		}
	}
	return most
}
