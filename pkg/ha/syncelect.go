package ha

import (
	"fmt"
	"slices"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// voters returns /sync and whether it restricts who may lead: synchronous mode
// is asked for, and a primary has taken note.
func (o *Observation) voters() (s *dcs.Sync, on bool) {
	s = o.DCS.Cluster.Sync
	return s, o.Settings.Sync.on() && s != nil && s.Leader != ""
}

// quorumElects tells whether a candidate has to be backed by other voters. A
// quorum in /sync counts until a primary has replaced it, whatever the mode is
// called meanwhile.
func (o *Observation) quorumElects() bool {
	s, on := o.voters()
	return on && (o.Settings.Sync.Mode == config.SyncQuorum || s.Quorum > 0)
}

// mayElect tells whether a member's answer counts in this election.
func (o *Observation) mayElect(name string) bool {
	s, on := o.voters()
	return !on || s.Voter(name)
}

// syncUnfit is 2.1.7 and 2.1.10: why a standby may lack what was acknowledged.
func (o *Observation) syncUnfit() string {
	if o.Settings.Sync.on() && o.DCS.Cluster.Invalid[dcs.KeySync] != "" {
		return "the key /sync cannot be read, and only it tells who has what was acknowledged"
	}
	s, on := o.voters()
	f := o.raceRequest()
	switch {
	case !on || s.Voter(o.Me.Name):
	case o.wanted() && f.Leader == "": // an operator took the responsibility
	case o.quorumElects() && (f == nil || o.inVain(f)): // it needs one vote more
	default:
		return "I am not a synchronous standby: /sync does not name me"
	}
	return ""
}

// inVain: whoever could take over by the request is on a timeline that the cluster has
// left (S2). Nobody but a leader drops it.
func (o *Observation) inVain(f *dcs.Failover) bool {
	return !slices.ContainsFunc(o.DCS.Cluster.Members, func(mem dcs.Member) bool {
		named := f.Candidate == mem.Name || f.Candidate == "" && o.mayTakeOver(mem.Name)
		return named && (mem.Timeline == 0 || mem.Timeline >= o.reached())
	})
}

// poll counts the answers of an election (ha-behaviour 2.2.4 and 2.2.5).
type poll struct {
	votes int
	ahead bool // the leader of /sync has more WAL
}

// carried says why the quorum is not reached, "" if it is or none is needed.
func (o *Observation) carried(p poll) string {
	if !o.quorumElects() {
		return ""
	}
	s, _ := o.voters()
	if !s.Voter(o.Me.Name) {
		p.votes--
	}
	if p.votes >= s.Quorum || !p.ahead && s.Leader == o.Me.Name && o.ledLast() {
		return ""
	}
	return fmt.Sprintf("%d of the voters in /sync are known not to be ahead of me, its quorum is %d", max(p.votes, 0), s.Quorum)
}

// unopposed: a request names this node, and that is enough. With a quorum in /sync
// a switchover needs the votes, too: the leader may have died before the candidate
// had everything.
func (o *Observation) unopposed() bool {
	return o.wanted() && (o.DCS.Cluster.Failover.Leader == "" || !o.quorumElects())
}

// opposed: the candidate of a switchover lacks what this voter has, and would not
// take over.
func (o *Observation) opposed(p Peer) bool {
	return o.DCS.Cluster.Failover.Leader != "" && o.quorumElects() && p.Position < o.PG.Row.Position
}

// formerLeader is whom nobody gives way to at equal WAL.
func (o *Observation) formerLeader() string {
	if s, on := o.voters(); on {
		return s.Leader
	}
	return o.Memory.LastLeader
}

// enough tells whether so many good candidates, one at least, are enough of them for
// one to win.
func (o *Observation) enough(good int, named bool) bool {
	s, _ := o.voters()
	return named || !o.quorumElects() || good > s.Quorum
}

// mayTakeOver tells whether a member may be handed the leadership to: with
// synchronous standbys only one of them, unless an operator names another
// without naming the leader.
func (o *Observation) mayTakeOver(name string) bool {
	s, on := o.voters()
	f := o.DCS.Cluster.Failover
	return !on || s.Has(name) || !f.Empty() && f.Leader == "" && f.Candidate == name
}
