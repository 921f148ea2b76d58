//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// scheduled is how long a schedule of every minute can take, and the backup.
const scheduled = time.Minute + workLimit

// A backup that is due by the schedule begins on the leader by itself; the leader
// changes while it runs, and the new one makes it.
func TestBackupDuringSwitchover(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	s.fill(150)
	s.must(s.Patch(s.ctx, map[string]any{"pgha": map[string]any{"backup": map[string]any{
		"schedule": map[string]any{"full": "* * * * *"}}}}))
	old := s.leader
	began := lab.Boottime()
	ctx, cancel := context.WithTimeout(s.ctx, scheduled)
	defer cancel()
	_, err := s.WaitProcess(ctx, old, lab.BackupRun)
	s.must(err)
	begun := lab.Boottime()
	s.must(switchover(s.ctx, s.Lab, old, nil, s.Logf))
	switched := lab.Boottime()
	s.whole()
	if s.leader == old {
		t.Fatalf("%s still leads after a switchover", old.Name)
	}
	took := s.awaitBackup("full", "")
	runs := s.watched.Sightings("", lab.BackupRun, begun)
	t.Logf("due after %.1f s; switchover in the middle took %.1f s; finished %.1f s after it; runs: %s",
		(begun - began).Seconds(), (switched - begun).Seconds(), took.Seconds(), lines(runs))
	if last := runs[len(runs)-1]; last.Node != s.leader.Name {
		t.Errorf("the last run was on %s, the leader is %s", last.Node, s.leader.Name)
	}
	// Off again, and what is there can be restored.
	s.must(s.Patch(s.ctx, map[string]any{"pgha": nil}))
	s.replicaIntoEmpty("")
}

func lines(runs []lab.Sighting) string {
	text := ""
	for _, r := range runs {
		text += r.Node + " for " + (r.Last - r.First).Round(time.Millisecond).String() + "; "
	}
	return text
}

// Backups from a standby: pgBackRest runs there and copies its files. On loopback,
// where it needs no way into another host.
func TestBackupFromStandby(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, func(o *lab.Options) {
		o.Network = lab.Loopback
		o.Config = map[string]any{"pgha": map[string]any{"backup": map[string]any{"from": "standby"}}}
	})
	s.rows("kept", 500)
	began := lab.Boottime()
	s.backup("full")
	runs := s.watched.Sightings("", lab.BackupRun, began)
	if len(runs) != 1 || runs[0].Node != s.standby().Name {
		t.Errorf("the backup was to be made by %s alone: %s", s.standby().Name, lines(runs))
	}
	s.replicaIntoEmpty("")
}
