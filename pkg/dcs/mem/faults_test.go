package mem

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

const base = "/service/batman"

var bg = context.Background()

type clock struct{ ns int64 }

func (c *clock) now() int64 { return c.ns }

func (c *clock) add(d time.Duration) { c.ns += int64(d) }

func setup(t *testing.T) (*Server, *clock, *Client) {
	t.Helper()
	clk := &clock{}
	srv := NewServer(Options{Now: clk.now})
	a := srv.Store(base, "a")
	a.SetTTL(10 * time.Second)
	return srv, clk, a
}

func lead(t *testing.T, c *Client) int64 {
	t.Helper()
	now, err := c.Read(bg)
	if err != nil {
		t.Fatal(err)
	}
	epoch, err := c.Claim(bg, dcs.Claim{Name: c.name, StatusRevision: now.ModRevision(dcs.KeyStatus), Status: []byte(`{"optime":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

func TestFaultOutcomes(t *testing.T) {
	for fault, want := range map[Fault]struct {
		err     error
		written bool
	}{
		Unavailable: {dcs.ErrUnavailable, false},
		AnswerLost:  {dcs.ErrUnknown, true},
		RequestLost: {dcs.ErrUnknown, false},
		Rejected:    {dcs.ErrRejected, false},
	} {
		srv, _, a := setup(t)
		var ops []Op
		a.SetHook(func(op Op) Fault { ops = append(ops, op); return fault })
		err := a.Put(bg, dcs.Write{Key: dcs.KeyConfig, Value: []byte("{}")})
		_, written := srv.Get(base + "/config")
		if !errors.Is(err, want.err) || written != want.written || !reflect.DeepEqual(ops, []Op{OpPut}) {
			t.Errorf("fault %d: %v, written %v, ops %v", fault, err, written, ops)
		}
	}
}

func TestRenewalFaultsApart(t *testing.T) {
	srv, _, a := setup(t)
	epoch := lead(t, a)
	for _, lost := range []Op{OpKeepAlive, OpRenew} {
		var ops []Op
		a.SetHook(func(op Op) Fault {
			ops = append(ops, op)
			if op == lost {
				return AnswerLost
			}
			return None
		})
		before := srv.Revision()
		err := a.Renew(bg, dcs.Renewal{Name: "a", Epoch: epoch, Status: []byte(string(lost))})
		wrote := srv.Revision() > before
		if !errors.Is(err, dcs.ErrUnknown) || wrote != (lost == OpRenew) {
			t.Errorf("answer of %s lost: %v, wrote %v, ops %v", lost, err, wrote, ops)
		}
	}
}

// A round that was given up changes nothing after a later one.
func TestLateRound(t *testing.T) {
	_, _, c := setup(t)
	epoch := lead(t, c)
	round := func(optime string) func(context.Context) error {
		return c.Round(dcs.Renewal{Name: "a", Epoch: epoch, Status: []byte(`{"optime":` + optime + `}`)})
	}
	first, second := round("2"), round("3")
	if err := second(bg); err != nil {
		t.Fatal(err)
	}
	if err := first(bg); !errors.Is(err, dcs.ErrConflict) {
		t.Fatalf("the late round: %v", err)
	}
	if c, err := c.Read(bg); err != nil || c.Status.Optime != 3 {
		t.Fatalf("%+v, %v", c.Status, err)
	}
}

func TestPartition(t *testing.T) {
	srv, clk, a := setup(t)
	b := srv.Store(base, "b")
	a.SetStaleAfter(3 * time.Second)
	a.SetPartitioned(true)
	if err := b.Put(bg, dcs.Write{Key: dcs.KeyConfig, Value: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := a.KeepAlive(bg); !errors.Is(err, dcs.ErrUnavailable) {
		t.Fatal(err)
	}
	if c, err := a.Snapshot(bg); err != nil || c.Config != nil {
		t.Fatalf("stale view: %+v, %v", c, err)
	}
	clk.add(3 * time.Second)
	if _, err := a.Snapshot(bg); !errors.Is(err, dcs.ErrUnavailable) {
		t.Fatalf("view is too old: %v", err)
	}
	a.SetPartitioned(false)
	if c, err := a.Snapshot(bg); err != nil || c.Config == nil {
		t.Fatalf("after healing: %+v, %v", c, err)
	}
}

func TestDeliveryUnderControl(t *testing.T) {
	srv, _, a := setup(t)
	a.SetAutoDeliver(false)
	for i := range 3 {
		if _, err := srv.Put(base+"/config", []byte(fmt.Sprintf(`{"ttl":%d}`, i)), 0); err != nil {
			t.Fatal(err)
		}
	}
	see := func(want string) {
		t.Helper()
		c, err := a.Snapshot(bg)
		got := ""
		if err == nil && c.Config != nil {
			got = string(c.Config.Raw)
		}
		if got != want {
			t.Fatalf("sees %q (%v), want %q", got, err, want)
		}
	}
	see("")
	a.DeliverN(1)
	see(`{"ttl":0}`)
	if err := a.Put(bg, dcs.Write{Key: dcs.KeyConfig, Value: []byte(`{"own":1}`)}); err != nil {
		t.Fatal(err)
	}
	see(`{"own":1}`) // own writes do not wait
	a.DeliverN(1)
	see(`{"own":1}`) // an older event does not undo them
	if a.Pending() != 2 {
		t.Fatalf("%d batches pending", a.Pending())
	}
	a.CutWatch()
	if _, err := a.Snapshot(bg); !errors.Is(err, dcs.ErrUnavailable) {
		t.Fatalf("cut watch: %v", err)
	}
	a.Deliver()
	see(`{"own":1}`)
}

func TestExpiryAtScan(t *testing.T) {
	srv, clk, a := setup(t)
	clk.add(100 * time.Millisecond)
	lead(t, a)
	at, ok := srv.NextExpiry()
	if !ok || at != int64(10500*time.Millisecond) {
		t.Fatalf("next expiry at %v", time.Duration(at))
	}
	clk.ns = at - 1
	if _, ok := srv.Get(base + "/leader"); !ok {
		t.Fatal("expired before the scan")
	}
	clk.ns = at
	if _, ok := srv.Get(base + "/leader"); ok {
		t.Fatal("not expired at the scan")
	}
}

func TestLies(t *testing.T) {
	srv, clk, a := setup(t)
	epoch := lead(t, a)

	// E1: a change of leader extends leases.
	clk.add(9 * time.Second)
	srv.ChangeLeader(time.Second)
	clk.add(10 * time.Second)
	if _, ok := srv.Get(base + "/leader"); !ok {
		t.Fatal("lease was not extended by the leader change")
	}

	// E2: keepalives succeed and do nothing.
	srv.SetFalseKeepAlive(true)
	if err := a.KeepAlive(bg); err != nil {
		t.Fatal(err)
	}
	clk.add(1500 * time.Millisecond)
	if _, ok := srv.Get(base + "/leader"); ok {
		t.Fatal("false keepalive extended the lease")
	}
	if err := a.KeepAlive(bg); err != nil {
		t.Fatalf("false keepalive of a dead lease: %v", err)
	}
	if err := a.Renew(bg, dcs.Renewal{Name: "a", Epoch: epoch}); !errors.Is(err, dcs.ErrConflict) {
		t.Fatalf("the transaction must tell the truth: %v", err)
	}
	srv.SetFalseKeepAlive(false)
	if err := a.KeepAlive(bg); !errors.Is(err, dcs.ErrLeaseLost) {
		t.Fatal(err)
	}

	// E3: early revoke.
	epoch = lead(t, a)
	if !srv.Revoke(a.Lease()) {
		t.Fatal("no such lease")
	}
	if err := a.Renew(bg, dcs.Renewal{Name: "a", Epoch: epoch}); !errors.Is(err, dcs.ErrLeaseLost) {
		t.Fatal(err)
	}

	// E4: stale reads; the guards of a claim see through them.
	srv.FreezeReads()
	old, err := a.Read(bg)
	if err != nil {
		t.Fatal(err)
	}
	b := srv.Store(base, "b")
	if _, err := srv.Put(base+"/status", []byte(`{"optime":2}`), 0); err != nil {
		t.Fatal(err)
	}
	if now, err := b.Read(bg); err != nil || now.ModRevision(dcs.KeyStatus) != old.ModRevision(dcs.KeyStatus) {
		t.Fatalf("frozen read saw the new status: %v", err)
	}
	if _, err := b.Claim(bg, dcs.Claim{Name: "b", StatusRevision: old.ModRevision(dcs.KeyStatus)}); !errors.Is(err, dcs.ErrConflict) {
		t.Fatalf("claim on a stale read: %v", err)
	}
	srv.ThawReads()

	// E5: restore.
	backup := srv.Backup()
	lead(t, b)
	srv.Restore(backup, 99)
	c, err := b.Snapshot(bg)
	if err != nil || c.ID != 99 || c.Leader != nil || c.Revision != backup.state.rev {
		t.Fatalf("after restore: %+v, %v", c, err)
	}
}

func TestDown(t *testing.T) {
	srv, clk, a := setup(t)
	lead(t, a)
	srv.SetDown(true)
	clk.add(time.Minute)
	if err := a.KeepAlive(bg); !errors.Is(err, dcs.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := a.Snapshot(bg); !errors.Is(err, dcs.ErrUnavailable) {
		t.Fatal(err)
	}
	srv.SetDown(false)
	if c, err := a.Snapshot(bg); err != nil || c.LeaderName() != "a" {
		t.Fatalf("leases must survive an outage: %v", err)
	}
}

// The same calls give the same bytes: keys, revisions, leases.
func TestDeterministic(t *testing.T) {
	run := func() string {
		clk := &clock{}
		srv := NewServer(Options{Now: clk.now})
		var clients []*Client
		for i := range 5 {
			c := srv.Store(base, fmt.Sprintf("n%d", i))
			c.SetTTL(time.Duration(3+i) * time.Second)
			clients = append(clients, c)
		}
		log := ""
		for turn := range 60 {
			clk.add(170 * time.Millisecond)
			c := clients[turn*7%5]
			_ = c.PutMember(bg, c.name, []byte("{}"))
			now, _ := c.Read(bg)
			_, err := c.Claim(bg, dcs.Claim{Name: c.name, StatusRevision: now.ModRevision(dcs.KeyStatus), Status: []byte("1")})
			log += fmt.Sprint(err, srv.List(base), "\n")
		}
		return log
	}
	if first, second := run(), run(); first != second {
		t.Fatal("two runs differ")
	}
}
