package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// probeRig is a probe on virtual time, whose attempts end as the test says.
type probeRig struct {
	*probe
	pid     atomic.Int64
	answer  atomic.Pointer[func(ctx context.Context) error]
	running atomic.Int32
	most    atomic.Int32
	tries   atomic.Int32
	wakes   atomic.Int32
	log     bytes.Buffer
}

func newProbeRig(t *testing.T) *probeRig {
	begun := time.Now()
	r := &probeRig{}
	r.pid.Store(7)
	r.answers(func(context.Context) error { return nil })
	r.probe = &probe{
		what: "new connections", subject: func() int { return int(r.pid.Load()) },
		try: func(ctx context.Context) error {
			r.tries.Add(1)
			r.most.Store(max(r.most.Load(), r.running.Add(1)))
			defer r.running.Add(-1)
			return (*r.answer.Load())(ctx)
		},
		pace: func() (pause, limit time.Duration) { return 3 * time.Second, time.Second },
		now:  func() ha.Instant { return ha.Instant(time.Since(begun) + time.Hour) },
		wake: func() { r.wakes.Add(1) },
		log:  slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	synctest.Wait()
	return r
}

func (r *probeRig) answers(f func(ctx context.Context) error) { r.answer.Store(&f) }

func pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestProbeCountsWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newProbeRig(t)
		if c := r.state(); c.Good == 0 || c.Failing != 0 || r.tries.Load() != 1 {
			t.Fatalf("at first %+v after %d tries", c, r.tries.Load())
		}
		pass(10 * time.Second)
		if r.tries.Load() != 4 || r.wakes.Load() != 0 {
			t.Fatalf("%d tries and %d wake-ups in 10 s", r.tries.Load(), r.wakes.Load())
		}
		good := r.state().Good

		thaw := make(chan struct{})
		r.answers(func(context.Context) error { <-thaw; return nil }) // heeds no deadline
		pass(10 * time.Second)
		c := r.state()
		if c.Fault != ha.FaultHang || c.Failures < 5 || c.Good != good || r.now().Sub(c.Failing) < 5*time.Second || int(r.wakes.Load()) != c.Failures {
			t.Fatalf("while it hangs %+v, %d wake-ups", c, r.wakes.Load())
		}
		if r.most.Load() != 1 {
			t.Fatalf("%d attempts at a time", r.most.Load())
		}
		close(thaw)
		pass(time.Second)
		if c := r.state(); c.Failing != 0 || c.Failures != 0 || c.Fault != ha.FaultNone || c.Good == 0 {
			t.Fatalf("afterwards %+v", c)
		}
		if text := r.log.String(); strings.Count(text, "new connections fail") != 1 || strings.Count(text, "work again") != 1 {
			t.Fatalf("log:\n%s", text)
		}
	})
}

func TestProbeForgetsAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newProbeRig(t)
		r.answers(func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("%w in time", postgres.ErrNoAnswer) })
		pass(10 * time.Second)
		if c := r.state(); c.Failures < 3 {
			t.Fatalf("%+v", c)
		}
		r.pid.Store(8)
		if c := r.state(); c != (ha.Check{}) {
			t.Fatalf("the record of another server: %+v", c)
		}
		r.pid.Store(0) // none
		pass(5 * time.Second)
		tries := r.tries.Load()
		pass(20 * time.Second)
		if r.tries.Load() != tries {
			t.Fatal("asks a server that is not there")
		}
	})
}

func TestProbeThatCannotAskProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newProbeRig(t)
		r.answers(func(context.Context) error { return errors.New("too many open files") })
		pass(30 * time.Second)
		if c := r.state(); c.Failures != 0 || c.Fault != ha.FaultNone || r.wakes.Load() != 0 {
			t.Fatalf("%+v", c)
		}
	})
}
