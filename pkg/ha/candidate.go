package ha

import (
	"fmt"
	"strings"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

type failoverQuery struct {
	candidate string  // only this one counts
	except    string  // all but this one
	behind    wal.LSN // they must have this position; 0: the lag limit applies
}

// about tells whether the question is about a member.
func (q failoverQuery) about(o *Observation, name string) bool {
	return name != o.Me.Name && name != q.except && (q.candidate == "" || name == q.candidate)
}

// takersFresh is how old the answers may be on which a leader gives way. It is more
// than a claim allows, since turns may take long on the host of a server that is not
// well, which must not go on asking; and whoever takes over looks once more.
const takersFresh = peerTimeout

// failoverPossible is ha-behaviour 2.5: could some other member take over? It returns
// the members that must be asked first: all or none, since answers replace those of
// the question before.
func (o *Observation) failoverPossible(q failoverQuery) (can bool, ask []dcs.Member) {
	if o.DCS.Cluster == nil || o.order() != nil { // nobody races while an order is open
		return false, nil
	}
	good := 0
	fresh := o.Peers.AskedAt != 0 && o.Now.Sub(o.Peers.AskedAt) <= takersFresh
	answered := fresh
	for i := range o.DCS.Cluster.Members {
		mem := &o.DCS.Cluster.Members[i]
		if !q.about(o, mem.Name) || o.barred(mem) != "" {
			continue
		}
		ask = append(ask, *mem)
		p, known := o.Peers.Answers[mem.Name]
		answered = answered && known
		if fresh && known && o.failing(p, q) == "" {
			good++
		}
	}
	if answered {
		ask = nil
	}
	return o.enough(good, q.candidate != ""), ask
}

// barred says why a member is no candidate whatever it would answer, "" if it may
// be one.
func (o *Observation) barred(mem *dcs.Member) string {
	switch {
	case mem.NoFailover():
		return "tagged nofailover"
	case mem.APIURL == "":
		return "publishes no api_url"
	case !o.mayTakeOver(mem.Name):
		return "no synchronous standby"
	case o.unlisted(mem.Name):
		return "not in /failsafe"
	}
	return ""
}

// failing says why a member is no good candidate by its answer, "" if it is one.
func (o *Observation) failing(p Peer, q failoverQuery) string {
	limitation := p.Limitation()
	switch {
	case limitation != "":
		return limitation
	case q.behind != 0 && p.Position < q.behind:
		return "has not got the WAL up to " + q.behind.String()
	case q.behind == 0 && o.position().Sub(p.Position) > o.maxLag():
		return fmt.Sprintf("%d bytes of WAL behind, more than maximum_lag_on_failover", o.position().Sub(p.Position))
	case p.Timeline < o.reached() && (o.Settings.CheckTimeline || p.Timeline != 0): // it would refuse
		return fmt.Sprintf("on timeline %d, older than %d", p.Timeline, o.reached())
	}
	return ""
}

// whyNobody says of each member that a question was about why it is no good
// candidate. The answers are in.
func (o *Observation) whyNobody(q failoverQuery) string {
	var each []string
	if o.order() != nil {
		each = append(each, "a restore is ordered")
	}
	for i := range o.DCS.Cluster.Members {
		mem := &o.DCS.Cluster.Members[i]
		if !q.about(o, mem.Name) {
			continue
		}
		why := o.barred(mem)
		if why == "" {
			why = o.failing(o.Peers.Answers[mem.Name], q)
		}
		if why == "" {
			why = "good, but too few are for the quorum"
		}
		each = append(each, mem.Name+": "+why)
	}
	if len(each) == 0 {
		return "there is no other member"
	}
	return strings.Join(each, ", ")
}
