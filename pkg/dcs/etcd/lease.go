package etcd

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

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
	id, fits := s.lease.id, s.lease.asked == s.want
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
	req := &pb.LeaseGrantRequest{TTL: int64((want + time.Second - 1) / time.Second)}
	var resp *pb.LeaseGrantResponse
	// Repeatable: a lease nobody knows of expires unused.
	err := s.call(ctx, request{op: op, repeatable: true, read: true}, func(ctx context.Context, ep *endpoint) (err error) {
		resp, err = pb.NewLeaseClient(ep.conn).LeaseGrant(ctx, req)
		return err
	})
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease.id, s.lease.asked = resp.ID, want
	s.lease.granted = time.Duration(resp.TTL) * time.Second
	return resp.ID, nil
}

// keepAlive renews lease id once and returns its TTL.
func (s *Store) keepAlive(ctx context.Context, id int64) (time.Duration, error) {
	const op = "keep lease alive"
	var resp *pb.LeaseKeepAliveResponse
	err := s.call(ctx, request{op: op, repeatable: true}, func(ctx context.Context, ep *endpoint) (err error) {
		if resp, err = keepAliveOnce(ctx, ep, id); err != nil {
			return err
		}
		return s.seen.check(resp.Header)
	})
	if err != nil {
		return 0, err
	}
	if resp.TTL <= 0 {
		return 0, fail(op, dcs.ErrLeaseLost, nil)
	}
	return time.Duration(resp.TTL) * time.Second, nil
}

func keepAliveOnce(ctx context.Context, ep *endpoint, id int64) (*pb.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := pb.NewLeaseClient(ep.conn).LeaseKeepAlive(ctx)
	if err != nil {
		return nil, err
	}
	// A failed Send shows its reason in Recv.
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err == nil {
		_ = stream.CloseSend()
	}
	return stream.Recv()
}
