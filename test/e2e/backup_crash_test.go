//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// point is one kill -9: of what, and after which part of the time the whole
// operation takes undisturbed.
type point struct {
	target lab.Target
	after  float64
}

// points gives a few kills for 'make test', and many for 'make e2e-long'.
func points(few []point, targets ...lab.Target) []point {
	if !long() {
		return few
	}
	var out []point
	for _, after := range []float64{0.02, 0.1, 0.25, 0.4, 0.6, 0.75, 0.9, 0.98} {
		for _, target := range targets {
			out = append(out, point{target, after})
		}
	}
	return out
}

// kill waits for its instant and kills. It tells whether there was anything to
// kill: an operation can be over earlier than the time before.
func (s *site) kill(n *lab.Node, p point, began, whole time.Duration) bool {
	s.Helper()
	at := began + time.Duration(p.after*float64(whole))
	// Ends at that instant: Boottime grows by itself.
	s.must(lab.Poll(s.ctx, func() bool { return lab.Boottime() >= at }))
	// The process may end between the look and the signal.
	if s.Kill(n, p.target) != nil {
		return false
	}
	if p.target == lab.Everything { // its supervisor is gone, too: the machine boots
		s.must(s.StartAgent(n))
		s.must(s.Supervise(n, true))
	}
	return true
}

// A member that copies from the repository is killed at many points: it goes on
// where it was, and never starts what is half-made.
func TestBackupKillReplicaRestore(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	s.fill(100)
	s.rows("kept", 1000)
	s.backup("full")
	n := s.standby()
	undisturbed := s.copyAnew(n)
	t.Logf("undisturbed restore of a replica: %.1f s", undisturbed.Seconds())
	hit := 0
	few := []point{{lab.RestoreRun, 0.3}, {lab.Agent, 0.5}}
	all := points(few, lab.RestoreRun, lab.Agent, lab.Everything)
	for i, p := range all {
		s.emptyOut(n)
		s.rows(fmt.Sprintf("round %02d", i), 50)
		offset := s.mark(n)
		began := lab.Boottime()
		s.must(s.StartAgent(n))
		s.must(s.Supervise(n, true))
		_, err := s.WaitProcess(s.ctx, n, lab.RestoreRun)
		s.must(err)
		copying := lab.Boottime()
		done := s.kill(n, p, copying, undisturbed)
		s.whole()
		took := lab.Boottime() - began
		s.sameEverywhere(s.content(s.leader))
		s.sound(n)
		runs := len(s.watched.Sightings(n.Name, lab.RestoreRun, began))
		copies := len(s.watched.Sightings(n.Name, lab.BaseBackup, began))
		if done {
			hit++
		}
		t.Logf("kill -9 of %s at %.0f %% of the restore (hit: %t): %d runs of pgbackrest, %d of pg_basebackup, streaming after %.1f s",
			p.target, 100*p.after, done, runs, copies, took.Seconds())
		if copies > 0 {
			t.Errorf("the interrupted restore was not continued, but given up for pg_basebackup:\n%s", s.since(n, offset))
		}
	}
	s.enough(hit, len(all))
}

// enough checks that the points were points of the operation, not after it.
func (s *site) enough(hit, all int) {
	s.Helper()
	if hit*3 < all*2 {
		s.Errorf("only %d of %d kills hit anything: the row proves little", hit, all)
	}
}

func (s *site) since(n *lab.Node, offset int64) string {
	log, _ := s.AgentLog(n, offset)
	return log
}

// emptyOut stops a member and removes its data.
func (s *site) emptyOut(n *lab.Node) {
	s.Helper()
	s.stopAgent(n)
	s.must(os.RemoveAll(n.DataDir))
}

// copyAnew has a member restored from nothing and tells how long pgbackrest ran.
func (s *site) copyAnew(n *lab.Node) time.Duration {
	s.Helper()
	s.emptyOut(n)
	began := lab.Boottime()
	s.must(s.StartAgent(n))
	s.must(s.Supervise(n, true))
	s.whole()
	return s.ran(n, lab.RestoreRun, began)
}

// ran is how long the first run of a program was seen.
func (s *site) ran(n *lab.Node, what lab.Target, since time.Duration) time.Duration {
	s.Helper()
	seen := s.watched.Sightings(n.Name, what, since)
	if len(seen) == 0 {
		s.Fatalf("no %s ran on %s", what, n.Name)
	}
	return seen[0].Last - seen[0].First
}

// A restore of the whole cluster is killed at many points. Whoever comes back
// goes on with the order; its rows are exactly those of the target, or, if the
// order failed, nothing is missing at all.
func TestBackupKillRestore(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	s.fill(80)
	s.rows("kept", 1000)
	s.backup("full")
	undisturbed := s.orderedBack(point{}, 0)
	t.Logf("undisturbed restore of the cluster: %.1f s until the order was done", undisturbed.Seconds())
	few := []point{{lab.Agent, 0.3}, {lab.Leash, 0.6}}
	hit := 0
	all := points(few, lab.Agent, lab.RestoreRun, lab.Leash, lab.Everything)
	for _, p := range all {
		if s.orderedBack(p, undisturbed) > 0 {
			hit++
		}
	}
	s.enough(hit*2, len(all)) // pgbackrest and the server each run for a part of the time only
}

// orderedBack restores to a restore point and kills meanwhile. It tells how long
// the order took; 0 when there was nothing to kill at that point.
func (s *site) orderedBack(p point, undisturbed time.Duration) time.Duration {
	s.Helper()
	name := fmt.Sprintf("point %d", lab.Boottime())
	s.rows("kept", 20)
	s.value(s.leader, fmt.Sprintf("SELECT pg_create_restore_point('%s')", name))
	target := s.content(s.leader)
	s.rows("mistake", 20)
	mistaken := s.content(s.leader)
	old := s.leader
	began := lab.Boottime()
	s.ctl("restore", "--force", "--no-wait", "--to-name", name)
	hit := undisturbed == 0 || s.kill(old, p, began, undisturbed)
	var ended string
	s.await("the order to end", func() bool {
		for _, n := range s.Nodes {
			var status struct{ State, Error string }
			if code, err := s.Get(s.ctx, n, "/restore", &status); err == nil && code == 200 {
				if status.State == "done" || status.State == "failed" {
					ended = status.State + " " + status.Error
					return true
				}
			}
		}
		return false
	})
	took := lab.Boottime() - began
	s.whole()
	now := s.content(s.leader)
	switch {
	case now == target && ended == "done ":
	case now == mistaken && ended != "done ":
	default:
		s.Errorf("the order ended with %q, and the cluster has neither what the target had nor what it had before:\n%s\nwant %s", ended, now, target)
	}
	s.sameEverywhere(now)
	for _, n := range s.Nodes {
		s.sound(n)
	}
	s.Logf("restore with kill -9 of %s at %.0f %% (hit: %t): %s after %.1f s, all streaming after %.1f s",
		p.target, 100*p.after, hit, ended, took.Seconds(), (lab.Boottime() - began).Seconds())
	s.value(s.leader, "DELETE FROM rows WHERE word = 'mistake'")
	if !hit {
		return 0
	}
	return took
}

// The member that backs up is killed: the backup is made all the same, by one
// member at a time.
func TestBackupKillBackup(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	s.fill(120)
	began := lab.Boottime()
	s.backup("full")
	undisturbed := s.ran(s.leader, lab.BackupRun, began)
	t.Logf("undisturbed full backup: pgbackrest ran for %.1f s", undisturbed.Seconds())
	hit := 0
	all := points(nil, lab.BackupRun, lab.Agent)
	for i, p := range all {
		before := s.newestLabel()
		victim := s.leader
		s.ctl("backup", "run", "--type", "full", "--force", "--no-wait")
		_, err := s.WaitProcess(s.ctx, victim, lab.BackupRun)
		s.must(err)
		done := s.kill(victim, p, lab.Boottime(), undisturbed)
		if done {
			hit++
		}
		by := "by itself"
		if i > 0 && p.target == lab.BackupRun {
			// The second attempt comes after a minute: seen once. Asked for again, it
			// comes at once.
			by = "asked for again"
			s.must(s.WaitNoProcess(s.ctx, victim, lab.BackupRun))
			s.askAgain(victim)
		}
		took := s.awaitBackup("full", before)
		s.whole()
		t.Logf("kill -9 of %s at %.0f %% of a backup (hit: %t): next full backup %s %s after %.1f s",
			p.target, 100*p.after, done, s.newestLabel(), by, took.Seconds())
	}
	s.enough(hit, len(all))
	// What was interrupted is nothing one could restore by mistake.
	s.replicaIntoEmpty(s.newestLabel())
}

// askAgain takes back the request that failed, once that is known, and makes
// another one.
func (s *site) askAgain(n *lab.Node) {
	s.Helper()
	s.await("the failure to be known", func() bool {
		doc, err := s.document(n)
		return err == nil && doc.Running == nil && doc.Last != nil && doc.Last.Error != ""
	})
	s.ctl("backup", "cancel")
	asked := lab.Boottime()
	// Requests are told apart by the second they were made in.
	s.await("the next second", func() bool { return lab.Boottime() > asked+time.Second })
	s.ctl("backup", "run", "--type", "full", "--force", "--no-wait")
}

func (s *site) newestLabel() string {
	s.Helper()
	list := s.backups()
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1].Label
}

// retryLimit bounds the wait for a backup that failed once: the pause before the
// second attempt, and the attempt.
const retryLimit = 60*time.Second + workLimit

// awaitBackup waits for a backup of a type newer than the one before.
func (s *site) awaitBackup(kind, before string) time.Duration {
	s.Helper()
	began := lab.Boottime()
	ctx, cancel := context.WithTimeout(s.ctx, retryLimit)
	defer cancel()
	err := lab.Poll(ctx, func() bool {
		for _, n := range s.Nodes {
			doc, err := s.document(n)
			if err == nil && len(doc.Backups) > 0 {
				if b := doc.Backups[len(doc.Backups)-1]; b.Label > before && b.Type == kind {
					return true
				}
			}
		}
		return false
	})
	if err != nil {
		s.Fatalf("wait for a new %s backup: %v", kind, err)
	}
	return lab.Boottime() - began
}
