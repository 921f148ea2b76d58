package restapi

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pgha/pgha/pkg/ha"
)

// TestRecordedAnswers compares every recorded safe request of several cluster
// states with ours: status code, type, and the body byte for byte.
func TestRecordedAnswers(t *testing.T) {
	for _, state := range []string{"healthy-async", "after-switchover", "pending-restart", "paused", "synchronous", "quorum", "member-stopped", "etcd-frozen"} {
		for _, node := range []string{"pg-db-01", "pg-db-02", "pg-db-03"} {
			if state == "member-stopped" && node == "pg-db-02" {
				continue // the one that is stopped
			}
			t.Run(state+"/"+node, func(t *testing.T) {
				var answers []recorded
				load(t, &answers, state, "rest-"+node+".json")
				a := newAgent(t, state, node)
				if state == "etcd-frozen" {
					a.update(func(v *ha.View) { v.ClusterAt, v.FailsafeUntil = testNow.Add(-time.Minute), testNow.Add(time.Minute) })
				}
				if m := a.view.Cluster.Member(node); len(m.ScheduledRestart) > 0 {
					a.update(func(v *ha.View) { v.ScheduledRestart = withoutStart(t, m.ScheduledRestart) })
				}
				s := newServer(t, a, Settings{})
				for _, want := range answers {
					compare(t, a, s, want)
				}
			})
		}
	}
}

// withoutStart is a scheduled restart as the status document shows it.
func withoutStart(t *testing.T, doc []byte) []byte {
	t.Helper()
	before, _, ok := bytes.Cut(doc, []byte(`,"postmaster_start_time"`))
	if !ok {
		t.Fatalf("no start in %s", doc)
	}
	return append(slices.Clone(before), '}')
}

func compare(t *testing.T, a *fakeAgent, s *Server, want recorded) {
	t.Helper()
	isStatus := strings.HasPrefix(want.Body, `{"state"`)
	if isStatus {
		a.complete(t, want.Body)
	}
	got := ask(s.Handler(), want.Method, want.Path, "")
	name := want.Method + " " + want.Path
	if want.Error != "" { // Patroni closed the connection: etcd did not answer
		if got.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: status %d", name, got.Code)
		}
		return
	}
	if got.Code != want.Status {
		t.Errorf("%s: status %d, recorded %d", name, got.Code, want.Status)
	}
	kind := want.Headers["Content-Type"]
	if want.Path == "/metrics" && want.Method == http.MethodGet {
		if !strings.HasPrefix(got.Header().Get("Content-Type"), kind) {
			t.Errorf("%s: type %q, recorded %q", name, got.Header().Get("Content-Type"), kind)
		}
		compareMetrics(t, got.Body.String(), want.Body)
		return
	}
	if got.Header().Get("Content-Type") != kind {
		t.Errorf("%s: type %q, recorded %q", name, got.Header().Get("Content-Type"), kind)
	}
	if got.Body.String() != want.Body {
		t.Errorf("%s:\n got %s\nwant %s", name, got.Body, want.Body)
	}
}

// compareMetrics compares types and, where the recording shows the same moment,
// values. Label order and the form of numbers are Prometheus's own affair.
func compareMetrics(t *testing.T, got, want string) {
	t.Helper()
	ours := scraped(t, got)
	for name, w := range scraped(t, want) {
		g, ok := ours[name]
		if !ok {
			t.Errorf("metrics: %s is missing", name)
			continue
		}
		if g.GetType() != w.GetType() {
			t.Errorf("metrics: %s is a %s, recorded %s", name, g.GetType(), w.GetType())
		}
		if !strings.HasPrefix(g.GetHelp(), w.GetHelp()) {
			t.Errorf("metrics: help of %s is %q, recorded %q", name, g.GetHelp(), w.GetHelp())
		}
		if len(g.Metric) != 1 || len(w.Metric) != 1 || !sameLabels(g.Metric[0], w.Metric[0]) {
			t.Errorf("metrics: %s is %v, recorded %v", name, g.Metric, w.Metric)
			continue
		}
		moves := strings.Contains(name, "time") && name != "patroni_postgres_timeline" ||
			strings.Contains(name, "xlog") || strings.Contains(name, "last_seen")
		if g, w := sampleOf(g.Metric[0]), sampleOf(w.Metric[0]); !moves && g != w {
			t.Errorf("metrics: %s %v, recorded %v", name, g, w)
		}
	}
}

// scraped reads the text format as Prometheus does.
func scraped(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil || len(families) == 0 {
		t.Fatalf("%v in\n%s", err, text)
	}
	return families
}

func sampleOf(m *dto.Metric) float64 { return m.GetGauge().GetValue() + m.GetCounter().GetValue() }

func sameLabels(a, b *dto.Metric) bool {
	labels := func(m *dto.Metric) map[string]string {
		out := map[string]string{}
		for _, l := range m.Label {
			out[l.GetName()] = l.GetValue()
		}
		return out
	}
	return maps.Equal(labels(a), labels(b))
}

// parseMetrics gives type and value text by name.
func parseMetrics(text string) map[string][2]string {
	out := map[string][2]string{}
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) == 4 && f[1] == "TYPE":
			out[f[2]] = [2]string{f[3], ""}
		case len(f) == 2 && f[0] != "#":
			name, _, _ := strings.Cut(f[0], "{")
			out[name] = [2]string{out[name][0], f[1]}
		}
	}
	return out
}

// TestRecordedRefusals replays recorded requests that Patroni refused.
func TestRecordedRefusals(t *testing.T) {
	var answers []recorded
	load(t, &answers, "refused.json")
	n := 0
	for _, want := range answers {
		// The recorder's cluster had pg-db-02 as leader; what we answer
		// otherwise on purpose is tested on its own.
		if want.Node != "leader" || want.Error != "" || deviates(want) {
			continue
		}
		n++
		a := newAgent(t, "healthy-async", "pg-db-02")
		a.peers["pg-db-03"] = ha.Peer{Reachable: true, NoFailover: true}
		s := newServer(t, a, Settings{})
		got := ask(s.Handler(), want.Method, want.Path, string(want.Request))
		name := want.Method + " " + want.Path + " " + string(want.Request)
		body := got.Body.String()
		if strings.HasSuffix(want.Body, "no good candidates have been found") { // we add why
			body = strings.TrimSuffix(body, " (pg-db-03: tagged nofailover)")
		}
		if got.Code != want.Status || body != want.Body {
			t.Errorf("%s: %d %s\nrecorded %d %s", name, got.Code, got.Body, want.Status, want.Body)
		}
		if got.Header().Get("Content-Type") != want.Headers["Content-Type"] || got.Header().Get("Connection") != want.Headers["Connection"] {
			t.Errorf("%s: headers %v, recorded %v", name, got.Header(), want.Headers)
		}
		if a.count() != 0 {
			t.Errorf("%s: changed %v", name, a.writes)
		}
	}
	if n < 15 {
		t.Errorf("compared %d requests only", n)
	}
}

func deviates(r recorded) bool {
	switch {
	case r.Path == "/reinitialize": // the agent's to answer
		return true
	case r.Method == http.MethodPatch:
		return true // nonsense is refused
	case r.Path == "/failover" && strings.Contains(string(r.Request), "pg-db-02"):
		return true // candidate is the leader: 412 at once
	}
	return false
}

func TestStatusDocumentStates(t *testing.T) {
	const tail = `"database_system_identifier": "7710903353966102417", "patroni": {"version": "4.1.4", "scope": "pg-ha-cluster", "name": "pg-db-02"}}`
	for name, c := range map[string]struct {
		change func(*fakeAgent, *ha.View)
		want   string
	}{
		"stopped": {func(a *fakeAgent, v *ha.View) {
			v.State, v.Role, v.Known, v.Leading, v.ClusterAt = "stopped", "demoted", false, false, 1
			a.fresh = true // a leftover sample is not published
		}, `{"state": "stopped", "role": "demoted", "cluster_unlocked": true, "dcs_last_seen": 1767225600, ` + tail},
		"query failed": {func(a *fakeAgent, v *ha.View) { v.Known, a.fresh = false, false },
			`{"state": "unknown", "role": "primary", "dcs_last_seen": 1767225600, ` + tail},
		"creating replica": {func(a *fakeAgent, v *ha.View) {
			v.State, v.Role, v.Known, a.fresh, v.SystemID = "creating replica", "uninitialized", false, false, ""
		}, `{"state": "creating replica", "role": "uninitialized", "dcs_last_seen": 1767225600, ` + strings.SplitN(tail, ", ", 2)[1]},
		"no position in time": {func(a *fakeAgent, _ *ha.View) { a.fresh = false },
			`{"state": "running", "role": "primary", "server_version": 150020, "timeline": 1, "dcs_last_seen": 1767225600, ` + tail},
		"replay from the archive": {func(a *fakeAgent, v *ha.View) {
			v.Row = ha.Row{InRecovery: true, ReplicationState: "in archive recovery"}
			a.sample = ha.Sample{InRecovery: true, Replayed: 5, ReplayPaused: true, At: testNow}
		}, `{"state": "running", "role": "replica", "server_version": 150020, "xlog": {"received_location": 5, "replayed_location": 5, "replayed_timestamp": null, "paused": true}, "timeline": null, "replication_state": "in archive recovery", "dcs_last_seen": 1767225600, ` + tail},
		"promoted since the last turn": {func(a *fakeAgent, v *ha.View) {
			v.Row.InRecovery = true
			a.sample = ha.Sample{Location: 7, At: testNow}
		}, `{"state": "running", "role": "primary", "server_version": 150020, "xlog": {"location": 7}, "timeline": 1, "dcs_last_seen": 1767225600, ` + tail},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, "healthy-async", "pg-db-02")
			s := newServer(t, a, Settings{})
			a.update(func(v *ha.View) {
				v.DCSLastSeen = time.Unix(1767225600, 0)
				c.change(a, v)
			})
			got := ask(s.Handler(), http.MethodGet, "/patroni", "")
			if got.Code != http.StatusOK || got.Body.String() != c.want {
				t.Errorf("%d\n got %s\nwant %s", got.Code, got.Body, c.want)
			}
		})
	}
}
