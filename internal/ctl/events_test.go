package ctl

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

// happened is an event of member some minutes before testNow.
func happened(member string, seq int64, minutes int, text string) dcs.Event {
	return dcs.Event{Run: 7, Seq: seq, At: testNow.Add(-time.Duration(minutes) * time.Minute).Truncate(time.Millisecond), Member: member, Kind: dcs.EventNotice, Text: text}
}

func withRing(c *dcs.Cluster, list ...dcs.Event) *dcs.Cluster {
	c.Events = &dcs.EventRing{Raw: (*dcs.EventRing)(nil).With(list)}
	return c
}

func journalOf(t *testing.T, member string, list ...dcs.Event) answer {
	t.Helper()
	cursor := ""
	if len(list) > 0 {
		cursor = list[len(list)-1].ID()
	}
	return answer{200, encoded(t, restapi.EventsDocument{Member: member, Events: append([]dcs.Event{}, list...), Cursor: cursor})}
}

func TestEvents(t *testing.T) {
	request := happened("pg-db-02", 1, 9, "POST /switchover leader=pg-db-02")
	request.By = "alice@192.0.2.7"
	stop := happened("pg-db-02", 2, 8, "stopped the primary")
	stop.Cause, stop.Seconds = "handing the leadership over: stopping the server", 0.4321
	promote := happened("pg-db-01", 1, 7, "is the primary, on timeline 4")
	promote.Seconds, promote.Phases = 0.9, []dcs.EventPhase{{Name: "no leader", Seconds: 0.5}, {Name: "promotion", Seconds: 0.4}}
	gone := happened("pg-db-03", 5, 20, "could not start")
	gone.Error = "no space"

	first := newFakeMember(t, journalOf(t, "pg-db-01", promote))
	second := newFakeMember(t, journalOf(t, "pg-db-02", request, stop))
	silent := newFakeMember(t, answer{500, "out of order"})
	apis := map[string]*fakeMember{"pg-db-01": first, "pg-db-02": second, "pg-db-03": silent}

	for _, tc := range []struct {
		args string
		want string
	}{
		{"", "could not start: no space|POST /switchover leader=pg-db-02|stopped the primary|is the primary, on timeline 4"},
		{"-n 2", "stopped the primary|is the primary, on timeline 4"},
		{"--member pg-db-03 --member pg-db-01", "could not start: no space|is the primary, on timeline 4"},
		{"--since 8m30s", "stopped the primary|is the primary, on timeline 4"},
		{"--since 2026-11-22T07:55:30Z", "stopped the primary|is the primary, on timeline 4"},
		{"--member nobody", ""},
	} {
		app := newTestApp(t, &fakeCluster{cluster: withRing(asking(t, apis), gone, stop)})
		code := app.run(append([]string{"events", "--format", "tsv"}, strings.Fields(tc.args)...)...)
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(app.out.String()), "\n")[min(1, len(app.out.String())):] {
			got = append(got, strings.Split(line+"\t\t\t", "\t")[2])
		}
		if strings.Join(got, "|") != tc.want || (code == 0) != (tc.want != "") {
			t.Errorf("events %s: exit %d\n got %s\nwant %s", tc.args, code, strings.Join(got, "|"), tc.want)
		}
		if tc.want != "" && !strings.Contains(app.err.String(), "Warning: pg-db-03 does not answer, of its events only those in etcd are shown: member pg-db-03: out of order (status 500)") {
			t.Errorf("stderr: %s", app.err.String())
		}
	}

	app := newTestApp(t, &fakeCluster{cluster: withRing(asking(t, apis), gone)})
	app.run("events", "-e")
	const table = `+-------------------------+----------+----------------------------------+--------------------------------------------------+---------+---------------------------------+
| Time                    | Member   | What                             | Why                                              | Seconds | Where the time went             |
+-------------------------+----------+----------------------------------+--------------------------------------------------+---------+---------------------------------+
| 2026-11-22 07:43:57.478 | pg-db-03 | could not start: no space        |                                                  |         |                                 |
| 2026-11-22 07:54:57.478 | pg-db-02 | POST /switchover leader=pg-db-02 | asked for by alice@192.0.2.7                     |         |                                 |
| 2026-11-22 07:55:57.478 | pg-db-02 | stopped the primary              | handing the leadership over: stopping the server |   0.432 |                                 |
| 2026-11-22 07:56:57.478 | pg-db-01 | is the primary, on timeline 4    |                                                  |   0.900 | no leader 0.500, promotion 0.400 |
`
	for i, line := range strings.Split(table, "\n")[3:7] {
		if got := strings.Split(app.out.String(), "\n")[3+i]; strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(line), " ") {
			t.Errorf("line %d\n got %s\nwant %s", i, got, line)
		}
	}

	app = newTestApp(t, &fakeCluster{cluster: withRing(asking(t, apis), gone)})
	app.run("events", "--format", "json")
	var list []dcs.Event
	if err := json.Unmarshal(app.out.Bytes(), &list); err != nil || len(list) != 4 || list[3].Phases[1].Seconds != 0.4 {
		t.Errorf("json: %v %s", err, app.out.String())
	}
}

// TestEventsPatroni: a member that keeps no journal is passed over in silence.
func TestEventsPatroni(t *testing.T) {
	patroni := newFakeMember(t, answer{503, patroniStatus})
	app := newTestApp(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-01": patroni})})
	if code := app.run("events", "--format", "json"); code != 0 || app.out.String() != "[]\n" || app.err.Len() != 0 {
		t.Errorf("exit %d, %s%s", code, app.out.String(), app.err.String())
	}
}

// TestEventsWithoutEtcd: the member of this host is asked; without one, it is an error.
func TestEventsWithoutEtcd(t *testing.T) {
	member := newFakeMember(t, journalOf(t, "me", happened("me", 1, 1, "etcd cannot be reached")))
	app := newTestApp(t, &fakeCluster{err: dcs.ErrUnavailable})
	if code := app.run("events"); code != 1 || !strings.Contains(app.err.String(), "cannot read cluster pg-ha-cluster in etcd") {
		t.Errorf("exit %d, %s", code, app.err.String())
	}
	app = newTestApp(t, &fakeCluster{err: dcs.ErrUnavailable})
	address := strings.TrimPrefix(member.URL, "http://")
	app.Environ = append(app.Environ, "PATRONI_NAME=me", "PATRONI_RESTAPI_LISTEN="+address, "PATRONI_RESTAPI_CONNECT_ADDRESS="+address)
	if code := app.run("events"); code != 0 || !strings.Contains(app.out.String(), "etcd cannot be reached") || !strings.Contains(app.err.String(), "asking the member of this host alone") {
		t.Errorf("exit %d, %s%s", code, app.out.String(), app.err.String())
	}
}

// TestEventsOfNobodyHeard: with etcd and the member silent there is no list of no
// events, but an error.
func TestEventsOfNobodyHeard(t *testing.T) {
	app := newTestApp(t, &fakeCluster{err: dcs.ErrUnavailable})
	app.Environ = append(app.Environ, "PATRONI_NAME=me", "PATRONI_RESTAPI_LISTEN=127.0.0.1:1", "PATRONI_RESTAPI_CONNECT_ADDRESS=127.0.0.1:1")
	if code := app.run("events"); code != 1 || app.out.Len() != 0 || !strings.Contains(app.err.String(), "Error: cannot read cluster pg-ha-cluster in etcd") {
		t.Errorf("exit %d, %s%s", code, app.out.String(), app.err.String())
	}
}

func TestEventsBadOptions(t *testing.T) {
	for _, args := range []string{"-n 0", "-n 1001", "--since gestern", "--since -1h", "--format xml"} {
		app := newTestApp(t, &fakeCluster{cluster: &dcs.Cluster{}})
		if code := app.run(append([]string{"events"}, strings.Fields(args)...)...); code != 2 || strings.Count(app.err.String(), "\n") != 1 {
			t.Errorf("%s: exit %d, %s", args, code, app.err.String())
		}
	}
}

// TestEventsOfNobody: a cluster that is not there is not waited for, and who
// meant a format by -f is told.
func TestEventsOfNobody(t *testing.T) {
	for args, want := range map[string]string{
		"nowhere": "Error: there is no cluster nowhere in etcd\n",
		"-f json": "Error: there is no cluster json in etcd; -f follows the events, a format is given with --format json\n",
	} {
		app := newTestApp(t, &fakeCluster{cluster: &dcs.Cluster{}})
		if code := app.run(append([]string{"events"}, strings.Fields(args)...)...); code != 1 || app.err.String() != want {
			t.Errorf("%s: exit %d, %s", args, code, app.err.String())
		}
	}
}

// TestEventsFollow: what a member and what the ring bring is shown once.
func TestEventsFollow(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked atomic.Int32
	member := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) {
		case 1:
			_, _ = w.Write([]byte(journalOf(t, "pg-db-01", happened("pg-db-01", 1, 5, "one")).text))
		case 2:
			if since := r.URL.Query().Get("since"); since != "7-1" || r.URL.Query().Get("wait") == "" {
				t.Errorf("asked with %s", r.URL.RawQuery)
			}
			_, _ = w.Write([]byte(journalOf(t, "pg-db-01", happened("pg-db-01", 2, 4, "two"), happened("pg-db-01", 3, 3, "three")).text))
		default:
			<-r.Context().Done()
		}
	}))
	defer member.Close()
	c := asking(t, nil)
	c.Member("pg-db-01").APIURL = member.URL + "/patroni"
	fake := &fakeCluster{cluster: c}
	fake.onRead = func(n int) {
		if n == 3 {
			next := *c
			fake.cluster = withRing(&next, happened("pg-db-01", 2, 4, "two"), happened("pg-db-09", 1, 1, "four"))
		}
		if n == 60 {
			cancel()
		}
	}
	app := newTestApp(t, fake)
	app.ctx, app.pollPeriod = ctx, 20*time.Millisecond
	if code := app.run("events", "-f"); code != 0 {
		t.Errorf("exit %d, %s", code, app.err.String())
	}
	for _, text := range []string{"one", "two", "three", "four"} {
		if strings.Count(app.out.String(), text) != 1 {
			t.Errorf("%s is shown %d times:\n%s", text, strings.Count(app.out.String(), text), app.out.String())
		}
	}
}
