package ha

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

type failoverQuery struct {
	candidate string  // only this one counts
	except    string  // all but this one
	behind    wal.LSN // they must have this position; 0: the lag limit applies
	request   int64   // revision of the request that is to be carried out
}

// about tells whether the question is about a member.
func (q failoverQuery) about(o *Observation, name string) bool {
	return name != o.Me.Name && name != q.except && (q.candidate == "" || name == q.candidate)
}

// takersFresh is how old the answers may be on which a leader gives way. It is more
// than a claim allows, since turns may take long on the host of a server that is not
// well, which must not go on asking; and whoever takes over looks once more.
const takersFresh = peerTimeout

// Question is what a leader wants to know of the members before it gives way. Answers
// to another one say nothing: a member that was down while the last leader was
// elected is up when its own leadership is asked for, and one that had not the WAL
// up to a checkpoint has it a moment later.
type Question struct {
	Candidate string  // the only member it is about; "": all
	Behind    wal.LSN // the position they must have; 0: the lag limit applies
	Request   int64   // revision of the request it is for; 0: none
	Epoch     int64   // of the leadership
	Since     Instant
}

// takers is failoverPossible (ha-behaviour 2.5) by answers to this question. It returns
// the members that must be asked first: all or none, since answers replace those of
// the question before.
func (o *Observation) takers(q failoverQuery) (can bool, ask []dcs.Member) {
	m := &o.Memory
	now := Question{Candidate: q.candidate, Behind: q.behind, Request: q.request, Epoch: m.Lease.Epoch, Since: m.Question.Since}
	if m.Question != now {
		now.Since = o.Now
		m.Question = now
	}
	members := o.candidates(q)
	answered := o.Peers.AskedAt >= now.Since && o.answered(members)
	can = answered && o.failoverPossible(q)
	if again := q.behind != 0 && !can && o.Now.Sub(o.Peers.AskedAt) >= handOverPause; !answered || again {
		return false, members
	}
	return can, nil
}

// candidates are the members that could take over, by what etcd tells of them.
func (o *Observation) candidates(q failoverQuery) (out []dcs.Member) {
	if o.DCS.Cluster == nil || o.order() != nil { // nobody races while an order is open
		return nil
	}
	for i := range o.DCS.Cluster.Members {
		if mem := &o.DCS.Cluster.Members[i]; q.about(o, mem.Name) && o.barred(mem) == "" {
			out = append(out, *mem)
		}
	}
	return out
}

// answered tells whether members have been asked lately.
func (o *Observation) answered(members []dcs.Member) bool {
	return o.Peers.AskedAt != 0 && o.Now.Sub(o.Peers.AskedAt) <= takersFresh && !slices.ContainsFunc(members, func(mem dcs.Member) bool {
		_, known := o.Peers.Answers[mem.Name]
		return !known
	})
}

// failoverPossible tells whether some other member could take over, by the answers at
// hand.
func (o *Observation) failoverPossible(q failoverQuery) bool {
	good := 0
	for _, mem := range o.candidates(q) {
		if p, known := o.Peers.Answers[mem.Name]; known && o.failing(p, q) == "" {
			good++
		}
	}
	return good > 0 && o.enough(good, q.candidate != "")
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
