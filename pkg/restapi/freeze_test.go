package restapi

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
)

// TestFreeze is POST /freeze and the question of a candidate (safety B.5).
func TestFreeze(t *testing.T) {
	for _, c := range []struct {
		name, body string
		refuses    bool
		code       int
		text       string
		asked      []int64
	}{
		{"frozen", `{"epoch":7}`, false, 200, `"promise": 8`, []int64{7}},
		{"fields of later versions", `{"epoch":7,"x":1}`, false, 200, `"received_location": 5000`, []int64{7}},
		{"no epoch known", `{}`, false, 200, `"promise": 1`, []int64{0}},
		{"not frozen in time", `{"epoch":7}`, true, 503, "not frozen", []int64{7}},
		{"a negative epoch", `{"epoch":-1}`, false, 400, "create revision", nil},
		{"no number", `{"epoch":"x"}`, false, 400, "create revision", nil},
		{"no object", `[]`, false, 400, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, "healthy-async", "pg-db-02")
			a.refuses = c.refuses
			a.sample = ha.Sample{InRecovery: true, Received: 5000, Replayed: 4000, At: 1}
			h := newServer(t, a, withAuth()).Handler()
			got := ask(h, "POST", "/freeze", c.body, func(r *http.Request) { r.SetBasicAuth("admin", "s3cret") })
			if got.Code != c.code || !strings.Contains(got.Body.String(), c.text) || !slices.Equal(a.frozenFor, c.asked) {
				t.Errorf("%d %q, asked %v", got.Code, got.Body, a.frozenFor)
			}
			if got := ask(h, "GET", "/patroni", ""); strings.Contains(got.Body.String(), "promise") {
				t.Errorf("shown to everybody: %s", got.Body)
			}
		})
	}
}

// TestFreezeAccess: without credentials, only members' addresses may ask.
func TestFreezeAccess(t *testing.T) {
	for _, c := range []struct {
		name string
		set  config.RestAPI
		from string
		code int
	}{
		{"a member", config.RestAPI{}, "192.0.2.3:1", 200},
		{"a stranger", config.RestAPI{}, "192.0.2.77:1", 403},
		{"a member that the allowlist leaves out", config.RestAPI{Allowlist: []string{"198.51.100.7"}}, "192.0.2.3:1", 403},
		{"a stranger on the allowlist", config.RestAPI{Allowlist: []string{"192.0.2.77"}}, "192.0.2.77:1", 403},
		{"no credentials", config.RestAPI{Username: "u", Password: "p"}, "192.0.2.3:1", 401},
	} {
		a := newAgent(t, "healthy-async", "pg-db-02")
		h := newServer(t, a, Settings{RestAPI: c.set}).Handler()
		got := ask(h, "POST", "/freeze", `{"epoch":7}`, func(r *http.Request) { r.RemoteAddr = c.from })
		if got.Code != c.code || (c.code == 200) != (len(a.frozenFor) == 1) {
			t.Errorf("%s: %d %q, asked %v", c.name, got.Code, got.Body, a.frozenFor)
		}
	}
}

// TestAskFrozen: what a candidate makes of the answers.
func TestAskFrozen(t *testing.T) {
	const doc = `{"role":"replica","timeline":3,"xlog":{"received_location":5000,"replayed_location":4000}`
	for _, c := range []struct {
		name   string
		status int
		answer string
		get    string
		want   ha.Peer
		fails  bool
	}{
		{"frozen", 200, doc + `,"pgha":{"promise":7}}`, "", ha.Peer{Frozen: true, Promise: 7}, false},
		{"frozen, and knew of a later leadership", 200, doc + `,"pgha":{"promise":9}}`, "", ha.Peer{Frozen: true, Promise: 9}, false},
		{"it promises less than was asked for", 200, doc + `,"pgha":{"promise":6}}`, "", ha.Peer{Promise: 6}, false},
		{"Patroni", 501, "Unsupported method", doc + "}", ha.Peer{Unaware: true}, false},
		{"it refuses", 503, "not frozen", doc + "}", ha.Peer{}, true},
		{"credentials differ", 401, "", doc + "}", ha.Peer{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					_, _ = w.Write([]byte(c.get))
					return
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.answer))
			}))
			defer srv.Close()
			client := NewClient(ClientOptions{})
			defer client.Close()
			want := c.want
			want.Reachable, want.InRecovery, want.Position, want.Timeline, want.Priority = true, true, 5000, 3, 1
			got, err := client.AskFrozen(t.Context(), srv.URL+"/patroni", 7)
			if got != want || (err != nil) != c.fails {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
		})
	}
}
