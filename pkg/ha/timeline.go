package ha

import (
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

type timeline = wal.Timeline

// Two standbys that are promoted from one timeline give their new one the same
// number, with different contents. What keeps a candidate from that is to know
// which numbers were given; but a primary may die between its promotion and its
// write of /history. So a claim publishes the number it is about to give (Next of
// the beat) in the transaction that takes the leader key, before anything can be
// promoted, and whoever comes later goes past it.

// clusterTimeline is the timeline that the cluster is known to have reached; 0
// when unknown. /history names the timeline a switch came from, not the one it
// went to, and numbers may be left out: the holder's beat and a restore order
// know better.
func clusterTimeline(c *dcs.Cluster) timeline {
	reached := timeline(0)
	if c.Restore != nil && c.Restore.State == dcs.RestoreDone {
		reached = c.Restore.Timeline
	}
	if st := c.Status; st != nil && st.Beat != nil {
		reached = max(reached, st.Beat.Timeline)
	}
	if c.History == nil {
		return reached
	}
	n := len(c.History.Lines)
	if n == 0 {
		return max(reached, 1)
	}
	return max(reached, c.History.Lines[n-1].Timeline+1)
}

// givenTimeline is the highest number that may have been given to a timeline.
func givenTimeline(c *dcs.Cluster) timeline {
	given := clusterTimeline(c)
	if st := c.Status; st != nil && st.Beat != nil {
		given = max(given, st.Beat.Timeline, st.Beat.Next)
	}
	return given
}

// nextTimeline is the number that a promotion of this node is to give. One that
// it published itself and did not give stands.
func (o *Observation) nextTimeline() timeline {
	c, mine := o.DCS.Cluster, max(o.PG.Row.Timeline, o.dataTimeline())
	if b := o.ownBeat(); b != nil && b.Next > max(clusterTimeline(c), mine, b.Timeline) {
		return b.Next
	}
	return max(givenTimeline(c), mine, o.givenBefore()) + 1
}

// dataTimeline is the one that the control file tells of; 0 if it was not looked at.
func (o *Observation) dataTimeline() timeline {
	return max(o.PG.Control.Timeline, o.PG.Control.MinRecoveryEndTLI)
}

// givenBefore is the highest number that the timelines of this server's data may have
// by what this node saw in any etcd and, where etcd does not tell, by what the members
// are on: this node may have been away when that number was given.
func (o *Observation) givenBefore() timeline {
	given := timeline(0)
	if s := &o.Memory.Seen; s.GivenOf == o.PG.SystemID {
		given = s.Given
	}
	if o.unled() {
		for i := range o.DCS.Cluster.Members {
			given = max(given, o.DCS.Cluster.Members[i].Timeline, o.DCS.Cluster.Members[i].DataTimeline)
		}
	}
	return given
}

// publishNumber is the round that must come before anything makes a timeline of
// the next number: others have to know of it.
func (o *Observation) publishNumber() (d Decision, ok bool) {
	if b := o.ownBeat(); b != nil && b.Next >= o.nextTimeline() {
		return d, false
	}
	if _, just := o.Last.Action.(Renew); just {
		return o.wait(retryPause(o.Memory.Lease.Timing), LeaderPromoting, "its timeline's number is not published yet"), true
	}
	return o.then(renewal(o), LeaseRenewal), true
}

// ownBeat is the last beat, if this node wrote it as the present leader.
func (o *Observation) ownBeat() *dcs.Beat {
	c, l := o.DCS.Cluster, o.Memory.Lease
	if c == nil || c.Status == nil || c.Status.Beat == nil || l.Epoch == 0 {
		return nil
	}
	b := c.Status.Beat
	if b.Holder != o.Me.Holder || b.Epoch != l.Epoch && (b.Epoch != 0 || c.Status.ModRevision != l.Epoch) {
		return nil
	}
	return b
}

// Numbers are the timelines in the beats of a leadership of this node: the one
// its server writes, and the one a promotion of it may give. The snapshot may
// not show yet what others saw, so a later beat must not say less. Position is where
// the server was when it was last seen on Timeline.
type Numbers struct {
	Epoch          int64
	Timeline, Next timeline
	Position       wal.LSN
}

// noteNumbers keeps Numbers until somebody else leads.
func (o *Observation) noteNumbers() {
	m, n := &o.Memory, &o.Memory.Numbers
	if c := o.DCS.Cluster; o.DCS.Fresh && c.Leader != nil && c.Leader.Name != o.Me.Name && c.Leader.Epoch > n.Epoch {
		*n = Numbers{}
	}
	if m.Lease.Epoch == 0 {
		return
	}
	n.Epoch = m.Lease.Epoch
	if o.PG.Known && !o.PG.Row.InRecovery {
		n.Timeline, n.Position = o.PG.Row.Timeline, o.PG.Row.Position
	}
	if b := o.ownBeat(); b != nil {
		n.Next = max(n.Next, b.Next)
	}
}

// number puts into b what this node's server writes and may give.
func (o *Observation) number(b *dcs.Beat) {
	if c := o.DCS.Cluster; c != nil {
		b.Next = givenTimeline(c)
		if st := c.Status; st != nil && st.Beat != nil {
			b.Timeline = st.Beat.Timeline
		}
	}
	n := &o.Memory.Numbers
	b.Timeline = max(b.Timeline, n.Timeline)
	switch {
	case o.PG.Known && !o.PG.Row.InRecovery:
		b.Timeline = o.PG.Row.Timeline
	case o.PG.Known && o.DCS.Cluster != nil && !o.Settings.Standby.On:
		b.Next = o.nextTimeline()
	}
	if r := o.order(); r != nil && r.Member == o.Me.Name { // the end of its recovery gives one, too
		b.Next = o.nextTimeline()
	}
	if b.Next = max(b.Next, n.Next); b.Next <= b.Timeline {
		b.Next = 0
	}
}
