package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Memory is what facts cannot tell. It is small, printable and carried from
// each decision into the next observation; an agent that restarts begins with
// the zero Memory.
type Memory struct {
	Lease Lease

	// Seen is the newest of etcd ever seen; an agent that restarts begins with
	// what it kept of it. Quarantine is in force while etcd is behind that.
	Seen       Seen
	Quarantine Quarantine
	AcceptSeen int64 // serial of the last word of an operator taken in

	// SeenStatus is the mod revision of /status last seen, SeenAt when it was
	// first seen: the hold-off of a claim counts from there (safety B.3 c).
	SeenStatus int64
	SeenAt     Instant
	// LastLeader and LastEpoch are of the last /leader seen, LastMembers the
	// members of that snapshot: keys of a dead leader vanish with its lock.
	LastLeader  string
	LastEpoch   int64
	LastMembers []dcs.Member
	// Predecessor is the leader before this node, while it leads.
	Predecessor string

	// Leaderless is when the present time without a leader began, 0 with one.
	Leaderless Instant
	Backoff    Backoff

	Bootstrap BootstrapStep
	// Dropping is the revision of the empty /initialize that a failed bootstrap left
	// and this node is removing.
	Dropping int64
	Rewind   RewindState
	// RewindFor is the leader's epoch the state was worked out for.
	RewindFor int64

	// Told is what the callbacks know.
	Told Told
	// Refused is the epoch in which pre_promote refused the promotion, SitOut
	// until when this node stays out of the race for that (wire contract §8.5).
	Refused int64
	SitOut  Instant

	// Demoting: the server is being stopped to hand the leadership over; it is
	// not to be restarted as primary.
	Demoting bool
	// HandedOver is the revision of the request that this node last handed the
	// leadership over for.
	HandedOver int64
	// ComeBack: it was stopped to hand over, and is to be started again also in
	// pause.
	ComeBack bool
	// Unarmed is why the leash did not take the deadline of the present
	// leadership; "" if it did, or was not asked yet.
	Unarmed string
	// Lapsed is the epoch that could not be renewed up to the time for an orderly
	// stop; another attempt would take from that time.
	Lapsed int64
	// StopBy is when that stop ought to be over; 0: whenever it is.
	StopBy Instant
	// Releasing is the epoch of a release that was sent and not answered: it may
	// arrive yet, so the server must not become writable in that epoch.
	Releasing int64
	// Promoting: the server was asked to end its recovery, and may do so at any time
	// until it is down: what was asked for cannot be taken back.
	Promoting bool
	// Looked: the server was seen once by this run of the agent.
	Looked bool
	// Offline: it was stopped because etcd could not be reached.
	Offline bool
	// YieldUntil: after a hand-over somebody else has the first turn.
	YieldUntil Instant
	// ShutdownLSN is the position of the shutdown checkpoint of that stop.
	ShutdownLSN wal.LSN

	// Recovered: single-user crash recovery was done since the last start.
	Recovered bool
	// FailedStart is when a start last failed; one attempt per period.
	FailedStart Instant
	FailedTries int
	// FailedOp is when another operation last failed, for the same reason.
	FailedOp Instant
	// CrashedPrimary is when the primary was found dead, 0 otherwise.
	CrashedPrimary Instant
	Crashes        Crashes
	// NoTaker is when no member was found to take over from a server that is not
	// well; they are asked again a period later.
	NoTaker Instant

	// Question is the last one that this node as a leader had to the members.
	Question Question

	// FreezeSeen is the serial of the last request to freeze taken in, Thawed the
	// epoch under which etcd last confirmed that this node may stream (safety B.5).
	FreezeSeen int64
	Thawed     int64

	// Retain are the slot names the leader publishes to be kept.
	Retain []Retained
	// SlotCopies counts the attempts to bring over the logical slots that are
	// missing, SlotsCopied is when the last began.
	SlotCopies  int
	SlotsCopied Instant

	Sync SyncMemory
	// SyncUnsure: a write of /sync may still arrive. It is guarded by the revision,
	// so that any later write ends it.
	SyncUnsure bool
	// NamesUnsure is what synchronous_standby_names was to become when the server was
	// not seen to go by it; nil: what is seen is in force. It may come into force later.
	NamesUnsure *string
	// LeavesSync is since when this standby asks to be relieved of synchronous
	// duty, because its server is to be stopped; 0: it does not.
	LeavesSync Instant

	Remote  RemoteMemory
	Restore RestoreMemory
	Reinit  ReinitMemory
	Restart RestartMemory

	// Numbers are what this node's leadership may have published.
	Numbers Numbers
	// FailsafeSent is of /failsafe as last written by this node.
	FailsafeSent FailsafeWrite
	// FailsafeSeen is the newest /failsafe seen: an old one that a stale read shows
	// later names fewer of those who may race.
	FailsafeSeen *dcs.Failsafe
	// FailsafeTrusted is the last one read from an etcd that was not in doubt: who is
	// named there may race, though one that went back does not name them.
	FailsafeTrusted *dcs.Failsafe

	// WasPaused: the last turn saw pause.
	WasPaused bool
	// OpSeen is the serial of the last operation whose result was taken in.
	OpSeen int64
	// Primary: the server was read-write when it last answered.
	Primary bool
}

// RestoreMemory is of the newest restore order, while this node carries it out.
type RestoreMemory struct {
	ID string
	// Interrupted: this node ended the operation for a reason of its own; the
	// order stands.
	Interrupted bool
	// Killed is how often its server was ended from outside.
	Killed int
	// Ended: the operation did, with an error or on Timeline.
	Ended    bool
	Error    string
	Timeline wal.Timeline
}

// ReinitMemory is of the newest request to make this member anew.
type ReinitMemory struct {
	Seen       int64 // its serial
	Wanted     bool  // and its copy is not made yet
	Force      bool  // what runs is to be cancelled
	FromLeader bool
	// Held: an operator ended a copy; none is begun before the next request.
	Held bool
}

// BootstrapStep is how far the making of a new cluster has come.
type BootstrapStep int

// Steps of a bootstrap; only Decide moves from one to the next.
const (
	BootstrapNone  BootstrapStep = iota
	BootstrapWon                 // /initialize is ours and empty
	BootstrapMade                // initdb and first start succeeded
	BootstrapRoles               // roles exist: publish
	BootstrapFailed
)

// RewindState tells whether the local WAL is known to fit the leader's.
type RewindState int

// States of the rewind machine (ha-behaviour 5.1).
const (
	RewindIdle RewindState = iota
	RewindCheck
	RewindNeed
	RewindDone
	RewindFailed
)

// Outcome is what became of the last action of this step.
type Outcome struct {
	Action Action
	Result Result
	// Error is the text of a failure.
	Error string
	// Sent is when a round or claim was sent, Epoch what a claim returned.
	Sent  Instant
	Epoch int64
	Beat  int64
	// Timing the round was sent under.
	Timing Timing
}

// Result classes an outcome; see the errors of dcs.Store.
type Result int

// Results.
const (
	ResultNone Result = iota
	ResultOK
	ResultConflict  // a guard failed, nothing was written
	ResultUnknown   // may have happened
	ResultFailed    // did not happen
	ResultLeaseLost // etcd does not know our lease
)

// noteLeader remembers who leads, and whom this node followed in that.
func (m *Memory) noteLeader(name, me string) {
	if name == me && m.LastLeader != me {
		m.Predecessor = m.LastLeader
	}
	m.LastLeader = name
}

// armRewind makes the next look at a leader compare the WAL first.
func (m *Memory) armRewind() {
	if m.Rewind != RewindNeed {
		m.Rewind = RewindCheck
	}
}

// holdOff returns how long a claim has to wait yet (safety B.3).
func (m *Memory) holdOff(o *Observation) time.Duration {
	st := o.DCS.Cluster.Status
	if st == nil && o.DCS.Cluster.ModRevision(dcs.KeyStatus) != 0 { // unreadable: whoever wrote it may still act
		return max(m.SeenAt.Add(o.Settings.TTL).Sub(o.Now), 0)
	}
	if st == nil || st.Beat == nil || st.Beat.Released {
		return 0 // (a), or (b): a Patroni member held it and the lease alone decides
	}
	epoch := st.Beat.Epoch
	if epoch == 0 {
		epoch = st.ModRevision // the claim's own write
	}
	if epoch < m.LastEpoch {
		return 0 // (b): a later leader was seen here that writes no beat
	}
	ttl := time.Duration(st.Beat.TTL) * time.Millisecond
	return max(m.SeenAt.Add(ttl).Sub(o.Now), 0) // (c)
}

// ownStatus tells whether /status is this lease's own last write.
func (m *Memory) ownStatus(o *Observation) bool {
	st := o.DCS.Cluster.Status
	if st == nil || st.Beat == nil || st.Beat.Released || st.Beat.Holder != o.Me.Holder {
		return false
	}
	if st.Beat.Epoch == 0 {
		return st.ModRevision == m.Lease.Epoch
	}
	newest := m.Lease.Beat
	if m.Lease.Agreed > m.Lease.Renewed && st.Beat.Beat == newest+1 {
		newest++ // in the failsafe mode, a round whose outcome was not heard of
	}
	return st.Beat.Epoch == m.Lease.Epoch && st.Beat.Beat == newest
}
