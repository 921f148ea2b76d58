package dcs

import (
	"context"
	"errors"
	"time"
)

// Errors of a Store. Every error a Store returns matches exactly one of the
// first four with errors.Is; the text says which request it was.
var (
	// ErrUnavailable: etcd could not be asked, or answered that it cannot
	// serve. The request had no effect.
	ErrUnavailable = errors.New("etcd unavailable")
	// ErrUnknown: the request left this process and no answer came. It may
	// have had its effect; read again before acting on either assumption.
	ErrUnknown = errors.New("outcome unknown")
	// ErrConflict: a compare of the transaction failed; nothing was written.
	ErrConflict = errors.New("changed by somebody else")
	// ErrLeaseLost: etcd does not know our lease any more. It is forgotten;
	// the next call that needs one grants a new one.
	ErrLeaseLost = errors.New("lease expired")
	// ErrRejected: etcd answered with a definite error that trying again will
	// not mend: wrong password, no permission, request too large.
	ErrRejected = errors.New("refused by etcd")
)

// Key names one key of a cluster, relative to its base (wire contract §4.1).
type Key string

// The keys of a cluster. Members live under KeyMembers + name.
const (
	KeyLeader     Key = "leader"
	KeyMembers    Key = "members/"
	KeyInitialize Key = "initialize"
	KeyConfig     Key = "config"
	KeyFailover   Key = "failover"
	KeySync       Key = "sync"
	KeyHistory    Key = "history"
	KeyStatus     Key = "status"
	KeyFailsafe   Key = "failsafe"
)

// Keys of ours, which Patroni ignores.
const (
	// KeyRestore is the order to set the cluster back to an earlier state.
	KeyRestore Key = "pgha/restore"
	// KeyBackup is what was asked of backups and what became of the last one.
	KeyBackup Key = "pgha/backup"
	// KeyBackupLock hangs on the lease of the member that makes a backup.
	KeyBackupLock Key = "pgha/backup_lock"
	// KeyEvents holds the newest events of all members. It decides nothing: Read
	// returns it, but watched views leave it out and do not wake for it.
	KeyEvents Key = "pgha/events"
)

// Claim asks for the leader key (safety: claim rule). It succeeds only if
// /leader is absent and /status and /sync are still at the revisions the
// caller looked at (0: the key must be absent).
type Claim struct {
	Name           string
	StatusRevision int64 // mod revision of /status as seen
	SyncRevision   int64 // mod revision of /sync as seen
	Status         []byte
}

// Renewal is one round of the leader: keepalive of the lease, then a
// transaction guarded by the epoch. A nil Status writes no status and the
// guard alone is checked. A round that was given up, and reaches the store after a
// later one, changes nothing: what a later one announced stands.
type Renewal struct {
	Name   string
	Epoch  int64
	Status []byte
}

// Release gives the leader key back: deleted only if it still carries Epoch.
// A non-nil Status is written in the same transaction.
type Release struct {
	Epoch  int64
	Status []byte
}

// Write is a guarded put. The zero guards mean "no condition of this kind".
type Write struct {
	Key   Key
	Value []byte
	// Epoch, when not 0, demands create_revision(/leader) == Epoch: the only
	// way a node writes in leader role.
	Epoch int64
	// NoLeader demands that /leader is absent: how a former leader marks its
	// leadership as over.
	NoLeader bool
	// Revision, when not nil, demands that the key is at this mod revision
	// (0: absent).
	Revision *int64
}

// Store is one cluster's keys in the DCS, with one lease of this process.
//
// Each call is bounded by its context and by nothing else. Calls may be made
// from several goroutines. No call renews the lease except Renew, KeepAlive
// and, when there is no lease yet, those that need one: a store never keeps a
// lease alive by itself, because a hung loop must lose its keys.
type Store interface {
	// Snapshot returns the newest view of the cluster. It comes from a watch
	// that follows every key; own writes are in it as soon as the call that
	// made them has returned. While the view may be stale (watch cut, first
	// read not done) it waits for it to be whole again; ErrUnavailable when
	// ctx ends first.
	Snapshot(ctx context.Context) (*Cluster, error)
	// Read returns the cluster by a linearizable read, past the watch.
	Read(ctx context.Context) (*Cluster, error)
	// Changed is readable (once per batch) after the watched view changed by
	// a write that was not our own, or after the watch was lost.
	Changed() <-chan struct{}

	// SetTTL sets the lease time to ask for; another value than that of the
	// present lease makes the next Renew or KeepAlive grant a new lease and
	// move the keys to it.
	SetTTL(ttl time.Duration)
	// TTL returns what etcd granted for the present lease (E1: it may be more
	// than asked), 0 without a lease.
	TTL() time.Duration

	// Claim takes the leader key and returns its epoch, the create revision.
	// ErrConflict: somebody else has it or a compare failed.
	Claim(ctx context.Context, c Claim) (epoch int64, err error)
	// Renew does one round. ErrConflict: the key is gone or another's; the
	// leadership is lost. ErrLeaseLost: the lease is gone, the key with it.
	// When the key hangs on an older lease of this node (agent restarted, TTL
	// changed) the same transaction moves it to the present one.
	Renew(ctx context.Context, r Renewal) error
	// Release deletes the leader key. ErrConflict: it was not ours any more.
	Release(ctx context.Context, r Release) error
	// KeepAlive refreshes the lease (granting one if needed); for members
	// that are not the leader, once per turn of the loop.
	KeepAlive(ctx context.Context) error

	// PutMember writes members/<name> with the present lease. The caller
	// decides when a rewrite is needed; see MemberLeased.
	PutMember(ctx context.Context, name string, value []byte) error
	// PutMemberUnder is PutMember while create_revision(/leader) == epoch, and
	// ErrConflict otherwise. It shows that this leadership is still there: unlike
	// a read, a write cannot be answered out of the past.
	PutMemberUnder(ctx context.Context, name string, value []byte, epoch int64) error
	// MemberLeased tells whether this process's present lease holds the
	// member key, as far as the watched view knows.
	MemberLeased(name string) bool
	// Put writes one key without a lease, under the guards of w.
	Put(ctx context.Context, w Write) error
	// Lock creates key with the present lease, or rewrites it while this store
	// holds it, moving it to the present lease. ErrConflict: somebody else has
	// it, or this store lost it, which is forgotten: the next call tries anew.
	// A caller that rewrites must have stopped before it unlocks.
	Lock(ctx context.Context, key Key, value []byte) error
	// Unlock deletes a key that this store holds. One that is gone already, or
	// another's, is no error.
	Unlock(ctx context.Context, key Key) error
	// DeleteInitialize removes /initialize after a failed bootstrap, if it
	// still is at revision.
	DeleteInitialize(ctx context.Context, revision int64) error

	// Close ends the watch and the connections. The lease is not revoked.
	Close() error
}
