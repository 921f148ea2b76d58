package restapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/ha"
)

// TestCachesFollow: documents that are kept show every change at once.
func TestCachesFollow(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	h := newServer(t, a, Settings{}).Handler()
	has := func(path, part string) {
		t.Helper()
		if body := ask(h, http.MethodGet, path, "").Body.String(); !strings.Contains(body, part) {
			t.Errorf("GET %s lacks %s:\n%s", path, part, body)
		}
	}
	has("/patroni", `"xlog": {"location": 67108864}`)
	has("/metrics", `patroni_xlog_location{name="pg-db-02",scope="pg-ha-cluster"} 6.7108864e+07`)
	has("/cluster", `"name": "pg-db-02", "role": "leader"`)

	a.mu.Lock()
	a.sample.At++
	a.sample.Location++
	a.mu.Unlock()
	has("/patroni", `"xlog": {"location": 67108865}`)

	a.mu.Lock()
	a.now, a.sample.At = a.now.Add(SampleMaxAge), a.now.Add(SampleMaxAge)
	a.mu.Unlock()
	has("/metrics", `patroni_xlog_location{name="pg-db-02",scope="pg-ha-cluster"} 6.7108865e+07`)

	a.update(func(v *ha.View) { v.Paused = true })
	has("/patroni", `"pause": true`)
	if strings.Contains(ask(h, http.MethodGet, "/patroni", "").Body.String(), "watchdog") {
		t.Error("a watchdog that is well is mentioned")
	}
	a.update(func(v *ha.View) { v.WatchdogFailed = true })
	has("/patroni", `, "watchdog_failed": true`)
	has("/metrics", `patroni_is_paused{name="pg-db-02",scope="pg-ha-cluster"} 1`)

	a.mu.Lock()
	a.now = a.now.Add(a.view.TTL) // the cluster view grows too old, nothing else changes
	a.mu.Unlock()
	has("/patroni", `"cluster_unlocked": true`)
}
