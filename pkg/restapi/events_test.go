package restapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// fakeEvents is a journal in memory.
type fakeEvents struct {
	events   sync.Mutex
	list     []dcs.Event
	recorded chan struct{}
}

func (f *fakeEvents) channel() chan struct{} {
	if f.recorded == nil {
		f.recorded = make(chan struct{})
	}
	return f.recorded
}

func (f *fakeEvents) Events() ([]dcs.Event, int64) {
	f.events.Lock()
	defer f.events.Unlock()
	return f.list, 3
}

func (f *fakeEvents) EventsChanged() <-chan struct{} {
	f.events.Lock()
	defer f.events.Unlock()
	return f.channel()
}

func (f *fakeEvents) Record(e dcs.Event) {
	f.events.Lock()
	defer f.events.Unlock()
	e.Run, e.Seq, e.Member = 7, int64(len(f.list)+1), "pg-db-02"
	if e.At.IsZero() {
		e.At = time.Unix(1800000000+e.Seq, 0).UTC()
	}
	f.list = append(f.list, e)
	close(f.channel())
	f.recorded = nil
}

func askEvents(t *testing.T, s *Server, query string) (int, EventsDocument, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events"+query, nil))
	var doc EventsDocument
	_ = json.Unmarshal(w.Body.Bytes(), &doc)
	return w.Code, doc, w.Body.String()
}

func TestGetEvents(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	s := newServer(t, a, Settings{})
	if code, doc, text := askEvents(t, s, ""); code != 200 || doc.Member != "pg-db-02" || !strings.Contains(text, `"events":[]`) {
		t.Errorf("an empty journal: %d %s", code, text)
	}
	for range 5 {
		a.Record(dcs.Event{Kind: dcs.EventLeader})
	}
	for query, want := range map[string]string{
		"":                                   "7-1 7-2 7-3 7-4 7-5 | 7-5",
		"?limit=2":                           "7-4 7-5 | 7-5",
		"?since=7-2":                         "7-3 7-4 7-5 | 7-5",
		"?since=7-2&limit=2":                 "7-3 7-4 | 7-4",
		"?since=6-900&limit=1":               "7-1 | 7-1",
		"?since=7-5":                         "| 7-5",
		"?since=2027-01-15T08:00:04Z":        "7-5 | 7-5",
		"?since=2027-01-15T09:00:04%2B01:00": "7-5 | 7-5",
		"?limit=0":                           "| ",
	} {
		code, doc, text := askEvents(t, s, query)
		got := ""
		for _, e := range doc.Events {
			got += e.ID() + " "
		}
		if got += "| " + doc.Cursor; code != 200 || got != want || doc.Lost != 3 {
			t.Errorf("%s: %d %q, want %q (%s)", query, code, got, want, text)
		}
	}
	for _, query := range []string{"?limit=x", "?limit=-1", "?limit=1001", "?wait=31", "?wait=1.5", "?since=gestern", "?since=7"} {
		if code, _, text := askEvents(t, s, query); code != 400 || strings.Count(text, "\n") > 1 {
			t.Errorf("%s: %d %s", query, code, text)
		}
	}
}

// TestFollowEvents: a request that waits ends with the next event, or when the
// server ends.
func TestFollowEvents(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	s := start(t, a, Settings{})
	get := func(query string) chan string {
		out := make(chan string, 1)
		go func() {
			c := NewClient(ClientOptions{})
			defer c.Close()
			_, body, err := c.Get(t.Context(), "http://"+s.Addr().String()+"/events"+query)
			if err != nil {
				body = err.Error()
			}
			out <- body
		}()
		return out
	}
	answer := get("?wait=30")
	waiting(t, s)
	a.Record(dcs.Event{Kind: dcs.EventPause, Text: "the cluster is paused"})
	if got := <-answer; !strings.Contains(got, "the cluster is paused") {
		t.Errorf("followed: %s", got)
	}
	answer = get("?since=7-1&wait=30")
	waiting(t, s)
	began := time.Now()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; !strings.Contains(got, `"cursor":"7-1"`) || time.Since(began) > 5*time.Second {
		t.Errorf("at the end of the server: %s after %s", got, time.Since(began))
	}
}

// waiting returns once a request waits for an event.
func waiting(t *testing.T, s *Server) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); len(s.follows) == 0; {
		if time.Now().After(end) {
			t.Fatal("no request waits")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestRequestsAreRecorded: who asked for what, and what was refused; no secret.
func TestRequestsAreRecorded(t *testing.T) {
	for name, tc := range map[string]struct {
		method, path, body string
		want               []string
	}{
		"a refused switchover": {"POST", "/switchover", `{"leader":"pg-db-02","candidate":"nobody"}`,
			[]string{"/POST /switchover leader=pg-db-02 candidate=nobody//alice@192.0.2.1",
				"failed/POST /switchover leader=pg-db-02 candidate=nobody/candidate does not exists (status 412)/alice@192.0.2.1"}},
		"a change of the configuration": {"PATCH", "/config", `{"ttl":25,"postgresql":{"parameters":{"x":"canary"}}}`,
			[]string{"/PATCH /config ttl postgresql//alice@192.0.2.1"}},
		"nonsense": {"PATCH", "/config", `{"ttl":`,
			[]string{"/PATCH /config//alice@192.0.2.1", "failed/PATCH /config/Bad Request (status 400)/alice@192.0.2.1"}},
		"fields nobody knows":   {"POST", "/restart", `{"password":"canary","role":"replica"}`, nil},
		"the failsafe question": {"POST", "/failsafe", `{"name":"n2"}`, []string{}},
		"a question":            {"GET", "/patroni", "", []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, "healthy-async", "pg-db-02")
			s := newServer(t, a, Settings{RestAPI: config.RestAPI{Username: "alice", Password: config.Secret("canary")}})
			req := httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, strings.NewReader(tc.body))
			if tc.body != "" {
				req.Header.Set("Content-Length", "1")
			}
			req.SetBasicAuth("alice", "canary")
			s.Handler().ServeHTTP(httptest.NewRecorder(), req)
			var got []string
			for _, e := range a.list {
				got = append(got, string(e.State)+"/"+e.Text+"/"+e.Error+"/"+e.By)
			}
			all := strings.Join(got, "\n")
			if strings.Contains(all, "canary") {
				t.Errorf("a secret is in the journal: %s", all)
			}
			if tc.want != nil && all != strings.Join(tc.want, "\n") {
				t.Errorf("recorded\n%s\nwant\n%s", all, strings.Join(tc.want, "\n"))
			}
			if tc.want == nil && !strings.Contains(all, "POST /restart role=replica") {
				t.Errorf("recorded %s", all)
			}
		})
	}
}

// TestRequestsWithoutPasswordAreNotRecorded: nobody fills the journal from outside.
func TestRequestsWithoutPasswordAreNotRecorded(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	s := newServer(t, a, Settings{RestAPI: config.RestAPI{Username: "alice", Password: config.Secret("secret")}})
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/reload", nil))
	if w.Code != 401 || len(a.list) != 0 {
		t.Errorf("%d, recorded %v", w.Code, a.list)
	}
}

func FuzzEventsQuery(f *testing.F) {
	for _, q := range []string{"", "limit=5&since=7-2&wait=3", "since=2026-01-31T12:00:00Z", "limit=99999999999999999999"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := readEventsQuery(values)
		if err != nil {
			return
		}
		if got := q.pick(make([]dcs.Event, 20)); len(got) > q.limit || q.wait > eventsWait {
			t.Errorf("%q: %d events of %d, wait %s", text, len(got), q.limit, q.wait)
		}
	})
}
