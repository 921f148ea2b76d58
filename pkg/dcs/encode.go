package dcs

import (
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Encode returns the value of members/<name>: compact JSON, fields in the
// order of wire contract §4.2. Zero fields that are optional are left out. What
// only pgha knows goes last, in the member "pgha", which Patroni ignores.
func (m *Member) Encode() []byte { return m.Append(nil) }

// Append is Encode into an empty buffer that is used again.
func (m *Member) Append(buf []byte) []byte {
	w := writer{buf: buf[:0]}
	w.str("conn_url", m.ConnURL)
	w.str("api_url", m.APIURL)
	w.str("state", m.State)
	w.str("role", m.Role)
	w.str("version", m.Version)
	w.strIf("proxy_url", m.ProxyURL)
	if c := m.CheckpointAfterPromote; c != nil {
		w.name("checkpoint_after_promote")
		w.buf = strconv.AppendBool(w.buf, *c)
	}
	if len(m.Tags) > 0 {
		w.name("tags")
		w.buf = m.Tags.append(w.buf)
	}
	w.trueIf("pending_restart", m.PendingRestart)
	w.rawIf("pending_restart_reason", m.PendingRestartReason)
	w.uintIf("xlog_location", uint64(m.XLogLocation))
	w.uintIf("replay_lsn", uint64(m.ReplayLSN))
	w.uintIf("receive_lsn", uint64(m.ReceiveLSN))
	w.strIf("replication_state", m.ReplicationState)
	w.uintIf("timeline", uint64(m.Timeline))
	w.rawIf("scheduled_restart", m.ScheduledRestart)
	w.trueIf("pause", m.Pause)
	w.ownIf(m)
	return w.end()
}

// Encode returns the value of /failover; "{}" when nothing is requested, which
// is also how a request is cleared.
func (f *Failover) Encode() []byte {
	var w writer
	if f == nil {
		return w.end()
	}
	w.strIf("leader", f.Leader)
	w.strIf("member", f.Candidate)
	if !f.ScheduledAt.IsZero() {
		w.str("scheduled_at", FormatTime(f.ScheduledAt))
	}
	return w.end()
}

// FormatTime writes t as Python's isoformat does: seconds, microseconds only
// if there are any, and a numeric offset.
func FormatTime(t time.Time) string {
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05-07:00")
	}
	return t.Format("2006-01-02T15:04:05.000000-07:00")
}

// Encode returns the value of /sync. The standbys are sorted; nobody is null.
func (s *Sync) Encode() []byte {
	var w writer
	w.name("leader")
	w.buf = appendNullable(w.buf, s.Leader)
	w.name("quorum")
	w.buf = strconv.AppendInt(w.buf, int64(s.Quorum), 10)
	w.name("sync_standby")
	names := append([]string(nil), s.Standbys...)
	sort.Strings(names)
	w.buf = appendNullable(w.buf, strings.Join(names, ","))
	return w.end()
}

func appendNullable(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return pyjson.AppendString(b, s)
}

// Encode returns the value of /history: rows of three columns, four with a
// timestamp, five with the new leader as well.
func (h *History) Encode() []byte {
	b := []byte{'['}
	for i, l := range h.Lines {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = strconv.AppendUint(b, uint64(l.Timeline), 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, uint64(l.LSN), 10)
		b = append(b, ',')
		b = pyjson.AppendString(b, l.Reason)
		if l.Timestamp != "" || l.NewLeader != "" {
			b = append(b, ',')
			b = pyjson.AppendString(b, l.Timestamp)
		}
		if l.NewLeader != "" {
			b = append(b, ',')
			b = pyjson.AppendString(b, l.NewLeader)
		}
		b = append(b, ']')
	}
	return append(b, ']')
}

// Encode returns the value of /status. Empty collections are left out (wire
// contract §4.3); slots and retain_slots are sorted by name. The Beat goes
// last, in the member "pgha", which Patroni ignores and drops.
func (s *Status) Encode() []byte {
	var w writer
	w.uint("optime", uint64(s.Optime))
	if len(s.Slots) > 0 {
		w.name("slots")
		w.buf = appendSlots(w.buf, s.Slots)
	}
	if len(s.RetainSlots) > 0 {
		w.name("retain_slots")
		names := append([]string(nil), s.RetainSlots...)
		sort.Strings(names)
		w.buf = append(w.buf, '[')
		for i, name := range names {
			if i > 0 {
				w.buf = append(w.buf, ',')
			}
			w.buf = pyjson.AppendString(w.buf, name)
		}
		w.buf = append(w.buf, ']')
	}
	if s.Beat != nil {
		w.name("pgha")
		w.buf = s.Beat.append(w.buf)
	}
	return w.end()
}

func appendSlots(b []byte, slots map[string]wal.LSN) []byte {
	names := make([]string, 0, len(slots))
	for name := range slots {
		names = append(names, name)
	}
	sort.Strings(names)
	var w writer
	for _, name := range names {
		w.uint(name, uint64(slots[name]))
	}
	return append(b, w.end()...)
}

func (t *Beat) append(b []byte) []byte {
	var w writer
	w.name("beat")
	w.buf = strconv.AppendInt(w.buf, t.Beat, 10)
	w.name("epoch")
	w.buf = strconv.AppendInt(w.buf, t.Epoch, 10)
	w.name("ttl")
	w.buf = strconv.AppendInt(w.buf, t.TTL, 10)
	w.str("holder", t.Holder)
	w.name("released")
	w.buf = strconv.AppendBool(w.buf, t.Released)
	w.uintIf("timeline", uint64(t.Timeline))
	w.uintIf("next_timeline", uint64(t.Next))
	return append(b, w.end()...)
}

// Encode returns the value of /failsafe, sorted by name.
func (f *Failsafe) Encode() []byte {
	names := make([]string, 0, len(f.Members))
	for name := range f.Members {
		names = append(names, name)
	}
	sort.Strings(names)
	var w writer
	for _, name := range names {
		w.str(name, f.Members[name])
	}
	return w.end()
}
