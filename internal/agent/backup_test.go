package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

func TestRequestedBackup(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.request("full")
		r.after(30 * time.Second)
		lock := r.cluster().BackupLock
		if lock == nil || lock.Member != "n1" || lock.Type != "full" || lock.Progress == nil || lock.Progress.Total != 1000 {
			t.Fatalf("while it runs the lock is %+v", lock)
		}
		r.after(time.Minute)
		b := r.result()
		r.expect("began", r.begun(), "[n1 full]")
		r.expect("result", []any{b.Member, b.Type, b.Error, b.Requested, b.Label != "", b.Tries}, []any{"n1", "full", "", "", true, 1})
		r.expect("lock", r.cluster().BackupLock, "<nil>")
		r.expect("stanza-create, check", []int{counted(r, &r.stanzas), counted(r, &r.checks)}, []int{1, 1})
		r.after(2 * time.Hour)
		r.expect("began later", r.begun(), "[n1 full]")
	})
}

func mustSchedule(t *testing.T, text string) *config.Schedule {
	t.Helper()
	s, err := config.ParseSchedule(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestOneBackupPerTime: whatever the members do, each time of the schedule gets
// one backup, and never do two run.
func TestOneBackupPerTime(t *testing.T) {
	cfg := config.Backup{Full: mustSchedule(t, "CRON_TZ=UTC 0 0 * * *"), Incr: mustSchedule(t, "CRON_TZ=UTC 0 * * * *"), From: config.BackupFromStandby}
	inRig(t, cfg, func(r *backupRig) {
		r.after(5*time.Hour + 30*time.Minute)
		r.expect("at the same time", counted(r, &r.most), 1)
		full, incr := 0, 0
		for _, s := range r.begun() {
			switch {
			case strings.HasSuffix(s, "full"):
				full++
			case strings.HasSuffix(s, "incr"):
				incr++
			}
			if strings.HasPrefix(s, "n1") {
				t.Errorf("the leader made one: %s", s)
			}
		}
		// The full backup of the midnight before the start is made up for, and
		// covers what was due until then.
		r.expect("full and incremental backups", []int{full, incr}, []int{1, 5})
	})
}

// TestFailoverInTheMiddle: the member that leads no more ends its backup, and
// the new leader makes it.
func TestFailoverInTheMiddle(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.request("full")
		r.after(20 * time.Second)
		r.expect("began", r.begun(), "[n1 full]")
		r.lead("n2")
		r.after(5 * time.Minute)
		r.expect("began", r.begun(), "[n1 full n2 full]")
		r.expect("at the same time", counted(r, &r.most), 1)
		b := r.result()
		r.expect("result", []any{b.Member, b.Error, b.Requested}, []any{"n2", "", ""})
	})
}

// TestAgentDiesInTheMiddle: its lock goes with its lease.
func TestAgentDiesInTheMiddle(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.set(func() { r.takes = time.Hour })
		r.request("full")
		r.after(20 * time.Second)
		dead := r.nodes["n1"]
		dead.client.SetPartitioned(true) // its last words do not arrive
		dead.stop()
		delete(r.nodes, "n1")
		r.set(func() { r.takes = time.Minute })
		r.lead("n2")
		r.after(5 * time.Second)
		r.expect("before the lease ends", r.begun(), "[n1 full]")
		r.after(5 * time.Minute)
		r.expect("began", r.begun(), "[n1 full n2 full]")
		r.expect("result", r.result().Member, "n2")
	})
}

// TestLockLost: a lock that is gone ends the backup, whatever else is in order.
func TestLockLost(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.request("full")
		r.after(20 * time.Second)
		if _, err := r.etcd.Put(backupBase+"/pgha/backup_lock", (&dcs.BackupLock{Member: "n9", Type: "full"}).Encode(), 0); err != nil {
			t.Fatal(err)
		}
		r.etcd.Delete(backupBase + "/pgha/backup_lock")
		if _, err := r.etcd.Put(backupBase+"/pgha/backup_lock", (&dcs.BackupLock{Member: "n9", Type: "full"}).Encode(), 0); err != nil {
			t.Fatal(err)
		}
		r.after(10 * time.Second)
		r.expect("ended", r.over(), "[n1 full: run pgbackrest: context canceled]")
		r.after(time.Hour)
		r.expect("began while another holds the lock", r.begun(), "[n1 full]")
		if b := r.result(); b.Error != "" || b.Requested != "full" {
			t.Errorf("a lost lock counts as an attempt: %+v", b)
		}
	})
}

// TestEtcdSilent: the backup ends before the lease, and with it the lock, can.
func TestEtcdSilent(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.set(func() { r.takes = time.Hour })
		r.request("full")
		r.after(20 * time.Second)
		r.nodes["n1"].client.SetPartitioned(true)
		r.after(10 * time.Second)
		r.expect("after a third of the ttl", len(r.over()), 0)
		r.after(rigTTL*2/3 - 10*time.Second)
		r.expect("after two thirds of it", r.over(), "[n1 full: run pgbackrest: context canceled]")
	})
}

func TestBackupIsCancelled(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.request("diff")
		r.after(20 * time.Second)
		if r.nodes["n2"].cancelCurrent(errCancelled{"me"}) {
			t.Error("a member that makes no backup cancelled one")
		}
		if !r.nodes["n1"].cancelCurrent(errCancelled{"me"}) {
			t.Error("nothing to cancel")
		}
		r.after(time.Second)
		b := r.result()
		r.expect("result", []any{b.Error, b.Requested}, []any{"cancelled by me", ""})
		r.after(3 * time.Hour)
		r.expect("began", r.begun(), "[n1 diff]")
	})
}

// TestBackupFails: it is tried again after 1, 2, 4 minutes, and the request stays.
func TestBackupFails(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.set(func() { r.takes, r.fails = time.Second, errors.New("the disk is full") })
		r.request("full")
		r.after(30 * time.Second)
		b := r.result()
		r.expect("result", []any{b.Error, b.Tries, b.Requested}, []any{"the disk is full", 1, "full"})
		r.after(time.Minute)
		r.expect("attempts after a minute and a half", len(r.begun()), 2)
		r.after(time.Minute)
		r.expect("attempts a minute later", len(r.begun()), 2)
		r.set(func() { r.fails = nil })
		r.after(2 * time.Minute)
		b = r.result()
		r.expect("result", []any{b.Error, b.Requested, len(r.begun())}, []any{"", "", 3})
	})
}

// TestAgentEnds: an orderly end leaves no lock and no result behind.
func TestAgentEnds(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.set(func() { r.takes = time.Hour })
		r.request("full")
		r.after(20 * time.Second)
		before := time.Now()
		r.nodes["n1"].stop()
		delete(r.nodes, "n1")
		if took := time.Since(before); took > 2*time.Second {
			t.Errorf("the end took %s", took)
		}
		r.expect("ended", r.over(), "[n1 full: run pgbackrest: context canceled]")
		r.expect("lock", r.cluster().BackupLock, "<nil>")
		r.expect("error", r.result().Error, "")
	})
}

// TestOperationEndsBackup: what stops or replaces the server ends the backup.
func TestOperationEndsBackup(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.set(func() { r.takes = time.Hour })
		r.request("full")
		r.after(20 * time.Second)
		n := r.nodes["n1"]
		n.vmu.Lock()
		n.op = ha.Operation{Running: true, Kind: ha.OpStop}
		n.vmu.Unlock()
		n.wake()
		synctest.Wait()
		r.expect("ended", len(r.over()), 1)
		r.after(time.Hour)
		r.expect("began during the operation", len(r.begun()), 1)
	})
}

// TestRepositoryAway: what is due waits for the repository to answer; nothing is
// begun blindly.
func TestRepositoryAway(t *testing.T) {
	inRig(t, config.Backup{Full: mustSchedule(t, "CRON_TZ=UTC 0 0 * * *")}, func(r *backupRig) {
		r.set(func() { r.repoFail = fmt.Errorf("%w: no route", postgres.ErrRepository) })
		for _, n := range r.nodes {
			n.repo.look()
		}
		synctest.Wait()
		began := len(r.begun())
		r.after(25 * time.Hour)
		r.expect("began without a repository", len(r.begun()), began)
		r.set(func() { r.repoFail = nil })
		r.after(10 * time.Minute)
		r.expect("began with it", len(r.begun()), began+1)
	})
}

func TestRepositoryLooksAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		gate := make(chan struct{})
		repo := newRepository(func(ctx context.Context, _ string) (*postgres.Repository, error) {
			looks++
			select {
			case <-gate:
				return &postgres.Repository{MinWAL: fmt.Sprint(looks)}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}, time.Now, func() {})
		defer repo.close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if l := repo.within(ctx, time.Minute); !l.at.IsZero() {
			t.Errorf("got %+v before there was an answer", l)
		}
		repo.look()
		repo.look()
		synctest.Wait()
		if looks != 1 {
			t.Errorf("%d looks at once", looks)
		}
		fresh := make(chan lookResult)
		go func() {
			l, _ := repo.anew(context.Background())
			fresh <- l
		}()
		synctest.Wait()
		gate <- struct{}{} // the look from before
		gate <- struct{}{} // one that began after
		if l := <-fresh; l.repo.MinWAL != "2" {
			t.Errorf("anew got look %s, which began before", l.repo.MinWAL)
		}
		if l := repo.within(context.Background(), time.Minute); l.repo.MinWAL != "2" || looks != 2 {
			t.Errorf("a fresh result was not used: %+v after %d looks", l, looks)
		}
	})
}

// TestConfirmed: a plan made by an old view is dropped once the lock is held.
func TestConfirmed(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.request("full")
		due := r.result().RequestedAt
		step := ha.PlanBackup(ha.BackupFacts{Now: time.Now(), Me: "n1", Backup: *r.cfg, Cluster: r.cluster()})
		if step.Kind != "full" || !step.Due.Equal(due) || step.Runner != "n1" {
			t.Fatalf("plan %+v", step)
		}
		r.after(5 * time.Minute)
		r.expect("began", r.begun(), "[n1 full]")
		if _, ok := r.nodes["n1"].confirmed(context.Background(), step); ok {
			t.Error("a backup that is made already was confirmed")
		}
		r.nodes["n1"].attempt(context.Background(), step)
		r.expect("began by the old plan", r.begun(), "[n1 full]")
		r.expect("lock", r.cluster().BackupLock, "<nil>")
	})
}

// TestScheduledBackupIsCancelled: it waits longer than after a failure, and the
// next time of the schedule is not touched.
func TestScheduledBackupIsCancelled(t *testing.T) {
	inRig(t, config.Backup{Incr: mustSchedule(t, "CRON_TZ=UTC 0 * * * *")}, func(r *backupRig) {
		r.after(30 * time.Second)
		r.expect("began", r.begun(), "[n1 incr]")
		r.nodes["n1"].cancelCurrent(errCancelled{"me"})
		r.after(25 * time.Minute)
		r.expect("began within the half hour", r.begun(), "[n1 incr]")
		r.after(10 * time.Minute)
		r.expect("began after it", r.begun(), "[n1 incr n1 incr]")
	})
}

// TestStanzaIsNotMadeTwice: a repository that lost everything is an operator's
// to look at, not to be covered by a new stanza.
func TestStanzaIsNotMadeTwice(t *testing.T) {
	inRig(t, config.Backup{}, func(r *backupRig) {
		r.request("full")
		r.after(5 * time.Minute)
		r.expect("stanza-create", counted(r, &r.stanzas), 1)
		r.set(func() { r.repoFail = postgres.ErrNoStanza })
		r.nodes["n1"].stop() // its agent is started again
		r.start("n1")
		r.after(10 * time.Minute)
		r.expect("stanza-create without the old one", counted(r, &r.stanzas), 1)
		if got := r.nodes["n1"].stanza.problem.get(); got != errStanzaGone.Error() {
			t.Errorf("the problem is %q", got)
		}
		r.set(func() { r.repoFail = nil })
		r.after(10 * time.Minute)
		r.expect("stanza-create once it is back", counted(r, &r.stanzas), 2)
		r.expect("problem", r.nodes["n1"].stanza.problem.get(), "")
	})
}
