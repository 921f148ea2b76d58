package dcstest

import (
	"errors"
	"sync"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
)

func lockValue(member, kind string) []byte {
	return (&dcs.BackupLock{Member: member, Type: kind}).Encode()
}

func lock(t testing.TB, s dcs.Store, member, kind string) error {
	t.Helper()
	return s.Lock(ctxFor(t), dcs.KeyBackupLock, lockValue(member, kind))
}

func unlock(t testing.TB, s dcs.Store) error {
	t.Helper()
	return s.Unlock(ctxFor(t), dcs.KeyBackupLock)
}

// locked checks that the snapshot of s and the truth show the same lock, and
// returns it.
func locked(t testing.TB, s dcs.Store, member, kind string) *dcs.BackupLock {
	t.Helper()
	mine, truth := snapshot(t, s).BackupLock, read(t, s).BackupLock
	if mine == nil || truth == nil || *mine != *truth || mine.Member != member || mine.Type != kind || mine.LeaseID == 0 || mine.ModRevision == 0 {
		t.Fatalf("want a lock of %s for %s, snapshot has %+v, stored is %+v", member, kind, mine, truth)
	}
	return mine
}

func testLock(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	want(t, unlock(t, a), nil)
	want(t, lock(t, a, "a", "full"), nil)
	first := locked(t, a, "a", "full")
	want(t, lock(t, b, "b", "diff"), dcs.ErrConflict)
	want(t, unlock(t, b), nil)
	locked(t, b, "a", "full")

	want(t, lock(t, a, "a", "incr"), nil) // the holder rewrites
	if again := locked(t, a, "a", "incr"); again.LeaseID != first.LeaseID || again.ModRevision <= first.ModRevision {
		t.Fatalf("rewritten as %+v, was %+v", again, first)
	}
	want(t, lock(t, b, "b", "diff"), dcs.ErrConflict)

	want(t, unlock(t, a), nil)
	if snapshot(t, a).BackupLock != nil || read(t, a).BackupLock != nil {
		t.Fatal("still locked")
	}
	want(t, unlock(t, a), nil)
	want(t, lock(t, b, "b", "diff"), nil)
	want(t, unlock(t, a), nil) // another's
	want(t, lock(t, a, "a", "full"), dcs.ErrConflict)
	locked(t, b, "b", "diff")
	want(t, unlock(t, b), nil)
	want(t, lock(t, a, "a", "full"), nil)
}

func testLockRace(t *testing.T, f Fixture) {
	names := []string{"a", "b", "c", "d", "e"}
	stores := make([]dcs.Store, len(names))
	for i := range names {
		stores[i] = f.Open(t)
	}
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = stores[i].Lock(ctxFor(t), dcs.KeyBackupLock, lockValue(name, "full"))
		}()
	}
	wg.Wait()
	holder, winners := read(t, stores[0]).BackupLock, 0
	for i, name := range names {
		switch {
		case errs[i] == nil && holder != nil && holder.Member == name:
			winners++
		case !errors.Is(errs[i], dcs.ErrConflict):
			t.Errorf("lock of %s: %v, stored is %+v", name, errs[i], holder)
		}
	}
	if winners != 1 {
		t.Fatalf("%d winners", winners)
	}
}

func testLockExpiry(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	want(t, lock(t, a, "a", "full"), nil)
	eventually(t, f, "b sees the lock", func() bool { return snapshot(t, b).BackupLock != nil })
	eventually(t, f, "lock expired", func() bool { return snapshot(t, b).BackupLock == nil })
	want(t, lock(t, a, "a", "full"), dcs.ErrConflict) // lost, though nobody has it
	want(t, lock(t, b, "b", "diff"), nil)
	want(t, unlock(t, a), nil)
	want(t, a.KeepAlive(ctxFor(t)), dcs.ErrLeaseLost)
	want(t, lock(t, a, "a", "full"), dcs.ErrConflict)
	locked(t, b, "b", "diff")
	want(t, unlock(t, b), nil)
	want(t, lock(t, a, "a", "full"), nil) // on a new lease
	locked(t, a, "a", "full")
}

func testLockMoves(t *testing.T, f Fixture) {
	a := f.Open(t)
	want(t, lock(t, a, "a", "full"), nil)
	lockMoves(t, f, a, func() error { return a.KeepAlive(ctxFor(t)) })
}

func testLockMovesRenew(t *testing.T, f Fixture) {
	a := f.Open(t)
	epoch := claim(t, a, "a")
	want(t, lock(t, a, "a", "full"), nil)
	lockMoves(t, f, a, func() error { return a.Renew(ctxFor(t), dcs.Renewal{Name: "a", Epoch: epoch}) })
}

// lockMoves changes the TTL of a, which holds the lock, and sees the lock
// outlive the old lease.
func lockMoves(t *testing.T, f Fixture, a dcs.Store, turn func() error) {
	t.Helper()
	b := f.Open(t)
	old := locked(t, a, "a", "full")
	a.SetTTL(4 * a.TTL())
	want(t, turn(), nil)
	want(t, lock(t, a, "a", "full"), nil)
	if moved := locked(t, a, "a", "full"); moved.LeaseID == old.LeaseID {
		t.Fatalf("lock stayed on lease %d", old.LeaseID)
	}
	// The key of b lives as long as the old lease of a, or longer.
	want(t, b.PutMember(ctxFor(t), "b", []byte(`{}`)), nil)
	eventually(t, f, "b expired", func() bool { return read(t, b).Member("b") == nil })
	locked(t, a, "a", "full")
	want(t, unlock(t, a), nil)
	if read(t, a).BackupLock != nil {
		t.Fatal("not unlocked after the move")
	}
}

func testLockTaken(t *testing.T, f Fixture) {
	a := f.Open(t)
	want(t, lock(t, a, "a", "full"), nil)
	f.Delete(t, dcs.KeyBackupLock)
	want(t, lock(t, a, "a", "incr"), dcs.ErrConflict)
	want(t, lock(t, a, "a", "diff"), nil) // the loss is forgotten
	f.Delete(t, dcs.KeyBackupLock)
	f.Put(t, dcs.KeyBackupLock, string(lockValue("x", "full")))
	want(t, unlock(t, a), nil)
	want(t, lock(t, a, "a", "diff"), dcs.ErrConflict)
	want(t, unlock(t, a), nil)
	if l := read(t, a).BackupLock; l == nil || l.Member != "x" {
		t.Fatalf("another's lock became %+v", l)
	}
}

func testLockChanged(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	want(t, a.KeepAlive(ctxFor(t)), nil)
	quiet(t, f, a)
	quiet(t, f, b)
	eventually(t, f, "marker seen", func() bool { return snapshot(t, a).Revision >= snapshot(t, b).Revision })
	drained(a)
	want(t, lock(t, a, "a", "full"), nil)
	at := snapshot(t, a).BackupLock.ModRevision
	want(t, lock(t, a, "a", "incr"), nil)
	eventually(t, f, "b is woken", func() bool { return !drained(b) })
	eventually(t, f, "own writes watched", func() bool { return snapshot(t, a).Revision > at })
	if !drained(a) {
		t.Fatal("own lock woke its holder")
	}
}
