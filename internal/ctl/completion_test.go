package ctl

import (
	"errors"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
)

// TestCompletionScripts: each shell gets one.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		app := newTestApp(t, nil)
		if code := app.run("completion", shell); code != 0 || !strings.Contains(app.out.String(), "pghactl") || !strings.Contains(app.out.String(), "__complete") {
			t.Errorf("%s: exit %d, %.80q", shell, code, app.out.String())
		}
	}
}

// TestCompletionShells: one that is not known is an error like any other word.
func TestCompletionShells(t *testing.T) {
	app := newTestApp(t, nil)
	if code := app.run("completion", "tcsh"); code != exitUsage || app.err.String() != "Error: no such command \"tcsh\"; did you mean bash or zsh or fish? (\"pghactl completion --help\" lists them)\n" {
		t.Errorf("exit %d, %q", code, app.err.String())
	}
}

// TestCompletions: what is offered where, as the scripts ask for it.
func TestCompletions(t *testing.T) {
	fake := &fakeCluster{cluster: clusterAt(t, healthy, 1), all: map[string]*dcs.Cluster{"pg-ha-cluster": {}, "other": {}}}
	for args, want := range map[string]string{
		"list ":                              "other pg-ha-cluster",
		"list other ":                        "pg-ha-cluster",
		"pause ":                             "other pg-ha-cluster",
		"pause other ":                       "",
		"restart pg-ha-cluster ":             "pg-db-01 pg-db-02 pg-db-03",
		"restart pg-ha-cluster pg-db-02 ":    "pg-db-01 pg-db-03",
		"flush pg-ha-cluster ":               "pg-db-01 pg-db-02 pg-db-03 restart switchover",
		"switchover --candidate ":            "pg-db-01 pg-db-03",
		"switchover pg-ha-cluster --leader ": "pg-db-01 pg-db-02 pg-db-03",
		"why ":                               "pg-db-01 pg-db-02 pg-db-03 other pg-ha-cluster",
		"why pg-ha-cluster ":                 "pg-db-01 pg-db-02 pg-db-03",
		"dsn --role ":                        "leader primary standby-leader replica standby any",
		"dsn --member ":                      "pg-db-01 pg-db-02 pg-db-03",
		"history --format ":                  "pretty tsv json yaml",
		"why --format ":                      "pretty json",
		"doctor --format ":                   "pretty json",
		"backup ":                            "cancel check list run",
		"backup list ":                       "other pg-ha-cluster",
		"backup list other ":                 "",
		"config ":                            "explain",
		"config explain ttl ":                "",
		"config explain ttl --member ":       "pg-db-01 pg-db-02 pg-db-03",
		"config explain --format ":           "pretty json",
	} {
		app := newTestApp(t, fake)
		code := app.run(append([]string{"__complete"}, strings.Split(args, " ")...)...)
		var got []string
		for _, line := range strings.Split(app.out.String(), "\n") {
			if word, _, _ := strings.Cut(line, "\t"); word != "" && !strings.HasPrefix(word, ":") {
				got = append(got, word)
			}
		}
		if code != 0 || strings.Join(got, " ") != want || !strings.Contains(app.out.String(), ":4\n") {
			t.Errorf("%s: exit %d, got %q", args, code, app.out.String())
		}
	}
	for _, args := range []string{"list ", "restart pg-ha-cluster ", "switchover --candidate "} {
		app := newTestApp(t, &fakeCluster{err: errors.New("no etcd")})
		if code := app.run(append([]string{"__complete"}, strings.Split(args, " ")...)...); code != 0 || app.out.String() != ":4\n" {
			t.Errorf("%s without etcd: exit %d, %q", args, code, app.out.String())
		}
	}
}

// TestCompletionOfSettings: the keys of config explain, with etcd and without.
func TestCompletionOfSettings(t *testing.T) {
	dynamic := clusterAt(t, healthy, 1)
	dynamic.Config = &dcs.Config{Raw: []byte(`{"postgresql":{"parameters":{"work_mem":"9MB"}}}`)}
	for name, c := range map[string]struct {
		fake *fakeCluster
		want bool // the key that only /config has
	}{
		"with etcd":    {&fakeCluster{cluster: dynamic}, true},
		"without etcd": {&fakeCluster{err: errors.New("no etcd")}, false},
	} {
		app := newTestApp(t, c.fake)
		code := app.run("__complete", "config", "explain", "")
		out := app.out.String()
		for key, want := range map[string]bool{"ttl": true, "etcd3.host": true, "postgresql.parameters.max_connections": true, "postgresql.parameters.work_mem": c.want} {
			if code != 0 || strings.Contains("\n"+out, "\n"+key+"\n") != want || !strings.HasSuffix(out, ":4\n") {
				t.Errorf("%s: exit %d, %s offered: %v\n%s", name, code, key, !want, out)
			}
		}
		if strings.Contains(app.err.String(), "no etcd") {
			t.Errorf("%s: said %q", name, app.err.String())
		}
	}
}
