package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// memberInfo is what `list` knows about one member: the entry of the cluster
// document (wire contract §5.6) with the values already in printed form.
type memberInfo struct {
	name     string
	role     string // title case, as printed
	state    string
	host     string // "" when the member publishes no usable conn_url
	port     int
	timeline wal.Timeline
	leader   bool
	receive  position
	replay   position

	pendingRestart bool
	reasons        []settingChange
	scheduled      string
	tags           dcs.Tags
	progress       *dcs.Progress
	quarantine     string
	slots          []dcs.SlotUsage
}

// position is one LSN column with its lag column.
type position struct {
	lsn string // "X/Y", "unknown", or "" for the leader
	lag any    // int64 megabytes, or "" when not known
}

// settingChange is one entry of pending_restart_reason.
type settingChange struct{ name, before, after string }

// describeMembers turns the snapshot into the rows of `list`, sorted by name.
func describeMembers(c *dcs.Cluster) []memberInfo {
	dyn := dynamicOf(c)
	members := make([]memberInfo, 0, len(c.Members))
	for i := range c.Members {
		members = append(members, describeMember(c, dyn, &c.Members[i]))
	}
	return members
}

func describeMember(c *dcs.Cluster, dyn *config.Dynamic, m *dcs.Member) memberInfo {
	info := memberInfo{
		name:           m.Name,
		role:           roleTitle(c, dyn, m),
		state:          m.State,
		timeline:       m.Timeline,
		leader:         m.Name == c.LeaderName(),
		pendingRestart: m.PendingRestart,
		reasons:        settingChanges(m.PendingRestartReason),
		scheduled:      scheduledRestart(m.ScheduledRestart),
		tags:           m.Tags,
		progress:       m.Progress,
		quarantine:     m.Quarantine,
		slots:          m.Slots,
	}
	if m.ReplicationState != "" && info.role != roleLeader {
		info.state = m.ReplicationState
	}
	info.host, info.port = hostPort(m.ConnURL)
	info.receive, info.replay = positions(c, m, info)
	return info
}

// Roles as printed (wire contract §6.3).
const (
	roleLeader        = "Leader"
	roleStandbyLeader = "Standby Leader"
	roleSyncStandby   = "Sync Standby"
	roleQuorumStandby = "Quorum Standby"
	roleReplica       = "Replica"
)

// roleTitle is the role in the table. A leader that was to become a standby
// leader, and cannot follow the remote, stays a primary (docs/compatibility.md).
func roleTitle(c *dcs.Cluster, dyn *config.Dynamic, m *dcs.Member) string {
	switch {
	case m.Name == c.LeaderName() && dyn.StandbyCluster != nil && m.Role != "primary":
		return roleStandbyLeader
	case m.Name == c.LeaderName():
		return roleLeader
	case c.Sync == nil || c.Sync.Leader == "" || !c.Sync.Has(m.Name):
		return roleReplica
	case dyn.SynchronousMode == config.SyncQuorum:
		return roleQuorumStandby
	}
	return roleSyncStandby
}

// dynamicOf reads /config; an absent or unreadable one gives the defaults, so
// that a broken document never hides the members.
func dynamicOf(c *dcs.Cluster) *config.Dynamic {
	if c.Config != nil {
		if dyn, err := config.ParseDynamic(c.Config.Raw); err == nil && dyn != nil {
			return dyn
		}
	}
	return config.DefaultDynamic()
}

// positions fills the LSN and lag columns. A member before 4.1 publishes its
// xlog_location alone: that goes to the receive pair while it streams and to
// the replay pair otherwise.
func positions(c *dcs.Cluster, m *dcs.Member, info memberInfo) (receive, replay position) {
	if info.leader {
		return position{lag: ""}, position{lag: ""}
	}
	var top wal.LSN
	if c.Status != nil {
		top = c.Status.Optime
	}
	receive, replay = positionOf(top, m.ReceiveLSN), positionOf(top, m.ReplayLSN)
	if m.ReceiveLSN == 0 && m.ReplayLSN == 0 && m.XLogLocation != 0 {
		if info.state == "streaming" {
			receive = positionOf(top, m.XLogLocation)
		} else {
			replay = positionOf(top, m.XLogLocation)
		}
	}
	return receive, replay
}

func positionOf(top, lsn wal.LSN) position {
	if lsn == 0 {
		return position{lsn: "unknown", lag: ""}
	}
	mb := float64(top.Sub(lsn)) / (1 << 20)
	return position{lsn: lsn.String(), lag: int64(math.RoundToEven(mb))}
}

// hostPort takes the address out of a conn_url; the port defaults to 5432.
func hostPort(connURL string) (host string, port int) {
	u, err := url.Parse(connURL)
	if err != nil || u.Hostname() == "" {
		return "", 0
	}
	port, err = strconv.Atoi(u.Port())
	if err != nil {
		port = 5432
	}
	return u.Hostname(), port
}

// settingChanges reads {"name": {"old_value": …, "new_value": …}, …} in the
// order of the document. What does not have this form is left out.
func settingChanges(raw json.RawMessage) []settingChange {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	var changes []settingChange
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return changes
		}
		var v struct {
			Before any `json:"old_value"`
			After  any `json:"new_value"`
		}
		if err := dec.Decode(&v); err != nil {
			return changes
		}
		changes = append(changes, settingChange{fmt.Sprint(name), text(v.Before), text(v.After)})
	}
	return changes
}

func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// maxReason is the longest reason shown in a table, in characters.
const maxReason = 50

// reason prints the changes one per line; in tables a long one hides its
// values.
func reason(changes []settingChange, hideLong bool) string {
	lines := make([]string, 0, len(changes))
	for _, c := range changes {
		line := c.name + ": " + c.before + "->" + c.after
		if hideLong && len([]rune(line)) > maxReason {
			line = c.name + ": [hidden - too long]"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// scheduledRestart prints scheduled_restart: the time as stored, and the
// version filter if there is one.
func scheduledRestart(raw json.RawMessage) string {
	var v struct {
		Schedule string `json:"schedule"`
		Version  string `json:"postgres_version"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return ""
	}
	if v.Schedule != "" && v.Version != "" {
		return v.Schedule + " if version < " + v.Version
	}
	return v.Schedule
}
