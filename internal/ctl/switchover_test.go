package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// fakeMember is a member's REST API: it records the request and gives one
// answer per request, the last one again and again.
type fakeMember struct {
	*httptest.Server
	answers  []answer
	requests []string // "METHOD PATH BODY"
}

type answer struct {
	status int
	text   string
}

func newFakeMember(t *testing.T, answers ...answer) *fakeMember {
	t.Helper()
	f := &fakeMember{answers: answers}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.requests = append(f.requests, fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body))
		a := f.answers[min(len(f.requests), len(f.answers))-1]
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.text)
	}))
	t.Cleanup(f.Close)
	return f
}

// clusterAt is the recorded state with every position set to lsn: the
// recordings of commands that change something were made a little later.
func clusterAt(t *testing.T, state string, lsn wal.LSN) *dcs.Cluster {
	t.Helper()
	c := recordedCluster(t, filepath.Join("testdata/golden", state))
	c.Status.Optime = lsn
	for i := range c.Members {
		m := &c.Members[i]
		m.XLogLocation = lsn
		if m.Name != c.LeaderName() {
			m.ReceiveLSN, m.ReplayLSN = lsn, lsn
		}
	}
	return c
}

const healthy = "01-healthy-async" // the leader is pg-db-02, pg-db-03 has nofailover

// TestSwitchoverMatchesPatronictl replays the recorded switchover: the table,
// the member's answer, and the table read after it.
func TestSwitchoverMatchesPatronictl(t *testing.T) {
	rec := recordings(t, "testdata/golden/switchover.txt")[0]
	member := newFakeMember(t, answer{200, `Successfully switched over to "pg-db-01"`})
	before := clusterAt(t, healthy, 0x4000060)
	before.Member("pg-db-02").APIURL = member.URL + "/patroni"

	after := clusterAt(t, healthy, 0x4000188)
	after.Leader = &dcs.Leader{Name: "pg-db-01"}
	stopped := after.Member("pg-db-02")
	stopped.State, stopped.Timeline = "stopped", 0
	stopped.XLogLocation, stopped.ReceiveLSN, stopped.ReplayLSN = 0, 0, 0
	after.Member("pg-db-01").ReplicationState = ""
	after.Member("pg-db-03").ReplicationState = ""

	fake := &fakeCluster{cluster: before}
	fake.onRead = func(n int) {
		if n == 2 {
			fake.cluster = after
		}
	}
	app := newTestApp(t, fake)
	if code := app.run(strings.Fields(rec.args)...); code != 0 {
		t.Fatalf("exit %d: %s", code, app.err.String())
	}
	if got := trim(app.out.String()); got != trim(rec.stdout) {
		t.Errorf("got\n%s\nwant\n%s", got, rec.stdout)
	}
	want := []string{`POST /switchover {"leader":"pg-db-02","candidate":"pg-db-01"}`}
	if fmt.Sprint(member.requests) != fmt.Sprint(want) {
		t.Errorf("requests %q, want %q", member.requests, want)
	}
}

// afterTable is what follows the first table of the output.
func afterTable(out string) string {
	parts := strings.SplitAfter(out, "+\n")
	return parts[len(parts)-1]
}

// TestPrompts: the questions in patronictl's words, and what the answers do.
func TestPrompts(t *testing.T) {
	const (
		primary   = "Primary [pg-db-02]: "
		candidate = "Candidate ['pg-db-01'] []: "
		when      = "When should the switchover take place (e.g. 2026-11-22T09:03 )  [now]: "
		sure      = "Are you sure you want to switchover cluster pg-ha-cluster, demoting current leader pg-db-02? [y/N]: "
		sureLater = "Are you sure you want to schedule switchover of cluster pg-ha-cluster at 2030-01-01T00:00:00+00:00, demoting current leader pg-db-02? [y/N]: "
		sureFail  = "Are you sure you want to failover cluster pg-ha-cluster, demoting current leader pg-db-02? [y/N]: "
		refused   = "Switchover failed, details: 412, no\n"
	)
	for _, tc := range []struct {
		name    string
		args    []string
		typed   []string
		code    int
		out     string
		err     string
		request string
	}{
		{
			name: "defaults", args: []string{"switchover"}, typed: []string{"\n", "\n", "\n", "y\n"},
			out: primary + candidate + when + sure + refused, request: `POST /switchover {"leader":"pg-db-02"}`,
		}, {
			name: "options answer their prompts", args: []string{"switchover", "--primary", "pg-db-02", "--candidate", "pg-db-01", "--scheduled", "now"},
			typed: []string{"maybe\n", "YES\n"}, out: sure + "Error: invalid input\n" + sure + refused,
			request: `POST /switchover {"leader":"pg-db-02","candidate":"pg-db-01"}`,
		}, {
			name: "declined", args: []string{"switchover"}, typed: []string{"\n", "pg-db-01\n", "now\n", "\n"},
			code: 1, out: primary + candidate + when + sure, err: "Error: Aborting switchover\n",
		}, {
			name: "no more input", args: []string{"switchover"}, typed: []string{"\n"},
			code: 1, out: primary + candidate, err: "Aborted!\n",
		}, {
			name: "wrong leader typed", args: []string{"switchover"}, typed: []string{"pg-db-01\n"},
			code: 1, out: primary, err: "Error: Member pg-db-01 is not the leader of cluster pg-ha-cluster\n",
		}, {
			name: "scheduled at the prompt", args: []string{"switchover"}, typed: []string{"\n", "pg-db-01\n", "2030-01-01T00:00\n", "y\n"},
			out:     primary + candidate + when + sureLater + refused,
			request: `POST /switchover {"leader":"pg-db-02","candidate":"pg-db-01","scheduled_at":"2030-01-01T00:00:00+00:00"}`,
		}, {
			name: "scheduled, declined", args: []string{"switchover", "--scheduled", "2030-01-01 00:00Z"}, typed: []string{"\n", "pg-db-01\n", "n\n"},
			code: 1, out: primary + candidate + sureLater, err: "Error: Aborting scheduled switchover\n",
		}, {
			name: "scheduled with force", args: []string{"switchover", "--scheduled", "2030-01-01T03:30:15.25+03:30", "--force"},
			out: refused, request: `POST /switchover {"leader":"pg-db-02","scheduled_at":"2030-01-01T03:30:15.250000+03:30"}`,
		}, {
			name: "no time", args: []string{"switchover", "--scheduled", "soon", "--force"}, code: 1,
			err: "Error: Unable to parse scheduled timestamp (soon). It should be in an unambiguous format (e.g. ISO 8601)\n",
		}, {
			name: "failover", args: []string{"failover"}, typed: []string{"pg-db-01\n", "y"},
			out: candidate + sureFail + "Failover failed, details: 412, no\n", request: `POST /failover {"candidate":"pg-db-01"}`,
		}, {
			name: "failover without a candidate", args: []string{"failover"}, typed: []string{"\n"},
			code: 1, out: candidate, err: "Error: Failover could be performed only to a specific candidate\n",
		}, {
			name: "failover to the leader", args: []string{"failover"}, typed: []string{"pg-db-02\n"},
			code: 1, out: candidate, err: "Error: Member pg-db-02 is already the leader of cluster pg-ha-cluster\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			member := newFakeMember(t, answer{412, "no"})
			c := clusterAt(t, healthy, 0x4000060)
			c.Member("pg-db-02").APIURL = member.URL + "/patroni"
			app := newTestApp(t, &fakeCluster{cluster: c})
			app.answer(tc.typed...)
			if code := app.run(tc.args...); code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			if got := afterTable(app.out.String()); got != tc.out {
				t.Errorf("output after the table\n got %q\nwant %q", got, tc.out)
			}
			if got := app.err.String(); got != tc.err {
				t.Errorf("stderr %q, want %q", got, tc.err)
			}
			if got := strings.Join(member.requests, "; "); got != tc.request {
				t.Errorf("requests %q, want %q", got, tc.request)
			}
		})
	}
}

// TestFailoverToAsynchronousNode: with synchronous replication on, promoting a
// node outside /sync may lose transactions, so it is asked about.
func TestFailoverToAsynchronousNode(t *testing.T) {
	member := newFakeMember(t, answer{200, `Successfully failed over to "pg-db-03"`})
	c := clusterAt(t, "05-synchronous", 0x4000300)
	c.Member("pg-db-01").APIURL = member.URL + "/patroni"
	c.Member("pg-db-03").Tags = nil
	const question = "Are you sure you want to failover to the asynchronous node pg-db-03? [y/N]: "

	app := newTestApp(t, &fakeCluster{cluster: c})
	app.answer("n\n")
	if code := app.run("failover", "--candidate", "pg-db-03"); code != 1 || afterTable(app.out.String()) != question {
		t.Errorf("exit %d, asked %q", code, afterTable(app.out.String()))
	}
	if len(member.requests) != 0 {
		t.Errorf("sent %v after a no", member.requests)
	}
	for _, args := range [][]string{
		{"failover", "--candidate", "pg-db-03", "--force"}, // force asks nothing
		{"failover", "--candidate", "pg-db-02"},            // the synchronous standby
	} {
		app := newTestApp(t, &fakeCluster{cluster: c})
		app.answer("y\n")
		if code := app.run(args...); code != 0 || strings.Contains(app.out.String(), "asynchronous") {
			t.Errorf("%v: exit %d, output %q", args, code, app.out.String())
		}
	}
}

func TestAnswersOfTheMember(t *testing.T) {
	for _, tc := range []struct {
		name     string
		answers  []answer
		out      string
		requests int
	}{
		{"accepted", []answer{{202, "Switchover scheduled"}}, "2026-11-22 08:03:57.47856 Switchover scheduled", 1},
		{"refused", []answer{{412, "leader name does not match"}}, "Switchover failed, details: 412, leader name does not match", 1},
		{"failed", []answer{{503, "Switchover failed"}}, "Switchover failed, details: 503, Switchover failed", 1},
		{"unknown", []answer{{503, "Switchover status unknown"}}, "Switchover result unknown, details: 503, Switchover status unknown", 1},
		{"old member", []answer{{501, "Unsupported"}, {200, "Successfully failed over"}}, "2026-11-22 08:03:57.47856 Successfully failed over", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			member := newFakeMember(t, tc.answers...)
			c := clusterAt(t, healthy, 0x4000060)
			c.Member("pg-db-02").APIURL = member.URL + "/patroni"
			fake := &fakeCluster{cluster: c}
			app := newTestApp(t, fake)
			if code := app.run("switchover", "--force"); code != 0 {
				t.Errorf("exit %d: %s", code, app.err.String())
			}
			if !strings.Contains(app.out.String(), "\n"+tc.out+"\n") {
				t.Errorf("no line %q in\n%s", tc.out, app.out.String())
			}
			if len(member.requests) != tc.requests || len(fake.writes) != 0 {
				t.Errorf("requests %q, writes %v", member.requests, fake.writes)
			}
		})
	}
}

// TestUnreachableMember: the order goes into etcd, and the reason is logged.
func TestUnreachableMember(t *testing.T) {
	closed := newFakeMember(t, answer{})
	closed.Close()
	for _, tc := range []struct{ name, url, action, scheduled, key string }{
		{"refused connection", closed.URL + "/patroni", actionSwitchover, "now", `{"leader":"pg-db-02","member":"pg-db-01"}`},
		{"scheduled", closed.URL + "/patroni", actionSwitchover, "2030-01-01T00:00Z", `{"leader":"pg-db-02","member":"pg-db-01","scheduled_at":"2030-01-01T00:00:00+00:00"}`},
		{"no address", "", actionFailover, "", `{"member":"pg-db-01"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := clusterAt(t, healthy, 0x4000060)
			c.Member("pg-db-02").APIURL = tc.url
			fake := &fakeCluster{cluster: c}
			app := newTestApp(t, fake)
			args := []string{tc.action, "--candidate", "pg-db-01", "--force"}
			if tc.scheduled != "" {
				args = append(args, "--scheduled", tc.scheduled)
			}
			if code := app.run(args...); code != 0 {
				t.Fatalf("exit %d: %s", code, app.err.String())
			}
			if len(fake.writes) != 1 || fake.writes[0].Key != dcs.KeyFailover || string(fake.writes[0].Value) != tc.key {
				t.Errorf("writes %v, want %s", fake.writes, tc.key)
			}
			line := "2026-11-22 08:03:57.47856 Could not " + tc.action + " using Patroni api, falling back to DCS\n+ Cluster"
			if !strings.Contains(app.out.String(), line) {
				t.Errorf("no %q in\n%s", line, app.out.String())
			}
			if !strings.Contains(app.err.String(), "2026-11-22 08:03:57,478 - WARNING - ") {
				t.Errorf("no reason in %q", app.err.String())
			}
		})
	}
}

// TestInterruptDuringSwitchover: Ctrl-C while the member works must not turn
// into a second order through etcd.
func TestInterruptDuringSwitchover(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := clusterAt(t, healthy, 0x4000060)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}))
	defer srv.Close()
	c.Member("pg-db-02").APIURL = srv.URL + "/patroni"
	fake := &fakeCluster{cluster: c}
	app := newTestApp(t, fake)
	app.ctx = ctx
	if code := app.run("switchover", "--force"); code != 1 || app.err.String() != "Aborted!\n" {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
	if len(fake.writes) != 0 {
		t.Errorf("wrote %v", fake.writes)
	}
}

// TestInterruptAtPrompt: Ctrl-C ends a prompt nobody answers.
func TestInterruptAtPrompt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	nobody, closeInput := io.Pipe()
	defer func() { _ = closeInput.Close() }()
	app := newTestApp(t, &fakeCluster{cluster: clusterAt(t, healthy, 0x4000060)})
	app.ctx, app.In = ctx, nobody
	app.Out = writerFunc(func(p []byte) (int, error) {
		if strings.HasPrefix(string(p), "Primary") {
			cancel()
		}
		return app.out.Write(p)
	})
	if code := app.run("switchover"); code != 1 || app.err.String() != "Aborted!\n" {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestListAfterSuccessFails: what was done stays done.
func TestListAfterSuccessFails(t *testing.T) {
	member := newFakeMember(t, answer{200, "Successfully switched over"})
	c := clusterAt(t, healthy, 0x4000060)
	c.Member("pg-db-02").APIURL = member.URL + "/patroni"
	fake := &fakeCluster{cluster: c}
	fake.onRead = func(n int) {
		if n == 2 {
			fake.err = dcs.ErrUnavailable
		}
	}
	app := newTestApp(t, fake)
	code := app.run("switchover", "--force")
	if code != 0 || !strings.HasSuffix(app.out.String(), " Successfully switched over\n") {
		t.Errorf("exit %d, output\n%s", code, app.out.String())
	}
	if !strings.Contains(app.err.String(), "etcd unavailable") || len(fake.writes) != 0 {
		t.Errorf("stderr %q, writes %v", app.err.String(), fake.writes)
	}
}

func TestNoLeader(t *testing.T) {
	member := newFakeMember(t, answer{200, `Successfully failed over to "pg-db-01"`})
	c := clusterAt(t, healthy, 0x4000060)
	c.Leader = nil
	c.Member("pg-db-01").APIURL = member.URL + "/patroni"
	app := newTestApp(t, &fakeCluster{cluster: c})
	if code := app.run("switchover", "--force"); code != 1 || app.err.String() != "Error: This cluster has no leader\n" {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
	// A failover goes to the candidate itself, and demotes nobody.
	app = newTestApp(t, &fakeCluster{cluster: c})
	app.answer("y\n")
	code := app.run("failover", "--candidate", "pg-db-01")
	if code != 0 || !strings.Contains(app.out.String(), "failover cluster pg-ha-cluster? [y/N]: ") {
		t.Errorf("exit %d, output %s", code, app.out.String())
	}
	if got := fmt.Sprint(member.requests); got != `[POST /failover {"candidate":"pg-db-01"}]` {
		t.Errorf("requests %s", got)
	}
}

func TestVersion(t *testing.T) {
	status, err := json.Marshal(map[string]any{"server_version": 150020, "patroni": map[string]any{"version": "4.1.4"}})
	if err != nil {
		t.Fatal(err)
	}
	good, bad := newFakeMember(t, answer{200, string(status)}), newFakeMember(t, answer{200, "<html>"})
	c := clusterAt(t, healthy, 0x4000060)
	c.Member("pg-db-01").APIURL, c.Member("pg-db-02").APIURL = good.URL+"/patroni", bad.URL+"/patroni"
	c.Member("pg-db-03").APIURL = ""
	app := newTestApp(t, &fakeCluster{cluster: c})
	if code := app.run("version", "pg-ha-cluster"); code != 0 {
		t.Fatalf("exit %d: %s", code, app.err.String())
	}
	first, rest, _ := strings.Cut(app.out.String(), "\n")
	if !strings.HasPrefix(first, "pghactl version ") || !strings.HasSuffix(first, ", compatible with patronictl 4.1.4") {
		t.Errorf("first line %q", first)
	}
	want := "\npg-db-01: Patroni 4.1.4 PostgreSQL 15.20\n" +
		"pg-db-02: failed to get version: " + bad.URL + "/patroni did not answer with a status document\n"
	if rest != want {
		t.Errorf("got %q, want %q", rest, want)
	}

	app = newTestApp(t, &fakeCluster{err: errors.New("must not be asked")})
	if code := app.run("version"); code != 0 || strings.Count(app.out.String(), "\n") != 1 {
		t.Errorf("without a cluster: exit %d, output %q", code, app.out.String())
	}
}

func TestPostgresVersion(t *testing.T) {
	for num, want := range map[int]string{90624: "9.6.24", 100023: "10.23", 170005: "17.5"} {
		if got := postgresVersion(num); got != want {
			t.Errorf("%d: got %s, want %s", num, got, want)
		}
	}
}
