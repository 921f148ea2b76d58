package dcstest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
)

func testSnapshot(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	snapshot(t, b)
	want(t, a.Put(ctxFor(t), dcs.Write{Key: dcs.KeyConfig, Value: []byte(`{"ttl":30}`)}), nil)
	c := snapshot(t, a)
	if c.Config == nil || string(c.Config.Raw) != `{"ttl":30}` || c.Config.ModRevision == 0 {
		t.Fatalf("own write is not in the snapshot: %+v", c.Config)
	}
	eventually(t, f, "other's write seen", func() bool { return snapshot(t, b).Config != nil })
	if got := snapshot(t, b); got.Config.ModRevision != c.Config.ModRevision || got.Revision < c.Config.ModRevision || got.ID == 0 {
		t.Fatalf("b sees config at %d, complete to %d, cluster %d", got.Config.ModRevision, got.Revision, got.ID)
	}
	f.Delete(t, dcs.KeyConfig)
	eventually(t, f, "deletion seen", func() bool { return snapshot(t, a).Config == nil && snapshot(t, b).Config == nil })
	f.Put(t, "unknown/key/of/others", "x")
	f.Put(t, dcs.KeySync, "not JSON")
	eventually(t, f, "bad value seen", func() bool { return snapshot(t, a).Invalid[dcs.KeySync] != "" })
	if c := snapshot(t, a); c.Sync != nil || c.ModRevision(dcs.KeySync) == 0 {
		t.Fatalf("bad /sync: %+v at %d", c.Sync, c.ModRevision(dcs.KeySync))
	}
}

func testChanged(t *testing.T, f Fixture) {
	a := f.Open(t)
	snapshot(t, a)
	epoch := claim(t, a, "a")
	quiet(t, f, a)
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 1)}), nil)
	want(t, a.PutMember(ctxFor(t), "a", []byte(`{"state":"running"}`)), nil)
	want(t, a.Put(ctxFor(t), dcs.Write{Key: dcs.KeyHistory, Value: []byte(`[]`), Epoch: epoch}), nil)
	want(t, a.Release(ctxFor(t), dcs.Release{Epoch: epoch, Status: status(1, 2)}), nil)
	own := snapshot(t, a).ModRevision(dcs.KeyStatus)
	eventually(t, f, "own writes watched", func() bool { return snapshot(t, a).Revision >= own })
	if !drained(a) {
		t.Fatal("own writes woke their writer")
	}
	f.Put(t, dcs.KeyFailover, `{"leader":"a"}`)
	eventually(t, f, "wake-up by another's write", func() bool { return !drained(a) })
	if snapshot(t, a).Failover.Leader != "a" {
		t.Fatal("woken before the change was in the snapshot")
	}
}

func testRead(t *testing.T, f Fixture) {
	a := f.Open(t)
	f.Put(t, dcs.KeyInitialize, "7710903353966102417")
	c := read(t, a)
	if c.Initialize == nil || c.Initialize.SystemID != "7710903353966102417" || c.Revision < c.Initialize.ModRevision || c.ID == 0 {
		t.Fatalf("read %+v", c)
	}
}

func testClaimGuards(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	f.Put(t, dcs.KeyStatus, `{"optime":1}`)
	f.Put(t, dcs.KeySync, `{"leader":null}`)
	c := read(t, a)
	good := dcs.Claim{
		Name: "a", StatusRevision: c.ModRevision(dcs.KeyStatus), SyncRevision: c.ModRevision(dcs.KeySync), Status: status(1, 0),
	}
	for name, change := range map[string]func(*dcs.Claim){
		"status changed":         func(c *dcs.Claim) { c.StatusRevision-- },
		"sync changed":           func(c *dcs.Claim) { c.SyncRevision-- },
		"status expected absent": func(c *dcs.Claim) { c.StatusRevision = 0 },
		"sync expected absent":   func(c *dcs.Claim) { c.SyncRevision = 0 },
	} {
		bad := good
		change(&bad)
		_, err := a.Claim(ctxFor(t), bad)
		if !errors.Is(err, dcs.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if read(t, a).Leader != nil {
		t.Fatal("a failed claim wrote the leader key")
	}
	epoch, err := a.Claim(ctxFor(t), good)
	want(t, err, nil)
	c = snapshot(t, a)
	if c.Leader == nil || c.Leader.Name != "a" || c.Leader.Epoch != epoch || c.Status.ModRevision != epoch || c.Leader.LeaseID == 0 {
		t.Fatalf("epoch %d, leader %+v, status %+v", epoch, c.Leader, c.Status)
	}
	if truth := read(t, b); truth.Leader.Epoch != epoch || truth.Status.Beat == nil {
		t.Fatalf("stored: leader %+v, status %+v", truth.Leader, truth.Status)
	}
	now := read(t, b)
	_, err = b.Claim(ctxFor(t), dcs.Claim{Name: "b", StatusRevision: now.ModRevision(dcs.KeyStatus), SyncRevision: now.ModRevision(dcs.KeySync)})
	want(t, err, dcs.ErrConflict)
}

func testConcurrentClaims(t *testing.T, f Fixture) {
	names := []string{"a", "b", "c", "d", "e"}
	epochs := make([]int64, len(names))
	stores := make([]dcs.Store, len(names))
	for i := range names {
		stores[i] = f.Open(t)
	}
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Add(1)
		go func() {
			defer wg.Done()
			epoch, err := stores[i].Claim(ctxFor(t), dcs.Claim{Name: name, Status: status(1, 0)})
			if err != nil && !errors.Is(err, dcs.ErrConflict) {
				t.Errorf("claim of %s: %v", name, err)
			}
			epochs[i] = epoch
		}()
	}
	wg.Wait()
	c, winners := read(t, stores[0]), 0
	for i, name := range names {
		if epochs[i] == 0 {
			continue
		}
		winners++
		if c.LeaderName() != name || c.Leader.Epoch != epochs[i] {
			t.Errorf("%s thinks it leads with epoch %d, stored is %+v", name, epochs[i], c.Leader)
		}
	}
	if winners != 1 {
		t.Fatalf("%d winners", winners)
	}
}

func testClaimAfterLeaseLost(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	want(t, a.PutMember(ctxFor(t), "a", []byte(`{}`)), nil)
	eventually(t, f, "member expired", func() bool { return read(t, b).Member("a") == nil })
	epoch := claim(t, a, "a")
	if c := read(t, b); c.Leader == nil || c.Leader.Epoch != epoch {
		t.Fatalf("leader %+v", c.Leader)
	}
}

func testRenewGuards(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: 0}), dcs.ErrConflict)
	epoch := claim(t, a, "a")
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 1)}), nil)
	if s := snapshot(t, a).Status; s.Beat.Beat != 1 || s.ModRevision <= epoch {
		t.Fatalf("status after renewal: %+v", s)
	}
	before := read(t, a)
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch}), nil)
	if after := read(t, a); after.Status.ModRevision != before.Status.ModRevision || *after.Leader != *before.Leader {
		t.Errorf("renewal without status wrote: %+v %+v", after.Status, after.Leader)
	}
	want(t, b.Renew(ctxFor(t), dcs.Renewal{Name: "b", Epoch: epoch - 1, Status: status(1, 9)}), dcs.ErrConflict)
	if s := read(t, a); s.Status.Beat.Beat != 1 || s.LeaderName() != "a" {
		t.Fatalf("refused renewal changed %+v %+v", s.Leader, s.Status)
	}
	f.Delete(t, dcs.KeyLeader)
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 2)}), dcs.ErrConflict)
	f.Put(t, dcs.KeyLeader, "a") // same name, another epoch, no lease of ours
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 3)}), dcs.ErrConflict)
	if s := read(t, a); s.Status.Beat.Beat != 1 {
		t.Fatalf("fenced leader wrote status %+v", s.Status)
	}
}

// testRenewOverwritten: garbage in /leader takes the key off its lease, and makes
// nobody lose a leadership: the next round puts it right.
func testRenewOverwritten(t *testing.T, f Fixture) {
	a := f.Open(t)
	epoch := claim(t, a, "a")
	for _, junk := range []string{"x", "\x00", ""} {
		f.Put(t, dcs.KeyLeader, junk)
		want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 1)}), nil)
		if l := read(t, a).Leader; l == nil || l.Name != "a" || l.Epoch != epoch || l.LeaseID == 0 {
			t.Fatalf("after %q: %+v", junk, l)
		}
	}
	f.Delete(t, dcs.KeyLeader)
	f.Put(t, dcs.KeyLeader, "b")
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch}), dcs.ErrConflict)
}

func testRenewAfterRestart(t *testing.T, f Fixture) {
	a := f.Open(t)
	epoch := claim(t, a, "a")
	old := read(t, a).Leader.LeaseID
	again := f.Open(t) // the agent was restarted
	want(t, again.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 1)}), nil)
	c := read(t, again)
	if c.Leader.Epoch != epoch || c.Leader.LeaseID == old || c.Leader.LeaseID == 0 || c.Status.Beat.Beat != 1 {
		t.Fatalf("leader %+v (lease was %d), status %+v", c.Leader, old, c.Status)
	}
	if mine := snapshot(t, again).Leader; mine.Epoch != epoch || mine.LeaseID != c.Leader.LeaseID {
		t.Fatalf("own view: %+v", mine)
	}
	// The first process still has its lease, but not the key.
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 2)}), dcs.ErrConflict)
}

func testRenewNewTTL(t *testing.T, f Fixture) {
	a := f.Open(t)
	epoch := claim(t, a, "a")
	old, ttl := read(t, a).Leader.LeaseID, a.TTL()
	a.SetTTL(4 * ttl)
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 1)}), nil)
	if c := read(t, a); c.Leader.Epoch != epoch || c.Leader.LeaseID == old || a.TTL() != 4*ttl {
		t.Fatalf("leader %+v (lease was %d), TTL %v", c.Leader, old, a.TTL())
	}
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch}), nil)
}

func testRenewLeaseLost(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	epoch := claim(t, a, "a")
	if a.TTL() < f.TTL {
		t.Fatalf("granted TTL %v, asked %v", a.TTL(), f.TTL)
	}
	eventually(t, f, "leader key expired", func() bool { return read(t, b).Leader == nil })
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 1)}), dcs.ErrLeaseLost)
	if a.TTL() != 0 {
		t.Fatalf("lost lease has TTL %v", a.TTL())
	}
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 1)}), dcs.ErrConflict)
	if second := claim(t, a, "a"); second <= epoch {
		t.Fatalf("epoch %d after %d", second, epoch)
	}
}

func testExpiry(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	claim(t, a, "a")
	want(t, a.PutMember(ctxFor(t), "a", []byte(`{"state":"running"}`)), nil)
	eventually(t, f, "b sees both", func() bool { c := snapshot(t, b); return c.LeaderName() == "a" && c.Member("a") != nil })
	drained(b)
	eventually(t, f, "both expired", func() bool { c := snapshot(t, b); return c.Leader == nil && c.Member("a") == nil })
	if drained(b) {
		t.Fatal("expiry did not wake")
	}
	if c := read(t, b); c.Status == nil {
		t.Fatal("status went with the lease")
	}
}

func testKeepAlive(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	want(t, a.KeepAlive(ctxFor(t)), nil)
	if a.TTL() == 0 {
		t.Fatal("no TTL after KeepAlive")
	}
	want(t, a.PutMember(ctxFor(t), "a", []byte(`{}`)), nil)
	want(t, b.PutMember(ctxFor(t), "b", []byte(`{}`)), nil)
	// b says nothing any more; by the time it is gone, a would be gone too.
	eventually(t, f, "b expired", func() bool {
		want(t, a.KeepAlive(ctxFor(t)), nil)
		return read(t, a).Member("b") == nil
	})
	if read(t, a).Member("a") == nil {
		t.Fatal("keepalive did not keep the member key")
	}
}

func testRelease(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	epoch := claim(t, a, "a")
	want(t, b.Release(ctxFor(t), dcs.Release{Epoch: epoch - 1, Status: status(1, 7)}), dcs.ErrConflict)
	want(t, b.Release(ctxFor(t), dcs.Release{}), dcs.ErrConflict)
	if c := read(t, b); c.LeaderName() != "a" || c.Status.Beat.Beat != 0 {
		t.Fatalf("refused release changed %+v %+v", c.Leader, c.Status)
	}
	want(t, a.Release(ctxFor(t), dcs.Release{Epoch: epoch, Status: status(1, 8)}), nil)
	c := snapshot(t, a)
	if c.Leader != nil || c.Status.Beat.Beat != 8 {
		t.Fatalf("after release: %+v %+v", c.Leader, c.Status)
	}
	if truth := read(t, b); truth.Leader != nil || truth.Status.ModRevision != c.Status.ModRevision {
		t.Fatalf("stored after release: %+v %+v", truth.Leader, truth.Status)
	}
	want(t, a.Release(ctxFor(t), dcs.Release{Epoch: epoch}), dcs.ErrConflict)
	want(t, a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 9)}), dcs.ErrConflict)
	second := claim(t, b, "b")
	want(t, b.Release(ctxFor(t), dcs.Release{Epoch: second}), nil)
	if c := read(t, b); c.Leader != nil || c.Status.Beat.Beat != 0 {
		t.Fatalf("release without status: %+v %+v", c.Leader, c.Status)
	}
}

func testPutGuards(t *testing.T, f Fixture) {
	a := f.Open(t)
	put := func(value string, at *int64) error {
		return a.Put(ctxFor(t), dcs.Write{Key: dcs.KeyInitialize, Value: []byte(value), Revision: at})
	}
	want(t, put("", rev(0)), nil)
	want(t, put("1234567890", rev(0)), dcs.ErrConflict)
	at := snapshot(t, a).Initialize.ModRevision
	want(t, put("1234567890", rev(at-1)), dcs.ErrConflict)
	want(t, put("1234567890", rev(at)), nil)
	want(t, put("1234567891", rev(at)), dcs.ErrConflict)
	if got := snapshot(t, a).Initialize; got.SystemID != "1234567890" || got.ModRevision <= at {
		t.Fatalf("initialize %+v", got)
	}
	want(t, put("1234567892", nil), nil)
	if got := read(t, a).Initialize.SystemID; got != "1234567892" {
		t.Fatalf("initialize %q", got)
	}
}

func testPutEpoch(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	history := dcs.Write{Key: dcs.KeyHistory, Value: []byte("[]")}
	history.Epoch = 5
	want(t, a.Put(ctxFor(t), history), dcs.ErrConflict)
	history.Epoch = claim(t, a, "a")
	want(t, a.Put(ctxFor(t), history), nil)
	f.Delete(t, dcs.KeyLeader)
	second := claim(t, b, "b")
	want(t, a.Put(ctxFor(t), history), dcs.ErrConflict)
	sync := dcs.Write{Key: dcs.KeySync, Value: []byte(`{"leader":"b"}`), Epoch: second, Revision: rev(0)}
	want(t, b.Put(ctxFor(t), sync), nil)
	want(t, b.Put(ctxFor(t), sync), dcs.ErrConflict)
}

func testMemberLease(t *testing.T, f Fixture) {
	a := f.Open(t)
	if a.MemberLeased("a") || a.TTL() != 0 {
		t.Fatal("leased before the first write")
	}
	want(t, a.PutMember(ctxFor(t), "a", []byte(`{"state":"starting"}`)), nil)
	m := snapshot(t, a).Member("a")
	if !a.MemberLeased("a") || a.MemberLeased("b") || m == nil || m.LeaseID == 0 || m.State != "starting" {
		t.Fatalf("after the write: leased %v, %+v", a.MemberLeased("a"), m)
	}
	a.SetTTL(4 * a.TTL())
	want(t, a.KeepAlive(ctxFor(t)), nil)
	if a.MemberLeased("a") {
		t.Fatal("key hangs on the old lease, and MemberLeased denies it")
	}
	want(t, a.PutMember(ctxFor(t), "a", []byte(`{}`)), nil)
	if !a.MemberLeased("a") || read(t, a).Member("a").LeaseID == m.LeaseID {
		t.Fatal("key did not move to the new lease")
	}
}

// A member key written under an epoch is the proof that this leadership stands:
// one that ended never comes back, whoever holds the key now.
func testMemberUnder(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	want(t, b.PutMemberUnder(ctxFor(t), "b", []byte(`{"state":"running"}`), 0), dcs.ErrConflict)
	epoch := claim(t, a, "a")
	want(t, b.PutMemberUnder(ctxFor(t), "b", []byte(`{"state":"running"}`), epoch), nil)
	if m := read(t, a).Member("b"); m == nil || m.State != "running" {
		t.Fatalf("member %+v", m)
	}
	if !b.MemberLeased("b") {
		t.Fatal("the key hangs on no lease")
	}
	want(t, b.PutMemberUnder(ctxFor(t), "b", []byte(`{"state":"stopped"}`), epoch+1), dcs.ErrConflict)
	want(t, a.Release(ctxFor(t), dcs.Release{Epoch: epoch, Status: status(1, 2)}), nil)
	want(t, b.PutMemberUnder(ctxFor(t), "b", []byte(`{"state":"stopped"}`), epoch), dcs.ErrConflict)
	claim(t, a, "a")
	want(t, b.PutMemberUnder(ctxFor(t), "b", []byte(`{"state":"stopped"}`), epoch), dcs.ErrConflict)
	if m := read(t, a).Member("b"); m == nil || m.State != "running" {
		t.Fatalf("a refused write changed the key: %+v", m)
	}
}

func testDeleteInitialize(t *testing.T, f Fixture) {
	a := f.Open(t)
	f.Put(t, dcs.KeyInitialize, "")
	at := read(t, a).Initialize.ModRevision
	want(t, a.DeleteInitialize(ctxFor(t), 0), dcs.ErrConflict)
	want(t, a.DeleteInitialize(ctxFor(t), at-1), dcs.ErrConflict)
	want(t, a.DeleteInitialize(ctxFor(t), at), nil)
	if snapshot(t, a).Initialize != nil || read(t, a).Initialize != nil {
		t.Fatal("initialize is still there")
	}
	want(t, a.DeleteInitialize(ctxFor(t), at), dcs.ErrConflict)
}

func testContextOver(t *testing.T, f Fixture) {
	a := f.Open(t)
	epoch := claim(t, a, "a")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	want(t, a.Renew(ctx, dcs.Renewal{Name: "a", Epoch: epoch, Status: status(1, 1)}), dcs.ErrUnavailable)
	want(t, a.Put(ctx, dcs.Write{Key: dcs.KeyConfig, Value: []byte("{}")}), dcs.ErrUnavailable)
	_, err := a.Read(ctx)
	want(t, err, dcs.ErrUnavailable)
	if c := read(t, a); c.Config != nil || c.Status.Beat.Beat != 0 {
		t.Fatal("a call with a finished context wrote something")
	}
}

func testClosed(t *testing.T, f Fixture) {
	a := f.Open(t)
	claim(t, a, "a")
	want(t, a.Close(), nil)
	want(t, a.KeepAlive(ctxFor(t)), dcs.ErrUnavailable)
	_, err := a.Read(ctxFor(t))
	want(t, err, dcs.ErrUnavailable)
	want(t, a.Close(), nil)
	if c := read(t, f.Open(t)); c.LeaderName() != "a" {
		t.Fatal("closing revoked the lease")
	}
}
