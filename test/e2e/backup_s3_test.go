//go:build e2e

package e2e

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

func overS3(o *lab.Options) { o.Backup = lab.BackupS3 }

// Everything that works with a directory works with a bucket, over TLS.
func TestBackupS3(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, overS3)
	s.fill(20)
	s.backupsAndReplicas()
	s.value(s.leader, "SELECT pg_create_restore_point('before the mistake')")
	s.back("name", "--to-name", "before the mistake")
}

// What can be wrong with a bucket: each time one clear line that names the
// setting, a cluster that goes on, and archiving that catches up afterwards.
func TestBackupS3Wrong(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, overS3)
	s.backup("full")
	load := s.NewLoad()
	s.must(s.PrepareLoad(s.ctx, s.leader))
	load.Writer(s.ctx, writerPeriod)
	defer load.Stop()
	rows := []struct {
		name, says  string
		spoil, mend func()
	}{
		{"wrong key", "s3_key_file", func() { s.eachKey("NOBODY", "") }, func() { s.eachKey("", "") }},
		{"wrong secret", "s3_key_file", func() { s.eachKey("", "not the secret") }, func() { s.eachKey("", "") }},
		{"unreachable endpoint", "s3_endpoint", func() { s.must(s.StopS3()) }, func() { s.must(s.StartS3(s.ctx)) }},
		{"missing bucket", "s3_bucket", func() { s.must(s.RemoveBucket(true)) }, func() { s.must(s.RemoveBucket(false)) }},
	}
	for _, row := range rows {
		began := lab.Boottime()
		row.spoil()
		s.rows(row.name, 10)
		s.value(s.leader, "SELECT pg_switch_wal()")
		s.archiveWaits()
		s.refused(row.says, "backup", "run", "--type", "incr", "--force")
		out, err := s.Ctl(s.ctx, s.leader, "backup", "check")
		if err == nil || !strings.Contains(out, row.says) {
			t.Errorf("%s: backup check does not name %s (%v):\n%s", row.name, row.says, err, out)
		}
		s.alarm(row.says)
		writable, cancel := context.WithTimeout(s.ctx, failover)
		if _, err := load.WaitAck(writable, lab.Boottime()); err != nil {
			t.Errorf("%s: the cluster is not writable: %v", row.name, err)
		}
		cancel()
		// A request that failed stands until it is met or taken back; one that was
		// refused at once does not.
		if _, err := s.Ctl(s.ctx, s.leader, "backup", "cancel"); err == nil {
			t.Logf("%s: the failed request was taken back", row.name)
		}
		row.mend()
		s.archiveCaughtUp()
		gap, _ := lab.LongestGap(load.History(), began, lab.Boottime())
		t.Logf("%s: longest write gap %d ms", row.name, gap.Milliseconds())
		if gap > loopWait {
			t.Errorf("%s: writes stood still for %s", row.name, gap)
		}
	}
	s.whole()
}

// eachKey writes every node's key file and has the agents read it.
func (s *site) eachKey(key, secret string) {
	s.Helper()
	for _, n := range s.Nodes {
		s.must(s.WriteKeyFile(n, key, secret))
		s.must(s.Signal(n, lab.Agent, syscall.SIGHUP))
	}
}

// The stanza belongs to another cluster: nothing of ours may go into it, and a
// replica is copied from the leader.
func TestBackupForeignStanza(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	first := startSite(t, func(o *lab.Options) { o.Nodes = 1 })
	first.rows("of the first cluster", 100)
	first.backup("full")
	before := first.backups()

	second := startSite(t, func(o *lab.Options) {
		o.Scope = "pg-ha-other"
		o.Repository = first.Options().Repository
		o.Config = map[string]any{"pgha": map[string]any{"backup": map[string]any{"stanza": first.Options().Scope}}}
	})
	second.rows("of the second cluster", 100)
	second.refused("pgha.backup.stanza", "backup", "run", "--type", "full", "--force")
	if copies := second.watched.Sightings("", lab.RestoreRun, 0); len(copies) != 0 {
		t.Errorf("a replica was restored from a foreign stanza: %v", copies)
	}
	second.value(second.leader, "SELECT pg_switch_wal()")
	second.archiveFails()
	second.rows("still writable", 10)
	second.sameEverywhere(second.content(second.leader))
	if after := first.backups(); len(after) != len(before) {
		t.Errorf("the first cluster's stanza had %d backups and has %d", len(before), len(after))
	}
	first.rows("and the first one still archives", 10)
	first.archived()
}
