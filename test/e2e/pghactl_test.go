//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// looks are the commands that only read.
var looks = []string{"list", "topology", "show-config", "dsn", "history", "version"}

// pghactl runs a command on the leader's host; it must succeed, one that only reads
// when etcd answers, and print the words.
func (r *row) pghactl(args []string, words ...string) string {
	r.Helper()
	var out string
	r.eventually("pghactl "+strings.Join(args, " "), func() bool {
		var err error
		out, err = r.Ctl(r.ctx, r.leader, args...)
		if !slices.Contains(looks, args[0]) {
			r.must(err)
		}
		return err == nil
	})
	for _, word := range words {
		if !strings.Contains(out, word) {
			r.Errorf("pghactl %s does not say %q:\n%s", strings.Join(args, " "), word, out)
		}
	}
	return out
}

// members is `pghactl list -f json` by name.
func (r *row) members() map[string]map[string]any {
	r.Helper()
	var list []map[string]any
	r.must(json.Unmarshal([]byte(r.pghactl([]string{"list", "-f", "json"})), &list))
	byName := map[string]map[string]any{}
	for _, m := range list {
		byName[fmt.Sprint(m["Member"])] = m
	}
	return byName
}

// sql runs SQL by `pghactl query` with the password of a file, when a server takes it.
func (r *row) sql(sql string, args ...string) (out string) {
	r.Helper()
	r.must(patiently(r.ctx, func(context.Context) error {
		if out = r.query(sql, args...); noServer.MatchString(out) {
			return errors.New(out)
		}
		return nil
	}))
	return out
}

// noServer is what `pghactl query` prints when no server has said anything; a refusal
// has a code.
var noServer = regexp.MustCompile(`No connection|ERROR, SQLSTATE: ([^\n]{0,4}\n|[^\n]{6})`)

func (r *row) query(sql string, args ...string) string {
	r.Helper()
	pass := filepath.Join(r.leader.Dir, "pghactl.pgpass")
	r.must(r.WriteOwnFile(pass, []byte("*:*:*:*:"+r.Password()+"\n"), 0o600))
	args = append([]string{"PGPASSFILE=" + pass, filepath.Join(r.Bin(), "pghactl"), "-c", r.leader.Config, "query", "-U", "postgres", "-d", "postgres", "-c", sql}, args...)
	out, err := r.AsServer(r.ctx, r.leader, "env", args...)
	if err != nil { // etcd did not answer
		return "No connection: " + err.Error()
	}
	return out
}

// What only shows: topology, dsn, query, history, version.
func TestPghactlShows(t *testing.T) {
	r := begin(t)
	out := r.pghactl([]string{"topology"}, "+ Cluster: ")
	leaderAt := strings.Index(out, "| "+r.leader.Name+" ")
	for _, n := range r.Nodes {
		if at := strings.Index(out, "| + "+n.Name+" "); n != r.leader && (leaderAt < 0 || at < leaderAt) {
			t.Errorf("%s does not hang below the leader:\n%s", n.Name, out)
		}
	}
	host, port, err := net.SplitHostPort(r.leader.Addr)
	r.must(err)
	if out := r.pghactl([]string{"dsn"}); out != fmt.Sprintf("host=%s port=%s\n", host, port) {
		t.Errorf("dsn: %q", out)
	}
	for args, want := range map[string]string{"-r leader": "False", "-r primary": "False", "-r replica": "True", "-m " + r.leader.Name: "False"} {
		if got := r.sql("select pg_is_in_recovery()", strings.Fields(args)...); got != "pg_is_in_recovery\n"+want+"\n" {
			t.Errorf("query %s: %q", args, got)
		}
	}
	got := r.sql("select 1 as i, null::text as n, '2026-01-01 10:00+00'::timestamptz as t, 1.0::float8 as f, true as b, 'x' as s union all select 2, 'y', null, null, false, ''",
		"--format", "json")
	want := `[{"i": 1, "n": null, "t": "2026-01-01 10:00:00+00:00", "f": 1, "b": true, "s": "x"}, {"i": 2, "n": "y", "t": null, "f": null, "b": false, "s": ""}]` + "\n"
	if got != want {
		t.Errorf("query as JSON: %q", got)
	}
	if got := r.sql("select nonsense"); !strings.Contains(got, "\tERROR, SQLSTATE: 42703\n") {
		t.Errorf("a refused query: %q", got)
	}
	var history []map[string]any
	r.must(json.Unmarshal([]byte(r.pghactl([]string{"history", "-f", "json"})), &history))
	r.eventually("the version of every member", func() bool {
		version := r.pghactl([]string{"version", r.Options().Scope})
		return !slices.ContainsFunc(r.Nodes, func(n *lab.Node) bool { return !strings.Contains(version, n.Name+": Patroni ") })
	})
	r.finish(none)
}

// Pause and resume, waited for.
func TestPghactlPause(t *testing.T) {
	r := begin(t)
	const sent = "request sent, waiting until it is recognized by all nodes\n"
	awaited := func(verb, opposite, done string) {
		t.Helper()
		r.eventually(verb+" --wait", func() bool {
			out := r.pghactl([]string{verb, "--wait"}, "'"+verb+"' "+sent)
			if strings.Contains(out, "didn't recognized") { // it waits for little more than loop_wait
				t.Logf("once more: %s", out)
				r.pghactl([]string{opposite})
				return false
			}
			return strings.Contains(out, "Success: cluster management is "+done+"\n")
		})
	}
	awaited("pause", "resume", "paused")
	r.pghactl([]string{"list"}, " Maintenance mode: on\n")
	if out, err := r.Ctl(r.ctx, r.leader, "pause"); err == nil || !strings.Contains(out, "Error: Cluster is already paused\n") {
		t.Errorf("paused twice: %v, %s", err, out)
	}
	awaited("resume", "pause", "resumed")
	if out := r.pghactl([]string{"list"}); strings.Contains(out, "Maintenance") {
		t.Errorf("still paused:\n%s", out)
	}
	r.sameLeader()
	r.finish(none)
}

// The keys of a cluster that has stopped are removed, and nothing else.
func TestPghactlRemove(t *testing.T) {
	r := begin(t)
	r.load.Stop()
	r.roles.Stop()
	for _, n := range r.Nodes {
		_, err := r.StopAgent(r.ctx, n)
		r.must(err)
	}
	defer func() { cluster.broken = true }() // the next row needs a new one
	remove := func(answers string) (string, error) {
		command := fmt.Sprintf("printf '%s' | %s -c %s remove %s", answers, filepath.Join(r.Bin(), "pghactl"), r.leader.Config, r.Options().Scope)
		return r.AsServer(r.ctx, r.leader, "sh", "-c", command)
	}
	if out, err := remove(r.Options().Scope + `\nyes\n`); err == nil || !strings.Contains(out, "You did not exactly type") {
		t.Errorf("removed without being sure: %v, %s", err, out)
	}
	r.pghactl([]string{"show-config"}, "ttl: ")
	_, err := remove(r.Options().Scope + `\nYes I am aware\n`)
	r.must(err)
	r.pghactl([]string{"list"}, "(uninitialized)")
	if out := r.pghactl([]string{"show-config"}); out != "" {
		t.Errorf("config is left: %s", out)
	}
}
