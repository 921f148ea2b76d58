package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// orderRow is one command with its prompts and the members' answers.
type orderRow struct {
	name     string
	args     string // after the command and the cluster
	typed    string
	change   func(c *dcs.Cluster)
	answers  []answer // of the one API behind pg-db-01 and pg-db-02
	code     int
	out      string // after the table
	err      string
	requests []string
	writes   string // key=value
}

// runOrders runs command for the healthy cluster, whose leader is pg-db-02.
func runOrders(t *testing.T, command string, rows []orderRow) {
	t.Helper()
	for _, tc := range rows {
		t.Run(tc.name, func(t *testing.T) {
			member := newFakeMember(t, append(tc.answers, answer{500, "asked too often"})...)
			c := asking(t, map[string]*fakeMember{"pg-db-01": member, "pg-db-02": member})
			if tc.change != nil {
				tc.change(c)
			}
			fake := &fakeCluster{cluster: c}
			app := following(t, fake)
			app.answer(tc.typed)
			args := append([]string{command, "pg-ha-cluster"}, strings.Fields(tc.args)...)
			if code := app.run(args...); code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			if got := afterTable(app.out.String()); got != tc.out {
				t.Errorf("output after the table\n got %q\nwant %q", got, tc.out)
			}
			if got := app.err.String(); got != tc.err {
				t.Errorf("stderr\n got %q\nwant %q", got, tc.err)
			}
			if !slices.Equal(member.requests, tc.requests) {
				t.Errorf("requests\n got %q\nwant %q", member.requests, tc.requests)
			}
			writes := ""
			for _, w := range fake.writes {
				writes += fmt.Sprintf("%s=%s", w.Key, w.Value)
			}
			if writes != tc.writes {
				t.Errorf("wrote %q, want %q", writes, tc.writes)
			}
		})
	}
}

func paused(c *dcs.Cluster) {
	c.Config = &dcs.Config{Raw: []byte(`{"loop_wait":3,"pause":true}`), ModRevision: 7}
}

const (
	whenRestart = "When should the restart take place (e.g. 2026-11-22T10:03)  [now]: "
	sureRestart = "Are you sure you want to restart members pg-db-01? [y/N]: "
	versionAsk  = "Restart if the PostgreSQL version is less than provided (e.g. 9.5.2)  []: "
	restarted   = "Success: restart on member pg-db-01\n"
	scheduled   = "Success: restart scheduled on member pg-db-01\n"
	inTheWay    = "Failed: another restart is already scheduled on member pg-db-01\n"
)

func TestRestart(t *testing.T) {
	ok := []answer{{200, "restarted successfully"}}
	const plain = `POST /restart {}`
	pending := func(c *dcs.Cluster) {
		c.Member("pg-db-01").PendingRestart = true
	}
	hasSchedule := func(c *dcs.Cluster) {
		c.Member("pg-db-01").ScheduledRestart = []byte(`{"schedule":"2030-01-01T00:00:00+00:00"}`)
	}
	runOrders(t, "restart", []orderRow{
		{name: "asked", args: "pg-db-01", typed: "\ny\n\n", answers: ok, out: whenRestart + sureRestart + versionAsk + restarted, requests: []string{plain}},
		{name: "unknown names are dropped", args: "pg-db-01 nobody --force", answers: ok, out: restarted, requests: []string{plain}},
		{name: "nobody", args: "nobody --force", code: 1, err: "Error: No any among provided members\n"},
		{name: "the leader is no replica", args: "pg-db-02 -r replica --force", code: 1, err: "Error: No replica among provided members\n"},
		{name: "by role", args: "-r leader --force", answers: ok, out: "Success: restart on member pg-db-02\n", requests: []string{plain}},
		{name: "primary", args: "-r primary --force", answers: ok, out: "Success: restart on member pg-db-02\n", requests: []string{plain}},
		{name: "no standby leader", args: "-r standby-leader --force", code: 1, err: "Error: pg-ha-cluster cluster doesn't have any members\n"},
		{name: "declined", args: "pg-db-01", typed: "\nn\n", code: 1, out: whenRestart + sureRestart, err: "Error: Aborted restart\n"},
		{name: "end of input", args: "pg-db-01", typed: "\n", code: 1, out: whenRestart + sureRestart, err: "Aborted!\n"},
		{name: "version at the prompt", args: "pg-db-01 --scheduled now", typed: "y\n17.2\n", answers: ok, out: sureRestart + versionAsk + restarted,
			requests: []string{`POST /restart {"postgres_version":"17.2"}`}},
		{name: "version given", args: "pg-db-01 --pg-version 9.6.2 --timeout 5min --force", answers: ok, out: restarted,
			requests: []string{`POST /restart {"postgres_version":"9.6.2","timeout":"5min"}`}},
		{name: "half a version", args: "pg-db-01 --pg-version 17 --force", code: 1, err: "Error: Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 17\n"},
		{name: "old half version", args: "pg-db-01 --pg-version 9.6 --force", code: 1, err: "Error: Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 9.6\n"},
		{name: "no version", args: "pg-db-01 --pg-version x.y --force", code: 1, err: "Error: Invalid PostgreSQL version: x.y\n"},
		{name: "no timeout", args: "pg-db-01 --timeout= --force", code: 2, err: "Error: --timeout needs a time: seconds, or a number with a unit such as 5min\n"},
		{name: "pending", args: "--pending --force", change: pending, answers: ok, out: restarted, requests: []string{`POST /restart {"restart_pending":true}`}},
		{name: "nothing pending", args: "--pending --force", out: "No restart is pending on these members\n"},
		{name: "nothing pending, asked", args: "--pending", typed: "\n", out: whenRestart + "No restart is pending on these members\n"},
		{name: "pending at its time", args: "pg-db-01 --pending --scheduled 2030-01-01T00:00+00:00", typed: "y\n\n", answers: []answer{{202, "scheduled"}},
			out: "The nodes needing a restart will be identified at the scheduled time, and might be different from the ones showing pending restart right now. " +
				"Is this fine? [y/N]: " + versionAsk + scheduled,
			requests: []string{`POST /restart {"restart_pending":true,"schedule":"2030-01-01T00:00:00+00:00"}`}},
		{name: "scheduled", args: "pg-db-01", typed: "2030-07-01T00:00\ny\n\n", answers: []answer{{202, "scheduled"}},
			out:      whenRestart + "Are you sure you want to schedule restart of members pg-db-01 at 2030-07-01 00:00:00+01:00? [y/N]: " + versionAsk + scheduled,
			requests: []string{`POST /restart {"schedule":"2030-07-01T00:00:00+01:00"}`}},
		{name: "scheduled, declined", args: "pg-db-01 --scheduled 2030-07-01T00:00Z", typed: "n\n", code: 1,
			out: "Are you sure you want to schedule restart of members pg-db-01 at 2030-07-01 00:00:00+00:00? [y/N]: ", err: "Error: Aborted scheduled restart\n"},
		{name: "one in the way", args: "pg-db-01 --scheduled 2030-01-01T00:00Z", typed: "y\n\n", change: hasSchedule, answers: []answer{{409, "x"}},
			out:      "Are you sure you want to schedule restart of members pg-db-01 at 2030-01-01 00:00:00+00:00? [y/N]: " + versionAsk + inTheWay,
			requests: []string{`POST /restart {"schedule":"2030-01-01T00:00:00+00:00"}`}},
		{name: "force replaces it", args: "pg-db-01 --scheduled 2030-01-01T00:00Z --force", change: hasSchedule, answers: []answer{{200, "deleted"}, {202, "x"}}, out: scheduled,
			requests: []string{`DELETE /restart `, `POST /restart {"schedule":"2030-01-01T00:00:00+00:00"}`}},
		{name: "force could not", args: "pg-db-01 --scheduled 2030-01-01T00:00Z --force", change: hasSchedule, answers: []answer{{403, "no"}, {409, "x"}},
			out:      "Failed: flush scheduled restart for member pg-db-01, status code=403, (no)\n" + inTheWay,
			requests: []string{`DELETE /restart `, `POST /restart {"schedule":"2030-01-01T00:00:00+00:00"}`}},
		{name: "paused", args: "pg-db-01 --scheduled 2030-01-01T00:00Z --force", change: paused, code: 1,
			out: " Maintenance mode: on\n", err: "Error: Can't schedule restart in the paused state\n"},
		{name: "not a time", args: "pg-db-01 --scheduled tomorrow --force", code: 1,
			err: "Error: Unable to parse scheduled timestamp (tomorrow). It should be in an unambiguous format (e.g. ISO 8601)\n"},
		{name: "refused", args: "pg-db-01 --force", answers: []answer{{503, "restart already in progress"}},
			out: "Failed: restart for member pg-db-01, status code=503, (restart already in progress)\n", requests: []string{plain}},
		{name: "wrong credentials", args: "pg-db-01 --force", answers: []answer{{401, "not authenticated"}},
			out: "Failed: restart for member pg-db-01, status code=401, (not authenticated)\n", requests: []string{plain}},
		{name: "a member without a REST API ends it", args: "pg-db-03 --force", code: 1, err: "Error: member pg-db-03 publishes no REST API\n"},
	})
}

// TestRestartAny: exactly one of those that qualify, and not always the same.
func TestRestartAny(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		member := newFakeMember(t, answer{200, ""})
		c := asking(t, map[string]*fakeMember{"pg-db-01": member, "pg-db-02": member, "pg-db-03": member})
		app := newTestApp(t, &fakeCluster{cluster: c})
		if code := app.run("restart", "pg-ha-cluster", "--any", "--force"); code != 0 || len(member.requests) != 1 {
			t.Fatalf("exit %d, requests %v", code, member.requests)
		}
		seen[afterTable(app.out.String())] = true
		member.Close()
		if len(seen) == 3 {
			return
		}
	}
	t.Errorf("picked only %v", seen)
}

func TestReload(t *testing.T) {
	sure := "Are you sure you want to reload members pg-db-01? [y/N]: "
	received := "Reload request received for member pg-db-01 and will be processed within 2 seconds\n"
	runOrders(t, "reload", []orderRow{
		{name: "asked", args: "pg-db-01", typed: "y\n", answers: []answer{{202, "reload scheduled"}}, out: sure + received, requests: []string{"POST /reload "}},
		{name: "declined", args: "pg-db-01", typed: "\n", code: 1, out: sure, err: "Error: Aborted reload\n"},
		{name: "nothing to do", args: "pg-db-01 --force", answers: []answer{{200, ""}}, out: "No changes to apply on member pg-db-01\n", requests: []string{"POST /reload "}},
		{name: "refused", args: "pg-db-01 --force", answers: []answer{{401, "no auth\nheader received"}},
			out: "Failed: reload for member pg-db-01, status code=401, (no auth header received)\n", requests: []string{"POST /reload "}},
		{name: "role", args: "-r leader --force", answers: []answer{{200, ""}}, out: "No changes to apply on member pg-db-02\n", requests: []string{"POST /reload "}},
		{name: "unknown role", args: "-r boss", code: 2,
			err: "Error: invalid argument \"boss\" for \"-r, --role\" flag: choose from leader, primary, standby-leader, replica, standby, any; see \"pghactl reload --help\"\n"},
	})
}

func TestFlush(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	switchover := func(c *dcs.Cluster) { c.Failover = &dcs.Failover{Leader: "pg-db-02", ScheduledAt: at, ModRevision: 42} }
	restart := func(c *dcs.Cluster) {
		c.Member("pg-db-01").ScheduledRestart = []byte(`{"schedule":"2030-01-01T00:00:00+00:00"}`)
	}
	nobody := func(c *dcs.Cluster) {
		switchover(c)
		c.Member("pg-db-01").APIURL, c.Member("pg-db-02").APIURL = "", ""
	}
	sure := "Are you sure you want to flush members pg-db-01? [y/N]: "
	const deleteRestart, deleteSwitchover = "DELETE /restart ", "DELETE /switchover "
	runOrders(t, "flush", []orderRow{
		{name: "restart", args: "pg-db-01 restart", typed: "y\n", change: restart, answers: []answer{{200, "scheduled restart deleted"}},
			out: sure + "Success: flush scheduled restart for member pg-db-01\n", requests: []string{deleteRestart}},
		{name: "all", args: "restart --force", change: restart, answers: []answer{{404, "no restart is scheduled"}},
			out: "Failed: flush scheduled restart for member pg-db-01, status code=404, (no restart is scheduled)\n" +
				"No scheduled restart for member pg-db-02\nNo scheduled restart for member pg-db-03\n", requests: []string{deleteRestart}},
		{name: "declined", args: "pg-db-01 restart", typed: "n\n", change: restart, code: 1, out: sure, err: "Error: Aborted flush\n"},
		{name: "switchover", args: "switchover", change: switchover, answers: []answer{{200, "scheduled switchover deleted"}},
			out: "Success: scheduled switchover deleted\n", requests: []string{deleteSwitchover}},
		{name: "gone meanwhile", args: "switchover", change: switchover, answers: []answer{{404, "no pending scheduled switchover"}},
			out: "Failed: no pending scheduled switchover\n", requests: []string{deleteSwitchover}},
		{name: "the second member does it", args: "switchover --force", change: switchover, answers: []answer{{409, "conflict"}, {200, "deleted"}},
			out: "Failed: member=pg-db-02, status_code=409, (conflict)\nSuccess: deleted\n", requests: []string{deleteSwitchover, deleteSwitchover}},
		{name: "no member", args: "switchover", change: nobody, writes: "failover={}",
			out: "2026-11-22 09:03:57.47856 Could not find any accessible member of cluster pg-ha-cluster\n",
			err: "2026-11-22 09:03:57,478 - WARNING - Failing over to DCS\n"},
		{name: "nothing scheduled", args: "switchover", out: "No pending scheduled switchover\n"},
		{name: "no target", args: "pg-db-01", code: 2,
			err: "Error: say at the end what to discard, restart or switchover; usage: pghactl flush CLUSTER [MEMBER...] restart|switchover [flags]\n"},
	})
}

func TestPause(t *testing.T) {
	const on, off = `PATCH /config {"pause":true}`, `PATCH /config {"pause":null}`
	deaf := func(c *dcs.Cluster) { c.Member("pg-db-01").APIURL, c.Member("pg-db-02").APIURL = "", "" }
	runOrders(t, "pause", []orderRow{
		{name: "done", answers: []answer{{200, "{}"}}, out: "Success: cluster management is paused\n", requests: []string{on}},
		{name: "refused", answers: []answer{{401, "not authenticated"}}, out: "Failed: pause cluster management status code=401, (not authenticated)\n", requests: []string{on}},
		{name: "already", change: paused, code: 1, err: "Error: Cluster is already paused\n"},
		{name: "nobody there", change: deaf, code: 1, err: "Error: Can not find accessible cluster member\n"},
	})
	runOrders(t, "resume", []orderRow{
		{name: "done", change: paused, answers: []answer{{200, "{}"}}, out: "Success: cluster management is resumed\n", requests: []string{off}},
		{name: "not paused", code: 1, err: "Error: Cluster is not paused\n"},
	})
}

// TestPauseWaitMatchesPatronictl: --wait is over when every member shows it.
func TestPauseWaitMatchesPatronictl(t *testing.T) {
	for _, command := range []string{"pause", "resume"} {
		rec := recordings(t, "testdata/golden/"+command+".txt")[0]
		member := newFakeMember(t, answer{200, "{}"})
		before, after := asking(t, map[string]*fakeMember{"pg-db-02": member}), asking(t, nil)
		if command == "resume" {
			paused(before)
		}
		for i := range after.Members {
			after.Members[i].Pause = command == "pause"
			before.Members[i].Pause = command == "resume"
		}
		fake := &fakeCluster{cluster: before}
		fake.onRead = func(n int) {
			if n == 4 {
				fake.cluster = after
			}
		}
		app := following(t, fake)
		code := app.run(strings.Fields(rec.args)...)
		if got := fmt.Sprintf("[exit %d]", code); got != rec.exit || trim(app.out.String()) != trim(rec.stdout) || app.err.Len() > 0 {
			t.Errorf("%s: got %s\n%s%s", rec.args, got, app.out.String(), app.err.String())
		}
		if fake.reads != 4 {
			t.Errorf("%s: %d reads, want to see the change in the fourth", rec.args, fake.reads)
		}
	}
}

// TestPauseWaitNamesTheLate: a member that goes on writing its key without
// having paused is named; one that is silent is not waited for.
func TestPauseWaitNamesTheLate(t *testing.T) {
	member := newFakeMember(t, answer{200, "{}"})
	before := asking(t, map[string]*fakeMember{"pg-db-01": member, "pg-db-02": member})
	before.Config = &dcs.Config{Raw: []byte(`{"loop_wait":1}`)}
	after := asking(t, nil)
	after.Member("pg-db-02").ModRevision = 99
	fake := &fakeCluster{cluster: before}
	fake.onRead = func(n int) {
		if n == 2 {
			fake.cluster = after
		}
	}
	app := following(t, fake)
	app.pollPeriod = 20 * time.Millisecond
	app.run("pause", "--wait")
	want := "'pause' request sent, waiting until it is recognized by all nodes\npg-db-02 members didn't recognized pause state after 1 seconds\n"
	if app.out.String() != want {
		t.Errorf("got %q", app.out.String())
	}
}

// TestPauseAsksTheNext: members that cannot be reached are passed over.
func TestPauseAsksTheNext(t *testing.T) {
	dead, alive := newFakeMember(t), newFakeMember(t, answer{200, "{}"})
	dead.Close()
	app := newTestApp(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-02": dead, "pg-db-01": alive})})
	if code := app.run("pause"); code != 0 || len(alive.requests) != 1 {
		t.Errorf("exit %d, requests %v", code, alive.requests)
	}
	if !strings.Contains(app.err.String(), " - WARNING - Member pg-db-02 is not accessible\n") {
		t.Errorf("stderr %q", app.err.String())
	}
}

// TestInterruptDuringPauseWait: Ctrl-C ends the wait, not the pause.
func TestInterruptDuringPauseWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	member := newFakeMember(t, answer{200, "{}"})
	fake := &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-02": member})}
	fake.onRead = func(n int) {
		if n == 3 {
			cancel()
		}
	}
	app := following(t, fake)
	app.ctx = ctx
	if code := app.run("pause", "--wait"); code != 1 || app.err.String() != "Aborted!\n" {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

func TestRemove(t *testing.T) {
	const (
		askName   = "Please confirm the cluster name to remove: "
		askAware  = `You are about to remove all information in DCS for pg-ha-cluster, please type: "Yes I am aware": `
		askLeader = "This cluster currently is healthy. Please specify the leader name to continue: "
	)
	for _, tc := range []struct {
		name, typed string
		leaderless  bool
		code        int
		out, err    string
		removed     []int64
	}{
		{name: "all three", typed: "\npg-ha-cluster\nYes I am aware\npg-db-02\n", out: askName + askName + askAware + askLeader, removed: []int64{1}},
		{name: "without a leader", typed: "pg-ha-cluster\nYes I am aware\n", leaderless: true, out: askName + askAware, removed: []int64{0}},
		{name: "another name", typed: "pg-ha-clusterr\n", code: 1, out: askName, err: "Error: Cluster names specified do not match\n"},
		{name: "not aware", typed: "pg-ha-cluster\nyes I am aware\n", code: 1, out: askName + askAware, err: `Error: You did not exactly type "Yes I am aware"` + "\n"},
		{name: "another leader", typed: "pg-ha-cluster\nYes I am aware\npg-db-01\n", code: 1, out: askName + askAware + askLeader,
			err: "Error: You did not specify the current leader of the cluster\n"},
		{name: "end of input", typed: "pg-ha-cluster\n", code: 1, out: askName + askAware, err: "Aborted!\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := clusterAt(t, healthy, 0x4000060)
			if tc.leaderless {
				c.Leader = nil
			}
			fake := &fakeCluster{cluster: c}
			app := newTestApp(t, fake)
			app.answer(tc.typed)
			if code := app.run("remove", "pg-ha-cluster"); code != tc.code || app.err.String() != tc.err {
				t.Errorf("exit %d, stderr %q", code, app.err.String())
			}
			if got := afterTable(app.out.String()); got != tc.out {
				t.Errorf("asked %q, want %q", got, tc.out)
			}
			if !slices.Equal(fake.removed, tc.removed) {
				t.Errorf("removed %v, want %v", fake.removed, tc.removed)
			}
		})
	}
	fake := &fakeCluster{cluster: clusterAt(t, healthy, 0x4000060)}
	fake.onRead = func(int) { fake.removeErr = dcs.ErrConflict }
	app := newTestApp(t, fake)
	app.answer("pg-ha-cluster\nYes I am aware\npg-db-02\n")
	if code := app.run("remove", "pg-ha-cluster"); code != 1 || app.err.String() != "Error: The leader of the cluster has changed meanwhile; nothing was removed\n" {
		t.Errorf("leader changed: exit %d, stderr %q", code, app.err.String())
	}
}
