package restapi

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

// bubbleClock is a clock that follows the bubble's time.
func bubbleClock() func() ha.Instant {
	start := time.Now()
	return func() ha.Instant { return ha.Instant(1).Add(time.Since(start)) }
}

func TestSamplerSharesAndAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		now := bubbleClock()
		s := NewSampler(func(context.Context) (ha.Sample, error) {
			n := calls.Add(1)
			time.Sleep(10 * time.Millisecond)
			return ha.Sample{Replayed: 100, Received: 1, Location: 0, ReplayPaused: n > 1}, nil
		}, now)
		defer s.Close()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got, ok := s.Sample(t.Context(), SampleMaxAge); !ok || got.Replayed != 100 {
					t.Errorf("got %+v %v", got, ok)
				}
			})
		}
		wg.Wait()
		if calls.Load() != 1 {
			t.Errorf("%d queries for requests at once, want 1", calls.Load())
		}
		time.Sleep(90 * time.Millisecond) // 100 ms after the query was sent
		if _, ok := s.Sample(t.Context(), SampleMaxAge); !ok || calls.Load() != 1 {
			t.Errorf("at 100 ms: %d queries", calls.Load())
		}
		time.Sleep(time.Millisecond)
		if got, ok := s.Sample(t.Context(), SampleMaxAge); !ok || !got.ReplayPaused || calls.Load() != 2 {
			t.Errorf("after 100 ms: %d queries, %+v %v", calls.Load(), got, ok)
		}
	})
}

// Who elects by a position asks for one from after the question, also when a query
// is under way.
func TestSamplerAfterTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := bubbleClock()
		s := NewSampler(func(context.Context) (ha.Sample, error) {
			time.Sleep(10 * time.Millisecond)
			return ha.Sample{Received: 1}, nil
		}, now)
		defer s.Close()
		if _, ok := s.Sample(t.Context(), SampleMaxAge); !ok {
			t.Fatal("no sample")
		}
		time.Sleep(time.Millisecond)
		asked := now()
		if got, ok := s.Sample(t.Context(), 0); !ok || got.At < asked {
			t.Errorf("%v, asked for at %v: %v", got.At, asked, ok)
		}
		time.Sleep(SampleMaxAge + time.Millisecond)
		var wg sync.WaitGroup
		wg.Go(func() { s.Sample(t.Context(), SampleMaxAge) })
		time.Sleep(5 * time.Millisecond)
		asked = now()
		if got, ok := s.Sample(t.Context(), 0); !ok || got.At < asked {
			t.Errorf("beside a query: %v, asked for at %v: %v", got.At, asked, ok)
		}
		wg.Wait()
	})
}

func TestSamplerHangingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hang atomic.Bool
		var calls atomic.Int64
		s := NewSampler(func(ctx context.Context) (ha.Sample, error) {
			calls.Add(1)
			if hang.Load() {
				<-ctx.Done()
				return ha.Sample{}, ctx.Err()
			}
			return ha.Sample{Replayed: 9}, nil
		}, bubbleClock())
		defer s.Close()
		if _, ok := s.Sample(t.Context(), SampleMaxAge); !ok {
			t.Fatal("healthy server gave no sample")
		}
		hang.Store(true)
		time.Sleep(200 * time.Millisecond)
		took := func(most time.Duration) {
			t.Helper()
			start := time.Now()
			got, ok := s.Sample(t.Context(), SampleMaxAge)
			if ok || got.Replayed != 9 || got.At == 0 {
				t.Errorf("got %+v %v, want the old sample, not fresh", got, ok)
			}
			if d := time.Since(start); d > most {
				t.Errorf("waited %v, want at most %v", d, most)
			}
		}
		took(samplePatience) // the first one finds out
		for range 100 {
			took(0)
		}
		time.Sleep(sampleDeadline) // the query is given up, the next one tried
		took(sampleSuspicion)
		took(0)
		if calls.Load() != 3 {
			t.Errorf("%d queries, want 3", calls.Load())
		}
		hang.Store(false)
		time.Sleep(sampleDeadline)
		if _, ok := s.Sample(t.Context(), SampleMaxAge); !ok {
			t.Error("no sample after the server came back")
		}
	})
}

func TestSamplerCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSampler(func(context.Context) (ha.Sample, error) {
			time.Sleep(20 * time.Millisecond)
			return ha.Sample{Replayed: 1}, nil
		}, bubbleClock())
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, ok := s.Sample(ctx, SampleMaxAge); ok {
			t.Error("a cancelled request waited")
		}
		if _, ok := s.Sample(t.Context(), SampleMaxAge); !ok {
			t.Error("the query died with the request that began it")
		}
	})
}

func TestSamplerFailingQuery(t *testing.T) {
	s := NewSampler(func(context.Context) (ha.Sample, error) { return ha.Sample{}, errors.New("no") },
		func() ha.Instant { return testNow })
	defer s.Close()
	if got, ok := s.Sample(t.Context(), SampleMaxAge); ok || got.At != 0 {
		t.Errorf("got %+v %v", got, ok)
	}
}
