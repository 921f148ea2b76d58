package loop

import (
	"context"
	"sync"

	"github.com/pgha/pgha/pkg/ha"
)

// Worker does long actions for a Runner. Do may take minutes; it ends early
// when ctx does. progress may be called from Do as often as it likes: with what makes
// the progress ("pgbackrest", "basebackup"), and with bytes (total 0: unknown).
type Worker interface {
	Do(ctx context.Context, a ha.Action, progress func(method string, done, total int64)) (ha.Operation, error)
}

// Runner is the Operator of a real node: one goroutine for the operation that
// runs, and a channel that says when it ended.
type Runner struct {
	worker Worker
	now    func() ha.Instant
	done   chan struct{}

	mu     sync.Mutex
	op     ha.Operation
	first  int64 // bytes done when the present method was first heard of
	cancel context.CancelFunc
	group  sync.WaitGroup
}

// NewRunner returns a Runner whose operations worker does.
func NewRunner(worker Worker, now func() ha.Instant) *Runner {
	return &Runner{worker: worker, now: now, done: make(chan struct{}, 1)}
}

// Done is readable after an operation has ended.
func (r *Runner) Done() <-chan struct{} { return r.done }

// Begin implements Operator.
func (r *Runner) Begin(a ha.Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	r.op = ha.Operation{Kind: ha.Kind(a), Serial: r.op.Serial + 1, Running: true, Started: r.now()}
	r.cancel = cancel
	r.group.Add(1)
	go func() {
		defer r.group.Done()
		defer cancel()
		res, err := r.worker.Do(ctx, a, r.progress)
		r.end(res, err)
	}()
}

func (r *Runner) progress(method string, done, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if method != r.op.Method || r.op.MethodStarted == 0 || done < r.first {
		r.op.Method, r.op.MethodStarted, r.op.Rate, r.first = method, now, 0, done
	}
	r.op.Done, r.op.Total = done, total
	if took := now.Sub(r.op.MethodStarted); took > 0 {
		r.op.Rate = int64(float64(done-r.first) / took.Seconds())
	}
}

func (r *Runner) end(res ha.Operation, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.op.Running, r.op.Ended = false, r.now()
	r.op.ShutdownLSN, r.op.Divergence, r.op.Damaged = res.ShutdownLSN, res.Divergence, res.Damaged
	r.op.Timeline, r.op.Interrupted, r.op.Refused = res.Timeline, res.Interrupted, res.Refused
	if err != nil {
		r.op.Error = err.Error()
	}
	select {
	case r.done <- struct{}{}:
	default:
	}
}

// Poll implements Operator.
func (r *Runner) Poll() ha.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.op
}

// Cancel implements Operator.
func (r *Runner) Cancel() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		r.op.Cancelled = r.op.Cancelled || r.op.Running
		r.cancel()
	}
}

// Close cancels what runs and waits for it.
func (r *Runner) Close() {
	r.Cancel()
	r.group.Wait()
}
