package restapi

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
)

// derived is what is computed once per View and used by every request on it.
type derived struct {
	view           *ha.View
	mode           config.SyncMode
	standbyCluster bool
	cluster        func() []byte            // GET /cluster; View.Cluster is not nil
	status         atomic.Pointer[rendered] // the last status document made of this View
}

// rendered is a status document with all it was made of besides the View.
type rendered struct {
	sample          ha.Sample
	fresh, unlocked bool
	failsafe        bool
	body            []byte
}

// derivedCache keeps the derived values of the newest View. Two requests that
// meet on a new View compute the same twice, which does no harm.
type derivedCache struct{ p atomic.Pointer[derived] }

func (c *derivedCache) of(v *ha.View) *derived {
	if d := c.p.Load(); d != nil && d.view == v {
		return d
	}
	d := &derived{view: v}
	d.mode, d.standbyCluster, _, _ = parseDynamic(v.Config)
	d.cluster = sync.OnceValue(func() []byte { return clusterDocument(v.Scope, v.Cluster) })
	c.p.Store(d)
	return d
}

// status is the document of GET /patroni and of every health check (wire
// contract §5.4), fields in the order of the table there.
type status struct {
	*derived
	now    ha.Instant
	sample ha.Sample
	fresh  bool
	// promise is that of a frozen voter, for the candidate that asked.
	promise *int64
}

// queryable: PostgreSQL is in a state in which it is asked at all.
func queryable(v *ha.View) bool {
	return v.State == stateRunning || v.State == "starting" || v.State == "restarting"
}

// document is the status document, rendered anew only when something in it
// changed.
func (s status) document() []byte {
	free := unlocked(s.view, s.now)
	failsafe := s.view.FailsafeActive(s.now)
	if r := s.derived.status.Load(); r != nil && r.sample == s.sample && r.fresh == s.fresh && r.unlocked == free && r.failsafe == failsafe {
		return r.body
	}
	r := &rendered{sample: s.sample, fresh: s.fresh, unlocked: free, failsafe: failsafe, body: s.render()}
	s.derived.status.Store(r)
	return r.body
}

// render makes the status document. What the loop saw last is published as
// long as its query succeeded; the WAL position only if it is fresh, because
// peers elect by it.
func (s status) render() []byte {
	v := s.view
	known := s.known()
	fresh := queryable(v) && s.fresh

	var o pyjson.Object
	if v.State == stateRunning && !known {
		o.Set("state", stateUnknown)
	} else {
		o.Set("state", v.State)
	}
	if known && v.PostmasterStartTime != "" {
		o.Set("postmaster_start_time", v.PostmasterStartTime)
	}
	role := s.role(known)
	o.Set("role", role)
	if known && v.ServerVersion != 0 {
		o.Set("server_version", v.ServerVersion)
	}
	if fresh {
		o.Set("xlog", xlog(s.sample))
	}
	if known {
		s.replication(&o, role)
	}
	s.cluster(&o)
	return pyjson.Append(make([]byte, 0, 1024), o, pyjson.Spaced)
}

// role is the role by the newest knowledge of the recovery state.
func (s status) role(known bool) string {
	v := s.view
	if !known {
		return v.Role
	}
	inRecovery := v.Row.InRecovery
	if s.fresh {
		inRecovery = s.sample.InRecovery
	}
	switch {
	case !inRecovery:
		return rolePrimary
	case s.standbyCluster:
		return v.Role
	}
	return roleReplica
}

// replication adds what the monitoring query said of streams.
func (s status) replication(o *pyjson.Object, role string) {
	v := s.view
	sync, quorum := standbyKind(v, s.mode)
	o.SetIf("sync_standby", sync && role == roleReplica)
	o.SetIf("quorum_standby", quorum && role == roleReplica)
	if v.Row.Timeline != 0 {
		o.Set("timeline", int64(v.Row.Timeline))
	} else {
		o.Set("timeline", nil)
	}
	if v.Row.ReplicationState != "" && role != rolePrimary {
		o.Set("replication_state", v.Row.ReplicationState)
	}
	if len(v.Row.Replication) == 0 {
		return
	}
	list := make([]any, 0, len(v.Row.Replication))
	for _, r := range v.Row.Replication {
		list = append(list, pyjson.Object{
			field("usename", r.User), field("application_name", r.ApplicationName), field("client_addr", r.ClientAddr),
			field("state", r.State), field("sync_state", r.SyncState), field("sync_priority", r.SyncPriority),
		})
	}
	o.Set("replication", list)
}

// cluster adds the fields that are there whatever PostgreSQL does.
func (s status) cluster(o *pyjson.Object) {
	v := s.view
	o.SetIf("pause", v.Paused)
	o.SetIf("cluster_unlocked", unlocked(v, s.now))
	o.SetIf("failsafe_mode_is_active", v.FailsafeActive(s.now))
	o.Set("dcs_last_seen", epoch(v.DCSLastSeen))
	if len(v.Tags) > 0 {
		o.Set("tags", v.Tags.Object())
	}
	if v.SystemID != "" {
		o.Set("database_system_identifier", v.SystemID)
	}
	if len(v.PendingRestart) > 0 {
		o.Set("pending_restart", true)
		o.Set("pending_restart_reason", pendingReason(v.PendingRestart))
	}
	o.Set("patroni", pyjson.Object{field("version", v.Version), field("scope", v.Scope), field("name", v.Name)})
	if len(v.ScheduledRestart) > 0 {
		o.Set("scheduled_restart", json.RawMessage(v.ScheduledRestart))
	}
	o.SetIf("watchdog_failed", v.WatchdogFailed)
	o.SetIf("leash_off", v.LeashOff) // a member of ours
	own := ownFields(v)
	if s.promise != nil {
		own = append(own, field("promise", *s.promise))
	}
	if len(own) > 0 {
		o.Set("pgha", own)
	}
}

// ownFields are what only pgha knows: a long operation that runs, why this
// member does not trust what etcd holds, and what is wrong with its server.
func ownFields(v *ha.View) (own pyjson.Object) {
	if p := v.Progress; p != nil {
		own = pyjson.Object{
			field("operation", p.Operation), field("method", p.Method), field("done", p.Done), field("total", p.Total),
			field("rate", p.Rate), field("started", p.Started.UTC().Format(time.RFC3339)),
		}
	}
	if v.Quarantine != "" {
		own = append(own, field("quarantine", v.Quarantine))
	}
	if v.Fault != "" {
		own = append(own, field("fault", v.Fault)) // peers read it
	}
	return own
}

// xlog is the object peers elect by. Received is the first position that is not
// zero of received and replayed: a standby that restores from the archive has
// replayed what it never received by streaming.
func xlog(s ha.Sample) pyjson.Object {
	if !s.InRecovery {
		return pyjson.Object{field("location", uint64(s.Location))}
	}
	received := s.Received
	if received == 0 {
		received = s.Replayed
	}
	var stamp any
	if s.ReplayedTimestamp != "" {
		stamp = s.ReplayedTimestamp
	}
	return pyjson.Object{
		field("received_location", uint64(received)), field("replayed_location", uint64(s.Replayed)),
		field("replayed_timestamp", stamp), field("paused", s.ReplayPaused),
	}
}

// unlocked: nobody holds the leader key, as far as is known.
func unlocked(v *ha.View, now ha.Instant) bool {
	return !v.ClusterValid(now) || v.Cluster.LeaderName() == ""
}

// epoch is t in whole seconds since 1970, 0 for no time.
func epoch(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func pendingReason(reasons map[string]ha.PendingRestart) pyjson.Object {
	o := pyjson.Sorted(reasons)
	for i, f := range o {
		r := reasons[f.Name]
		o[i].Value = pyjson.Object{field("old_value", r.Old), field("new_value", r.New)}
	}
	return o
}
