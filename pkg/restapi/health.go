package restapi

import (
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

const (
	stateRunning  = "running"
	stateUnknown  = "unknown"
	rolePrimary   = "primary"
	roleReplica   = "replica"
	roleStandbyLd = "standby_leader"
	streaming     = "streaming"
	inArchive     = "in archive recovery"
)

// Facts are what a health check goes by.
type Facts struct {
	View *ha.View
	Now  ha.Instant
	// Mode and StandbyCluster come from the dynamic configuration in View. A
	// leader that takes writes all the same, because it cannot follow the remote
	// named there, is that of a cluster of its own: clients need it.
	Mode           config.SyncMode
	StandbyCluster bool
	// Sample gives the newest position this node has, fresh or not; called only
	// by checks that measure lag.
	Sample func() ha.Sample
}

// Evaluate gives the status code of a health check (wire contract §5.1, §5.3):
// 200 or 503. Path is the whole path of the request; the rules match parts of
// it, in this order.
func Evaluate(path string, query url.Values, f Facts) int {
	if path == "/" || path == "" {
		path = "/primary"
	}
	has := func(part string) bool { return strings.Contains(path, part) }
	switch {
	case has("standby_leader") || has("standby-leader"):
		return code(f.standbyLeader())
	case has("leader"):
		return code(f.leader())
	case has("master") || has("primary") || has("read-write"):
		return code(f.primary())
	case has("replica"):
		return code(f.replica(query) && f.tags(query))
	case has("read-only") && !has("sync") && !has("quorum"):
		return code((f.writable() || f.replica(query)) && f.tags(query))
	case has("health"):
		return code(f.running() && f.tags(query))
	case !f.View.ClusterValid(f.Now):
		return http.StatusServiceUnavailable
	}
	return code(f.bySync(path, query) && f.tags(query))
}

func code(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// bySync judges the checks that look at /sync; there is a cluster view.
func (f Facts) bySync(path string, query url.Values) bool {
	sync, quorum := standbyKind(f.View, f.Mode)
	switch path {
	case "/sync", "/synchronous":
		return sync && f.replica(query)
	case "/quorum":
		return quorum && f.replica(query)
	case "/async", "/asynchronous":
		return !sync && !quorum && f.replica(query)
	case "/read-only-sync", "/read-only-synchronous":
		return f.writable() || sync && f.replica(query)
	case "/read-only-quorum":
		return f.writable() || quorum && f.replica(query)
	}
	return false
}

// blindPause: paused without a valid cluster view; leadership is then read from
// PostgreSQL's role alone.
func (f Facts) blindPause() bool { return f.View.Paused && !f.View.ClusterValid(f.Now) }

func (f Facts) standbyLeader() bool {
	role := roleOf(f.View, f.StandbyCluster)
	if f.blindPause() {
		return role == roleStandbyLd
	}
	return f.StandbyCluster && f.View.IsLeader(f.Now) && (role == roleStandbyLd || role == roleReplica)
}

// primary answers /primary (safety S14): the lock is held, its deadline has not
// passed, and PostgreSQL is out of recovery.
func (f Facts) primary() bool {
	switch {
	case f.blindPause():
		return outOfRecovery(f.View)
	case f.StandbyCluster:
		return false
	}
	return f.View.IsLeader(f.Now) && outOfRecovery(f.View)
}

func (f Facts) leader() bool {
	if f.StandbyCluster && !f.blindPause() {
		return f.View.IsLeader(f.Now)
	}
	return f.primary() || f.standbyLeader()
}

// writable is "the primary or the standby-leader check is 200".
func (f Facts) writable() bool { return f.primary() || f.standbyLeader() }

func (f Facts) running() bool { return f.View.State == stateRunning && f.View.Known }

func (f Facts) replica(query url.Values) bool {
	v := f.View
	switch {
	case f.StandbyCluster && v.IsLeader(f.Now):
		return false
	case !f.running() || v.NoLoadBalance || roleOf(v, f.StandbyCluster) != roleReplica:
		return false
	}
	if want := first(query, "replication_state"); want != "" && want != v.Row.ReplicationState {
		return false
	}
	return f.lagWithin(first(query, "lag"), math.MaxInt64, false)
}

// lagWithin compares what the leader has published with what is replayed here
// (received, if asked). An empty or unreadable limit means otherwise.
func (f Facts) lagWithin(limit string, otherwise int64, received bool) bool {
	most := otherwise
	if limit != "" {
		if n, ok := config.ParseInt(limit, "B"); ok {
			most = n
		}
	}
	if most == math.MaxInt64 {
		return true
	}
	head := f.head()
	if head == 0 {
		return true // nobody published a position yet
	}
	at, ok := f.position(received)
	if !ok {
		return false
	}
	// Positions from JSON stay below 2^63, so the difference cannot overflow.
	return int64(head)-int64(at) <= most
}

// head is the newest position of the leader known here, 0 unknown.
func (f Facts) head() wal.LSN {
	var optime wal.LSN
	if c := f.View.Cluster; c != nil && c.Status != nil && f.View.ClusterValid(f.Now) {
		optime = c.Status.Optime
	}
	if f.View.Known {
		optime = max(optime, f.View.Row.LatestEnd)
	}
	return min(optime, math.MaxInt64)
}

// position is the newest replayed or received position, from the last sample or
// the last turn, whichever is younger. One older than the lease time is none:
// nothing is known of a server that has been silent for so long.
func (f Facts) position(received bool) (wal.LSN, bool) {
	var at ha.Instant
	var lsn wal.LSN
	if f.View.Known {
		at, lsn = f.View.At, pick(received, f.View.Row.Receive, f.View.Row.Replay)
	}
	if s := f.Sample(); s.At != 0 && s.At >= at {
		at, lsn = s.At, pick(received, s.Received, s.Replayed)
	}
	if at == 0 || f.Now.Sub(at) > f.View.TTL {
		return 0, false
	}
	return min(lsn, math.MaxInt64), true
}

func pick(received bool, receive, replay wal.LSN) wal.LSN {
	if received {
		return receive
	}
	return replay
}

// tags checks the conditions ?tag_<name>=<value> against the published tags.
func (f Facts) tags(query url.Values) bool {
	for key := range query {
		name, ok := strings.CutPrefix(key, "tag_")
		want := first(query, key)
		if !ok || want == "" {
			continue
		}
		if got, ok := tagText(f.View.Tags, name); !ok || got != want {
			return false
		}
	}
	return true
}

// tagText is the text a tag is compared by; false when it is not published.
func tagText(tags dcs.Tags, name string) (string, bool) {
	for _, t := range tags {
		if t.Name != name {
			continue
		}
		switch v := t.Value.(type) {
		case nil:
			return "", false
		case string:
			return v, true
		default:
			return strings.ToLower(pyjson.Text(v)), true
		}
	}
	return "", false
}

// Readiness answers GET /readiness.
func Readiness(query url.Values, f Facts) int {
	v := f.View
	if v.IsLeader(f.Now) {
		return http.StatusOK
	}
	valid := v.ClusterValid(f.Now)
	switch {
	case !f.running() || v.Row.ReplicationState != streaming:
		return http.StatusServiceUnavailable
	case !valid && v.Row.LatestEnd == 0 && v.FailsafeActive(f.Now):
		return http.StatusOK
	case !valid && v.Row.LatestEnd == 0:
		return http.StatusServiceUnavailable
	}
	return code(f.lagWithin(first(query, "lag"), v.MaximumLagOnFailover, first(query, "mode") == "write"))
}

// Liveness answers GET /liveness: the loop has turned lately, or is not needed
// because the cluster is paused.
func Liveness(f Facts) int {
	v := f.View
	limit := 2 * v.TTL
	if v.State == stateRunning && roleOf(v, f.StandbyCluster) == rolePrimary {
		limit = v.TTL
	}
	next := v.Turned.Add(v.Period + limit)
	return code(v.Paused || v.Turned != 0 && next > f.Now)
}

// standbyKind tells whether this node is a synchronous or a quorum standby.
func standbyKind(v *ha.View, mode config.SyncMode) (sync, quorum bool) {
	if mode == config.SyncOff || mode == "" || v.Cluster == nil || !isReplica(v) {
		return false, false
	}
	if !inSync(v.Cluster.Sync, v.Name) {
		return false, false
	}
	return mode == config.SyncOn, mode == config.SyncQuorum
}

// inSync tells whether /sync is active and lists name as a standby.
func inSync(s *dcs.Sync, name string) bool { return s != nil && s.Leader != "" && s.Has(name) }

// roleOf is the published role: by recovery state when that is known.
func roleOf(v *ha.View, standbyCluster bool) string {
	switch {
	case !v.Known:
		return v.Role
	case !v.Row.InRecovery:
		return rolePrimary
	case standbyCluster:
		return v.Role
	}
	return roleReplica
}

func isReplica(v *ha.View) bool { return roleOf(v, false) == roleReplica }

// outOfRecovery: PostgreSQL accepts writes. When the last query failed the role
// it had counts, as long as the server runs: a slow answer is no demotion.
func outOfRecovery(v *ha.View) bool {
	if v.Known {
		return !v.Row.InRecovery
	}
	return v.State == stateRunning && v.Role == rolePrimary
}

// first is the first value of key that is not empty.
func first(query url.Values, key string) string {
	for _, v := range query[key] {
		if v != "" {
			return v
		}
	}
	return ""
}

// parseDynamic reads what Facts need of a dynamic configuration. One that does
// not parse is not in force, so the defaults hold.
func parseDynamic(raw []byte) (mode config.SyncMode, standbyCluster, paused bool, loopWait time.Duration) {
	d, err := config.ParseDynamic(raw)
	if err != nil || d == nil {
		return config.SyncOff, false, false, 10 * time.Second
	}
	return d.SynchronousMode, d.StandbyCluster != nil, d.Pause, d.LoopWait
}
