package etcd

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/pkg/dcs"
)

// SetTTL implements dcs.Store.
func (s *Store) SetTTL(ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ttl > 0 {
		s.want = ttl
	}
}

// TTL implements dcs.Store.
func (s *Store) TTL() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.granted
}

// MemberLeased implements dcs.Store.
func (s *Store) MemberLeased(name string) bool {
	id := s.leaseID()
	return id != 0 && s.view.Lease(dcs.MemberKey(name).Path(s.cfg.Base)) == id
}

func (s *Store) leaseID() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.id
}

// forgetLease drops id if it still is the present lease.
func (s *Store) forgetLease(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease.id == id {
		s.lease.id, s.lease.granted = 0, 0
	}
}

// KeepAlive implements dcs.Store.
func (s *Store) KeepAlive(ctx context.Context) error {
	_, err := s.refreshLease(ctx)
	return err
}

// refreshLease renews the lease, or grants one when there is none with the
// wanted TTL. It returns the present lease.
func (s *Store) refreshLease(ctx context.Context) (int64, error) {
	s.mu.Lock()
	id, fits := s.lease.id, s.lease.asked == s.want || s.lease.postponed
	s.lease.postponed = false
	s.mu.Unlock()
	if id == 0 || !fits {
		return s.grant(ctx, id)
	}
	ttl, err := s.keepAlive(ctx, id)
	if errors.Is(err, dcs.ErrLeaseLost) {
		s.forgetLease(id)
	}
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease.id == id {
		s.lease.granted = ttl
	}
	return id, nil
}

// needLease returns the present lease without renewing it, or a new one.
func (s *Store) needLease(ctx context.Context) (int64, error) {
	if id := s.leaseID(); id != 0 {
		return id, nil
	}
	return s.grant(ctx, 0)
}

// grant replaces lease old by a new one; if another goroutine has just done
// so, its lease is returned. The old lease is left to expire.
func (s *Store) grant(ctx context.Context, old int64) (int64, error) {
	const op = "grant lease"
	select {
	case s.granting <- struct{}{}:
		defer func() { <-s.granting }()
	case <-ctx.Done():
		return 0, fail(op, dcs.ErrUnavailable, ctx.Err())
	}
	s.mu.Lock()
	id, want := s.lease.id, s.want
	s.mu.Unlock()
	if id != old && id != 0 {
		return id, nil
	}
	seconds := int64((want + time.Second - 1) / time.Second)
	var resp *clientv3.LeaseGrantResponse
	// Repeatable: a lease nobody knows of expires unused.
	err := s.call(ctx, request{op: op, repeatable: true, read: true}, func(ctx context.Context, ep *endpoint) (err error) {
		resp, err = ep.client.Grant(ctx, seconds)
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.lease.postponed = true
		return 0, err
	}
	s.lease.id, s.lease.asked = int64(resp.ID), want
	s.lease.granted = time.Duration(resp.TTL) * time.Second
	return int64(resp.ID), nil
}

// keepAlive renews lease id once and returns its TTL.
func (s *Store) keepAlive(ctx context.Context, id int64) (time.Duration, error) {
	var resp *clientv3.LeaseKeepAliveResponse
	err := s.call(ctx, request{op: "keep lease alive", repeatable: true}, func(ctx context.Context, ep *endpoint) (err error) {
		resp, err = ep.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
		if resp == nil {
			return err
		}
		// The answer that the lease is gone comes with an error, and is
		// believed only of a member that keeps up.
		if stale := s.seen.check(resp.ResponseHeader); stale != nil {
			return stale
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return time.Duration(resp.TTL) * time.Second, nil
}
