package ha

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pgha/pgha/pkg/dcs"
)

// SlotUsage is what a slot keeps of the WAL, beside what it may.
type SlotUsage struct {
	Name   string
	Type   SlotType
	Active bool
	Lost   bool
	Kept   int64 // bytes of WAL that are not removed for it
	Budget int64 // bytes, 0: unknown
}

// Percent is how much of the budget is used, rounded down; 0 while that is unknown.
func (u *SlotUsage) Percent() int {
	if u.Budget <= 0 {
		return 0
	}
	return int(100 * (float64(u.Kept) / float64(u.Budget)))
}

// Levels of a slot's budget, in percent.
const (
	SlotTight  = 80 // from here on there is a warning
	slotAtEase = 70 // below, it is taken back
)

// slotUsage lists the slots by name; nil while they are unknown.
func (o *Observation) slotUsage() []SlotUsage {
	if !o.PG.Known || o.PG.Slots == nil {
		return nil
	}
	out := make([]SlotUsage, 0, len(o.PG.Slots))
	for _, name := range slices.Sorted(maps.Keys(o.PG.Slots)) {
		s := o.PG.Slots[name]
		u := SlotUsage{Name: name, Type: s.Type, Active: s.Active, Lost: s.Lost, Budget: o.Settings.SlotBudgets.Of(name, o.PG.SlotLimit, o.PG.WALVolume)}
		if s.Restart != 0 && s.Restart < o.PG.Row.Position {
			u.Kept = int64(o.PG.Row.Position - s.Restart) //nolint:gosec // a distance on a disk
		}
		out = append(out, u)
	}
	return out
}

// publishedUsage is what the member key tells of slots: by tens of percent, so
// that it does not change with every record of WAL.
func (o *Observation) publishedUsage() (out []dcs.SlotUsage) {
	for _, u := range o.slotUsage() {
		if p := u.Percent() / 10 * 10; p > 0 || u.Lost {
			out = append(out, dcs.SlotUsage{Name: u.Name, Percent: p, Budget: u.Budget, Lost: u.Lost})
		}
	}
	return out
}

// slots tells when a slot comes near its budget, exceeds it, is lost, or needs
// less again; and what keeps slots from being as /config says.
func (t *turn) slots() {
	if !t.o.PG.Known || t.o.PG.Slots == nil {
		return
	}
	before := t.slotLevels
	t.slotLevels = make(map[string]int, len(before))
	for _, u := range t.o.slotUsage() {
		is := u.level(before[u.Name])
		if is != 0 {
			t.slotLevels[u.Name] = is
		}
		switch was := before[u.Name]; {
		case is > was:
			t.say(dcs.EventSlot, dcs.EventFailed, u.warning(is))
		case is == 0 && was != 0:
			t.say(dcs.EventSlot, dcs.EventDone, "the slot "+u.Name+" is within its budget again")
		}
	}
	problems := t.o.slotProblems()
	for _, p := range problems {
		if !slices.Contains(t.slotProblems, p) {
			t.say(dcs.EventSlot, dcs.EventFailed, "a replication slot is not as it should be", func(e *dcs.Event) { e.Error = p })
		}
	}
	t.slotProblems = problems
}

// level is 0 within the budget, 1 near its end, 2 beyond, 3 for a lost slot; was
// is the one before, which is not left for a moment's relief.
func (u *SlotUsage) level(was int) int {
	p := u.Percent()
	switch {
	case u.Lost:
		return 3
	case p >= 100:
		return 2
	case p >= SlotTight, was > 0 && p >= slotAtEase:
		return 1
	}
	return 0
}

func (u *SlotUsage) warning(level int) string {
	if level == 3 {
		return "the slot " + u.Name + " lost the WAL it needs"
	}
	text := fmt.Sprintf("the slot %s keeps %s of WAL, %d %% of its budget of %s", u.Name, bytesText(u.Kept), u.Percent(), bytesText(u.Budget))
	if !u.Active {
		text += ", and nobody uses it"
	}
	return text
}

// bytesText prints a size for people.
func bytesText(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
