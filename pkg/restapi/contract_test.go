package restapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// contractStates are the states of a member that the matrix below is about.
var contractStates = map[string]func(t *testing.T) *fakeAgent{
	"leader":  func(t *testing.T) *fakeAgent { return newAgent(t, "healthy-async", "pg-db-02") },
	"replica": func(t *testing.T) *fakeAgent { return newAgent(t, "healthy-async", "pg-db-01") },
	"nolb": func(t *testing.T) *fakeAgent { // tags: nofailover, noloadbalance
		return changed(newAgent(t, "healthy-async", "pg-db-03"), func(v *ha.View) { v.NoLoadBalance = true })
	},
	"sync":   func(t *testing.T) *fakeAgent { return newAgent(t, "synchronous", syncStandby(t, "synchronous")) },
	"quorum": func(t *testing.T) *fakeAgent { return newAgent(t, "quorum", syncStandby(t, "quorum")) },
	"paused": func(t *testing.T) *fakeAgent { return newAgent(t, "paused", "pg-db-01") },
	"sbylead": func(t *testing.T) *fakeAgent {
		a := newAgent(t, "healthy-async", "pg-db-02")
		setConfig(a, `{"standby_cluster":{"host":"192.0.2.9"}}`)
		return changed(a, func(v *ha.View) { v.Role, v.Row.InRecovery = "standby_leader", true })
	},
	"stopped": func(t *testing.T) *fakeAgent {
		return changed(newAgent(t, "healthy-async", "pg-db-01"), func(v *ha.View) { v.State, v.Role, v.Known = "stopped", "demoted", false })
	},
	"creating": func(t *testing.T) *fakeAgent {
		return changed(newAgent(t, "healthy-async", "pg-db-01"), func(v *ha.View) {
			v.State, v.Role, v.Known, v.Row, v.SystemID = "creating replica", "uninitialized", false, ha.Row{}, ""
		})
	},
	"starting": func(t *testing.T) *fakeAgent {
		return changed(newAgent(t, "healthy-async", "pg-db-01"), func(v *ha.View) { v.State, v.Known = "starting", false })
	},
	"unlocked": func(t *testing.T) *fakeAgent { // a replica of a cluster without a leader
		a := newAgent(t, "healthy-async", "pg-db-01")
		changeCluster(a, func(c *dcs.Cluster) { c.Leader = nil })
		return a
	},
	"blind": func(t *testing.T) *fakeAgent { // a leader whose etcd is silent, its deadline passed
		a := newAgent(t, "healthy-async", "pg-db-02")
		a.readErr = errors.New("silence")
		return changed(a, func(v *ha.View) { v.ClusterAt, v.AnswerUntil = testNow.Add(-time.Minute), testNow })
	},
}

func changed(a *fakeAgent, change func(*ha.View)) *fakeAgent {
	a.update(change)
	return a
}

// syncStandby is a standby named in the recorded /sync.
func syncStandby(t *testing.T, state string) string {
	t.Helper()
	c := loadCluster(t, state)
	if c.Sync == nil || len(c.Sync.Standbys) == 0 {
		t.Fatalf("%s: no standby in /sync", state)
	}
	return c.Sync.Standbys[0]
}

// contractMatrix: the status of each safe request in each state. GET, HEAD and
// OPTIONS agree, but for the paths that only GET knows (wire contract §5.1).
const contractMatrix = `
path                    leader replica nolb sync quorum paused sbylead stopped creating starting unlocked blind
/                       200    503     503  503  503    200    503     503     503      503      503      503
/primary                200    503     503  503  503    200    503     503     503      503      503      503
/master                 200    503     503  503  503    200    503     503     503      503      503      503
/read-write             200    503     503  503  503    200    503     503     503      503      503      503
/leader                 200    503     503  503  503    200    200     503     503      503      503      503
/standby-leader         503    503     503  503  503    503    200     503     503      503      503      503
/standby_leader         503    503     503  503  503    503    200     503     503      503      503      503
/replica                503    200     503  200  200    503    503     503     503      503      200      503
/replica?lag=0          503    200     503  200  200    503    503     503     503      503      200      503
/replica?tag_zone=ad3   503    503     503  503  503    503    503     503     503      503      503      503
/read-only              200    200     503  200  200    200    200     503     503      503      200      503
/read-only-sync         200    503     503  200  503    200    200     503     503      503      503      503
/read-only-synchronous  200    503     503  200  503    200    200     503     503      503      503      503
/read-only-quorum       200    503     503  503  200    200    200     503     503      503      503      503
/sync                   503    503     503  200  503    503    503     503     503      503      503      503
/synchronous            503    503     503  200  503    503    503     503     503      503      503      503
/async                  503    200     503  503  503    503    503     503     503      503      200      503
/asynchronous           503    200     503  503  503    503    503     503     503      503      200      503
/quorum                 503    503     503  503  200    503    503     503     503      503      503      503
/health                 200    200     200  200  200    200    200     503     503      503      200      200
/health?tag_zone=ad3    503    503     200  503  503    503    503     503     503      503      503      503
/nonsense               503    503     503  503  503    503    503     503     503      503      503      503
/switchover             503    503     503  503  503    503    503     503     503      503      503      503
/restart                503    503     503  503  503    503    503     503     503      503      503      503
GET:/liveness           200    200     200  200  200    200    200     200     200      200      200      200
GET:/readiness          200    200     200  200  200    200    200     503     503      503      200      503
GET:/patroni            200    200     200  200  200    200    200     200     200      200      200      200
GET:/metrics            200    200     200  200  200    200    200     200     200      200      200      200
GET:/cluster            200    200     200  200  200    200    200     200     200      200      200      503
GET:/history            200    200     200  200  200    200    200     200     200      200      200      503
GET:/config             200    200     200  200  200    200    200     200     200      200      200      503
GET:/failsafe           502    502     502  502  502    502    502     502     502      502      502      502
`

func TestContract(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(contractMatrix), "\n")
	states := strings.Fields(lines[0])[1:]
	if len(states) != len(contractStates) {
		t.Fatalf("%d states in the matrix, %d are made", len(states), len(contractStates))
	}
	for i, state := range states {
		t.Run(state, func(t *testing.T) {
			a := contractStates[state](t)
			h := newServer(t, a, Settings{}).Handler()
			for _, line := range lines[1:] {
				f := strings.Fields(line)
				want, err := strconv.Atoi(f[i+1])
				if err != nil {
					t.Fatal(err)
				}
				path, own := strings.CutPrefix(f[0], "GET:")
				checkGet(t, h, path, want, own)
				if own {
					want = http.StatusServiceUnavailable
				}
				checkBare(t, h, path, want)
				checkUnsupported(t, h, path)
			}
			if a.count() != 0 || len(a.asked) != 0 {
				t.Errorf("a safe request changed %v, asked %v", a.writes, a.asked)
			}
		})
	}
}

// checkGet: health checks carry the status document, /liveness and /readiness
// nothing at all.
func checkGet(t *testing.T, h http.Handler, path string, want int, own bool) {
	t.Helper()
	got := ask(h, http.MethodGet, path, "")
	head := got.Header()
	if got.Code != want {
		t.Errorf("GET %s: %d, want %d", path, got.Code, want)
	}
	switch {
	case path == "/liveness" || path == "/readiness":
		if len(head) != 0 || got.Body.Len() != 0 {
			t.Errorf("GET %s: more than a status line: %v %s", path, head, got.Body)
		}
		return
	case path == "/metrics":
		if !strings.HasPrefix(head.Get("Content-Type"), "text/plain") {
			t.Errorf("GET %s: type %s", path, head.Get("Content-Type"))
		}
		return
	case own && want == http.StatusBadGateway:
		if head.Get("Content-Type") != "text/html;charset=utf-8" || head.Get("Connection") != "close" {
			t.Errorf("GET %s: headers %v", path, head)
		}
		return
	case own && want == http.StatusServiceUnavailable:
		oneTextLine(t, "GET "+path, got.Body.String())
		return
	}
	if head.Get("Content-Type") != "application/json" || head.Get("Server") == "" || !json.Valid(got.Body.Bytes()) {
		t.Errorf("GET %s: %v %s", path, head, got.Body)
	}
	if !own && !strings.HasPrefix(got.Body.String(), `{"state": "`) {
		t.Errorf("GET %s: no status document: %s", path, got.Body)
	}
}

func checkBare(t *testing.T, h http.Handler, path string, want int) {
	t.Helper()
	for _, method := range []string{http.MethodHead, http.MethodOptions} {
		got := ask(h, method, path, "")
		if got.Code != want || got.Body.Len() != 0 || len(got.Header()) != 0 {
			t.Errorf("%s %s: %d %v %q, want %d and nothing else", method, path, got.Code, got.Header(), got.Body, want)
		}
	}
}

// checkUnsupported: methods that a path does not have get the page that old
// clients look for.
func checkUnsupported(t *testing.T, h http.Handler, path string) {
	t.Helper()
	has := map[string]bool{
		"PATCH /config": true, "PUT /config": true, "POST /failsafe": true, "POST /switchover": true, "DELETE /switchover": true,
		"POST /restart": true, "DELETE /restart": true,
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if has[method+" "+path] {
			continue
		}
		got := ask(h, method, path, "{}")
		if got.Code != http.StatusNotImplemented || !strings.Contains(got.Body.String(), "Server does not support this operation") {
			t.Errorf("%s %s: %d %s", method, path, got.Code, got.Body)
		}
	}
}

func oneTextLine(t *testing.T, what, body string) {
	t.Helper()
	if body == "" || strings.ContainsAny(body, "\r") || strings.Contains(strings.TrimSuffix(body, "\n"), "\n") {
		t.Errorf("%s: no line of text: %q", what, body)
	}
}

// TestContractUnsafe: what changes something, in the states that matter for it.
func TestContractUnsafe(t *testing.T) {
	const (
		move  = `{"leader":"pg-db-02"}`
		later = `{"leader":"pg-db-02","scheduled_at":"2100-01-01T00:00:00+00:00"}`
		plan  = `{"schedule":"2100-01-01T00:00:00+00:00"}`
		event = `{"type":"after_promote","group":1,"leader":"a","timeout":1,"cooldown":1}`
	)
	for _, c := range []struct {
		state, method, path, body string
		code                      int
		text                      string // of the whole body, or with ~ a part of it
		changes                   bool
	}{
		{"leader", "PATCH", "/config", `{"loop_wait":9}`, 200, `~"loop_wait": 9`, true},
		{"replica", "PATCH", "/config", `{"loop_wait":9}`, 200, `~"loop_wait": 9`, true},
		{"leader", "PATCH", "/config", `{"loop_wait":2}`, 200, `~"loop_wait": 2`, false},
		{"leader", "PATCH", "/config", `{"ttl":"x"}`, 422, "~ttl", false},
		{"blind", "PATCH", "/config", `{"loop_wait":9}`, 503, "~The server cannot process the request due to a high load", false},
		{"leader", "PUT", "/config", `{"ttl":40}`, 200, `{"ttl": 40}`, true},
		{"blind", "PUT", "/config", `{"ttl":40}`, 503, "etcd does not answer, try again later", false},
		{"leader", "POST", "/reload", "", 202, "reload scheduled", true},
		{"blind", "POST", "/reload", "", 202, "reload scheduled", true},
		{"stopped", "POST", "/reload", "{}", 202, "reload scheduled", true},
		{"leader", "POST", "/restart", "", 200, "restarted successfully", true},
		{"paused", "POST", "/restart", "{}", 200, "restarted successfully", true},
		{"paused", "POST", "/restart", plan, 500, "Can't schedule restart in the paused state", false},
		{"replica", "POST", "/restart", plan, 202, "Restart scheduled", true},
		{"blind", "POST", "/restart", "{}", 503, "etcd does not answer, try again later", false},
		{"leader", "DELETE", "/restart", "", 404, "no restarts are scheduled", false},
		{"replica", "POST", "/reinitialize", `{"force":true}`, 200, "reinitialize started", true},
		{"leader", "POST", "/switchover", later, 202, "Switchover scheduled", true},
		{"replica", "POST", "/switchover", later, 202, "Switchover scheduled", true},
		{"paused", "POST", "/switchover", later, 400, "Can't schedule switchover in the paused state", false},
		{"paused", "POST", "/switchover", move, 400, "Switchover is possible only to a specific candidate in a paused state", false},
		{"unlocked", "POST", "/switchover", move, 412, "leader name does not match", false},
		{"blind", "POST", "/switchover", move, 503, "etcd does not answer, try again later", false},
		{"leader", "POST", "/failover", move, 400, "Failover could be performed only to a specific candidate", false},
		{"leader", "POST", "/failover", `{"candidate":"nobody"}`, 412, "candidate does not exists", false},
		{"leader", "DELETE", "/switchover", "", 404, "no switchover is scheduled", false},
		{"blind", "DELETE", "/switchover", "", 503, "etcd does not answer, try again later", false},
		{"leader", "POST", "/failsafe", `{"name":"a","conn_url":"u","api_url":"v"}`, 502, "~Error code: 502", false},
		{"leader", "POST", "/sigterm", "", 202, "~no effect", false},
		{"leader", "POST", "/citus", event, 200, "OK", false},
		{"replica", "POST", "/mpp", event, 200, "OK", false},
	} {
		t.Run(c.state+" "+c.method+c.path, func(t *testing.T) {
			a := contractStates[c.state](t)
			got := ask(newServer(t, a, Settings{}).Handler(), c.method, c.path, c.body)
			same := got.Body.String() == c.text
			if part, ok := strings.CutPrefix(c.text, "~"); ok {
				same = strings.Contains(got.Body.String(), part)
			}
			if got.Code != c.code || !same {
				t.Errorf("%d %q, want %d %q", got.Code, got.Body, c.code, c.text)
			}
			if did := a.count() + len(a.asked); (did != 0) != c.changes {
				t.Errorf("changed: %v, asked %v, %d reloads, restarts %v", a.writes, a.asked, a.reloads, a.restarts)
			}
		})
	}
}

// TestBadBodies: what cannot be a request is refused with the right status, and
// changes nothing, whatever it was sent to.
func TestBadBodies(t *testing.T) {
	// The requests that read their body, with what an empty object and a field of
	// the wrong kind give.
	for _, r := range []struct {
		method, path string
		empty        int
		wrong        map[string]int
	}{
		{"PATCH", "/config", 400, map[string]int{`{"ttl":{}}`: 422, `{"postgresql":5}`: 422, `{"slots":[]}`: 422}},
		{"PUT", "/config", 400, map[string]int{`{"loop_wait":[]}`: 422}},
		{"POST", "/switchover", 400, map[string]int{`{"leader":7}`: 400, `{"leader":"pg-db-02","candidate":{}}`: 400, `{"leader":"pg-db-02","scheduled_at":7}`: 400}},
		{"POST", "/failover", 400, map[string]int{`{"candidate":[]}`: 400, `{"candidate":"nobody"}`: 412}},
		{"POST", "/restart", 200, map[string]int{`{"role":1}`: 400, `{"timeout":"long"}`: 400, `{"x":1}`: 400}},
		{"POST", "/reinitialize", 200, map[string]int{`{"force":"perhaps"}`: 400, `{"x":1}`: 400}},
		{"POST", "/backup", 400, map[string]int{`{"type":1}`: 400, `{"type":"whole"}`: 400, `{"x":1}`: 400}},
		{"POST", "/restore", 400, map[string]int{`{"type":1}`: 400, `{"x":1}`: 400}},
		{"POST", "/backup_check", 200, map[string]int{`{"x":1}`: 400}},
		{"POST", "/citus", 400, nil},
		{"POST", "/mpp", 400, nil},
	} {
		bodies := map[string]int{
			"{": 400, `{"leader"`: 400, "[]": 400, `"text"`: 400, "null": 400, "{}{}": 400, "\x00\xff": 400, "ttl=40": 400,
			strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200): 400,
			`{"a":"` + strings.Repeat("x", 10<<20) + `"}`:                 413,
		}
		for body, code := range r.wrong {
			bodies[body] = code
		}
		if r.empty != 200 {
			bodies["{}"] = r.empty
		}
		for body, code := range bodies {
			a := newAgent(t, "healthy-async", "pg-db-02")
			got := ask(newServer(t, a, Settings{}).Handler(), r.method, r.path, body)
			name := r.method + " " + r.path + " " + body[:min(len(body), 30)]
			if got.Code != code {
				t.Errorf("%s: %d %s, want %d", name, got.Code, got.Body, code)
			}
			if !strings.HasPrefix(got.Body.String(), "<!DOCTYPE HTML>") {
				oneTextLine(t, name, got.Body.String())
			}
			if a.count() != 0 || len(a.asked) != 0 {
				t.Errorf("%s changed %v, asked %v", name, a.writes, a.asked)
			}
		}
		// Without Content-Length nobody knows where a body ends.
		a := newAgent(t, "healthy-async", "pg-db-02")
		got := ask(newServer(t, a, Settings{}).Handler(), r.method, r.path, `{"ttl":40}`, func(req *http.Request) {
			req.ContentLength = -1
			req.Header.Del("Content-Length")
		})
		if got.Code != http.StatusLengthRequired || a.count() != 0 || len(a.asked) != 0 {
			t.Errorf("%s %s without a length: %d, changed %v", r.method, r.path, got.Code, a.writes)
		}
	}
}
