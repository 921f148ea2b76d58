package ha

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSyncNames(t *testing.T) {
	for _, c := range []struct {
		text string
		want SyncNames
		out  string
	}{
		{"", SyncNames{}, ""},
		{"node2", SyncNames{Count: 1, Names: nameSet{"node2"}}, "node2"},
		{"node3 , node2", SyncNames{Count: 1, Names: nameSet{"node2", "node3"}}, "1 (node2,node3)"},
		{"2 (node2,node3)", SyncNames{Count: 2, Names: nameSet{"node2", "node3"}}, "2 (node2,node3)"},
		{"FIRST 2 (a, b)", SyncNames{Count: 2, Names: nameSet{"a", "b"}}, "2 (a,b)"},
		{"any 1 (b)", SyncNames{Any: true, Count: 1, Names: nameSet{"b"}}, "ANY 1 (b)"},
		{`ANY 1 ("pg-db-02","first")`, SyncNames{Any: true, Count: 1, Names: nameSet{"first", "pg-db-02"}}, `ANY 1 ("first","pg-db-02")`},
		{`"a""b"`, SyncNames{Count: 1, Names: nameSet{`a"b`}}, `"a""b"`},
		{`"any"`, SyncNames{Count: 1, Names: nameSet{"any"}}, `"any"`},
		{"*", SyncNames{Count: 1}, ""},
		{"ANY 1 (*)", SyncNames{Any: true, Count: 1}, ""},
		{"2", SyncNames{Count: 1, Names: nameSet{"2"}}, `"2"`},
		{"a, A", SyncNames{Count: 1, Names: nameSet{"A"}}, "A"},
		// What the server refuses.
		{"a b", SyncNames{}, ""},
		{"2 (a", SyncNames{}, ""},
		{"0 (a)", SyncNames{}, ""},
		{"any (a)", SyncNames{}, ""},
		{`"a`, SyncNames{}, ""},
		{"1 (a) b", SyncNames{}, ""},
		{"a,", SyncNames{}, ""},
	} {
		got := ParseSyncNames(c.text)
		if !got.equal(c.want) || got.String() != c.out {
			t.Errorf("%q: %+v, rendered %q; want %+v, %q", c.text, got, got.String(), c.want, c.out)
		}
	}
}

// TestSyncNamesRoundTrip: whatever members are called, the value reads back.
func TestSyncNamesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := newNameSet(rapid.SliceOfN(rapid.StringMatching(`[ -~]{1,8}`), 1, 4).Draw(t, "names")...)
		s := SyncNames{Any: rapid.Bool().Draw(t, "any"), Count: rapid.IntRange(1, len(names)).Draw(t, "count"), Names: names}
		if got := ParseSyncNames(s.String()); !got.equal(s) {
			t.Fatalf("%q reads back as %+v, want %+v", s.String(), got, s)
		}
	})
}

func FuzzParseSyncNames(f *testing.F) {
	f.Add(`ANY 1 ("a",b)`)
	f.Fuzz(func(t *testing.T, text string) {
		s := ParseSyncNames(text)
		if s.String() != "" && !ParseSyncNames(s.String()).equal(s) {
			t.Fatalf("%q: %+v does not read back", text, s)
		}
	})
}
