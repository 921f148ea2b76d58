package agent

import (
	"context"
	"errors"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// attempt is one backup under way.
type attempt struct {
	step    ha.BackupStep
	leader  string // of the cluster when it began
	started time.Time
	meter   *meter
	cancel  context.CancelCauseFunc
}

// errCancelled is the end that an operator asked for.
type errCancelled struct{ by string }

func (e errCancelled) Error() string { return "cancelled by " + e.by }

// etcdLimit bounds a request to etcd on behalf of a backup.
const etcdLimit = 5 * time.Second

// attempt takes the lock, makes sure that the backup is still wanted, makes it,
// and says what became of it before it gives the lock back.
func (b *backups) attempt(ctx context.Context, step ha.BackupStep) time.Duration {
	a := &attempt{step: step, started: b.wall().Truncate(time.Second), leader: b.view().Cluster.LeaderName()}
	a.meter = newMeter(step.Kind+" backup", "backup", b.log, b.wall)
	switch err := b.lock(ctx, a, etcdLimit); {
	case errors.Is(err, dcs.ErrConflict):
		b.dropOrphan(ctx)
		return brokenWait // its end wakes us
	case err != nil:
		b.log.Debug("take the backup lock: " + err.Error())
		return brokenWait
	}
	defer b.unlock(ctx)
	if wait, ok := b.confirmed(ctx, step); !ok {
		return wait
	}
	if l := b.repo.last(); l.err != nil && !l.known() {
		// pgbackrest would take minutes to find the same.
		return b.settle(ctx, a, postgres.BackupSet{}, l.err)
	}
	// The look at the repository may have taken longer than the lock is good for.
	heard := b.now()
	if err := b.lock(ctx, a, etcdLimit); err != nil {
		b.log.Debug("keep the backup lock: " + err.Error())
		return brokenWait
	}
	set, err := b.supervise(ctx, a, heard)
	return b.settle(ctx, a, set, err)
}

func (b *backups) lock(ctx context.Context, a *attempt, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	value := dcs.BackupLock{Member: b.me, Type: a.step.Kind, Started: a.started, Progress: a.meter.progress()}
	return b.store.Lock(ctx, dcs.KeyBackupLock, value.Encode())
}

// unlockLimit bounds the last request of a backup; the agent may be ending.
const unlockLimit = time.Second

func (b *backups) unlock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockLimit)
	defer cancel()
	if err := b.store.Unlock(ctx, dcs.KeyBackupLock); err != nil {
		b.log.Warn("give the backup lock back: " + err.Error()) // it ends with the lease
	}
}

// dropOrphan gives back a lock of this very process whose creation was never
// confirmed: writing its own value again confirms it, and nobody else's.
func (b *backups) dropOrphan(ctx context.Context) {
	c := b.view().Cluster
	if c.BackupLock == nil || c.BackupLock.Member != b.me {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, etcdLimit)
	defer cancel()
	if b.store.Lock(ctx, dcs.KeyBackupLock, c.BackupLock.Encode()) == nil {
		b.unlock(ctx)
	}
}

// confirmed decides again by what etcd and the repository say now that the lock
// is held: whoever held it before may have made this very backup.
func (b *backups) confirmed(ctx context.Context, step ha.BackupStep) (wait time.Duration, ok bool) {
	if _, err := b.repo.anew(ctx); err != nil {
		return brokenWait, false
	}
	look, cancel := context.WithTimeout(ctx, etcdLimit)
	defer cancel()
	c, err := b.store.Read(look)
	if err != nil {
		b.log.Debug("read the cluster before a backup: " + err.Error())
		return brokenWait, false
	}
	free := *c
	free.BackupLock = nil // it is ours
	again := ha.PlanBackup(b.facts(&free))
	if again.Kind != step.Kind || !again.Due.Equal(step.Due) || again.Runner != b.me || again.Standby != step.Standby {
		return min(brokenWait, max(again.Wait, 100*time.Millisecond)), false
	}
	return 0, true
}

// supervise makes the backup and ends it as soon as it must not go on.
func (b *backups) supervise(ctx context.Context, a *attempt, heard ha.Instant) (postgres.BackupSet, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	a.cancel = cancel
	b.mu.Lock()
	b.current = a
	b.mu.Unlock()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		b.guard(ctx, a, heard)
	}()
	b.log.Info(a.step.Kind+" backup begins", "why", a.step.Why, "from_standby", a.step.Standby)
	set, err := b.work(ctx, a)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	<-watched
	b.mu.Lock()
	b.current = nil
	b.mu.Unlock()
	return set, err
}

func (b *backups) work(ctx context.Context, a *attempt) (postgres.BackupSet, error) {
	if !a.step.Standby {
		if err := b.stanza.check(ctx, b); err != nil {
			return postgres.BackupSet{}, err
		}
	}
	var hosts []postgres.BackupHost
	if a.step.Standby {
		hosts = b.hosts(ctx, b.view().Cluster)
	}
	return b.server.RunBackup(ctx, a.step.Kind, a.step.Standby, hosts, func(done, total int64) {
		a.meter.report("pgbackrest", done, total)
	})
}

// guard keeps the lock and publishes progress in it. It cancels a when the lock
// is lost, when etcd was silent for so long that the lease may be running out
// (2/3 ttl, the time of a request included), and when the role no longer fits.
func (b *backups) guard(ctx context.Context, a *attempt, heard ha.Instant) {
	ttl := b.view().TTL
	period := min(max(ttl/6, 200*time.Millisecond), 5*time.Second)
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.poke: // the runner itself is in work and does not listen
		case <-tick.C:
			sent := b.now()
			switch err := b.lock(ctx, a, period); {
			case err == nil:
				heard = sent
			case errors.Is(err, dcs.ErrConflict), errors.Is(err, dcs.ErrLeaseLost):
				a.cancel(errLockLost)
			}
		}
		if why := b.unfit(a.step, a.leader); why != nil {
			a.cancel(why)
		}
		if b.now().Sub(heard) > ttl*2/3-period {
			a.cancel(errEtcdSilent)
		}
	}
}

// givenUp: the backup was ended for a reason of this member's own; it is due as
// before, and whoever's turn it is makes it.
func givenUp(err error) bool {
	for _, why := range []error{errLockLost, errEtcdSilent, errBackupsOff, errRestoreOrder, errNotLeader, errNotStandby, errBusy, errAgentEnds, context.Canceled} {
		if errors.Is(err, why) {
			return true
		}
	}
	return false
}

// errDamaged is the failure of a backup that holds pages with wrong checksums.
var errDamaged = errors.New("pages with wrong checksums were found: the data directory is damaged; look into the server's log, and restore or repair")

// settle writes what became of a.
func (b *backups) settle(ctx context.Context, a *attempt, set postgres.BackupSet, err error) time.Duration {
	kind := a.step.Kind
	if err == nil && set.Damaged {
		err = errDamaged
	}
	switch {
	case err == nil:
		b.log.Info(kind+" backup finished", "label", set.Label, "size", size(set.Size), "stored", size(set.RepoSize), "took", b.wall().Sub(a.started).Round(time.Second).String())
		if _, lerr := b.repo.anew(ctx); lerr != nil {
			b.log.Debug("look at the repository after a backup: " + lerr.Error())
		}
	case givenUp(err):
		b.log.Warn(kind + " backup given up: " + err.Error())
		return time.Second
	default:
		b.log.Warn(kind + " backup failed: " + err.Error())
	}
	if werr := b.result(ctx, a, set, err); werr != nil {
		b.log.Warn("write the result of a backup: " + werr.Error())
		return brokenWait
	}
	return 10 * time.Millisecond
}

// cancelledTries makes a backup of the schedule that an operator ended wait for
// the longest time before it is tried again.
const cancelledTries = 6

// resultLimit bounds the writing of a result, conflicts and all.
const resultLimit = 30 * time.Second

// result writes /pgha/backup. Whatever else was written there meanwhile, such as
// a new request, stays.
func (b *backups) result(ctx context.Context, a *attempt, set postgres.BackupSet, failure error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resultLimit)
	defer cancel()
	return changeBackup(ctx, b.store, func(cur *dcs.Backup) bool {
		same := cur.Due.Equal(a.step.Due) && cur.Type == a.step.Kind
		if !same || cur.Error == "" {
			cur.Tries = 0
		}
		cur.Type, cur.Member, cur.Due = a.step.Kind, b.me, a.step.Due
		cur.Started, cur.Ended, cur.Tries = a.started, b.wall(), cur.Tries+1
		cur.Label, cur.Error = set.Label, ""
		if failure != nil {
			cur.Label, cur.Error = "", failure.Error()
		}
		var stop errCancelled
		cancelled := errors.As(failure, &stop)
		if cancelled {
			cur.Tries = max(cur.Tries, cancelledTries)
		}
		if cur.Requested != "" && (failure == nil && covers(a.step.Kind, cur.Requested) && !a.started.Before(cur.RequestedAt) || cancelled && cur.RequestedAt.Equal(a.step.Due)) {
			cur.Requested, cur.RequestedAt, cur.RequestedBy = "", time.Time{}, ""
		}
		return true
	})
}

// covers tells whether a backup of one type does for another.
func covers(made, wanted string) bool {
	rank := map[string]int{"incr": 1, "diff": 2, "full": 3}
	return rank[made] >= rank[wanted]
}

// changeBackup reads /pgha/backup, has it changed and writes it, guarded by its
// revision and once more after a conflict. change returns false to leave it.
func changeBackup(ctx context.Context, store dcs.Store, change func(*dcs.Backup) bool) error {
	for {
		c, err := store.Read(ctx)
		if err != nil {
			return err
		}
		var next dcs.Backup
		if c.Backup != nil {
			next = *c.Backup
		}
		if !change(&next) {
			return nil
		}
		revision := c.ModRevision(dcs.KeyBackup)
		err = store.Put(ctx, dcs.Write{Key: dcs.KeyBackup, Value: next.Encode(), Revision: &revision})
		if !errors.Is(err, dcs.ErrConflict) || ctx.Err() != nil {
			return err
		}
	}
}
