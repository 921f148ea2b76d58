package dcs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Event is one entry of the journal: something that changed or was asked for,
// with the member that saw to it. Its JSON is what the journal's files, GET
// /events and /pgha/events hold.
type Event struct {
	// Run and Seq name the event among those of its member: when the agent
	// that wrote it was started (Unix time in milliseconds), and a number that
	// grows by one.
	Run    int64     `json:"run"`
	Seq    int64     `json:"seq"`
	At     time.Time `json:"at"` // UTC, to the millisecond
	Member string    `json:"member"`

	Kind  EventKind  `json:"kind"`
	State EventState `json:"state,omitempty"`
	Text  string     `json:"text"` // what happened
	// Reason is the code of the decision behind it (ha.Reason), Cause its sentence.
	Reason string `json:"reason,omitempty"`
	Cause  string `json:"cause,omitempty"`
	Error  string `json:"error,omitempty"`
	By     string `json:"by,omitempty"` // who asked: user, if there are users, and address
	// Seconds is how long it took, Phases what of it went where.
	Seconds float64      `json:"seconds,omitempty"`
	Phases  []EventPhase `json:"phases,omitempty"`
}

// EventPhase is a part of the time that an event took.
type EventPhase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// EventKind says what an event is about. Readers must expect kinds that they do
// not know.
type EventKind string

// Kinds of events.
const (
	EventAgent         EventKind = "agent"    // the agent started or ended
	EventRequest       EventKind = "request"  // somebody asked for something over REST
	EventLeader        EventKind = "leader"   // the leader key was taken, released or lost
	EventElection      EventKind = "election" // a member stays out of the race
	EventPromote       EventKind = "promote"
	EventDemote        EventKind = "demote"
	EventStart         EventKind = "start"
	EventStop          EventKind = "stop"
	EventRestart       EventKind = "restart"
	EventCrash         EventKind = "crash"
	EventCrashRecovery EventKind = "crash_recovery"
	EventBootstrap     EventKind = "bootstrap"
	EventClone         EventKind = "clone"
	EventRewind        EventKind = "rewind"
	EventDivergence    EventKind = "divergence"
	EventFollow        EventKind = "follow"
	EventStreaming     EventKind = "streaming"
	EventRestore       EventKind = "restore"
	EventBackup        EventKind = "backup"
	EventPause         EventKind = "pause"
	EventConfig        EventKind = "config"
	EventMember        EventKind = "member" // one came or went
	EventEtcd          EventKind = "etcd"   // could not be reached, or can be again
	EventFailsafe      EventKind = "failsafe"
	EventSync          EventKind = "sync"       // who is a synchronous standby
	EventQuarantine    EventKind = "quarantine" // etcd is behind what a member saw before
	EventLeash         EventKind = "leash"
	EventWatchdog      EventKind = "watchdog"
	EventSlot          EventKind = "slot"    // a replication slot keeps too much WAL, or is not as it should be
	EventNotice        EventKind = "notice"  // something stands in the way
	EventJournal       EventKind = "journal" // entries were lost
)

// EventState is where what an event is about stands.
type EventState string

// States of events; "" where there is nothing that begins and ends.
const (
	EventBegan  EventState = "began"
	EventDone   EventState = "done"
	EventFailed EventState = "failed"
)

// ID names e among the events of its member, for cursors.
func (e *Event) ID() string {
	return strconv.FormatInt(e.Run, 10) + "-" + strconv.FormatInt(e.Seq, 10)
}

// ParseEventID reads an ID.
func ParseEventID(s string) (run, seq int64, err error) {
	a, b, ok := strings.Cut(s, "-")
	run, err1 := strconv.ParseInt(a, 10, 64)
	seq, err2 := strconv.ParseInt(b, 10, 64)
	if !ok || err1 != nil || err2 != nil || run < 0 || seq < 0 {
		return 0, 0, fmt.Errorf("%s is not the id of an event", clip(s))
	}
	return run, seq, nil
}

// Clean returns e with its texts on one line and of bounded length.
func (e Event) Clean() Event {
	const longest = 400
	for _, s := range []*string{&e.Text, &e.Cause, &e.Error, &e.By} {
		*s = cut(oneLine(*s), longest)
	}
	e.At = e.At.UTC().Truncate(time.Millisecond)
	return e
}

// SortEvents orders events by time, those of one member as they were written,
// and drops doubles.
func SortEvents(list []Event) []Event {
	slices.SortStableFunc(list, func(a, b Event) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		if c := strings.Compare(a.Member, b.Member); c != 0 {
			return c
		}
		if a.Run != b.Run {
			return int(min(max(a.Run-b.Run, -1), 1))
		}
		return int(min(max(a.Seq-b.Seq, -1), 1))
	})
	type key struct {
		member   string
		run, seq int64
	}
	seen := make(map[key]bool, len(list))
	return slices.DeleteFunc(list, func(e Event) bool {
		k := key{e.Member, e.Run, e.Seq}
		double := seen[k]
		seen[k] = true
		return double
	})
}

// Bounds of /pgha/events.
const (
	MaxEvents     = 200
	MaxEventBytes = 40 << 10
)

// EventRing is /pgha/events: the newest events of all members. The text is read
// only when somebody asks: snapshots are taken far more often.
type EventRing struct {
	Raw         json.RawMessage
	ModRevision int64
}

// Events returns what is in the ring, oldest first. An entry that cannot be read
// is left out.
func (r *EventRing) Events() []Event {
	if r == nil || len(r.Raw) > MaxValue {
		return nil
	}
	var raw []json.RawMessage
	if json.Unmarshal(r.Raw, &raw) != nil {
		return nil
	}
	out := make([]Event, 0, len(raw))
	for _, text := range raw {
		var e Event
		if json.Unmarshal(text, &e) == nil && e.Member != "" {
			out = append(out, e)
		}
	}
	return out
}

// With returns the value of the ring with more events in it. The oldest make room.
// nil: all of them are in it already.
func (r *EventRing) With(more []Event) []byte {
	before := r.Events()
	all := SortEvents(append(slices.Clone(before), more...))
	if len(all) == len(before) {
		return nil
	}
	all = all[max(len(all)-MaxEvents, 0):]
	texts := make([]json.RawMessage, 0, len(all))
	size := 2
	for _, e := range slices.Backward(all) {
		text, err := json.Marshal(e)
		if err != nil { // a time or number that JSON lacks
			continue
		}
		if size += len(text) + 1; size > MaxEventBytes {
			break
		}
		texts = append(texts, text)
	}
	slices.Reverse(texts)
	value, err := json.Marshal(texts)
	if err != nil {
		return nil
	}
	return value
}
