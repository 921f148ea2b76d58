// Package dcstest is the suite every dcs.Store must pass: it is what the rest
// of the agent relies on, whichever store is underneath.
package dcstest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// Fixture is one empty cluster in one DCS.
type Fixture struct {
	// Open returns the store of another process of the cluster. It is closed
	// by the fixture when the test ends.
	Open func(t testing.TB) dcs.Store
	// Put and Delete act like a foreign client: no guard, no lease.
	Put    func(t testing.TB, key dcs.Key, value string)
	Delete func(t testing.TB, key dcs.Key)
	// Step lets a little time pass, at most a tenth of TTL: on the real clock
	// or on a virtual one.
	Step func()
	// TTL is what the opened stores ask for.
	TTL time.Duration
}

// Run runs the suite; each test gets a fixture of its own.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	tests := []struct {
		name string
		run  func(*testing.T, Fixture)
	}{
		{"SnapshotShowsWrites", testSnapshot},
		{"ChangedWakesForOthersOnly", testChanged},
		{"ReadIsLinearizable", testRead},
		{"ClaimGuards", testClaimGuards},
		{"ConcurrentClaims", testConcurrentClaims},
		{"ClaimAfterLeaseLost", testClaimAfterLeaseLost},
		{"RenewGuards", testRenewGuards},
		{"RenewMovesKeyAfterRestart", testRenewAfterRestart},
		{"RenewPutsRightWhatWasOverwritten", testRenewOverwritten},
		{"RenewMovesKeyToNewTTL", testRenewNewTTL},
		{"RenewAfterLeaseLost", testRenewLeaseLost},
		{"ExpiryRemovesKeys", testExpiry},
		{"KeepAliveKeepsKeys", testKeepAlive},
		{"Release", testRelease},
		{"PutGuards", testPutGuards},
		{"PutUnderEpoch", testPutEpoch},
		{"MemberLease", testMemberLease},
		{"MemberUnderEpoch", testMemberUnder},
		{"DeleteInitialize", testDeleteInitialize},
		{"LockIsExclusive", testLock},
		{"LockOfManyHasOneWinner", testLockRace},
		{"LockGoesWithTheLease", testLockExpiry},
		{"LockMovesToNewLease", testLockMoves},
		{"LockMovesWithRenewal", testLockMovesRenew},
		{"LockTakenAway", testLockTaken},
		{"LockWakesOthersOnly", testLockChanged},
		{"ContextOver", testContextOver},
		{"Closed", testClosed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func ctxFor(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually lets time pass until cond holds.
func eventually(t testing.TB, f Fixture, what string, cond func() bool) {
	t.Helper()
	for range 2000 {
		if cond() {
			return
		}
		f.Step()
	}
	t.Fatalf("did not happen: %s", what)
}

var sentinels = []error{dcs.ErrUnavailable, dcs.ErrUnknown, dcs.ErrConflict, dcs.ErrLeaseLost, dcs.ErrRejected}

// want checks that err is exactly one sentinel, namely kind; nil is success.
func want(t testing.TB, err, kind error) {
	t.Helper()
	if kind == nil {
		if err != nil {
			t.Fatalf("got error %v", err)
		}
		return
	}
	n := 0
	for _, s := range sentinels {
		if errors.Is(err, s) {
			n++
		}
	}
	if n != 1 || !errors.Is(err, kind) {
		t.Fatalf("got error %v (matches %d sentinels), want %v", err, n, kind)
	}
}

func snapshot(t testing.TB, s dcs.Store) *dcs.Cluster {
	t.Helper()
	c, err := s.Snapshot(ctxFor(t))
	want(t, err, nil)
	return c
}

func read(t testing.TB, s dcs.Store) *dcs.Cluster {
	t.Helper()
	c, err := s.Read(ctxFor(t))
	want(t, err, nil)
	return c
}

func status(optime int, beat int64) []byte {
	return (&dcs.Status{Optime: 100 + 1, Beat: &dcs.Beat{Beat: beat, TTL: int64(optime)}}).Encode()
}

// claim takes the leader key with the guards of the moment.
func claim(t testing.TB, s dcs.Store, name string) int64 {
	t.Helper()
	c := read(t, s)
	epoch, err := s.Claim(ctxFor(t), dcs.Claim{
		Name: name, StatusRevision: c.ModRevision(dcs.KeyStatus), SyncRevision: c.ModRevision(dcs.KeySync), Status: status(1, 0),
	})
	want(t, err, nil)
	return epoch
}

func drained(s dcs.Store) bool {
	select {
	case <-s.Changed():
		return false
	default:
		return true
	}
}

// quiet empties Changed after everything written so far has been seen.
func quiet(t testing.TB, f Fixture, s dcs.Store) {
	t.Helper()
	key := dcs.MemberKey("marker")
	f.Put(t, key, `{"state":"`+time.Now().String()+`"}`)
	rev := read(t, s).ModRevision(key)
	eventually(t, f, "marker seen", func() bool { return snapshot(t, s).ModRevision(key) >= rev })
	drained(s)
}

func rev(n int64) *int64 { return &n }
