package dcs

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// seeds gives every fuzz target the recorded values and some odd ones.
func seeds(f *testing.F) {
	f.Helper()
	for _, keys := range loadRecorded(f) {
		for _, r := range keys {
			f.Add([]byte(r.Value))
		}
	}
	for _, kv := range ownKVs() {
		f.Add(kv.Value)
	}
	for _, odd := range []string{
		"", "null", "0", `"x"`, "[[1,2,3]]", `{"a":{"a":{"a":{}}}}`, strings.Repeat("[", 2000), `{"optime":1e400}`, `{"tags":{"a":1e999999999}}`,
		`{"leader":"a","sync_standby":",,,"}`, "a:b:c", "postgres://%zz", `{"pgha":{"beat":9223372036854775807}}`, "{\"\\ud800\":1}",
	} {
		f.Add([]byte(odd))
	}
}

// stable checks that what was read is read the same after being written.
func stable[T any](t *testing.T, in []byte, decode func([]byte) (T, error), encode func(T) []byte) {
	t.Helper()
	v, err := decode(in)
	if err != nil {
		return
	}
	text := encode(v)
	again, err := decode(text)
	if err != nil {
		t.Fatalf("own value %s of %q: %v", text, in, err)
	}
	if second := encode(again); !bytes.Equal(text, second) {
		t.Fatalf("%q: written as %s, then as %s", in, text, second)
	}
}

// FuzzObject: the fast way to split an object agrees with the decoder's tokens.
func FuzzObject(f *testing.F) {
	seeds(f)
	for _, odd := range []string{`{"a":1,"a":2}`, ` { "a" : [ {"b":"}"} , "\\"]" ] , "b":{}, "" :null}x`, "{\"a\":\"\xff\"}", `{"a\u0062":"\n"}`} {
		f.Add([]byte(odd))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		got, err := parseObject(v)
		var want map[string]json.RawMessage
		if werr := json.Unmarshal(v, &want); (err != nil) != (werr != nil || want == nil) {
			t.Fatalf("%q: %v, the decoder: %v", v, err, werr)
		} else if err != nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %d entries, the decoder has %d", v, len(got), len(want))
		}
		for _, p := range got {
			if raw, ok := want[p.name]; !ok || !bytes.Equal(raw, p.raw) {
				t.Fatalf("%q: %q is %s, the decoder has %s", v, p.name, p.raw, raw)
			}
			var s string
			if json.Unmarshal(p.raw, &s) != nil {
				s = ""
			}
			if str(p.raw) != s {
				t.Fatalf("%s read as %q", p.raw, str(p.raw))
			}
		}
	})
}

func FuzzMember(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, v []byte) {
		stable(t, v, func(b []byte) (Member, error) { return DecodeMember("a", b) }, func(m Member) []byte { return m.Encode() })
		if m, _ := DecodeMember("a", v); m.Name != "a" {
			t.Fatal("member without its name")
		} else {
			_, _ = m.NoFailover(), m.FailoverPriority()
		}
	})
}

func FuzzFailover(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, v []byte) { stable(t, v, DecodeFailover, (*Failover).Encode) })
}

func FuzzSync(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, v []byte) { stable(t, v, DecodeSync, (*Sync).Encode) })
}

func FuzzHistory(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, v []byte) { stable(t, v, DecodeHistory, (*History).Encode) })
}

func FuzzStatus(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, v []byte) { stable(t, v, DecodeStatus, (*Status).Encode) })
}

func FuzzFailsafe(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, v []byte) { stable(t, v, DecodeFailsafe, (*Failsafe).Encode) })
}

func FuzzRestore(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, v []byte) { stable(t, v, DecodeRestore, (*Restore).Encode) })
}

func FuzzBackup(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, v []byte) { stable(t, v, DecodeBackup, (*Backup).Encode) })
}

func FuzzBackupLock(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, v []byte) { stable(t, v, DecodeBackupLock, (*BackupLock).Encode) })
}

// FuzzDecode feeds one value under every key: no panic, the same result twice,
// and each key is either understood or listed.
func FuzzDecode(f *testing.F) {
	seeds(f)
	keys := []Key{KeyLeader, KeyInitialize, KeyConfig, KeyFailover, KeySync, KeyHistory, KeyStatus, KeyFailsafe, KeyRestore, KeyBackup, KeyBackupLock, "members/a", keyOptime}
	f.Fuzz(func(t *testing.T, v []byte) {
		var kvs []KV
		for i, k := range keys {
			kvs = append(kvs, KV{Key: k.Path("/b"), Value: v, CreateRevision: 1, ModRevision: int64(i + 1)})
		}
		c := Decode("/b", kvs)
		if !reflect.DeepEqual(c, Decode("/b", kvs)) {
			t.Fatal("decoded differently the second time")
		}
		if c.Leader == nil || c.Member("a") == nil {
			t.Fatal("leader or member vanished")
		}
		if slot := SlotName(string(v)); len(slot) > maxSlotName {
			t.Fatalf("slot name %q is too long", slot)
		}
		for i, k := range keys[1 : len(keys)-1] {
			if c.ModRevision(k) != int64(i+2) {
				t.Fatalf("%s: revision %d", k, c.ModRevision(k))
			}
		}
	})
}
