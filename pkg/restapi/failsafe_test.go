package restapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
)

const failsafeBody = `{"name":"pg-db-01","conn_url":"postgres://192.0.2.1:5432/postgres","api_url":"http://192.0.2.1:8008/patroni","slots":{"a":1}}`

// TestFailsafe: POST /failsafe as a member answers it (wire contract §5.7).
func TestFailsafe(t *testing.T) {
	for _, c := range []struct {
		name, member, mode, body string
		refuses                  bool
		code                     int
		text                     string
		promise                  string
	}{
		{name: "agrees", body: failsafeBody, code: 200, text: "Accepted", promise: "pg-db-01 30s"},
		{name: "without slots", body: `{"name":"a","conn_url":"b","api_url":"c"}`, code: 200, text: "Accepted", promise: "a 30s"},
		{name: "for longer", body: `{"name":"a","conn_url":"b","api_url":"c","pgha":{"ttl":60000}}`, code: 200, text: "Accepted", promise: "a 1m0s"},
		{name: "not for less", body: `{"name":"a","conn_url":"b","api_url":"c","pgha":{"ttl":1000,"new":1},"new":2}`, code: 200, text: "Accepted", promise: "a 30s"},
		{name: "not for ever", body: `{"name":"a","conn_url":"b","api_url":"c","pgha":{"ttl":9000000000000}}`, code: 400, text: "pgha.ttl"},
		{name: "negative", body: `{"name":"a","conn_url":"b","api_url":"c","pgha":{"ttl":-1}}`, code: 400, text: "pgha.ttl"},
		{name: "primary", member: "pg-db-02", body: failsafeBody, code: 500, text: "Running as a leader"},
		{name: "about to lead", refuses: true, body: failsafeBody, code: 500, text: "Running as a leader"},
		{name: "mode off", mode: "false", body: failsafeBody, code: 502, text: "Bad Gateway"},
		{name: "mode off, junk", mode: "false", body: "{", code: 502, text: "Bad Gateway"},
		{name: "no body", code: 411},
		{name: "junk", body: "{", code: 400},
		{name: "no object", body: "[]", code: 400},
		{name: "nothing in it", body: "{}", code: 400, text: "name is missing or empty"}, // of pghactl doctor
		{name: "no name", body: `{"conn_url":"b","api_url":"c"}`, code: 400, text: "name is missing or empty"},
		{name: "no conn_url", body: `{"name":"a","api_url":"c"}`, code: 400, text: "conn_url is missing or empty"},
		{name: "no api_url", body: `{"name":"a","conn_url":"b"}`, code: 400, text: "api_url is missing or empty"},
		{name: "name of another type", body: `{"name":5,"conn_url":"b","api_url":"c"}`, code: 400, text: "this is no request of a leader"},
		{name: "slots of another type", body: `{"name":"a","conn_url":"b","api_url":"c","slots":[]}`, code: 400, text: "this is no request of a leader"},
	} {
		t.Run(c.name, func(t *testing.T) {
			member, mode := c.member, c.mode
			if member == "" {
				member = "pg-db-01"
			}
			if mode == "" {
				mode = "true"
			}
			a := newAgent(t, "healthy-async", member)
			setConfig(a, `{"failsafe_mode":`+mode+`}`)
			a.refuses = c.refuses
			got := ask(newServer(t, a, Settings{}).Handler(), "POST", "/failsafe", c.body)
			if got.Code != c.code || !strings.Contains(got.Body.String(), c.text) || c.code == 200 && got.Body.String() != "Accepted" {
				t.Errorf("%d %q", got.Code, got.Body)
			}
			if lsn := got.Header().Get("lsn"); (lsn != "" && lsn != "0") != (c.code == 200) {
				t.Errorf("header lsn %q", lsn)
			}
			if c.code == 400 && c.text != "" && strings.Contains(strings.TrimSpace(got.Body.String()), "\n") {
				t.Errorf("more than one line: %q", got.Body)
			}
			var want []string
			if c.promise != "" {
				want = []string{c.promise}
			}
			if !slices.Equal(a.promise, want) {
				t.Errorf("promises %q, want %q", a.promise, want)
			}
			if events, _ := a.Events(); len(events) > 0 {
				t.Errorf("in the journal: %v", events)
			}
		})
	}
}

// TestFailsafeAccess: credentials and an allowlist count, the members' list does
// not: nobody can say who they are when it is needed.
func TestFailsafeAccess(t *testing.T) {
	for _, c := range []struct {
		name string
		set  config.RestAPI
		code int
	}{
		{"members only", config.RestAPI{AllowlistIncludeMembers: true}, 200},
		{"on the allowlist", config.RestAPI{Allowlist: []string{"192.0.2.1"}, AllowlistIncludeMembers: true}, 200},
		{"not on the allowlist", config.RestAPI{Allowlist: []string{"198.51.100.7"}, AllowlistIncludeMembers: true}, 403},
		{"no credentials", config.RestAPI{Username: "u", Password: "p"}, 401},
	} {
		a := newAgent(t, "healthy-async", "pg-db-01")
		setConfig(a, `{"failsafe_mode":true}`)
		h := newServer(t, a, Settings{RestAPI: c.set}).Handler()
		if got := ask(h, "POST", "/failsafe", failsafeBody); got.Code != c.code {
			t.Errorf("%s: %d %q", c.name, got.Code, got.Body)
		}
	}
}

func TestFailsafeShown(t *testing.T) {
	for until, want := range map[time.Duration]bool{-time.Second: false, time.Second: true} {
		a := newAgent(t, "healthy-async", "pg-db-01")
		v := *a.view
		v.FailsafeUntil = a.now.Add(until)
		a.view = &v
		h := newServer(t, a, Settings{}).Handler()
		if got := ask(h, "GET", "/patroni", ""); strings.Contains(got.Body.String(), `"failsafe_mode_is_active": true`) != want {
			t.Errorf("until %v: %s", until, got.Body)
		}
		line := map[bool]string{true: "} 1\n", false: "} 0\n"}[want]
		_, after, _ := strings.Cut(ask(h, "GET", "/metrics", "").Body.String(), "\npatroni_failsafe_mode_is_active{")
		if first, _, _ := strings.Cut(after, "\n"); !strings.HasSuffix(first+"\n", line) {
			t.Errorf("until %v: %s", until, first)
		}
	}
}

func TestClientFailsafe(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-01")
	setConfig(a, `{"failsafe_mode":true}`)
	srv := httptest.NewServer(newServer(t, a, Settings{}).Handler())
	defer srv.Close()
	c := NewClient(ClientOptions{})
	defer c.Close()
	r := FailsafeRequest{Name: "a", ConnURL: "b", APIURL: "c", PGHA: FailsafeTTL{TTL: 40000}}
	if err := c.Failsafe(context.Background(), srv.URL+"/patroni", r); err != nil || !slices.Equal(a.promise, []string{"a 40s"}) {
		t.Errorf("%v, promises %q", err, a.promise)
	}
	a.refuses = true
	if err := c.Failsafe(context.Background(), srv.URL+"/patroni", r); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("refused: %v", err)
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("Accepted\n")) }))
	defer other.Close()
	if err := c.Failsafe(context.Background(), other.URL, r); err == nil {
		t.Error("anything like it will do")
	}
}

// TestReadinessFailsafe: without a view of the cluster, a standby that agreed to
// the failsafe mode is ready (wire contract §5.3).
func TestReadinessFailsafe(t *testing.T) {
	v := &ha.View{State: "running", Role: "replica", TTL: 30 * time.Second, FailsafeUntil: 100, Known: true, Row: ha.Row{InRecovery: true, ReplicationState: "streaming"}}
	for now, want := range map[ha.Instant]int{99: 200, 100: 503} {
		if got := Readiness(nil, Facts{View: v, Now: now}); got != want {
			t.Errorf("at %d: %d", now, got)
		}
	}
}
