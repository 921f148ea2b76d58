package restapi

import (
	"net/url"
	"strconv"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// clusterDocument renders GET /cluster (wire contract §5.6).
func clusterDocument(scope string, c *dcs.Cluster) []byte {
	var raw []byte
	if c.Config != nil {
		raw = c.Config.Raw
	}
	mode, standbyCluster, paused, _ := parseDynamic(raw)
	members := make([]any, 0, len(c.Members))
	for i := range c.Members {
		members = append(members, memberObject(c, &c.Members[i], mode, standbyCluster))
	}
	o := pyjson.Object{field("members", members)}
	o.SetIf("pause", paused)
	if f := c.Failover; f != nil && !f.ScheduledAt.IsZero() {
		at := pyjson.Object{field("at", dcs.FormatTime(f.ScheduledAt))}
		if f.Leader != "" {
			at.Set("from", f.Leader)
		}
		if f.Candidate != "" {
			at.Set("to", f.Candidate)
		}
		o.Set("scheduled_switchover", at)
	}
	o.Set("scope", scope)
	return pyjson.Append(nil, o, pyjson.Spaced)
}

func memberObject(c *dcs.Cluster, m *dcs.Member, mode config.SyncMode, standbyCluster bool) pyjson.Object {
	leads := m.Name == c.LeaderName()
	role := memberRole(c, m, mode, standbyCluster)
	state := m.State
	if m.ReplicationState != "" && role != "leader" {
		state = m.ReplicationState
	}
	o := pyjson.Object{field("name", m.Name), field("role", role), field("state", state), field("api_url", orNull(m.APIURL))}
	if host, port, ok := hostPort(m.ConnURL); ok {
		o.Set("host", host)
		o.Set("port", port)
	}
	if m.Timeline != 0 {
		o.Set("timeline", int64(m.Timeline))
	}
	o.SetIf("pending_restart", m.PendingRestart)
	if len(m.PendingRestartReason) > 0 {
		o.Set("pending_restart_reason", m.PendingRestartReason)
	}
	if len(m.ScheduledRestart) > 0 {
		o.Set("scheduled_restart", m.ScheduledRestart)
	}
	if len(m.Tags) > 0 {
		o.Set("tags", m.Tags.Object())
	}
	if leads {
		return o
	}
	var optime wal.LSN
	if c.Status != nil {
		optime = c.Status.Optime
	}
	setLag(&o, "receive_lag", "receive_lsn", optime, m.ReceiveLSN)
	setLag(&o, "replay_lag", "replay_lsn", optime, m.ReplayLSN)
	setLag(&o, "lag", "lsn", optime, m.XLogLocation)
	return o
}

func memberRole(c *dcs.Cluster, m *dcs.Member, mode config.SyncMode, standbyCluster bool) string {
	switch {
	case m.Name == c.LeaderName() && standbyCluster && m.Role != rolePrimary: // one that cannot follow the remote stays a primary
		return roleStandbyLd
	case m.Name == c.LeaderName():
		return "leader"
	case inSync(c.Sync, m.Name) && mode == config.SyncQuorum:
		return "quorum_standby"
	case inSync(c.Sync, m.Name):
		return "sync_standby"
	}
	return roleReplica
}

// setLag adds a position and its distance from the leader's; the order of the
// two differs between known and unknown, as it does in Patroni.
func setLag(o *pyjson.Object, lag, lsn string, optime, at wal.LSN) {
	if at == 0 {
		o.Set(lsn, stateUnknown)
		o.Set(lag, stateUnknown)
		return
	}
	o.Set(lag, optime.Sub(at))
	o.Set(lsn, at.String())
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// hostPort takes a connection URL apart; of several hosts the first counts.
func hostPort(connURL string) (host string, port int, ok bool) {
	u, err := url.Parse(connURL)
	if err != nil || u.Hostname() == "" {
		return "", 0, false
	}
	port = 5432
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil {
			return "", 0, false
		}
	}
	return u.Hostname(), port, true
}

// historyDocument renders GET /history: lines of three, four or five columns.
func historyDocument(h *dcs.History) []byte {
	list := []any{}
	if h != nil {
		for _, l := range h.Lines {
			line := []any{int64(l.Timeline), uint64(l.LSN), l.Reason}
			if l.Timestamp != "" {
				line = append(line, l.Timestamp)
				if l.NewLeader != "" {
					line = append(line, l.NewLeader)
				}
			}
			list = append(list, line)
		}
	}
	return pyjson.Append(nil, list, pyjson.Spaced)
}

// failsafeDocument renders GET /failsafe, members by name.
func failsafeDocument(f *dcs.Failsafe) []byte {
	return pyjson.Append(nil, pyjson.Sorted(f.Members), pyjson.Spaced)
}
