package ctl

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// standbySection is /config's section standby_cluster, as far as options set it.
type standbySection struct {
	Host            string `json:"host,omitempty"`
	Port            int    `json:"port,omitempty"`
	PrimarySlotName string `json:"primary_slot_name,omitempty"`
	RestoreCommand  string `json:"restore_command,omitempty"`
}

// roleChange turns a whole cluster into a standby of another, or back (wire
// contract §6.2).
type roleChange struct {
	verb    string          // demote or promote
	role    string          // the leader's when it is done
	standby *standbySection // nil removes the section
	force   bool
}

func newDemoteClusterCommand(a *App, opts *globals) *cobra.Command {
	var section standbySection
	to := roleChange{verb: "demote", role: "standby_leader", standby: &section}
	cmd := clusterCommand(a, opts, func(ctx context.Context, s *session, name string) error {
		if section.Host == "" && section.Port == 0 && section.RestoreCommand == "" {
			return refuse("At least --host, --port or --restore-command should be specified")
		}
		return a.changeClusterRole(ctx, s, name, to)
	})
	cmd.Use = "demote-cluster [CLUSTER]"
	cmd.Short = "Make the cluster a standby of another one"
	cmd.Long = "Make the cluster a standby of another one: of the server at --host and --port, or of an archive alone.\n\n" +
		"The primary is stopped in good order, so that all of its WAL reaches the other side, and comes back as\n" +
		"the standby leader. It stays a primary while the server named does not answer, or is of another system.\n" +
		"The last lines say where the WAL ends: promote-cluster on the other side looks for it."
	flags := cmd.Flags()
	flags.StringVar(&section.Host, "host", "", "address of the remote node")
	flags.IntVar(&section.Port, "port", 0, "port of the remote node")
	flags.StringVar(&section.RestoreCommand, "restore-command", "", "command that brings WAL of the remote primary")
	flags.StringVar(&section.PrimarySlotName, "primary-slot-name", "", "replication slot to use on the remote node")
	flags.BoolVar(&to.force, "force", false, "ask nothing")
	return cmd
}

func newPromoteClusterCommand(a *App, opts *globals) *cobra.Command {
	to := roleChange{verb: "promote", role: "primary"}
	cmd := clusterCommand(a, opts, func(ctx context.Context, s *session, name string) error {
		return a.changeClusterRole(ctx, s, name, to)
	})
	cmd.Use = "promote-cluster [CLUSTER]"
	cmd.Short = "Make a standby cluster one of its own"
	cmd.Long = "Make a standby cluster one of its own.\n\n" +
		"Before it asks, it says what the server that the cluster follows has, and whether all of that is here.\n" +
		"It waits for up to 30 seconds for the rest, when nobody writes there any more. It forbids nothing:\n" +
		"the other side may be lost for good."
	cmd.Flags().BoolVar(&to.force, "force", false, "ask nothing")
	return cmd
}

// changeClusterRole is the flow of patronictl: check, show, ask, change the
// configuration, and tell every second how far the cluster is.
func (a *App) changeClusterRole(ctx context.Context, s *session, name string, to roleChange) error {
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	leader := c.Member(c.LeaderName())
	noun := strings.TrimSuffix(to.verb, "e") + "ion"
	switch {
	case c.LeaderName() == "":
		return refuse("Cluster has no leader, %s is not possible", noun)
	case leader == nil:
		return refuse("The leader %s publishes no member key, %s is not possible", c.LeaderName(), noun)
	case leader.Role == to.role && !(to.standby == nil && dynamicOf(c).StandbyCluster != nil): // that section may be one the leader does not follow
		return refuse("Cluster is already in the required state")
	}
	a.printf("Current cluster topology\n")
	if err := writeMembers(a.Out, c, name, formatPretty, false); err != nil {
		return err
	}
	if to.standby == nil {
		if err := a.remoteState(ctx, s, leader); err != nil {
			return err
		}
	}
	if !to.force {
		yes, err := a.confirm(ctx, fmt.Sprintf("Are you sure you want to %s %s cluster?", to.verb, name))
		if err != nil {
			return err
		}
		if !yes {
			return refuse("Aborted cluster %s", noun)
		}
	}
	r, err := a.askOne(ctx, s, leader, request{method: http.MethodPatch, path: "/config", body: map[string]any{"standby_cluster": to.standby}})
	switch {
	case ctx.Err() != nil:
		return errAborted
	case err != nil:
		return refuse("Failed to %s %s cluster: %v", to.verb, name, err)
	case r.status != http.StatusOK:
		return refuse("Failed to %s %s cluster: /config PATCH status code=%d, (%s)", to.verb, name, r.status, plain.OneLine(r.text))
	}
	return a.followRole(ctx, s, name, leader.Name, to)
}

// followRole reads the cluster until its leader has the new role, and the old
// leader runs again.
func (a *App) followRole(ctx context.Context, s *session, name, oldLeader string, to roleChange) error {
	var last *dcs.Cluster
	err := a.follow(ctx, &follower{app: a}, func() (bool, error) {
		c, err := s.look(ctx, name)
		if err != nil {
			return false, err
		}
		last = c
		state, done := to.progress(c, oldLeader)
		switch {
		case done:
			state = fmt.Sprintf("cluster is successfully %sd", to.verb)
		case to.takenBack(c):
			return false, refuse("The change was taken back: somebody has changed standby_cluster in /config meanwhile")
		case to.standby != nil:
			state += a.notDemoted(ctx, s, c)
		}
		a.printf("%s %s\n", a.Now().Format(time.DateTime), state)
		return done, nil
	})
	switch {
	case ctx.Err() != nil:
		return left(fmt.Sprintf("The change goes on: \"pghactl list %s\" shows it", name))
	case err != nil:
		return err
	}
	if err := writeMembers(a.Out, last, name, formatPretty, false); err != nil || to.standby == nil {
		return err
	}
	a.printf("%s", walEnd(last))
	return nil
}

// takenBack tells whether /config says the opposite by now.
func (to roleChange) takenBack(c *dcs.Cluster) bool {
	if c.Config == nil {
		return false
	}
	dyn, err := config.ParseDynamic(c.Config.Raw)
	return err == nil && dyn != nil && (dyn.StandbyCluster != nil) != (to.standby != nil)
}

// notDemoted is what a leader says that stays a primary although it is to be a
// standby: the server named does not answer, or is of another system.
func (a *App) notDemoted(ctx context.Context, s *session, c *dcs.Cluster) string {
	leader := c.Member(c.LeaderName())
	if leader == nil || leader.Role != "primary" {
		return ""
	}
	doc := a.whyMember(ctx, s, c, leader)
	if doc.Reason != ha.StandbyRefused.Code() {
		return ""
	}
	return fmt.Sprintf("; %s is %s (promote-cluster takes the change back)", leader.Name, plain.OneLine(doc.Doing))
}

// progress describes how far the change is, in patronictl's words.
func (to roleChange) progress(c *dcs.Cluster, oldLeader string) (text string, done bool) {
	role, state := "None", "None"
	leader := c.Member(c.LeaderName())
	if leader != nil {
		role, state = leader.Role, leader.State
	}
	old := c.Member(oldLeader)
	done = leader != nil && role == to.role && state == "running" &&
		(to.standby == nil || old != nil && old.State == "running")
	unlocked := "False"
	if c.LeaderName() == "" {
		unlocked = "True"
	}
	text = fmt.Sprintf("cluster is unlocked: %s, leader role: %s, leader state: %s", unlocked, role, state)
	if to.standby != nil && leader != nil && leader.Name != oldLeader && old != nil {
		text += fmt.Sprintf(", previous leader state: '%s'", old.State)
	}
	return text, done
}
