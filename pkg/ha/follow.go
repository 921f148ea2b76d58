package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// follow is row H8 with table F: somebody else holds the lock.
func follow(o *Observation) Decision {
	m := &o.Memory
	if o.mayWrite() { // F4b
		m.armRewind()
		return o.begin(Stop{Mode: StopImmediate}, DemoteNoLock, "the leader is "+o.DCS.Cluster.LeaderName())
	}
	if o.Leash.Armed != 0 && o.PG.Known {
		return o.disarm()
	}
	leader, ready := o.upstream(o.DCS.Cluster.LeaderName())
	if !o.PG.Known {
		return o.rest(SecondaryNoAction, leader.Member)
	}
	if d, repoint := o.repoint(); repoint { // F8
		return d
	}
	if ready {
		if m.Rewind == RewindIdle && o.leaderTimeline() > o.PG.Row.Timeline && o.PG.Row.Timeline != 0 && o.PG.Row.ReplicationState != "streaming" && !o.justCompared() { // F10
			m.armRewind()
		}
		if o.PG.Row.ReplicationState == "streaming" && m.Rewind == RewindCheck && o.PG.Row.Timeline == o.leaderTimeline() {
			m.Rewind, m.RewindFor = RewindIdle, m.LastEpoch // streaming on the leader's timeline is the proof
		}
		ref, known := o.reference(leader, ready)
		if d, done := rejoin(o, ref, known); done { // F5
			return d
		}
	}
	if o.replayStuck() { // F6
		return o.then(ResumeReplay{}, SecondaryResumes)
	}
	if plan, stale := o.slotPlan(); stale {
		return o.then(plan, SecondarySlots)
	}
	if d, copies := o.copySlots(leader, ready); copies {
		return d
	}
	if !ready {
		return o.rest(SecondaryNoUpstream, leader.Member)
	}
	follows := SecondaryNoAction
	if o.Settings.Standby.On {
		follows = SecondaryOfStandby
	}
	if !o.noStream() && (o.PG.Row.ReplicationState != "streaming" || o.PG.Row.Timeline != o.leaderTimeline() && o.PG.Row.Replay >= o.PG.Row.Receive) {
		return o.wait(min(settling, o.period()), follows, leader.Member)
	}
	return o.rest(follows, leader.Member)
}

// noStream: this member gets its WAL from the archive alone.
func (o *Observation) noStream() bool { return o.Settings.Tags.Bool("nostream") }

// replayStuck: from version 14 on, a standby pauses when the primary came up with
// larger settings than its own. Told to go on it ends, and comes up with those of
// its control file (ha-behaviour 7.8).
func (o *Observation) replayStuck() bool {
	if _, just := o.Last.Action.(ResumeReplay); just {
		return false
	}
	return o.PG.Row.ReplayPaused && o.PG.ServerVersion >= 140000
}

// settling is the pause between looks at a standby that does not stream on the
// leader's timeline yet: of that, the server sends no event. One that replays with
// a delay (recovery_min_apply_delay) may stay on the old timeline for hours.
const settling = 500 * time.Millisecond

// justCompared: the last comparison with the leader is less than a period old.
func (o *Observation) justCompared() bool {
	return o.Op.Kind == OpCheckDivergence && o.Now.Sub(o.Op.Ended) < o.period()
}

func (o *Observation) leaderTimeline() timeline {
	if l := o.DCS.Cluster.Member(o.DCS.Cluster.LeaderName()); l != nil {
		return l.Timeline
	}
	return 0
}

// repoint follows another upstream by a reload when the settings name the wrong one.
func (o *Observation) repoint() (Decision, bool) {
	up := o.followed()
	if o.noStream() && !o.followsRemote() && !o.Settings.Pause && (o.PG.Upstream != "" || o.PG.Row.ReplicationState == "streaming") {
		return o.then(Follow{}, SecondaryFollows, "nobody, as nostream says"), true
	}
	if up.ConnURL == "" || o.PG.Upstream == up.Member && o.PG.UpstreamURL == up.ConnURL {
		return Decision{}, false
	}
	if f, ok := o.Last.Action.(Follow); ok && f.Upstream == up && o.Last.Result != ResultOK {
		return o.rest(SecondaryFollows, up.Member+": "+o.Last.Error), true
	}
	return o.then(Follow{Upstream: up}, SecondaryFollows, up.Member), true
}

// followName is whom this node follows (ha-behaviour 1.14).
func (o *Observation) followName() string {
	c := o.DCS.Cluster
	if o.noStream() {
		return ""
	}
	if up := o.Settings.ReplicateFrom; up != "" && up != o.Me.Name && c.Member(up) != nil {
		return up
	}
	if name := c.LeaderName(); name != o.Me.Name {
		return name
	}
	return ""
}

// upstream describes the member called name; ready tells that it runs as the
// leader does, as far as its own key says.
func (o *Observation) upstream(name string) (up Upstream, ready bool) {
	up.Member = name
	mem := o.DCS.Cluster.Member(name)
	if mem == nil || name == "" {
		return up, false
	}
	up.ConnURL = mem.ConnURL
	up.Checkpointed = mem.CheckpointAfterPromote == nil && !o.outdated(mem)
	return up, mem.ConnURL != "" && mem.State == "running" && mem.Role == o.leaderRole()
}

// outdated tells whether the leader's beat knows of a promotion that its member
// key does not tell of yet: then that key says nothing about a checkpoint.
func (o *Observation) outdated(mem *dcs.Member) bool {
	l, st := o.DCS.Cluster.Leader, o.DCS.Cluster.Status
	if l == nil || l.Name != mem.Name || st == nil || st.Beat == nil || st.Beat.Released {
		return false
	}
	b := st.Beat
	return mem.Timeline < b.Timeline || b.Next > b.Timeline && mem.ModRevision < l.Epoch
}
