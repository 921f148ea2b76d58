package ha

import (
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// SlotVerb is what is done to a slot.
type SlotVerb int

// What may be done to a slot. A slot that is to be made anew is dropped first;
// the next look finds it missing.
const (
	SlotDrop SlotVerb = iota
	SlotCreate
	SlotAdvance
)

// SlotStep is one thing to do to one slot.
type SlotStep struct {
	Verb             SlotVerb
	Name             string
	Type             SlotType
	Database, Plugin string // of a logical one
	To               wal.LSN
	Why              string // of a drop
}

// Lane is what a step has to queue in: logical slots are made and moved in their
// database, which may take long, and nothing else waits for that.
func (s SlotStep) Lane() string {
	if s.Type == SlotLogical && s.Verb != SlotDrop {
		return s.Database
	}
	return ""
}

// SlotLane is the work on slots of one lane.
type SlotLane struct {
	Busy bool
	// Failed is when a step of it last failed, 0 when the last ones did not;
	// Error is why.
	Failed Instant
	Error  string
}

// slotPlan compares the slots there are with those wanted (ha-behaviour 4.4).
// Work that runs, or failed a moment ago, is not begun again.
func (o *Observation) slotPlan() (plan SyncSlots, stale bool) {
	if _, just := o.Last.Action.(SyncSlots); just || o.PG.Slots == nil || !o.PG.Known || o.DCS.Cluster.Config == nil {
		return SyncSlots{}, false
	}
	plan.Feedback = o.feedback()
	want, _ := o.wantedSlots()
	for _, s := range o.slotSteps(want) {
		lane := o.PG.SlotLanes[s.Lane()]
		if _, due := o.retryDue(lane.Failed); due && !lane.Busy {
			plan.Steps = append(plan.Steps, s)
		}
	}
	return plan, len(plan.Steps) > 0 || plan.Feedback != o.PG.Feedback
}

func (o *Observation) slotSteps(want []Slot) (steps []SlotStep) {
	wanted := make(map[string]*Slot, len(want))
	for i := range want {
		wanted[want[i].Name] = &want[i]
	}
	names := make([]string, 0, len(o.PG.Slots))
	for name := range o.PG.Slots {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if why := o.dropSlot(name, wanted[name]); why != "" {
			steps = append(steps, SlotStep{Verb: SlotDrop, Name: name, Type: o.PG.Slots[name].Type, Why: why})
		} else if to := o.advanceSlot(name, wanted[name]); to != 0 {
			s := o.PG.Slots[name]
			steps = append(steps, SlotStep{Verb: SlotAdvance, Name: name, Type: s.Type, Database: s.Database, To: to})
		}
	}
	for i := range want {
		s := &want[i]
		if _, exists := o.PG.Slots[s.Name]; !exists && o.maySlot(s) {
			steps = append(steps, SlotStep{Verb: SlotCreate, Name: s.Name, Type: s.Type, Database: s.Database, Plugin: s.Plugin})
		}
	}
	return steps
}

// maySlot tells whether a missing slot may be made here. A logical one comes
// into being on the primary; standbys get a copy.
func (o *Observation) maySlot(s *Slot) bool {
	return s.Type == SlotPhysical || !o.PG.Row.InRecovery && o.PG.WALLevel == walLevelLogical
}

const walLevelLogical = "logical"

// dropSlot says why the slot called name has to go, "" if it stays. Nobody's
// stream is cut off for that.
func (o *Observation) dropSlot(name string, want *Slot) string {
	have := o.PG.Slots[name]
	switch logicalFailover := have.Type == SlotLogical && have.Failover; {
	case have.Active, o.ignoredSlot(name, have):
		return ""
	case logicalFailover && o.PG.Row.InRecovery && !have.Synced && o.otherLeads(): // D10
		return "PostgreSQL itself is to bring it here from the primary"
	case logicalFailover:
		return ""
	case want == nil && !o.Settings.Pause:
		return "nobody wants it"
	case want == nil:
		return ""
	case have.Lost && !o.Settings.Pause:
		return "what it needs is gone"
	case !want.fits(have):
		return "it is of another type, database or plugin than /config says"
	case have.Type == SlotLogical || want.Use == UseActive:
		return ""
	case have.HasXmin && want.Use == UseIdle && o.DCS.Cluster.Leader != nil && !(o.leaderIsMe() && o.PG.Row.InRecovery):
		return "it holds back vacuum, and nobody uses it"
	case !have.HasXmin && have.Restart == 0:
		return "it reserves no WAL" // ours do from the start
	}
	return ""
}

func (o *Observation) otherLeads() bool { return o.DCS.Cluster.Leader != nil && !o.leaderIsMe() }

// ignoredSlot: ignore_slots says that a slot like this is somebody else's.
func (o *Observation) ignoredSlot(name string, s SlotState) bool {
	return slices.ContainsFunc(o.Settings.IgnoreSlots, func(f config.SlotFilter) bool {
		return (f.Name == "" || f.Name == name) && (f.Type == "" || f.Type == string(s.Type)) &&
			(f.Database == "" || f.Database == s.Database) && (f.Plugin == "" || f.Plugin == s.Plugin)
	})
}

// logicalStride bounds what a logical slot is moved at once: the server reads all
// the WAL in between, and what it has read counts only at the end.
const logicalStride = 512 << 20

// advanceSlot is where the slot called name is to be moved to, 0 for nowhere:
// never past what this server has replayed or written.
func (o *Observation) advanceSlot(name string, want *Slot) wal.LSN {
	have, row := o.PG.Slots[name], &o.PG.Row
	if want == nil || want.LSN == 0 || have.Active || have.Lost || have.Failover || !want.fits(have) {
		return 0
	}
	limit := row.Position
	if row.InRecovery {
		limit = row.Replay
	}
	to := min(want.LSN, limit)
	switch {
	case have.Type == SlotLogical && row.InRecovery:
		to = min(to, have.At+logicalStride)
	case have.Type == SlotLogical || want.Use == UseActive || have.HasXmin || have.Restart == 0:
		return 0
	}
	if to <= have.At {
		return 0
	}
	return to
}

// copySlots brings the logical slots that this standby lacks over from the
// leader (ha-behaviour 4.5). The server has to be restarted for that.
func (o *Observation) copySlots(leader Upstream, ready bool) (Decision, bool) {
	missing := o.slotsToCopy()
	m := &o.Memory
	switch {
	case len(missing) == 0:
		m.SlotCopies = 0
		return Decision{}, false
	case !ready || o.Settings.Pause || o.slotsUnfit() != "":
		return Decision{}, false
	case m.SlotCopies > 0 && o.Now.Sub(m.SlotsCopied) < o.copyPause():
		return Decision{}, false // a restart a moment ago did not help
	}
	m.SlotCopies++
	m.SlotsCopied = o.Now
	return o.begin(CopySlots{From: leader, Slots: missing}, SecondaryCopiesSlots, slotNames(missing)), true
}

// copyPause grows with each attempt: every one may restart the server.
func (o *Observation) copyPause() time.Duration {
	return min(o.period()<<min(o.Memory.SlotCopies, 10), 10*time.Minute)
}

// slotsToCopy are the logical slots that the leader tells of and this standby
// lacks.
func (o *Observation) slotsToCopy() (missing []Slot) {
	if o.PG.Slots == nil || !o.PG.Row.InRecovery {
		return nil
	}
	want, _ := o.wantedSlots()
	for _, s := range want {
		if _, exists := o.PG.Slots[s.Name]; !exists && s.Type == SlotLogical && s.LSN != 0 {
			missing = append(missing, s)
		}
	}
	return missing
}

// slotsUnfit is why this server would not start with the logical slots it lacks,
// or not make them; "" if it would.
func (o *Observation) slotsUnfit() string {
	switch {
	case o.PG.WALLevel != walLevelLogical:
		return "wal_level is " + o.PG.WALLevel + ": logical slots need logical"
	case o.PG.MaxSlots < len(o.PG.Slots)+len(o.slotsToCopy()):
		return "max_replication_slots is too small for the slots of /config"
	}
	return ""
}

// slotProblems say what keeps slots from being as they should.
func (o *Observation) slotProblems() []string {
	if o.PG.Slots == nil || !o.PG.Known || o.DCS.Cluster == nil {
		return nil
	}
	want, problems := o.wantedSlots()
	lacks := func(s Slot) bool { _, exists := o.PG.Slots[s.Name]; return s.Type == SlotLogical && !exists }
	if why := o.slotsUnfit(); why != "" && slices.ContainsFunc(want, lacks) {
		problems = append(problems, why)
	}
	for _, lane := range o.PG.SlotLanes {
		if lane.Error != "" {
			problems = append(problems, lane.Error)
		}
	}
	slices.Sort(problems)
	return slices.Compact(problems)
}

func slotNames(all []Slot) string {
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	return strings.Join(names, ", ")
}
