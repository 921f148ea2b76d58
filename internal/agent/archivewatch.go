package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// How often archiving is looked at, and how long a look may take.
const (
	watchEvery = 10 * time.Second
	watchLimit = 5 * time.Second
)

// archiveWatch looks at archiving and pg_wal now and then, so that neither a
// scrape nor a request has to, and raises the alarms.
type archiveWatch struct {
	state  func(ctx context.Context) (postgres.ArchiveState, error)
	config func() *config.Effective
	view   func() *ha.View
	now    func() ha.Instant
	repo   *repository
	stanza *lockedText
	log    *slog.Logger
	poke   chan struct{} // something changed that alarms depend on

	trend trend
	bell  bell

	mu     sync.Mutex
	last   postgres.ArchiveState
	known  bool
	alarms []alarm
}

// run watches until ctx ends.
func (w *archiveWatch) run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.poke:
		}
	}
}

// wake has everything looked at now.
func (w *archiveWatch) wake() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

func (w *archiveWatch) look(ctx context.Context) {
	e := w.config()
	limited, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	state, err := w.state(limited)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		w.log.Debug("look at archiving: " + err.Error())
	}
	f := alarmFacts{
		now: time.Now(), backup: &e.PGHA.Backup, repo: w.repo.last(), stanza: w.stanza.get(),
		archive: state, known: err == nil, disk: w.disk(e.Postgres.DataDir, &state, err == nil),
	}
	var alarms []alarm
	if e.PGHA.Backup.Enabled {
		alarms = alarmsOf(&f)
	}
	w.bell.ring(w.log, alarms, w.view().IsLeader(w.now()))
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.last = state
	}
	w.known, w.alarms = err == nil, alarms
}

// newest is what was seen last; known is false when the server did not answer.
func (w *archiveWatch) newest() (state postgres.ArchiveState, known bool, alarms []alarm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.known, w.alarms
}

// disk looks at pg_wal's file system.
func (w *archiveWatch) disk(dataDir string, state *postgres.ArchiveState, known bool) diskSpace {
	total, free, err := postgres.Volume(filepath.Join(dataDir, "pg_wal"))
	if err != nil {
		return diskSpace{}
	}
	d := diskSpace{total: total, free: free}
	if known {
		d.full = w.trend.untilFull(time.Now(), state.WALBytes, d.free)
	}
	return d
}

// trend knows how fast pg_wal has grown in the last minutes.
type trend struct{ points []trendPoint }

type trendPoint struct {
	at    time.Time
	bytes int64
}

// Time that a growth is judged by.
const (
	trendShortest = time.Minute
	trendLongest  = 10 * time.Minute
)

// untilFull takes in a size and says when free bytes are used up at the rate so
// far; 0: never, or not known yet.
func (t *trend) untilFull(at time.Time, bytes, free int64) time.Duration {
	t.points = append(t.points, trendPoint{at, bytes})
	for len(t.points) > 1 && at.Sub(t.points[0].at) > trendLongest {
		t.points = t.points[1:]
	}
	first := t.points[0]
	took, grown := at.Sub(first.at), bytes-first.bytes
	if took < trendShortest || grown <= 0 {
		return 0
	}
	left := float64(free) / (float64(grown) / took.Seconds())
	return time.Duration(min(left, float64(1<<32)) * float64(time.Second))
}
