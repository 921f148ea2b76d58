package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/internal/view"
)

// errDefinite marks an outcome that the attempt itself recognised.
var errDefinite = errors.New("definite")

// conflict is a failed compare: definite, whatever earlier attempts did.
type conflict struct{ resp *clientv3.TxnResponse }

func (conflict) Error() string        { return "compare failed" }
func (conflict) Is(target error) bool { return target == errDefinite }

func toKV(kv *mvccpb.KeyValue) dcs.KV {
	return dcs.KV{
		Key: string(kv.Key), Value: kv.Value, CreateRevision: kv.CreateRevision,
		ModRevision: kv.ModRevision, LeaseID: kv.Lease,
	}
}

func createdAt(key string, rev int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), "=", rev)
}

func modifiedAt(key string, rev int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", rev)
}

func leasedBy(key string, lease int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.LeaseValue(key), "=", lease)
}

// got returns the key read by operation i of a transaction; nil if absent.
func got(resp *clientv3.TxnResponse, i int) *mvccpb.KeyValue {
	if i >= len(resp.Responses) {
		return nil
	}
	kvs := resp.Responses[i].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}

// change is a guarded write of this store: its compares, what it puts and
// deletes, and how to recognise after a lost answer and a failed compare that
// it had its effect all the same.
type change struct {
	request
	when    []clientv3.Cmp
	puts    []dcs.KV
	deletes []string
	look    []string // keys to read when a compare fails
	// ours judges those keys; it is asked only if an earlier attempt may have
	// got through. nil: a failed compare is a conflict.
	ours func(*clientv3.TxnResponse) bool
}

// apply runs c. On success the own view has it. rev is 0 when the change was
// recognised afterwards: the watch brings it then.
func (s *Store) apply(ctx context.Context, c change) (rev int64, resp *clientv3.TxnResponse, err error) {
	var then, otherwise []clientv3.Op
	var keys []string
	var events []view.Event
	for _, key := range c.deletes {
		then = append(then, clientv3.OpDelete(key))
		events = append(events, view.Event{KV: dcs.KV{Key: key}, Deleted: true})
		keys = append(keys, key)
	}
	for _, kv := range c.puts {
		then = append(then, clientv3.OpPut(kv.Key, string(kv.Value), clientv3.WithLease(clientv3.LeaseID(kv.LeaseID))))
		events = append(events, view.Event{KV: kv})
		keys = append(keys, kv.Key)
	}
	for _, key := range c.look {
		otherwise = append(otherwise, clientv3.OpGet(key))
	}
	s.view.Begin(keys...)
	rev, resp, err = s.send(ctx, c, then, otherwise)
	if err != nil {
		s.view.End(keys, 0)
		return 0, resp, err
	}
	if rev == 0 || len(events) == 0 {
		s.view.End(keys, rev)
		return rev, resp, nil
	}
	for i := range events {
		if events[i].KV.CreateRevision < 0 {
			events[i].KV.CreateRevision = rev // absent before, as a compare has told
		}
	}
	s.view.End(keys, rev, events...)
	return rev, resp, nil
}

func (s *Store) send(ctx context.Context, c change, then, otherwise []clientv3.Op) (int64, *clientv3.TxnResponse, error) {
	var resp *clientv3.TxnResponse
	maybe := false
	err := s.call(ctx, c.request, func(ctx context.Context, ep *endpoint) error {
		answer, err := ep.client.Txn(ctx).If(c.when...).Then(then...).Else(otherwise...).Commit()
		if err != nil {
			maybe = maybe || judge(err, true) == unknown
			return err
		}
		resp = answer
		if !answer.Succeeded {
			return conflict{answer}
		}
		return nil
	})
	var lost conflict
	switch {
	case err == nil:
		return resp.Header.GetRevision(), resp, nil
	case !errors.As(err, &lost):
		return 0, nil, err
	case maybe && c.ours != nil && c.ours(lost.resp):
		s.resync()
		return 0, lost.resp, nil
	default:
		s.resync()
		return 0, lost.resp, fmt.Errorf("%s: %w", c.op, dcs.ErrConflict)
	}
}

func (s *Store) path(k dcs.Key) string { return k.Path(s.cfg.Base) }

// Claim implements dcs.Store.
func (s *Store) Claim(ctx context.Context, c dcs.Claim) (int64, error) {
	lease, err := s.needLease(ctx)
	if err != nil {
		return 0, err
	}
	epoch, err := s.claim(ctx, c, lease)
	if errors.Is(err, dcs.ErrLeaseLost) {
		// The lease ended while this node was idle: one more try with another.
		s.forgetLease(lease)
		if lease, err = s.needLease(ctx); err != nil {
			return 0, err
		}
		epoch, err = s.claim(ctx, c, lease)
	}
	if err != nil {
		if errors.Is(err, dcs.ErrLeaseLost) {
			s.forgetLease(lease)
		}
		return 0, err
	}
	s.leading(epoch, lease)
	return epoch, nil
}

func (s *Store) leading(epoch, lease int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease.leaderEpoch, s.lease.leaderLease = epoch, lease
}

func (s *Store) claim(ctx context.Context, c dcs.Claim, lease int64) (int64, error) {
	leader, status := s.path(dcs.KeyLeader), s.path(dcs.KeyStatus)
	rev, resp, err := s.apply(ctx, change{
		request: request{op: "claim leader key", repeatable: true},
		when: []clientv3.Cmp{
			createdAt(leader, 0), modifiedAt(status, c.StatusRevision), modifiedAt(s.path(dcs.KeySync), c.SyncRevision),
		},
		puts: []dcs.KV{
			{Key: leader, Value: []byte(c.Name), LeaseID: lease, CreateRevision: -1},
			{Key: status, Value: c.Status},
		},
		look: []string{leader},
		ours: func(r *clientv3.TxnResponse) bool {
			kv := got(r, 0)
			return kv != nil && kv.Lease == lease && string(kv.Value) == c.Name
		},
	})
	if err != nil {
		return 0, err
	}
	if rev == 0 {
		rev = got(resp, 0).CreateRevision
	}
	return rev, nil
}

// Renew implements dcs.Store.
func (s *Store) Renew(ctx context.Context, r dcs.Renewal) error {
	lease, err := s.refreshLease(ctx)
	if err != nil {
		return err
	}
	leader, status := s.path(dcs.KeyLeader), s.path(dcs.KeyStatus)
	s.mu.Lock()
	stays := s.lease.leaderEpoch == r.Epoch && s.lease.leaderLease == lease
	s.mu.Unlock()
	const anyLease = -1
	held := int64(anyLease) // what the key is to hang on before
	if stays {
		held = lease
	}
	rev := s.view.ModRevision(status)
	for {
		c := change{
			request: request{op: "renew leadership", repeatable: true},
			when:    []clientv3.Cmp{epochIs(leader, r.Epoch)},
			look:    []string{leader, status},
		}
		if held != anyLease {
			c.when = append(c.when, leasedBy(leader, held))
		}
		if held != lease {
			c.puts = append(c.puts, dcs.KV{Key: leader, Value: []byte(r.Name), LeaseID: lease, CreateRevision: r.Epoch})
		}
		if r.Status != nil { // a round that was given up may arrive after a later one
			c.when = append(c.when, modifiedAt(status, rev))
			c.puts = append(c.puts, dcs.KV{Key: status, Value: r.Status})
		}
		_, resp, err := s.apply(ctx, c)
		switch {
		case err == nil:
			s.leading(r.Epoch, lease)
			return nil
		case errors.Is(err, dcs.ErrLeaseLost):
			s.forgetLease(lease)
			return err
		case !errors.Is(err, dcs.ErrConflict):
			return err
		}
		key, at := got(resp, 0), got(resp, 1).GetModRevision()
		switch {
		case key == nil || key.CreateRevision != r.Epoch:
			return err
		case held == lease && key.Lease == 0:
			// Ours by its epoch, and written over by hand: that took its lease away.
			held = 0
		case held != anyLease && key.Lease != held: // another's lease: another's key
			return err
		case r.Status == nil || at == rev:
			return err
		}
		rev = at
	}
}

// epochIs guards by epoch. Epoch 0 would mean "absent": it never holds.
func epochIs(leader string, epoch int64) clientv3.Cmp {
	if epoch <= 0 {
		epoch = -1
	}
	return createdAt(leader, epoch)
}

// Release implements dcs.Store.
func (s *Store) Release(ctx context.Context, r dcs.Release) error {
	leader, status := s.path(dcs.KeyLeader), s.path(dcs.KeyStatus)
	c := change{
		request: request{op: "release leader key", repeatable: true},
		when:    []clientv3.Cmp{epochIs(leader, r.Epoch)},
		deletes: []string{leader},
		look:    []string{leader, status},
		ours: func(resp *clientv3.TxnResponse) bool {
			if kv := got(resp, 0); kv != nil && kv.CreateRevision == r.Epoch {
				return false
			}
			kv := got(resp, 1)
			return r.Status == nil || kv != nil && bytes.Equal(kv.Value, r.Status)
		},
	}
	if r.Status != nil {
		c.puts = []dcs.KV{{Key: status, Value: r.Status}}
	}
	_, _, err := s.apply(ctx, c)
	return err
}

// PutMember implements dcs.Store.
func (s *Store) PutMember(ctx context.Context, name string, value []byte) error {
	return s.putMember(ctx, name, value)
}

// PutMemberUnder implements dcs.Store.
func (s *Store) PutMemberUnder(ctx context.Context, name string, value []byte, epoch int64) error {
	return s.putMember(ctx, name, value, epochIs(s.path(dcs.KeyLeader), epoch))
}

func (s *Store) putMember(ctx context.Context, name string, value []byte, when ...clientv3.Cmp) error {
	lease, err := s.needLease(ctx)
	if err != nil {
		return err
	}
	_, _, err = s.apply(ctx, change{
		// Only this node writes the key, so the last value wins either way.
		request: request{op: "write member key", repeatable: true},
		when:    when,
		puts:    []dcs.KV{{Key: s.path(dcs.MemberKey(name)), Value: value, LeaseID: lease}},
	})
	if errors.Is(err, dcs.ErrLeaseLost) {
		s.forgetLease(lease)
	}
	return err
}

// Put implements dcs.Store. A write whose outcome is unknown is not repeated:
// after somebody else's write a second time would not be the same thing.
func (s *Store) Put(ctx context.Context, w dcs.Write) error {
	key := s.path(w.Key)
	c := change{
		request: request{op: "write " + string(w.Key)},
		puts:    []dcs.KV{{Key: key, Value: w.Value}},
	}
	if w.Epoch != 0 {
		c.when = append(c.when, epochIs(s.path(dcs.KeyLeader), w.Epoch))
	}
	if w.NoLeader {
		c.when = append(c.when, createdAt(s.path(dcs.KeyLeader), 0))
	}
	if w.Revision != nil {
		c.when = append(c.when, modifiedAt(key, *w.Revision))
	}
	// Only the leader of an epoch writes under it: with no other guard the
	// same value twice is harmless.
	c.repeatable = w.Epoch != 0 && w.Revision == nil
	_, _, err := s.apply(ctx, c)
	return err
}

// DeleteInitialize implements dcs.Store.
func (s *Store) DeleteInitialize(ctx context.Context, revision int64) error {
	key := s.path(dcs.KeyInitialize)
	if revision <= 0 {
		revision = -1 // absent is not at any revision
	}
	_, _, err := s.apply(ctx, change{
		request: request{op: "delete initialize", repeatable: true},
		when:    []clientv3.Cmp{modifiedAt(key, revision)},
		deletes: []string{key},
		look:    []string{key},
		ours:    func(r *clientv3.TxnResponse) bool { return got(r, 0) == nil },
	})
	return err
}
