package ha

import (
	"slices"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// SlotType is the type of a replication slot, in PostgreSQL's words.
type SlotType string

// The types of a slot.
const (
	SlotPhysical SlotType = "physical"
	SlotLogical  SlotType = "logical"
)

// SlotState is a replication slot of this node's server; temporary ones are
// left out.
type SlotState struct {
	Type             SlotType
	Database, Plugin string // of a logical one
	Active           bool   // somebody streams from it
	HasXmin          bool   // it holds back vacuum
	// Lost: what it needs is gone, so that nobody can use it any more.
	Lost bool
	// Failover: PostgreSQL 17 itself keeps it on standbys; Synced: this is such a
	// copy.
	Failover, Synced bool
	// Restart is the oldest WAL it keeps, 0 for none. At is what is published of
	// it: the same for a physical one, what its consumer has confirmed for a
	// logical one.
	Restart, At wal.LSN
}

// Use is what a wanted slot is expected to be used for.
type Use int

// Expectations of use.
const (
	UseUnknown Use = iota
	UseIdle        // nobody streams from it: it is moved along
	UseActive      // its member would stream from this node
)

// Slot is a replication slot that this node should have.
type Slot struct {
	Name             string
	Type             SlotType
	Database, Plugin string
	LSN              wal.LSN // to move it to while nobody uses it, 0 unknown
	Use              Use
}

func (s *Slot) fits(have SlotState) bool {
	return s.Type == have.Type && (s.Type == SlotPhysical || s.Database == have.Database && s.Plugin == have.Plugin)
}

// wantedSlots is ha-behaviour 4.2 and 4.3: slots for the members, the permanent
// ones of /config, and those of members that were here a moment ago. problems
// says which of /config's cannot be had.
func (o *Observation) wantedSlots() (want []Slot, problems []string) {
	if !o.Settings.UseSlots {
		return nil, nil
	}
	seen := map[string]bool{dcs.SlotName(o.Me.Name): true}
	add := func(s Slot) {
		if !seen[s.Name] {
			seen[s.Name] = true
			want = append(want, s)
		}
	}
	c := o.DCS.Cluster
	for i := range c.Members {
		mem := &c.Members[i]
		if mem.Tags.Bool("nostream") || mem.Name == o.Me.Name {
			continue
		}
		s := Slot{Name: dcs.SlotName(mem.Name), Type: SlotPhysical, Use: UseIdle}
		if seen[s.Name] {
			problems = append(problems, "the slot "+s.Name+" of "+mem.Name+" is another member's, too: their names are too much alike")
		}
		if o.streamsFromMe(mem) {
			s.Use = UseActive
		} else if o.Settings.MemberSlotsTTL <= 0 || o.Settings.NoFailover {
			continue
		}
		s.LSN = o.slotPosition(s.Name)
		add(s)
	}
	for _, p := range o.permanentSlots() {
		s := Slot{Name: p.Name, Type: SlotType(p.Type), Database: p.Database, Plugin: p.Plugin, LSN: o.slotPosition(p.Name)}
		if s.Type == SlotLogical && seen[s.Name] {
			problems = append(problems, "the logical slot "+s.Name+" of /config has the name of a member's slot")
			continue
		}
		s.Use = o.permanentUse(s.Name)
		add(s)
	}
	if c.Status != nil && !o.Settings.NoFailover && o.Settings.MemberSlotsTTL > 0 {
		for _, name := range c.Status.RetainSlots {
			add(Slot{Name: name, Type: SlotPhysical})
		}
	}
	return want, problems
}

// permanentSlots are those of /config that have a place on this node.
func (o *Observation) permanentSlots() []config.Slot {
	if !o.Settings.UseSlots || o.Settings.NoFailover || len(o.Settings.Slots) == 0 {
		return nil
	}
	elsewhere, logical := "standby", o.streamsUp(o.Me.Name)
	if o.Settings.Standby.On {
		elsewhere, logical = "primary", false
	}
	return slices.DeleteFunc(slices.Clone(o.Settings.Slots), func(s config.Slot) bool {
		return s.ClusterType == elsewhere || isLogical(s) && !logical
	})
}

// permanentPhysical are the names of the permanent physical slots.
func (o *Observation) permanentPhysical() map[string]bool {
	names := map[string]bool{}
	for _, s := range o.permanentSlots() {
		if SlotType(s.Type) == SlotPhysical {
			names[s.Name] = true
		}
	}
	return names
}

// permanentUse: on the primary somebody outside is expected, unless a member of
// that name streams from another one.
func (o *Observation) permanentUse(name string) Use {
	if o.PG.Row.InRecovery && !o.leadsStandby() {
		return UseIdle
	}
	for i := range o.DCS.Cluster.Members {
		if mem := &o.DCS.Cluster.Members[i]; dcs.SlotName(mem.Name) == name && !o.streamsFromMe(mem) {
			return UseIdle
		}
	}
	return UseActive
}

// streamsUp tells whether WAL reaches the member called name as a stream all the
// way from the primary: no nostream and no ring of replicatefrom on the way.
func (o *Observation) streamsUp(name string) bool {
	c := o.DCS.Cluster
	for visited := map[string]bool{}; name != c.LeaderName() && !visited[name]; name = o.upstreamOf(name) {
		if visited[name] = true; o.tagsOf(name).Bool("nostream") {
			return false
		}
		if o.upstreamOf(name) == "" {
			return true // nobody leads: there is no stream, and nothing that would keep one away
		}
	}
	return name == c.LeaderName()
}

// tagsOf are the tags of a member; this node's are known before they are published.
func (o *Observation) tagsOf(name string) dcs.Tags {
	if name == o.Me.Name {
		return o.Settings.Tags
	}
	if mem := o.DCS.Cluster.Member(name); mem != nil {
		return mem.Tags
	}
	return nil
}

// upstreamOf is the member that the one called name streams from, "" for nobody.
func (o *Observation) upstreamOf(name string) string {
	return upstreamIn(o.DCS.Cluster, name, o.tagsOf(name))
}

func upstreamIn(c *dcs.Cluster, name string, tags dcs.Tags) string {
	if from := tags.String("replicatefrom"); from != "" && from != name && c.Member(from) != nil && name != c.LeaderName() {
		return from
	}
	return c.LeaderName()
}

// LeaderSlot is the leader's slot by which WAL comes to the member called name,
// through whatever other members.
func LeaderSlot(c *dcs.Cluster, name string) string {
	for visited := map[string]bool{}; !visited[name]; {
		visited[name] = true
		mem := c.Member(name)
		if mem == nil {
			break
		}
		from := upstreamIn(c, name, mem.Tags)
		if from == c.LeaderName() {
			break
		}
		name = from
	}
	return dcs.SlotName(name)
}

// feedback tells whether hot_standby_feedback has to be on: rows that a logical
// slot of this node, or of one that cascades from it, needs must not be removed
// on the primary (ha-behaviour 4.7).
func (o *Observation) feedback() bool {
	if !o.Settings.UseSlots || o.Settings.Standby.On || !slices.ContainsFunc(o.Settings.Slots, isLogical) || !o.streamsUp(o.Me.Name) {
		return false
	}
	if !o.Settings.NoFailover {
		return true
	}
	c := o.DCS.Cluster
	for i := range c.Members {
		mem := &c.Members[i]
		if mem.Name != o.Me.Name && !mem.Tags.NoFailover() && o.streamsUp(mem.Name) && o.passesThroughMe(mem.Name) {
			return true
		}
	}
	return false
}

func isLogical(s config.Slot) bool { return SlotType(s.Type) == SlotLogical }

// passesThroughMe: the stream to the member called name comes by this node.
func (o *Observation) passesThroughMe(name string) bool {
	for visited := map[string]bool{}; name != "" && !visited[name]; name = o.upstreamOf(name) {
		if name == o.Me.Name {
			return true
		}
		visited[name] = true
	}
	return false
}

// streamsFromMe: would mem stream from this node?
func (o *Observation) streamsFromMe(mem *dcs.Member) bool {
	from := mem.Tags.String("replicatefrom")
	if !o.PG.Row.InRecovery || o.leadsStandby() {
		return from == "" || from == o.Me.Name || o.DCS.Cluster.Member(from) == nil
	}
	return from == o.Me.Name && mem.Name != o.DCS.Cluster.LeaderName()
}

// slotPosition is where the slot called name stands on the leader. What a
// cascading member uses stands elsewhere, and a leader older than 4.0 does not
// tell of members' slots: there the member's own position counts.
func (o *Observation) slotPosition(name string) wal.LSN {
	c := o.DCS.Cluster
	var at wal.LSN
	if c.Status != nil {
		at = c.Status.Slots[name]
	}
	silent := false
	if l := c.Member(c.LeaderName()); l != nil {
		silent = l.Version == "" || before4(l.Version)
	}
	for i := range c.Members {
		mem := &c.Members[i]
		if dcs.SlotName(mem.Name) == name && (silent || mem.Tags.String("replicatefrom") != "") {
			at = max(at, mem.XLogLocation)
		}
	}
	return at
}

// before4 tells whether an agent's version is known to be below 4.0.0.
func before4(version string) bool {
	return len(version) > 1 && version[1] == '.' && version[0] < '4'
}

// publishedSlots are the positions that /status and POST /failsafe tell of
// (ha-behaviour 4.8); nil while they are unknown.
func (o *Observation) publishedSlots() map[string]wal.LSN {
	if o.PG.Slots == nil {
		return nil
	}
	out := make(map[string]wal.LSN, len(o.PG.Slots)+1)
	for name, s := range o.PG.Slots {
		if s.At != 0 && !s.Failover {
			out[name] = s.At
		}
	}
	if o.Settings.UseSlots {
		out[dcs.SlotName(o.Me.Name)] = o.PG.Row.Position
	}
	if o.Settings.MemberSlotsTTL > 0 {
		return out
	}
	permanent := map[string]bool{}
	for _, s := range o.permanentSlots() {
		permanent[s.Name] = true
	}
	for name := range out {
		if !permanent[name] {
			delete(out, name)
		}
	}
	return out
}

// Retained is a slot name of /status.retain_slots and when its member was last
// seen.
type Retained struct {
	Name string
	Seen Instant
}

// retain updates the names that outlive their member's key by
// member_slots_ttl: on a failover the keys of the dead leader vanish with its
// lock (ha-behaviour 4.8).
func (o *Observation) retain() []Retained {
	c, ttl := o.DCS.Cluster, o.Settings.MemberSlotsTTL
	if ttl <= 0 || !o.Settings.UseSlots {
		return nil
	}
	present, permanent := map[string]bool{}, o.permanentPhysical()
	for i := range c.Members {
		if name := dcs.SlotName(c.Members[i].Name); !c.Members[i].Tags.Bool("nostream") && !permanent[name] {
			present[name] = true
		}
	}
	old := o.Memory.Retain
	if old == nil && c.Status != nil {
		for _, name := range c.Status.RetainSlots {
			old = append(old, Retained{Name: name, Seen: o.Now})
		}
	}
	var out []Retained
	for _, r := range old {
		if !present[r.Name] && !permanent[r.Name] && o.Now.Sub(r.Seen) < ttl {
			out = append(out, r)
		}
	}
	for name := range present {
		out = append(out, Retained{Name: name, Seen: o.Now})
	}
	sortRetained(out)
	return out
}

func sortRetained(r []Retained) {
	for i := 1; i < len(r); i++ {
		for j := i; j > 0 && r[j].Name < r[j-1].Name; j-- {
			r[j], r[j-1] = r[j-1], r[j]
		}
	}
}

// historyLines is the wanted content of /history and whether it differs
// (ha-behaviour 1.13).
func (o *Observation) historyLines() (lines []dcs.HistoryLine, stale bool) {
	tl, old := o.PG.Row.Timeline, o.DCS.Cluster.History
	if _, just := o.Last.Action.(WriteHistory); just || tl == 0 {
		return nil, false
	}
	if tl == 1 {
		return []dcs.HistoryLine{}, old != nil && len(old.Lines) > 0
	}
	local := o.PG.HistoryLocal
	if old != nil && len(old.Lines) > 0 {
		last := old.Lines[len(old.Lines)-1]
		if last.NewLeader != "" && (last.Timeline == tl-1 || len(local) > 0 && last.Timeline == local[len(local)-1].Timeline && last.LSN == local[len(local)-1].LSN) {
			return nil, false // the second: a recovery to a point in time may leave out numbers
		}
	}
	if len(local) == 0 {
		return nil, false
	}
	for i, s := range local {
		line := dcs.HistoryLine{Timeline: s.Timeline, LSN: s.LSN, Reason: s.Reason}
		if i == len(local)-1 {
			line.Timestamp, line.NewLeader = o.PG.HistoryTime.Format(historyTime), o.Me.Name
		} else if prev := findLine(old, s); prev != nil {
			line.Timestamp, line.NewLeader = prev.Timestamp, prev.NewLeader
		}
		lines = append(lines, line)
	}
	if n := o.Settings.MaxTimelinesHistory; n > 0 && len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return lines, true
}

// historyTime is how Patroni prints the time of a history file.
const historyTime = "2006-01-02T15:04:05.000000-07:00"

func findLine(h *dcs.History, s wal.Switch) *dcs.HistoryLine {
	if h == nil {
		return nil
	}
	for i := range h.Lines {
		if h.Lines[i].Timeline == s.Timeline && h.Lines[i].LSN == s.LSN {
			return &h.Lines[i]
		}
	}
	return nil
}

// stopBudget is how long the orderly demotion that begins now may take.
func (m *Memory) stopBudget(o *Observation) time.Duration {
	t, _ := NewTiming(max(o.Settings.TTL, 5*time.Second), o.Settings.LoopWait, o.Settings.RetryTimeout)
	return t.Stop
}
