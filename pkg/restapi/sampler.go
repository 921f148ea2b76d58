package restapi

import (
	"context"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

// SampleMaxAge is how old a WAL position may be, unless it is asked for with
// Cache-Control: no-cache, as members of pgha do that elect by it.
const SampleMaxAge = 100 * time.Millisecond

const (
	// samplePatience is how long a request waits for a running query, counted
	// from the start of the query; later requests do not wait again.
	samplePatience = 50 * time.Millisecond
	// sampleSuspicion replaces it after a query failed or was late, until one
	// succeeds: a hung server must not slow the health checks down, and a
	// healthy one answers within it.
	sampleSuspicion = 5 * time.Millisecond
	// sampleDeadline ends a query that hangs, so that the next can be tried.
	sampleDeadline = time.Second
)

// Sampler shares one WAL position query among all requests that need one.
type Sampler struct {
	query func(context.Context) (ha.Sample, error)
	now   func() ha.Instant

	ctx    context.Context // ends the query under way at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	last    ha.Sample
	suspect bool
	running *sampling // nil: no query under way
}

// sampling is one query under way.
type sampling struct {
	started ha.Instant
	done    chan struct{}
}

// NewSampler makes a Sampler of a query, which must respect its context, and
// of the clock. Close it when no more requests come.
func NewSampler(query func(context.Context) (ha.Sample, error), now func() ha.Instant) *Sampler {
	ctx, cancel := context.WithCancel(context.Background())
	return &Sampler{query: query, now: now, ctx: ctx, cancel: cancel}
}

// Close ends a query under way and waits for it.
func (s *Sampler) Close() {
	s.cancel()
	s.wg.Wait()
}

// Sample returns a position that was at most age old when it was asked for, and true.
// When none comes in time it returns the last one ever had (At zero: none) and false.
func (s *Sampler) Sample(ctx context.Context, age time.Duration) (ha.Sample, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.now().Add(-age)
	for {
		if s.last.At != 0 && s.last.At >= since {
			return s.last, true
		}
		now := s.now()
		run := s.running
		if run == nil {
			run = s.start(now)
		}
		patience := samplePatience
		if s.suspect {
			patience = sampleSuspicion
		}
		s.mu.Unlock()
		ended := s.wait(ctx, run, patience-now.Sub(run.started))
		s.mu.Lock()
		if run.started >= since || !ended {
			return s.last, s.last.At != 0 && s.last.At >= since
		}
	}
}

// start begins a query; the caller holds mu. The query belongs to nobody's
// request: whoever asked first may leave, the others still want the answer.
func (s *Sampler) start(now ha.Instant) *sampling {
	run := &sampling{started: now, done: make(chan struct{})}
	s.running = run
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, sampleDeadline)
		defer cancel()
		sample, err := s.query(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil {
			sample.At = now // before the query was sent: never younger than it looks
			s.last = sample
		}
		s.suspect = err != nil
		s.running = nil
		close(run.done)
	})
	return run
}

// wait waits for run, at most for d, and tells whether it ended. A wait in vain makes
// the server suspect.
func (s *Sampler) wait(ctx context.Context, run *sampling, d time.Duration) (ended bool) {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-run.done:
			return true
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != run {
		return true
	}
	s.suspect = true
	return false
}
