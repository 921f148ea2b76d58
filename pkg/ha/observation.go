package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Instant is a moment on this host's CLOCK_BOOTTIME, in nanoseconds. Instants
// of two hosts cannot be compared. Zero means "never".
type Instant int64

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns how much later i is than j.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// Observation is everything Decide may know.
type Observation struct {
	Now  Instant
	Wall time.Time // the calendar, for scheduled requests only

	Me       Identity
	Settings Settings
	DCS      DCS
	PG       Postgres
	Op       Operation
	Peers    Peers
	Leash    Leash
	Failsafe FailsafeRound
	Promise  Promise

	// Last is the outcome of the action decided just before, if any.
	Last Outcome

	// Stopping is set once the agent was asked to end (SIGTERM).
	Stopping bool
	// Reinit is the newest request to make this member anew.
	Reinit Reinit
	// Restart are the newest requests to restart the server.
	Restart Restarts
	// Freeze is the serial of the newest request of a candidate to end the WAL
	// receiver; 0: none ever.
	Freeze int64
	// Accepted is the newest word of an operator on what etcd holds.
	Accepted Acceptance

	Memory Memory

	// staleRequest is the revision of a /failover from before etcd went back, and
	// staleOrder an open restore order; the snapshot has neither.
	staleRequest int64
	staleOrder   *dcs.Restore
}

// Reinit is an operator's request to make this member's copy anew, or to stop
// doing so (wire contract §5.7).
type Reinit struct {
	Serial     int64 // grows with each request; 0: none ever
	Force      bool  // a running operation is cancelled first
	FromLeader bool  // pg_basebackup from the leader, whatever methods are configured
	Cancel     bool  // the request is to stop a copy that runs
}

// Identity is what a node says about itself that does not change.
type Identity struct {
	Name     string
	Scope    string
	ConnURL  string // postgres://host:port/database, no credentials
	APIURL   string // http(s)://host:port/patroni
	ProxyURL string
	Version  string // the Patroni version this agent is compatible with
	// Holder is the random id of this installation; it survives restarts and
	// is never copied with a data directory.
	Holder string
	// CanBootstrap: the local configuration has a bootstrap section.
	CanBootstrap bool
}

// Settings are the values of the dynamic and local configuration that decisions
// depend on.
type Settings struct {
	TTL, LoopWait, RetryTimeout time.Duration
	MaximumLagOnFailover        int64 // bytes
	CheckTimeline               bool
	MaxTimelinesHistory         int
	PrimaryStartTimeout         time.Duration // 0: fail over at once after a crash
	// PrimaryStopTimeout bounds an orderly stop, 0: as the lease has it.
	PrimaryStopTimeout  time.Duration
	RaceBackoff         time.Duration // primary_race_backoff, 0: off
	Pause               bool
	WipeOnRewindFailure bool // remove_data_directory_on_rewind_failure
	WipeOnDivergence    bool // remove_data_directory_on_diverged_timelines
	UseSlots            bool
	Failsafe            bool // failsafe_mode
	Sync                SyncSettings
	Standby             StandbyCluster
	MemberSlotsTTL      time.Duration
	Slots               []config.Slot       // permanent ones
	IgnoreSlots         []config.SlotFilter // left alone
	SlotBudgets         config.SlotBudgets
	Tags                dcs.Tags // as published
	NoFailover          bool
	FailoverPriority    int
	ReplicateFrom       string
	// CloneWithoutLeader: a replica creation method is marked no_leader.
	CloneWithoutLeader bool
	// LeashOff: pgha.leash is off; nothing is armed and S1 rests on the agent.
	LeashOff bool
	// WatchdogRequired: watchdog.mode is required; without it this node is no primary.
	WatchdogRequired bool
	// Document is the dynamic configuration as JSON, for a /config that is missing.
	Document []byte
}

// DCS is what is known of etcd.
type DCS struct {
	// Cluster is the newest snapshot ever had, nil if there was none yet.
	Cluster *dcs.Cluster
	// Fresh tells that Cluster is current as far as this node can know;
	// false: etcd could not be asked.
	Fresh bool
	// Granted is the TTL of the present lease as etcd granted it, 0 without one.
	Granted time.Duration
	// Error is why Fresh is false.
	Error string
}

// DataDir is the state of the data directory.
type DataDir int

// States of a data directory.
const (
	DataDirEmpty      DataDir = iota // nothing in it: may be filled
	DataDirPresent                   // has a control file
	DataDirHalfMade                  // an interrupted clone, rewind or restore: never started (S9)
	DataDirUnreadable                // I/O error or wrong owner: left alone
)

// Process is the state of the postmaster.
type Process int

// States of the postmaster.
const (
	ProcessDown     Process = iota // verified: no process of this data directory is left
	ProcessStarting                // alive, not accepting connections yet
	ProcessRunning                 // accepting connections
	ProcessUnsure                  // alive; whether it accepts connections is not known
)

// Postgres is what is known of the local server.
type Postgres struct {
	DataDir DataDir
	Problem string // why the directory is unreadable, or what was interrupted
	// HalfBootstrap: what was interrupted is the bootstrap of a new cluster;
	// Resumable: it can go on where it was interrupted.
	HalfBootstrap, Resumable bool
	SystemID                 string
	// StandbySignal: a standby.signal or recovery.signal is in the directory.
	StandbySignal bool
	Control       Control

	Process Process
	// Since is when Process was last seen to change.
	Since Instant
	// Crashed: the postmaster ended without being asked to.
	Crashed bool

	// Old: an operation has ended since the directory was looked at; the new look is
	// not over yet.
	Old bool

	// Row is the monitoring query's answer; Known is false when it failed or
	// the server does not run.
	Known bool
	Row   Row

	// Health is what was found beside the monitoring query.
	Health Health

	// Upstream is the member that the present recovery settings follow, and
	// its address; "" when they name nobody, or nobody known.
	Upstream, UpstreamURL string
	// Frozen: the settings name nobody, and since then the WAL receiver was seen
	// gone and the position complete.
	Frozen bool

	ServerVersion       int
	PostmasterStartTime string // as SQL prints it, with zone
	PendingRestart      map[string]PendingRestart
	// SyncOwned: synchronous_standby_names is this agent's, not the configuration's.
	SyncOwned bool
	// Shutdown is where the WAL of a server that is being stopped ends, as soon as
	// its shutdown checkpoint is written; zero before, and once it is gone.
	Shutdown ShutdownWAL
	// CheckpointPending: promoted, but no checkpoint on the new timeline yet.
	CheckpointPending bool
	// Slots are the server's slots by name, nil when unknown.
	Slots map[string]SlotState
	// SlotLanes is the work on them that runs beside the loop.
	SlotLanes map[string]SlotLane
	// Feedback: the agent sees to it that hot_standby_feedback is on.
	Feedback bool
	WALLevel string // wal_level in force
	MaxSlots int    // max_replication_slots in force
	// SlotLimit is max_slot_wal_keep_size in bytes, not positive without one;
	// WALVolume the size of the volume that pg_wal lies on, 0 unknown.
	SlotLimit, WALVolume int64
	// CanRewind: pg_rewind may be used (binary, checksums or wal_log_hints).
	CanRewind bool
	// HistoryLocal is the history of the current timeline, read when Timeline > 1.
	HistoryLocal wal.History
	// HistoryTime is the modification time of that history file.
	HistoryTime time.Time
}

// ShutdownWAL is where the WAL of an orderly stop ends.
type ShutdownWAL struct {
	Checkpoint wal.LSN // of the shutdown checkpoint
	Publish    wal.LSN // what a successor must have (ha-behaviour 1.21)
}

// PendingRestart is one parameter that needs a restart (wire contract §1.13).
type PendingRestart struct {
	Old string `json:"old_value"`
	New string `json:"new_value"`
}

// Control is what pg_controldata says of a stopped server.
type Control struct {
	State             string // "in production", "shut down", ...
	Timeline          wal.Timeline
	Checkpoint        wal.LSN // latest checkpoint location
	MinRecoveryEnd    wal.LSN
	MinRecoveryEndTLI wal.Timeline
	HasBackupLabel    bool
}

// Row is the monitoring query's answer (ha-behaviour 7.9).
type Row struct {
	InRecovery        bool
	Timeline          wal.Timeline // primary: current; standby: the receiver's or IDENTIFY_SYSTEM's
	Position          wal.LSN      // primary: flush; standby: max(receive, replay)
	Receive, Replay   wal.LSN
	LatestEnd         wal.LSN // what the receiver last heard of the sender's end, 0 unknown
	ReplayPaused      bool
	ReplayedTimestamp string // "" unknown
	ReplicationState  string // "streaming", "in archive recovery" or ""
	Replication       []Replication
	// SyncCommit and SyncNames are synchronous_commit and
	// synchronous_standby_names in force.
	SyncCommit, SyncNames string
}

// Replication is one row of pg_stat_replication as published.
type Replication struct {
	User            *string `json:"usename"`
	ApplicationName *string `json:"application_name"`
	ClientAddr      *string `json:"client_addr"`
	State           *string `json:"state"`
	SyncState       *string `json:"sync_state"`
	SyncPriority    int     `json:"sync_priority"`

	// Positions, for synchronous replication; not published.
	SentLSN, WriteLSN, FlushLSN, ReplayLSN wal.LSN `json:"-"`
}

// OpKind names a long action.
type OpKind int

// Long actions. The text of each is the task name Patroni shows.
const (
	OpNone OpKind = iota
	OpBootstrap
	OpPostBootstrap
	OpClone
	OpRestore
	OpRewind
	OpCrashRecovery
	OpStartPrimary
	OpStartStandby
	OpStop
	OpPromote
	OpCheckDivergence
	OpRestart
	OpCheckRemote
	OpCopySlots
)

// MakesDirectory tells whether the action leaves another data directory than it found.
func (k OpKind) MakesDirectory() bool {
	switch k {
	case OpBootstrap, OpClone, OpRestore, OpRewind:
		return true
	default:
		return false
	}
}

// Operation is the long action that runs, or the last one that ended.
type Operation struct {
	Kind    OpKind
	Serial  int64 // grows with each operation; 0: none ever
	Running bool
	Started Instant
	Ended   Instant
	// Error is why it failed, "" when it succeeded or still runs.
	Error string
	// Result of OpStop: position of the shutdown checkpoint, 0 unknown.
	ShutdownLSN wal.LSN
	// Result of OpCheckDivergence.
	Divergence Divergence
	// Result of OpCheckRemote: it has another system identifier.
	Foreign bool
	// Result of OpRewind: the directory is damaged and must be made anew.
	Damaged bool
	// Result of OpPromote: pre_promote does not want it.
	Refused bool
	// Progress in bytes; Total 0: unknown. Method is what makes it, for example
	// "pgbackrest" or "basebackup".
	Done, Total int64
	Method      string
	// MethodStarted is when Method began, Rate its bytes per second since then.
	MethodStarted Instant
	Rate          int64
	// Cancelled: it was asked to end early.
	Cancelled bool
	// Result of OpRestore. Interrupted: its server was ended from outside, and it
	// can go on.
	Timeline    wal.Timeline
	Interrupted bool
}

// Divergence is the outcome of comparing the local WAL with a leader's.
type Divergence int

// Outcomes of a divergence check.
const (
	DivergenceUnknown Divergence = iota
	DivergenceNone
	DivergenceFound
)

// Peers are the answers of other members' /patroni.
type Peers struct {
	AskedAt Instant
	Ballot  Ballot // what they were asked to freeze for
	// Answers by member name; a member that was asked and did not answer is
	// here with Reachable false.
	Answers map[string]Peer
}

// Peer is one member's answer (ha-behaviour 2.3).
type Peer struct {
	Reachable      bool
	Glanced        bool // not Reachable, but nobody waited for its answer
	InRecovery     bool
	Position       wal.LSN // max(received, replayed); 0 for a primary
	Timeline       wal.Timeline
	NoFailover     bool
	Priority       int
	WatchdogFailed bool
	// Fault is what it says is wrong with its server, "" for nothing; only
	// members of ours tell.
	Fault string
	// Frozen: it streams from nobody, and promised so for the epoch it was asked
	// about. Unaware: it does not know the question.
	Frozen, Unaware bool
	// Promise is the last leadership a frozen voter knew of.
	Promise int64
}

// Limitation says why this peer cannot take part, "" if it can.
func (p Peer) Limitation() string {
	switch {
	case !p.Reachable:
		return "not reachable"
	case p.NoFailover:
		return "not allowed to promote"
	case p.WatchdogFailed:
		return "not watchdog capable"
	case p.Fault != "":
		return "not healthy: " + p.Fault
	}
	return ""
}

// Leash is the state of the process that guards postgres.
type Leash struct {
	Attached  bool
	Armed     int64   // number of the armed epoch, see Memory.Hold; 0: not armed
	Deadline  Instant // of the armed epoch
	Highest   int64   // highest number ever armed or latched: none below can be armed
	Suspended bool
	// Etcd is the id of the etcd cluster whose epochs the numbers were made of; 0:
	// the leash does not know.
	Etcd uint64
	// Watchdog is why the kernel watchdog is not in force, or would not be if
	// the leash were armed now; "" if all is well, or it is not required.
	Watchdog string
}

// Binds tells whether the leash ends the server at its deadline.
func (l *Leash) Binds() bool { return l.Armed != 0 && !l.Suspended }
