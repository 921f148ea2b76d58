package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// BackupFacts is everything PlanBackup may know. Members that know the same
// come to the same result, whoever asks.
type BackupFacts struct {
	Now     time.Time
	Me      string
	Backup  config.Backup
	Cluster *dcs.Cluster
	// Known: the repository was asked; Newest is from its answer.
	Known bool
	// Newest is the start of the newest good backup of each type ("full",
	// "diff", "incr"); a type that is absent has none.
	Newest map[string]time.Time
	// Began is when this process began to know: nothing that was due more than a
	// day before is caught up.
	Began time.Time
}

// BackupStep is what is to be done about backups now.
type BackupStep struct {
	Kind    string    // "full", "diff" or "incr"; "": nothing
	Due     time.Time // what it is for: a time of the schedule, or that of a request
	Standby bool      // the files come from the runner, a standby
	Runner  string    // the member that makes it; "": nobody can
	Why     string
	Wait    time.Duration // until something can change by time alone
}

// Types of backups, the strongest first: each covers those after it.
var backupKinds = []string{"full", "diff", "incr"}

const (
	// backupLook is the longest time between two plans.
	backupLook = time.Hour
	// backupCatchUp is how long before the start of the process a time may lie
	// that nobody saw to, and is made up for.
	backupCatchUp = 24 * time.Hour
	backupRetry   = time.Minute
	maxRetry      = 30 * time.Minute
)

// wantedBackup is one backup that nothing covers yet.
type wantedBackup struct {
	kind  string
	due   time.Time
	asked bool // by hand
}

// PlanBackup says which backup is to be made now, and by whom. A time of the
// schedule is covered by a backup of that type or a stronger one that began at
// or after it; where several are due, the strongest stands for all.
func PlanBackup(f BackupFacts) BackupStep {
	nothing := func(why string) BackupStep { return BackupStep{Why: why, Wait: f.untilNext()} }
	c := f.Cluster
	switch {
	case c == nil:
		return nothing("the cluster is not known yet")
	case c.Restore.Open():
		return nothing("a restore is under way")
	case c.BackupLock != nil && c.BackupLock.Member != f.Me:
		return nothing(c.BackupLock.Member + " makes a backup")
	}
	wanted := f.wanted()
	if len(wanted) == 0 {
		return nothing("nothing is due")
	}
	var best *wantedBackup
	wait := f.untilNext()
	for i := range wanted {
		if left := f.retryIn(&wanted[i]); left > 0 {
			wait = min(wait, left)
		} else if best == nil {
			best = &wanted[i]
		}
	}
	switch {
	case best == nil:
		return BackupStep{Why: "the last attempt failed; trying again later: " + c.Backup.Error, Wait: wait}
	case !f.Known && !best.asked:
		return BackupStep{Why: "the repository was not asked yet", Wait: wait}
	}
	step := BackupStep{Kind: best.kind, Due: best.due, Wait: wait, Why: "it is due since " + best.due.Format(time.DateTime)}
	if best.asked {
		step.Why = "asked for by " + c.Backup.RequestedBy
	}
	step.Runner, step.Standby = f.runner(best)
	if step.Runner == "" {
		return BackupStep{Why: "no leader runs", Wait: wait}
	}
	return step
}

// wanted are the backups that are due and not covered, the strongest first; of
// two of one type the one asked for by hand.
func (f *BackupFacts) wanted() []wantedBackup {
	var out []wantedBackup
	b := f.Cluster.Backup
	for rank, kind := range backupKinds {
		if b != nil && b.Requested == kind && !f.covered(rank, b.RequestedAt) {
			out = append(out, wantedBackup{kind: kind, due: b.RequestedAt, asked: true})
		}
		if due := f.lastDue(f.schedule(kind)); !due.IsZero() && !f.covered(rank, due) {
			out = append(out, wantedBackup{kind: kind, due: due})
		}
	}
	return out
}

func (f *BackupFacts) schedule(kind string) *config.Schedule {
	switch kind {
	case "full":
		return f.Backup.Full
	case "diff":
		return f.Backup.Diff
	}
	return f.Backup.Incr
}

// lastDue is the last time of s that has come and is to be seen to, zero if
// there is none. Only the last one counts: what was missed is made up for once.
func (f *BackupFacts) lastDue(s *config.Schedule) time.Time {
	oldest := f.Began.Add(-backupCatchUp)
	for _, back := range []time.Duration{time.Hour, 25 * time.Hour, 8 * 24 * time.Hour, 32 * 24 * time.Hour, 367 * 24 * time.Hour} {
		from := f.Now.Add(-back)
		if from.Before(oldest) {
			from = oldest.In(f.Now.Location())
		}
		var last time.Time
		for at := s.Next(from); !at.IsZero() && !at.After(f.Now); at = s.Next(at) {
			last = at
		}
		if !last.IsZero() || from.Equal(oldest) {
			return last
		}
	}
	return time.Time{}
}

// covered tells whether a backup of the type with that rank, or a stronger one,
// began at or after due. pgBackRest counts in whole seconds.
func (f *BackupFacts) covered(rank int, due time.Time) bool {
	due = due.Truncate(time.Second)
	b := f.Cluster.Backup
	for _, kind := range backupKinds[:rank+1] {
		if at, ok := f.Newest[kind]; ok && !at.Before(due) {
			return true
		}
		if b != nil && b.Type == kind && b.Label != "" && b.Error == "" && !b.Started.Before(due) {
			return true // newer than the repository's last answer
		}
	}
	return false
}

// retryIn is how long a failed attempt for w has to wait before the next:
// 1, 2, 4 minutes and so on, 30 at most.
func (f *BackupFacts) retryIn(w *wantedBackup) time.Duration {
	tries := f.tries(w)
	if tries == 0 {
		return 0
	}
	pause := maxRetry
	if tries <= 5 {
		pause = backupRetry << (tries - 1)
	}
	return min(f.Cluster.Backup.Ended.Add(pause).Sub(f.Now), pause) // a clock that was set back delays nothing
}

// tries is how many attempts for w failed so far.
func (f *BackupFacts) tries(w *wantedBackup) int {
	b := f.Cluster.Backup
	if b == nil || b.Error == "" || b.Type != w.kind || !b.Due.Equal(w.due) {
		return 0
	}
	return max(b.Tries, 1)
}

// runner is the member that makes the backup: the leader, or the standby with
// the lowest name that streams. After a failure the next one has its turn.
func (f *BackupFacts) runner(w *wantedBackup) (name string, standby bool) {
	c := f.Cluster
	leader := c.Member(c.LeaderName())
	if leader == nil || leader.State != "running" || leader.Role != "primary" {
		return "", false
	}
	if f.Backup.From != config.BackupFromStandby {
		return leader.Name, false
	}
	var fit []string
	for i := range c.Members { // sorted by name
		if m := &c.Members[i]; m.Name != leader.Name && m.State == "running" && m.ReplicationState == "streaming" {
			fit = append(fit, m.Name)
		}
	}
	if len(fit) == 0 {
		return leader.Name, false
	}
	return fit[f.tries(w)%len(fit)], true
}

// untilNext is the time until the next one of any schedule.
func (f *BackupFacts) untilNext() time.Duration {
	wait := backupLook
	for _, kind := range backupKinds {
		if at := f.schedule(kind).Next(f.Now); !at.IsZero() {
			wait = min(wait, at.Sub(f.Now))
		}
	}
	return max(wait, time.Second)
}
