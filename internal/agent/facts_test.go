package agent

import (
	"context"
	"log/slog"
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// standing is a guardian that knows whether a server runs, and no more.
type standing struct {
	guardian
	up bool
}

func (s standing) Running() (int, bool) { return 4711, s.up }

func (s standing) takeOver(context.Context) {}

// TestFactsThatNeverCame: a server that was not looked at yet, or not since it was
// started, is not down, and its directory not empty. From the two follows that the
// leader key is given away, and others are told not to wait.
func TestFactsThatNeverCame(t *testing.T) {
	late, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name       string
		up, looked bool
		last       ha.Postgres
		dir        ha.DataDir
		process    ha.Process
	}{
		{name: "never looked, runs", up: true, dir: ha.DataDirPresent, process: ha.ProcessUnsure},
		{name: "never looked, no server known", dir: ha.DataDirPresent, process: ha.ProcessUnsure},
		{name: "started since", up: true, looked: true, last: ha.Postgres{DataDir: ha.DataDirPresent}, dir: ha.DataDirPresent, process: ha.ProcessUnsure},
		{name: "ended since", looked: true, last: ha.Postgres{DataDir: ha.DataDirPresent, Process: ha.ProcessRunning, Known: true}, dir: ha.DataDirPresent, process: ha.ProcessDown},
		{name: "empty, as seen", looked: true, dir: ha.DataDirEmpty, process: ha.ProcessDown},
	} {
		n := newNode("a", nil, standing{up: c.up}, func() *config.Effective { return nil }, now, func() {}, slog.New(slog.DiscardHandler))
		n.facts, n.looked = c.last, c.looked
		if f := n.Facts(late); f.Known || f.DataDir != c.dir || f.Process != c.process {
			t.Errorf("%s: directory %d, process %d, known %v; want %d, %d, unknown", c.name, f.DataDir, f.Process, f.Known, c.dir, c.process)
		}
		if n.Facts(late).Old {
			t.Errorf("%s: no operation has ended since", c.name)
		}
		if n.forgetDisk(); !n.Facts(late).Old { // as one does at its end
			t.Errorf("%s: an operation has ended since, and it is not told", c.name)
		}
	}
}

// What a standby was sent, and what it confirmed, decides whom commits wait for.
func TestReplicationRow(t *testing.T) {
	got := row(&postgres.Status{Replication: []postgres.Replica{{SentLSN: 4, WriteLSN: 3, FlushLSN: 2, ReplayLSN: 1}}}).Replication
	if want := (ha.Replication{SentLSN: 4, WriteLSN: 3, FlushLSN: 2, ReplayLSN: 1}); len(got) != 1 || got[0] != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
