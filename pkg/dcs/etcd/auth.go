package etcd

import (
	"context"
	"errors"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/credentials"
)

// session is one use of the credentials; it is replaced and never changed.
type session struct {
	user, password string
	open           bool // its token is valid as far as we know
}

func (s *session) anonymous() bool { return s.user == "" || s.password == "" }

// tokens keeps the authentication token, which all members accept.
type tokens struct {
	current credentials.PerRPCCredentialsBundle // goes with every request
	session atomic.Pointer[session]
	asking  chan struct{} // holds one token: one authentication at a time
}

func newTokens(user, password string) *tokens {
	t := &tokens{current: credentials.NewPerRPCCredentialBundle(), asking: make(chan struct{}, 1)}
	t.set(user, password)
	return t
}

func (t *tokens) set(user, password string) {
	t.session.Store(&session{user: user, password: password})
	t.current.UpdateAuthToken("")
}

// drop ends a session whose token is not accepted any more.
func (t *tokens) drop(old *session) {
	t.session.CompareAndSwap(old, &session{user: old.user, password: old.password})
}

// ensure asks ep for a token if there is none. One caller asks and the others
// wait: checking a password costs etcd a lot of CPU.
func (t *tokens) ensure(ctx context.Context, ep *endpoint) (*session, error) {
	if now := t.session.Load(); now.open || now.anonymous() {
		return now, nil
	}
	select {
	case t.asking <- struct{}{}:
		defer func() { <-t.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := t.session.Load()
	if now.open || now.anonymous() {
		return now, nil
	}
	token := ""
	resp, err := ep.client.Authenticate(clientv3.WithRequireLeader(ctx), now.user, now.password)
	if err == nil {
		token = resp.Token
	} else if !errors.Is(err, rpctypes.ErrAuthNotEnabled) {
		return nil, err
	}
	next := &session{user: now.user, password: now.password, open: true}
	t.current.UpdateAuthToken(token)
	if !t.session.CompareAndSwap(now, next) {
		t.current.UpdateAuthToken("") // the credentials have changed meanwhile
	}
	return next, nil
}
