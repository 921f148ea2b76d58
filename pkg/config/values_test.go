package config

import (
	"encoding/json"
	"testing"
)

func TestParseBool(t *testing.T) {
	for _, c := range []struct {
		in      any
		val, ok bool
	}{
		{"on", true, true}, {"TRUE", true, true}, {"yes", true, true}, {"1", true, true}, {1, true, true}, {true, true, true},
		{"off", false, true}, {"False", false, true}, {"NO", false, true}, {0, false, true}, {false, false, true},
		{"maybe", false, false}, {"", false, false}, {nil, false, false}, {2, false, false}, {1.5, false, false}, {[]any{true}, false, false},
	} {
		if v, ok := ParseBool(c.in); v != c.val || ok != c.ok {
			t.Errorf("ParseBool(%#v) = %v, %v; want %v, %v", c.in, v, ok, c.val, c.ok)
		}
	}
}

func TestParseInt(t *testing.T) {
	for _, c := range []struct {
		in   any
		unit string
		want int64
		ok   bool
	}{
		{"10", "", 10, true}, {10, "", 10, true}, {" 10 ", "", 10, true}, {"-3", "", -3, true}, {"+3", "", 3, true},
		{"0x1f", "", 31, true}, {"-0x10", "", -16, true}, {"010", "", 8, true}, {"0", "", 0, true}, {"09", "", 0, false},
		{"0.5", "", 0, true}, {"1.5", "", 2, true}, {"2.5", "", 2, true}, {".6", "", 1, true}, {"1e3", "", 1000, true},
		{2.0, "", 2, true}, {json.Number("7"), "", 7, true}, {true, "", 0, false}, {nil, "", 0, false}, {"", "", 0, false},
		{"1MB", "", 0, false}, {"1MB", "B", 1 << 20, true}, {"1GB", "MB", 1024, true}, {"1kb", "B", 0, false},
		{"1TB", "GB", 0, false}, {"16MB", "8kB", 2048, true},
		{"500ms", "s", 0, true}, {"1500ms", "s", 2, true}, {"30min", "s", 1800, true}, {"1h", "s", 3600, true},
		{"1d", "min", 1440, true}, {"900s", "s", 900, true}, {"1 min", "s", 60, true}, {"90S", "s", 0, false}, {"1us", "s", 0, true},
		{"9007199254740993", "", 9007199254740993, true}, {"1e300", "", 0, false}, {"12abc", "s", 0, false},
	} {
		if v, ok := ParseInt(c.in, c.unit); v != c.want || ok != c.ok {
			t.Errorf("ParseInt(%#v, %q) = %v, %v; want %v, %v", c.in, c.unit, v, ok, c.want, c.ok)
		}
	}
}

func TestDeepEqual(t *testing.T) {
	for _, c := range []struct {
		a, b any
		want bool
	}{
		{2, "2", true}, {true, "true", false}, {true, "True", true}, {nil, "None", true}, {1.0, 1, true}, {1.5, "1.5", true}, {1e16, "1e+16", true},
		{[]any{"a", 1}, "['a', 1]", true}, {[]any{"it's"}, `["it's"]`, true},
		{map[string]any{"a": 1}, map[string]any{"a": "1"}, true},
		{map[string]any{"a": 1}, map[string]any{"a": 1, "b": nil}, false},
		{map[string]any{"a": map[string]any{"b": 1}}, map[string]any{"a": 1}, false},
	} {
		if got := deepEqual(fromPlain(c.a), fromPlain(c.b)); got != c.want {
			t.Errorf("deepEqual(%#v, %#v) = %v", c.a, c.b, got)
		}
	}
}

var patchCases = []struct {
	doc, patch, want string
	changed          bool
}{
	{`{"ttl":30}`, `{"ttl":"30"}`, `{"ttl":30}`, false},
	{`{"ttl":30,"b":1}`, `{"ttl":20}`, `{"ttl":20,"b":1}`, true},
	{`{"a":1,"pause":true,"z":2}`, `{"pause":null}`, `{"a":1,"z":2}`, true},
	{`{"a":1}`, `{"pause":null}`, `{"a":1}`, false},
	{`{"a":null}`, `{"a":null}`, `{}`, false},
	{`{"p":{"x":1,"y":2}}`, `{"p":{"x":null,"z":3}}`, `{"p":{"y":2,"z":3}}`, true},
	{`{"p":5}`, `{"p":{"x":null}}`, `{"p":{"x":null}}`, true},
	{`{}`, `{"p":{"x":null}}`, `{"p":{"x":null}}`, true},
	{`{"l":[1,2]}`, `{"l":["1",2]}`, `{"l":["1",2]}`, true},
	{`{"l":[1,2]}`, `{"l":[1,2]}`, `{"l":[1,2]}`, false},
	{`{"b":true}`, `{"b":"True"}`, `{"b":true}`, false},
	{`{"b":true}`, `{"b":"true"}`, `{"b":"true"}`, true},
	{`{"z":1, "a" : "é<"}`, `{}`, `{"z":1,"a":"\u00e9<"}`, false},
	{``, `{"a":1.50}`, `{"a":1.5}`, true},
}

func TestPatchDynamic(t *testing.T) {
	for _, c := range patchCases {
		out, changed, err := PatchDynamic([]byte(c.doc), []byte(c.patch))
		if err != nil || string(out) != c.want || changed != c.changed {
			t.Errorf("PatchDynamic(%s, %s) = %s, %v, %v; want %s, %v", c.doc, c.patch, out, changed, err, c.want, c.changed)
		}
	}
	for _, bad := range [][2]string{{`[]`, `{}`}, {`{}`, `5`}, {`{}`, `{`}, {`{}`, `{} {}`}} {
		if _, _, err := PatchDynamic([]byte(bad[0]), []byte(bad[1])); err == nil {
			t.Errorf("PatchDynamic(%s, %s) gave no error", bad[0], bad[1])
		}
	}
}

func TestSplitHostPort(t *testing.T) {
	for _, c := range []struct {
		in   string
		host string
		port int
		ok   bool
	}{
		{"h:1", "h", 1, true}, {"h", "h", 5432, true}, {"[::1]:99", "::1", 99, true}, {"a,b:7", "a,b", 7, true},
		{"[::1],[::2]:7", "::1,::2", 7, true}, {"*:5432", "*", 5432, true}, {":8008", "", 8008, true}, {"h:", "", 0, false}, {"h:x", "", 0, false}, {"", "", 5432, true},
	} {
		host, port, err := SplitHostPort(c.in, 5432)
		if host != c.host || port != c.port || (err == nil) != c.ok {
			t.Errorf("SplitHostPort(%q) = %q, %d, %v", c.in, host, port, err)
		}
	}
	if got := JoinHostPort("::1", 5432); got != "[::1]:5432" {
		t.Error(got)
	}
	if got := JoinHostPort("h", 0); got != "h" {
		t.Error(got)
	}
}

func TestYAMLTypesArePyYAMLs(t *testing.T) {
	for in, want := range map[string]string{
		"on": "true", "Off": "false", "yes": "true", "n": `"n"`, `"on"`: `"on"`, "'0640'": `"0640"`, "0640": "416", "0x10": "16",
		"1_000": "1000", "1:30": "90", "~": "null", "null": "null", "1e3": `"1e3"`, "1.0e+3": "1000.0", "900s": `"900s"`, ".5": "0.5",
		"2001-01-01": `"2001-01-01"`, "!!str 5": `"5"`, "-0": "0", "0b11": "3", "08": `"08"`, "[a, {b: on}]": `["a",{"b":true}]`, "=": `"="`,
		"{<<: {a: 1, b: 2}, a: 3}": `{"a":3,"b":2}`,
	} {
		n, problems, err := parseYAML([]byte("k: "+in), "")
		if err != nil || HasErrors(problems) {
			t.Errorf("%s: %v %v", in, problems, err)
			continue
		}
		got := n.json()
		if err != nil || string(got) != `{"k":`+want+`}` {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
	}
}

func FuzzParseInt(f *testing.F) {
	f.Add("10MB", "kB")
	f.Add("0x1f", "")
	f.Add("1e309", "s")
	f.Fuzz(func(t *testing.T, s, unit string) {
		ParseInt(s, unit)
		ParseBool(s)
		if v, ok := ParseInt(s, ""); ok {
			if again, ok := ParseInt(v, ""); !ok || again != v {
				t.Errorf("ParseInt(%q) = %d, but that reads as %d, %v", s, v, again, ok)
			}
		}
	})
}

func FuzzSplitHostPort(f *testing.F) {
	f.Add("[::1]:5432")
	f.Fuzz(func(_ *testing.T, s string) { _, _, _ = SplitHostPort(s, 1) })
}

func TestShowInt(t *testing.T) {
	for _, c := range []struct{ value, unit, want string }{
		{"2176", "8kB", "17MB"}, {"16384", "8kB", "128MB"}, {"1", "8kB", "8kB"}, {"1048576", "kB", "1GB"}, {"1536", "MB", "1536MB"}, {"16777216", "B", "16MB"},
		{"300", "s", "5min"}, {"90", "s", "90s"}, {"86400000", "ms", "1d"}, {"60", "min", "1h"},
		{"0", "8kB", "0"}, {"-1", "kB", "-1"}, {"100", "", "100"}, {"on", "", "on"}, {"?", "kB", "?"}, {"5", "parsec", "5"},
	} {
		if got := ShowInt(c.value, c.unit); got != c.want {
			t.Errorf("%s in %s: %s, want %s", c.value, c.unit, got, c.want)
		}
	}
}
