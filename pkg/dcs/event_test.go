package dcs

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func event(member string, seq int64, at int) Event {
	return Event{Run: 1000, Seq: seq, At: time.Unix(int64(at), 0).UTC(), Member: member, Kind: EventLeader, Text: "took the leader key"}
}

func names(list []Event) string {
	var b strings.Builder
	for _, e := range list {
		b.WriteString(e.Member + e.ID() + " ")
	}
	return b.String()
}

func TestEventRing(t *testing.T) {
	var none *EventRing
	first := &EventRing{Raw: none.With([]Event{event("n2", 1, 5), event("n1", 1, 3)})}
	if got := names(first.Events()); got != "n11000-1 n21000-1 " {
		t.Errorf("a new ring holds %q", got)
	}
	// A write whose outcome was unknown is repeated: no doubles.
	again := []Event{event("n2", 1, 5), event("n1", 2, 5)}
	second := &EventRing{Raw: first.With(again)}
	if got := names(second.Events()); got != "n11000-1 n11000-2 n21000-1 " {
		t.Errorf("with more it holds %q", got)
	}
	if v := second.With(again); v != nil {
		t.Errorf("nothing new, and yet a value to write: %s", v)
	}
}

func TestEventRingBounds(t *testing.T) {
	var many []Event
	for i := range int64(3 * MaxEvents) {
		many = append(many, event("n1", i, int(i)))
	}
	ring := &EventRing{Raw: (*EventRing)(nil).With(many)}
	got := ring.Events()
	if len(got) != MaxEvents || got[len(got)-1].Seq != 3*MaxEvents-1 {
		t.Errorf("%d entries, the last is %d", len(got), got[len(got)-1].Seq)
	}
	for i := range many {
		many[i].Text = strings.Repeat("x", 399)
	}
	value := (*EventRing)(nil).With(many)
	if len(value) > MaxEventBytes || len(value) < MaxEventBytes/2 {
		t.Errorf("a ring of long texts has %d bytes", len(value))
	}
	ring = &EventRing{Raw: value}
	if got := ring.Events(); got[len(got)-1].Seq != 3*MaxEvents-1 {
		t.Errorf("the newest event made room for an older one")
	}
}

// TestEventRingBadValues: what others wrote spoils nothing.
func TestEventRingBadValues(t *testing.T) {
	for _, raw := range []string{"", "{}", "null", "[1,{},{\"member\":7}]", "[" + strings.Repeat(" ", MaxValue) + "]", `[{"member":"n1","at":"gestern"}]`} {
		ring := &EventRing{Raw: json.RawMessage(raw)}
		if got := ring.Events(); len(got) != 0 {
			t.Errorf("%.40s: %v", raw, got)
		}
		if value := ring.With([]Event{event("n1", 1, 1)}); len((&EventRing{Raw: value}).Events()) != 1 {
			t.Errorf("%.40s: cannot be written over", raw)
		}
	}
	c := Decode("/b", []KV{{Key: "/b/pgha/events", Value: []byte("nonsense"), ModRevision: 7}})
	if len(c.Invalid) != 0 || c.ModRevision(KeyEvents) != 7 {
		t.Errorf("a bad ring: invalid %v, revision %d", c.Invalid, c.ModRevision(KeyEvents))
	}
}

func TestEventClean(t *testing.T) {
	e := Event{Text: "a\nb", Error: strings.Repeat("é", 1000), At: time.Date(2026, 1, 2, 3, 4, 5, 6789000, time.FixedZone("", 3600))}.Clean()
	if e.Text != "a b" || len(e.Error) > 400 || e.At.Format(time.RFC3339Nano) != "2026-01-02T02:04:05.006Z" {
		t.Errorf("%q %d %s", e.Text, len(e.Error), e.At)
	}
}

func TestEventID(t *testing.T) {
	e := event("n1", 17, 0)
	if run, seq, err := ParseEventID(e.ID()); err != nil || run != 1000 || seq != 17 {
		t.Errorf("%s: %d %d %v", e.ID(), run, seq, err)
	}
	for _, bad := range []string{"", "-", "1", "1-", "-1", "a-b", "1-2-3", "-1-2"} {
		if _, _, err := ParseEventID(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
