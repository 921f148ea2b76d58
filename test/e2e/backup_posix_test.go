//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
	"github.com/pgha/pgha/pkg/restapi"
)

// From nothing: backups of each type, a replica out of them into an empty and
// into an old directory, and the next rung when the repository is gone.
func TestBackupPosix(t *testing.T) {
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	s.fill(40)
	s.backupsAndReplicas()

	s.must(s.HideRepository(true))
	defer func() { _ = s.HideRepository(false) }()
	n := s.standby()
	offset, began := s.mark(n), lab.Boottime()
	s.reinit(n)
	took := s.whole()
	if got := s.watched.Sightings(n.Name, lab.BaseBackup, began); len(got) == 0 {
		t.Error("no pg_basebackup ran, though the repository is gone")
	}
	t.Logf("repository gone: %s copied by pg_basebackup in %.1f s", n.Name, took.Seconds())
	s.oneLine(n, offset, "pgha.backup.repo")
	s.rows("while the repository was away", 100)
	s.value(s.leader, "SELECT pg_switch_wal()")
	s.archiveFails()
	s.must(s.HideRepository(false))
	s.archiveCaughtUp()
	s.sameEverywhere(s.content(s.leader))
}

// backupsAndReplicas is what must work with any kind of repository.
func (s *site) backupsAndReplicas() {
	s.Helper()
	if mode := s.value(s.leader, "SHOW archive_mode"); mode != "on" {
		s.Fatalf("archive_mode is %q", mode)
	}
	s.rows("before the full backup", 1000)
	full := s.backup("full")
	s.quiet()
	s.Logf("backup check:\n%s", s.ctl("backup", "check"))
	s.rows("before the differential backup", 1000)
	diff := s.backup("diff")
	s.rows("before the incremental backup", 1000)
	incr := s.backup("incr")
	if diff.Reference != full.Label || incr.Reference != diff.Label {
		s.Errorf("backups do not build on each other: %s, %s on %q, %s on %q", full.Label, diff.Label, diff.Reference, incr.Label, incr.Reference)
	}
	table := s.ctl("backup", "list")
	for _, b := range s.backups() {
		if !strings.Contains(table, b.Label) {
			s.Errorf("pghactl backup list does not show %s:\n%s", b.Label, table)
		}
	}
	if runs := s.watched.Sightings("", lab.BackupRun, 0); len(runs) != 3 {
		s.Errorf("three backups were asked for, %d ran: %v", len(runs), runs)
	}
	s.rows("after the last backup", 1000)
	s.replicaIntoEmpty(incr.Label)
	s.replicaIntoStale()
}

// replicaIntoEmpty loses a standby's data directory.
func (s *site) replicaIntoEmpty(newest string) {
	s.Helper()
	n := s.standby()
	s.stopAgent(n)
	s.must(os.RemoveAll(n.DataDir))
	s.rows("while a standby was away", 1000)
	offset, began := s.mark(n), lab.Boottime()
	s.must(s.StartAgent(n))
	took := s.whole()
	s.restoredBy(n, began)
	if !s.said(n, offset, newest) {
		s.Errorf("the log of %s does not name the backup %s it was restored from", n.Name, newest)
	}
	s.sameEverywhere(s.content(s.leader))
	s.sound(n)
	s.Logf("%s restored into an empty directory: streaming after %.1f s", n.Name, took.Seconds())
}

// replicaIntoStale makes a standby anew over its old files: what has not changed
// is not copied.
func (s *site) replicaIntoStale() {
	s.Helper()
	n := s.standby()
	version := filepath.Join(n.DataDir, "PG_VERSION")
	before, err := os.Stat(version)
	s.must(err)
	began := lab.Boottime()
	s.reinit(n)
	took := s.whole()
	s.restoredBy(n, began)
	if after, err := os.Stat(version); err != nil || !os.SameFile(before, after) {
		s.Errorf("reinit of %s copied a file that had not changed (%v)", n.Name, err)
	}
	s.sameEverywhere(s.content(s.leader))
	s.sound(n)
	s.Logf("%s restored over its old files: streaming after %.1f s", n.Name, took.Seconds())
}

// restoredBy checks that a node's copy came from the repository.
func (s *site) restoredBy(n *lab.Node, since time.Duration) {
	s.Helper()
	if got := s.watched.Sightings(n.Name, lab.RestoreRun, since); len(got) == 0 {
		s.Errorf("no pgbackrest restore ran on %s", n.Name)
	}
	if got := s.watched.Sightings(n.Name, lab.BaseBackup, since); len(got) != 0 {
		s.Errorf("pg_basebackup ran on %s: %v", n.Name, got)
	}
}

// reinit orders a copy and waits until the member has begun with it, so that it
// is not taken for the streaming standby it was.
func (s *site) reinit(n *lab.Node, more ...string) {
	s.Helper()
	old, err := s.Pid(n, lab.Postmaster)
	s.must(err)
	s.ctl(append([]string{"reinit", s.Options().Scope, n.Name, "--force"}, more...)...)
	s.await("the old server of "+n.Name+" to be stopped", func() bool {
		now, err := s.Pid(n, lab.Postmaster)
		return err != nil || now != old
	})
}

// stopAgent ends a node in order and keeps its supervisor from starting it again.
func (s *site) stopAgent(n *lab.Node) {
	s.Helper()
	// One that was just killed is started again first.
	_, err := s.WaitProcess(s.ctx, n, lab.Agent)
	s.must(err)
	s.must(s.Supervise(n, false))
	_, err = s.StopAgent(s.ctx, n)
	s.must(err)
}

// oneLine checks that the log says words in a line that names what to mend.
func (s *site) oneLine(n *lab.Node, offset int64, words string) {
	s.Helper()
	log, _ := s.AgentLog(n, offset)
	lines := strings.Split(log, "\n")
	i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, words) })
	if i < 0 {
		s.Errorf("the log of %s does not say %q:\n%s", n.Name, words, log)
		return
	}
	s.Logf("%s said: %s", n.Name, lines[i])
}

// archiveFails waits until the leader shows that archiving fails.
func (s *site) archiveFails() {
	s.Helper()
	took := s.await("the alarm that archiving fails", func() bool {
		doc, err := s.document(s.leader)
		return err == nil && doc.Archive.Failing && doc.Archive.ReadyFiles > 0
	})
	s.Logf("archiving fails: shown after %.1f s", took.Seconds())
}

// archiveWaits waits until the leader shows that WAL waits to be archived: what
// fills a disk is to be seen before it does.
func (s *site) archiveWaits() {
	s.Helper()
	took := s.await("WAL that waits to be archived", func() bool {
		doc, err := s.document(s.leader)
		return err == nil && doc.Archive.ReadyFiles > 0 && doc.Archive.WALBytes > 0 && doc.Archive.WALFreeBytes > 0
	})
	s.Logf("WAL waits to be archived: shown after %.1f s", took.Seconds())
}

// alarm waits until the leader rings one that names what to mend.
func (s *site) alarm(words string) {
	s.Helper()
	var doc restapi.BackupDocument
	took := s.await("an alarm that says "+words, func() bool {
		var err error
		doc, err = s.document(s.leader)
		return err == nil && strings.Contains(strings.Join(doc.Alarms, "\n"), words)
	})
	s.Logf("alarm after %.1f s: %s", took.Seconds(), strings.Join(doc.Alarms, "; "))
}

// quiet waits until the leader rings no alarm. A new cluster rings one: its first
// segment is refused until the stanza is made, a moment later.
func (s *site) quiet() {
	s.Helper()
	s.await("the end of all alarms", func() bool {
		doc, err := s.document(s.leader)
		return err == nil && len(doc.Alarms) == 0
	})
}

// archived ends the current segment and waits until the server says that it, and
// with it everything before it, is in the repository.
func (s *site) archived() {
	s.Helper()
	segment := s.value(s.leader, "SELECT pg_walfile_name(pg_switch_wal())")
	took := s.await("segment "+segment+" to be archived", func() bool {
		// History files of a timeline sort before its segments, those of a backup are
		// archived after the segment they begin with.
		last, err := s.ask(s.leader, "SELECT left(last_archived_wal, 24) FROM pg_stat_archiver")
		return err == nil && last >= segment
	})
	s.Logf("everything archived after %.1f s", took.Seconds())
}

// archiveCaughtUp is archived, and the document that says so.
func (s *site) archiveCaughtUp() {
	s.Helper()
	s.archived()
	s.await("the alarm to end", func() bool {
		doc, err := s.document(s.leader)
		return err == nil && !doc.Archive.Failing && doc.Archive.ReadyFiles == 0
	})
}
