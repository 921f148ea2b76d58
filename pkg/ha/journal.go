package ha

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// Journal is what has to be remembered from turn to turn to tell what changed.
// Like Memory it is a value; no decision looks at it. The zero value has seen
// nothing.
type Journal struct {
	begun    bool
	stopping Instant // when the agent was first seen to be asked to end

	reason Reason // of the decision before, with its sentence
	cause  string
	noted  Reason // last reason that made a notice

	crashed bool
	op      opSeen
	// awaitStream: the server was started or pointed elsewhere, and was not seen
	// streaming since.
	awaitStream bool

	// leaderless is when the time without a leader began that ended with this
	// node's claim, phases what of it went where. demoting is when the stop of
	// a primary was begun, stopped how long it took.
	leaderless, claimed Instant
	phases              []dcs.EventPhase
	demoting            Instant
	stopped             time.Duration
	refusals            int // in the present time without a leader

	etcdAway, etcdSaid Instant
	failsafe           Instant // since when this node leads by the failsafe mode
	watchdog           string
	leashGone          bool

	slotLevels   map[string]int // of slots near their budget or beyond
	slotProblems []string

	cluster *dcs.Cluster // of the last turn with a fresh one
	paused  bool
}

// opSeen is the long action that was begun last.
type opSeen struct {
	serial  int64 // of the last one whose end was told
	kind    OpKind
	event   dcs.EventKind
	text    string // to do it: "make a copy of n1"
	past    string // to have done it
	reason  Reason
	cause   string
	told    bool   // its beginning was
	failure string // of the last end, without its digits,
	times   int    // and how often in a row
}

// Next takes in one turn and returns the events of it. It is a function of its
// arguments alone; Run, Seq and Member of the events are the caller's.
func (j Journal) Next(o *Observation, d *Decision) (Journal, []dcs.Event) {
	after := *o
	after.Memory = d.Memory
	t := turn{Journal: &j, o: &after, d: d, before: &o.Memory}
	t.agent()
	t.crash()
	t.ended()
	t.leadership()
	t.streaming()
	t.surroundings()
	t.slots()
	t.clusterWide()
	t.notices()
	t.begins()
	t.agentEnds()
	j.reason, j.cause = d.Reason, d.Text(o.Me.Name)
	return j, t.out
}

// turn is one turn with what is said about it. o has the memory of after the
// decision.
type turn struct {
	*Journal
	o      *Observation
	d      *Decision
	before *Memory
	out    []dcs.Event
}

// say adds an event; change completes it.
func (t *turn) say(kind dcs.EventKind, state dcs.EventState, text string, change ...func(*dcs.Event)) {
	e := dcs.Event{At: t.o.Wall, Kind: kind, State: state, Text: text}
	for _, c := range change {
		c(&e)
	}
	t.out = append(t.out, e)
}

// Completions of an event.

// decided: the present decision is the cause.
func (t *turn) decided(e *dcs.Event) {
	e.Reason, e.Cause = t.d.Reason.Code(), t.d.Text(t.o.Me.Name)
}

// acted: the decision before is.
func (t *turn) acted(e *dcs.Event) { e.Reason, e.Cause = t.reason.Code(), t.cause }

// at says when it happened, which is before now.
func (t *turn) at(i Instant) func(*dcs.Event) {
	return func(e *dcs.Event) { e.At = t.o.Wall.Add(-t.o.Now.Sub(i)) }
}

func took(d time.Duration) func(*dcs.Event) {
	return func(e *dcs.Event) { e.Seconds = seconds(d) }
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

func phase(name string, d time.Duration) dcs.EventPhase {
	return dcs.EventPhase{Name: name, Seconds: seconds(max(d, 0))}
}

// agent tells the beginning of this run, and that it is to end.
func (t *turn) agent() {
	if !t.begun {
		t.begun, t.paused = true, t.o.Settings.Pause
		t.op.serial = t.o.Op.Serial
		text := "the agent started; PostgreSQL does not run"
		switch {
		case t.o.PG.Process == ProcessDown:
		case t.o.PG.Known && !t.o.PG.Row.InRecovery:
			text = "the agent started; PostgreSQL runs as a primary"
		case t.o.PG.Known:
			text = "the agent started; PostgreSQL runs as a standby"
		default:
			text = "the agent started; PostgreSQL runs and does not answer yet"
		}
		t.say(dcs.EventAgent, dcs.EventBegan, text)
	}
	if t.o.Stopping && t.stopping == 0 {
		t.stopping = t.o.Now
		t.say(dcs.EventAgent, "", "the agent was asked to end", t.decided)
	}
}

func (t *turn) agentEnds() {
	if e, ok := t.d.Action.(Exit); ok {
		state := dcs.EventDone
		change := []func(*dcs.Event){t.decided}
		if e.Code != 0 {
			state = dcs.EventFailed
			change = append(change, func(ev *dcs.Event) { ev.Error = e.Message })
		}
		if t.stopping != 0 {
			change = append(change, took(t.o.Now.Sub(t.stopping)))
		}
		t.say(dcs.EventAgent, state, "the agent ends", change...)
	}
}

// crash: the postmaster ended without being asked to.
func (t *turn) crash() {
	if t.o.PG.Crashed && !t.crashed {
		what := "a standby"
		if t.before.Primary {
			what = "the primary"
		}
		t.say(dcs.EventCrash, "", "PostgreSQL, "+what+", ended without being asked to", t.at(max(t.o.PG.Since, 1)), t.decided)
	}
	t.crashed = t.o.PG.Crashed
}

// leadership tells of the leader key, in the order of a hand-over.
func (t *turn) leadership() {
	last, had, has := &t.o.Last, t.before.Lease.Epoch, t.o.Memory.Lease.Epoch
	if _, release := last.Action.(Release); release && (last.Result == ResultOK || had != 0 && last.Result == ResultConflict) {
		t.released()
		had = 0
	}
	switch {
	case has == had:
	case has == 0:
		t.say(dcs.EventLeader, dcs.EventFailed, "lost the leadership", t.decided, func(e *dcs.Event) { e.Error = t.o.DCS.Error })
	case last.Result == ResultOK && isTakeBack(last.Action):
		t.say(dcs.EventLeader, dcs.EventBegan, "took the leader key of before back", t.acted)
	case had != 0:
		t.say(dcs.EventLeader, dcs.EventBegan, "took the leader key again, after it had vanished", t.acted)
	default:
		t.took()
	}
	if t.o.Memory.Leaderless == 0 {
		t.refusals = 0
	}
}

func isTakeBack(a Action) bool {
	_, is := a.(TakeBack)
	return is
}

// released: the key was given back; with the stop before it, that is one half of
// a switchover.
func (t *turn) released() {
	change := []func(*dcs.Event){t.acted}
	if t.demoting != 0 {
		all := t.o.Now.Sub(t.demoting)
		change = append(change, took(all), func(e *dcs.Event) {
			e.Phases = []dcs.EventPhase{phase("stop", t.stopped), phase("release", all-t.stopped)}
		})
	}
	t.demoting, t.stopped = 0, 0
	t.say(dcs.EventLeader, dcs.EventDone, "released the leader key", change...)
}

func (t *turn) took() {
	sent := t.o.Last.Sent
	t.leaderless, t.claimed = t.before.Leaderless, t.o.Now
	t.phases = nil
	change := []func(*dcs.Event){t.acted}
	if t.leaderless != 0 {
		t.phases = []dcs.EventPhase{phase("no leader", sent.Sub(t.leaderless)), phase("claim", t.o.Now.Sub(sent))}
		change = append(change, took(t.o.Now.Sub(t.leaderless)), func(e *dcs.Event) { e.Phases = t.phases })
	}
	text := "took the leader key"
	if t.o.DCS.Cluster != nil && t.o.wanted() {
		text += ", as requested"
	}
	t.say(dcs.EventLeader, dcs.EventBegan, text, change...)
}

// streaming: a standby has found its place.
func (t *turn) streaming() {
	if f, ok := t.o.Last.Action.(Follow); ok && t.o.Last.Result == ResultOK {
		t.awaitStream = true
		t.say(dcs.EventFollow, "", "follows "+f.Upstream.Member, t.acted)
	}
	switch r := &t.o.PG.Row; {
	case !t.o.PG.Known:
	case !r.InRecovery:
		t.awaitStream = false
	case t.awaitStream && r.ReplicationState == "streaming" && !t.o.Op.Running:
		t.awaitStream = false
		t.say(dcs.EventStreaming, "", fmt.Sprintf("streams from %s on timeline %d", orUnknown(t.o.PG.Upstream), r.Timeline))
	}
}

func orUnknown(member string) string {
	if member == "" {
		return "its upstream"
	}
	return member
}

// surroundings: etcd, failsafe mode, leash and watchdog.
func (t *turn) surroundings() {
	switch {
	case t.o.DCS.Fresh && t.etcdSaid != 0:
		t.say(dcs.EventEtcd, dcs.EventDone, "etcd can be reached again", took(t.o.Now.Sub(t.etcdAway)))
		t.etcdAway, t.etcdSaid = 0, 0
	case t.o.DCS.Fresh:
		t.etcdAway = 0
	case t.etcdAway == 0:
		t.etcdAway = t.o.Now
	case t.etcdSaid == 0 && t.o.Now.Sub(t.etcdAway) >= min(t.o.Settings.RetryTimeout, t.o.period()): // a hiccup is none
		t.etcdSaid = t.o.Now
		t.say(dcs.EventEtcd, dcs.EventFailed, "etcd cannot be reached", t.at(t.etcdAway), t.decided, func(e *dcs.Event) { e.Error = t.o.DCS.Error })
	}
	l := t.o.Memory.Lease
	switch active := l.Epoch != 0 && t.o.failsafeUntil(l) > t.o.Now; {
	case active && t.failsafe == 0:
		t.failsafe = t.o.Now
		t.say(dcs.EventFailsafe, dcs.EventBegan, "leads by the failsafe mode: every member agrees, etcd is silent")
	case !active && t.failsafe != 0:
		t.say(dcs.EventFailsafe, dcs.EventDone, "the failsafe mode ended", took(t.o.Now.Sub(t.failsafe)), t.decided)
		t.failsafe = 0
	}
	switch was, is := t.before.Quarantine.Why, t.o.Memory.Quarantine.Why; {
	case was == "" && is != "":
		t.say(dcs.EventQuarantine, dcs.EventBegan, "does not trust etcd any more: "+is)
	case was != "" && is == "":
		t.say(dcs.EventQuarantine, dcs.EventDone, "trusts etcd again")
	}
	switch fault := t.o.watchdogFault(); {
	case fault != "" && t.watchdog == "":
		t.say(dcs.EventWatchdog, dcs.EventFailed, "the required watchdog is not in force", func(e *dcs.Event) { e.Error = fault })
	case fault == "" && t.watchdog != "":
		t.say(dcs.EventWatchdog, dcs.EventDone, "the required watchdog can be used again")
	}
	t.watchdog = t.o.watchdogFault()
	gone := !t.o.Settings.LeashOff && !t.o.Leash.Attached && t.o.PG.Process != ProcessDown
	switch {
	case gone && !t.leashGone:
		t.say(dcs.EventLeash, dcs.EventFailed, "the connection to the leash is lost")
	case !gone && t.leashGone:
		t.say(dcs.EventLeash, dcs.EventDone, "the leash is attached again")
	}
	t.leashGone = gone
}

// notable are the reasons that stand in the way of something and that nothing
// else tells of.
var notable = [reasons]bool{
	LeaderTooLate: true, LeaderBehind: true, LeaderRefused: true, LeaderNoQuery: true, LeaderRepairsInitialize: true, LeaderRepairsConfig: true,
	RewindImpossible: true, ReinitDiverged: true, StartTimeout: true, CloneHeld: true, DataDirBad: true, DataDirRelease: true,
	NoSystemID: true, RestoreAwaited: true, BootstrapGaveUp: true, BootstrapCleans: true,
	TakeBackLatched: true, TakeBackStale: true, TakeBackFinished: true, PausedReleases: true, ElectionWaitsForMore: true, ElectionWaitsForAll: true, ElectionBacksOff: true, OperationCancelled: true,
	RestartDropped: true,
}

// maxRefusals bounds what is said about one race.
const maxRefusals = 3

func (t *turn) notices() {
	r := t.d.Reason
	changed := r != t.reason || t.d.Text(t.o.Me.Name) != t.cause
	switch {
	case r == ElectionRefused && changed && t.refusals < maxRefusals:
		t.refusals++
		t.say(dcs.EventElection, dcs.EventFailed, "does not take part in the race", t.decided)
	case r == FailoverCleaned && changed && !strings.HasPrefix(t.d.Detail, "it is fulfilled"):
		t.say(dcs.EventRequest, dcs.EventFailed, "dropped the request for a switchover or failover", t.decided)
	case r >= 0 && r < reasons && notable[r] && r != t.noted:
		t.say(dcs.EventNotice, "", t.d.Text(t.o.Me.Name), func(e *dcs.Event) { e.Reason = r.Code() })
	}
	if r != LeaseRenewal && r != OperationRuns { // they come between two turns of the same
		t.noted = r
	}
}

// memberNames are the names in the snapshot, sorted.
func memberNames(c *dcs.Cluster) []string {
	names := make([]string, 0, len(c.Members))
	for i := range c.Members {
		names = append(names, c.Members[i].Name)
	}
	slices.Sort(names)
	return names
}
