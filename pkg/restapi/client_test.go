package restapi

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

func TestParsePeer(t *testing.T) {
	for _, c := range []struct {
		name, doc string
		want      ha.Peer
	}{
		{"replica", `{"role":"replica","xlog":{"received_location":7,"replayed_location":5},"timeline":2}`,
			ha.Peer{Reachable: true, InRecovery: true, Position: 7, Timeline: 2, Priority: 1}},
		{"replayed more", `{"xlog":{"received_location":5,"replayed_location":7}}`, ha.Peer{Reachable: true, InRecovery: true, Position: 7, Priority: 1}},
		{"wal instead of xlog", `{"wal":{"received_location":5}}`, ha.Peer{Reachable: true, InRecovery: true, Position: 5, Priority: 1}},
		{"no positions", `{"xlog":{},"timeline":null}`, ha.Peer{Reachable: true, InRecovery: true, Priority: 1}},
		{"primary by location", `{"role":"replica","xlog":{"location":9}}`, ha.Peer{Reachable: true, Priority: 1}},
		{"primary by role", `{"role":"primary","xlog":{"location":0,"received_location":4}}`, ha.Peer{Reachable: true, Priority: 1}},
		{"3.x primary", `{"role":"master","xlog":{}}`, ha.Peer{Reachable: true, Priority: 1}},
		{"nofailover", `{"xlog":{},"tags":{"nofailover":true}}`, ha.Peer{Reachable: true, InRecovery: true, NoFailover: true}},
		{"priority", `{"xlog":{},"tags":{"failover_priority":3}}`, ha.Peer{Reachable: true, InRecovery: true, Priority: 3}},
		{"priority 0", `{"xlog":{},"tags":{"failover_priority":0}}`, ha.Peer{Reachable: true, InRecovery: true, NoFailover: true}},
		{"fault", `{"xlog":{},"pgha":{"fault":"its disk hangs"}}`, ha.Peer{Reachable: true, InRecovery: true, Priority: 1, Fault: "its disk hangs"}},
		{"watchdog", `{"xlog":{},"watchdog_failed":true}`, ha.Peer{Reachable: true, InRecovery: true, Priority: 1, WatchdogFailed: true}},
	} {
		got, err := ParsePeer([]byte(c.doc))
		if err != nil || got != c.want {
			t.Errorf("%s: %+v %v\nwant %+v", c.name, got, err, c.want)
		}
	}
	for _, doc := range []string{
		`{"role":"replica"}`, `{"xlog":null}`, `{"xlog":5}`, `{"xlog":{"received_location":null}}`, `{"xlog":{"replayed_location":null}}`,
		`{"xlog":{"location":null},"role":"primary"}`, `{"xlog":{"received_location":"7"}}`, `{"xlog":{"received_location":-1}}`,
		`{"xlog":{"received_location":1.5}}`, `{"xlog":{"received_location":18446744073709551615}}`, ``, `[]`, `<html>`, `{"xlog":{}`,
	} {
		if got, err := ParsePeer([]byte(doc)); err == nil || got != (ha.Peer{}) {
			t.Errorf("%s: taken as %+v", doc, got)
		}
	}
}

func FuzzParsePeer(f *testing.F) {
	f.Add([]byte(`{"role":"replica","xlog":{"received_location":7,"replayed_location":5},"timeline":2,"tags":{"failover_priority":"x"}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := ParsePeer(doc)
		if err != nil && p != (ha.Peer{}) {
			t.Errorf("%+v with %v", p, err)
		}
		if err == nil && (!p.Reachable || int64(p.Position) < 0 || p.InRecovery == false && p.Position != 0) {
			t.Errorf("%+v", p)
		}
	})
}

// TestMemberStatus asks a real server of ours: what we publish is what a peer
// reads.
func TestMemberStatus(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-03")
	s := start(t, a, Settings{})
	c := NewClient(ClientOptions{})
	defer c.Close()
	url := "http://" + s.Addr().String() + "/patroni"
	got, err := c.MemberStatus(t.Context(), url)
	want := ha.Peer{Reachable: true, InRecovery: true, Position: 67108864, Timeline: 1, NoFailover: true}
	if err != nil || got != want {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
	a.mu.Lock()
	if a.age != 0 {
		t.Errorf("a member that elects by it is content with a position %s old", a.age)
	}
	a.mu.Unlock()
	if resp, err := http.Get(url); err != nil || resp.Body.Close() != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	if a.age != SampleMaxAge {
		t.Errorf("everybody else gets one at most %s old", a.age)
	}
	a.fresh = false
	a.mu.Unlock()
	if got, err := c.MemberStatus(t.Context(), url); err == nil {
		t.Errorf("a node without a fresh position counts as %+v", got)
	}
	if _, err := c.MemberStatus(t.Context(), ""); err == nil {
		t.Error("a member without api_url was asked")
	}
}

func TestClientRequests(t *testing.T) {
	var seen []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, pass, _ := r.BasicAuth()
		seen = append(seen, fmt.Sprintf("%s %s %s %s:%s %s %s", r.Method, r.URL, body, user, pass, r.UserAgent(), r.Header.Get("Content-Type")))
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "answer")
	}))
	defer srv.Close()
	c := NewClient(ClientOptions{Username: "u", Password: "p", UserAgent: "Patroni/4.1.4 pgha/1"})
	defer c.Close()
	api := srv.URL + "/patroni"
	check := func(status int, text string, err error) {
		t.Helper()
		if status != http.StatusTeapot || text != "answer" || err != nil {
			t.Errorf("%d %q %v", status, text, err)
		}
	}
	check(c.Switchover(t.Context(), api, SwitchoverRequest{Leader: "a", Candidate: "b"}))
	check(c.Switchover(t.Context(), api, SwitchoverRequest{Candidate: "b"}))
	check(c.Post(t.Context(), api, "/reload", nil))
	check(c.Send(t.Context(), http.MethodPatch, api, "/config", map[string]any{"pause": nil}))
	check(c.Get(t.Context(), srv.URL+"/replica?lag=1"))
	c.Reconfigure(ClientOptions{Username: "other"})
	check(c.Post(t.Context(), api, "/reload", nil))
	const agent = "u:p Patroni/4.1.4 pgha/1 "
	want := []string{
		`POST /switchover {"leader":"a","candidate":"b"} ` + agent + "application/json",
		`POST /failover {"candidate":"b"} ` + agent + "application/json",
		`POST /reload  ` + agent,
		`PATCH /config {"pause":null} ` + agent + "application/json",
		`GET /replica?lag=1  ` + agent,
		`POST /reload  other: Go-http-client/1.1 `,
	}
	if got := strings.Join(seen, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("sent\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// TestClientSilentHost: a host that takes connections and says nothing costs no
// more than the context allows.
func TestClientSilentHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := NewClient(ClientOptions{Password: "canary"})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = c.MemberStatus(ctx, "http://"+l.Addr().String()+"/patroni")
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestClientDoesNotFollow: a redirect is an answer, not an order.
func TestClientDoesNotFollow(t *testing.T) {
	srv := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	defer srv.Close()
	c := NewClient(ClientOptions{})
	defer c.Close()
	if status, _, err := c.Get(t.Context(), srv.URL); status != http.StatusFound || err != nil {
		t.Errorf("%d %v", status, err)
	}
}

// TestAskMembers: the silent and the useless count as not reachable, and asking
// takes no longer than the slowest may.
func TestAskMembers(t *testing.T) {
	good := start(t, newAgent(t, "healthy-async", "pg-db-01"), Settings{})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	c := NewClient(ClientOptions{})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	got := c.AskMembers(ctx, []dcs.Member{
		{Name: "good", APIURL: "http://" + good.Addr().String() + "/patroni"},
		{Name: "silent", APIURL: "http://" + silent.Addr().String() + "/patroni"},
		{Name: "other", APIURL: "http://" + good.Addr().String() + "/config"},
		{Name: "without"},
	})
	if len(got) != 4 || !got["good"].Reachable || got["good"].Position != 67108864 {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"silent", "other", "without"} {
		if p, ok := got[name]; !ok || p.Reachable {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
