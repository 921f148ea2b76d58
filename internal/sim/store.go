package sim

import (
	"context"
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

// request takes the time a request takes, and loses it or its answer.
func (s *store) request(ctx context.Context, do func(context.Context) error) error {
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
			s.late(between(n.w.net, 0, 2*limit), do)
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
	err = s.request(ctx, func(ctx context.Context) (err error) { c, err = s.c.Read(ctx); return err })
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
	err = s.request(ctx, func(ctx context.Context) (err error) {
		if epoch, err = s.c.Claim(ctx, c); err == nil {
			s.n.w.ghost.beat(s.n, epoch, s.since(sent), c.Status)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	s.n.w.ghost.answered(s.n, epoch, sent)
	return epoch, nil
}

func (s *store) Renew(ctx context.Context, r dcs.Renewal) error {
	sent := s.n.clock()
	err := s.request(ctx, func(ctx context.Context) error {
		err := s.c.Renew(ctx, r)
		if err == nil {
			s.n.w.ghost.beat(s.n, r.Epoch, s.since(sent), r.Status)
		}
		return err
	})
	if err == nil {
		s.n.w.ghost.answered(s.n, r.Epoch, sent)
	}
	return err
}

func (s *store) Release(ctx context.Context, r dcs.Release) error {
	if r.Status != nil && s.n.server.writable() {
		s.n.w.fail("S6", "%s marks epoch %d as released while its server accepts writes", s.n.name, r.Epoch)
	}
	return s.request(ctx, func(ctx context.Context) error { return s.c.Release(ctx, r) })
}

// since is when the wait of everybody else begins, at the earliest.
func (s *store) since(sent ha.Instant) ha.Instant {
	if s.arriving {
		return s.n.clock()
	}
	return sent
}

func (s *store) KeepAlive(ctx context.Context) error {
	return s.request(ctx, func(ctx context.Context) error { return s.c.KeepAlive(ctx) })
}

func (s *store) PutMember(ctx context.Context, name string, value []byte) error {
	return s.request(ctx, func(ctx context.Context) error { return s.c.PutMember(ctx, name, value) })
}

func (s *store) Put(ctx context.Context, w dcs.Write) error {
	s.n.w.ghost.put(s.n, w)
	return s.request(ctx, func(ctx context.Context) error {
		err := s.c.Put(ctx, w)
		if err == nil && w.Key == dcs.KeyRestore {
			s.n.w.ghost.orderEnds(s.n, w.Value)
		}
		return err
	})
}

func (s *store) DeleteInitialize(ctx context.Context, revision int64) error {
	return s.request(ctx, func(ctx context.Context) error { return s.c.DeleteInitialize(ctx, revision) })
}

func (s *store) Lock(ctx context.Context, key dcs.Key, value []byte) error {
	return s.request(ctx, func(ctx context.Context) error { return s.c.Lock(ctx, key, value) })
}

func (s *store) Unlock(ctx context.Context, key dcs.Key) error {
	return s.request(ctx, func(ctx context.Context) error { return s.c.Unlock(ctx, key) })
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

// leash models the process that owns postgres and the deadline. Its record
// survives the agent, not the host.
type leash struct {
	n         *node
	armed     int64
	deadline  ha.Instant
	highest   int64
	suspended bool
	timer     int // number of the timer that counts
	late      int64
}

func (l *leash) Status() ha.Leash {
	return ha.Leash{Attached: true, Armed: l.armed, Deadline: l.deadline, Highest: l.highest, Suspended: l.suspended}
}

func (l *leash) Arm(_ context.Context, epoch int64, deadline ha.Instant) error {
	n := l.n
	n.sleep(between(n.w.net, ms/2, 5*ms))
	again := epoch == l.armed && l.armed != 0
	switch {
	case epoch < l.highest || epoch == l.highest && !again:
		return fmt.Errorf("arm leash: epoch %d is not above %d", epoch, l.highest)
	case deadline <= n.clock():
		return fmt.Errorf("arm leash: the deadline has passed")
	}
	n.w.ghost.arm(n, epoch, deadline)
	l.armed, l.highest, l.deadline, l.suspended = epoch, epoch, deadline, false
	n.server.open()
	l.set()
	return nil
}

func (l *leash) Extend(epoch int64, deadline ha.Instant) {
	if epoch != l.armed || l.armed == 0 || deadline <= l.deadline {
		return
	}
	l.n.w.ghost.arm(l.n, epoch, deadline)
	l.deadline = deadline
	l.set()
}

func (l *leash) Disarm(_ context.Context, epoch int64) error {
	n := l.n
	n.sleep(between(n.w.net, ms/2, 5*ms))
	if s := &n.server; s.proc != ha.ProcessDown && !(s.signal && s.recovery) {
		return fmt.Errorf("disarm leash: the server may be writable")
	}
	if epoch == l.armed {
		l.armed, l.deadline = 0, 0
		l.timer++
	}
	return nil
}

func (l *leash) Suspend(context.Context) error {
	l.suspended = true
	l.timer++
	return nil
}

// set puts the timer: it fires at the deadline, as late as a busy host makes it.
func (l *leash) set() {
	l.timer++
	timer, n := l.timer, l.n
	n.w.at(n.truly(l.deadline)+ms/10+between(n.w.srvr, 0, 50*ms)+l.late, func() {
		if l.timer == timer && l.armed != 0 {
			l.fence()
		}
	})
}

// fence latches the epoch and kills every process before K is over.
func (l *leash) fence() {
	n := l.n
	n.w.trace(n, "LEASH: deadline of epoch %d passed, killing", l.armed)
	l.armed, l.deadline = 0, 0
	l.timer++
	if n.server.proc == ha.ProcessDown {
		n.wake()
		return
	}
	gen := n.server.gen
	kill := int64(killOf(time.Duration(n.settings.TTL)*time.Second)) - 100*ms
	if l.late != 0 {
		kill += l.late
	}
	n.w.after(between(n.w.srvr, 20*ms, min(kill, 700*ms)), func() {
		if n.server.gen == gen {
			n.server.crash("killed by the leash")
			n.server.signal = true
		}
	})
}
