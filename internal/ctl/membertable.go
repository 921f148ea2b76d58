package ctl

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/dcs"
)

// Column titles of `list`, which are the keys of its JSON and YAML too.
const (
	colCluster       = "Cluster"
	colReceiveLag    = "Receive Lag"
	colReplayLag     = "Replay Lag"
	colPending       = "Pending restart"
	colPendingReason = "Pending restart reason"
	colScheduled     = "Scheduled restart"
	colTags          = "Tags"
	colProgress      = "Progress" // not of patronictl
	colQuarantine    = "Quarantine"
	colSlots         = "Slots"
)

// defaultPort is PostgreSQL's; other ports are shown beside the host.
const defaultPort = 5432

// writeMembers prints the member list of the cluster called name in the given
// format; the footer goes with tables only, so that the other formats stay
// parseable.
func writeMembers(w io.Writer, c *dcs.Cluster, name string, f format, extended bool) error {
	t := memberTable(c, name, f, extended)
	if err := t.write(w, f); err != nil || !f.isTable() {
		return err
	}
	_, err := io.WriteString(w, footer(c))
	return err
}

// memberTable builds the table of wire contract §6.3.
func memberTable(c *dcs.Cluster, name string, f format, extended bool) *table {
	members := describeMembers(c)
	if f == formatTopology {
		members = asTree(members)
	}
	t := &table{
		title: fmt.Sprintf(" Cluster: %s (%s) ", name, identifier(c)),
		columns: []string{
			colCluster, "Member", "Host", "Role", "State", "TL",
			"Receive LSN", colReceiveLag, "Replay LSN", colReplayLag,
		},
		right:      map[string]bool{"TL": true, "Receive LSN": true, "Replay LSN": true, "Lag": true},
		dropsEmpty: true,
	}
	extra := extraColumns(members, f, extended)
	t.columns = append(t.columns, extra...)
	withPort := showPorts(members)
	for i := range members {
		t.rows = append(t.rows, memberRow(&members[i], name, f, extra, withPort))
	}
	if f.isTable() {
		t.foldForPretty()
	}
	return t
}

// identifier is the text in brackets of the title line.
func identifier(c *dcs.Cluster) string {
	switch {
	case c.Initialize == nil:
		return "uninitialized"
	case c.Initialize.SystemID == "":
		return "initializing"
	}
	return c.Initialize.SystemID
}

// extraColumns names the columns shown on request, or because a member that
// publishes an address has something to say in them.
func extraColumns(members []memberInfo, f format, extended bool) []string {
	has := map[string]bool{}
	for _, m := range members {
		if m.host == "" {
			continue
		}
		has[colPending] = has[colPending] || m.pendingRestart
		has[colPendingReason] = has[colPendingReason] || len(m.reasons) > 0
		has[colScheduled] = has[colScheduled] || m.scheduled != ""
		has[colTags] = has[colTags] || len(m.tags) > 0
	}
	var cols []string
	for _, col := range []string{colPending, colPendingReason, colScheduled, colTags} {
		if extended || has[col] {
			cols = append(cols, col)
		}
	}
	busy := func(m memberInfo) bool { return m.progress != nil }
	if extended && slices.ContainsFunc(members, busy) {
		cols = append(cols, colProgress)
	}
	if extended && slices.ContainsFunc(members, func(m memberInfo) bool { return len(m.slots) > 0 }) {
		cols = append(cols, colSlots)
	}
	if !f.isTable() && slices.ContainsFunc(members, func(m memberInfo) bool { return m.quarantine != "" }) {
		cols = append(cols, colQuarantine) // a table has it below, where there is room
	}
	return cols
}

// showPorts tells whether hosts alone would be misleading: some port is not
// the usual one, or two members share a host.
func showPorts(members []memberInfo) bool {
	seen := map[string]bool{}
	for _, m := range members {
		if m.host == "" {
			continue
		}
		if m.port != defaultPort || seen[m.host] {
			return true
		}
		seen[m.host] = true
	}
	return false
}

func memberRow(m *memberInfo, cluster string, f format, extra []string, withPort bool) []any {
	host := m.host
	if withPort && host != "" {
		host = fmt.Sprintf("%s:%d", host, m.port)
	}
	var timeline any = ""
	if m.timeline != 0 {
		timeline = int64(m.timeline)
	}
	row := []any{
		cluster, m.name, host, m.role, m.state, timeline,
		m.receive.lsn, m.receive.lag, m.replay.lsn, m.replay.lag,
	}
	for _, col := range extra {
		row = append(row, extraCell(m, col, f))
	}
	return row
}

func extraCell(m *memberInfo, col string, f format) any {
	switch {
	case col == colPending && m.pendingRestart:
		return "*"
	case col == colPendingReason:
		return reason(m.reasons, f.isTable())
	case col == colScheduled:
		return m.scheduled
	case col == colTags && len(m.tags) > 0:
		return tagsCell(m.tags.Object(), f)
	case col == colQuarantine:
		return m.quarantine
	case col == colSlots && len(m.slots) > 0:
		return slotsCell(m.slots, f)
	case col == colProgress && m.progress != nil && (f.isTable() || f == formatTSV):
		return publishedText(m.progress)
	case col == colProgress && m.progress != nil:
		return progressObject(m.progress)
	}
	return ""
}

// tagsCell gives tags as YAML text where the format is text, and as a value
// where the format has objects of its own.
func tagsCell(tags pyjson.Object, f format) any {
	switch f {
	case formatPretty:
		return strings.TrimSpace(yamlBlock(tags))
	case formatTSV, formatTopology:
		return yamlFlow(tags)
	}
	return tags
}

// foldForPretty moves the cluster's name from the first column to the title
// line and shortens the lag titles.
func (t *table) foldForPretty() {
	t.columns = t.columns[1:]
	for i, col := range t.columns {
		if col == colReceiveLag || col == colReplayLag {
			t.columns[i] = "Lag"
		}
	}
	for i := range t.rows {
		t.rows[i] = t.rows[i][1:]
	}
}

// footer is what follows the table: pause, who is in quarantine and a scheduled
// switchover.
func footer(c *dcs.Cluster) string {
	var b strings.Builder
	if dynamicOf(c).Pause {
		b.WriteString(" Maintenance mode: on\n")
	}
	quarantined := false
	for i := range c.Members {
		if m := &c.Members[i]; m.Quarantine != "" {
			fmt.Fprintf(&b, " Quarantine: %s: %s\n", m.Name, m.Quarantine)
			quarantined = true
		}
	}
	if quarantined {
		b.WriteString(" If what etcd holds is right: pghactl accept-dcs\n")
	}
	if f := c.Failover; f != nil && !f.ScheduledAt.IsZero() {
		fmt.Fprintf(&b, " Switchover scheduled at: %s\n", dcs.FormatTime(f.ScheduledAt))
		if f.Leader != "" {
			fmt.Fprintf(&b, "%24s: %s\n", "from", f.Leader)
		}
		if f.Candidate != "" {
			fmt.Fprintf(&b, "%24s: %s\n", "to", f.Candidate)
		}
	}
	return b.String()
}
