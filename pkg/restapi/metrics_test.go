package restapi

import (
	"testing"

	"github.com/pgha/pgha/pkg/ha"
)

// TestMetricsOfStates: what dashboards and alerts see of a server that is not
// simply running (wire contract §5.5); "" is a metric that is not there.
func TestMetricsOfStates(t *testing.T) {
	const (
		streams, archive = "patroni_postgres_streaming", "patroni_postgres_in_archive_recovery"
		state, running   = "patroni_postgres_state", "patroni_postgres_running"
		version, started = "patroni_postgres_server_version", "patroni_postmaster_start_time"
		primary, replica = "patroni_primary", "patroni_replica"
		received         = "patroni_xlog_received_location"
	)
	for name, c := range map[string]struct {
		node   string
		change func(*fakeAgent, *ha.View)
		want   map[string]string
	}{
		"streaming replica": {"pg-db-01", nil, map[string]string{
			streams: "1", archive: "0", state: "5", running: "1", version: "150020", primary: "0", replica: "1",
		}},
		"fed from the archive": {"pg-db-01", func(a *fakeAgent, v *ha.View) {
			v.Row.ReplicationState = "in archive recovery"
			a.sample, a.fresh = ha.Sample{InRecovery: true, Replayed: 77, At: testNow}, true
		}, map[string]string{streams: "0", archive: "1", received: "77"}},
		"primary": {"pg-db-02", nil, map[string]string{streams: "0", archive: "0", primary: "1", replica: "0", received: "0"}},
		"query failed": {"pg-db-01", func(a *fakeAgent, v *ha.View) { v.Known, a.fresh = false, false }, map[string]string{
			streams: "", archive: "", state: "-1", running: "0", version: "0", replica: "1",
		}},
		"stopped": {"pg-db-01", func(_ *fakeAgent, v *ha.View) { v.State, v.Known, v.PostmasterStartTime = "stopped", false, "" }, map[string]string{
			streams: "", archive: "", state: "12", running: "0", version: "0", started: "0",
		}},
		"creating replica": {"pg-db-01", func(_ *fakeAgent, v *ha.View) {
			v.State, v.Role, v.Known, v.ServerVersion = "creating replica", "uninitialized", false, 0
		}, map[string]string{streams: "", state: "4", running: "0", primary: "0", replica: "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, "healthy-async", c.node)
			if c.change != nil {
				a.update(func(v *ha.View) { c.change(a, v) })
			}
			got := parseMetrics(ask(newServer(t, a, Settings{}).Handler(), "GET", "/metrics", "").Body.String())
			for metric, want := range c.want {
				if got[metric][1] != want {
					t.Errorf("%s is %q, want %q", metric, got[metric][1], want)
				}
			}
		})
	}
}
