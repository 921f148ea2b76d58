package pyjson

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

// TestAppendRaw: what Python's json.dumps(json.loads(in)) prints.
func TestAppendRaw(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1,"a":[1,2,{}],"c":null}`:     `{"b": 1, "a": [1, 2, {}], "c": null}`,
		`{"a":1,"b":2,"a":3}`:               `{"a": 3, "b": 2}`,
		`"ä€😀\u007f\u0001\n\r\t\b\f\"\\/<"`: `"\u00e4\u20ac\ud83d\ude00\u007f\u0001\n\r\t\b\f\"\\/<"`,
		`[1.0, 1.50, 1e5, 1e16, 1e15, 1.5e-5, 0.0001, -0.0, -0, 123456789012345678901234567890]`: `[1.0, 1.5, 100000.0, 1e+16, 1000000000000000.0, 1.5e-05, 0.0001, -0.0, 0, 123456789012345678901234567890]`,
		`[1e400, -1e400, 1e-400]`: `[Infinity, -Infinity, 0.0]`,
		`[]`:                      `[]`,
		` {"a": true} `:           `{"a": true}`,
		``:                        `null`,
		`{} {}`:                   `null`,
		`{"a":`:                   `null`,
		`{"a" 1}`:                 `null`,
		`]`:                       `null`,
		strings.Repeat("[", 100):  `null`,
		strings.Repeat("[", 66) + strings.Repeat("]", 66): `null`,
	} {
		if got := string(AppendRaw(nil, []byte(in), Spaced)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestAppend(t *testing.T) {
	text := "x"
	for _, test := range []struct {
		in              any
		spaced, compact string
	}{
		{nil, `null`, `null`},
		{&text, `"x"`, `"x"`},
		{(*string)(nil), `null`, `null`},
		{[]any{1, int64(-2), uint64(math.MaxUint64), true}, `[1, -2, 18446744073709551615, true]`, `[1,-2,18446744073709551615,true]`},
		{map[string]any{"b": "", "a": Object{{"z", 1}, {"y", nil}}}, `{"a": {"z": 1, "y": null}, "b": ""}`, `{"a":{"z":1,"y":null},"b":""}`},
		{[]any{json.Number("1.50"), json.Number("-0"), json.Number("1e999")}, `[1.5, 0, Infinity]`, `[1.50,-0,1e999]`},
		{[]any{json.Number(""), json.Number("x"), json.Number("{}"), json.Number("1 ")}, `["", "x", "{}", "1 "]`, `["","x","{}","1 "]`},
		{[]any{math.Inf(1), math.Inf(-1), math.NaN()}, `[Infinity, -Infinity, NaN]`, `[null,null,null]`},
		{json.RawMessage(`{"b": "é", "a": [1.50]}`), `{"b": "\u00e9", "a": [1.5]}`, `{"b":"\u00e9","a":[1.50]}`},
		{json.RawMessage(`{`), `null`, `null`},
		{int8(3), `"3"`, `"3"`},
		{"<&>é\U0001F600\x7f\"\\\n\x01", `"<&>\u00e9\ud83d\ude00\u007f\"\\\n\u0001"`, `"<&>\u00e9\ud83d\ude00\u007f\"\\\n\u0001"`},
		{"\xff", `"\ufffd"`, `"\ufffd"`},
	} {
		if got := string(Append(nil, test.in, Spaced)); got != test.spaced {
			t.Errorf("%v: %s, want %s", test.in, got, test.spaced)
		}
		if got := string(Append(nil, test.in, Compact)); got != test.compact {
			t.Errorf("%v, compact: %s, want %s", test.in, got, test.compact)
		}
	}
}

// TestAppendFloat: what Python's repr prints.
func TestAppendFloat(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0.0", 1: "1.0", -2.5: "-2.5", 1e22: "1e+22", 1e16: "1e+16", 9999999999999998: "9999999999999998.0", 1e15: "1000000000000000.0",
		0.1: "0.1", 1e-4: "0.0001", 0.00012345: "0.00012345", 1e-5: "1e-05", 1.5e300: "1.5e+300", 5e-324: "5e-324", 123456.75: "123456.75",
	} {
		if got := string(AppendFloat(nil, f)); got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
}

// TestText: what Python's str() prints.
func TestText(t *testing.T) {
	for want, in := range map[string]any{
		"None": nil, "True": true, "a'b": "a'b", "7": json.Number("7"), "0": json.Number("-0"), "1.5": 1.5, "10.0": json.Number("1e1"), "inf": json.Number("1e999"),
		`[None, False, "a'b", 'a"\'b', {'x': nan}]`: []any{nil, false, "a'b", `a"'b`, Object{{"x", math.NaN()}}},
		`{'a': -inf, 'b': 2}`:                       map[string]any{"b": 2, "a": math.Inf(-1)},
		`['ä😀\n\\\x01\x7f\xa0\u200b\U000e0001']`:    []any{"ä😀\n\\\x01\x7f\u00a0\u200b\U000e0001"},
	} {
		if got := Text(in); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a": [1, 2.5, "x\u00e4", null, true], "b": {"c": -1e-7}}`))
	f.Add([]byte(`[1e999, -0, {"a": 1, "a": "\ud800"}]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := Decode(raw)
		if err != nil {
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("%q was taken", raw)
		}
		for _, style := range []Style{Spaced, Compact} {
			check(t, raw, Append(nil, v, style))
		}
		text := Append(nil, v, Compact)
		if again := AppendRaw(nil, text, Compact); string(again) != string(text) {
			t.Fatalf("%q: written as %s, then as %s", raw, text, again)
		}
	})
}

// check compares the meaning of a document before and after.
func check(t *testing.T, raw, out []byte) {
	t.Helper()
	for _, b := range out {
		if b < ' ' || b > '~' {
			t.Fatalf("not printable ASCII: %q", out)
		}
	}
	var a, b any
	if json.Unmarshal(raw, &a) != nil {
		return // numbers out of float64's range
	}
	if err := json.Unmarshal(out, &b); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Fatalf("%q became %q", raw, out)
	}
}
