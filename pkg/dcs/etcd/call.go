package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

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
	case leaseLost, rejected, reauth:
		return true, fail(o.req.op, sentinelOf(v), err)
	}
	if o.last == nil || status.Code(err) != codes.DeadlineExceeded {
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
		token, err := s.auth.get(ctx, ep)
		if err != nil {
			return false, err
		}
		tracked, flag := withSent(outgoing(ctx, token))
		err = do(tracked, ep)
		if again || judge(err, flag.Load()) != reauth || !s.auth.enabled() {
			return flag.Load(), err
		}
		s.auth.drop(token)
	}
}

// outgoing adds the token, and asks a server that has lost its leader to
// refuse at once instead of letting us wait.
func outgoing(ctx context.Context, token string) context.Context {
	ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
	}
	return ctx
}

// tokens keeps the authentication token, which all members accept.
type tokens struct {
	asking         chan struct{} // holds one token: one authentication at a time
	mu             sync.Mutex
	user, password string
	token          string
	have           bool // token is valid as far as we know; it may be empty
}

func (t *tokens) enabled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.user != "" && t.password != ""
}

func (t *tokens) set(user, password string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.user, t.password, t.token, t.have = user, password, "", false
}

// drop forgets the token unless somebody has replaced it already.
func (t *tokens) drop(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token == token {
		t.token, t.have = "", false
	}
}

func (t *tokens) now() (user, password, token string, usable bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.user, t.password, t.token, t.have || t.user == "" || t.password == ""
}

// get returns the token, asking ep for one if need be. One caller asks and
// the others wait: checking a password costs etcd a lot of CPU.
func (t *tokens) get(ctx context.Context, ep *endpoint) (string, error) {
	if _, _, token, usable := t.now(); usable {
		return token, nil
	}
	select {
	case t.asking <- struct{}{}:
		defer func() { <-t.asking }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	user, password, token, usable := t.now()
	if usable {
		return token, nil
	}
	resp, err := pb.NewAuthClient(ep.conn).Authenticate(outgoing(ctx, ""), &pb.AuthenticateRequest{Name: user, Password: password})
	if err != nil && !errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled) {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.user == user && t.password == password {
		t.token, t.have = resp.GetToken(), true
	}
	return resp.GetToken(), nil
}
