package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// backupServer is what the runner needs of the local server.
type backupServer interface {
	StanzaCreate(ctx context.Context) error
	CheckRepository(ctx context.Context) error
	RunBackup(ctx context.Context, kind string, standby bool, members []postgres.BackupHost, progress func(done, total int64)) (postgres.BackupSet, error)
}

// backups makes the cluster's backups when it is this member's turn. Which
// member's turn it is, each finds out by the same rules (ha.PlanBackup); the
// lock in etcd, which hangs on the member's lease, sees to it that only one acts.
// It runs beside the loop, which never waits for it.
type backups struct {
	me     string
	store  dcs.Store
	server backupServer
	repo   *repository
	config func() *config.Backup
	view   func() *ha.View
	hosts  func(ctx context.Context, c *dcs.Cluster) []postgres.BackupHost
	now    func() ha.Instant
	wall   func() time.Time
	log    *slog.Logger
	began  time.Time
	poke   chan struct{} // something changed that may concern backups

	stanza stanzaKeeper
	seen   int64 // revision of /pgha/backup that the repository was last looked at for

	mu      sync.Mutex
	current *attempt // nil: this member makes no backup
	step    ha.BackupStep
}

// wake makes the runner look again.
func (b *backups) wake() {
	select {
	case b.poke <- struct{}{}:
	default:
	}
}

// busy tells whether this member makes a backup.
func (b *backups) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current != nil
}

// Waits of the runner; every change of the cluster or of the view ends them.
const (
	idleWait   = time.Minute
	brokenWait = 10 * time.Second // etcd or the repository did not answer
)

// run works until ctx ends; a backup under way is then cancelled and waited for.
func (b *backups) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.poke:
		case <-timer.C:
		}
		timer.Reset(b.turn(ctx))
	}
}

// turn does what is due, and says when to look again at the latest.
func (b *backups) turn(ctx context.Context) time.Duration {
	cfg, v := b.config(), b.view()
	if !cfg.Enabled || !v.ClusterValid(b.now()) {
		b.note(ha.BackupStep{})
		return idleWait
	}
	b.keepRepository(v)
	wait := b.stanza.keep(ctx, b, v)
	step := ha.PlanBackup(b.facts(v.Cluster))
	b.note(step)
	if step.Wait > 0 {
		wait = min(wait, step.Wait)
	}
	if step.Kind == "" || step.Runner != b.me || b.unfit(step, v.Cluster.LeaderName()) != nil {
		return max(wait, 10*time.Millisecond)
	}
	return b.attempt(ctx, step)
}

// note remembers the newest plan, to be shown.
func (b *backups) note(step ha.BackupStep) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.step = step
}

// plan is the newest plan.
func (b *backups) plan() ha.BackupStep {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.step
}

func (b *backups) facts(c *dcs.Cluster) ha.BackupFacts {
	l := b.repo.last()
	return ha.BackupFacts{
		Now: b.wall(), Me: b.me, Backup: *b.config(), Cluster: c,
		Known: l.known(), Newest: newestStarts(l.repo), Began: b.began,
	}
}

// newestStarts is when the newest usable backup of each type began.
func newestStarts(r *postgres.Repository) map[string]time.Time {
	out := map[string]time.Time{}
	if r == nil {
		return out
	}
	for _, s := range r.Backups {
		if !s.Damaged && s.Start.After(out[s.Type]) {
			out[s.Type] = s.Start
		}
	}
	return out
}

// How often the repository is looked at when nothing hints at a change: often
// where the alarms come from, seldom elsewhere.
const (
	leaderLooks = time.Minute
	otherLooks  = 5 * time.Minute
)

// keepRepository has the repository looked at when what is known of it is old,
// or when somebody wrote what became of a backup. It does not wait.
func (b *backups) keepRepository(v *ha.View) {
	age := otherLooks
	if v.IsLeader(b.now()) {
		age = leaderLooks
	}
	var revision int64
	if v.Cluster.Backup != nil {
		revision = v.Cluster.Backup.ModRevision
	}
	l := b.repo.last()
	if l.err != nil {
		age = leaderLooks
	}
	if l.at.IsZero() || b.wall().Sub(l.at) >= age || revision != b.seen {
		b.seen = revision
		b.repo.look()
	}
}

// Why a backup is ended early.
var (
	errLockLost     = errors.New("the backup lock was lost")
	errEtcdSilent   = errors.New("etcd was not heard of for too long to rely on the backup lock")
	errBackupsOff   = errors.New("pgha.backup was switched off")
	errRestoreOrder = errors.New("a restore of the cluster was ordered")
	errNotLeader    = errors.New("this member does not lead any more")
	errNotStandby   = errors.New("this member is no standby of the same leader any more")
	errBusy         = errors.New("another operation on the server is under way")
	errAgentEnds    = errors.New("the agent ends")
)

// unfit says why this member must not make the backup of step now; leader is
// that of the cluster when it was begun.
func (b *backups) unfit(step ha.BackupStep, leader string) error {
	v := b.view()
	switch {
	case !b.config().Enabled:
		return errBackupsOff
	case v.Cluster != nil && v.Cluster.Restore.Open():
		return errRestoreOrder
	case v.Operation.Running && v.Operation.Kind != ha.OpCheckDivergence && v.Operation.Kind != ha.OpCheckRemote:
		return errBusy
	case !step.Standby && !v.IsLeader(b.now()):
		return errNotLeader
	case step.Standby && (v.Leading || v.Cluster != nil && v.Cluster.LeaderName() != leader):
		return errNotStandby
	}
	return nil
}

// cancelCurrent ends the backup that this member makes; false: it makes none.
func (b *backups) cancelCurrent(why error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current == nil {
		return false
	}
	b.current.cancel(why)
	return true
}
