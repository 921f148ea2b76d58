package dcs

import (
	"time"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Restore is /pgha/restore: an operator's order to set the cluster back to an
// earlier state (point-in-time recovery), and what became of it.
type Restore struct {
	ID     string // random; one order, one id
	State  RestoreState
	Member string // the leader that carries it out
	Stanza string // "" means the cluster's own
	Set    string // label of the backup set to begin with
	Target RestoreTarget
	// SystemID is that of the cluster the order was given for.
	SystemID string
	// Force: go on although the newest WAL could not be archived.
	Force     bool
	Requested time.Time
	By        string // who asked: user and address
	// Set when it ended.
	Ended    time.Time
	Timeline wal.Timeline // of the restored cluster, when done
	Error    string       // why it failed

	ModRevision int64
}

// RestoreState is how far an order has come.
type RestoreState string

// States of a restore order. Open means the first.
const (
	RestoreRequested RestoreState = "requested"
	RestoreDone      RestoreState = "done"
	RestoreFailed    RestoreState = "failed"
)

// Open tells whether r is still to be carried out.
func (r *Restore) Open() bool { return r != nil && r.State == RestoreRequested }

// RestoreTarget is where recovery stops.
type RestoreTarget struct {
	Type      string // "latest", "immediate", "time", "lsn", "name" or "xid"
	Value     string // "" for latest and immediate
	Timeline  string // recovery_target_timeline: "latest" (default), "current" or a number
	Exclusive bool   // stop just before the target
}

// Backup is /pgha/backup: the last request for a backup and the last result.
type Backup struct {
	// Requested is the type asked for by hand, "" when nothing is.
	Requested   string
	RequestedAt time.Time
	RequestedBy string
	// Last attempt, scheduled or asked for.
	Type    string
	Member  string
	Due     time.Time // what it was for: a time of the schedule, or RequestedAt
	Started time.Time
	Ended   time.Time
	Label   string // of the finished backup
	Error   string // why it failed
	Tries   int    // attempts for Due so far

	ModRevision int64
}

// BackupLock is /pgha/backup_lock.
type BackupLock struct {
	Member   string
	Type     string
	Started  time.Time
	Progress *Progress

	LeaseID     int64
	ModRevision int64
}

// Progress is a long operation under way, as published.
type Progress struct {
	Operation string // "restore", "clone", "backup"
	Method    string // "pgbackrest", "basebackup" or a method's name
	Done      int64  // bytes
	Total     int64  // bytes; 0 unknown
	Rate      int64  // bytes per second
	Started   time.Time
}

// Left is the time the rest will take at the present rate; 0 unknown.
func (p *Progress) Left() time.Duration {
	if p == nil || p.Rate <= 0 || p.Total <= p.Done {
		return 0
	}
	return time.Duration(float64(p.Total-p.Done) / float64(p.Rate) * float64(time.Second))
}
