package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// View is the published state of the node: immutable, replaced whole after
// each turn. REST, metrics and the CLI's answers read it and nothing else; role
// answers are computed from it per request, together with the clock, so that a
// loop that hangs cannot keep a node looking like the primary.
type View struct {
	Name    string
	Scope   string
	Version string // compatible Patroni version
	At      Instant

	// Leading: this node held the leader key at At. Whether it still may say
	// so depends on the clock: see IsLeader.
	Leading bool
	// AnswerUntil is the instant from which /primary is refused (the lease's
	// deadline less the time kept for an orderly stop).
	AnswerUntil Instant
	Deadline    Instant

	// FailsafeUntil: until then the failsafe mode is active, 0: it is not.
	FailsafeUntil Instant

	Paused  bool
	Cluster *dcs.Cluster // newest snapshot, nil before the first
	// ClusterAt is when Cluster was last known to be current; a view of it
	// older than TTL is no valid cluster view any more.
	ClusterAt   Instant
	DCSLastSeen time.Time // the same on the calendar, whole seconds are published

	// Turned is when the loop last finished a turn, Period its longest pause.
	Turned Instant
	Period time.Duration

	State    string // wire contract §4.2: "running", "creating replica", ...
	Role     string // "primary", "replica", "demoted", "promoted", "uninitialized"
	SystemID string
	// Known: Row is from the last turn; else the query failed or nothing runs.
	Known               bool
	Row                 Row
	ServerVersion       int
	PostmasterStartTime string
	PendingRestart      map[string]PendingRestart
	Operation           Operation
	Progress            *dcs.Progress // of a copy or restore that runs, as published
	// Restart tells what became of the newest requests to restart the server;
	// ScheduledRestart is the one that waits for its time, as JSON.
	Restart          RestartState
	ScheduledRestart []byte

	Tags                 dcs.Tags // as published
	NoLoadBalance        bool
	TTL                  time.Duration
	LoopWait             time.Duration
	MaximumLagOnFailover int64
	Config               []byte // dynamic configuration in force, JSON

	// WatchdogFailed: the kernel watchdog is required and cannot be relied on.
	WatchdogFailed bool
	// LeashOff: pgha.leash is off, and nothing stops the server in time when the
	// agent does not.
	LeashOff bool

	// Quarantine is why this member does not trust what etcd holds, "" if it does;
	// Seen is the newest it ever saw.
	Quarantine string
	Seen       Seen

	// Frozen: there is no leader, and this standby streams from nobody until there
	// is one of an epoch above Promise, the last it knew of.
	Frozen  bool
	Promise int64

	// Fault is what is wrong with the server as a leader's, "" for nothing.
	Fault  string
	Health Health

	// Slots are the server's slots with the WAL they keep, nil when unknown.
	Slots []SlotUsage

	Reason string // the sentence of the last decision
	Code   string // its code
	// Obstacles keep this node from being promoted.
	Obstacles []Obstacle
	Leash     string // "on", "suspended", "absent" or "off"
}

// IsLeader tells whether the node may answer as the leader at now. While paused
// the deadline does not count: pause leaves PostgreSQL alone. But a loop that
// stands still, as in a process that was stopped, may have missed the end of the
// pause, and another leader after it.
func (v *View) IsLeader(now Instant) bool {
	if v == nil || !v.Leading {
		return false
	}
	return now < v.AnswerUntil || v.Paused && now < v.Turned.Add(3*v.Period)
}

// FailsafeActive tells whether a leader lives by the failsafe mode, as far as
// this node knows: it is the one, or it agreed to it.
func (v *View) FailsafeActive(now Instant) bool { return v != nil && now < v.FailsafeUntil }

// ClusterValid tells whether the cluster view is recent enough to answer from.
func (v *View) ClusterValid(now Instant) bool {
	return v != nil && v.Cluster != nil && now.Sub(v.ClusterAt) < v.TTL
}

// Sample is a WAL position at most 0.1 s old, taken on demand (wire contract
// §5.4: the object "xlog").
type Sample struct {
	InRecovery        bool
	Location          wal.LSN // primary
	Received          wal.LSN // standby
	Replayed          wal.LSN
	ReplayedTimestamp string // "" unknown
	ReplayPaused      bool
	At                Instant
}
