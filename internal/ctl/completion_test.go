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
	} {
		app := newTestApp(t, fake)
		code := app.run(append([]string{"__complete"}, strings.Split(args, " ")...)...)
		var got []string
		for _, line := range strings.Split(app.out.String(), "\n") {
			if line != "" && !strings.HasPrefix(line, ":") {
				got = append(got, line)
			}
		}
		if code != 0 || strings.Join(got, " ") != want || !strings.Contains(app.out.String(), ":4\n") {
			t.Errorf("%s: exit %d, got %q", args, code, app.out.String())
		}
	}
	app := newTestApp(t, &fakeCluster{err: errors.New("no etcd")})
	if code := app.run("__complete", "list", ""); code != 0 || app.out.String() != ":4\n" {
		t.Errorf("without etcd: exit %d, %q", code, app.out.String())
	}
}
