package config

import "time"

// SyncMode is synchronous_mode.
type SyncMode string

// The values of synchronous_mode.
const (
	SyncOff    SyncMode = "off"
	SyncOn     SyncMode = "on"
	SyncQuorum SyncMode = "quorum"
)

// Dynamic is the cluster-wide configuration under /config (wire contract §3),
// typed, with Patroni's defaults and timing adjustment applied. It is immutable.
type Dynamic struct {
	TTL          time.Duration
	LoopWait     time.Duration
	RetryTimeout time.Duration

	MaximumLagOnFailover int64 // bytes
	MaximumLagOnSyncNode int64 // bytes; <=0 means off
	CheckTimeline        bool
	MaxTimelinesHistory  int // entries kept in /history; 0 means all
	PrimaryStartTimeout  time.Duration
	PrimaryStopTimeout   time.Duration
	PrimaryRaceBackoff   time.Duration // 0: off

	SynchronousMode       SyncMode
	SynchronousModeStrict bool
	SynchronousNodeCount  int

	FailsafeMode   bool
	Pause          bool
	MemberSlotsTTL time.Duration
	UseSlots       bool // postgresql.use_slots
	Slots          []Slot
	IgnoreSlots    []SlotFilter
	StandbyCluster *StandbyCluster // nil unless active
	PGHA           PGHA            // the pgha section of /config

	Raw []byte // the document as read, compact JSON

	root *node
}

// Slot is one permanent replication slot (wire contract §3.3).
type Slot struct {
	Name        string
	Type        string // "physical" or "logical"
	Database    string
	Plugin      string
	ClusterType string // "", "primary" or "standby"
}

// SlotFilter matches slots to be left alone; empty fields match everything.
type SlotFilter struct {
	Name, Type, Database, Plugin string
}

// StandbyCluster is the standby_cluster section of an active standby cluster.
type StandbyCluster struct {
	Host                  string
	Port                  int
	PrimarySlotName       string // empty: no slot on the remote
	CreateReplicaMethods  []string
	RestoreCommand        string
	ArchiveCleanupCommand string
	RecoveryMinApplyDelay string
}
