package restapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// action is the request as the answers name it.
type action string

const (
	actSwitchover action = "switchover"
	actFailover   action = "failover"
)

// memberTimeout is how long members have to answer for themselves (wire contract
// §5.4).
const memberTimeout = 2 * time.Second

// title is the name at the start of a sentence.
func (a action) title() string { return strings.ToUpper(string(a[:1])) + string(a[1:]) }

// verb is "switch" or "fail".
func (a action) verb() string { return strings.TrimSuffix(string(a), "over") }

// refusal is an answer that ends a request early.
type refusal struct {
	code int
	text string
}

func (s *Server) switchover(w http.ResponseWriter, req *http.Request) {
	s.manualFailover(w, req, actSwitchover)
}

func (s *Server) failover(w http.ResponseWriter, req *http.Request) {
	s.manualFailover(w, req, actFailover)
}

// manualFailover answers POST /switchover and /failover (wire contract §5.8):
// check, write /failover for the lock holder to see, report what became of it.
func (s *Server) manualFailover(w http.ResponseWriter, req *http.Request, act action) {
	_, fields, ok := body(w, req)
	if !ok {
		return
	}
	r, err := readRequest(fields)
	if err != nil {
		s.text(w, http.StatusBadRequest, err.Error())
		return
	}
	c, err := s.readCluster(req.Context())
	if err != nil {
		s.unreadable(w, err)
		return
	}
	env := failoverEnv{cluster: c, now: time.Now()}
	if c.Config != nil {
		env.mode, _, env.paused, env.loopWait = parseDynamic(c.Config.Raw)
	}
	act, at, no := env.checkRequest(act, r)
	if no == nil && at.IsZero() { // who can take over then, nobody knows now
		no = env.checkCluster(act, r, func(members []dcs.Member) map[string]ha.Peer {
			ctx, cancel := context.WithTimeout(req.Context(), memberTimeout)
			defer cancel()
			return s.agent.AskMembers(ctx, members)
		})
	}
	if no != nil {
		s.text(w, no.code, no.text)
		return
	}
	var revision int64
	if c.Failover != nil {
		revision = c.Failover.ModRevision
	}
	s.log.Info("manual "+string(act)+" requested", "leader", r.Leader, "candidate", r.Candidate, "scheduled_at", r.ScheduledAt, "by", s.by(req))
	// Guarded by what was just read: of two requests at once one wins.
	if err := s.putFailoverKey(req.Context(), dcs.Failover{Leader: r.Leader, Candidate: r.Candidate, ScheduledAt: at}, &revision); err != nil {
		s.log.Warn("write /failover", "error", err)
		s.text(w, http.StatusServiceUnavailable, "failed to write failover key into DCS")
		return
	}
	if !at.IsZero() {
		s.text(w, http.StatusAccepted, act.title()+" scheduled")
		return
	}
	s.reportFailover(w, req, act, r.Candidate, env)
}

// readRequest takes the fields of the body; "member" is an old name of
// "candidate". Empty and null count as absent.
func readRequest(fields pyjson.Object) (SwitchoverRequest, error) {
	var r SwitchoverRequest
	var member string
	for _, f := range fields {
		var into *string
		switch f.Name {
		case "leader":
			into = &r.Leader
		case "candidate":
			into = &r.Candidate
		case "member":
			into = &member
		case "scheduled_at":
			into = &r.ScheduledAt
		default:
			continue // unknown fields are ignored, as Patroni does
		}
		text, isText := f.Value.(string)
		if f.Value != nil && !isText {
			return r, fmt.Errorf("%s must be a string", f.Name)
		}
		*into = text
	}
	if r.Candidate == "" {
		r.Candidate = member
	}
	return r, nil
}

// failoverEnv is what a request is judged by.
type failoverEnv struct {
	cluster  *dcs.Cluster
	now      time.Time
	mode     config.SyncMode
	paused   bool
	loopWait time.Duration
}

// checkRequest applies rows 1-7 of the table in wire contract §5.8. A failover
// that names a leader goes on as a switchover.
func (e failoverEnv) checkRequest(act action, r SwitchoverRequest) (_ action, at time.Time, bad *refusal) {
	no := func(code int, text string) (action, time.Time, *refusal) { return act, at, &refusal{code, text} }
	switch {
	case act == actFailover && r.Candidate == "":
		return no(http.StatusBadRequest, "Failover could be performed only to a specific candidate")
	case act == actSwitchover && r.Leader == "":
		return no(http.StatusBadRequest, "Switchover could be performed only from a specific leader")
	case act == actFailover && r.ScheduledAt != "":
		return no(http.StatusBadRequest, "Failover can't be scheduled")
	case r.ScheduledAt != "" && e.paused:
		return no(http.StatusBadRequest, "Can't schedule switchover in the paused state")
	}
	if r.ScheduledAt != "" {
		if at, bad = readSchedule(r.ScheduledAt, string(actSwitchover), e.now); bad != nil {
			return act, at, bad
		}
	}
	if e.paused && r.Candidate == "" {
		return no(http.StatusBadRequest, "Switchover is possible only to a specific candidate in a paused state")
	}
	if r.Leader != "" {
		act = actSwitchover
	}
	if r.Leader != "" && r.Leader == r.Candidate {
		return no(http.StatusBadRequest, "Switchover target and source are the same")
	}
	return act, at, nil
}

// parseISO reads an ISO 8601 date and time; zone tells whether it had an offset.
func parseISO(text string) (at time.Time, zone, ok bool) {
	if at, err := dcs.ParseTime(text); err == nil {
		return at, true, true
	}
	text = strings.Replace(strings.TrimSpace(text), " ", "T", 1)
	for _, form := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if at, err := time.Parse(form, text); err == nil {
			return at, false, true
		}
	}
	return time.Time{}, false, false
}

// checkCluster applies rows 8-13; nil means somebody can take over.
func (e failoverEnv) checkCluster(act action, r SwitchoverRequest, ask func([]dcs.Member) map[string]ha.Peer) *refusal {
	no := func(text string) *refusal { return &refusal{http.StatusPreconditionFailed, text} }
	c := e.cluster
	holder := c.LeaderName()
	if r.Leader != "" && r.Leader != holder {
		return no("leader name does not match")
	}
	var members []dcs.Member
	switch {
	case r.Candidate != "":
		if act == actSwitchover && e.mode == config.SyncOn && !inSync(c.Sync, r.Candidate) {
			return no("candidate name does not match with sync_standby")
		}
		m := c.Member(r.Candidate)
		switch {
		case m == nil:
			return no("candidate does not exists")
		case m.Name == holder:
			// Patroni lets the lock holder drop this after the fact.
			return no("candidate is the leader already")
		}
		members = []dcs.Member{*m}
	case e.mode == config.SyncOn:
		members = e.others(func(m dcs.Member) bool { return inSync(c.Sync, m.Name) })
		if len(members) == 0 {
			return no(string(act) + " is not possible: can not find sync_standby")
		}
	default:
		members = e.others(func(m dcs.Member) bool { return m.APIURL != "" })
		if len(members) == 0 {
			return no(string(act) + " is not possible: cluster does not have members except leader")
		}
	}
	answers := ask(members)
	for _, m := range members {
		if p, ok := answers[m.Name]; ok && p.Limitation() == "" {
			return nil
		}
	}
	return no(string(act) + " is not possible: no good candidates have been found (" + e.whyNobody(r.Candidate, members, answers) + ")")
}

// whyNobody says of each member that could have been meant why it was none of the
// good candidates.
func (e failoverEnv) whyNobody(candidate string, asked []dcs.Member, answers map[string]ha.Peer) string {
	var each []string
	for _, m := range e.others(func(m dcs.Member) bool { return candidate == "" || m.Name == candidate }) {
		why := answers[m.Name].Limitation()
		switch {
		case m.NoFailover():
			why = "tagged nofailover"
		case m.APIURL == "":
			why = "publishes no api_url"
		case !slices.ContainsFunc(asked, func(a dcs.Member) bool { return a.Name == m.Name }):
			why = "no synchronous standby"
		}
		each = append(each, m.Name+": "+why)
	}
	return strings.Join(each, ", ")
}

// whyDropped is what the journal says of the request that was dropped last, if it
// was after a time and this member dropped it; it begins with ": ".
func (s *Server) whyDropped(after time.Time) string {
	list, _ := s.agent.Events()
	for _, e := range slices.Backward(list) {
		if e.At.Before(after.Truncate(time.Millisecond)) {
			break
		}
		if e.Reason == ha.FailoverCleaned.Code() {
			_, why, _ := strings.Cut(e.Cause, ": ")
			return ": " + why
		}
	}
	return ""
}

// others are the members except the lock holder that satisfy is.
func (e failoverEnv) others(is func(dcs.Member) bool) []dcs.Member {
	var out []dcs.Member
	for _, m := range e.cluster.Members {
		if m.Name != e.cluster.LeaderName() && is(m) {
			out = append(out, m)
		}
	}
	return out
}

// outcome is what became of a request.
type outcome int

const (
	outcomeOpen    outcome = iota
	outcomeMoved           // the lock has a new holder
	outcomeDropped         // the request was dropped without one
)

// progress follows a written request through the views of the cluster.
type progress struct {
	before string // lock holder at the time of the request
	from   int64  // etcd revision of that read
	seen   bool   // the request was seen in /failover
}

// look judges one snapshot. Older ones than the read that the request was
// checked against say nothing, and an absent /failover means "dropped" only
// after the request, or its cleaning, was seen there.
func (p *progress) look(c *dcs.Cluster) outcome {
	if c == nil || c.Revision < p.from {
		return outcomeOpen
	}
	if name := c.LeaderName(); name != "" && name != p.before {
		return outcomeMoved
	}
	switch f := c.Failover; {
	case f == nil:
		if p.seen {
			return outcomeDropped
		}
	case f.ModRevision > p.from:
		p.seen = true
		if f.Empty() {
			return outcomeDropped
		}
	}
	return outcomeOpen
}

// failoverWait is how long the outcome is waited for (row 16).
func failoverWait(loopWait time.Duration) time.Duration {
	return 2 * max(10*time.Second, loopWait)
}

// reportFailover waits for the outcome and answers (rows 16-19).
func (s *Server) reportFailover(w http.ResponseWriter, req *http.Request, act action, candidate string, env failoverEnv) {
	limit := failoverWait(env.loopWait)
	s.mayTake(w, limit)
	ctx, cancel := context.WithTimeout(req.Context(), limit)
	defer cancel()

	p := progress{before: env.cluster.LeaderName(), from: env.cluster.Revision}
	result, holder := outcomeOpen, ""
	s.await(ctx, func(v *ha.View) bool {
		if result = p.look(v.Cluster); result == outcomeOpen {
			return false
		}
		holder = v.Cluster.LeaderName()
		return true
	})
	switch {
	case result == outcomeMoved && (candidate == "" || candidate == holder):
		s.text(w, http.StatusOK, fmt.Sprintf("Successfully %sed over to %q", act.verb(), holder))
	case result == outcomeMoved:
		verb := act.verb()
		s.text(w, http.StatusOK, fmt.Sprintf("%s%sed over to %q instead of %q", strings.ToUpper(verb[:1]), verb[1:], holder, candidate))
	case result == outcomeDropped:
		s.text(w, http.StatusServiceUnavailable, act.title()+" failed"+s.whyDropped(env.now))
	default:
		s.text(w, http.StatusServiceUnavailable, act.title()+" status unknown")
	}
}
