package restapi

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
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
}

// queryable: PostgreSQL is in a state in which it is asked at all.
func queryable(v *ha.View) bool {
	return v.State == stateRunning || v.State == "starting" || v.State == "restarting"
}

// document is the status document, rendered anew only when something in it
// changed.
func (s status) document() []byte {
	free := unlocked(s.view, s.now)
	if r := s.derived.status.Load(); r != nil && r.sample == s.sample && r.fresh == s.fresh && r.unlocked == free {
		return r.body
	}
	r := &rendered{sample: s.sample, fresh: s.fresh, unlocked: free, body: s.render()}
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

	var o pyObject
	if v.State == stateRunning && !known {
		o.set("state", stateUnknown)
	} else {
		o.set("state", v.State)
	}
	if known && v.PostmasterStartTime != "" {
		o.set("postmaster_start_time", v.PostmasterStartTime)
	}
	role := s.role(known)
	o.set("role", role)
	if known && v.ServerVersion != 0 {
		o.set("server_version", v.ServerVersion)
	}
	if fresh {
		o.set("xlog", xlog(s.sample))
	}
	if known {
		s.replication(&o, role)
	}
	s.cluster(&o)
	return appendPy(make([]byte, 0, 1024), o)
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
func (s status) replication(o *pyObject, role string) {
	v := s.view
	sync, quorum := standbyKind(v, s.mode)
	o.setIf("sync_standby", sync && role == roleReplica)
	o.setIf("quorum_standby", quorum && role == roleReplica)
	if v.Row.Timeline != 0 {
		o.set("timeline", int64(v.Row.Timeline))
	} else {
		o.set("timeline", nil)
	}
	if v.Row.ReplicationState != "" && role != rolePrimary {
		o.set("replication_state", v.Row.ReplicationState)
	}
	if len(v.Row.Replication) == 0 {
		return
	}
	list := make([]any, 0, len(v.Row.Replication))
	for _, r := range v.Row.Replication {
		list = append(list, pyObject{
			{"usename", r.User}, {"application_name", r.ApplicationName}, {"client_addr", r.ClientAddr},
			{"state", r.State}, {"sync_state", r.SyncState}, {"sync_priority", r.SyncPriority},
		})
	}
	o.set("replication", list)
}

// cluster adds the fields that are there whatever PostgreSQL does.
func (s status) cluster(o *pyObject) {
	v := s.view
	o.setIf("pause", v.Paused)
	o.setIf("cluster_unlocked", unlocked(v, s.now))
	o.set("dcs_last_seen", epoch(v.DCSLastSeen))
	if len(v.Tags) > 0 {
		o.set("tags", tagsObject(v.Tags))
	}
	if v.SystemID != "" {
		o.set("database_system_identifier", v.SystemID)
	}
	if len(v.PendingRestart) > 0 {
		o.set("pending_restart", true)
		o.set("pending_restart_reason", pendingReason(v.PendingRestart))
	}
	o.set("patroni", pyObject{{"version", v.Version}, {"scope", v.Scope}, {"name", v.Name}})
}

// xlog is the object peers elect by. Received is the first position that is not
// zero of received and replayed: a standby that restores from the archive has
// replayed what it never received by streaming.
func xlog(s ha.Sample) pyObject {
	if !s.InRecovery {
		return pyObject{{"location", uint64(s.Location)}}
	}
	received := s.Received
	if received == 0 {
		received = s.Replayed
	}
	var stamp any
	if s.ReplayedTimestamp != "" {
		stamp = s.ReplayedTimestamp
	}
	return pyObject{
		{"received_location", uint64(received)}, {"replayed_location", uint64(s.Replayed)},
		{"replayed_timestamp", stamp}, {"paused", s.ReplayPaused},
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

func tagsObject(tags dcs.Tags) pyObject {
	o := make(pyObject, 0, len(tags))
	for _, t := range tags {
		o.set(t.Name, t.Value)
	}
	return o
}

func pendingReason(reasons map[string]ha.PendingRestart) pyObject {
	names := make([]string, 0, len(reasons))
	for n := range reasons {
		names = append(names, n)
	}
	slices.Sort(names)
	o := make(pyObject, 0, len(names))
	for _, n := range names {
		o.set(n, pyObject{{"old_value", reasons[n].Old}, {"new_value", reasons[n].New}})
	}
	return o
}
