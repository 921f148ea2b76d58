package dcstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
)

// Same gives one random list of operations to two implementations and demands
// the same answers and the same keys after each: it is how the etcd of the
// simulator is known to be like the real one. Revisions are compared by their
// order, and epochs are each side's own. Time stands still: leases that run out
// are the suite's matter.
func Same(t *testing.T, seed uint64, operations int, a, b Fixture) {
	t.Helper()
	sides := [2]*side{newSide(t, a), newSide(t, b)}
	r := rand.New(rand.NewPCG(seed, 0))
	var done []string
	for range operations {
		op := draw(r)
		done = append(done, op.String())
		left, right := sides[0].do(t, op), sides[1].do(t, op)
		if left != right {
			t.Fatalf("seed %d: %s\n%q on one side, %q on the other", seed, strings.Join(done, "\n"), left, right)
		}
		if left, right = sides[0].state(t), sides[1].state(t); left != right {
			t.Fatalf("seed %d: after %s\none side: %s\nthe other: %s", seed, strings.Join(done, "\n"), left, right)
		}
	}
}

// operation is one call by one of two stores. Guards are named, since the
// numbers differ between the sides.
type operation struct {
	what  string
	by    int
	key   dcs.Key
	guard string // "", "right", "stale" or "none"
	epoch string // "", "mine", "stale"
	value string
}

func (o operation) String() string {
	return strings.Join(strings.Fields(fmt.Sprintf("store %d: %s %s revision %s epoch %s", o.by, o.what, o.key, o.guard, o.epoch)), " ")
}

func draw(r *rand.Rand) operation {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	o := operation{
		what: pick("claim", "claim", "renew", "renew", "release", "member", "member under", "put", "put", "put", "lock", "unlock", "drop initialize", "keepalive", "foreign put", "foreign delete", "reopen"),
		by:   r.IntN(2), guard: pick("", "right", "right", "stale", "none"), epoch: pick("", "mine", "mine", "stale", "no leader"),
		value: fmt.Sprintf(`{"x":%d}`, r.IntN(1000)),
	}
	keys := []dcs.Key{dcs.KeyConfig, dcs.KeyHistory, dcs.KeySync, dcs.KeyStatus, dcs.KeyFailsafe, dcs.KeyInitialize}
	o.key = keys[r.IntN(len(keys))]
	if strings.HasPrefix(o.what, "foreign") && r.IntN(3) == 0 {
		o.key = dcs.KeyLeader
	}
	return o
}

// side is one implementation, with what its stores know.
type side struct {
	f      Fixture
	stores [2]dcs.Store
	epochs [2]int64 // of each store's last claim
	stale  map[dcs.Key]int64
}

func newSide(t *testing.T, f Fixture) *side {
	t.Helper()
	s := &side{f: f, stale: map[dcs.Key]int64{}}
	for i := range s.stores {
		s.reopen(t, i)
	}
	return s
}

func (s *side) reopen(t *testing.T, i int) {
	t.Helper()
	if s.stores[i] != nil {
		_ = s.stores[i].Close()
	}
	s.stores[i] = s.f.Open(t)
	s.stores[i].SetTTL(s.f.TTL)
}

// do performs o and returns what became of it, in words.
func (s *side) do(t *testing.T, o operation) string {
	t.Helper()
	ctx, store := ctxFor(t), s.stores[o.by]
	c := read(t, store)
	revision := func(k dcs.Key) int64 {
		if o.guard == "stale" {
			return s.stale[k]
		}
		return c.ModRevision(k)
	}
	epoch := map[string]int64{"mine": s.epochs[o.by], "stale": s.epochs[1-o.by]}[o.epoch]
	name := fmt.Sprintf("n%d", o.by)
	var err error
	switch o.what {
	case "claim":
		var e int64
		if e, err = store.Claim(ctx, dcs.Claim{Name: name, StatusRevision: revision(dcs.KeyStatus), SyncRevision: revision(dcs.KeySync), Status: status(1, 0)}); err == nil {
			s.epochs[o.by] = e
		}
	case "renew":
		err = store.Renew(ctx, dcs.Renewal{Name: name, Epoch: epoch, Status: status(2, 1)})
	case "release":
		err = store.Release(ctx, dcs.Release{Epoch: epoch, Status: status(3, 2)})
	case "member":
		err = store.PutMember(ctx, name, []byte(o.value))
	case "member under":
		err = store.PutMemberUnder(ctx, name, []byte(o.value), epoch)
	case "put":
		w := dcs.Write{Key: o.key, Value: []byte(o.value), Epoch: epoch, NoLeader: o.epoch == "no leader"}
		if o.guard != "" && o.guard != "none" {
			rev := revision(o.key)
			w.Revision = &rev
		}
		err = store.Put(ctx, w)
	case "lock":
		err = store.Lock(ctx, dcs.KeyBackupLock, []byte(`{"member":"`+name+`"}`))
	case "unlock":
		err = store.Unlock(ctx, dcs.KeyBackupLock)
	case "drop initialize":
		err = store.DeleteInitialize(ctx, revision(dcs.KeyInitialize))
	case "keepalive":
		err = store.KeepAlive(ctx)
	case "foreign put":
		s.f.Put(t, o.key, o.value)
	case "foreign delete":
		s.f.Delete(t, o.key)
	case "reopen":
		s.reopen(t, o.by)
	}
	s.stale[o.key] = c.ModRevision(o.key)
	for i, kind := range sentinels {
		if errors.Is(err, kind) {
			return fmt.Sprint("error ", sentinels[i])
		}
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// state is all keys in words, revisions by their order.
func (s *side) state(t *testing.T) string {
	t.Helper()
	c := read(t, s.stores[0])
	var revisions []int64
	for _, k := range everyKey {
		revisions = append(revisions, c.ModRevision(k))
	}
	if c.Leader != nil {
		revisions = append(revisions, c.Leader.Epoch)
	}
	slices.Sort(revisions)
	revisions = slices.Compact(revisions)
	rank := func(rev int64) int { return slices.Index(revisions, rev) }
	var out []string
	for _, k := range everyKey {
		out = append(out, fmt.Sprintf("%s %d", k, rank(c.ModRevision(k))))
	}
	if l := c.Leader; l != nil {
		out = append(out, fmt.Sprintf("leader %s epoch %d", l.Name, rank(l.Epoch)))
		for i, e := range s.epochs {
			out = append(out, fmt.Sprintf("store %d leads %v", i, e == l.Epoch))
		}
	}
	for _, m := range c.Members {
		out = append(out, fmt.Sprintf("member %s leased %v", m.Name, m.LeaseID != 0))
	}
	if c.Config != nil {
		out = append(out, "config "+string(c.Config.Raw))
	}
	if c.BackupLock != nil {
		out = append(out, "lock of "+c.BackupLock.Member)
	}
	return strings.Join(append(out, fmt.Sprint("invalid ", len(c.Invalid))), ", ")
}

var everyKey = []dcs.Key{
	dcs.KeyConfig, dcs.KeyHistory, dcs.KeySync, dcs.KeyStatus, dcs.KeyFailsafe, dcs.KeyInitialize, dcs.KeyBackupLock, dcs.MemberKey("n0"), dcs.MemberKey("n1"),
}
