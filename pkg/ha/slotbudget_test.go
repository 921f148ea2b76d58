package ha

import (
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

func TestSlotUsage(t *testing.T) {
	o := base()
	withPermanent(o)
	o.PG.Row.Position = 10000
	o.PG.Slots = physical(map[string]wal.LSN{"n2": 9000, "n3": 0, "phys": 2000, "far": 20000})
	o.Settings.SlotBudgets = config.SlotBudgets{Default: 10000, Named: map[string]int64{"n2": 500}}
	got := map[string][2]int64{}
	for _, u := range o.slotUsage() {
		got[u.Name] = [2]int64{u.Kept, int64(u.Percent())}
	}
	if got["n2"] != [2]int64{1000, 200} || got["n3"] != [2]int64{0, 0} || got["phys"] != [2]int64{8000, 80} || got["far"] != [2]int64{0, 0} {
		t.Errorf("%v", got)
	}
	pub := o.publishedUsage()
	if len(pub) != 2 || pub[0] != (dcs.SlotUsage{Name: "n2", Percent: 200, Budget: 500}) || pub[1] != (dcs.SlotUsage{Name: "phys", Percent: 80, Budget: 10000}) {
		t.Errorf("%+v", pub)
	}
	if o.PG.Known = false; o.slotUsage() != nil {
		t.Error("of a server that does not answer")
	}
}

// TestSlotEvents: a warning on the way up, none for the same again, and word when
// it is over.
func TestSlotEvents(t *testing.T) {
	o := base()
	withPermanent(o)
	o.Settings.SlotBudgets.Default = 1000
	var j Journal
	turn := func(kept wal.LSN, lost bool) (out []dcs.Event) {
		o.PG.Slots = map[string]SlotState{"phys": {Type: SlotPhysical, Restart: 5000 - kept, At: 5000 - kept, Lost: lost}}
		o.PG.Row.Position = 5000
		d := Decide(*o)
		var events []dcs.Event
		j, events = j.Next(o, &d)
		for _, e := range events {
			if e.Kind == dcs.EventSlot {
				out = append(out, e)
			}
		}
		return out
	}
	o.Settings.Slots = o.Settings.Slots[:1]
	for i, c := range []struct {
		kept wal.LSN
		lost bool
		want string
	}{
		{100, false, ""}, {799, false, ""},
		{800, false, "the slot phys keeps 0.0 MiB of WAL, 80 % of its budget of 0.0 MiB, and nobody uses it"},
		{850, false, ""}, {750, false, ""},
		{1200, false, "the slot phys keeps 0.0 MiB of WAL, 120 % of its budget of 0.0 MiB, and nobody uses it"},
		{900, false, ""},
		{600, false, "the slot phys is within its budget again"},
		{600, true, "the slot phys lost the WAL it needs"},
	} {
		got := turn(c.kept, c.lost)
		switch {
		case c.want == "" && len(got) != 0, c.want != "" && (len(got) != 1 || got[0].Text != c.want):
			t.Errorf("%d: %d kept: %+v, want %q", i, c.kept, got, c.want)
		}
	}
}
