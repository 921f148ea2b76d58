package ha

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// withSlots: slots are in use, and there are none yet. /config wants a physical
// and a logical one.
func withSlots(o *Observation) {
	o.Settings.UseSlots, o.Settings.MemberSlotsTTL = true, time.Hour
	o.PG.Slots, o.PG.WALLevel, o.PG.MaxSlots = physical(nil), "logical", 10
	o.DCS.Cluster.Status.Slots = map[string]wal.LSN{"n1": 900, "n2": 900, "n3": 900}
}

var permanent = []config.Slot{{Name: "phys", Type: "physical"}, {Name: "logi", Type: "logical", Database: "db", Plugin: "pgoutput"}}

func withPermanent(o *Observation) {
	withSlots(o)
	o.Settings.Slots = permanent
	o.DCS.Cluster.Status.Slots["phys"], o.DCS.Cluster.Status.Slots["logi"] = 900, 900
	o.PG.Slots = physical(map[string]wal.LSN{"n1": 900, "n2": 900, "n3": 900})
	delete(o.PG.Slots, o.Me.Name)
	o.PG.Feedback = true
}

func standbyPermanent(o *Observation) { replica(o); withPermanent(o) }

func logical(at wal.LSN) SlotState {
	return SlotState{Type: SlotLogical, Database: "db", Plugin: "pgoutput", Restart: at - 100, At: at, HasXmin: true}
}

func phys(at wal.LSN) SlotState { return SlotState{Type: SlotPhysical, Restart: at, At: at} }

func tagged(o *Observation, who, tag string, value any) {
	if who == o.Me.Name {
		o.Settings.Tags = append(o.Settings.Tags, dcs.Tag{Name: tag, Value: value})
	}
	mem(o, who).Tags = append(mem(o, who).Tags, dcs.Tag{Name: tag, Value: value})
}

// steps prints a plan.
func (p SyncSlots) steps() string {
	var out []string
	for _, s := range p.Steps {
		switch s.Verb {
		case SlotDrop:
			out = append(out, "drop "+s.Name)
		case SlotCreate:
			out = append(out, strings.TrimSpace(fmt.Sprintf("create %s %s %s", s.Name, s.Database, s.Plugin)))
		case SlotAdvance:
			out = append(out, fmt.Sprintf("advance %s to %d", s.Name, s.To))
		}
	}
	return strings.Join(out, ", ")
}

func TestSlotPlan(t *testing.T) { // 4.2 to 4.4
	set := func(o *Observation, name string, s SlotState) { o.PG.Slots[name] = s }
	for _, c := range []struct {
		name   string
		change func(o *Observation)
		want   string
	}{
		{"primary: all others", withSlots, "create n2, create n3"},
		{"primary: nothing to do", func(o *Observation) { withSlots(o); o.PG.Slots = physical(map[string]wal.LSN{"n2": 1, "n3": 1}) }, ""},
		{"standby: all others", func(o *Observation) { replica(o); withSlots(o) }, "create n2, create n3"},
		{"standby: an idle slot is advanced", func(o *Observation) {
			replica(o)
			withSlots(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 900, "n3": 800})
		}, "advance n3 to 900"},
		{"standby: not past what it has replayed", func(o *Observation) {
			replica(o)
			withSlots(o)
			o.PG.Row.Replay = 850
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 900, "n3": 800})
		}, "advance n3 to 850"},
		{"unknown slots are dropped", func(o *Observation) {
			withSlots(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 1, "n3": 1, "x": 1})
			set(o, "y", logical(700))
		}, "drop x, drop y"},
		{"but not one in use", func(o *Observation) {
			withSlots(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 1, "n3": 1})
			set(o, "x", SlotState{Type: SlotPhysical, Active: true, Restart: 1, At: 1})
		}, ""},
		{"nothing is dropped in pause", func(o *Observation) {
			withSlots(o)
			paused3(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 1, "n3": 1, "x": 1})
		}, ""},
		{"nothing at all without a /config", func(o *Observation) { withSlots(o); o.DCS.Cluster.Config = nil }, ""},
		{"ignore_slots by name", func(o *Observation) {
			withSlots(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 1, "n3": 1, "x": 1, "y": 1})
			o.Settings.IgnoreSlots = []config.SlotFilter{{Name: "x"}}
		}, "drop y"},
		{"ignore_slots by everything else", func(o *Observation) {
			withSlots(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 1, "n3": 1})
			set(o, "x", logical(700))
			set(o, "y", SlotState{Type: SlotLogical, Database: "other", Plugin: "pgoutput", At: 1})
			o.Settings.IgnoreSlots = []config.SlotFilter{{Type: "logical", Database: "db", Plugin: "pgoutput"}}
		}, "drop y"},
		{"retained names are kept", func(o *Observation) {
			withSlots(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 1, "n3": 1, "old": 1})
			o.DCS.Cluster.Status.RetainSlots = []string{"n1", "n3", "old", "older"}
		}, "create older"},
		{"scar 73: none for myself, whatever the case of my name", func(o *Observation) {
			withSlots(o)
			mem(o, "n1").Name = "N1"
			o.Me.Name, o.DCS.Cluster.Leader.Name = "N1", "N1"
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 1, "n3": 1})
			o.DCS.Cluster.Status.RetainSlots = []string{"n1"}
		}, ""},
		{"scar 79: without a leader a cascade keeps its slot", func(o *Observation) {
			replica(o)
			withSlots(o)
			o.Settings.MemberSlotsTTL = 0
			tagged(o, "n3", "replicatefrom", "n1")
			o.DCS.Cluster.Leader = nil
			o.PG.Slots = physical(map[string]wal.LSN{"n3": 100})
		}, ""},
		{"nofailover keeps only what streams from it", func(o *Observation) {
			standbyPermanent(o)
			o.Settings.NoFailover = true
		}, "drop n2, drop n3"},
		{"without member_slots_ttl only what streams from it", func(o *Observation) {
			standbyPermanent(o)
			o.Settings.MemberSlotsTTL = 0
			tagged(o, "n3", "replicatefrom", "n1")
			set(o, "phys", phys(900))
			set(o, "logi", logical(900))
		}, "drop n2"},
		{"a cascading member's slot on its upstream", func(o *Observation) {
			replica(o)
			withSlots(o)
			tagged(o, "n3", "replicatefrom", "n1")
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 900, "n3": 100})
		}, ""},
		{"and on the primary, where it is moved with the member", func(o *Observation) {
			withSlots(o)
			tagged(o, "n3", "replicatefrom", "n2")
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 900, "n3": 100})
			mem(o, "n3").XLogLocation = 950
		}, "advance n3 to 950"},
		{"4.4.5 a stale xmin goes", func(o *Observation) {
			replica(o)
			withSlots(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 900})
			set(o, "n3", SlotState{Type: SlotPhysical, HasXmin: true, Restart: 800, At: 800})
		}, "drop n3"},
		{"4.4.5 not of one that is used", func(o *Observation) {
			withSlots(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 900})
			set(o, "n3", SlotState{Type: SlotPhysical, HasXmin: true, Restart: 800, At: 800})
		}, ""},
		{"4.4.5 not while nobody leads", func(o *Observation) {
			replica(o)
			withSlots(o)
			o.DCS.Cluster.Leader = nil
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 900})
			set(o, "n3", SlotState{Type: SlotPhysical, HasXmin: true, Restart: 800, At: 800})
		}, ""},
		{"4.4.5 a slot without WAL is somebody else's", func(o *Observation) {
			replica(o)
			withSlots(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 900})
			set(o, "n3", SlotState{Type: SlotPhysical})
		}, "drop n3"},
		{"a lost one is made anew", func(o *Observation) {
			withSlots(o)
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 900})
			set(o, "n3", SlotState{Type: SlotPhysical, Lost: true, Restart: 100, At: 100})
		}, "drop n3"},
		{"a leader older than 4.0 does not tell of members", func(o *Observation) {
			replica(o)
			withSlots(o)
			mem(o, "n2").Version = "3.3.2"
			o.DCS.Cluster.Status.Slots = nil
			o.PG.Slots = physical(map[string]wal.LSN{"n2": 900, "n3": 800})
		}, "advance n2 to 1000, advance n3 to 1000"},
		{"nostream members have none", func(o *Observation) { withSlots(o); tagged(o, "n2", "nostream", true) }, "create n3"},
		{"use_slots off: none", func(o *Observation) {
			withSlots(o)
			o.Settings.UseSlots, o.PG.Slots = false, physical(map[string]wal.LSN{"n2": 1})
		}, "drop n2"},

		{"permanent: both on the primary", withPermanent, "create phys, create logi db pgoutput"},
		{"permanent: the physical one on a standby", standbyPermanent, "create phys"},
		{"permanent: none on a nofailover node", func(o *Observation) { withPermanent(o); o.Settings.NoFailover = true }, ""},
		{"permanent: no logical one below wal_level logical", func(o *Observation) { withPermanent(o); o.PG.WALLevel = "replica" }, "create phys"},
		{"permanent: both advanced on a standby", func(o *Observation) {
			standbyPermanent(o)
			set(o, "phys", phys(800))
			set(o, "logi", logical(800))
		}, "advance logi to 900, advance phys to 900"},
		{"permanent: and none on the primary", func(o *Observation) {
			withPermanent(o)
			set(o, "phys", phys(800))
			set(o, "logi", logical(800))
		}, ""},
		{"permanent: a logical one by steps", func(o *Observation) {
			standbyPermanent(o)
			set(o, "phys", phys(900))
			set(o, "logi", logical(100))
			o.DCS.Cluster.Status.Slots["logi"], o.PG.Row.Replay = 1<<40, 1<<40
		}, fmt.Sprintf("advance logi to %d", 100+logicalStride)},
		{"permanent: of another plugin", func(o *Observation) {
			withPermanent(o)
			set(o, "phys", phys(900))
			s := logical(900)
			s.Plugin = "wal2json"
			set(o, "logi", s)
		}, "drop logi"},
		{"permanent: of another type", func(o *Observation) {
			withPermanent(o)
			set(o, "phys", logical(900))
			set(o, "logi", logical(900))
		}, "drop phys"},
		{"permanent: of a member's name", func(o *Observation) {
			withPermanent(o)
			o.Settings.Slots = []config.Slot{{Name: "n3", Type: "logical", Database: "db", Plugin: "x"}, {Name: "n1", Type: "physical"}, {Name: "n2", Type: "physical"}}
		}, ""},
		{"permanent: of the other type of cluster", func(o *Observation) {
			withPermanent(o)
			o.Settings.Slots = []config.Slot{{Name: "a", Type: "physical", ClusterType: "standby"}, {Name: "b", Type: "physical", ClusterType: "primary"}}
			o.PG.Feedback = false
		}, "create b"},
		{"permanent: on the leader of a standby cluster", func(o *Observation) {
			withPermanent(o)
			o.Settings.Standby.On, o.Memory.Primary, o.PG.Row.InRecovery, o.PG.Row.Replay = true, false, true, 1000
			o.Settings.Slots = append(permanent[:2:2], config.Slot{Name: "a", Type: "physical", ClusterType: "standby"}, config.Slot{Name: "b", Type: "physical", ClusterType: "primary"})
			o.PG.Feedback = false
			set(o, "phys", phys(800))
		}, "create a"},
		{"permanent: nothing logical behind nostream", func(o *Observation) {
			standbyPermanent(o)
			tagged(o, "n1", "replicatefrom", "n3")
			tagged(o, "n3", "nostream", true)
			o.PG.Feedback, o.PG.Upstream, o.PG.UpstreamURL = false, "n3", mem(o, "n3").ConnURL
			set(o, "logi", logical(900))
		}, "drop logi, drop n3, create phys"},
		{"permanent: nor in a ring", func(o *Observation) {
			standbyPermanent(o)
			tagged(o, "n1", "replicatefrom", "n3")
			tagged(o, "n3", "replicatefrom", "n1")
			o.PG.Feedback = false
			set(o, "logi", logical(900))
			set(o, "phys", phys(900))
		}, "drop logi"},

		{"17: failover slots are PostgreSQL's", func(o *Observation) {
			standbyPermanent(o)
			set(o, "phys", phys(900))
			set(o, "logi", SlotState{Type: SlotLogical, Failover: true, Synced: true, At: 100, HasXmin: true})
			set(o, "other", SlotState{Type: SlotLogical, Failover: true, Synced: true, At: 100, HasXmin: true})
		}, ""},
		{"17: on the primary, too", func(o *Observation) {
			withPermanent(o)
			set(o, "phys", phys(900))
			set(o, "logi", SlotState{Type: SlotLogical, Failover: true, At: 100, Database: "z"})
			set(o, "other", SlotState{Type: SlotLogical, Failover: true, At: 100})
		}, ""},
		{"17: one of the time as a primary makes room for the copy", func(o *Observation) {
			standbyPermanent(o)
			set(o, "phys", phys(900))
			set(o, "logi", SlotState{Type: SlotLogical, Failover: true, At: 100})
		}, "drop logi"},
		{"17: but not while nobody leads", func(o *Observation) {
			standbyPermanent(o)
			o.DCS.Cluster.Leader = nil
			set(o, "phys", phys(900))
			set(o, "logi", SlotState{Type: SlotLogical, Failover: true, At: 100})
		}, ""},

		{"work that runs is not begun again", func(o *Observation) {
			withPermanent(o)
			o.PG.SlotLanes = map[string]SlotLane{"": {Busy: true}}
		}, "create logi db pgoutput"},
		{"nor what failed a moment ago", func(o *Observation) {
			withPermanent(o)
			o.PG.SlotLanes = map[string]SlotLane{"db": {Failed: plus(-sec)}}
		}, "create phys"},
		{"but later", func(o *Observation) {
			withPermanent(o)
			o.PG.SlotLanes = map[string]SlotLane{"db": {Failed: plus(-20 * sec)}}
		}, "create phys, create logi db pgoutput"},
	} {
		o := base()
		c.change(o)
		plan, stale := o.slotPlan()
		if plan.steps() != c.want || stale != (c.want != "") {
			t.Errorf("%s: %q stale %v, want %q", c.name, plan.steps(), stale, c.want)
		}
	}
}

func TestFeedback(t *testing.T) { // 4.7
	for _, c := range []struct {
		name   string
		change func(o *Observation)
		want   bool
	}{
		{"no logical slot", withSlots, false},
		{"one", standbyPermanent, true},
		{"also on the primary, for when it is none any more", withPermanent, true},
		{"not where there is none", func(o *Observation) { standbyPermanent(o); o.Settings.NoFailover = true }, false},
		{"unless one cascades from it", func(o *Observation) {
			standbyPermanent(o)
			o.Settings.NoFailover = true
			tagged(o, "n3", "replicatefrom", "n1")
		}, true},
		{"and is to be promoted", func(o *Observation) {
			standbyPermanent(o)
			o.Settings.NoFailover = true
			tagged(o, "n3", "replicatefrom", "n1")
			tagged(o, "n3", "nofailover", true)
		}, false},
		{"not behind nostream", func(o *Observation) { standbyPermanent(o); tagged(o, "n1", "nostream", true) }, false},
	} {
		o := base()
		c.change(o)
		if got := o.feedback(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestPublishedSlots(t *testing.T) { // 4.8
	o := base()
	withPermanent(o)
	o.PG.Slots["logi"], o.PG.Slots["phys"] = logical(800), phys(700)
	o.PG.Slots["new"], o.PG.Slots["native"] = SlotState{Type: SlotPhysical}, SlotState{Type: SlotLogical, At: 5, Failover: true}
	want := map[string]wal.LSN{"n1": 1000, "n2": 900, "n3": 900, "phys": 700, "logi": 800}
	if got := o.publishedSlots(); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	o.Settings.MemberSlotsTTL = 0
	if got := o.publishedSlots(); !reflect.DeepEqual(got, map[string]wal.LSN{"phys": 700, "logi": 800}) {
		t.Errorf("without member_slots_ttl: %v", got)
	}
}

func TestRetain(t *testing.T) { // 4.8
	o := base()
	o.Settings.UseSlots, o.Settings.MemberSlotsTTL = true, 30*time.Minute
	o.DCS.Cluster.Status.RetainSlots = []string{"gone"}
	o.Memory.Retain = o.retain()
	names := func() (out []string) {
		for _, r := range o.Memory.Retain {
			out = append(out, r.Name)
		}
		return out
	}
	if got := names(); !reflect.DeepEqual(got, []string{"gone", "n1", "n2", "n3"}) {
		t.Errorf("seeded with %v", got)
	}
	o.Settings.Slots = []config.Slot{{Name: "n2", Type: "physical"}}
	if r := o.retain(); len(r) != 3 {
		t.Errorf("a permanent slot needs no retention: %v", r)
	}
	o.Settings.Slots = nil
	o.Now = plus(29 * time.Minute)
	o.DCS.Cluster.Members = o.DCS.Cluster.Members[:2]
	if o.Memory.Retain = o.retain(); len(o.Memory.Retain) != 4 {
		t.Errorf("too early: %v", names())
	}
	o.Now = plus(30 * time.Minute)
	if o.Memory.Retain = o.retain(); !reflect.DeepEqual(names(), []string{"n1", "n2"}) {
		t.Errorf("after the retention: %v", names())
	}
}
