package ctl

import (
	"context"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
)

const aligned = "2026-11-22 09:03:57 "

func TestChangeClusterRole(t *testing.T) {
	const (
		sureDemote  = "Are you sure you want to demote pg-ha-cluster cluster? [y/N]: "
		surePromote = "Are you sure you want to promote pg-ha-cluster cluster? [y/N]: "
	)
	standby := func(c *dcs.Cluster) { c.Member("pg-db-02").Role = "standby_leader" }
	refused := []answer{{422, "/config: standby_cluster.port: 70000 is outside the range 1 to 65535"}}
	patroni := answer{503, `{"patroni":{"version":"4.1.4"}}`}
	const (
		unknown = "What the remote has that is not here cannot be told: ask where its WAL ends\n"
		remote  = `GET /remote `
		removes = `PATCH /config {"standby_cluster":null}`
	)
	says := func(doc string) []answer { return []answer{{200, doc}, {401, "no"}} }
	failed := "Error: Failed to promote pg-ha-cluster cluster: /config PATCH status code=401, (no)\n"
	runOrders(t, "demote-cluster", []orderRow{
		{name: "no source", args: "--force", code: 1, err: "Error: At least --host, --port or --restore-command should be specified\n"},
		{name: "no leader", args: "--host h", change: func(c *dcs.Cluster) { c.Leader = nil }, code: 1, err: "Error: Cluster has no leader, demotion is not possible\n"},
		{name: "is one", args: "--host h", change: standby, code: 1, err: "Error: Cluster is already in the required state\n"},
		{name: "declined", args: "--port 5433", typed: "n\n", code: 1, out: sureDemote, err: "Error: Aborted cluster demotion\n"},
		{name: "refused", args: "--host h --port 5433 --restore-command x --primary-slot-name s --force", answers: refused, code: 1,
			err:      "Error: Failed to demote pg-ha-cluster cluster: /config PATCH status code=422, (/config: standby_cluster.port: 70000 is outside the range 1 to 65535)\n",
			requests: []string{`PATCH /config {"standby_cluster":{"host":"h","port":5433,"primary_slot_name":"s","restore_command":"x"}}`}},
	})
	runOrders(t, "promote-cluster", []orderRow{
		{name: "one whose demotion the leader refuses", args: "--force", change: func(c *dcs.Cluster) {
			c.Config = &dcs.Config{Raw: []byte(`{"standby_cluster":{"host":"typo"}}`)}
		}, answers: []answer{{200, "{}"}, {401, "no"}}, code: 1, out: unknown, err: failed, requests: []string{remote, removes}},
		{name: "is none", code: 1, err: "Error: Cluster is already in the required state\n"},
		{name: "declined", typed: "\n", change: standby, answers: []answer{patroni}, code: 1, out: unknown + surePromote, err: "Error: Aborted cluster promotion\n",
			requests: []string{remote}},
		{name: "refused", args: "--force", change: standby, answers: []answer{patroni, {401, "not authenticated"}}, code: 1, out: unknown,
			err:      "Error: Failed to promote pg-ha-cluster cluster: /config PATCH status code=401, (not authenticated)\n",
			requests: []string{remote, removes}},
		{name: "the remote writes", args: "--force", change: standby, answers: says(`{"remote":"h:5432","in_recovery":false,"timeline":3,"lsn":"0/5000"}`), code: 1, err: failed,
			out:      "The remote (h:5432) still accepts writes, at 0/5000 on timeline 3. What it acknowledges from here on is lost by this promotion; demote it first (pghactl demote-cluster)\n",
			requests: []string{remote, removes}},
		{name: "the remote was handed over", args: "--force", change: standby, answers: says(`{"remote":"h:5432","in_recovery":true,"timeline":3,"lsn":"0/5000","received":"0/5000"}`), code: 1, err: failed,
			out:      "The remote (h:5432) accepts no writes any more. All of its WAL is here: it ends at 0/5000, received up to 0/5000\n",
			requests: []string{remote, removes}},
		{name: "the remote is gone", args: "--force", change: standby, answers: says(`{"remote":"h:5432","error":"connection refused"}`), code: 1, err: failed,
			out:      "The remote (h:5432) cannot be asked: connection refused. What it acknowledged and did not send is lost by this promotion\n",
			requests: []string{remote, removes}},
		{name: "not there", args: "--force", change: func(c *dcs.Cluster) { standby(c); c.Member("pg-db-02").APIURL = "" }, code: 1, out: unknown,
			err: "Error: Failed to promote pg-ha-cluster cluster: member pg-db-02 publishes no REST API\n"},
	})
}

// TestFollowRole: a line for each look until leader and old leader are what
// they should be, then the table.
func TestFollowRole(t *testing.T) {
	member := newFakeMember(t, answer{200, "{}"})
	states := func() []*dcs.Cluster {
		var all []*dcs.Cluster
		for range 5 {
			c := asking(t, map[string]*fakeMember{"pg-db-02": member})
			c.Config = standbyOfH()
			all = append(all, c)
		}
		all[1].Leader = nil
		all[2].Leader.Name, all[2].Member("pg-db-01").Role, all[2].Member("pg-db-02").State = "pg-db-01", "standby_leader", "stopped"
		all[3].Leader.Name, all[3].Member("pg-db-01").Role = "pg-db-01", "standby_leader"
		return all
	}()
	fake := &fakeCluster{cluster: states[0]}
	fake.onRead = func(n int) { fake.cluster = states[n-1] }
	app := following(t, fake)
	if code := app.run("demote-cluster", "--host", "h", "--force"); code != 0 {
		t.Fatalf("exit %d: %s", code, app.err.String())
	}
	want := aligned + "cluster is unlocked: True, leader role: None, leader state: None\n" +
		aligned + "cluster is unlocked: False, leader role: standby_leader, leader state: running, previous leader state: 'stopped'\n" +
		aligned + "cluster is successfully demoted\n+ Cluster"
	const end = "No member accepts writes any more. The WAL ends at 0/4000060 on timeline 1: the other side must have it before it is promoted\n"
	if !strings.Contains(app.out.String(), want) || !strings.HasSuffix(app.out.String(), end) {
		t.Errorf("got\n%s", app.out.String())
	}

	// A leader that does not follow the server named says why.
	unwilling := newFakeMember(t, answer{200, "{}"}, answer{200, `{"member":"pg-db-02","reason":"standby_refused","doing":"not becoming a standby of h: connection refused"}`})
	primary, done := asking(t, map[string]*fakeMember{"pg-db-02": unwilling}), states[3]
	primary.Config = standbyOfH()
	fake = &fakeCluster{cluster: primary}
	fake.onRead = func(n int) {
		if n == 3 {
			fake.cluster = done
		}
	}
	app = following(t, fake)
	held := aligned + "cluster is unlocked: False, leader role: primary, leader state: running; pg-db-02 is not becoming a standby of h: connection refused (promote-cluster takes the change back)\n"
	if app.run("demote-cluster", "--host", "h", "--force"); !strings.Contains(app.out.String(), held) {
		t.Errorf("got\n%s", app.out.String())
	}

	// Somebody takes it back: there is nothing to wait for any more.
	for command, after := range map[string]*dcs.Config{"demote-cluster --host h": {Raw: []byte(`{"ttl":30}`)}, "promote-cluster": standbyOfH()} {
		answers := newFakeMember(t, answer{200, "{}"})
		before, changed := asking(t, map[string]*fakeMember{"pg-db-02": answers}), asking(t, map[string]*fakeMember{"pg-db-02": answers})
		changed.Config = after
		if command == "promote-cluster" {
			before.Member("pg-db-02").Role, changed.Member("pg-db-02").Role = "standby_leader", "standby_leader"
		}
		fake = &fakeCluster{cluster: before}
		fake.onRead = func(n int) {
			if n > 1 {
				fake.cluster = changed
			}
		}
		app = following(t, fake)
		if code := app.run(append(strings.Fields(command), "--force")...); code != 1 || app.err.String() != "Error: The change was taken back: somebody has changed standby_cluster in /config meanwhile\n" {
			t.Errorf("%s: exit %d, stderr %q", command, code, app.err.String())
		}
	}

	// Ctrl-C leaves it to itself.
	ctx, cancel := context.WithCancel(t.Context())
	fake = &fakeCluster{cluster: states[0]}
	fake.onRead = func(n int) {
		if n == 2 {
			cancel()
		}
	}
	app = following(t, fake)
	app.ctx = ctx
	if code := app.run("demote-cluster", "--host", "h", "--force"); code != 1 || !strings.HasPrefix(app.err.String(), "The change goes on: ") {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

// standbyOfH is /config after demote-cluster --host h.
func standbyOfH() *dcs.Config { return &dcs.Config{Raw: []byte(`{"standby_cluster":{"host":"h"}}`)} }
