package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"

	"github.com/pgha/pgha/internal/etcdserver/etcdtest"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
)

const base = "/service/batman"

// three is a cluster of three members, each behind a proxy.
type three struct {
	*etcdtest.Cluster
	proxies  []*proxy
	urls     []string
	stopping sync.WaitGroup
}

func startThree(t *testing.T) *three {
	t.Helper()
	c := &three{Cluster: etcdtest.Start(t, etcdtest.Options{Size: 3})}
	t.Cleanup(c.stopping.Wait)
	for _, m := range c.Members {
		p := newProxy(t, m.Addr())
		c.proxies = append(c.proxies, p)
		c.urls = append(c.urls, p.url())
	}
	return c
}

// stopSoon stops a member while the test goes on; a clean stop of etcd waits
// for its watchers for seconds.
func (c *three) stopSoon(i int) {
	c.stopping.Add(1)
	go func() {
		defer c.stopping.Done()
		c.Members[i].Stop()
	}()
}

func takeLead(t *testing.T, s *etcd.Store) int64 {
	t.Helper()
	epoch, err := s.Claim(within(t, 20*time.Second), dcs.Claim{Name: "a", Status: []byte(`{"optime":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

// renew makes rounds of a leader, each within budget, and returns the longest.
func renew(t *testing.T, s *etcd.Store, epoch int64, rounds int, budget time.Duration) time.Duration {
	t.Helper()
	var longest time.Duration
	for i := range rounds {
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), budget)
		err := s.Renew(ctx, dcs.Renewal{Name: "a", Epoch: epoch, Status: []byte(fmt.Sprintf(`{"optime":%d}`, i+1))})
		cancel()
		took := time.Since(start)
		longest = max(longest, took)
		if err != nil {
			t.Fatalf("round %d failed after %v: %v", i, took, err)
		}
		step()
	}
	return longest
}

// A lost member must not lose the leader, whichever it is and however it goes.
func TestRenewSurvivesLostMember(t *testing.T) {
	losses := map[string]func(*three, int){
		"stopped":    func(c *three, i int) { c.proxies[i].close(); c.stopSoon(i) },
		"black hole": func(c *three, i int) { c.proxies[i].freeze() },
		"mute":       func(c *three, i int) { c.proxies[i].pass(true, false) },
	}
	for name, lose := range losses {
		for _, budget := range []time.Duration{time.Second, 10 * time.Second} {
			t.Run(fmt.Sprintf("%s/%v", name, budget), func(t *testing.T) {
				t.Parallel()
				c := startThree(t)
				s := open(t, base, func(cfg *etcd.Config) { cfg.TTL = 10 * time.Second; cfg.RetryTimeout = budget }, c.urls...)
				epoch := takeLead(t, s)
				renew(t, s, epoch, 5, budget)
				lose(c, 0) // the preferred one: nothing made the store leave it
				if longest := renew(t, s, epoch, 10, budget); longest > 1500*time.Millisecond {
					t.Errorf("longest round %v", longest)
				}
				if longest := renew(t, s, epoch, 5, budget); longest > 500*time.Millisecond {
					t.Errorf("the lost member still costs %v", longest)
				}
				if _, err := s.Snapshot(within(t, 20*time.Second)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The first endpoint never answers at all.
func TestFirstEndpointBlackHoled(t *testing.T) {
	t.Parallel()
	c := startThree(t)
	c.proxies[0].freeze()
	s := open(t, base, func(cfg *etcd.Config) { cfg.RetryTimeout = time.Second }, c.urls...)
	if err := s.KeepAlive(within(t, 3*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Snapshot(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// Nobody calls the store; only the watch can find out.
func TestSilentWatchIsNoticed(t *testing.T) {
	t.Parallel()
	c := startThree(t)
	s := open(t, base, func(cfg *etcd.Config) { cfg.RetryTimeout = time.Second }, c.urls...)
	if _, err := s.Snapshot(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	c.proxies[0].freeze()
	rawPut(t, raw(t, c.Members[1]), base+"/config", `{"ttl":5}`)
	seen := within(t, 8*time.Second) // before the ping of an idle connection
	for {
		got, err := s.Snapshot(seen)
		if err != nil {
			t.Fatal(err)
		}
		if got.Config != nil {
			break
		}
		select {
		case <-s.Changed():
		case <-seen.Done():
			t.Fatal("the change was never seen")
		}
	}
	for _, p := range c.proxies {
		p.freeze()
	}
	gone := within(t, 20*time.Second)
	for {
		ctx, cancel := context.WithTimeout(gone, 50*time.Millisecond)
		_, err := s.Snapshot(ctx)
		cancel()
		if errors.Is(err, dcs.ErrUnavailable) {
			break
		}
		if gone.Err() != nil {
			t.Fatal("a view that nothing feeds is still served")
		}
		step()
	}
	for _, p := range c.proxies {
		p.thaw()
	}
	if _, err := s.Snapshot(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// The answer is lost, the write is not.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	c := startThree(t)
	conn := raw(t, c.Members[1])
	version := func(key string) int64 {
		r, err := pb.NewKVClient(conn).Range(within(t, 20*time.Second), &pb.RangeRequest{Key: []byte(base + "/" + key)})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Kvs) == 0 {
			return 0
		}
		return r.Kvs[0].Version
	}
	mute := func(t *testing.T) *etcd.Store {
		s := open(t, base, func(cfg *etcd.Config) { cfg.TTL = 30 * time.Second }, c.urls[0], c.urls[1])
		if err := s.KeepAlive(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
		c.proxies[0].pass(true, false)
		return s
	}

	// A guarded or bare write is not repeated, and says so.
	s := mute(t)
	err := s.Put(within(t, 20*time.Second), dcs.Write{Key: dcs.KeyFailover, Value: []byte(`{"leader":"a"}`)})
	if !errors.Is(err, dcs.ErrUnknown) || version("failover") != 1 {
		t.Fatalf("put: %v, written %d times", err, version("failover"))
	}
	c.proxies[0].thaw()

	// A claim is recognised by its lease.
	s = mute(t)
	epoch, err := s.Claim(within(t, 20*time.Second), dcs.Claim{Name: "a", Status: []byte(`{"optime":1}`)})
	if err != nil || version("leader") != 1 {
		t.Fatalf("claim: %v, written %d times", err, version("leader"))
	}
	c.proxies[0].thaw()
	if err := s.Renew(within(t, 20*time.Second), dcs.Renewal{Name: "a", Epoch: epoch}); err != nil {
		t.Fatalf("renew of the recognised claim: %v", err)
	}
	got, err := s.Snapshot(within(t, 20*time.Second))
	if err != nil || got.Leader == nil || got.Leader.Epoch != epoch {
		t.Fatalf("snapshot %+v, %v", got, err)
	}
}

// With all endpoints gone the error says so, within the context.
func TestAllEndpointsGone(t *testing.T) {
	t.Parallel()
	s := open(t, base, nil, "http://127.0.0.1:1", "http://127.0.0.1:2")
	start := time.Now()
	err := s.KeepAlive(within(t, 300*time.Millisecond))
	if !errors.Is(err, dcs.ErrUnavailable) || time.Since(start) > time.Second {
		t.Fatalf("%v after %v", err, time.Since(start))
	}
	if _, err := s.Snapshot(within(t, 100*time.Millisecond)); !errors.Is(err, dcs.ErrUnavailable) {
		t.Fatal(err)
	}
}

func TestRestartOfEtcd(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{})
	s := open(t, base, nil, c.URLs()...)
	if err := s.Put(within(t, 20*time.Second), dcs.Write{Key: dcs.KeyConfig, Value: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Snapshot(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Changed(): // by the first read
	default:
	}
	c.Members[0].Stop()
	select {
	case <-s.Changed():
	case <-within(t, 20*time.Second).Done():
		t.Fatal("loss of the watch did not wake")
	}
	if _, err := s.Snapshot(within(t, 200*time.Millisecond)); !errors.Is(err, dcs.ErrUnavailable) {
		t.Fatalf("snapshot without etcd: %v", err)
	}
	c.Members[0].Restart(t)
	got, err := s.Snapshot(within(t, 20*time.Second))
	if err != nil || got.Config == nil {
		t.Fatalf("after the restart: %+v, %v", got, err)
	}
	rawPut(t, raw(t, c.Members[0]), base+"/config", `{"ttl":9}`)
	ctx := within(t, 20*time.Second)
	for string(got.Config.Raw) == "{}" {
		select {
		case <-s.Changed():
		case <-ctx.Done():
			t.Fatal("the new watch brings nothing")
		}
		if got, err = s.Snapshot(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// One configured endpoint is enough to find the others.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	c := startThree(t)
	s := open(t, base, func(cfg *etcd.Config) { cfg.UseProxies = false; cfg.TTL = 10 * time.Second }, c.URLs()[0])
	ctx := within(t, 20*time.Second)
	for len(s.Endpoints()) < 3 {
		if ctx.Err() != nil {
			t.Fatalf("known endpoints: %v", s.Endpoints())
		}
		step()
	}
	epoch := takeLead(t, s)
	c.stopSoon(0)
	renew(t, s, epoch, 50, 5*time.Second)
}

func TestCloseLeavesNothing(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	// A first store makes the server start what it starts for its first client.
	first := open(t, base, nil, c.URLs()...)
	takeLead(t, first)
	if err := first.Release(within(t, 20*time.Second), dcs.Release{Epoch: 0}); !errors.Is(err, dcs.ErrConflict) {
		t.Fatal(err)
	}
	first.Close()
	before := goleak.IgnoreCurrent()
	s, err := etcd.Open(context.Background(), etcd.Config{Endpoints: c.URLs(), Base: base})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.KeepAlive(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Snapshot(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
}

// Closing waits for no answer.
func TestCloseDoesNotHang(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{})
	p := newProxy(t, c.Members[0].Addr())
	s := open(t, base, nil, p.url())
	if _, err := s.Snapshot(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	p.freeze()
	start := time.Now()
	if err := s.Close(); err != nil || time.Since(start) > time.Second {
		t.Errorf("close: %v after %v", err, time.Since(start))
	}
}
