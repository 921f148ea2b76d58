package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/internal/view"
)

// request runs effect under the faults of the moment. srv.mu is held.
func (c *Client) request(ctx context.Context, op Op, effect func() error) error {
	fault := None
	if c.hook != nil {
		fault = c.hook(op)
	}
	c.srv.tick()
	if c.closed || c.partitioned || c.srv.down || ctx.Err() != nil || fault == Unavailable {
		return fmt.Errorf("%s: %w", op, dcs.ErrUnavailable)
	}
	c.srv.requests++
	switch fault {
	case Rejected:
		return fmt.Errorf("%s: %w", op, dcs.ErrRejected)
	case RequestLost:
		return c.lost(op)
	case AnswerLost:
		if err := effect(); err != nil {
			return c.lost(op)
		}
		return c.lost(op)
	}
	if err := effect(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func (c *Client) lost(op Op) error {
	if op == OpRead {
		return fmt.Errorf("%s: %w", op, dcs.ErrUnavailable)
	}
	return fmt.Errorf("%s: %w", op, dcs.ErrUnknown)
}

func (c *Client) path(k dcs.Key) string { return k.Path(c.base) }

// write runs a transaction of this client: effect returns the revision and
// what it wrote. The own view has it when write returns without error.
func (c *Client) write(ctx context.Context, op Op, keys []string, effect func() (int64, []view.Event, error)) error {
	c.view.Begin(keys...)
	var rev int64
	var events []view.Event
	err := c.request(ctx, op, func() (err error) {
		rev, events, err = effect()
		return err
	})
	if err != nil {
		c.view.End(keys, 0)
		return err
	}
	c.view.End(keys, rev, events...)
	return nil
}

func put(kv dcs.KV) view.Event { return view.Event{KV: kv} }

func del(key string) view.Event { return view.Event{KV: dcs.KV{Key: key}, Deleted: true} }

// Snapshot implements dcs.Store. It never waits.
func (c *Client) Snapshot(ctx context.Context) (*dcs.Cluster, error) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.srv.tick()
	if c.auto && !c.watching {
		c.deliver(-1)
	}
	cluster, whole := c.view.Cluster()
	cut := !c.watching && c.srv.now()-c.contact >= int64(c.staleAfter)
	if c.srv.down && c.watching {
		cut = c.srv.now()-c.contact >= int64(c.staleAfter)
	}
	if ctx.Err() != nil || c.closed || !whole || cut {
		return nil, fmt.Errorf("snapshot: %w", dcs.ErrUnavailable)
	}
	return cluster, nil
}

// Read implements dcs.Store.
func (c *Client) Read(ctx context.Context) (*dcs.Cluster, error) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	var cluster *dcs.Cluster
	err := c.request(ctx, OpRead, func() error {
		kvs, rev, id := c.srv.read(c.base)
		cluster = c.srv.memo.Decode(c.base, kvs)
		cluster.ID, cluster.Revision = id, rev
		return nil
	})
	return cluster, err
}

// Changed implements dcs.Store.
func (c *Client) Changed() <-chan struct{} { return c.view.Changed() }

// SetTTL implements dcs.Store.
func (c *Client) SetTTL(ttl time.Duration) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.want = ttl
}

// TTL implements dcs.Store.
func (c *Client) TTL() time.Duration {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	if c.lease == 0 {
		return 0
	}
	return c.granted
}

// needLease grants a lease if there is none.
func (c *Client) needLease(ctx context.Context) error {
	if c.lease != 0 {
		return nil
	}
	return c.request(ctx, OpGrant, func() error {
		c.asked = c.want
		c.lease, c.granted = c.srv.grant(c.want)
		return nil
	})
}

// refresh renews the lease, or grants one if there is none of the wanted TTL.
func (c *Client) refresh(ctx context.Context) error {
	if c.lease == 0 || c.asked != c.want {
		old := c.lease
		c.lease = 0
		if err := c.needLease(ctx); err != nil {
			c.lease = old
			return err
		}
		return nil
	}
	return c.request(ctx, OpKeepAlive, func() error {
		if !c.srv.falseKA && !c.srv.renew(c.lease) {
			c.lease = 0
			return dcs.ErrLeaseLost
		}
		return nil
	})
}

// KeepAlive implements dcs.Store.
func (c *Client) KeepAlive(ctx context.Context) error {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	return c.refresh(ctx)
}

// leased checks that the server knows our lease, as a put with it would.
func (c *Client) leased() error {
	if c.srv.leases[c.lease] == nil {
		c.lease = 0
		return dcs.ErrLeaseLost
	}
	return nil
}

// Claim implements dcs.Store.
func (c *Client) Claim(ctx context.Context, claim dcs.Claim) (int64, error) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	if c.lease != 0 && c.srv.leases[c.lease] == nil && !c.partitioned && !c.srv.down {
		c.lease = 0
	}
	if err := c.needLease(ctx); err != nil {
		return 0, err
	}
	leader, status, sync := c.path(dcs.KeyLeader), c.path(dcs.KeyStatus), c.path(dcs.KeySync)
	var epoch int64
	err := c.write(ctx, OpClaim, []string{leader, status}, func() (int64, []view.Event, error) {
		if err := c.leased(); err != nil {
			return 0, nil, err
		}
		kvs := c.srv.kvs
		if kvs[leader].CreateRevision != 0 || kvs[status].ModRevision != claim.StatusRevision || kvs[sync].ModRevision != claim.SyncRevision {
			return 0, nil, dcs.ErrConflict
		}
		puts := []dcs.KV{
			{Key: leader, Value: []byte(claim.Name), LeaseID: c.lease},
			{Key: status, Value: claim.Status},
		}
		epoch = c.srv.commit(puts, nil)
		c.leaderEpoch, c.leaderLease = epoch, c.lease
		puts[0].CreateRevision = epoch
		return epoch, []view.Event{put(puts[0]), put(puts[1])}, nil
	})
	if err != nil {
		return 0, err
	}
	return epoch, nil
}

// Renew implements dcs.Store.
func (c *Client) Renew(ctx context.Context, r dcs.Renewal) error { return c.Round(r)(ctx) }

// Round begins a Renew. What it returns is the rest of it, which may be done late:
// after that of a later round it changes nothing.
func (c *Client) Round(r dcs.Renewal) func(context.Context) error {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.begun++
	round := c.begun
	return func(ctx context.Context) error { return c.renew(ctx, r, round) }
}

func (c *Client) renew(ctx context.Context, r dcs.Renewal, round int64) error {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	if err := c.refresh(ctx); err != nil {
		return err
	}
	leader, status := c.path(dcs.KeyLeader), c.path(dcs.KeyStatus)
	move := c.leaderEpoch != r.Epoch || c.leaderLease != c.lease || c.srv.kvs[leader].LeaseID == 0
	return c.write(ctx, OpRenew, []string{leader, status}, func() (int64, []view.Event, error) {
		at := c.srv.kvs[leader]
		if at.CreateRevision != r.Epoch || r.Epoch == 0 || !move && at.LeaseID != c.lease || r.Status != nil && round < c.done {
			return 0, nil, dcs.ErrConflict
		}
		var puts []dcs.KV
		var events []view.Event
		if move {
			if err := c.leased(); err != nil {
				return 0, nil, err
			}
			kv := dcs.KV{Key: leader, Value: []byte(r.Name), LeaseID: c.lease, CreateRevision: r.Epoch}
			puts, events = append(puts, kv), append(events, put(kv))
		}
		if r.Status != nil {
			c.done = round
			kv := dcs.KV{Key: status, Value: r.Status}
			puts, events = append(puts, kv), append(events, put(kv))
		}
		c.leaderEpoch, c.leaderLease = r.Epoch, c.lease
		return c.srv.commit(puts, nil), events, nil
	})
}

// Release implements dcs.Store.
func (c *Client) Release(ctx context.Context, r dcs.Release) error {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	leader, status := c.path(dcs.KeyLeader), c.path(dcs.KeyStatus)
	return c.write(ctx, OpRelease, []string{leader, status}, func() (int64, []view.Event, error) {
		if at := c.srv.kvs[leader]; at.CreateRevision != r.Epoch || r.Epoch == 0 {
			return 0, nil, dcs.ErrConflict
		}
		var puts []dcs.KV
		events := []view.Event{del(leader)}
		if r.Status != nil {
			puts = append(puts, dcs.KV{Key: status, Value: r.Status})
			events = append(events, put(puts[0]))
		}
		return c.srv.commit(puts, []string{leader}), events, nil
	})
}

// PutMember implements dcs.Store.
func (c *Client) PutMember(ctx context.Context, name string, value []byte) error {
	return c.putMember(ctx, name, value, 0)
}

// PutMemberUnder implements dcs.Store.
func (c *Client) PutMemberUnder(ctx context.Context, name string, value []byte, epoch int64) error {
	if epoch <= 0 {
		epoch = -1 // no key was created then
	}
	return c.putMember(ctx, name, value, epoch)
}

func (c *Client) putMember(ctx context.Context, name string, value []byte, epoch int64) error {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	if err := c.needLease(ctx); err != nil {
		return err
	}
	key := c.path(dcs.MemberKey(name))
	return c.write(ctx, OpPutMember, []string{key}, func() (int64, []view.Event, error) {
		if epoch != 0 && c.srv.kvs[c.path(dcs.KeyLeader)].CreateRevision != epoch {
			return 0, nil, dcs.ErrConflict
		}
		if err := c.leased(); err != nil {
			return 0, nil, err
		}
		kv := dcs.KV{Key: key, Value: value, LeaseID: c.lease}
		return c.srv.commit([]dcs.KV{kv}, nil), []view.Event{put(kv)}, nil
	})
}

// MemberLeased implements dcs.Store.
func (c *Client) MemberLeased(name string) bool {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	return c.lease != 0 && c.view.Lease(c.path(dcs.MemberKey(name))) == c.lease
}

// Put implements dcs.Store.
func (c *Client) Put(ctx context.Context, w dcs.Write) error {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	key, leader := c.path(w.Key), c.path(dcs.KeyLeader)
	return c.write(ctx, OpPut, []string{key}, func() (int64, []view.Event, error) {
		if w.Epoch != 0 && c.srv.kvs[leader].CreateRevision != w.Epoch {
			return 0, nil, dcs.ErrConflict
		}
		if w.NoLeader && c.srv.kvs[leader].CreateRevision != 0 {
			return 0, nil, dcs.ErrConflict
		}
		if w.Revision != nil && c.srv.kvs[key].ModRevision != *w.Revision {
			return 0, nil, dcs.ErrConflict
		}
		kv := dcs.KV{Key: key, Value: bytes.Clone(w.Value)}
		return c.srv.commit([]dcs.KV{kv}, nil), []view.Event{put(kv)}, nil
	})
}

// DeleteInitialize implements dcs.Store.
func (c *Client) DeleteInitialize(ctx context.Context, revision int64) error {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	key := c.path(dcs.KeyInitialize)
	return c.write(ctx, OpDeleteInitialize, []string{key}, func() (int64, []view.Event, error) {
		if revision == 0 || c.srv.kvs[key].ModRevision != revision {
			return 0, nil, dcs.ErrConflict
		}
		return c.srv.commit(nil, []string{key}), []view.Event{del(key)}, nil
	})
}

// Lock implements dcs.Store.
func (c *Client) Lock(ctx context.Context, key dcs.Key, value []byte) error {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	if err := c.needLease(ctx); err != nil {
		return err
	}
	path := c.path(key)
	return c.write(ctx, OpLock, []string{path}, func() (int64, []view.Event, error) {
		at := c.srv.kvs[path]
		if at.CreateRevision != c.locks[key] {
			delete(c.locks, key)
			return 0, nil, dcs.ErrConflict
		}
		// As in etcd, the lease is looked at only when the compare holds.
		if err := c.leased(); err != nil {
			delete(c.locks, key)
			return 0, nil, err
		}
		kv := dcs.KV{Key: path, Value: bytes.Clone(value), LeaseID: c.lease, CreateRevision: at.CreateRevision}
		rev := c.srv.commit([]dcs.KV{kv}, nil)
		if kv.CreateRevision == 0 {
			kv.CreateRevision, c.locks[key] = rev, rev
		}
		return rev, []view.Event{put(kv)}, nil
	})
}

// Unlock implements dcs.Store.
func (c *Client) Unlock(ctx context.Context, key dcs.Key) error {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	token := c.locks[key]
	if token == 0 {
		return nil
	}
	path := c.path(key)
	err := c.write(ctx, OpUnlock, []string{path}, func() (int64, []view.Event, error) {
		if c.srv.kvs[path].CreateRevision != token {
			return 0, nil, dcs.ErrConflict
		}
		return c.srv.commit(nil, []string{path}), []view.Event{del(path)}, nil
	})
	if errors.Is(err, dcs.ErrConflict) {
		err = nil
	}
	if err == nil {
		delete(c.locks, key)
	}
	return err
}
