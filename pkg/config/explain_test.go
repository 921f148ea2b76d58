package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10-base.yml": "scope: shop\nname: n1\nttl: 60\netcd3: {host: 192.0.2.4, password: sec-ret-1, username: u}\npostgresql:\n  listen: 192.0.2.1:5433\n  data_dir: /data\n" +
			"  use_slots: false\n  use_pg_rewind: true\n  authentication:\n    replication: {username: r, password: sec-ret-2}\n  parameters:\n    work_mem: 8MB\n    max_connections: 500\n    port: 7\n",
		"20-more.yml": "postgresql:\n  parameters: {work_mem: 9MB}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, problems, err := Load(dir, []string{"PATRONI_NAME=other", "PATRONI_SUPERUSER_PASSWORD=sec-ret-3"})
	if err != nil || HasErrors(problems) {
		t.Fatal(err, problems)
	}
	d, err := ParseDynamic([]byte(`{"ttl":20,"maximum_lag_on_failover":5,"custom":{"a":1},"postgresql":{"use_pg_rewind":false,"data_dir":"/x",` +
		`"parameters":{"work_mem":"1MB","shared_buffers":"1GB","max_connections":200,"max_wal_senders":1,"wal_level":"logical"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Explained{}
	all := EffectiveOf(l, d).Explain(map[string]PendingValue{"max_connections": {Old: "100", New: "200"}, "bonjour": {Old: "off", New: "on"}})
	for _, s := range all {
		got[s.Key] = s
		if strings.Contains(fmt.Sprint(s), "sec-ret") {
			t.Errorf("a secret is shown: %v", s)
		}
	}
	for key, want := range map[string]string{
		"scope":                    "shop file 10-base.yml:1",
		"name":                     "other environment PATRONI_NAME",
		"namespace":                "service default",
		"custom.a":                 "1 dynamic /config",
		"maximum_lag_on_failover":  "5 dynamic /config",
		"ttl":                      "20 dynamic /config [10-base.yml:3 sets 60, ignored: only the cluster-wide value counts]",
		"loop_wait":                "1 forced [adjusted to the values that are set: loop_wait + 2*retry_timeout must not exceed ttl]",
		"retry_timeout":            "9 forced [adjusted to the values that are set: loop_wait + 2*retry_timeout must not exceed ttl]",
		"etcd3.password":           "[REDACTED] file 10-base.yml:4",
		"postgresql.data_dir":      "/data file 10-base.yml:7 [/config sets it, too, ignored: it counts only in the node's own file]",
		"postgresql.use_slots":     "true default [10-base.yml:8 sets false, ignored: only the cluster-wide value counts]",
		"postgresql.use_pg_rewind": "true file 10-base.yml:9 [/config sets postgresql.use_pg_rewind, too: this node's own value replaces it as a whole]",
		"postgresql.authentication.replication.password": "[REDACTED] file 10-base.yml:11",
		"postgresql.authentication.superuser.password":   "[REDACTED] environment PATRONI_SUPERUSER_PASSWORD",
		"postgresql.parameters.work_mem":                 "9MB file 20-more.yml:2 [/config sets 1MB, too: this node's own value wins]",
		"postgresql.parameters.shared_buffers":           "1GB dynamic /config",
		"postgresql.parameters.max_connections": "200 dynamic /config [10-base.yml:14 sets 500, ignored: all members must agree on it: set it with pghactl edit-config]" +
			" pending 100 -> 200",
		"postgresql.parameters.max_wal_senders": "10 forced /config [/config says 1, which is not accepted]",
		"postgresql.parameters.wal_level":       "logical dynamic /config",
		"postgresql.parameters.wal_log_hints":   "on default",
		"postgresql.parameters.port":            "5433 forced 10-base.yml:6 [taken from postgresql.listen; 10-base.yml:15 sets 7, ignored: its value comes from postgresql.listen]",
		"postgresql.parameters.cluster_name":    "shop forced 10-base.yml:1 [taken from scope]",
		"postgresql.parameters.bonjour":         "on forced the server pending off -> on",
		"pgha.leash":                            "auto default",
	} {
		s, ok := got[key]
		text := strings.TrimSpace(fmt.Sprintf("%v %s %s", s.Value, s.Source, s.Origin))
		if len(s.Notes) > 0 {
			text += " [" + strings.Join(s.Notes, "; ") + "]"
		}
		if p := s.PendingRestart; p != nil {
			text += " pending " + p.Old + " -> " + p.New
		}
		if text = strings.ReplaceAll(text, dir+"/", ""); !ok || text != want {
			t.Errorf("%s:\n got %s\nwant %s", key, text, want)
		}
	}
	if near := Nearest("work_mem", all); near != "postgresql.parameters.work_mem" {
		t.Errorf("nearest: %s", near)
	}
}

// What the table of defaults says is what an empty configuration gives.
func TestDefaultsAreThoseInForce(t *testing.T) {
	base := "scope: s\nname: n\netcd3: {host: h}\n"
	want := decoded(t, base)
	d, err := ParseDynamic(newMap().json())
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range defaultValues() {
		if key == "postgresql.pgpass" || key == "log.format" || key == "bootstrap.method" { // said elsewhere, or by its absence
			continue
		}
		section, _, nested := strings.Cut(key, ".")
		if nested && section != "etcd3" && section != "tags" && section != "watchdog" { // those are published, or say that the section is there
			text := fmt.Sprint(value)
			if list, ok := value.([]any); ok {
				text = fmt.Sprint(list)
			}
			if got := decoded(t, base+nest(key, text)); got != want {
				t.Errorf("%s: %v is not the default:\n%s\n%s", key, value, got, want)
			}
			continue
		}
		if (&checker{spec: dynamicSpec()}).specAt(key) == nil {
			continue
		}
		with, err := ParseDynamic([]byte(fmt.Sprintf(`{%q:%q}`, key, fmt.Sprint(value))))
		if err != nil {
			t.Fatal(err)
		}
		a, b := *with, *d
		a.Raw, b.Raw, a.root, b.root = nil, nil, nil, nil
		if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
			t.Errorf("%s: %v is not the default", key, value)
		}
	}
}
