package restapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

func refuseJit(a *fakeAgent) {
	a.bad = []config.Problem{{File: "/config", Path: "postgresql.parameters.jit", Message: "PostgreSQL says no", Severity: config.Error}}
}

func TestConfigRequests(t *testing.T) {
	const doc = `{"ttl": 30, "loop_wait": 2, "retry_timeout": 10, "maximum_lag_on_failover": 1048576, "postgresql": {"use_pg_rewind": true, "use_slots": true, "parameters": {"wal_log_hints": "on", "max_connections": 100, "wal_keep_size": "256MB"}}}`
	for _, c := range []struct {
		name, method, body string
		change             func(*fakeAgent)
		code               int
		text               string // the whole answer, or "~part" of it
		writes             int
	}{
		{"patch", "PATCH", `{"ttl":40,"pause":true}`, nil, 200, strings.Replace(strings.Replace(doc, "30", "40", 1), "}}}", `}}, "pause": true}`, 1), 1},
		{"patch deletes", "PATCH", `{"postgresql":null}`, nil, 200, `{"ttl": 30, "loop_wait": 2, "retry_timeout": 10, "maximum_lag_on_failover": 1048576}`, 1},
		{"patch that changes nothing", "PATCH", `{"loop_wait":2}`, nil, 200, doc, 0},
		{"patch with nonsense", "PATCH", `{"ttl":"x"}`, nil, 422, "~ttl", 0},
		{"patch a section with a number", "PATCH", `{"postgresql":5}`, nil, 422, "~postgresql", 0},
		{"patch without object", "PATCH", `[1]`, nil, 400, "~Error code: 400", 0},
		{"patch with an empty object", "PATCH", `{}`, nil, 400, "~Error code: 400", 0},
		{"patch with half an object", "PATCH", `{"a":`, nil, 400, "~Error code: 400", 0},
		{"patch, key missing", "PATCH", `{"ttl":40}`, func(a *fakeAgent) { changeCluster(a, func(c *dcs.Cluster) { c.Config = nil }) }, 503, "~Error code: 503", 0},
		{"patch, lost race", "PATCH", `{"ttl":40}`, func(a *fakeAgent) { a.putErr = dcs.ErrConflict }, 409, "~Error code: 409", 0},
		{"patch, etcd silent", "PATCH", `{"ttl":40}`, func(a *fakeAgent) { a.readErr = dcs.ErrUnavailable }, 503, "~Error code: 503", 0},
		{"patch a document spoilt before", "PATCH", `{"pause":true}`, func(a *fakeAgent) { setConfig(a, `{"ttl":"x"}`) }, 200, `{"ttl": "x", "pause": true}`, 1},
		{"patch with what PostgreSQL refuses", "PATCH", `{"postgresql":{"parameters":{"jit":"perhaps"}}}`, refuseJit, 422, "/config: postgresql.parameters.jit: PostgreSQL says no", 0},
		{"put what PostgreSQL refuses", "PUT", `{"postgresql":{"parameters":{"jit":"perhaps"}}}`, refuseJit, 422, "/config: postgresql.parameters.jit: PostgreSQL says no", 0},
		{"put", "PUT", `{"ttl": 25,"b":1.0}`, nil, 200, `{"ttl": 25, "b": 1.0}`, 1},
		{"put the same", "PUT", doc, nil, 200, doc, 0},
		{"put nonsense", "PUT", `{"loop_wait":"x"}`, nil, 422, "~loop_wait", 0},
		{"put fails", "PUT", `{"ttl":25}`, func(a *fakeAgent) { a.putErr = dcs.ErrUnavailable }, 502, "~Error code: 502", 0},
		{"get without key", "GET", "", func(a *fakeAgent) { changeCluster(a, func(c *dcs.Cluster) { c.Config = nil }) }, 502, "~Error code: 502", 0},
		{"get without a current view", "GET", "", func(a *fakeAgent) { a.now = testNow.Add(a.view.TTL) }, 503, "~etcd does not answer", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, "healthy-async", "pg-db-02")
			if c.change != nil {
				c.change(a)
			}
			h := newServer(t, a, Settings{}).Handler()
			got := ask(h, c.method, "/config", c.body)
			part, isPart := strings.CutPrefix(c.text, "~")
			text := got.Body.String()
			if got.Code != c.code || isPart && !strings.Contains(text, part) || !isPart && text != c.text {
				t.Errorf("%d %s\nwant %d %s", got.Code, text, c.code, c.text)
			}
			if strings.Contains(text, "\n") && !strings.HasPrefix(text, "<!DOCTYPE") {
				t.Errorf("more than one line: %q", text)
			}
			if len(a.writes) != c.writes {
				t.Errorf("wrote %v", a.writes)
			}
			if c.writes > 0 {
				if again := ask(h, http.MethodGet, "/config", "").Body.String(); again != text {
					t.Errorf("GET afterwards shows %s", again)
				}
			}
		})
	}
}

func TestBodyLimits(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	h := newServer(t, a, Settings{}).Handler()
	chunked := func(r *http.Request) { r.ContentLength = -1; r.Header.Del("Content-Length") }
	if got := ask(h, "PATCH", "/config", `{"ttl":40}`, chunked); got.Code != http.StatusLengthRequired {
		t.Errorf("without Content-Length: %d", got.Code)
	}
	if got := ask(h, "POST", "/switchover", ""); got.Code != http.StatusLengthRequired {
		t.Errorf("without body: %d", got.Code)
	}
	big := `{"a":"` + strings.Repeat("x", maxBodyBytes) + `"}`
	if got := ask(h, "PATCH", "/config", big); got.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("body over the limit: %d", got.Code)
	}
	deep := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	if got := ask(h, "PUT", "/config", deep); got.Code != http.StatusBadRequest {
		t.Errorf("deep body: %d", got.Code)
	}
	if a.count() != 0 {
		t.Errorf("wrote %v", a.writes)
	}
}

func TestSmallRequests(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	h := newServer(t, a, Settings{}).Handler()
	if got := ask(h, "POST", "/reload", ""); got.Code != 202 || a.reloads != 1 || got.Body.String() != "reload scheduled" {
		t.Errorf("reload: %d %q, %d reloads", got.Code, got.Body, a.reloads)
	}
}

// TestFirstSegmentSelects: what follows the first segment does not matter to
// the named endpoints, and leading slashes are dropped.
func TestFirstSegmentSelects(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	h := newServer(t, a, Settings{}).Handler()
	for target, want := range map[string]int{
		"/patroni/x/y": 200, "/cluster/": 200, "/config/a": 200, "//history": 200, "/metrics/x": 200, "/liveness/primary": 200,
		"/Patroni": 503, "/xpatroni": 503, "/x/patroni": 503, "/x/primary": 200, "/p%61troni": 503,
	} {
		if got := ask(h, http.MethodGet, target, ""); got.Code != want {
			t.Errorf("GET %s: %d, want %d", target, got.Code, want)
		}
	}
	if got := ask(h, "POST", "/reload/now", ""); got.Code != 202 {
		t.Errorf("POST /reload/now: %d", got.Code)
	}
}
