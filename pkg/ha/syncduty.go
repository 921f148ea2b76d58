package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// A synchronous standby that is to be stopped is relieved first, while it still
// confirms commits: it publishes that it may not do that duty, and waits until
// /sync names it no more. Otherwise the primary's commits would stand still until
// it has noticed (ha-behaviour 3.7).

// relieved puts off the stop of a standby's server until it has no synchronous
// duty any more, at most for limit. ok is false when nothing stands in the way.
func (o *Observation) relieved(limit time.Duration) (d Decision, ok bool) {
	m := &o.Memory
	if !o.onSyncDuty() {
		return d, false
	}
	if m.LeavesSync == 0 {
		m.LeavesSync = o.Now
	}
	left := m.LeavesSync.Add(limit).Sub(o.Now)
	if left <= 0 {
		return d, false
	}
	return o.wait(min(left, o.period()), SyncLeaves), true
}

// onSyncDuty: the present leader counts on this standby.
func (o *Observation) onSyncDuty() bool {
	if !o.Settings.Sync.on() || !o.DCS.Fresh || o.PG.Process == ProcessDown || o.mayWrite() || o.Settings.Tags.NoSync() {
		return false
	}
	s, l := o.DCS.Cluster.Sync, o.leadership()
	return l != nil && s != nil && s.Leader == l.Name && s.Has(o.Me.Name)
}

// noteRelieved ends it: the server was restarted, or will not be.
func (o *Observation) noteRelieved() {
	m := &o.Memory
	restarting := o.Op.Running && o.Op.Kind == OpRestart
	if m.LeavesSync != 0 && !o.Stopping && !restarting && o.Restart.Now.Serial == m.Restart.Now && !o.scheduledDue() {
		m.LeavesSync = 0
	}
}

// scheduledDue: a scheduled restart is only waiting for that.
func (o *Observation) scheduledDue() bool {
	r := o.Restart.Scheduled
	if r.Serial == o.Memory.Restart.Scheduled {
		return false
	}
	due, stale := o.scheduled(r.At)
	return due && !stale
}

// publishedTags are the configured ones, but for a standby that leaves its
// synchronous duty.
func (o *Observation) publishedTags() dcs.Tags {
	if o.Memory.LeavesSync == 0 {
		return o.Settings.Tags
	}
	tags := make(dcs.Tags, 0, len(o.Settings.Tags)+2)
	for _, t := range o.Settings.Tags {
		if t.Name != "nosync" && t.Name != "sync_priority" {
			tags = append(tags, t)
		}
	}
	return append(tags, dcs.Tag{Name: "nosync", Value: true}, dcs.Tag{Name: "sync_priority", Value: int64(0)})
}
