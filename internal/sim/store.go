package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/mem"
	"github.com/pgha/pgha/pkg/ha"
)

// store is a node's way to etcd: latencies, losses, and the ghost's eyes on
// what is sent and what came of it.
type store struct {
	n        *node
	c        *mem.Client
	arriving bool // late, and nobody waits
}

var _ dcs.Store = (*store)(nil)

func (s *store) request(ctx context.Context, e effect, do func(context.Context) error) error {
	s.n.reach(before(e))
	err := s.send(ctx, do)
	s.n.reach(after(e))
	return err
}

// send takes the time a request takes, and loses it or its answer.
func (s *store) send(ctx context.Context, do func(context.Context) error) error {
	n := s.n
	limit := n.w.budget(ctx)
	lost := n.w.lossy[n]
	there, back := between(n.w.net, ms/2, 5*ms), between(n.w.net, ms/2, 5*ms)
	if n.w.net.Float64() < 0.02 {
		there += between(n.w.net, 0, 300*ms)
	}
	if n.w.net.Float64() < 0.02 {
		back += between(n.w.net, 0, 300*ms)
	}
	cut := n.w.ghost.cut[n.name] || n.w.ghost.down
	if cut || n.w.net.Float64() < lost.request || there >= limit {
		if !cut && n.w.net.IntN(2) == 0 {
			s.late(between(n.w.net, 0, max(2*limit, lost.late)), do)
		}
		n.sleep(limit)
		if cut {
			return fmt.Errorf("connect: %w", dcs.ErrUnavailable)
		}
		return fmt.Errorf("no answer: %w", dcs.ErrUnknown)
	}
	n.sleep(there)
	err := do(ctx)
	n.w.pump()
	if n.w.net.Float64() < lost.answer || there+back >= limit {
		n.sleep(limit - there)
		return fmt.Errorf("no answer: %w", dcs.ErrUnknown)
	}
	n.sleep(back)
	return err
}

// late lets a request that was given up on arrive after all.
func (s *store) late(d int64, do func(context.Context) error) {
	n := s.n
	n.w.after(d, func() {
		if n.client != s.c || n.off || n.w.ghost.down || n.w.ghost.cut[n.name] {
			return
		}
		n.w.trace(n, "ETCD: a request arrives late")
		n.w.sometimes("a request that was given up on reached etcd")
		s.arriving = true
		_ = do(context.Background()) // nobody waits for the answer
		s.arriving = false
		n.w.pump()
	})
}

func (s *store) Snapshot(ctx context.Context) (*dcs.Cluster, error) {
	c, err := s.c.Snapshot(ctx)
	if err != nil {
		s.n.sleep(s.n.w.budget(ctx))
		c, err = s.c.Snapshot(ctx)
	}
	return c, err
}

func (s *store) Read(ctx context.Context) (c *dcs.Cluster, err error) {
	err = s.request(ctx, effRead, func(ctx context.Context) (err error) { c, err = s.c.Read(ctx); return err })
	if err != nil {
		return nil, fmt.Errorf("read: %w", dcs.ErrUnavailable)
	}
	return c, nil
}

func (s *store) Changed() <-chan struct{}      { return s.c.Changed() }
func (s *store) SetTTL(ttl time.Duration)      { s.c.SetTTL(ttl) }
func (s *store) TTL() time.Duration            { return s.c.TTL() }
func (s *store) MemberLeased(name string) bool { return s.c.MemberLeased(name) }
func (s *store) Close() error                  { return s.c.Close() }

func (s *store) Claim(ctx context.Context, c dcs.Claim) (epoch int64, err error) {
	sent := s.n.clock()
	again := s.n.loop.Memory().Lease.Epoch != 0 // rule (d)
	err = s.request(ctx, effClaim, func(ctx context.Context) (err error) {
		last := s.n.w.ghost.newestBeat
		s.n.w.mutateClaim(&c, again)
		if epoch, err = s.c.Claim(ctx, c); err == nil {
			s.n.w.ghost.claimed(s.n, last)
			s.n.w.ghost.beat(s.n, epoch, s.since(sent), c.Status)
		}
		return err
	})
	if err != nil {
		if errors.Is(err, dcs.ErrConflict) {
			s.n.w.sometimes("a claim failed on its compares")
		}
		return 0, err
	}
	s.n.w.ghost.answered(s.n, epoch, sent)
	return epoch, nil
}

func (s *store) Renew(ctx context.Context, r dcs.Renewal) error {
	sent := s.n.clock()
	round := s.c.Round(r)
	err := s.request(ctx, effRenew, func(ctx context.Context) error {
		if s.n.w.Mutant == "M40" {
			round = s.c.Round(r)
		}
		err := round(ctx)
		if err == nil {
			s.n.w.ghost.renewed(s.n, r.Epoch)
			s.n.w.ghost.beat(s.n, r.Epoch, s.since(sent), r.Status)
		}
		return err
	})
	switch {
	case err == nil:
		s.n.w.ghost.answered(s.n, r.Epoch, sent)
	case errors.Is(err, dcs.ErrConflict):
		s.n.w.sometimes("a round failed on its compares")
	}
	return err
}

func (s *store) Release(ctx context.Context, r dcs.Release) error {
	if r.Status != nil && s.n.server.writable() {
		s.n.w.fail("S6", "%s marks epoch %d as released while its server accepts writes", s.n.name, r.Epoch)
	}
	return s.request(ctx, effRelease, func(ctx context.Context) error {
		err := s.c.Release(ctx, r)
		if err == nil && r.Status != nil {
			s.n.w.ghost.newestBeat = beat{}
		}
		return err
	})
}

// since is when the wait of everybody else begins, at the earliest.
func (s *store) since(sent ha.Instant) ha.Instant {
	if s.arriving {
		return s.n.clock()
	}
	return sent
}

func (s *store) KeepAlive(ctx context.Context) error {
	return s.request(ctx, effKeepAlive, func(ctx context.Context) error { return s.c.KeepAlive(ctx) })
}

func (s *store) PutMember(ctx context.Context, name string, value []byte) error {
	return s.request(ctx, effMember, func(ctx context.Context) error { return s.c.PutMember(ctx, name, value) })
}

func (s *store) PutMemberUnder(ctx context.Context, name string, value []byte, epoch int64) error {
	return s.request(ctx, effMember, func(ctx context.Context) error { return s.c.PutMemberUnder(ctx, name, value, epoch) })
}

func (s *store) Put(ctx context.Context, w dcs.Write) error {
	s.n.w.ghost.put(s.n, w)
	return s.request(ctx, effPut, func(ctx context.Context) error {
		err := s.c.Put(ctx, w)
		if err == nil && w.Key == dcs.KeyStatus && w.NoLeader {
			s.n.w.ghost.newestBeat = beat{}
		}
		if err == nil && w.Key == dcs.KeyRestore {
			s.n.w.ghost.orderEnds(s.n, w.Value)
		}
		return err
	})
}

func (s *store) DeleteInitialize(ctx context.Context, revision int64) error {
	return s.request(ctx, effInitialize, func(ctx context.Context) error { return s.c.DeleteInitialize(ctx, revision) })
}

func (s *store) Lock(ctx context.Context, key dcs.Key, value []byte) error {
	return s.request(ctx, effPut, func(ctx context.Context) error { return s.c.Lock(ctx, key, value) })
}

func (s *store) Unlock(ctx context.Context, key dcs.Key) error {
	return s.request(ctx, effPut, func(ctx context.Context) error { return s.c.Unlock(ctx, key) })
}

// budgetOf is L of safety B.1, computed anew and in integers (S7).
func budgetOf(ttl time.Duration) time.Duration {
	k, m := killOf(ttl), 300*time.Millisecond
	switch {
	case ttl >= 20*time.Second:
		m = time.Second
	case ttl >= 8*time.Second:
		m = 500 * time.Millisecond
	}
	l := ttl - k - m - ttl*2/1000
	return l - l%(100*time.Millisecond)
}

// killOf is K of safety B.1.
func killOf(ttl time.Duration) time.Duration {
	switch {
	case ttl >= 20*time.Second:
		return 2 * time.Second
	case ttl >= 8*time.Second:
		return 1200 * time.Millisecond
	}
	return 800 * time.Millisecond
}
