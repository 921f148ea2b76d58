// Package dcs describes what a cluster keeps in etcd: key layout, JSON values,
// the snapshot of all of them, and the contract of a store. It is compatible
// with Patroni 4.1.4 to the byte (wire contract §4) and holds no client.
package dcs

import (
	"encoding/json"
	"time"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Cluster is an immutable snapshot of all keys of one cluster. Pointers are
// nil when the key is absent. A key whose value cannot be read (bad JSON, too
// large, out of range) is absent too, except that Invalid lists it.
type Cluster struct {
	ID         uint64 // etcd's cluster id
	Revision   int64  // etcd revision the snapshot is complete up to
	Leader     *Leader
	Members    []Member // sorted by name
	Initialize *Initialize
	Config     *Config
	Failover   *Failover
	Sync       *Sync
	History    *History
	Status     *Status
	Failsafe   *Failsafe
	Restore    *Restore
	Backup     *Backup
	BackupLock *BackupLock
	Events     *EventRing     // of Read only
	Invalid    map[Key]string // key -> what is wrong with its value

	invalidRevisions map[Key]int64 // mod revisions of the keys in Invalid
}

// Leader is /leader.
type Leader struct {
	Name string
	// Epoch is the create revision: the fencing token of this leadership.
	Epoch   int64
	LeaseID int64
}

// Initialize is /initialize: the system identifier in decimal digits, or ""
// while a bootstrap runs.
type Initialize struct {
	SystemID    string
	ModRevision int64
}

// Config is /config: a JSON object, key order preserved in Raw.
type Config struct {
	Raw         json.RawMessage
	ModRevision int64
}

// Failover is /failover. All of it empty means: nothing requested. A
// ScheduledAt that does not parse makes Bad true: the request is to be cleaned.
type Failover struct {
	Leader      string // the source; present: switchover, empty: manual failover
	Candidate   string // JSON name "member"
	ScheduledAt time.Time
	Bad         bool
	ModRevision int64
}

// Empty reports whether nothing is requested (ha-behaviour §1.12).
func (f *Failover) Empty() bool {
	return f == nil || f.Leader == "" && f.Candidate == "" && !f.Bad
}

// Sync is /sync. Leader "" means: synchronous mode not active.
type Sync struct {
	Leader      string
	Quorum      int
	Standbys    []string
	ModRevision int64
}

// HistoryLine is one element of /history.
type HistoryLine struct {
	Timeline  wal.Timeline
	LSN       wal.LSN
	Reason    string
	Timestamp string // ISO 8601 as stored; "" when the line has three columns
	NewLeader string
}

// History is /history.
type History struct {
	Lines       []HistoryLine
	ModRevision int64
}

// Status is /status. Slots and RetainSlots may be nil.
type Status struct {
	Optime      wal.LSN
	Slots       map[string]wal.LSN
	RetainSlots []string
	Beat        *Beat // nil: last written by a Patroni member
	ModRevision int64
}

// Beat is the member "pgha" of /status: the heartbeat that makes leadership
// observable without trusting etcd's lease clock.
type Beat struct {
	Beat  int64 `json:"beat"`
	Epoch int64 `json:"epoch"` // 0 in the claim itself: its epoch is the revision of that transaction
	// TTL is the holder's granted lease in milliseconds.
	TTL      int64  `json:"ttl"`
	Holder   string `json:"holder"`   // random id of the holder's installation
	Released bool   `json:"released"` // true: postgres was verified dead or read-only before the key went
	// Timeline is what the holder's server writes, or wrote when it last did. Next
	// is the number that a promotion of its may give, published before it begins:
	// whoever is promoted later must give a higher one. 0: unknown, none.
	Timeline wal.Timeline `json:"timeline,omitempty"`
	Next     wal.Timeline `json:"next_timeline,omitempty"`
}

// Failsafe is /failsafe: member name to API URL.
type Failsafe struct {
	Members     map[string]string
	ModRevision int64
}

// Member is one /members/<name> (wire contract §4.2). Optional fields are zero
// when absent.
type Member struct {
	Name                   string
	ConnURL                string
	APIURL                 string
	ProxyURL               string
	State                  string
	Role                   string // "master" is read as "primary"
	Version                string
	CheckpointAfterPromote *bool // false: leader not checkpointed yet; nil: absent
	Tags                   Tags
	PendingRestart         bool
	PendingRestartReason   json.RawMessage
	XLogLocation           wal.LSN
	ReceiveLSN             wal.LSN
	ReplayLSN              wal.LSN
	ReplicationState       string
	Timeline               wal.Timeline
	ScheduledRestart       json.RawMessage
	Pause                  bool
	// Of the member "pgha": a long operation that runs, why this member does not
	// trust what etcd holds, and the timeline of a server that does not tell it itself.
	Progress     *Progress
	Quarantine   string
	Slots        []SlotUsage  // those that keep WAL worth telling of
	DataTimeline wal.Timeline // by its control file, while it is down or starts

	ModRevision int64
	LeaseID     int64
}

// Tags is the published tags object: built-in and free ones alike, in the
// order of the source document.
type Tags []Tag

// Tag is one entry; Value is a JSON value decoded with UseNumber.
type Tag struct {
	Name  string
	Value any
}

// Member returns the member called name, or nil.
func (c *Cluster) Member(name string) *Member {
	if c == nil {
		return nil
	}
	for i := range c.Members {
		if c.Members[i].Name == name {
			return &c.Members[i]
		}
	}
	return nil
}

// LeaderName returns the holder of /leader, or "".
func (c *Cluster) LeaderName() string {
	if c == nil || c.Leader == nil {
		return ""
	}
	return c.Leader.Name
}
