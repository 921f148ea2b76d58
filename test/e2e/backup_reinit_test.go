//go:build e2e

package e2e

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgha/pgha/internal/lab"
	"github.com/pgha/pgha/pkg/restapi"
)

// A copy shows how far it is, can be cancelled, and begins again only when it is
// asked for.
func TestBackupReinitProgressAndCancel(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	s.fill(100)
	s.rows("kept", 100)
	s.backup("full")
	n := s.standby()
	offset := s.mark(n)
	s.emptyOut(n)
	s.must(s.Supervise(n, true))
	s.must(s.StartAgent(n))
	_, err := s.WaitProcess(s.ctx, n, lab.RestoreRun)
	s.must(err)
	s.await("a third of the copy", func() bool { return size(n.DataDir) > 45<<20 })
	// It stands still from here on, as one does that waits for a dead repository.
	s.must(s.Signal(n, lab.RestoreRun, syscall.SIGSTOP))
	var seen restapi.Progress
	s.await("progress of the copy", func() bool {
		var doc struct {
			PGHA restapi.Progress `json:"pgha"`
		}
		_, err := s.Get(s.ctx, n, "/patroni", &doc)
		seen = doc.PGHA
		return err == nil && seen.Done > 0 && seen.Total >= seen.Done
	})
	table := s.ctl("list", "-e")
	if !strings.Contains(table, "%") {
		t.Errorf("pghactl list -e shows no progress:\n%s", table)
	}
	t.Logf("copying: %d of %d bytes; pghactl list -e:\n%s", seen.Done, seen.Total, table)

	began := lab.Boottime()
	out, err := s.Ctl(s.ctx, s.leader, "reinit", s.Options().Scope, n.Name, "--cancel")
	s.must(err)
	ended, stop := context.WithTimeout(s.ctx, settle)
	s.must(s.WaitNoProcess(ended, n, lab.RestoreRun))
	stop()
	t.Logf("cancelled: pgbackrest ended after %.1f s; it said: %s", (lab.Boottime() - began).Seconds(), lastLine(out))
	// It must not begin again by itself: several turns of the loop show that it
	// stays away. The wait ends with the context, which is what is expected.
	quiet, cancel := context.WithTimeout(s.ctx, 5*loopWait)
	if _, err := s.WaitProcess(quiet, n, lab.RestoreRun); err == nil {
		t.Error("a cancelled copy began again without being asked for")
	}
	cancel()
	if s.ServerRuns(n) {
		t.Error("a server runs on a half-made directory")
	}
	s.ctl("reinit", s.Options().Scope, n.Name, "--force")
	took := s.whole()
	s.sameEverywhere(s.content(s.leader))
	s.sound(n)
	t.Logf("asked for again: streaming after %.1f s", took.Seconds())
	if log := s.since(n, offset); !strings.Contains(log, "%") {
		t.Errorf("the log of %s shows no progress", n.Name)
	}

	began = lab.Boottime()
	s.reinit(n, "--from-leader")
	s.whole()
	if got := s.watched.Sightings(n.Name, lab.BaseBackup, began); len(got) == 0 {
		t.Error("reinit --from-leader did not run pg_basebackup")
	}
}

// size adds up the files below a directory. What goes away meanwhile counts nothing.
func size(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}
