package restapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
	"github.com/pgha/pgha/pkg/restapi/metric/prom"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAgent is an agent whose etcd is one snapshot in memory.
type fakeAgent struct {
	mu      sync.Mutex
	view    *ha.View
	now     ha.Instant
	sample  ha.Sample
	fresh   bool
	age     time.Duration // that the last sample was asked for with
	changed chan struct{}
	peers   map[string]ha.Peer
	readErr error
	putErr  error
	bad     []config.Problem // parameters that PostgreSQL refuses
	writes  []string
	reloads int
	refuses bool     // POST /failsafe
	promise []string // given
	accepts []string // words of operators
	// frozenFor are the epochs of POST /freeze.
	frozenFor []int64
	fakeBackups
	fakeEvents
	fakeRestarts
	// onFailover runs after a failover request was written.
	onFailover func(*fakeAgent)
}

func (a *fakeAgent) View() *ha.View {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.view
}

func (a *fakeAgent) Now() ha.Instant {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

func (a *fakeAgent) Sample(_ context.Context, age time.Duration) (ha.Sample, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.age = age
	return a.sample, a.fresh
}

func (a *fakeAgent) ClusterChanged() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

func (a *fakeAgent) Failsafe(leader string, ttl time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.refuses {
		a.promise = append(a.promise, leader+" "+ttl.String())
	}
	return !a.refuses
}

func (a *fakeAgent) Freeze(ctx context.Context, epoch int64) (int64, ha.Sample, *Refusal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frozenFor = append(a.frozenFor, epoch)
	if a.refuses {
		return 0, ha.Sample{}, &Refusal{Status: http.StatusServiceUnavailable, Text: "not frozen: no action"}
	}
	return epoch + 1, a.sample, nil
}

func (a *fakeAgent) ReadCluster(context.Context) (*dcs.Cluster, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.view.Cluster, a.readErr
}

func (a *fakeAgent) RefusedParameters(context.Context, []byte, []byte) []config.Problem {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bad
}

func (a *fakeAgent) PutConfig(_ context.Context, value []byte, revision *int64) error {
	return a.put("config "+string(value), revision, func(c *dcs.Cluster) *int64 {
		if c.Config == nil {
			c.Config = &dcs.Config{}
		}
		next := *c.Config
		next.Raw = value
		c.Config = &next
		return &c.Config.ModRevision
	})
}

func (a *fakeAgent) PutFailover(_ context.Context, f dcs.Failover, revision *int64) error {
	err := a.put(fmt.Sprintf("failover %s>%s", f.Leader, f.Candidate), revision, func(c *dcs.Cluster) *int64 {
		next := f
		if c.Failover != nil {
			next.ModRevision = c.Failover.ModRevision
		}
		c.Failover = &next
		return &c.Failover.ModRevision
	})
	if err == nil && a.onFailover != nil {
		a.onFailover(a)
	}
	return err
}

// put changes a copy of the snapshot under the revision guard.
func (a *fakeAgent) put(what string, revision *int64, change func(*dcs.Cluster) *int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.putErr != nil {
		return a.putErr
	}
	next := *a.view.Cluster
	mod := change(&next)
	if revision != nil && *revision != *mod {
		return fmt.Errorf("put: %w", dcs.ErrConflict)
	}
	next.Revision++
	*mod = next.Revision
	a.writes = append(a.writes, what)
	a.publish(func(v *ha.View) { v.Cluster = &next })
	return nil
}

// publish replaces the view by a changed copy; the caller holds mu.
func (a *fakeAgent) publish(change func(*ha.View)) {
	v := *a.view
	change(&v)
	a.view = &v
	close(a.changed)
	a.changed = make(chan struct{})
}

// update is publish for tests.
func (a *fakeAgent) update(change func(*ha.View)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.publish(change)
}

func (a *fakeAgent) AskMembers(_ context.Context, members []dcs.Member) map[string]ha.Peer {
	out := map[string]ha.Peer{}
	for _, m := range members {
		out[m.Name] = a.peers[m.Name]
	}
	return out
}

func (a *fakeAgent) Reload() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reloads++
}

// staleReader reads an older snapshot from etcd than there is by now.
type staleReader struct {
	*fakeAgent
	cluster *dcs.Cluster
}

func (a *staleReader) ReadCluster(context.Context) (*dcs.Cluster, error) { return a.cluster, nil }

// count tells how many requests changed something.
func (a *fakeAgent) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.writes) + a.reloads + len(a.restarts)
}

// recorded is one recorded request with its answer.
type recorded struct {
	Method, Path, Body, Error, Node string
	Request                         json.RawMessage
	Status                          int
	Headers                         map[string]string
}

func load(t testing.TB, into any, path ...string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

// loadCluster decodes the recorded keys of a state.
func loadCluster(t testing.TB, state string) *dcs.Cluster {
	t.Helper()
	var keys []struct{ Key, Value string }
	load(t, &keys, state, "etcd.json")
	var kvs []dcs.KV
	for i, k := range keys {
		kvs = append(kvs, dcs.KV{Key: k.Key, Value: []byte(k.Value), CreateRevision: int64(i + 1), ModRevision: int64(i + 1)})
	}
	c := dcs.Decode("/service/pg-ha-cluster", kvs)
	c.Revision = int64(len(keys))
	return c
}

const testNow = ha.Instant(1_000_000_000_000)

// newAgent makes the node called name as it was in a recorded state: cluster
// from the keys, PostgreSQL's side from its member key. Server start time,
// replication rows and the like, which are in no key, come from the recorded
// status document.
func newAgent(t testing.TB, state, name string) *fakeAgent {
	t.Helper()
	c := loadCluster(t, state)
	m := c.Member(name)
	if m == nil {
		t.Fatalf("%s: no member %s", state, name)
	}
	leads := c.LeaderName() == name
	v := &ha.View{
		Name: name, Scope: "pg-ha-cluster", Version: "4.1.4",
		At: testNow, Turned: testNow, Period: 10 * time.Second,
		Leading: leads, AnswerUntil: testNow.Add(15 * time.Second), Deadline: testNow.Add(20 * time.Second),
		Cluster: c, ClusterAt: testNow, State: m.State, Role: m.Role, SystemID: c.Initialize.SystemID,
		Known: true, ServerVersion: 150020, TTL: 30 * time.Second, LoopWait: 10 * time.Second,
		MaximumLagOnFailover: 1 << 20, Config: c.Config.Raw, Tags: m.Tags,
		Row: ha.Row{
			InRecovery: !leads, Timeline: m.Timeline, Position: m.XLogLocation,
			Receive: m.ReceiveLSN, Replay: m.ReplayLSN, ReplicationState: m.ReplicationState,
		},
	}
	d, err := config.ParseDynamic(c.Config.Raw)
	if err != nil {
		t.Fatal(err)
	}
	v.Paused = d.Pause
	sample := ha.Sample{At: testNow, InRecovery: !leads, Received: m.ReceiveLSN, Replayed: m.ReplayLSN}
	if leads {
		sample.Location = m.XLogLocation
	}
	a := &fakeAgent{view: v, now: testNow.Add(50 * time.Millisecond), fresh: true, changed: make(chan struct{}), peers: map[string]ha.Peer{}}
	a.sample = sample
	return a
}

// complete fills in what only the recorded document tells.
func (a *fakeAgent) complete(t testing.TB, doc string) {
	t.Helper()
	var r struct {
		Start       string `json:"postmaster_start_time"`
		Seen        int64  `json:"dcs_last_seen"`
		Replication []ha.Replication
		Reason      map[string]ha.PendingRestart `json:"pending_restart_reason"`
		Xlog        struct {
			Stamp    string  `json:"replayed_timestamp"`
			Location wal.LSN `json:"location"`
			Received wal.LSN `json:"received_location"`
			Replayed wal.LSN `json:"replayed_location"`
		}
	}
	if err := json.Unmarshal([]byte(doc), &r); err != nil {
		t.Fatal(err)
	}
	a.sample.ReplayedTimestamp = r.Xlog.Stamp
	a.sample.Location, a.sample.Received, a.sample.Replayed = r.Xlog.Location, r.Xlog.Received, r.Xlog.Replayed
	a.update(func(v *ha.View) {
		v.PostmasterStartTime, v.DCSLastSeen = r.Start, time.Unix(r.Seen, 0)
		v.Row.Replication, v.PendingRestart = r.Replication, r.Reason
	})
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func exporter() Exporter { return prom.Exporter(prometheus.NewRegistry()) }

func newServer(t testing.TB, a Agent, s Settings) *Server {
	t.Helper()
	srv, err := New(Options{Agent: a, Settings: s, Logger: quiet(), Metrics: exporter()})
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// ask sends one request to a handler.
func ask(h http.Handler, method, target, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, target, r)
	if body != "" {
		req.Header.Set("Content-Length", fmt.Sprint(len(body)))
	}
	for _, c := range change {
		c(req)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func (a *fakeAgent) AcceptDCS(by string) *Refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.view.Quarantine == "" {
		return &Refusal{http.StatusConflict, "nothing to accept"}
	}
	a.accepts = append(a.accepts, by)
	return nil
}

// Remote: the fake is no standby cluster.
func (a *fakeAgent) Remote(context.Context) *RemoteDocument { return nil }
