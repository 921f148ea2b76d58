package restapi

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

// TestFaultInTheStatusDocument: what is wrong with the server is told to peers
// and to Prometheus, and nothing else is changed by it.
func TestFaultInTheStatusDocument(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	h := newServer(t, a, Settings{}).Handler()
	before := ask(h, "GET", "/patroni", "").Body.String()
	if text := ask(h, "GET", "/metrics", "").Body.String(); !strings.Contains(text, "pgha_connection_failing_seconds{name=\"pg-db-02\",scope=\"pg-ha-cluster\"} 0\n") {
		t.Error("no metric while all is well")
	}
	since := a.Now().Add(-7 * time.Second)
	a.update(func(v *ha.View) {
		v.Fault = "new connections to the server get no answer"
		v.Health.WAL = ha.Check{Failing: since.Add(-time.Second), Failures: 4, Fault: ha.FaultFull}
		v.Health.Connect = ha.Check{Failing: since, Failures: 3, Fault: ha.FaultHang}
	})
	after := ask(h, "GET", "/patroni", "").Body.String()
	if want := strings.TrimSuffix(before, "}") + `, "pgha": {"fault": "new connections to the server get no answer"}}`; after != want {
		t.Errorf("got  %s\nwant %s", after, want)
	}
	if p, err := ParsePeer([]byte(after)); err != nil || p.Fault == "" || p.Limitation() == "" {
		t.Errorf("a peer reads %+v, %v", p, err)
	}
	if text := ask(h, "GET", "/metrics", "").Body.String(); !strings.Contains(text, "pgha_connection_failing_seconds{name=\"pg-db-02\",scope=\"pg-ha-cluster\"} 7\n") {
		t.Error("no metric of the fault")
	} else if !strings.Contains(text, "pgha_disk_failing_seconds{name=\"pg-db-02\",scope=\"pg-ha-cluster\"} 8\n") {
		t.Error("no metric of the disk's")
	}
}
