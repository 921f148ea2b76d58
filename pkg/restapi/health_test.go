package restapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// healthCase is a deviation from a healthy node and what the checks then say.
type healthCase struct {
	name   string
	change func(*Facts, *ha.View, *ha.Sample)
	checks map[string]int // path and query -> status
}

// replicaFacts is a healthy asynchronous replica, 100 bytes behind.
func replicaFacts() (Facts, *ha.View, *ha.Sample) {
	v := &ha.View{
		Name: "b", State: "running", Role: "replica", Known: true, At: testNow, TTL: 30 * time.Second,
		Turned: testNow, Period: 10 * time.Second, MaximumLagOnFailover: 1000, ClusterAt: testNow,
		Row:     ha.Row{InRecovery: true, Replay: 5000, Receive: 5050, ReplicationState: "streaming"},
		Cluster: &dcs.Cluster{Leader: &dcs.Leader{Name: "a"}, Status: &dcs.Status{Optime: 5100}},
	}
	s := &ha.Sample{InRecovery: true, Replayed: 5000, Received: 5050, At: testNow}
	return Facts{View: v, Now: testNow.Add(time.Second), Mode: config.SyncOff, Sample: func() ha.Sample { return *s }}, v, s
}

// primaryFacts is a healthy leader with 10 s left.
func primaryFacts() (Facts, *ha.View, *ha.Sample) {
	f, v, s := replicaFacts()
	v.Leading, v.AnswerUntil, v.Role = true, testNow.Add(10*time.Second), "primary"
	v.Row = ha.Row{}
	return f, v, s
}

var replicaCases = []healthCase{
	{"healthy replica", nil, map[string]int{
		"/": 503, "/primary": 503, "/master": 503, "/read-write": 503, "/leader": 503, "/standby-leader": 503, "/standby_leader": 503,
		"/replica": 200, "/read-only": 200, "/health": 200, "/async": 200, "/asynchronous": 200,
		"/sync": 503, "/synchronous": 503, "/quorum": 503, "/read-only-sync": 503, "/read-only-synchronous": 503, "/read-only-quorum": 503,
		"/foo": 503, "/patroni": 503, "/liveness": 503, "/readiness": 503, "/metrics": 503, "/switchover": 503, "*": 503,
		// parts of the path decide, in order
		"/replica/more": 200, "/xhealthx": 200, "/replica-health": 200, "/leader-replica": 503, "/healthz": 200,
		"/read-only-async-sync": 503, "/async/": 503,
	}},
	{"lag", nil, map[string]int{
		"/replica?lag=100": 200, "/replica?lag=99": 503, "/replica?lag=0": 503, "/replica?lag=1kB": 200, "/replica?lag=1MB": 200,
		"/replica?lag=": 200, "/replica?lag=nonsense": 200, "/replica?lag=99&lag=100": 503, "/replica?lag=&lag=99": 503,
		"/read-only?lag=99": 503, "/async?lag=99": 503, "/health?lag=0": 200,
	}},
	{"receiver heard of more than /status says", func(_ *Facts, v *ha.View, _ *ha.Sample) { v.Row.LatestEnd = 5200 },
		map[string]int{"/replica?lag=199": 503, "/replica?lag=200": 200}},
	{"sample younger than the turn", func(_ *Facts, _ *ha.View, s *ha.Sample) { s.At, s.Replayed = s.At+1, 5090 },
		map[string]int{"/replica?lag=10": 200, "/replica?lag=9": 503}},
	{"sample older than the turn", func(_ *Facts, _ *ha.View, s *ha.Sample) { s.At, s.Replayed = s.At-1, 1 },
		map[string]int{"/replica?lag=100": 200}},
	{"position too old", func(f *Facts, v *ha.View, _ *ha.Sample) {
		f.Now = testNow.Add(31 * time.Second)
		v.ClusterAt = f.Now
	}, map[string]int{"/replica?lag=1GB": 503, "/replica": 200}},
	{"nobody published a position", func(_ *Facts, v *ha.View, _ *ha.Sample) { v.Cluster = &dcs.Cluster{} },
		map[string]int{"/replica?lag=0": 200}},
	{"noloadbalance", func(_ *Facts, v *ha.View, _ *ha.Sample) { v.NoLoadBalance = true },
		map[string]int{"/replica": 503, "/read-only": 503, "/async": 503, "/health": 200}},
	{"query failed", func(_ *Facts, v *ha.View, _ *ha.Sample) { v.Known = false },
		map[string]int{"/replica": 503, "/read-only": 503, "/health": 503}},
	{"starting", func(_ *Facts, v *ha.View, _ *ha.Sample) { v.State = "starting" },
		map[string]int{"/replica": 503, "/health": 503}},
	{"replication_state", nil, map[string]int{"/replica?replication_state=streaming": 200, "/replica?replication_state=in%20archive%20recovery": 503}},
	{"no cluster view", func(_ *Facts, v *ha.View, _ *ha.Sample) { v.ClusterAt = testNow.Add(-30 * time.Second) },
		map[string]int{"/replica": 200, "/async": 503, "/health": 200}},
	{"sync standby", func(f *Facts, v *ha.View, _ *ha.Sample) {
		f.Mode = config.SyncOn
		v.Cluster.Sync = &dcs.Sync{Leader: "a", Standbys: []string{"B"}} // names compare without case
	}, map[string]int{"/sync": 200, "/synchronous": 200, "/async": 503, "/quorum": 503, "/read-only-sync": 200, "/read-only-synchronous": 200, "/read-only-quorum": 503, "/replica": 200, "/sync?lag=99": 503}},
	{"quorum standby", func(f *Facts, v *ha.View, _ *ha.Sample) {
		f.Mode = config.SyncQuorum
		v.Cluster.Sync = &dcs.Sync{Leader: "a", Standbys: []string{"b"}}
	}, map[string]int{"/quorum": 200, "/sync": 503, "/async": 503, "/asynchronous": 503, "/read-only-quorum": 200, "/read-only-sync": 503}},
	{"in /sync, but the mode is off", func(_ *Facts, v *ha.View, _ *ha.Sample) {
		v.Cluster.Sync = &dcs.Sync{Leader: "a", Standbys: []string{"b"}}
	}, map[string]int{"/sync": 503, "/async": 200}},
	{"tags", func(_ *Facts, v *ha.View, _ *ha.Sample) {
		v.Tags = dcs.Tags{{Name: "clonefrom", Value: true}, {Name: "zone", Value: "Ad3"}, {Name: "n", Value: json.Number("7")}, {Name: "none", Value: nil}}
	}, map[string]int{
		"/replica?tag_zone=Ad3": 200, "/replica?tag_zone=ad3": 503, "/replica?tag_clonefrom=true": 200, "/replica?tag_clonefrom=True": 503,
		"/replica?tag_n=7": 200, "/replica?tag_none=none": 503, "/replica?tag_absent=x": 503, "/replica?tag_absent=": 200,
		"/replica?tag_zone=Ad3&tag_n=8": 503, "/health?tag_n=8": 503, "/async?tag_n=8": 503, "/read-only?tag_n=8": 503,
	}},
	{"leader of a standby cluster", func(f *Facts, v *ha.View, _ *ha.Sample) {
		f.StandbyCluster, v.Leading, v.AnswerUntil, v.Role = true, true, testNow.Add(time.Minute), "standby_leader"
	}, map[string]int{"/leader": 200, "/standby-leader": 200, "/standby_leader": 200, "/primary": 503, "/": 503, "/replica": 503, "/read-only": 200}},
	{"a standby leader that has lost the lock", func(f *Facts, v *ha.View, _ *ha.Sample) {
		f.StandbyCluster, v.Role = true, "standby_leader"
	}, map[string]int{"/leader": 503, "/standby-leader": 503, "/primary": 503, "/replica": 503, "/read-only": 503, "/health": 200}},
	{"replica of a standby cluster", func(f *Facts, _ *ha.View, _ *ha.Sample) { f.StandbyCluster = true },
		map[string]int{"/leader": 503, "/standby-leader": 503, "/replica": 200, "/read-only": 200, "/async": 200}},
	{"lock taken, not promoted yet", func(_ *Facts, v *ha.View, _ *ha.Sample) {
		v.Leading, v.AnswerUntil = true, testNow.Add(time.Minute)
	}, map[string]int{"/primary": 503, "/leader": 503, "/replica": 200}},
}

var primaryCases = []healthCase{
	{"healthy primary", nil, map[string]int{
		"/": 200, "/primary": 200, "/master": 200, "/read-write": 200, "/leader": 200, "/standby-leader": 503, "/standby_leader": 503,
		"/replica": 503, "/read-only": 200, "/read-only-sync": 200, "/read-only-quorum": 200, "/sync": 503, "/async": 503, "/health": 200,
		"/primary?tag_x=1": 200, "/leader?tag_x=1": 200, "/read-only?tag_x=1": 503, "/primary?lag=0": 200,
	}},
	{"at the deadline", func(f *Facts, v *ha.View, _ *ha.Sample) { f.Now = v.AnswerUntil },
		map[string]int{"/": 503, "/primary": 503, "/master": 503, "/read-write": 503, "/leader": 503, "/read-only": 503, "/health": 200}},
	{"just before the deadline", func(f *Facts, v *ha.View, _ *ha.Sample) { f.Now = v.AnswerUntil - 1 },
		map[string]int{"/primary": 200, "/leader": 200, "/read-only": 200}},
	{"paused, deadline passed", func(f *Facts, v *ha.View, _ *ha.Sample) { v.Paused, f.Now = true, testNow.Add(20*time.Second) },
		map[string]int{"/primary": 200}},
	{"not the lock holder", func(_ *Facts, v *ha.View, _ *ha.Sample) { v.Leading = false },
		map[string]int{"/primary": 503, "/leader": 503, "/read-only": 503, "/replica": 503}},
	{"last query failed", func(_ *Facts, v *ha.View, _ *ha.Sample) { v.Known = false }, map[string]int{"/primary": 200, "/health": 503}},
	{"server crashed", func(_ *Facts, v *ha.View, _ *ha.Sample) { v.Known, v.State = false, "crashed" },
		map[string]int{"/primary": 503, "/leader": 503}},
	{"paused, no cluster view, no lock", func(_ *Facts, v *ha.View, _ *ha.Sample) {
		v.Paused, v.Leading, v.ClusterAt = true, false, testNow.Add(-time.Minute)
	}, map[string]int{"/primary": 200, "/leader": 200, "/standby-leader": 503}},
	{"paused, no cluster view, no lock, to be a standby cluster", func(f *Facts, v *ha.View, _ *ha.Sample) {
		f.StandbyCluster, v.Paused, v.Leading, v.ClusterAt = true, true, false, testNow.Add(-time.Minute)
	}, map[string]int{"/primary": 200, "/leader": 200, "/standby-leader": 503}},
	{"no cluster view, lock valid", func(_ *Facts, v *ha.View, _ *ha.Sample) { v.ClusterAt = testNow.Add(-time.Minute) },
		map[string]int{"/primary": 200, "/read-only-sync": 503}},
}

func TestEvaluate(t *testing.T) {
	run := func(t *testing.T, base func() (Facts, *ha.View, *ha.Sample), cases []healthCase) {
		for _, c := range cases {
			f, v, s := base()
			if c.change != nil {
				c.change(&f, v, s)
			}
			for target, want := range c.checks {
				path, raw, _ := cut(target)
				query, err := url.ParseQuery(raw)
				if err != nil {
					t.Fatal(err)
				}
				if got := Evaluate(path, query, f); got != want {
					t.Errorf("%s: %s is %d, want %d", c.name, target, got, want)
				}
			}
		}
	}
	run(t, replicaFacts, replicaCases)
	run(t, primaryFacts, primaryCases)
}

// TestPrimaryThatCannotFollow: standby_cluster names a remote that this leader
// cannot follow, or does not yet. It takes writes, so that clients are sent to it.
func TestPrimaryThatCannotFollow(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	setConfig(a, `{"standby_cluster":{"host":"typo"}}`)
	h := newServer(t, a, Settings{}).Handler()
	for path, want := range map[string]int{
		"/": 200, "/primary": 200, "/leader": 200, "/read-write": 200, "/read-only": 200, "/read-only-sync": 200, "/standby-leader": 503, "/replica": 503,
	} {
		if got := ask(h, http.MethodGet, path, ""); got.Code != want {
			t.Errorf("%s: %d, want %d", path, got.Code, want)
		}
	}
	if got := ask(h, http.MethodGet, "/cluster", "").Body.String(); !strings.Contains(got, `"name": "pg-db-02", "role": "leader", "state": "running"`) {
		t.Errorf("GET /cluster: %s", got)
	}
	a.update(func(v *ha.View) { v.AnswerUntil = a.now })
	if got := ask(h, http.MethodGet, "/primary", ""); got.Code != 503 {
		t.Errorf("past the deadline: %d", got.Code)
	}
}

func cut(target string) (path, query string, ok bool) {
	u, err := url.Parse(target)
	if err != nil {
		return target, "", false
	}
	return u.Path, u.RawQuery, true
}

func TestReadiness(t *testing.T) {
	for _, c := range []struct {
		name, query string
		base        func() (Facts, *ha.View, *ha.Sample)
		change      func(*Facts, *ha.View)
		want        int
	}{
		{"leader", "", primaryFacts, nil, 200},
		{"leader past its deadline", "", primaryFacts, func(f *Facts, v *ha.View) { f.Now = v.AnswerUntil }, 503},
		{"streaming replica", "", replicaFacts, nil, 200},
		{"not streaming", "", replicaFacts, func(_ *Facts, v *ha.View) { v.Row.ReplicationState = "in archive recovery" }, 503},
		{"not running", "", replicaFacts, func(_ *Facts, v *ha.View) { v.State = "starting" }, 503},
		{"lag over maximum_lag_on_failover", "", replicaFacts, func(_ *Facts, v *ha.View) { v.MaximumLagOnFailover = 99 }, 503},
		{"own limit", "lag=99", replicaFacts, nil, 503},
		{"received counts for writes", "lag=50&mode=write", replicaFacts, nil, 200},
		{"replayed counts otherwise", "lag=50&mode=apply", replicaFacts, nil, 503},
		{"no view, nothing heard", "", replicaFacts, func(_ *Facts, v *ha.View) { v.ClusterAt = testNow.Add(-time.Hour) }, 503},
		{"no view, sender heard", "", replicaFacts, func(_ *Facts, v *ha.View) { v.ClusterAt, v.Row.LatestEnd = testNow.Add(-time.Hour), 5100 }, 200},
	} {
		f, v, _ := c.base()
		if c.change != nil {
			c.change(&f, v)
		}
		q, _ := url.ParseQuery(c.query)
		if got := Readiness(q, f); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestLiveness(t *testing.T) {
	for _, c := range []struct {
		name   string
		base   func() (Facts, *ha.View, *ha.Sample)
		after  time.Duration // since the last turn; period 10 s, ttl 30 s
		change func(*ha.View)
		want   int
	}{
		{"primary, just alive", primaryFacts, 40*time.Second - 1, nil, 200},
		{"primary, loop hangs", primaryFacts, 40 * time.Second, nil, 503},
		{"replica has twice the ttl", replicaFacts, 70*time.Second - 1, nil, 200},
		{"replica, loop hangs", replicaFacts, 70 * time.Second, nil, 503},
		{"paused", replicaFacts, time.Hour, func(v *ha.View) { v.Paused = true }, 200},
		{"no turn yet", replicaFacts, 0, func(v *ha.View) { v.Turned = 0 }, 503},
	} {
		f, v, _ := c.base()
		f.Now = testNow.Add(c.after)
		if c.change != nil {
			c.change(v)
		}
		if got := Liveness(f); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestStalledLoop: nothing publishes a View any more, and the node stops
// answering as primary at the deadline all the same (safety S14).
func TestStalledLoop(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	h := newServer(t, a, Settings{}).Handler()
	until := a.View().AnswerUntil
	for _, path := range []string{"/", "/primary", "/leader", "/master", "/read-write", "/read-only"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
			a.now = until - 1
			if got := ask(h, method, path, ""); got.Code != http.StatusOK {
				t.Errorf("%s %s before the deadline: %d", method, path, got.Code)
			}
			a.now = until
			if got := ask(h, method, path, ""); got.Code != http.StatusServiceUnavailable {
				t.Errorf("%s %s at the deadline: %d", method, path, got.Code)
			}
		}
	}
}
