package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

func newWhyCommand(a *App, opts *globals) *cobra.Command {
	f := formatPretty
	cmd := &cobra.Command{
		Use:   "why [[CLUSTER] MEMBER]",
		Short: "Say why there is no leader, or why a member may not be promoted, and what it waits for",
		Args:  atMost(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f != formatPretty && f != formatJSON {
				return usageError{"--format must be pretty or json"}
			}
			s, err := a.newSession(opts)
			if err != nil {
				return err
			}
			defer s.close()
			cluster, member := s.local.Scope, ""
			switch {
			case len(args) == 2:
				cluster, member = args[0], args[1]
			case len(args) == 1 && (cluster == "" || cluster == args[0]):
				cluster = args[0]
			case len(args) == 1:
				member = args[0]
			}
			if cluster == "" {
				_, err := clusterArg(cmd, nil, s)
				return err
			}
			return a.why(cmd.Context(), s, cluster, member, f)
		},
	}
	opts.addGroup(cmd.Flags())
	f.addDocumentTo(cmd)
	return cmd
}

// whyReport is what why has found out.
type whyReport struct {
	Cluster string      `json:"cluster"`
	Leader  string      `json:"leader"`
	Paused  bool        `json:"paused"`
	Why     []string    `json:"why"` // about the cluster, as far as etcd tells
	Members []whyMember `json:"members"`
}

// whyMember is one member's own answer, or what etcd tells in its place.
type whyMember struct {
	restapi.WhyDocument
	// Source is "member", or "etcd" when it did not answer; Silence says why.
	Source  string `json:"source"`
	Silence string `json:"silence,omitempty"`
}

func (a *App) why(ctx context.Context, s *session, cluster, member string, f format) error {
	c, err := s.read(ctx, cluster)
	if err != nil {
		if c = s.onlyMe(cluster); c == nil || member != "" && c.Member(member) == nil {
			return err
		}
		return a.whyWithoutEtcd(ctx, s, c, cluster, f, err)
	}
	if member != "" && c.Member(member) == nil && !heardOf(c, member) {
		return refuse("%s is no member of cluster %s: its key is not in etcd, so its agent does not run or cannot reach etcd", member, cluster)
	}
	r := &whyReport{Cluster: cluster, Leader: c.LeaderName(), Paused: pausedIn(c), Why: whyCluster(c)}
	r.Members = a.whyMembers(ctx, s, c, member)
	if ctx.Err() != nil {
		return errAborted
	}
	return a.tellWhy(r, member, f)
}

// heardOf tells whether what a cluster remembers names a member whose key is
// gone; another name is a typing error.
func heardOf(c *dcs.Cluster, member string) bool {
	return slices.ContainsFunc(c.Events.Events(), func(e dcs.Event) bool { return e.Member == member }) ||
		c.Failsafe != nil && c.Failsafe.Members[member] != "" ||
		c.Sync != nil && (c.Sync.Leader == member || slices.Contains(c.Sync.Standbys, member)) ||
		c.History != nil && slices.ContainsFunc(c.History.Lines, func(l dcs.HistoryLine) bool { return l.NewLeader == member })
}

// whyWithoutEtcd is what the member of this host knows. What etcd holds is not
// known, and nothing is concluded from that.
func (a *App) whyWithoutEtcd(ctx context.Context, s *session, c *dcs.Cluster, cluster string, f format, unread error) error {
	me := a.whyMembers(ctx, s, c, "")[0]
	switch {
	case ctx.Err() != nil:
		return errAborted
	case me.Source != "member":
		return unread
	}
	a.errorf("Warning: %s; asking the member of this host alone", plain.OneLine(unread.Error()))
	return a.tellWhy(&whyReport{Cluster: cluster, Leader: me.Leader, Paused: me.Paused, Why: []string{}, Members: []whyMember{me}}, me.Member, f)
}

func (a *App) tellWhy(r *whyReport, member string, f format) error {
	if f == formatJSON {
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		a.printf("%s\n", text)
		return nil
	}
	a.printf("%s", r.String(member))
	return nil
}

func pausedIn(c *dcs.Cluster) bool {
	if c.Config == nil {
		return false
	}
	d, err := config.ParseDynamic(c.Config.Raw)
	return err == nil && d != nil && d.Pause
}

// whyCluster is what etcd says about the leadership.
func whyCluster(c *dcs.Cluster) []string {
	out := []string{}
	if c.Leader != nil {
		return out
	}
	add := func(text string, args ...any) { out = append(out, fmt.Sprintf(text, args...)) }
	if pausedIn(c) {
		add("the cluster is paused: nobody is promoted by itself; resume it, or name a member with pghactl failover --candidate")
	}
	if len(c.Members) == 0 {
		add("no member's key is in etcd: no agent runs, or none reaches etcd")
	}
	switch i := c.Initialize; {
	case i == nil && c.Status == nil:
		add("the cluster was never made: a member whose file has a bootstrap section makes it")
	case i != nil && i.SystemID == "":
		add("a member is making the cluster (/initialize is empty)")
	}
	if r := c.Restore; r.Open() {
		add("%s is to restore the cluster first, as ordered by %s; pghactl restore --cancel takes the order back", r.Member, orNobody(r.By))
	}
	if f := c.Failover; !f.Empty() && f.Candidate != "" {
		add("a request names %s as the next leader", f.Candidate)
	}
	if st := c.Status; st != nil && st.Beat != nil && !st.Beat.Released {
		add("the last leader did not release its lock in good order: the others wait until its lease of %s has run out for certain", time.Duration(st.Beat.TTL)*time.Millisecond)
	}
	return out
}

func orNobody(by string) string {
	if by == "" {
		return "somebody"
	}
	return by
}

// whyMembers asks all members, or the one named.
func (a *App) whyMembers(ctx context.Context, s *session, c *dcs.Cluster, only string) []whyMember {
	var members []*dcs.Member
	for i := range c.Members {
		if m := &c.Members[i]; only == "" || m.Name == only {
			members = append(members, m)
		}
	}
	if len(members) == 0 && only != "" {
		members = []*dcs.Member{{Name: only}}
	}
	out := make([]whyMember, len(members))
	var group sync.WaitGroup
	for i, m := range members {
		group.Go(func() { out[i] = a.whyMember(ctx, s, c, m) })
	}
	group.Wait()
	return out
}

func (a *App) whyMember(ctx context.Context, s *session, c *dcs.Cluster, m *dcs.Member) whyMember {
	out := whyMember{Source: "member"}
	r, err := reply{}, error(nil)
	if m.APIURL == "" {
		err = fmt.Errorf("it publishes no REST API")
	} else {
		r, err = a.askOne(ctx, s, m, request{method: "GET", path: "/why"})
	}
	switch {
	case err != nil:
		out.Silence = plain.OneLine(err.Error())
	case r.isPatroni():
		out.Silence = "it runs Patroni, or a pgha of before, and does not say"
	case !r.ok():
		out.Silence = plain.OneLine(r.refused().Error())
	default:
		if err := r.decode(&out.WhyDocument); err != nil {
			out.Silence = plain.OneLine(err.Error())
		}
	}
	if out.Silence != "" {
		out.Source, out.WhyDocument = "etcd", concluded(c, m)
	}
	return out
}

// concluded is what etcd tells about a member that does not answer.
func concluded(c *dcs.Cluster, m *dcs.Member) restapi.WhyDocument {
	d := restapi.WhyDocument{
		Member: m.Name, State: m.State, Role: m.Role, Leader: c.LeaderName(), Leading: m.Name == c.LeaderName(), EtcdSeconds: 0, Paused: pausedIn(c), Obstacles: []restapi.WhyObstacle{},
	}
	if d.Leading {
		return d
	}
	add := func(code, text string, args ...any) {
		d.Obstacles = append(d.Obstacles, restapi.WhyObstacle{Code: code, Text: fmt.Sprintf(text, args...)})
	}
	if c.Member(m.Name) == nil {
		add("member", "its key is gone from etcd: its agent does not run, or cannot reach etcd")
		return d
	}
	if d.Paused {
		add("paused", "the cluster is paused: only a failover that names this member promotes it")
	}
	if m.NoFailover() {
		add("nofailover", "the tag nofailover is set")
	}
	if m.State != "running" {
		add("server", "PostgreSQL is not running: %s", m.State)
	}
	if last := lastTimeline(c); m.Timeline != 0 && uint64(m.Timeline) < last {
		add("timeline", "its timeline %d is older than the cluster's %d", m.Timeline, last)
	}
	if st := c.Status; st != nil && m.XLogLocation != 0 {
		if limit := lagLimit(c); st.Optime.Sub(m.XLogLocation) > limit {
			add("lag", "it was %d bytes behind the leader when it was last heard of, and maximum_lag_on_failover is %d", st.Optime.Sub(m.XLogLocation), limit)
		}
	}
	if s := c.Sync; s != nil && s.Leader != "" && !s.Voter(m.Name) {
		add("sync", "it is not a synchronous standby: /sync does not name it")
	}
	if c.Leader != nil && m.State == "running" && m.ReplicationState != "streaming" {
		add("not_streaming", "it does not stream from the leader")
	}
	return d
}

func lastTimeline(c *dcs.Cluster) uint64 {
	if c.History == nil || len(c.History.Lines) == 0 {
		return 0
	}
	return uint64(c.History.Lines[len(c.History.Lines)-1].Timeline) + 1
}

func lagLimit(c *dcs.Cluster) uint64 {
	d := config.DefaultDynamic()
	if c.Config != nil {
		if parsed, err := config.ParseDynamic(c.Config.Raw); err == nil && parsed != nil {
			d = parsed
		}
	}
	return uint64(max(d.MaximumLagOnFailover, 0))
}

// String tells it to a person.
func (r *whyReport) String(member string) string {
	var b strings.Builder
	say := func(text string, args ...any) { fmt.Fprintf(&b, text+"\n", args...) }
	if member == "" {
		switch {
		case r.Leader == "":
			say("Cluster %s has no leader: nobody holds the leader key.", r.Cluster)
			for _, why := range r.Why {
				say("  - %s", why)
			}
		case r.Paused:
			say("The leader of cluster %s is %s. The cluster is paused: nobody replaces it by itself.", r.Cluster, r.Leader)
		default:
			say("The leader of cluster %s is %s.", r.Cluster, r.Leader)
		}
	}
	for i := range r.Members {
		r.Members[i].tell(say)
	}
	return b.String()
}

func (m *whyMember) tell(say func(string, ...any)) {
	if m.Source == "etcd" {
		say("%s cannot tell itself: %s. From etcd:", m.Member, m.Silence)
	}
	state := strings.TrimSpace(m.Role + ", " + m.State)
	if state == "," {
		state = "nothing is known of it"
	}
	switch {
	case m.Leading && m.LeaseSeconds > 0:
		say("%s (%s) is the leader; its lease has %.1f s left before it would step down.", m.Member, state, m.LeaseSeconds)
	case m.Leading:
		say("%s (%s) is the leader.", m.Member, state)
	case len(m.Obstacles) == 0 && m.Leader == m.Member:
		say("%s (%s) holds the leader key and is not the primary yet.", m.Member, state)
	case len(m.Obstacles) == 0 && m.Leader != "":
		say("%s (%s) may be promoted if %s goes.", m.Member, state, m.Leader)
	case len(m.Obstacles) == 0:
		say("%s (%s) may be promoted.", m.Member, state)
	default:
		say("%s (%s) may not be promoted:", m.Member, state)
	}
	for _, o := range m.Obstacles {
		if o.SecondsLeft > 0 {
			say("  - %s (%.1f s left)", o.Text, o.SecondsLeft)
		} else {
			say("  - %s", o.Text)
		}
	}
	if m.Doing != "" {
		say("  it says: %s", m.Doing)
	}
	if m.Source == "member" && m.EtcdSeconds > 0 && m.EtcdSeconds > staleView {
		say("  its view of etcd is %.0f s old", m.EtcdSeconds)
	}
	if m.TurnedAgo > staleView {
		say("  its loop has not turned for %.0f s: the agent hangs", m.TurnedAgo)
	}
}

// staleView is from when on the age of a member's knowledge is worth a line, in
// seconds.
const staleView = 30
