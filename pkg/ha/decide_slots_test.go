package ha

import (
	"testing"
	"time"
)

func TestCopySlots(t *testing.T) { // 4.5
	ready := func(o *Observation) { standbyPermanent(o); o.PG.Slots["phys"] = phys(900) }
	copied := func(o *Observation, n int, ago time.Duration) {
		o.Memory.SlotCopies, o.Memory.SlotsCopied = n, plus(-ago)
	}
	runTable(t, []row{
		{name: "4.5 a standby that lacks a logical slot gets it from the leader", change: ready, action: CopySlots{}, reason: SecondaryCopiesSlots,
			check: func(t *testing.T, d Decision) {
				a := d.Action.(CopySlots)
				if a.From.Member != "n2" || len(a.Slots) != 1 || a.Slots[0].Name != "logi" || a.Slots[0].Database != "db" || a.Slots[0].Plugin != "pgoutput" {
					t.Errorf("%+v", a)
				}
			}},
		{name: "4.5 not one that the leader does not tell of", change: func(o *Observation) { ready(o); delete(o.DCS.Cluster.Status.Slots, "logi") }, reason: SecondaryNoAction},
		{name: "4.5 not while the leader does not run", change: func(o *Observation) { ready(o); mem(o, "n2").State = "starting" }, reason: SecondaryNoUpstream},
		{name: "4.5 not in pause", change: func(o *Observation) { ready(o); paused3(o) }, reason: PausedNoAction},
		{name: "4.5 not where the server would refuse to start with it", change: func(o *Observation) { ready(o); o.PG.WALLevel = "replica" }, reason: SecondaryNoAction},
		{name: "4.5 nor where it has no room for it", change: func(o *Observation) { ready(o); o.PG.MaxSlots = 3 }, reason: SecondaryNoAction},
		{name: "4.5 not again at once", change: func(o *Observation) { ready(o); copied(o, 1, 19*sec) }, reason: SecondaryNoAction},
		{name: "4.5 but later", change: func(o *Observation) { ready(o); copied(o, 1, 20*sec) }, action: CopySlots{}, reason: SecondaryCopiesSlots},
		{name: "4.5 and ever more seldom", change: func(o *Observation) { ready(o); copied(o, 5, 300*sec) }, reason: SecondaryNoAction},
		{name: "4.5 once all are there, it is forgotten", change: func(o *Observation) { ready(o); o.PG.Slots["logi"] = logical(900); copied(o, 5, sec) },
			reason: SecondaryNoAction, check: func(t *testing.T, d Decision) {
				if d.Memory.SlotCopies != 0 {
					t.Error("the attempts of before still count")
				}
			}},
		{name: "4.5 a leader makes its own", change: func(o *Observation) { withPermanent(o); o.PG.Slots["phys"] = phys(900) }, action: SyncSlots{}, reason: LeaderSlots},
		{name: "4.7 feedback alone is reason enough", change: func(o *Observation) {
			ready(o)
			o.PG.Slots["logi"], o.PG.Feedback = logical(900), false
		}, action: SyncSlots{}, reason: SecondarySlots, check: wants(SyncSlots{Feedback: true})},
	})
}

func TestSlotProblems(t *testing.T) {
	o := base()
	withPermanent(o)
	o.PG.Slots["phys"], o.PG.WALLevel = phys(900), "replica"
	o.PG.SlotLanes = map[string]SlotLane{"db": {Failed: plus(-sec), Error: "create it: no"}}
	o.Settings.Slots = append(o.Settings.Slots[:len(o.Settings.Slots):len(o.Settings.Slots)], o.Settings.Slots[1])
	o.Settings.Slots[2].Name = "n2"
	want := []string{"create it: no", "the logical slot n2 of /config has the name of a member's slot", "wal_level is replica: logical slots need logical"}
	if got := o.slotProblems(); len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("%q", got)
	}
}
