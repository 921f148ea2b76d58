package restapi

import (
	"context"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// Refusal is a request that was not carried out: the HTTP status and the one
// line that says why and how to mend it.
type Refusal struct {
	Status int
	Text   string
}

// Backups is what the server needs of the process around it for backups,
// restores and reinitialisation.
type Backups interface {
	// Reinitialize asks this member to make its copy anew (wire contract §5.7).
	// force ends an operation under way first; fromLeader allows pg_basebackup
	// alone.
	Reinitialize(ctx context.Context, force, fromLeader bool) *Refusal
	// CancelReinitialize stops a copy under way.
	CancelReinitialize() *Refusal

	// Backup describes repository, schedule and archiving as known here. It
	// waits a moment at most for news from the repository.
	Backup(ctx context.Context) (*BackupDocument, *Refusal)
	// BackupKnown is the same without any waiting, for metrics; nil: nothing is
	// known yet. Without pgha.backup only Member and Archive are filled.
	BackupKnown() *BackupDocument
	// RequestBackup asks for one backup of a type: "full", "diff" or "incr".
	RequestBackup(ctx context.Context, kind, by string) *Refusal
	// CancelBackup ends the backup that this member makes, or takes a request back.
	CancelBackup(ctx context.Context, by string) *Refusal
	// CheckBackup tests repository and archiving end to end; it takes up to a minute.
	CheckBackup(ctx context.Context) (*BackupCheck, *Refusal)

	// Restore plans (Dry) or orders a point-in-time recovery of the cluster.
	Restore(ctx context.Context, r RestoreRequest, by string) (*RestorePlan, *Refusal)
	// RestoreState is the newest order and how far it is; nil without any.
	RestoreState() *RestoreStatus
	// CancelRestore takes an order back; what runs is ended.
	CancelRestore(ctx context.Context, by string) *Refusal
}

// BackupDocument is the body of GET /backup.
type BackupDocument struct {
	Stanza   string        `json:"stanza"`
	Member   string        `json:"member"`           // who answers
	ReadAt   time.Time     `json:"read_at,omitzero"` // when Backups was read
	Error    string        `json:"error,omitempty"`  // why the repository cannot be read
	Backups  []BackupEntry `json:"backups"`          // oldest first
	Archive  ArchiveState  `json:"archive"`
	Schedule []BackupPlan  `json:"schedule"`
	// From is "leader" or "standby", Runner the member that would back up now.
	// Running is whatever member makes a backup.
	From    string         `json:"from"`
	Runner  string         `json:"runner,omitempty"`
	Running *RunningBackup `json:"running,omitempty"`
	Pending string         `json:"pending,omitempty"` // type asked for and not begun
	Last    *LastBackup    `json:"last,omitempty"`
	Alarms  []string       `json:"alarms"`
	// DataDir and SocketDir are of the member that answers: a standby that backs
	// up has to know the leader's.
	DataDir   string `json:"data_dir,omitempty"`
	SocketDir string `json:"socket_dir,omitempty"`
}

// BackupEntry is one backup set; sizes in bytes.
type BackupEntry struct {
	Label     string    `json:"label"`
	Type      string    `json:"type"` // full, diff, incr
	Start     time.Time `json:"start"`
	Stop      time.Time `json:"stop"`
	Timeline  int64     `json:"timeline"`
	StartLSN  string    `json:"start_lsn"`
	StopLSN   string    `json:"stop_lsn"`
	StartWAL  string    `json:"start_wal"`
	StopWAL   string    `json:"stop_wal"`
	Size      int64     `json:"size"`      // of the database
	RepoSize  int64     `json:"repo_size"` // new in the repository
	Reference string    `json:"reference,omitempty"`
	Damaged   bool      `json:"damaged,omitempty"`
}

// ArchiveState is the state of archiving of this member's server.
type ArchiveState struct {
	Min          string    `json:"min,omitempty"` // first and last segment in the repository
	Max          string    `json:"max,omitempty"`
	ReadyFiles   int       `json:"ready_files"` // segments that wait
	OldestReady  float64   `json:"oldest_ready_seconds"`
	LastArchived string    `json:"last_archived,omitempty"`
	LastTime     time.Time `json:"last_archived_time,omitzero"`
	LastFailed   string    `json:"last_failed,omitempty"`
	LastFailTime time.Time `json:"last_failed_time,omitzero"`
	FailedCount  int64     `json:"failed_count"`
	Failing      bool      `json:"failing"`
	WALBytes     int64     `json:"wal_bytes"`      // in pg_wal
	WALFreeBytes int64     `json:"wal_free_bytes"` // on its file system
}

// BackupPlan is one line of the schedule.
type BackupPlan struct {
	Type string    `json:"type"`
	Cron string    `json:"cron"`
	Next time.Time `json:"next,omitzero"`
}

// RunningBackup is a backup under way.
type RunningBackup struct {
	Member  string    `json:"member"`
	Type    string    `json:"type"`
	Started time.Time `json:"started"`
	Progress
}

// LastBackup is the last attempt.
type LastBackup struct {
	Type    string    `json:"type"`
	Member  string    `json:"member"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Label   string    `json:"label,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Progress is how far a long operation is.
type Progress struct {
	Done    int64   `json:"done"`             // bytes
	Total   int64   `json:"total"`            // bytes, 0 unknown
	Percent float64 `json:"percent"`          // 0 unknown
	Rate    int64   `json:"rate"`             // bytes per second
	Left    float64 `json:"left_seconds"`     // 0 unknown
	Method  string  `json:"method,omitempty"` // what makes it
}

// ProgressOf renders a published progress.
func ProgressOf(p *dcs.Progress) Progress {
	if p == nil {
		return Progress{}
	}
	out := Progress{Done: p.Done, Total: p.Total, Rate: p.Rate, Left: p.Left().Seconds(), Method: p.Method}
	if p.Total > 0 {
		out.Percent = min(100*float64(p.Done)/float64(p.Total), 100)
	}
	return out
}

// BackupCheck is the answer of POST /backup_check.
type BackupCheck struct {
	OK    bool        `json:"ok"`
	Items []CheckItem `json:"items"`
}

// CheckItem is one thing looked at.
type CheckItem struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Text string `json:"text,omitempty"` // what is wrong and how to mend it
}

// RestoreRequest is the body of POST /restore.
type RestoreRequest struct {
	// Type is latest, immediate, time, lsn, name or xid; Value belongs to it.
	Type      string `json:"type"`
	Value     string `json:"value,omitempty"`
	Timeline  string `json:"timeline,omitempty"` // latest (default), current or a number
	Exclusive bool   `json:"exclusive,omitempty"`
	Set       string `json:"set,omitempty"` // backup label; default: the newest one before the target
	Force     bool   `json:"force,omitempty"`
	Dry       bool   `json:"dry,omitempty"` // plan only
}

// RestorePlan says what a restore would do.
type RestorePlan struct {
	ID       string      `json:"id,omitempty"` // of the order, when it was given
	Cluster  string      `json:"cluster"`
	SystemID string      `json:"system_id"`
	Member   string      `json:"member"` // who restores
	DataDir  string      `json:"data_dir"`
	Timeline int64       `json:"timeline"` // present one
	Position string      `json:"position"` // present position
	Target   string      `json:"target"`   // in words
	Backup   BackupEntry `json:"backup"`
	Others   []string    `json:"others"` // members that will follow: rewound or copied anew
	Warnings []string    `json:"warnings"`
}

// RestoreStatus is the body of GET /restore.
type RestoreStatus struct {
	ID       string    `json:"id"`
	State    string    `json:"state"` // requested, running, done, failed
	Member   string    `json:"member"`
	Target   string    `json:"target"`
	Set      string    `json:"set"`
	Started  time.Time `json:"requested"`
	Ended    time.Time `json:"ended,omitzero"`
	Timeline int64     `json:"timeline,omitempty"`
	Error    string    `json:"error,omitempty"`
	Progress
}
