//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// A cluster set back to three kinds of target, one after the other, each with
// exactly the rows of that instant; the other members follow.
func TestBackupRestoreToPoint(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	s.restoresToPoints()
	s.abandonedBackup()
}

// restoresToPoints needs no more than a repository.
func (s *site) restoresToPoints() {
	s.Helper()
	s.rows("kept", 500)
	s.backup("full")
	s.rows("kept after the backup", 500)
	s.value(s.leader, "SELECT pg_create_restore_point('before the mistake')")
	s.back("name", "--to-name", "before the mistake")

	s.rows("kept on the second timeline", 500)
	// Strictly after the commit of those rows, and before that of the others.
	at := s.value(s.leader, "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
	s.back("time", "--to-time", at)

	s.rows("kept on the third timeline", 500)
	s.back("lsn", "--to-lsn", s.value(s.leader, "SELECT pg_current_wal_insert_lsn()"))
}

// back makes a mistake, restores to a point before it and checks that nothing is
// missing or too much, on all members.
func (s *site) back(kind string, target ...string) {
	s.Helper()
	want, tl := s.content(s.leader), s.timeline()
	s.value(s.leader, "DELETE FROM rows WHERE id % 3 = 0; INSERT INTO rows (word) SELECT 'wrong' FROM generate_series(1, 100)")
	plan := s.ctl(append([]string{"restore", "--force"}, target...)...)
	began := lab.Boottime()
	took := s.whole()
	s.sameEverywhere(want)
	for _, n := range s.Nodes {
		s.sound(n)
	}
	if now := s.timeline(); now <= tl {
		s.Errorf("timeline was %d, and is %d after a restore", tl, now)
	}
	s.value(s.leader, "INSERT INTO rows (word) VALUES ('writable again')")
	s.sameEverywhere(s.content(s.leader))
	s.Logf("restored to a %s; all stream %.1f s after the command ended (checked %.1f s); it said:\n%s",
		kind, took.Seconds(), (lab.Boottime() - began).Seconds(), plan)
}

// abandonedBackup makes a backup, sets the cluster back to before it, and has a
// standby copied: that backup is of a history that is no longer the cluster's.
func (s *site) abandonedBackup() {
	s.Helper()
	s.rows("before the abandoned backup", 100)
	good := s.backup("incr")
	s.rows("kept between", 100)
	s.value(s.leader, "SELECT pg_create_restore_point('before the abandoned backup')")
	s.rows("abandoned", 100)
	abandoned := s.backup("incr")
	s.ctl("restore", "--force", "--to-name", "before the abandoned backup", "--set", good.Label)
	s.whole()
	want := s.content(s.leader)
	if strings.Contains(want, "abandoned=") {
		s.Fatalf("the cluster still has what was abandoned: %s", want)
	}
	n := s.standby()
	offset := s.mark(n)
	began := lab.Boottime()
	s.reinit(n)
	s.whole()
	s.sameEverywhere(want)
	s.sound(n)
	s.restoredBy(n, began)
	log, _ := s.AgentLog(n, offset)
	for _, line := range strings.Split(log, "\n") {
		if strings.Contains(line, "--set="+abandoned.Label) {
			s.Errorf("%s was restored from %s, which is not in the cluster's history: %s", n.Name, abandoned.Label, line)
		}
	}
	if !strings.Contains(log, good.Label) {
		s.Errorf("%s was not restored from %s, the newest backup of its history:\n%s", n.Name, good.Label, log)
	}
}

// Orders that cannot be carried out are refused in one line and change nothing.
func TestBackupRestoreRefused(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	s.rows("kept", 100)
	early := s.value(s.leader, "SELECT to_char(now() - interval '1 hour', 'YYYY-MM-DD HH24:MI:SSOF')")
	s.refused("backup", "restore", "--force", "--to-latest")
	s.backup("full")
	want, tl := s.content(s.leader), s.timeline()
	pid, err := s.Pid(s.leader, lab.Postmaster)
	s.must(err)
	s.refused("before", "restore", "--force", "--to-time", early)
	s.refused("future", "restore", "--force", "--to-time", "2099-01-01 00:00:00Z")
	s.refused("lsn", "restore", "--force", "--to-lsn", "nowhere")
	s.refused("future", "restore", "--force", "--to-lsn", "FF/0")
	s.refused("there is no backup", "restore", "--force", "--to-latest", "--set", "20200101-000000F")
	s.refused("choose one", "restore", "--force", "--to-latest", "--immediate")
	if now, err := s.Pid(s.leader, lab.Postmaster); err != nil || now != pid {
		t.Errorf("a refused order touched the server: %d, now %d (%v)", pid, now, err)
	}
	if now := s.timeline(); now != tl {
		t.Errorf("a refused order changed the timeline from %d to %d", tl, now)
	}
	s.sameEverywhere(want)

	// A restore point that is nowhere in the archive is found missing at the end
	// of the recovery only: the order fails, and the others go on with everything.
	began := lab.Boottime()
	s.refused("before", "restore", "--force", "--to-name", "never made")
	s.whole()
	s.sameEverywhere(want)
	t.Logf("a restore point that does not exist: failed, all streaming with the old data %.1f s after the order", (lab.Boottime() - began).Seconds())
	s.rows("writable again", 10)

	s.cancelRestore()
}

// cancelRestore ends an order under way: the members that were not touched go on
// with the data as it was.
func (s *site) cancelRestore() {
	s.Helper()
	s.fill(60)
	want := s.content(s.leader)
	old := s.leader
	s.ctl("restore", "--force", "--to-latest", "--no-wait")
	_, err := s.WaitProcess(s.ctx, old, lab.RestoreRun)
	s.must(err)
	began := lab.Boottime()
	out, err := s.Ctl(s.ctx, s.standby(), "restore", "--cancel")
	s.must(err)
	s.must(s.WaitNoProcess(s.ctx, old, lab.RestoreRun))
	ended := lab.Boottime() - began
	s.whole()
	s.sameEverywhere(want)
	s.Logf("restore cancelled: pgbackrest ended after %.1f s, all streaming after %.1f s; it said: %s",
		ended.Seconds(), (lab.Boottime() - began).Seconds(), lastLine(out))
	if status := s.ctl("restore", "--status"); !strings.Contains(status, "cancelled") {
		s.Errorf("restore --status does not say that it was cancelled:\n%s", status)
	}
}
