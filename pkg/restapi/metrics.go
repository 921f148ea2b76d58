package restapi

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/restapi/metric"
)

// stateIndex is the number of each state (wire contract §4.2), stateNames the
// short names in the same order.
var (
	stateIndex = map[string]float64{
		"initializing new cluster": 0, "initdb failed": 1, "running custom bootstrap script": 2,
		"custom bootstrap failed": 3, "creating replica": 4, "running": 5, "starting": 6,
		"starting after custom bootstrap": 7, "start failed": 8, "restarting": 9, "restart failed": 10,
		"stopping": 11, "stopped": 12, "stop failed": 13, "crashed": 14,
	}
	stateNames = []string{
		"initdb", "initdb_failed", "custom_bootstrap", "custom_bootstrap_failed", "creating_replica",
		"running", "starting", "bootstrap_starting", "start_failed", "restarting", "restart_failed",
		"stopping", "stopped", "stop_failed", "crashed",
	}
)

// reading is what one scrape reads.
type reading struct {
	view   *ha.View
	now    ha.Instant
	sample ha.Sample // of PostgreSQL now; zero when it did not answer
	status status
	role   string
	server *Server
}

// series is one metric with the way to compute it.
type series struct {
	name, help string
	counter    bool
	value      func(reading) float64
}

// absent is the value of a metric that is not served now.
var absent = math.NaN()

// What series.counter says.
const (
	gauge   = false
	counter = true
)

func num(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// patroniSeries are Patroni's (wire contract §5.5), in its order.
func patroniSeries() []series {
	values := make([]string, len(stateNames))
	for i, n := range stateNames {
		values[i] = strconv.Itoa(i) + "=" + n
	}
	return []series{
		{"patroni_version", "Patroni semver without periods.", gauge, func(r reading) float64 { return versionNumber(r.view.Version) }},
		{"patroni_postgres_running", "Value is 1 if Postgres is running, 0 otherwise.", gauge, func(r reading) float64 { return num(r.view.State == stateRunning && r.status.known()) }},
		{"patroni_postmaster_start_time", "Epoch seconds since Postgres started.", gauge, func(r reading) float64 { return stamp(r.view.PostmasterStartTime) }},
		{"patroni_primary", "Value is 1 if this node is the leader, 0 otherwise.", gauge, func(r reading) float64 { return num(r.role == rolePrimary) }},
		{"patroni_xlog_location", "Current location of the Postgres transaction log, 0 if this node is not the leader.", counter, func(r reading) float64 { return float64(r.sample.Location) }},
		{"patroni_standby_leader", "Value is 1 if this node is the standby_leader, 0 otherwise.", gauge, func(r reading) float64 { return num(r.role == roleStandbyLd) }},
		{"patroni_replica", "Value is 1 if this node is a replica, 0 otherwise.", gauge, func(r reading) float64 { return num(r.role == roleReplica) }},
		{"patroni_sync_standby", "Value is 1 if this node is a sync standby, 0 otherwise.", gauge, func(r reading) float64 { s, _ := standbyKind(r.view, r.status.mode); return num(s) }},
		{"patroni_quorum_standby", "Value is 1 if this node is a quorum standby, 0 otherwise.", gauge, func(r reading) float64 { _, q := standbyKind(r.view, r.status.mode); return num(q) }},
		{"patroni_xlog_received_location", "Current location of the received Postgres transaction log, 0 if this node is not a replica.", counter, received},
		{"patroni_xlog_replayed_location", "Current location of the replayed Postgres transaction log, 0 if this node is not a replica.", counter, func(r reading) float64 { return float64(r.sample.Replayed) }},
		{"patroni_xlog_replayed_timestamp", "Current timestamp of the replayed Postgres transaction log, 0 if null.", gauge, func(r reading) float64 { return stamp(r.sample.ReplayedTimestamp) }},
		{"patroni_xlog_paused", "Value is 1 if the Postgres xlog is paused, 0 otherwise.", gauge, func(r reading) float64 { return num(r.sample.ReplayPaused) }},
		{"patroni_postgres_streaming", "Value is 1 if Postgres is streaming, 0 otherwise.", gauge, func(r reading) float64 { return r.replicates(streaming) }},
		{"patroni_postgres_in_archive_recovery", "Value is 1 if Postgres is replicating from archive, 0 otherwise.", gauge, func(r reading) float64 { return r.replicates(inArchive) }},
		{"patroni_postgres_server_version", "Version of Postgres (if running), 0 otherwise.", gauge, func(r reading) float64 { return num(r.status.known()) * float64(r.view.ServerVersion) }},
		{"patroni_cluster_unlocked", "Value is 1 if the cluster is unlocked, 0 if locked.", gauge, func(r reading) float64 { return num(unlocked(r.view, r.now)) }},
		{"patroni_failsafe_mode_is_active", "Value is 1 if failsafe mode is active, 0 if inactive.", gauge, func(r reading) float64 { return num(r.view.FailsafeActive(r.now)) }},
		{"patroni_postgres_timeline", "Postgres timeline of this node (if running), 0 otherwise.", gauge, func(r reading) float64 { return num(r.status.known()) * float64(r.view.Row.Timeline) }},
		{"patroni_dcs_last_seen", "Epoch timestamp when DCS was last contacted successfully by Patroni.", gauge, func(r reading) float64 { return float64(epoch(r.view.DCSLastSeen)) }},
		{"patroni_pending_restart", "Value is 1 if the node needs a restart, 0 otherwise.", gauge, func(r reading) float64 { return num(len(r.view.PendingRestart) > 0) }},
		{"patroni_is_paused", "Value is 1 if auto failover is disabled, 0 otherwise.", gauge, func(r reading) float64 { return num(r.view.Paused) }},
		{"patroni_postgres_state", "Numeric representation of Postgres state. Values: " + strings.Join(values, ", "), gauge, stateNumber},
	}
}

// ownSeries answer what operators ask beyond Patroni's.
func ownSeries() []series {
	return []series{
		{"pgha_seconds_since_last_turn", "Seconds since the decision loop last finished a turn.", gauge, sinceTurn},
		{"pgha_lease_margin_seconds", "Seconds until this node stops answering as primary; negative once it has, 0 without the lock.", gauge, leaseMargin},
		{"pgha_restapi_open", "Value is 1 if everybody who can connect may change the cluster through this API, 0 otherwise.", gauge, func(r reading) float64 { return num(r.server.rules.Load().open()) }},
		{"pgha_restapi_certificate_expiry_seconds", "Epoch seconds when the certificate of this API expires, 0 without TLS.", gauge, certificateEnd},
		{"pgha_leash_off", "Value is 1 if pgha.leash is off, so that nothing stops Postgres in time when the agent does not, 0 otherwise.", gauge, func(r reading) float64 { return num(r.view.LeashOff) }},
		{"pgha_connection_failing_seconds", "Seconds since when new local connections to PostgreSQL get no answer, 0 when they do.", gauge, func(r reading) float64 { return failing(r, r.view.Health.Connect) }},
		{"pgha_disk_failing_seconds", "Seconds since when writes to the disks of the data directory and of pg_wal fail, 0 when they do not.", gauge, func(r reading) float64 {
			return max(failing(r, r.view.Health.Data), failing(r, r.view.Health.WAL))
		}},
		{"pgha_leader", "Value is 1 if this node holds the lock and may answer as primary, 0 otherwise.", gauge, func(r reading) float64 { return num(r.view.IsLeader(r.now)) }},
	}
}

var allSeries = sync.OnceValue(func() []series { return append(patroniSeries(), ownSeries()...) })

// certificateEnd is when the certificate served expires, in seconds since 1970.
func certificateEnd(r reading) float64 {
	conf := r.server.rules.Load().tls
	if conf == nil || len(conf.Certificates) == 0 || conf.Certificates[0].Leaf == nil {
		return 0
	}
	return float64(conf.Certificates[0].Leaf.NotAfter.Unix())
}

func received(r reading) float64 {
	if r.sample.InRecovery && r.sample.Received == 0 {
		return float64(r.sample.Replayed)
	}
	return float64(r.sample.Received)
}

func stateNumber(r reading) float64 {
	if n, ok := stateIndex[r.view.State]; ok && (r.view.State != stateRunning || r.status.known()) {
		return n
	}
	return -1
}

func sinceTurn(r reading) float64 {
	if r.view.Turned == 0 {
		return 0
	}
	return r.now.Sub(r.view.Turned).Seconds()
}

// failing is since how long a check fails.
func failing(r reading, c ha.Check) float64 {
	if c.Failing == 0 {
		return 0
	}
	return r.now.Sub(c.Failing).Seconds()
}

func leaseMargin(r reading) float64 {
	if !r.view.Leading {
		return 0
	}
	return r.view.AnswerUntil.Sub(r.now).Seconds()
}

// known: PostgreSQL answers, as far as the loop or the sample can tell.
func (s status) known() bool { return queryable(s.view) && (s.view.Known || s.fresh) }

// replicates tells whether this is how the server gets its WAL; of one that does
// not answer nothing is said, so that no alert about replication is raised for a
// server that is down (wire contract §5.5).
func (r reading) replicates(how string) float64 {
	if !r.status.known() || r.view.ServerVersion == 0 {
		return absent
	}
	return num(r.role != rolePrimary && r.view.Row.ReplicationState == how)
}

// versionNumber turns 4.1.4 into 40104.
func versionNumber(v string) float64 {
	var n float64
	for _, part := range strings.Split(v, ".") {
		p, err := strconv.Atoi(part)
		if err != nil {
			return 0
		}
		n = n*100 + float64(p)
	}
	return n
}

// stamp turns a time as PostgreSQL prints it into seconds since 1970.
func stamp(text string) float64 {
	for _, form := range []string{"2006-01-02 15:04:05.999999-07:00", "2006-01-02 15:04:05.999999-07"} {
		if t, err := time.Parse(form, text); err == nil {
			return float64(t.UnixMicro()) / 1e6
		}
	}
	return 0
}

// metrics reads all there are, at scrape time.
func (s *Server) metrics() []metric.Metric {
	var sample ha.Sample
	var fresh bool
	if queryable(s.agent.View()) {
		sample, fresh = s.agent.Sample(context.Background(), SampleMaxAge) // bounded by the Sampler
	}
	view, now := s.agent.View(), s.agent.Now()
	r := reading{server: s, view: view, now: now, status: status{s.derived.of(view), now, sample, fresh, nil}}
	r.role = r.status.role(r.status.known())
	if fresh {
		r.sample = sample
	}
	var out []metric.Metric
	for _, m := range allSeries() {
		if value := m.value(r); !math.IsNaN(value) {
			out = append(out, metric.Metric{Name: m.name, Help: m.help, Counter: m.counter, Value: value})
		}
	}
	return append(append(out, slotMetrics(view.Slots)...), backupMetrics(s.agent, time.Now())...)
}

// scrape is a rendered answer of /metrics. It is good for other requests as
// long as the View and the WAL position in it are: many scrapers cost no more
// than one.
type scrape struct {
	view   *ha.View
	until  ha.Instant
	accept string // format asked for
	header http.Header
	code   int
	body   []byte
}

// metricsHandler keeps what the exporter serves for as long as it is good.
func (s *Server) metricsHandler(export Exporter) http.HandlerFunc {
	view := s.agent.View() // scope and name never change
	h := export(map[string]string{"scope": view.Scope, "name": view.Name}, s.metrics)
	var mu sync.Mutex
	var last scrape
	return func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		view, now := s.agent.View(), s.agent.Now()
		accept := req.Header.Get("Accept")
		if last.view != view || now > last.until || last.accept != accept {
			until := now.Add(SampleMaxAge)
			if sample, fresh := s.sample(req); fresh {
				until = sample.At.Add(SampleMaxAge)
			}
			b := &buffer{header: http.Header{}, code: http.StatusOK}
			h.ServeHTTP(b, req)
			last = scrape{view: view, until: until, accept: accept, header: b.header, code: b.code, body: b.body}
		}
		answer := last
		mu.Unlock()

		s.headers(w, answer.header.Get("Content-Type"), len(answer.body))
		w.WriteHeader(answer.code)
		_, _ = w.Write(answer.body)
	}
}

// buffer is a ResponseWriter that keeps the answer.
type buffer struct {
	header http.Header
	code   int
	body   []byte
}

func (b *buffer) Header() http.Header { return b.header }

func (b *buffer) WriteHeader(code int) { b.code = code }

func (b *buffer) Write(p []byte) (int, error) {
	b.body = append(b.body, p...)
	return len(p), nil
}
