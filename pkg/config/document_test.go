package config

import (
	"strings"
	"testing"
)

func TestYAMLToJSON(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "null",
		"b: on\na: [1, 0x10, 010, 1.50, ~, x]": `{"b":true,"a":[1,16,8,1.5,null,"x"]}`,
		"a: &x {k: 'on'}\nb: *x":               `{"a":{"k":"on"},"b":{"k":"on"}}`,
		"32MB":                                 `"32MB"`,
		"a: 2026-01-01":                        `{"a":"2026-01-01"}`,
	} {
		got, err := YAMLToJSON([]byte(text), "x")
		if err != nil || string(got) != want {
			t.Errorf("%q: got %s, want %s (%v)", text, got, want, err)
		}
	}
	for text, want := range map[string]string{
		"a: 1\nb: {":      "here.yml:2: ",
		"a: 1\n---\nb: 2": "here.yml:2: a second document starts here; ",
		"a:\n\tb: 1":      "indent with spaces",
	} {
		got, err := YAMLToJSON([]byte(text), "here.yml")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
	}
}

func TestNewErrors(t *testing.T) {
	for _, tc := range []struct {
		name, old, next string
		want            int
	}{
		{"good", `{}`, `{"ttl":40}`, 0},
		{"bad", `{}`, `{"ttl":"x"}`, 1},
		{"bad before", `{"ttl":"x"}`, `{"ttl":"x","pause":true}`, 0},
		{"another bad", `{"ttl":"x"}`, `{"ttl":"x","loop_wait":[]}`, 1},
		{"new and bad", ``, `{"ttl":"x"}`, 1},
		{"no object", `{}`, `[]`, 1},
		{"a controlled parameter that is no number", `{}`, `{"postgresql":{"parameters":{"max_connections":"many"}}}`, 1},
		{"and one that is too low", `{}`, `{"postgresql":{"parameters":{"max_wal_senders":1}}}`, 1},
		{"no such wal_level", `{}`, `{"postgresql":{"parameters":{"wal_level":"minimal"}}}`, 1},
		{"back to the default", `{"postgresql":{"parameters":{"max_connections":"many"}}}`, `{"postgresql":{"parameters":{}}}`, 0},
		{"negative", `{}`, `{"primary_start_timeout":-3}`, 1},
		{"negative, and meant", `{}`, `{"maximum_lag_on_syncnode":-1}`, 0},
		{"below the minimum: it is raised", `{}`, `{"retry_timeout":0}`, 0},
	} {
		if got := NewErrors([]byte(tc.old), []byte(tc.next)); len(got) != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestChangedParameters(t *testing.T) {
	const old = `{"postgresql":{"parameters":{"work_mem":"4MB","Jit":"off","shared_buffers":"1GB"}}}`
	for next, want := range map[string]string{
		old:  "",
		`{}`: "",
		`5`:  "",
		`{"postgresql":{"parameters":{"work_mem":"8MB","jit":false,"shared_buffers":null}}}`:                                                          "parameters.work_mem=8MB",
		`{"postgresql":{"parameters":{"Max_Connections":5,"port":1,"recovery_target_lsn":"x","l":[1]}}}`:                                              "parameters.Max_Connections=5",
		`{"postgresql":{"parameters":{"fsync":"a","FSYNC":true},"parameters_replica":{"work_mem":"8MB","max_connections":7},"parameters_primary":5}}`: "parameters.FSYNC=on | parameters_replica.work_mem=8MB",
	} {
		var sections []string
		for _, list := range ChangedParameters([]byte(old), []byte(next)) {
			var words []string
			for _, p := range list {
				if p.Name != strings.ToLower(lastPart(p.Path)) {
					t.Errorf("%+v", p)
				}
				words = append(words, strings.TrimPrefix(p.Path, "postgresql.")+"="+p.Value)
			}
			sections = append(sections, strings.Join(words, " "))
		}
		if got := strings.Join(sections, " | "); got != want {
			t.Errorf("%s: %q, want %q", next, got, want)
		}
	}
	if all := ChangedParameters(nil, []byte(old)); len(all) != 1 || len(all[0]) != 3 {
		t.Errorf("%+v", all)
	}
}
