package ctl

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

func samplePlan() *restapi.RestorePlan {
	return &restapi.RestorePlan{
		Cluster: "pg-ha-cluster", SystemID: "7710903353966102417", Member: "pg-db-02", DataDir: "/var/lib/pg/data",
		Timeline: 3, Position: "0/9000060", Target: "time 2026-11-22T07:00:00Z", Backup: sampleBackups().Backups[0],
		Others: []string{"pg-db-01", "pg-db-03"}, Warnings: []string{"3 segments are\nnot archived yet"},
	}
}

const planText = `Restore of cluster pg-ha-cluster (7710903353966102417):
  target     time 2026-11-22T07:00:00Z (here: 2026-11-22 08:00:00 CET +01:00)
  backup     20261121-010000F, full of 2026-11-21 02:03:57 CET, 30.1 GB, timeline 1
  replaces   the data of pg-db-02 in /var/lib/pg/data
  ends here  timeline 3, now at 0/9000060: what was written after the target is no longer in the cluster
  follow     pg-db-01, pg-db-03: rewound, or copied again where that is not possible
  back again timeline 3 stays in the archive: pghactl restore pg-ha-cluster --to-latest --timeline 3
  WARNING    3 segments are not archived yet
`

const typeName = "Please confirm the cluster name to restore: "

// restoring gives the cluster's states one after the other; the first is read
// by the command itself, before it orders anything.
func restoring(t *testing.T, leader *fakeMember, states ...func(c *dcs.Cluster)) *testApp {
	t.Helper()
	fake := &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-02": leader})}
	first := fake.cluster
	fake.onRead = func(n int) {
		if n == 1 || len(states) == 0 {
			return
		}
		now := *first
		now.Members = slices.Clone(first.Members)
		states[min(n-2, len(states)-1)](&now)
		fake.cluster = &now
	}
	return following(t, fake)
}

func orderOf(state dcs.RestoreState) *dcs.Restore {
	r := &dcs.Restore{ID: "3f2a", State: state, Member: "pg-db-02", Set: "20261121-010000F", Requested: ago(100 * time.Second),
		By: "jan", Target: dcs.RestoreTarget{Type: "lsn", Value: "0/5000060", Exclusive: true, Timeline: "2"}}
	if state != dcs.RestoreRequested {
		r.Ended = ago(0)
	}
	if state == dcs.RestoreDone {
		r.Timeline = 4
	}
	if state == dcs.RestoreFailed {
		r.Error = "recovery ended before\nthe target was reached"
	}
	return r
}

// running puts every member on the restored timeline, but for some.
func running(c *dcs.Cluster, except ...string) {
	for i := range c.Members {
		m := &c.Members[i]
		m.Timeline, m.State, m.ReplicationState = 4, "running", "streaming"
		if m.Name == "pg-db-02" {
			m.ReplicationState = ""
		}
		if slices.Contains(except, m.Name) {
			m.Timeline, m.State, m.ReplicationState = 3, "creating replica", ""
		}
	}
}

// TestRestore: plan, the cluster's name, order, progress, members.
func TestRestore(t *testing.T) {
	plan := samplePlan()
	dry := encoded(t, plan)
	plan.ID = "3f2a"
	leader := newFakeMember(t, answer{200, dry}, answer{202, encoded(t, plan)})
	app := restoring(t, leader,
		func(c *dcs.Cluster) { c.Restore = orderOf(dcs.RestoreRequested) },
		func(c *dcs.Cluster) {
			c.Restore = orderOf(dcs.RestoreRequested)
			c.Member("pg-db-02").Progress = &dcs.Progress{Operation: "restore", Method: "pgbackrest", Done: 1 << 30, Total: 2 << 30}
		},
		func(c *dcs.Cluster) {
			c.Restore = orderOf(dcs.RestoreRequested)
			c.Member("pg-db-02").Progress = &dcs.Progress{Operation: "restore", Method: "replay"}
		},
		func(c *dcs.Cluster) { c.Restore = orderOf(dcs.RestoreDone); running(c, "pg-db-01", "pg-db-03") },
		func(c *dcs.Cluster) { c.Restore = orderOf(dcs.RestoreDone); running(c, "pg-db-01", "pg-db-03") },
		func(c *dcs.Cluster) {
			c.Restore = orderOf(dcs.RestoreDone)
			running(c, "pg-db-01")
			c.Member("pg-db-01").Progress = &dcs.Progress{Operation: "clone", Method: "pgbackrest", Done: 5, Total: 10, Rate: 1}
		},
		func(c *dcs.Cluster) { c.Restore = orderOf(dcs.RestoreDone); running(c) },
	)
	app.answer("\n", "pg-ha-cluster\n")
	if code := app.run("restore", "--to-time", "2026-11-22 08:00:00"); code != 0 {
		t.Fatalf("exit %d: %s", code, app.err.String())
	}
	got, table, _ := strings.Cut(app.out.String(), "+ Cluster: ")
	want := planText + typeName + typeName +
		"2026-11-22 09:03:57.47856 Restore 3f2a of cluster pg-ha-cluster is ordered\n" +
		"pg-db-02: running\n" +
		"pg-db-02: restore (pgbackrest) [##########----------] 50% 1.0 GB of 2.0 GB\n" +
		"pg-db-02: restore (replay)\n" +
		"2026-11-22 09:03:57.47856 Cluster pg-ha-cluster is restored on timeline 4 in 1m40s; its members follow\n" +
		"waiting for pg-db-01: creating replica; pg-db-03: creating replica\n" +
		"waiting for pg-db-01: clone (pgbackrest) 50% 5 B of 10 B, 1 B/s, 5s left\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !strings.Contains(table, "|  4 |") {
		t.Errorf("no table at the end: %s", table)
	}
	wantRequests := []string{
		`POST /restore {"type":"time","value":"2026-11-22T08:00:00+01:00","dry":true}`,
		`POST /restore {"type":"time","value":"2026-11-22T08:00:00+01:00"}`,
	}
	if !slices.Equal(leader.requests, wantRequests) {
		t.Errorf("requests %q", leader.requests)
	}
}

// TestRestoreOptions: what each command line asks the leader for.
func TestRestoreOptions(t *testing.T) {
	for _, tc := range []struct{ args, body string }{
		{"--to-latest", `{"type":"latest","dry":true}`},
		{"--immediate --set 20261121-010000F", `{"type":"immediate","set":"20261121-010000F","dry":true}`},
		{"--to-lsn 0/5000060 --exclusive --timeline 2", `{"type":"lsn","value":"0/5000060","timeline":"2","exclusive":true,"dry":true}`},
		{"--to-name before --timeline current", `{"type":"name","value":"before","timeline":"current","dry":true}`},
		{"--to-xid 4711 --force-archive", `{"type":"xid","value":"4711","force":true,"dry":true}`},
		{"--to-time 2026-11-22T07:00:00.25Z", `{"type":"time","value":"2026-11-22T07:00:00.25Z","dry":true}`},
		{"--to-time 2026-11-22T07:00", `{"type":"time","value":"2026-11-22T07:00:00+01:00","dry":true}`},
	} {
		leader := newFakeMember(t, answer{412, "no"})
		app := restoring(t, leader)
		code := app.run(append([]string{"restore", "--force"}, strings.Fields(tc.args)...)...)
		if code != 1 || app.err.String() != "Error: member pg-db-02: no (status 412)\n" || app.out.Len() > 0 {
			t.Errorf("%s: exit %d, stderr %q, output %q", tc.args, code, app.err.String(), app.out.String())
		}
		if want := "[POST /restore " + tc.body + "]"; fmt.Sprint(leader.requests) != want {
			t.Errorf("%s: got %s, want %s", tc.args, leader.requests, want)
		}
	}
}

func TestTargetText(t *testing.T) {
	app := following(t, nil)
	for want, r := range map[string]restapi.RestoreRequest{
		"latest":                                {Type: "latest"},
		"just before lsn 0/5, along timeline 2": {Type: "lsn", Value: "0/5", Exclusive: true, Timeline: "2"},
		"just before time 2026-11-22T07:00:00.5Z (here: 2026-11-22 08:00:00.5 CET +01:00)": {Type: "time", Value: "2026-11-22T07:00:00.5Z", Exclusive: true},
	} {
		p := restapi.RestorePlan{Target: strings.TrimSpace(r.Type + " " + r.Value)}
		if got := app.targetText(&p, &r); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTargetTimes(t *testing.T) {
	now := testNow.In(berlin)
	for text, want := range map[string]string{
		"2026-11-22 08:00:00.123456":    "2026-11-22T07:00:00.123456Z",
		"2026-11-22 08:00":              "2026-11-22T07:00:00Z",
		"2026-11-22T08:00:00":           "2026-11-22T07:00:00Z",
		"2026-11-22 05:00:00+00":        "2026-11-22T05:00:00Z",
		"2026-11-22 05:00:00.5-01:30":   "2026-11-22T06:30:00.5Z",
		"2026-11-22 05:00:00 UTC":       "2026-11-22T05:00:00Z",
		"2026-11-22 05:00:00 -0200":     "2026-11-22T07:00:00Z",
		" 2026-11-22T05:00:00.25+02:00": "2026-11-22T03:00:00.25Z",
	} {
		got, err := parseTargetTime(text, now)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %s, %v, want %s", text, got.UTC(), err, want)
		}
	}
}

// TestRestoreUsage: nothing is asked of anybody before the command is clear.
func TestRestoreUsage(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "say how far to go back: --to-time,"},
		{[]string{"--to-latest", "--immediate"}, "choose one of --to-latest and --immediate"},
		{[]string{"--to-latest", "--exclusive"}, "--to-latest --exclusive: only a time,"},
		{[]string{"--to-name", "x", "--exclusive"}, "--to-name --exclusive: only a time,"},
		{[]string{"--to-name", ""}, "--to-name needs the name"},
		{[]string{"--to-lsn", "5000060"}, `--to-lsn "5000060": want a position like 0/5000060`},
		{[]string{"--to-xid", "-1"}, `--to-xid "-1": want the number`},
		{[]string{"--to-time", "yesterday"}, `--to-time "yesterday": want a time like 2026-11-22 09:03:57 or 2026-11-22T09:03:57+01:00`},
		{[]string{"--to-latest", "--timeline", "0"}, `--timeline "0": want latest, current or a number`},
	} {
		app := following(t, &fakeCluster{err: fmt.Errorf("must not be asked")})
		code := app.run(append([]string{"restore"}, tc.args...)...)
		if code != 2 || !strings.HasPrefix(app.err.String(), "Error: "+tc.want) || strings.Count(app.err.String(), "\n") != 1 {
			t.Errorf("%v: exit %d, stderr %q", tc.args, code, app.err.String())
		}
	}
}

// TestRestoreNotOrdered: whatever goes wrong before the order, none is given.
func TestRestoreNotOrdered(t *testing.T) {
	dry := encoded(t, samplePlan())
	for _, tc := range []struct {
		name   string
		answer answer
		typed  string
		err    string
		out    string
	}{
		{"other name", answer{200, dry}, "pg-ha\n", "Error: Cluster names specified do not match\n", planText + typeName},
		{"no more input", answer{200, dry}, "", "Aborted!\n", planText + typeName},
		{"refused", answer{404, "no backup before that time"}, "", "Error: member pg-db-02: no backup before that time (status 404)\n", ""},
		{"Patroni leads", answer{501, patroniPage}, "",
			"Error: member pg-db-02 runs Patroni, or a pgha without backups, and cannot do this; ask for it when a member of ours leads\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			leader := newFakeMember(t, tc.answer)
			app := restoring(t, leader)
			app.answer(tc.typed)
			code := app.run("restore", "pg-ha-cluster", "--to-time", "2026-11-22T07:00:00Z")
			if code != 1 || app.err.String() != tc.err || app.out.String() != tc.out || len(leader.requests) != 1 {
				t.Errorf("exit %d, stderr %q, requests %q, output\n%s", code, app.err.String(), leader.requests, app.out.String())
			}
		})
	}
	c := clusterAt(t, healthy, 0x4000060)
	c.Leader = nil
	app := following(t, &fakeCluster{cluster: c})
	if code := app.run("restore", "--to-latest"); code != 1 || !strings.HasPrefix(app.err.String(), "Error: This cluster has no leader") {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

// TestRestoreAgain: after a restore that failed half-way nobody may lead, and
// the member whose directory is half-made can be asked again.
func TestRestoreAgain(t *testing.T) {
	half := newFakeMember(t, answer{412, "no"})
	c := asking(t, map[string]*fakeMember{"pg-db-01": half})
	c.Leader, c.Restore = nil, orderOf(dcs.RestoreFailed)
	c.Restore.Member = "pg-db-01"
	app := following(t, &fakeCluster{cluster: c})
	if code := app.run("restore", "--to-latest"); code != 1 || app.err.String() != "Error: member pg-db-01: no (status 412)\n" || len(half.requests) != 1 {
		t.Errorf("exit %d, stderr %q, requests %q", code, app.err.String(), half.requests)
	}
}

// TestOrderWithoutAnswer: it may have been taken all the same.
func TestOrderWithoutAnswer(t *testing.T) {
	plan, asked := encoded(t, samplePlan()), 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked > 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, plan)
	}))
	defer srv.Close()
	c := asking(t, nil)
	c.Member("pg-db-02").APIURL = srv.URL + "/patroni"
	app := following(t, &fakeCluster{cluster: c})
	if code := app.run("restore", "--to-latest", "--force"); code != 1 ||
		!strings.HasSuffix(app.err.String(), "; \"pghactl restore pg-ha-cluster --status\" shows whether it took the order\n") {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

func TestRestoreFails(t *testing.T) {
	plan := samplePlan()
	plan.ID = "3f2a"
	for _, tc := range []struct {
		name  string
		after func(c *dcs.Cluster)
		err   string
	}{
		{"failed", func(c *dcs.Cluster) { c.Restore = orderOf(dcs.RestoreFailed) },
			"Error: restore 3f2a on pg-db-02 failed: recovery ended before the target was reached\n"},
		{"failed without a word", func(c *dcs.Cluster) {
			c.Restore = orderOf(dcs.RestoreFailed)
			c.Restore.Error = ""
		}, "Error: restore 3f2a on pg-db-02 failed: no reason given\n"},
		{"another order", func(c *dcs.Cluster) { c.Restore = orderOf(dcs.RestoreDone); c.Restore.ID = "other" },
			"Error: another restore was ordered meanwhile, or the order was removed; see \"pghactl restore --status\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			leader := newFakeMember(t, answer{200, encoded(t, samplePlan())}, answer{202, encoded(t, plan)})
			app := restoring(t, leader, tc.after)
			if code := app.run("restore", "--to-latest", "--force"); code != 1 || app.err.String() != tc.err {
				t.Errorf("exit %d, stderr %q", code, app.err.String())
			}
		})
	}
}

// TestInterruptWhileRestoring: Ctrl-C leaves the restore running and says how
// to go on.
func TestInterruptWhileRestoring(t *testing.T) {
	plan := samplePlan()
	plan.ID = "3f2a"
	leader := newFakeMember(t, answer{200, encoded(t, samplePlan())}, answer{202, encoded(t, plan)})
	ctx, cancel := context.WithCancel(t.Context())
	app := restoring(t, leader, func(c *dcs.Cluster) {
		c.Restore = orderOf(dcs.RestoreRequested)
		cancel()
	})
	app.ctx = ctx
	code := app.run("restore", "--to-latest", "--force")
	want := "The restore goes on: \"pghactl restore pg-ha-cluster --status --wait\" follows it, \"pghactl restore pg-ha-cluster --cancel\" ends it\n"
	if code != 1 || app.err.String() != want || len(leader.requests) != 2 {
		t.Errorf("exit %d, stderr %q, requests %q", code, app.err.String(), leader.requests)
	}
}

// TestRestoreSurvivesOutage: etcd that does not answer for a while ends nothing.
func TestRestoreSurvivesOutage(t *testing.T) {
	fake := &fakeCluster{cluster: asking(t, nil)}
	fake.cluster.Restore = orderOf(dcs.RestoreRequested)
	now := testNow
	fake.onRead = func(n int) {
		fake.err = nil
		switch {
		case n == 2, n == 3:
			fake.err = dcs.ErrUnavailable
			now = now.Add(followPatience / 2)
		case n == 4:
			fake.cluster.Restore = orderOf(dcs.RestoreDone)
			running(fake.cluster)
		}
	}
	app := following(t, fake)
	app.Now = func() time.Time { return now.In(berlin) }
	if code := app.run("restore", "--status", "--wait"); code != 0 || !strings.Contains(app.out.String(), "is restored on timeline 4") {
		t.Errorf("exit %d, stderr %q, output\n%s", code, app.err.String(), app.out.String())
	}
	if !strings.Contains(app.out.String(), "no news: cannot read cluster") {
		t.Errorf("output\n%s", app.out.String())
	}

	fake.cluster.Restore = orderOf(dcs.RestoreRequested)
	fake.reads, fake.onRead = 0, func(n int) {
		if n > 1 {
			fake.err = dcs.ErrUnavailable
			now = now.Add(followPatience)
		}
	}
	app = following(t, fake)
	app.Now = func() time.Time { return now.In(berlin) }
	if code := app.run("restore", "--status", "--wait"); code != 1 || !strings.HasPrefix(app.err.String(), "Error: lost sight of it, it may go on: cannot read") {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

// TestRestoreWithMemberDown: the member that is gone is named, and is no failure.
func TestRestoreWithMemberDown(t *testing.T) {
	fake := &fakeCluster{cluster: asking(t, nil)}
	fake.cluster.Restore = orderOf(dcs.RestoreDone)
	fake.cluster.Restore.State = dcs.RestoreRequested
	now := testNow
	fake.onRead = func(n int) {
		if n == 2 {
			fake.cluster.Restore = orderOf(dcs.RestoreDone)
			running(fake.cluster, "pg-db-03")
		}
		now = now.Add(20 * time.Second)
	}
	app := following(t, fake)
	app.Now = func() time.Time { return now.In(berlin) }
	code := app.run("restore", "--status", "--wait")
	if code != 0 || !strings.Contains(app.err.String(), "WARNING - pg-db-03: creating replica: no change for 1m00s; it follows by itself when it can, see its log\n") {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
	if strings.Contains(app.err.String(), "pg-db-01") {
		t.Errorf("stderr %q", app.err.String())
	}
}

func TestRestoreStatus(t *testing.T) {
	const head = "Restore 3f2a of cluster pg-ha-cluster to lsn 0/5000060 (exclusive) on timeline 2, ordered 2026-11-22 09:02:17 CET by jan, backup 20261121-010000F\n"
	for _, tc := range []struct {
		order *dcs.Restore
		want  string
	}{
		{nil, "No restore of cluster pg-ha-cluster was ordered\n"},
		{orderOf(dcs.RestoreRequested), head + "  under way; pg-db-02: running\n"},
		{orderOf(dcs.RestoreDone), head + "  done by pg-db-02 at 2026-11-22 09:03:57 CET: timeline 4\n"},
		{orderOf(dcs.RestoreFailed), head + "  FAILED on pg-db-02 at 2026-11-22 09:03:57 CET: recovery ended before the target was reached\n"},
	} {
		c := asking(t, nil)
		c.Restore = tc.order
		app := following(t, &fakeCluster{cluster: c})
		if code := app.run("restore", "--status"); code != 0 || app.out.String() != tc.want {
			t.Errorf("exit %d, got\n%s\nwant\n%s", code, app.out.String(), tc.want)
		}
	}
	c := asking(t, nil)
	c.Restore = orderOf(dcs.RestoreRequested)
	c.Restore.Member = "gone"
	if got := orderText(c, c.Restore); got != "gone: not in the cluster at present; it goes on when it is back" {
		t.Errorf("got %q", got)
	}
}

// TestRestoreCancel goes to the member that restores, which need not lead.
func TestRestoreCancel(t *testing.T) {
	other := newFakeMember(t, answer{200, "restore cancelled"})
	c := asking(t, map[string]*fakeMember{"pg-db-01": other})
	c.Restore = orderOf(dcs.RestoreRequested)
	c.Restore.Member = "pg-db-01"
	app := following(t, &fakeCluster{cluster: c})
	if code := app.run("restore", "--cancel"); code != 0 || app.out.String() != "2026-11-22 09:03:57.47856 restore cancelled\n" {
		t.Errorf("exit %d, %q %q", code, app.out.String(), app.err.String())
	}
	if fmt.Sprint(other.requests) != "[DELETE /restore ]" {
		t.Errorf("requests %q", other.requests)
	}
	// One that is silent is not needed for it.
	c.Restore.Member = "pg-db-03"
	if code := following(t, &fakeCluster{cluster: c}).run("restore", "--cancel"); code != 0 || len(other.requests) != 2 {
		t.Errorf("exit %d, requests %q", code, other.requests)
	}
	c.Restore = orderOf(dcs.RestoreDone)
	app = following(t, &fakeCluster{cluster: c})
	if code := app.run("restore", "--cancel"); code != 1 || app.err.String() != "Error: no restore of cluster pg-ha-cluster is under way\n" {
		t.Errorf("exit %d, %q", code, app.err.String())
	}
}
