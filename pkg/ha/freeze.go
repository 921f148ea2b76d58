package ha

import (
	"fmt"

	"github.com/pgha/pgha/pkg/dcs"
)

// Freezing (safety B.5). A primary that was stopped and wakes up late may still be
// acknowledged by its standbys, however long its deadline has passed. So in an
// election with synchronous replication a candidate compares no positions before
// enough voters, and itself, have ended their WAL receivers. A frozen voter
// streams again only after a write to etcd has shown that a leadership is there:
// the key of one that ended never comes back, so no old answer, and no restart of
// agent or server, can make it serve the primary of before.

// Ballot is what an election with frozen voters goes by. Answers count for the
// very state of etcd they were asked in.
type Ballot struct {
	Epoch  int64 // the last leadership known: nobody streams from it any more
	Status int64 // mod revision of /status
	Sync   int64 // mod revision of /sync
}

// frozenElection tells whether positions may be compared only of standbys that
// stream no more. A leadership that ended in good order acknowledges nothing, and
// one without synchronous standbys promised nothing.
func (o *Observation) frozenElection() bool {
	_, on := o.voters()
	return on && o.PG.Row.InRecovery && !o.endedWell()
}

// endedWell: the last leadership is marked as over, and no later one of a member
// that writes no beat was seen.
func (o *Observation) endedWell() bool {
	return Released(o.DCS.Cluster) && o.DCS.Cluster.Status.Beat.Epoch >= o.Memory.LastEpoch
}

// lastEpoch is the newest leadership known here; 0: none.
func (o *Observation) lastEpoch() int64 {
	last := o.Memory.LastEpoch
	if st := o.DCS.Cluster.Status; st != nil && st.Beat != nil {
		if last = max(last, st.Beat.Epoch); st.Beat.Epoch == 0 {
			last = max(last, st.ModRevision) // the claim's own write
		}
	}
	return last
}

// ballot is that of the present election; zero where nobody has to be asked to
// freeze: of synchronous standbys in the mode with names, each has what was
// acknowledged to one, so that the candidate's own receiver is enough.
func (o *Observation) ballot() Ballot {
	if !o.quorumElects() || !o.frozenElection() {
		return Ballot{}
	}
	c := o.DCS.Cluster
	return Ballot{Epoch: o.lastEpoch(), Status: c.ModRevision(dcs.KeyStatus), Sync: c.ModRevision(dcs.KeySync)}
}

// freezeAsked is the voter's side: another member stands for election. In a
// cluster without a leader that needs no more of a reason.
func (o *Observation) freezeAsked() (d Decision, ok bool) {
	m := &o.Memory
	if o.Freeze == m.FreezeSeen || !o.PG.Known || !o.PG.Row.InRecovery {
		return d, false
	}
	if o.PG.Frozen {
		m.FreezeSeen = o.Freeze
		return d, false
	}
	if last, just := o.Last.Action.(Freeze); just && last.Asked && o.Last.Result != ResultOK {
		m.FreezeSeen = o.Freeze // whoever asked will ask again
		return d, false
	}
	return o.then(Freeze{Asked: true}, ElectionFreezes), true
}

// frozenVoter tells whether this node may answer a candidate that it streams from
// nobody, nor will from a leadership that it knows of.
func (o *Observation) frozenVoter() bool {
	return o.DCS.Fresh && o.DCS.Cluster != nil && o.DCS.Cluster.Leader == nil && !o.quarantined() && o.PG.Known && o.PG.Row.InRecovery && o.PG.Frozen
}

// freezeFirst is the candidate's side.
func (o *Observation) freezeFirst() (d Decision, ok bool) {
	if o.PG.Frozen || !o.frozenElection() {
		return d, false
	}
	if last, just := o.Last.Action.(Freeze); just && !last.Asked && o.Last.Result != ResultOK {
		return refuse(o, "the WAL receiver does not end: "+o.Last.Error), true
	}
	return o.then(Freeze{}, ElectionFreezes), true
}

// backs tells whether an answer counts as a vote: its position cannot have grown
// since. Who cannot freeze (Patroni, pgha of before) is asked the old way, and is
// what the promise of a mixed cluster rests on.
func (o *Observation) backs(p *Peer) bool {
	if p.Position == 0 {
		return false
	}
	return o.ballot() == Ballot{} || p.Frozen || p.Unaware
}

// ledLast tells whether the last leadership was this node's own, as far as is
// known: then nobody else has acknowledged anything since.
func (o *Observation) ledLast() bool {
	st := o.DCS.Cluster.Status
	return st == nil || st.Beat == nil || st.Beat.Holder == o.Me.Holder
}

// streams returns the server that a would let this one stream from.
func streams(a Action) (up Upstream, ok bool) {
	switch a := a.(type) {
	case Follow:
		up = a.Upstream
	case Start:
		up = a.Upstream
	case Restart:
		up = a.Upstream
	default:
	}
	return up, up.ConnURL != ""
}

// thawed puts the question to etcd before a decision that lets this server stream
// from anybody. A server that streams already and is not frozen goes on.
func (o *Observation) thawed(d Decision) Decision {
	up, ok := streams(d.Action)
	l := o.leadership()
	if !ok || l == nil || d.Memory.Thawed == l.Epoch || !o.Settings.Sync.on() && !o.PG.Frozen {
		return d
	}
	if r, restart := d.Action.(Restart); restart {
		if o.PG.Upstream != up.Member || o.PG.UpstreamURL != up.ConnURL {
			r.Upstream = Upstream{} // it is asked afterwards: whoever sent the request waits
			d.Action = r
		}
		return d
	}
	o.Memory = d.Memory
	if _, just := o.Last.Action.(Thaw); just && o.Last.Result != ResultOK {
		return o.wait(settling, SecondaryThaws, fmt.Sprintf("%s: %s", l.Name, o.Last.Error))
	}
	return o.then(Thaw{Epoch: l.Epoch}, SecondaryThaws, l.Name)
}

// leadership is the present one of somebody else, nil if there is none.
func (o *Observation) leadership() *dcs.Leader {
	if !o.DCS.Fresh || o.DCS.Cluster == nil || o.leaderIsMe() {
		return nil
	}
	return o.DCS.Cluster.Leader
}
