package restapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestAppendPyRaw(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1,"a":[1,2,{}],"c":null}`:     `{"b": 1, "a": [1, 2, {}], "c": null}`,
		`{"a":1,"b":2,"a":3}`:               `{"a": 3, "b": 2}`,
		`"ä€😀\u007f\u0001\n\r\t\b\f\"\\/<"`: `"\u00e4\u20ac\ud83d\ude00` + "\x7f" + `\u0001\n\r\t\b\f\"\\/<"`,
		`[1.0, 1.50, 1e5, 1e16, 1e15, 1.5e-5, 0.0001, -0.0, 123456789012345678901234567890]`: `[1.0, 1.5, 100000.0, 1e+16, 1000000000000000.0, 1.5e-05, 0.0001, -0.0, 123456789012345678901234567890]`,
		`[]`:                     `[]`,
		`{} {}`:                  `null`,
		`{"a":`:                  `null`,
		strings.Repeat("[", 100): `null`,
	} {
		if got := string(appendPyRaw(nil, []byte(in))); got != want {
			t.Errorf("%s:\n got %s\nwant %s", in, got, want)
		}
	}
}

func FuzzPyJSON(f *testing.F) {
	f.Add([]byte(`{"a": [1, 2.5, "x\u00e4", null, true], "b": {"c": -1e-7}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := decodeOrdered(raw)
		if err != nil {
			return
		}
		out := appendPy(nil, v)
		for _, b := range out {
			if b >= 0x80 {
				t.Fatalf("not ASCII: %q", out)
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
	})
}
