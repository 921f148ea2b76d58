package agent

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// unready are the logical slots of a standby that cannot be relied upon yet: the
// primary was not seen to keep the rows of catalogs that they need (ha-behaviour
// 4.6). Nothing is decided by it; a promotion says so.
type unready struct {
	mu     sync.Mutex
	server string // start time of the server the rest is about
	// slots maps each to the horizon of the primary's own slot when it was first
	// looked at, 0 before.
	slots map[string]uint32
	asked ha.Instant
	busy  bool
}

// readyPeriod is the pause between questions to the leader.
const readyPeriod = 5 * time.Second

// note takes in the local slots, and tells whether the leader is to be asked.
func (u *unready) note(st *postgres.Status, now ha.Instant) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	local := horizons(st.Slots)
	switch {
	case !st.InRecovery:
		u.slots = nil
	case u.server != st.StartTime:
		u.slots = make(map[string]uint32, len(local))
		for name := range local {
			u.slots[name] = 0
		}
	}
	u.server = st.StartTime
	maps.DeleteFunc(u.slots, func(name string, _ uint32) bool { _, there := local[name]; return !there })
	if len(u.slots) == 0 || u.busy || u.asked != 0 && now.Sub(u.asked) < readyPeriod {
		return false
	}
	u.busy, u.asked = true, now
	return true
}

// judge takes in the leader's horizons, nil if it did not answer, and returns the
// slots that are ready now. held is the slot by which this server streams.
func (u *unready) judge(leader map[string]uint32, held string, local map[string]uint32) (ready []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.busy = false
	for name, first := range u.slots {
		if first == 0 {
			first = leader[name]
			u.slots[name] = first
		}
		if postgres.SlotReady(first, leader[held], local[name]) {
			delete(u.slots, name)
			ready = append(ready, name)
		}
	}
	slices.Sort(ready)
	return ready
}

// names are the slots that are not ready.
func (u *unready) names() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Sorted(maps.Keys(u.slots))
}

// horizons are those of the logical slots that are ours to look after.
func horizons(all []postgres.Slot) map[string]uint32 {
	out := map[string]uint32{}
	for i := range all {
		if s := &all[i]; s.Type == string(ha.SlotLogical) && !s.Failover {
			out[s.Name] = s.CatalogXmin
		}
	}
	return out
}

// watchUnready asks the leader, beside the loop, whether it keeps what the logical
// slots of this standby need.
func (n *node) watchUnready(st *postgres.Status) {
	if !n.unready.note(st, n.now()) {
		return
	}
	local := horizons(st.Slots)
	n.background(func(ctx context.Context) {
		leader, held := n.leaderFor(n.cluster())
		var xmins map[string]uint32
		if leader != nil {
			var err error
			if xmins, err = n.srv.SlotXmins(ctx, *leader); err != nil {
				n.log.Debug(err.Error())
			}
		}
		for _, name := range n.unready.judge(xmins, held, local) {
			n.log.Info("the primary keeps what a copied logical slot needs", "slot", name)
		}
	})
}

// leaderFor is the leader, nil for nobody else, and its slot by which WAL comes to
// this node.
func (n *node) leaderFor(c *dcs.Cluster) (up *postgres.Upstream, slot string) {
	if c == nil || c.LeaderName() == "" || c.LeaderName() == n.name || c.Member(c.LeaderName()) == nil {
		return nil, ""
	}
	return n.upstreamOf(ha.Upstream{Member: c.LeaderName(), ConnURL: c.Member(c.LeaderName()).ConnURL}), ha.LeaderSlot(c, n.name)
}
