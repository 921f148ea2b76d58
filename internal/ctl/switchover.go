package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

// order is a switchover or failover while it is put together: what the options
// gave, then what the prompts added.
type order struct {
	action    string // "switchover" or "failover", also the REST path
	leader    string // switchover only
	candidate string
	scheduled string // as typed
	force     bool

	at time.Time // zero: now

	leaderSet, candidateSet, scheduledSet bool // given as options: no prompt
}

const (
	actionSwitchover = "switchover"
	actionFailover   = "failover"
)

func newSwitchoverCommand(a *App, opts *globals) *cobra.Command {
	o := &order{action: actionSwitchover}
	cmd := newOrderCommand(a, opts, o)
	cmd.Short = "Make a healthy replica the leader, without losing a transaction"
	flags := cmd.Flags()
	flags.StringVar(&o.leader, "leader", "", "name of the present leader (also --primary)")
	flags.StringVar(&o.scheduled, "scheduled", "", "when, in an unambiguous format: 2026-01-31T04:00+01:00")
	return cmd
}

func newFailoverCommand(a *App, opts *globals) *cobra.Command {
	o := &order{action: actionFailover}
	cmd := newOrderCommand(a, opts, o)
	cmd.Short = "Make a given replica the leader, even if the present one is gone"
	return cmd
}

func newOrderCommand(a *App, opts *globals, o *order) *cobra.Command {
	var cmd *cobra.Command
	cmd = clusterCommand(a, opts, func(ctx context.Context, s *session, name string) error {
		flags := cmd.Flags()
		o.leaderSet, o.candidateSet = flags.Changed("leader"), flags.Changed("candidate")
		o.scheduledSet = flags.Changed("scheduled")
		return a.changeLeader(ctx, s, name, o)
	})
	cmd.Use = o.action + " [CLUSTER]"
	cmd.Flags().StringVar(&o.candidate, "candidate", "", "name of the member to become the leader")
	cmd.Flags().BoolVar(&o.force, "force", false, "ask nothing")
	return cmd
}

// refusal is an order this side does not pass on, said in patronictl's words,
// which scripts look for.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(text string, args ...any) error { return refusal(fmt.Sprintf(text, args...)) }

// changeLeader is the flow of wire contract §6.4: show, ask, order, show.
func (a *App) changeLeader(ctx context.Context, s *session, name string, o *order) error {
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	a.printf("Current cluster topology\n")
	if err := writeMembers(a.Out, c, name, formatPretty, false); err != nil {
		return err
	}
	if err := a.complete(ctx, c, name, o); err != nil {
		return err
	}
	status, text, err := a.send(ctx, s, c, o)
	switch {
	case ctx.Err() != nil:
		return errAborted
	case err != nil:
		if err := a.orderThroughDCS(ctx, s, name, o, err); err != nil {
			return err
		}
		return writeMembers(a.Out, c, name, formatPretty, false)
	case status != 200 && status != 202:
		a.printf("%s %s, details: %d, %s\n", title(o.action), verdict(text), status, plain.OneLine(text))
		return nil
	}
	a.printf("%s %s\n", a.timestamp(), text)
	if c, err = s.read(ctx, name); err != nil {
		a.warnf("%v", err) // the order was carried out: no failure
		return nil
	}
	return writeMembers(a.Out, c, name, formatPretty, false)
}

// verdict keeps apart what failed and what may yet succeed.
func verdict(text string) string {
	if strings.Contains(text, "status unknown") {
		return "result unknown"
	}
	return "failed"
}

func title(action string) string { return strings.ToUpper(action[:1]) + action[1:] }

// complete checks the order against the cluster and asks for what is missing.
func (a *App) complete(ctx context.Context, c *dcs.Cluster, name string, o *order) error {
	dyn := dynamicOf(c)
	if o.action == actionSwitchover {
		if err := a.settleLeader(ctx, c, dyn, name, o); err != nil {
			return err
		}
	}
	if err := a.settleCandidate(ctx, c, name, o); err != nil {
		return err
	}
	if !o.force && o.action == actionFailover && dyn.SynchronousMode != config.SyncOff &&
		c.Sync != nil && c.Sync.Leader != "" && !c.Sync.Voter(o.candidate) {
		question := fmt.Sprintf("Are you sure you want to failover to the asynchronous node %s?", o.candidate)
		if err := a.mustConfirm(ctx, question, o); err != nil {
			return err
		}
	}
	if o.action == actionSwitchover {
		if err := a.settleTime(ctx, dyn, o); err != nil {
			return err
		}
	}
	if o.force {
		return nil
	}
	demoting := ""
	if leader := c.LeaderName(); leader != "" {
		demoting = ", demoting current leader " + leader
	}
	if !o.at.IsZero() {
		return a.mustConfirm(ctx, fmt.Sprintf("Are you sure you want to schedule switchover of cluster %s at %s%s?",
			name, dcs.FormatTime(o.at), demoting), o)
	}
	return a.mustConfirm(ctx, fmt.Sprintf("Are you sure you want to %s cluster %s%s?", o.action, name, demoting), o)
}

func (a *App) settleLeader(ctx context.Context, c *dcs.Cluster, dyn *config.Dynamic, name string, o *order) (err error) {
	current := c.LeaderName()
	if current == "" {
		return refuse("This cluster has no leader")
	}
	if !o.leaderSet && o.force {
		o.leader = current
	} else if !o.leaderSet {
		label := "Primary"
		if dyn.StandbyCluster != nil {
			label = "Standby Leader"
		}
		if o.leader, err = a.ask(ctx, label, current); err != nil {
			return err
		}
	}
	if o.leader != current {
		return refuse("Member %s is not the leader of cluster %s", o.leader, name)
	}
	return nil
}

func (a *App) settleCandidate(ctx context.Context, c *dcs.Cluster, name string, o *order) (err error) {
	names := candidates(c)
	if len(names) == 0 {
		return refuse("No candidates found to %s to", o.action)
	}
	if !o.candidateSet && !o.force {
		label := "Candidate ['" + strings.Join(names, "', '") + "']"
		if o.candidate, err = a.ask(ctx, label, ""); err != nil {
			return err
		}
	}
	switch {
	case o.candidate == "" && o.action == actionFailover:
		return refuse("Failover could be performed only to a specific candidate")
	case o.candidate == "" || slices.Contains(names, o.candidate):
		return nil
	case o.candidate == c.LeaderName():
		return refuse("Member %s is already the leader of cluster %s", o.candidate, name)
	}
	return refuse("Member %s does not exist in cluster %s or is tagged as nofailover", o.candidate, name)
}

// candidates are the members but the leader and those tagged nofailover; the
// snapshot has them sorted.
func candidates(c *dcs.Cluster) []string {
	var names []string
	for i := range c.Members {
		if m := &c.Members[i]; m.Name != c.LeaderName() && !m.NoFailover() {
			names = append(names, m.Name)
		}
	}
	return names
}

// settleTime asks when, as patronictl does.
func (a *App) settleTime(ctx context.Context, dyn *config.Dynamic, o *order) (err error) {
	when := o.scheduled
	if !o.scheduledSet && !o.force {
		example := a.Now().Add(time.Hour).Format("2006-01-02T15:04")
		label := fmt.Sprintf("When should the switchover take place (e.g. %s ) ", example)
		if when, err = a.ask(ctx, label, "now"); err != nil {
			return err
		}
	}
	if o.at, err = a.parseSchedule(when); err != nil {
		return err
	}
	if dyn.Pause && !o.at.IsZero() {
		return refuse("Can't schedule switchover in the paused state")
	}
	return nil
}

func (a *App) mustConfirm(ctx context.Context, question string, o *order) error {
	yes, err := a.confirm(ctx, question)
	if err != nil {
		return err
	}
	switch {
	case yes:
		return nil
	case !o.at.IsZero():
		return refuse("Aborting scheduled %s", o.action)
	}
	return refuse("Aborting %s", o.action)
}

// send gives the order to the leader, or to the candidate when there is none.
func (a *App) send(ctx context.Context, s *session, c *dcs.Cluster, o *order) (status int, text string, err error) {
	receiver := c.LeaderName()
	if receiver == "" {
		receiver = o.candidate
	}
	m := c.Member(receiver)
	if m == nil || m.APIURL == "" {
		return 0, "", fmt.Errorf("member %s publishes no REST API", receiver)
	}
	api, err := s.memberAPI()
	if err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout(dynamicOf(c)))
	defer cancel()
	body := restapi.SwitchoverRequest{Leader: o.leader, Candidate: o.candidate}
	if !o.at.IsZero() {
		body.ScheduledAt = dcs.FormatTime(o.at)
	}
	status, text, err = api.Post(ctx, m.APIURL, "/"+o.action, body)
	if err == nil && status == 501 && o.action == actionSwitchover {
		status, text, err = api.Post(ctx, m.APIURL, "/"+actionFailover, body)
	}
	if err != nil {
		err = shortURLError(err)
	}
	return status, text, err
}

// answerTimeout outlasts the member, which waits for the new leader for up to
// 2*max(10 s, loop_wait) (wire contract §5.8, row 16).
func answerTimeout(dyn *config.Dynamic) time.Duration {
	return 2*max(10*time.Second, dyn.LoopWait) + 10*time.Second
}

// orderThroughDCS leaves the order in etcd, where the lock holder finds it.
func (a *App) orderThroughDCS(ctx context.Context, s *session, name string, o *order, cause error) error {
	a.warnf("%v", cause)
	a.warnf("Failing over to DCS")
	a.printf("%s Could not %s using Patroni api, falling back to DCS\n", a.timestamp(), o.action)
	return s.requestFailover(ctx, name, &dcs.Failover{Leader: o.leader, Candidate: o.candidate, ScheduledAt: o.at})
}
