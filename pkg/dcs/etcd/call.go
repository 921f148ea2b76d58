package etcd

import (
	"context"
	"errors"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// request is one logical request: its name for messages, and whether doing it
// twice is the same as doing it once.
type request struct {
	op         string
	repeatable bool
	read       bool // has no effect: a lost answer is "unavailable"
}

// attempt sends the request to one endpoint. It must return etcd's error
// unchanged.
type attempt func(ctx context.Context, ep *endpoint) error

const (
	// firstLimit bounds an attempt while other endpoints are left to try; it
	// doubles with each pass over them.
	firstLimit = time.Second
	leastLimit = 50 * time.Millisecond
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// attemptTimeout shares the time that remains over the endpoints left in this
// pass. A black-holed endpoint costs a round at most a second, once: after that
// it is not the first choice any more. An endpoint that answered just now gets
// half of the time at least, for a slow disk is then likelier than a cut.
func attemptTimeout(remaining time.Duration, left, pass int, fresh bool) time.Duration {
	if left < 1 {
		left = 1
	}
	share := remaining / time.Duration(left)
	if fresh {
		share = max(share, remaining/2)
	}
	limit := firstLimit << min(pass, 6)
	if left == 1 && pass == 0 {
		limit = max(limit, remaining/3)
	}
	return max(min(share, limit), leastLimit)
}

// call runs req until it has a definite outcome or ctx ends. The error matches
// one of the sentinels of dcs.
func (s *Store) call(ctx context.Context, req request, do attempt) error {
	state := outcome{req: req}
	for pass := 0; ; pass++ {
		eps, err := s.pool.order(ctx)
		if err != nil {
			return state.giveUp(err)
		}
		for i, ep := range eps {
			if ctx.Err() != nil {
				return state.giveUp(ctx.Err())
			}
			sent, err := s.try(ctx, ep, s.limit(ctx, ep, len(eps)-i, pass), do)
			if over, err := s.settle(ctx, &state, ep, sent, err); over {
				return err
			}
		}
		s.pool.revive()
		if err := pause(ctx, min(firstPause<<min(pass, 8), lastPause)); err != nil {
			return state.giveUp(err)
		}
	}
}

// outcome collects what is known after several attempts.
type outcome struct {
	req   request
	maybe bool // an attempt may have had its effect
	last  error
}

func (o *outcome) giveUp(err error) error {
	if o.last != nil {
		err = o.last
	}
	if o.maybe && !o.req.read {
		return fail(o.req.op, dcs.ErrUnknown, err)
	}
	return fail(o.req.op, dcs.ErrUnavailable, err)
}

// settle judges one attempt; over is false if another is to be made.
func (s *Store) settle(ctx context.Context, o *outcome, ep *endpoint, sent bool, err error) (over bool, _ error) {
	if errors.Is(err, errDefinite) {
		s.prefer(ep)
		return true, err
	}
	v := judge(err, sent)
	switch v {
	case done:
		s.prefer(ep)
		return true, nil
	case leaseLost:
		return true, fail(o.req.op, dcs.ErrLeaseLost, err)
	case rejected, reauth:
		return true, fail(o.req.op, dcs.ErrRejected, err)
	}
	if o.last == nil || !late(err) {
		o.last = err // a deadline tells least
	}
	if v == unknown {
		o.maybe = true
	}
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.failed(ep, err)
	}
	if v == unknown && !o.req.repeatable && !o.req.read {
		return true, o.giveUp(err)
	}
	return false, nil
}

func (s *Store) limit(ctx context.Context, ep *endpoint, left, pass int) time.Duration {
	now := time.Now()
	remaining := time.Hour
	if end, ok := ctx.Deadline(); ok {
		remaining = end.Sub(now)
	}
	return attemptTimeout(remaining, left, pass, s.pool.fresh(ep, now))
}

func (s *Store) prefer(ep *endpoint) {
	if s.pool.good(ep, time.Now()) {
		s.log.Info("using another etcd endpoint", "endpoint", ep.url)
	}
}

func (s *Store) failed(ep *endpoint, err error) {
	s.pool.bad(ep, time.Now())
	s.log.Debug("etcd endpoint failed", "endpoint", ep.url, "error", reason(err))
	s.dropWatch(ep)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try makes one attempt at ep, with a second one there if the token was not
// accepted.
func (s *Store) try(ctx context.Context, ep *endpoint, limit time.Duration, do attempt) (sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for again := false; ; again = true {
		session, err := s.auth.ensure(ctx, ep)
		if err != nil {
			return false, err
		}
		tracked, f := track(ctx)
		err = do(tracked, ep)
		f.stop(nil)
		if again || judge(err, f.sent.Load()) != reauth || session.anonymous() {
			return f.sent.Load(), err
		}
		s.auth.drop(session)
	}
}
