package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Slot is a physical replication slot this node should have.
type Slot struct {
	Name string
	// LSN to advance an unused slot to, 0 unknown.
	LSN wal.LSN
	// Active: its member would stream from this node.
	Active bool
}

// slotPlan is ha-behaviour 4.2: the member slots this node should have, and
// whether something is to be done about them.
func (o *Observation) slotPlan() (want []Slot, stale bool) {
	if _, just := o.Last.Action.(SyncSlots); just || o.PG.Slots == nil || !o.PG.Known {
		return nil, false
	}
	want = o.wantedSlots()
	listed := make(map[string]bool, len(want))
	for _, s := range want {
		listed[s.Name] = true
		have, exists := o.PG.Slots[s.Name]
		stale = stale || !exists || o.mayAdvance(s) && min(s.LSN, o.PG.Row.Position) > have
	}
	if !o.Settings.KeepUnknownSlots && !o.Settings.Pause { // 1.23.16
		for name := range o.PG.Slots {
			stale = stale || !listed[name]
		}
	}
	return want, stale
}

func (o *Observation) mayAdvance(s Slot) bool { return o.PG.Row.InRecovery && !s.Active }

func (o *Observation) wantedSlots() []Slot {
	if !o.Settings.UseSlots {
		return nil
	}
	c, own := o.DCS.Cluster, dcs.SlotName(o.Me.Name)
	var want []Slot
	seen := map[string]bool{own: true}
	for i := range c.Members {
		mem := &c.Members[i]
		name := dcs.SlotName(mem.Name)
		if seen[name] || mem.Tags.Bool("nostream") {
			continue
		}
		active := o.streamsFromMe(mem)
		if !active && (o.Settings.MemberSlotsTTL <= 0 || o.Settings.NoFailover) {
			continue
		}
		seen[name] = true
		want = append(want, Slot{Name: name, LSN: slotPosition(c, mem, name), Active: active})
	}
	if c.Status != nil && !o.Settings.NoFailover && o.Settings.MemberSlotsTTL > 0 {
		for _, name := range c.Status.RetainSlots {
			if !seen[name] {
				seen[name] = true
				want = append(want, Slot{Name: name})
			}
		}
	}
	return want
}

// streamsFromMe: would mem stream from this node?
func (o *Observation) streamsFromMe(mem *dcs.Member) bool {
	from := mem.Tags.String("replicatefrom")
	if !o.PG.Row.InRecovery || o.leadsStandby() {
		return from == "" || from == o.Me.Name || o.DCS.Cluster.Member(from) == nil
	}
	return from == o.Me.Name && mem.Name != o.DCS.Cluster.LeaderName()
}

func slotPosition(c *dcs.Cluster, mem *dcs.Member, name string) wal.LSN {
	var at wal.LSN
	if c.Status != nil {
		at = c.Status.Slots[name]
	}
	if mem.Tags.String("replicatefrom") != "" {
		at = max(at, mem.XLogLocation)
	}
	return at
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
	present := map[string]bool{}
	for i := range c.Members {
		if !c.Members[i].Tags.Bool("nostream") {
			present[dcs.SlotName(c.Members[i].Name)] = true
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
		if !present[r.Name] && o.Now.Sub(r.Seen) < ttl {
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
