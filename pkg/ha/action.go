package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Action is one thing that changes the world, or fetches a costly fact. It is
// data; the loop performs it. The set is closed.
//
//sumtype:decl
type Action interface{ action() }

// Short actions: done within the turn.
type (
	// Renew does one round for the held lease: keepalive and guarded
	// transaction with the next beat.
	Renew struct {
		Beside *AskFailsafe // nil: etcd alone is asked
	}
	// Claim takes the free leader key under the guards of the snapshot.
	Claim struct{}
	// TakeBack renews for an epoch that the snapshot shows to be this node's
	// own (agent restarted); leadership counts only from its success.
	TakeBack struct{ Epoch int64 }
	// Release gives the leader key back. Clean: postgres is verifiably dead or
	// read-only, so that nobody needs to wait for the old deadline.
	Release struct {
		Epoch  int64
		Clean  bool
		Optime wal.LSN // 0: keep the last known
	}
	// DropLeader deletes a leader key that etcd had before it went back, and that
	// nobody renews.
	DropLeader struct{ Epoch int64 }
	// PublishReleased marks the last leadership of this very node as over,
	// after it came back and found its server dead or in recovery.
	PublishReleased struct{}
	// ArmLeash hands the epoch and deadline of the held lease to the leash.
	ArmLeash struct{}
	// SyncSlots begins what is to be done to the replication slots, beside the
	// loop. Feedback: hot_standby_feedback has to be on.
	SyncSlots struct {
		Steps    []SlotStep
		Feedback bool
	}
	// DisarmLeash tells the leash that this node is no primary any more.
	DisarmLeash struct{ Epoch int64 }
	// SuspendLeash puts the deadline aside while the cluster is paused.
	SuspendLeash struct{}
	// AskPeers asks members for their state; the answers are in the next
	// observation. Members in Await are waited for until Timeout; members in
	// Glance are asked, too, but nobody waits for them.
	AskPeers struct {
		Await, Glance []dcs.Member
		Timeout       time.Duration
		// Patient: who answers, and has not told its position yet, is asked again
		// until then.
		Patient bool
		// Ballot, unless it is zero, asks them to freeze first.
		Ballot Ballot
	}
	// Follow points the running standby at another upstream (no restart); at
	// nobody when that is zero.
	Follow struct{ Upstream Upstream }
	// Freeze ends the WAL receiver of the running standby for good, and is done
	// when it is gone and the position stands still (safety B.5). Asked: another
	// member wants to be elected.
	Freeze struct{ Asked bool }
	// Thaw writes the member key if epoch still is the leadership in etcd: the
	// proof that this standby may stream again.
	Thaw struct{ Epoch int64 }
	// ResumeReplay lets a standby go on replaying that has paused.
	ResumeReplay struct{}
	// WriteInitialize claims /initialize: with "" at the start of a bootstrap,
	// with the system identifier otherwise. Revision is that of the key as
	// seen, 0 for absent.
	WriteInitialize struct {
		SystemID string
		Revision int64
	}
	// DropInitialize removes the empty /initialize after a failed bootstrap.
	DropInitialize struct{ Revision int64 }
	// WriteConfig restores a missing or empty /config from the local copy.
	WriteConfig struct{ Revision int64 }
	// WriteHistory writes /history, guarded by the epoch.
	WriteHistory struct{ Lines []dcs.HistoryLine }
	// WriteFailsafe writes /failsafe, guarded by the epoch and its revision.
	WriteFailsafe struct {
		Members  map[string]string
		Revision int64
	}
	// WriteSync writes /sync, guarded by the epoch and its revision.
	WriteSync struct{ Sync dcs.Sync }
	// SetSyncNames puts synchronous_standby_names into force; nil gives the
	// parameter back to the configuration.
	SetSyncNames struct{ Names *string }
	// CleanFailover empties /failover, if it is still at Revision.
	CleanFailover struct{ Revision int64 }
	// WriteRestore says what became of a restore order, guarded by its revision.
	WriteRestore struct{ Order dcs.Restore }
	// MoveAside renames a data directory that this run made and could not
	// finish to <dir>.failed.
	MoveAside struct{}
	// FinishBootstrap removes the mark of an unfinished bootstrap from the data
	// directory, once the cluster goes by its identifier.
	FinishBootstrap struct{}
	// Exit ends the agent. Code 0 is an ordinary end.
	Exit struct {
		Code    int
		Message string
	}
)

// Long actions: begun in the turn, running beside the loop (table A).
type (
	// Bootstrap makes a new cluster: initdb and first start, not reachable for
	// clients yet. From a remote it is a copy of that, started as its standby.
	Bootstrap struct{ From Upstream }
	// PostBootstrap creates the roles of a new cluster.
	PostBootstrap struct{}
	// Clone makes this node's data directory a copy of the upstream's. Wipe:
	// what is there may be deleted, under the rules of S9.
	Clone struct {
		From Upstream // zero: nobody; only methods that need no leader
		Wipe bool
		// FromLeader: pg_basebackup alone, whatever methods are configured.
		FromLeader bool
	}
	// Restore sets this node back to an earlier state, as the order says: stop,
	// restore from the repository, recover to the target, become writable.
	Restore struct{ Order dcs.Restore }
	// Rewind runs pg_rewind against the leader.
	Rewind struct{ From Upstream }
	// CrashRecovery runs single-user recovery, so that rewind finds a clean directory.
	CrashRecovery struct{}
	// Start brings the server up. Primary: no standby.signal, the leash is armed.
	Start struct {
		Primary  bool
		Upstream Upstream // zero: follow nobody
	}
	// Stop stops the server.
	Stop struct {
		Mode       StopMode
		Checkpoint bool          // CHECKPOINT first, while clients still work
		Escalate   time.Duration // after this long, stop immediately; 0: never
		// Archive: also the segment with the shutdown checkpoint, which PostgreSQL
		// leaves behind: a standby that lives by the archive has all there is.
		Archive bool
	}
	// Restart stops the server and starts it again in the same role.
	Restart struct {
		Primary  bool
		Upstream Upstream      // of a standby
		Timeout  time.Duration // of the start; 0: as long as a start usually may take
	}
	// Promote ends recovery, which is on timeline From; done when the server is
	// read-write, on one with the number Timeline or a higher one. It is not begun
	// when the deadline of the leadership, Until, has passed: an agent may be stopped
	// between the decision and the act, and in pause no leash is armed.
	Promote struct {
		From, Timeline wal.Timeline
		Until          Instant
	}
	// CheckDivergence compares the local WAL with the leader's.
	CheckDivergence struct{ Leader Upstream }
	// CheckRemote asks the remote of a standby cluster which system it is.
	CheckRemote struct{ Remote Upstream }
	// CopySlots copies logical slots from the leader to this standby, which is
	// restarted if there is anything to copy.
	CopySlots struct {
		From  Upstream
		Slots []Slot
	}
	// CancelOperation asks the running long action to end early.
	CancelOperation struct{}
)

// StopMode is how a server is stopped.
type StopMode int

// Stop modes; the first two as pg_ctl names them.
const (
	StopFast StopMode = iota
	StopImmediate
	StopKill // SIGKILL for all of its processes: for a server that hears nothing
)

// Upstream is the server a standby follows or is copied from.
type Upstream struct {
	Member  string
	ConnURL string
	// Checkpointed: the source has finished its checkpoint after promotion.
	Checkpointed bool
	// Remote: it is not a member but the remote of a standby cluster; Host: it can
	// be connected to. Without, there is an archive alone.
	Remote, Host bool
}

func (Renew) action()           {}
func (Claim) action()           {}
func (TakeBack) action()        {}
func (Release) action()         {}
func (DropLeader) action()      {}
func (PublishReleased) action() {}
func (ArmLeash) action()        {}
func (SyncSlots) action()       {}
func (DisarmLeash) action()     {}
func (SuspendLeash) action()    {}
func (AskPeers) action()        {}
func (Follow) action()          {}
func (Freeze) action()          {}
func (Thaw) action()            {}
func (ResumeReplay) action()    {}
func (WriteInitialize) action() {}
func (DropInitialize) action()  {}
func (WriteConfig) action()     {}
func (WriteHistory) action()    {}
func (WriteFailsafe) action()   {}
func (WriteSync) action()       {}
func (SetSyncNames) action()    {}
func (CleanFailover) action()   {}
func (MoveAside) action()       {}
func (FinishBootstrap) action() {}
func (Exit) action()            {}
func (Bootstrap) action()       {}
func (PostBootstrap) action()   {}
func (Clone) action()           {}
func (Restore) action()         {}
func (WriteRestore) action()    {}
func (Rewind) action()          {}
func (CrashRecovery) action()   {}
func (Start) action()           {}
func (Stop) action()            {}
func (Restart) action()         {}
func (Promote) action()         {}
func (CheckDivergence) action() {}
func (CheckRemote) action()     {}
func (CopySlots) action()       {}
func (CancelOperation) action() {}

// Kind tells which operation a long action is; OpNone for a short one.
func Kind(a Action) OpKind {
	switch a := a.(type) {
	case Bootstrap:
		return OpBootstrap
	case PostBootstrap:
		return OpPostBootstrap
	case Clone:
		return OpClone
	case Restore:
		return OpRestore
	case Rewind:
		return OpRewind
	case CrashRecovery:
		return OpCrashRecovery
	case Start:
		if a.Primary {
			return OpStartPrimary
		}
		return OpStartStandby
	case Stop:
		return OpStop
	case Promote:
		return OpPromote
	case Restart:
		return OpRestart
	case CheckDivergence:
		return OpCheckDivergence
	case CheckRemote:
		return OpCheckRemote
	case CopySlots:
		return OpCopySlots
	default:
		return OpNone
	}
}

// Decision is what Decide returns.
type Decision struct {
	Action Action // nil: nothing to do
	Reason Reason
	// Detail completes the reason's text: a name, a number.
	Detail string
	Memory Memory
	// Callbacks are the operator's scripts to be told, in order.
	Callbacks []Callback
	// Again: observe and decide anew at once.
	Again bool
	// Wait is how long nothing needs to be looked at, unless an event comes.
	Wait time.Duration
}
