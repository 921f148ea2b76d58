package lab

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Stalls are the times in which the machine itself stood still: a small write to the
// disk that all hosts share took longer than any disk in order needs, or nothing ran.
type Stalls struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	last time.Duration // end of the last look
	seen []stall
}

type stall struct{ from, to time.Duration } // CLOCK_BOOTTIME

const (
	stallPeriod = 100 * time.Millisecond
	// stallLeast is what may lie between the ends of two looks.
	stallLeast = 500 * time.Millisecond
)

// WatchMachine looks for stalls until ctx ends or Stop. Bounds in seconds are for a
// machine that runs: what Since gives may be added to them.
func (l *Lab) WatchMachine(ctx context.Context) *Stalls {
	ctx, cancel := context.WithCancel(ctx)
	s := &Stalls{cancel: cancel, last: Boottime()}
	s.wg.Go(func() { s.watch(ctx, filepath.Join(l.opts.Dir, "stalls")) })
	return s
}

func (s *Stalls) watch(ctx context.Context, path string) {
	tick := time.NewTicker(stallPeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		flush(path)
		s.looked(Boottime())
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// flush writes something that has to reach the disk. An error is no stall.
func flush(path string) {
	f, err := os.Create(path)
	if err != nil {
		return
	}
	_, _ = f.WriteString("looked")
	_ = f.Sync()
	_ = f.Close()
}

// looked notes the end of a look, and a stall if the one before is too long ago.
func (s *Stalls) looked(at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at-s.last > stallLeast {
		s.seen = append(s.seen, stall{s.last, at})
	}
	s.last = at
}

// Since adds up the stalls after an instant, with one that lasts.
func (s *Stalls) Since(at time.Duration) time.Duration { return s.since(at, Boottime()) }

func (s *Stalls) since(at, now time.Duration) (sum time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.seen
	if now-s.last > stallLeast {
		all = append(all[:len(all):len(all)], stall{s.last, now})
	}
	for _, one := range all {
		sum += max(0, one.to-max(one.from, at))
	}
	return sum
}

// Stop ends the watch.
func (s *Stalls) Stop() {
	s.cancel()
	s.wg.Wait()
}
