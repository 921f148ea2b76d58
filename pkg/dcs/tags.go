package dcs

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/pgha/pgha/internal/pyjson"
)

// Get returns the value of a tag, as decoded; nil when absent or null.
func (t Tags) Get(name string) any {
	for i := range t {
		if t[i].Name == name {
			return t[i].Value
		}
	}
	return nil
}

// Bool reads a tag as Patroni's parse_bool does: on/true/yes/1 in any case and
// any type. Everything else, absence included, is false.
func (t Tags) Bool(name string) bool {
	switch strings.ToLower(scalar(t.Get(name))) {
	case "on", "true", "yes", "1":
		return true
	}
	return false
}

// Int reads a tag as an integer; a number with a fraction is rounded and a
// string of digits counts. ok is false when the tag is absent or no number.
func (t Tags) Int(name string) (value int, ok bool) {
	text := scalar(t.Get(name))
	if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.Abs(f) > math.MaxInt32 {
		return 0, false
	}
	return int(math.RoundToEven(f)), true
}

// String reads a tag as text; "" when it is absent or no scalar.
func (t Tags) String(name string) string { return scalar(t.Get(name)) }

func scalar(v any) string {
	switch v := v.(type) {
	case nil, []any, map[string]any:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// NoFailover tells whether the member never promotes by itself. The tag
// nofailover wins when present, otherwise failover_priority <= 0 means it.
func (t Tags) NoFailover() bool { return t.refused("nofailover", "failover_priority") }

// FailoverPriority ranks candidates with equal positions, higher first. 0
// with nofailover, 1 by default.
func (t Tags) FailoverPriority() int { return t.priority("nofailover", "failover_priority") }

// NoSync tells whether the member must not become synchronous.
func (t Tags) NoSync() bool { return t.refused("nosync", "sync_priority") }

// SyncPriority ranks candidates for synchronous duty, higher first.
func (t Tags) SyncPriority() int { return t.priority("nosync", "sync_priority") }

func (t Tags) refused(flag, rank string) bool {
	if t.Get(flag) != nil {
		return t.Bool(flag)
	}
	n, ok := t.Int(rank)
	return ok && n <= 0
}

func (t Tags) priority(flag, rank string) int {
	if t.Bool(flag) {
		return 0
	}
	if n, ok := t.Int(rank); ok {
		return n
	}
	return 1
}

// Object gives the tags the form the encoder takes.
func (t Tags) Object() pyjson.Object {
	o := make(pyjson.Object, 0, len(t))
	for _, tag := range t {
		o.Set(tag.Name, tag.Value)
	}
	return o
}

// MarshalJSON writes the tags as one object in their order.
func (t Tags) MarshalJSON() ([]byte, error) { return t.append(nil), nil }

// UnmarshalJSON reads an object, keeping its order.
func (t *Tags) UnmarshalJSON(text []byte) error {
	tags, err := decodeTags(text)
	if err != nil {
		return err
	}
	*t = tags
	return nil
}

func (t Tags) append(b []byte) []byte {
	return pyjson.Append(b, t.Object(), pyjson.Compact)
}

func decodeTags(text json.RawMessage) (Tags, error) {
	pairs, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	tags := make(Tags, 0, len(pairs))
	for _, p := range pairs {
		dec := json.NewDecoder(strings.NewReader(string(p.raw)))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("tag %s: %w", clip(p.name), err)
		}
		tags = append(tags, Tag{Name: p.name, Value: v})
	}
	return tags, nil
}

// NoFailover is Tags.NoFailover of a member that may be nil.
func (m *Member) NoFailover() bool { return m != nil && m.Tags.NoFailover() }

// FailoverPriority is Tags.FailoverPriority of the member.
func (m *Member) FailoverPriority() int { return m.Tags.FailoverPriority() }

// NoSync is Tags.NoSync of the member.
func (m *Member) NoSync() bool { return m.Tags.NoSync() }

// SyncPriority is Tags.SyncPriority of the member.
func (m *Member) SyncPriority() int { return m.Tags.SyncPriority() }

// CloneFrom tells whether the member is a preferred source of base backups.
func (m *Member) CloneFrom() bool { return m.Tags.Bool("clonefrom") }

// NoStream tells whether the member gets WAL from the archive only.
func (m *Member) NoStream() bool { return m.Tags.Bool("nostream") }

// NoLoadBalance tells whether /replica and its family answer 503.
func (m *Member) NoLoadBalance() bool { return m.Tags.Bool("noloadbalance") }

// ReplicateFrom names the member to stream from; "" is the leader.
func (m *Member) ReplicateFrom() string { return m.Tags.String("replicatefrom") }

// CheckpointDone tells whether a primary has finished its first checkpoint
// after promotion, so that pg_rewind may trust its control file.
func (m *Member) CheckpointDone() bool {
	return m.CheckpointAfterPromote == nil || *m.CheckpointAfterPromote
}
