package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

// slot returns the slot called name, zero if there is none.
func (n *node) slot(name string) Slot {
	n.t.Helper()
	all, err := n.Slots(testContext(n.t))
	must(n.t, err)
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	return Slot{}
}

// withLogical lets a server keep logical slots.
func withLogical(c *config.Postgres) {
	c.Controlled = append([]config.ControlledGUC(nil), c.Controlled...)
	for i := range c.Controlled {
		if c.Controlled[i].Name == "wal_level" {
			c.Controlled[i].Value = "logical"
		}
	}
}

func TestPhysicalSlots(t *testing.T) {
	ctx := testContext(t)
	a := primaryNode(t, "a")
	b := standbyOf(t, a, "b")
	slot := Slot{Name: "s", Type: "physical"}
	for _, n := range []*node{a, b} {
		must(t, n.CreateSlot(ctx, slot))
		before := n.slot("s")
		a.sql("INSERT INTO public.t SELECT generate_series(1, 100)", "SELECT pg_switch_wal()", "INSERT INTO public.t VALUES (1)")
		b.caughtUp(a)
		sample, err := b.Sample(ctx)
		must(t, err)
		must(t, n.AdvanceSlot(ctx, slot, sample.ReplayLSN))
		if now := n.slot("s").RestartLSN; now != sample.ReplayLSN || now <= before.RestartLSN {
			t.Errorf("%s: moved to %v, want %v", n.cfg.Name, now, sample.ReplayLSN)
		}
		must(t, n.AdvanceSlot(ctx, slot, before.RestartLSN)) // there is no way back, and no need of one
		must(t, n.AdvanceSlot(ctx, slot, sample.ReplayLSN+1<<40))
		if now := n.slot("s").RestartLSN; now >= sample.ReplayLSN+1<<40 || now < sample.ReplayLSN {
			t.Errorf("%s: moved too far, to %v", n.cfg.Name, now)
		}
		if gone, err := n.DropSlot(ctx, "s"); !gone || err != nil || n.slot("s").Name != "" {
			t.Errorf("%s: dropped: %v, %v", n.cfg.Name, gone, err)
		}
		if gone, err := n.DropSlot(ctx, "s"); gone || err != nil {
			t.Errorf("%s: a slot that is not there: %v, %v", n.cfg.Name, gone, err)
		}
	}
	// A slot in use stays.
	from := a.upstream()
	from.SlotName = "inuse"
	must(t, a.CreateSlot(ctx, Slot{Name: "inuse", Type: "physical"}))
	_, err := b.Follow(ctx, &from)
	must(t, err)
	eventually(t, "the slot is in use", func() bool { return a.slot("inuse").Active })
	if gone, err := a.DropSlot(ctx, "inuse"); gone || err != nil || a.slot("inuse").Name == "" {
		t.Errorf("a slot in use was dropped: %v, %v", gone, err)
	}
}

// TestLogicalSlotCopy: a logical slot is copied to a standby, moved there, and
// gives its consumer the changes after a promotion, each of them once.
func TestLogicalSlotCopy(t *testing.T) {
	ctx := testContext(t)
	a := primaryNode(t, "a", withLogical)
	must(t, a.CreateSlot(ctx, Slot{Name: "b", Type: "physical"}))
	b := newNode(t, "b", withLogical)
	b.ForceFeedback(true)
	from := a.upstream()
	from.SlotName = "b"
	must(t, b.BaseBackup(ctx, from, nil))
	b.start(StartOptions{Role: RoleStandby, Upstream: &from})
	b.streaming()
	if got := b.ask("SELECT current_setting('hot_standby_feedback')"); got != "on" {
		t.Errorf("hot_standby_feedback is %s", got)
	}
	slot := Slot{Name: "l", Type: "logical", Database: "postgres", Plugin: "test_decoding"}
	must(t, a.CreateSlot(ctx, slot))
	a.sql("INSERT INTO public.t VALUES (1)", "SELECT pg_logical_slot_get_changes('l', NULL, NULL)", "INSERT INTO public.t VALUES (2)")
	confirmed := a.slot("l")
	b.caughtUp(a)

	files, err := b.ReadSlots(ctx, from, []string{"l", "b", "none"})
	must(t, err)
	if len(files) != 1 || files[0].Name != "l" || files[0].Database != "postgres" || files[0].Plugin != "test_decoding" || len(files[0].State) == 0 {
		t.Fatalf("read %+v", files)
	}
	if err := b.InstallSlots(files); err == nil {
		t.Fatal("installed under a running server")
	}
	if _, err := a.ReadSlots(ctx, b.upstream(), []string{"l"}); err != nil {
		t.Errorf("from a standby: %v", err)
	}
	must(t, b.Stop(ctx, StopFast, true))
	must(t, b.InstallSlots(files))
	must(t, b.InstallSlots(files)) // over what is there
	b.start(StartOptions{Role: RoleStandby, Upstream: &from})
	b.streaming()
	if got := b.slot("l"); got.Plugin != "test_decoding" || got.CatalogXmin == 0 || got.ConfirmedLSN > confirmed.ConfirmedLSN || got.Invalid {
		t.Fatalf("the copy: %+v", got)
	}
	eventually(t, "the primary keeps what the copy needs", func() bool {
		xmins, err := b.SlotXmins(ctx, from)
		return err == nil && SlotReady(xmins["l"], xmins["b"], b.slot("l").CatalogXmin)
	})
	must(t, b.AdvanceSlot(ctx, slot, confirmed.ConfirmedLSN))
	if got := b.slot("l").ConfirmedLSN; got != confirmed.ConfirmedLSN {
		t.Errorf("moved to %v, want %v", got, confirmed.ConfirmedLSN)
	}
	must(t, a.Stop(ctx, StopFast, false))
	must(t, b.Promote(ctx, 1, 2))
	b.sql("INSERT INTO public.t VALUES (3)")
	if got := b.ask("SELECT string_agg(data, ' ') FROM pg_logical_slot_get_changes('l', NULL, NULL) WHERE data LIKE 'table%'"); got !=
		"table public.t: INSERT: id[integer]:2 table public.t: INSERT: id[integer]:3" {
		t.Errorf("the consumer gets %q", got)
	}
}

// TestUnusableSlot: what a logical slot needs is gone; there is one error for it.
func TestUnusableSlot(t *testing.T) {
	ctx := testContext(t)
	a := primaryNode(t, "a", withLogical, func(c *config.Postgres) {
		c.Parameters["wal_keep_size"], c.Parameters["max_slot_wal_keep_size"] = "0", "1MB"
		c.Parameters["min_wal_size"], c.Parameters["max_wal_size"] = "2MB", "2MB"
	})
	slot := Slot{Name: "l", Type: "logical", Database: "postgres", Plugin: "test_decoding"}
	must(t, a.CreateSlot(ctx, slot))
	for range 6 {
		a.sql("INSERT INTO public.t SELECT generate_series(1, 10000)", "SELECT pg_switch_wal()")
	}
	a.sql("CHECKPOINT")
	if s := a.slot("l"); !s.Invalid {
		t.Fatalf("not lost: %+v", s)
	}
	st, err := a.Status(ctx)
	must(t, err)
	if err := a.AdvanceSlot(ctx, slot, st.FlushLSN); !errors.Is(err, ErrSlotUnusable) {
		t.Errorf("advance: %v", err)
	}
	if st.WALLevel != "logical" || st.MaxSlots != 6 || st.SlotLimit != 1<<20 {
		t.Errorf("wal_level %q, max_replication_slots %d, max_slot_wal_keep_size %d", st.WALLevel, st.MaxSlots, st.SlotLimit)
	}
	bad := slot
	bad.Database = "nowhere"
	if err := a.CreateSlot(ctx, bad); err == nil {
		t.Error("made in a database that does not exist")
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if err := a.CreateSlot(ctx, Slot{Name: "m", Type: "logical", Database: "postgres", Plugin: "test_decoding"}); err == nil {
		t.Error("made after the context ended")
	}
}

func TestSlotReady(t *testing.T) {
	const top = 1<<32 - 1
	for _, c := range []struct {
		there, held, here uint32
		want              bool
	}{
		{700, 700, 700, true}, {700, 710, 720, true},
		{700, 690, 720, false}, // the primary may remove what the standby's slot needs
		{700, 720, 710, false}, // it may have
		{0, 700, 700, false}, {700, 0, 700, false}, {700, 700, 0, false},
		{top - 1, 3, 5, true}, {3, top - 1, 5, false},
	} {
		if got := SlotReady(c.there, c.held, c.here); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
