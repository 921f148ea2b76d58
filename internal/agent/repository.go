package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/postgres"
)

// repositoryTimeout bounds one look into the repository.
const repositoryTimeout = 45 * time.Second

// repository keeps what the backup repository held when it was last looked at.
// Looks are shared: however many ask, one pgbackrest runs.
type repository struct {
	read  func(ctx context.Context, stanza string) (*postgres.Repository, error)
	wall  func() time.Time
	after func() // called after each look

	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu     sync.Mutex
	seen   lookResult
	flight chan struct{} // closed when the look under way ends; nil: none
}

// lookResult is what a look brought.
type lookResult struct {
	// repo is what was found last; older than err when that is set.
	repo *postgres.Repository
	err  error     // of the newest look
	at   time.Time // of the newest look; zero: none yet
	good time.Time // of the newest look that succeeded
}

// known tells whether the content of the repository is known now. A stanza that
// does not exist yet has none; one that was there before is out of reach.
func (l lookResult) known() bool {
	return !l.at.IsZero() && (l.err == nil || l.repo == nil && errors.Is(l.err, postgres.ErrNoStanza))
}

func newRepository(read func(context.Context, string) (*postgres.Repository, error), wall func() time.Time, after func()) *repository {
	r := &repository{read: read, wall: wall, after: after}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *repository) close() {
	r.cancel()
	r.group.Wait()
}

// last is the newest result, without waiting.
func (r *repository) last() lookResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// look begins a look, or joins the one under way; the channel is closed at its end.
func (r *repository) look() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight != nil {
		return r.flight
	}
	done := make(chan struct{})
	r.flight = done
	r.group.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, repositoryTimeout)
		defer cancel()
		repo, err := r.read(ctx, "")
		r.mu.Lock()
		r.seen.at, r.seen.err = r.wall(), err
		if err == nil {
			r.seen.repo, r.seen.good = repo, r.seen.at
		}
		r.flight = nil
		r.mu.Unlock()
		close(done)
		r.after()
	})
	return done
}

// within returns a result no older than age if one comes before ctx ends, else
// the last one.
func (r *repository) within(ctx context.Context, age time.Duration) lookResult {
	if l := r.last(); !l.at.IsZero() && r.wall().Sub(l.at) < age {
		return l
	}
	select {
	case <-r.look():
	case <-ctx.Done():
	}
	return r.last()
}

// forget drops what was found: the repository is another one from now on.
func (r *repository) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = lookResult{}
}

// anew returns the result of a look that began after the call.
func (r *repository) anew(ctx context.Context) (lookResult, error) {
	r.mu.Lock()
	earlier := r.flight
	r.mu.Unlock()
	if earlier != nil {
		select {
		case <-earlier:
		case <-ctx.Done():
			return lookResult{}, ctx.Err()
		}
	}
	select {
	case <-r.look():
		return r.last(), nil
	case <-ctx.Done():
		return lookResult{}, ctx.Err()
	}
}
