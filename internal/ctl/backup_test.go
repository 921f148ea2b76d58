package ctl

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

// berlin is a zone that is not UTC, so that local times show.
var berlin = time.FixedZone("CET", 3600)

// following makes an app that looks often and prints times of berlin.
func following(t *testing.T, fake *fakeCluster) *testApp {
	t.Helper()
	app := newTestApp(t, fake)
	app.pollPeriod = time.Microsecond
	app.Now = func() time.Time { return testNow.In(berlin) }
	return app
}

// asking is the healthy cluster with a fake API behind each name given.
func asking(t *testing.T, apis map[string]*fakeMember) *dcs.Cluster {
	t.Helper()
	c := clusterAt(t, healthy, 0x4000060)
	for i := range c.Members {
		c.Members[i].APIURL = ""
		if api := apis[c.Members[i].Name]; api != nil {
			c.Members[i].APIURL = api.URL + "/patroni"
		}
	}
	return c
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// patroniStatus is what a Patroni member answers to GET of a path it does not
// know; patroniPage what it answers to the other methods.
const (
	patroniStatus = `{"state": "running", "patroni": {"version": "4.1.4", "scope": "pg-ha-cluster"}}`
	patroniPage   = `<!DOCTYPE HTML><html><body><p>Message: Unsupported method ('POST').</p></body></html>`
)

func ago(d time.Duration) time.Time { return testNow.Truncate(time.Second).Add(-d) }

// sampleBackups has something to say in every line.
func sampleBackups() *restapi.BackupDocument {
	return &restapi.BackupDocument{
		Stanza: "main", Member: "pg-db-02", ReadAt: testNow,
		Backups: []restapi.BackupEntry{{
			Label: "20261121-010000F", Type: "full", Start: ago(31 * time.Hour), Stop: ago(31*time.Hour - 250*time.Second),
			Timeline: 1, StartLSN: "0/2000028", StopLSN: "0/2000100", StartWAL: "000000010000000000000002",
			StopWAL: "000000010000000000000002", Size: 32_319_000_000, RepoSize: 4_100_000_000,
		}, {
			Label: "20261121-010000F_20261122-010000I", Type: "incr", Start: ago(7 * time.Hour), Stop: ago(7*time.Hour - 9*time.Second),
			Timeline: 2, StartLSN: "0/5000028", StopLSN: "0/6000100", StartWAL: "000000020000000000000005",
			StopWAL: "000000020000000000000006", Size: 32_400_000_000, RepoSize: 1_500, Reference: "20261121-010000F", Damaged: true,
		}},
		Archive: restapi.ArchiveState{
			Min: "000000010000000000000002", Max: "000000020000000000000009", ReadyFiles: 3, OldestReady: 700,
			LastArchived: "000000020000000000000009", LastTime: ago(12 * time.Minute), LastFailed: "00000002000000000000000A",
			LastFailTime: ago(5 * time.Second), FailedCount: 41, Failing: true, WALBytes: 80 << 20, WALFreeBytes: 3 << 30,
		},
		Schedule: []restapi.BackupPlan{
			{Type: "full", Cron: "0 1 * * 0", Next: ago(-7 * 24 * time.Hour)},
			{Type: "incr", Cron: "0 1 30 2 *"},
		},
		From: "standby", Runner: "pg-db-01", Pending: "diff",
		Running: &restapi.RunningBackup{Member: "pg-db-01", Type: "incr", Started: ago(70 * time.Second), Progress: restapi.Progress{
			Done: 13_207_024_435, Total: 32_319_628_902, Percent: 40.8, Rate: 180 << 20, Left: 100, Method: "pgbackrest",
		}},
		Last:   &restapi.LastBackup{Type: "full", Member: "pg-db-03", Ended: ago(time.Hour), Error: "the repository is full:\nmake room"},
		Alarms: []string{"the newest WAL waits for 12m to be archived (archive_max_lag 10m)"},
	}
}

func TestBackupList(t *testing.T) {
	const want = `
+ Backups: pg-ha-cluster (stanza main) -----+------+---------------------+----------+---------+-------------------+-------+----+------------------------------------------------------+
| Label                                     | Type | Start               | Duration |    Size | New in repository |   Age | TL | WAL range                                            |
+-------------------------------------------+------+---------------------+----------+---------+-------------------+-------+----+------------------------------------------------------+
| 20261121-010000F                          | full | 2026-11-21 02:03:57 |    4m10s | 30.1 GB |            3.8 GB | 1d06h |  1 | 000000010000000000000002                             |
| 20261121-010000F_20261122-010000I DAMAGED | incr | 2026-11-22 02:03:57 |       9s | 30.2 GB |            1.5 kB | 6h59m |  2 | 000000020000000000000005 to 000000020000000000000006 |
+-------------------------------------------+------+---------------------+----------+---------+-------------------+-------+----+------------------------------------------------------+
 Archive: 000000010000000000000002 to 000000020000000000000009
 Archiving: 3 segments wait on pg-db-02, the oldest for 11m40s, last archived 000000020000000000000009 12m00s ago, FAILING at 00000002000000000000000A (41 failures, the last at 2026-11-22 09:03:52 CET)
 WAL on disk: 80.0 MB in pg_wal of pg-db-02, 3.0 GB free there
 Next full: 2026-11-29 09:03:57 CET (in 6d23h; 0 1 * * 0)
 Next incr: never (0 1 30 2 *)
 Made by: pg-db-01 (from: standby)
 Asked for: diff, not begun yet
 Running: incr on pg-db-01 since 2026-11-22 09:02:47 CET [########------------] 40% 12.3 GB of 30.1 GB, 180 MB/s, 1m40s left
 Last attempt FAILED: full on pg-db-03 at 2026-11-22 08:03:57 CET: the repository is full: make room
 ALARM: the newest WAL waits for 12m to be archived (archive_max_lag 10m)
`
	text := encoded(t, sampleBackups())
	for _, tc := range []struct{ format, want string }{
		{"pretty", want},
		{"json", "\n" + text + "\n"},
		{"tsv", "\nCluster\tLabel\tType\tStart\tStop\tSize\tNew in repository\tTL\tStart LSN\tStop LSN\tStart WAL\tStop WAL\tReference\tDamaged\n" +
			"pg-ha-cluster\t20261121-010000F\tfull\t2026-11-21T01:03:57Z\t2026-11-21T01:08:07Z\t32319000000\t4100000000\t1\t0/2000028\t0/2000100\t" +
			"000000010000000000000002\t000000010000000000000002\t\tfalse\n" +
			"pg-ha-cluster\t20261121-010000F_20261122-010000I\tincr\t2026-11-22T01:03:57Z\t2026-11-22T01:04:06Z\t32400000000\t1500\t2\t0/5000028\t0/6000100\t" +
			"000000020000000000000005\t000000020000000000000006\t20261121-010000F\ttrue\n"},
	} {
		leader := newFakeMember(t, answer{200, text})
		app := following(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-02": leader})})
		if code := app.run("backup", "list", "-f", tc.format); code != 0 {
			t.Fatalf("%s: exit %d: %s", tc.format, code, app.err.String())
		}
		if got := "\n" + app.out.String(); got != tc.want {
			t.Errorf("%s: got%s\nwant%s", tc.format, got, tc.want)
		}
		if !slices.Equal(leader.requests, []string{"GET /backup "}) {
			t.Errorf("%s: requests %q", tc.format, leader.requests)
		}
	}
}

func TestBackupListYAML(t *testing.T) {
	leader := newFakeMember(t, answer{200, `{"stanza":"s","member":"m","read_at":"2026-11-22T08:03:57Z","backups":[],"archive":{},"schedule":null,"from":"leader","alarms":[]}`})
	app := following(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-02": leader})})
	if code := app.run("backup", "list", "-f", "yaml"); code != 0 {
		t.Fatalf("exit %d: %s", code, app.err.String())
	}
	for _, line := range []string{"alarms: []\n", "\nbackups: []\n", "\narchive:\n  failed_count: 0\n  failing: false\n", "\nstanza: s\n\n"} {
		if !strings.Contains(app.out.String(), line) {
			t.Errorf("no %q in\n%s", line, app.out.String())
		}
	}
}

// TestBackupListEmpty: nothing is known yet, and nothing is invented.
func TestBackupListEmpty(t *testing.T) {
	leader := newFakeMember(t, answer{200, `{"stanza":"s","member":"pg-db-02","error":"no such stanza;\nrun a backup"}`})
	app := following(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-02": leader})})
	if code := app.run("backup", "list"); code != 0 {
		t.Fatalf("exit %d: %s", code, app.err.String())
	}
	want := " Repository cannot be read: no such stanza; run a backup\n" +
		" Archive: no WAL in the repository\n Archiving: nothing waits on pg-db-02\n"
	if !strings.HasSuffix(app.out.String(), "+\n"+want) {
		t.Errorf("got\n%s", app.out.String())
	}
}

// TestWhoIsAskedAboutBackups: the leader, then any; one line when nobody helps.
func TestWhoIsAskedAboutBackups(t *testing.T) {
	good := answer{200, encoded(t, sampleBackups())}
	for _, tc := range []struct {
		name    string
		answers map[string]answer
		down    string
		code    int
		err     string
		asked   string
	}{
		{"leader", map[string]answer{"pg-db-02": good, "pg-db-01": good}, "", 0, "", "pg-db-02"},
		{"leader is Patroni's", map[string]answer{"pg-db-02": {503, patroniStatus}, "pg-db-03": good}, "", 0, "", "pg-db-02 pg-db-03"},
		{"leader is down", map[string]answer{"pg-db-02": good, "pg-db-01": good}, "pg-db-02", 0, "", "pg-db-01"},
		{"not configured", map[string]answer{"pg-db-02": {404, "backups are not configured:\nset pgha.backup"}, "pg-db-01": good}, "", 1,
			"Error: member pg-db-02: backups are not configured: set pgha.backup (status 404)\n", "pg-db-02"},
		{"all are Patroni's", map[string]answer{"pg-db-01": {503, patroniStatus}, "pg-db-02": {503, patroniStatus}, "pg-db-03": {503, patroniStatus}}, "", 1,
			"Error: member pg-db-02 runs Patroni, or a pgha without backups, and cannot do this; ask for it when a member of ours leads\n",
			"pg-db-01 pg-db-02 pg-db-03"},
		{"nobody has an address", nil, "", 1, "Error: member pg-db-02 publishes no REST API\n", ""},
		{"not a document", map[string]answer{"pg-db-02": {200, "<html>"}}, "", 1,
			"Error: member pg-db-02 gave an answer that cannot be read: invalid character '<' looking for beginning of value\n", "pg-db-02"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			apis := map[string]*fakeMember{}
			for name, a := range tc.answers {
				apis[name] = newFakeMember(t, a)
			}
			app := following(t, &fakeCluster{cluster: asking(t, apis)})
			if tc.down != "" {
				apis[tc.down].Close()
			}
			if code := app.run("backup", "list"); code != tc.code || app.err.String() != tc.err {
				t.Errorf("exit %d, stderr %q, want %d, %q", code, app.err.String(), tc.code, tc.err)
			}
			var asked []string
			for _, name := range []string{"pg-db-01", "pg-db-02", "pg-db-03"} {
				if api := apis[name]; api != nil && len(api.requests) > 0 {
					asked = append(asked, name)
				}
			}
			if got := strings.Join(asked, " "); got != tc.asked {
				t.Errorf("asked %q, want %q", got, tc.asked)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	api := newFakeMember(t, answer{})
	api.Close()
	app := following(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-02": api})})
	code := app.run("backup", "check")
	if code != 1 || !strings.HasPrefix(app.err.String(), "Error: member pg-db-02 does not answer: "+api.URL) || strings.Count(app.err.String(), "\n") != 1 {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

// TestBackupRun follows a request through the keys to the attempt made for it.
func TestBackupRun(t *testing.T) {
	before := &dcs.Backup{Type: "full", Member: "pg-db-01", Due: ago(9 * time.Hour), Started: ago(9 * time.Hour), Ended: ago(8 * time.Hour), Label: "old"}
	asked := *before
	asked.Requested, asked.RequestedAt = "full", ago(0)
	otherEnded := asked // the scheduled one, which ran when ours was asked for
	otherEnded.Type, otherEnded.Label, otherEnded.Due, otherEnded.Ended = "incr", "other", ago(time.Minute), ago(-time.Second)
	done := dcs.Backup{Type: "full", Member: "pg-db-03", Due: ago(0), Started: ago(-2 * time.Second), Ended: ago(-252 * time.Second), Label: "20261121-010000F"}
	failed := done
	failed.Label, failed.Error, failed.Requested, failed.Tries = "", "the bucket is missing:\nmend s3_bucket", "full", 1
	quick := done // the request was taken and done between two looks
	quick.Due = ago(time.Second * -3)
	preparing := &dcs.BackupLock{Member: "pg-db-03", Type: "full", Progress: &dcs.Progress{Operation: "backup"}}
	lock := &dcs.BackupLock{Member: "pg-db-03", Type: "full", Progress: &dcs.Progress{Done: 1 << 30, Total: 4 << 30, Rate: 100 << 20}}

	type state struct {
		b    *dcs.Backup
		lock *dcs.BackupLock
	}
	const accepted = "2026-11-22 09:03:57.47856 backup requested\n"
	const success = "2026-11-22 09:03:57.47856 Backup 20261121-010000F of cluster pg-ha-cluster is done: full by pg-db-03, 30.1 GB (3.8 GB new in the repository), 4m10s\n"
	for _, tc := range []struct {
		name   string
		states []state
		code   int
		out    string
		err    string
	}{
		{"done", []state{{&asked, nil}, {&asked, nil}, {&asked, lock}, {&otherEnded, nil}, {&otherEnded, lock}, {&done, nil}}, 0,
			"waiting for the member that makes backups to begin\n" +
				"full backup on pg-db-03: [#####---------------] 25% 1.0 GB of 4.0 GB, 100 MB/s, 31s left\n" +
				"waiting for the member that makes backups to begin\n" +
				"full backup on pg-db-03: [#####---------------] 25% 1.0 GB of 4.0 GB, 100 MB/s, 31s left\n" + success, ""},
		{"done at once", []state{{&quick, nil}}, 0, success, ""},
		{"failed", []state{{&asked, preparing}, {&failed, nil}}, 1,
			"full backup on pg-db-03: preparing\n",
			"Error: backup (full) on pg-db-03 failed: the bucket is missing: mend s3_bucket; it is tried again until \"pghactl backup cancel pg-ha-cluster\"\n"},
		{"taken back", []state{{&asked, nil}, {before, nil}}, 1, "waiting for the member that makes backups to begin\n",
			"Error: the request was taken back, or another backup covers it; see \"pghactl backup list\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			leader := newFakeMember(t, answer{202, "backup requested"}, answer{200, encoded(t, sampleBackups())})
			c := asking(t, map[string]*fakeMember{"pg-db-02": leader})
			c.Backup = before
			fake := &fakeCluster{cluster: c}
			fake.onRead = func(n int) {
				if n == 1 {
					return
				}
				now := *c
				at := tc.states[min(n-2, len(tc.states)-1)]
				now.Backup, now.BackupLock = at.b, at.lock
				fake.cluster = &now
			}
			app := following(t, fake)
			code := app.run("backup", "run", "--type", "full", "--force", "--wait")
			if code != tc.code || app.out.String() != accepted+tc.out || app.err.String() != tc.err {
				t.Errorf("exit %d\n%s%s\nwant %d\n%s%s", code, app.out.String(), app.err.String(), tc.code, accepted+tc.out, tc.err)
			}
			if leader.requests[0] != `POST /backup {"type":"full"}` {
				t.Errorf("requests %q", leader.requests)
			}
		})
	}
}

// TestBackupRunOnTerminal rewrites one line, and leaves none behind.
func TestBackupRunOnTerminal(t *testing.T) {
	leader := newFakeMember(t, answer{202, "ok"}, answer{404, ""})
	c := asking(t, map[string]*fakeMember{"pg-db-02": leader})
	fake := &fakeCluster{cluster: c}
	fake.onRead = func(n int) {
		now := *c
		switch {
		case n == 2, n == 3:
			now.Backup = &dcs.Backup{Requested: "incr", RequestedAt: ago(0)}
		case n > 3:
			now.Backup = &dcs.Backup{Type: "incr", Member: "pg-db-01", Due: ago(0), Started: ago(5 * time.Second), Ended: ago(0), Label: "L"}
		}
		fake.cluster = &now
	}
	app := following(t, fake)
	app.Terminal = true
	code := app.run("backup", "run", "--force")
	const line = "\r\x1b[Kwaiting for the member that makes backups to begin"
	want := "2026-11-22 09:03:57.47856 ok\n" + line + line + "\r\x1b[K" +
		"2026-11-22 09:03:57.47856 Backup L of cluster pg-ha-cluster is done: incr by pg-db-01, 5s\n"
	if code != 0 || app.out.String() != want {
		t.Errorf("exit %d, got %q\nwant %q", code, app.out.String(), want)
	}
}

func TestBackupRunPrompt(t *testing.T) {
	const question = "Are you sure you want to make a backup (incr) of cluster pg-ha-cluster? [y/N]: "
	for _, tc := range []struct {
		typed    string
		args     []string
		code     int
		err      string
		requests int
	}{
		{"y\n", []string{"--no-wait"}, 0, "", 1},
		{"y\n", []string{"--wait=false"}, 0, "", 1},
		{"n\n", nil, 1, "Error: Aborting backup\n", 0},
		{"", nil, 1, "Aborted!\n", 0},
	} {
		leader := newFakeMember(t, answer{202, "ok"})
		app := following(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-02": leader})})
		app.answer(tc.typed)
		code := app.run(append([]string{"backup", "run"}, tc.args...)...)
		if code != tc.code || app.err.String() != tc.err || len(leader.requests) != tc.requests || !strings.HasPrefix(app.out.String(), question) {
			t.Errorf("typed %q: exit %d, stderr %q, requests %q, output %q", tc.typed, code, app.err.String(), leader.requests, app.out.String())
		}
	}
}

func TestBackupRefused(t *testing.T) {
	busy := answer{409, "a backup runs already"}
	for _, tc := range []struct {
		command, request string
		answer           answer
		want             string
	}{
		{"run --force", "POST", busy, "Error: member pg-db-02: a backup runs already (status 409)\n"},
		{"cancel", "DELETE", busy, "Error: member pg-db-02: a backup runs already (status 409)\n"},
		{"run --force", "POST", answer{401, "not authenticated"}, "Error: member pg-db-02: not authenticated (status 401); set ctl.authentication to what restapi.authentication is there\n"},
		{"cancel", "DELETE", answer{403, "client certificate required"},
			"Error: member pg-db-02: client certificate required (status 403); set ctl.certfile and ctl.keyfile, or ask from an address that its restapi.allowlist has\n"},
	} {
		leader := newFakeMember(t, tc.answer)
		app := following(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-02": leader})})
		code := app.run(append([]string{"backup"}, strings.Fields(tc.command)...)...)
		if code != 1 || app.err.String() != tc.want || !strings.HasPrefix(fmt.Sprint(leader.requests), "["+tc.request+" /backup ") {
			t.Errorf("%s: exit %d, stderr %q, requests %q", tc.command, code, app.err.String(), leader.requests)
		}
	}
}

// TestBackupCancel goes to the member that makes the backup.
func TestBackupCancel(t *testing.T) {
	runner, leader := newFakeMember(t, answer{200, "backup cancelled"}), newFakeMember(t, answer{200, "no"})
	c := asking(t, map[string]*fakeMember{"pg-db-02": leader, "pg-db-03": runner})
	c.BackupLock = &dcs.BackupLock{Member: "pg-db-03"}
	app := following(t, &fakeCluster{cluster: c})
	if code := app.run("backup", "cancel"); code != 0 || app.out.String() != "2026-11-22 09:03:57.47856 backup cancelled\n" {
		t.Errorf("exit %d, output %q", code, app.out.String())
	}
	if fmt.Sprint(runner.requests) != "[DELETE /backup ]" || len(leader.requests) != 0 {
		t.Errorf("runner %q, leader %q", runner.requests, leader.requests)
	}
}

func TestBackupCheck(t *testing.T) {
	items := []restapi.CheckItem{{Name: "repository", OK: true}, {Name: "archiving", Text: "WAL does not arrive:\nset archive_command"}}
	for _, ok := range []bool{true, false} {
		items[1].OK = ok
		leader := newFakeMember(t, answer{200, encoded(t, restapi.BackupCheck{OK: ok, Items: items})})
		app := following(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-02": leader})})
		code := app.run("backup", "check")
		want, wantErr, wantCode := "  ok      repository\n  ok      archiving   WAL does not arrive: set archive_command\n", "", 0
		if !ok {
			want, wantCode = strings.Replace(want, "ok      archiving", "NOT OK  archiving", 1), 1
			wantErr = "Error: the backups of cluster pg-ha-cluster are not in order; the lines marked NOT OK say what to mend\n"
		}
		want = "Backups of cluster pg-ha-cluster, looked at by pg-db-02:\n" + want
		if code != wantCode || app.out.String() != want || app.err.String() != wantErr {
			t.Errorf("exit %d, output\n%s%s", code, app.out.String(), app.err.String())
		}
	}
}

func TestBackupUsage(t *testing.T) {
	for _, args := range [][]string{
		{"backup", "lst"}, {"backup", "run", "--type", "weekly"}, {"backup", "list", "a", "b"}, {"backup", "list", "-f", "xml"}, {"backup", "list", "-w", "0"},
	} {
		app := newTestApp(t, &fakeCluster{err: fmt.Errorf("must not be asked")})
		if code := app.run(args...); code != 2 || strings.Count(app.err.String(), "\n") != 1 {
			t.Errorf("%v: exit %d, stderr %q", args, code, app.err.String())
		}
	}
}

func TestByteAndSpanText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 kB", 180 << 20: "180 MB", 1023<<20 + 700<<10: "1.0 GB", 13_207_024_435: "12.3 GB", 1 << 62: "4.0 EB"} {
		if got := byteText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Second: "0s", 0: "0s", 1400 * time.Millisecond: "1s", 100 * time.Second: "1m40s",
		125 * time.Minute: "2h05m", 76 * time.Hour: "3d04h"} {
		if got := spanText(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
