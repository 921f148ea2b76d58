package etcd

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/pkg/dcs"
)

// heldLock is what the store knows about a lock it took. The token is the
// create revision of the key, so that a lock moves along to a new lease of the
// same store. When the answer to the creation was lost, there is no token yet,
// but nobody else writes with our lease.
type heldLock struct {
	token int64 // 0: not known to be held
	lease int64 // of the last attempt
}

// Lock implements dcs.Store.
func (s *Store) Lock(ctx context.Context, key dcs.Key, value []byte) error {
	lease, err := s.needLease(ctx)
	if err != nil {
		return err
	}
	held := s.heldLock(key)
	token, resp, err := s.lock(ctx, key, value, lease, held.token)
	if errors.Is(err, dcs.ErrConflict) && resp != nil {
		// An earlier call may have created it without hearing of it.
		if kv := got(resp, 0); kv != nil && kv.Lease != 0 && (kv.Lease == lease || kv.Lease == held.lease) {
			token, _, err = s.lock(ctx, key, value, lease, kv.CreateRevision)
		}
	}
	switch {
	case errors.Is(err, dcs.ErrLeaseLost):
		s.forgetLease(lease)
		s.setLock(key, heldLock{})
	case errors.Is(err, dcs.ErrConflict):
		s.setLock(key, heldLock{})
	case err == nil:
		s.setLock(key, heldLock{token: token, lease: lease})
	case held.token == 0 && errors.Is(err, dcs.ErrUnknown):
		s.setLock(key, heldLock{lease: lease})
	}
	return err
}

// lock creates key (token 0) or rewrites it, and returns its create revision.
func (s *Store) lock(ctx context.Context, key dcs.Key, value []byte, lease, token int64) (int64, *clientv3.TxnResponse, error) {
	path := s.path(key)
	created := token
	if created == 0 {
		created = -1
	}
	rev, resp, err := s.apply(ctx, change{
		request: request{op: "lock " + string(key), repeatable: true},
		when:    []clientv3.Cmp{createdAt(path, token)},
		puts:    []dcs.KV{{Key: path, Value: value, LeaseID: lease, CreateRevision: created}},
		look:    []string{path},
		ours: func(r *clientv3.TxnResponse) bool {
			kv := got(r, 0)
			return kv != nil && kv.Lease == lease && string(kv.Value) == string(value)
		},
	})
	switch {
	case err != nil:
		return 0, resp, err
	case token != 0:
		return token, resp, nil
	case rev == 0:
		return got(resp, 0).CreateRevision, resp, nil
	}
	return rev, resp, nil
}

// Unlock implements dcs.Store.
func (s *Store) Unlock(ctx context.Context, key dcs.Key) error {
	path := s.path(key)
	held := s.heldLock(key)
	mine := createdAt(path, held.token)
	if held.token == 0 {
		lease := held.lease
		if lease == 0 {
			// A creation that got through only after its call had failed.
			if lease = s.leaseID(); lease == 0 || s.view.Lease(path) != lease {
				return nil
			}
		}
		mine = leasedBy(path, lease)
	}
	_, _, err := s.apply(ctx, change{
		request: request{op: "unlock " + string(key), repeatable: true},
		when:    []clientv3.Cmp{mine},
		deletes: []string{path},
	})
	if errors.Is(err, dcs.ErrConflict) {
		err = nil // gone, or another's: not ours any more
	}
	if err == nil {
		s.setLock(key, heldLock{})
	}
	return err
}

func (s *Store) heldLock(key dcs.Key) heldLock {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locks[key]
}

func (s *Store) setLock(key dcs.Key, held heldLock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held == (heldLock{}) {
		delete(s.locks, key)
		return
	}
	if s.locks == nil {
		s.locks = map[dcs.Key]heldLock{}
	}
	s.locks[key] = held
}
