package dcs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

const maxLSN = math.MaxInt64 // positions are signed 64-bit for Patroni's SQL

// DecodeMember reads members/<name>. Fields of a wrong type are left zero and
// reported; the member is returned in any case, because for Patroni a value
// it cannot read is still a member.
func DecodeMember(name string, v []byte) (Member, error) {
	m := Member{Name: name}
	if len(v) > MaxValue {
		return m, errTooLarge
	}
	if bytes.HasPrefix(v, []byte("postgres")) {
		return m, m.fromURL(string(v))
	}
	f, err := parseObject(v)
	if err != nil {
		return m, err
	}
	m.ConnURL, m.APIURL, m.ProxyURL = str(f.get("conn_url")), str(f.get("api_url")), str(f.get("proxy_url"))
	m.State, m.Role, m.Version = str(f.get("state")), str(f.get("role")), str(f.get("version"))
	if m.Role == "master" {
		m.Role = "primary"
	}
	m.ReplicationState = str(f.get("replication_state"))
	m.PendingRestart = boolean(f.get("pending_restart"))
	m.Pause = boolean(f.get("pause"))
	m.PendingRestartReason = optional(f.get("pending_restart_reason"))
	m.ScheduledRestart = optional(f.get("scheduled_restart"))
	if raw := f.get("checkpoint_after_promote"); !isNull(raw) {
		done := boolean(raw)
		m.CheckpointAfterPromote = &done
	}
	return m, m.numbers(f)
}

// numbers fills the fields that have a range, and the tags.
func (m *Member) numbers(f object) error {
	var errs []error
	position := func(name string, to *wal.LSN) {
		if raw := f.get(name); !isNull(raw) {
			n, err := integer(raw, maxLSN)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
			*to = wal.LSN(n)
		}
	}
	position("xlog_location", &m.XLogLocation)
	position("replay_lsn", &m.ReplayLSN)
	position("receive_lsn", &m.ReceiveLSN)
	if raw := f.get("timeline"); !isNull(raw) {
		n, err := integer(raw, math.MaxUint32)
		if err != nil {
			errs = append(errs, fmt.Errorf("timeline: %w", err))
		}
		m.Timeline = wal.Timeline(n)
	}
	if raw := f.get("tags"); !isNull(raw) {
		tags, err := decodeTags(raw)
		if err != nil {
			errs = append(errs, fmt.Errorf("tags: %w", err))
		}
		m.Tags = tags
	}
	if raw := f.get("pgha"); !isNull(raw) {
		if err := m.decodeOwn(raw); err != nil {
			errs = append(errs, fmt.Errorf("pgha: %w", err))
		}
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// fromURL reads the form of very old members: a connection URL whose
// application_name is the API URL.
func (m *Member) fromURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("not a connection URL")
	}
	m.APIURL = u.Query().Get("application_name")
	u.RawQuery = ""
	m.ConnURL = u.String()
	return nil
}

func boolean(raw json.RawMessage) bool { return string(raw) == "true" }

func optional(raw json.RawMessage) json.RawMessage {
	if isNull(raw) {
		return nil
	}
	return raw
}

// DecodeFailover reads /failover: the JSON object, or the legacy text
// "leader:candidate". JSON that is no object requests nothing.
func DecodeFailover(v []byte) (*Failover, error) {
	if len(v) > MaxValue {
		return nil, errTooLarge
	}
	if text := bytes.TrimSpace(v); len(text) == 0 {
		return &Failover{}, nil
	} else if !json.Valid(text) {
		return failoverText(string(text))
	}
	f, err := parseObject(v)
	if errors.Is(err, errNotObject) {
		return &Failover{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := &Failover{Leader: str(f.get("leader")), Candidate: str(f.get("member"))}
	raw := f.get("scheduled_at")
	if isNull(raw) || string(raw) == `""` {
		return out, nil
	}
	if out.ScheduledAt, err = ParseTime(str(raw)); err != nil {
		out.Bad = true
	}
	return out, nil
}

func failoverText(text string) (*Failover, error) {
	if strings.HasPrefix(text, "{") || !cleanText([]byte(text)) {
		return nil, errors.New("neither JSON nor leader:candidate")
	}
	parts := strings.SplitN(text, ":", 3)
	out := &Failover{Leader: strings.TrimSpace(parts[0])}
	if len(parts) > 1 {
		out.Candidate = strings.TrimSpace(parts[1])
	}
	return out, nil
}

// ParseTime reads an ISO 8601 time with an offset, a blank or a T between date
// and time. A time without an offset is refused: it would mean another instant
// on every node.
func ParseTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, sep := range []string{"T", " "} {
		for _, zone := range []string{"Z07:00", "-0700", "-07", " Z07:00", " -0700"} {
			for _, clock := range []string{"15:04:05", "15:04"} {
				t, err := time.Parse("2006-01-02"+sep+clock+zone, s)
				if err == nil {
					return t, nil
				}
			}
		}
	}
	return time.Time{}, fmt.Errorf("parse time %s: want YYYY-MM-DDTHH:MM:SS+HH:MM", clip(s))
}

// DecodeHistory reads /history: rows of three, four or five columns.
func DecodeHistory(v []byte) (*History, error) {
	if len(v) > MaxValue {
		return nil, errTooLarge
	}
	var rows [][]json.RawMessage
	if err := json.Unmarshal(v, &rows); err != nil {
		return nil, errors.New("not a JSON array of arrays")
	}
	h := &History{}
	for i, row := range rows {
		line, err := historyLine(row)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		h.Lines = append(h.Lines, line)
	}
	return h, nil
}

func historyLine(row []json.RawMessage) (HistoryLine, error) {
	var l HistoryLine
	if len(row) < 3 {
		return l, errors.New("has fewer than three columns")
	}
	tl, err := integer(row[0], math.MaxUint32)
	if err != nil {
		return l, fmt.Errorf("timeline: %w", err)
	}
	lsn, err := integer(row[1], maxLSN)
	if err != nil {
		return l, fmt.Errorf("lsn: %w", err)
	}
	l.Timeline, l.LSN, l.Reason = wal.Timeline(tl), wal.LSN(lsn), str(row[2])
	if len(row) > 3 {
		l.Timestamp = str(row[3])
	}
	if len(row) > 4 {
		l.NewLeader = str(row[4])
	}
	return l, nil
}

// DecodeStatus reads /status: the object, a bare integer, and collections as
// objects or as JSON inside a string. Slots without a position (null) are
// left out.
func DecodeStatus(v []byte) (*Status, error) {
	if len(v) > MaxValue {
		return nil, errTooLarge
	}
	text := bytes.TrimSpace(v)
	if n, err := integer(text, maxLSN); err == nil {
		return &Status{Optime: wal.LSN(n)}, nil
	}
	f, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	s := &Status{}
	if raw := f.get("optime"); !isNull(raw) {
		n, err := integer(raw, maxLSN)
		if err != nil {
			return nil, fmt.Errorf("optime: %w", err)
		}
		s.Optime = wal.LSN(n)
	}
	if s.Slots, err = decodeSlots(unwrap(f.get("slots"))); err != nil {
		return nil, fmt.Errorf("slots: %w", err)
	}
	if raw := unwrap(f.get("retain_slots")); !isNull(raw) {
		if err := json.Unmarshal(raw, &s.RetainSlots); err != nil {
			return nil, errors.New("retain_slots is not an array of names")
		}
	}
	if s.Beat, err = decodeBeat(f.get("pgha")); err != nil {
		return nil, err
	}
	return s, nil
}

// unwrap resolves JSON inside a JSON string; "" counts as null.
func unwrap(raw json.RawMessage) json.RawMessage {
	if len(raw) > 0 && raw[0] == '"' {
		return json.RawMessage(str(raw))
	}
	return raw
}

func decodeSlots(raw json.RawMessage) (map[string]wal.LSN, error) {
	if isNull(raw) {
		return nil, nil
	}
	pairs, err := parseObject(raw)
	if err != nil {
		return nil, err
	}
	slots := make(map[string]wal.LSN, len(pairs))
	for _, p := range pairs {
		if isNull(p.raw) {
			continue
		}
		n, err := integer(p.raw, maxLSN)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", clip(p.name), err)
		}
		slots[p.name] = wal.LSN(n)
	}
	return slots, nil
}

// maxBeatTTL bounds a published TTL (milliseconds): a wait must not overflow.
const maxBeatTTL = 24 * 3600 * 1000

func decodeBeat(raw json.RawMessage) (*Beat, error) {
	if isNull(raw) {
		return nil, nil
	}
	f, err := parseObject(raw)
	if err != nil {
		return nil, errors.New("pgha is not a heartbeat")
	}
	b := Beat{Holder: str(f.get("holder")), Released: boolean(f.get("released"))}
	for _, n := range []struct {
		name  string
		to    *int64
		limit uint64
	}{{"beat", &b.Beat, math.MaxInt64}, {"epoch", &b.Epoch, math.MaxInt64}, {"ttl", &b.TTL, maxBeatTTL}} {
		value := f.get(n.name)
		if isNull(value) {
			continue
		}
		v, err := integer(value, n.limit)
		if err != nil {
			return nil, fmt.Errorf("pgha: %s: %w", n.name, err)
		}
		*n.to = int64(v)
	}
	for name, to := range map[string]*wal.Timeline{"timeline": &b.Timeline, "next_timeline": &b.Next} {
		value := f.get(name)
		if isNull(value) {
			continue
		}
		v, err := integer(value, math.MaxUint32)
		if err != nil {
			return nil, fmt.Errorf("pgha: %s: %w", name, err)
		}
		*to = wal.Timeline(v)
	}
	if len(b.Holder) > maxName {
		return nil, errors.New("pgha: holder is too long")
	}
	return &b, nil
}
