package ctl

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/pkg/dcs"
)

// restartOptions are those of `restart` (wire contract §6.2).
type restartOptions struct {
	selection
	one       bool // any one of them
	pending   bool
	scheduled string
	version   string
	timeout   string

	scheduledSet, versionSet, timeoutSet bool // given: no prompt
}

// restartPatience bounds the wait for one member: a server with many dirty
// pages writes them before it stops.
const restartPatience = time.Hour

func newRestartCommand(a *App, opts *globals) *cobra.Command {
	o := restartOptions{selection: selection{action: "restart", role: anyMember}}
	var cmd *cobra.Command
	cmd = membersCommand(a, opts, func(ctx context.Context, s *session, name string, members []string) error {
		o.names = members
		flags := cmd.Flags()
		o.scheduledSet, o.versionSet, o.timeoutSet = flags.Changed("scheduled"), flags.Changed("pg-version"), flags.Changed("timeout")
		return a.restart(ctx, s, name, &o)
	})
	cmd.Use = "restart CLUSTER [MEMBER...]"
	cmd.Short = "Restart the PostgreSQL of members, now or later"
	flags := cmd.Flags()
	o.role.addTo(flags, "only members in this role")
	flags.BoolVar(&o.one, "any", false, "only one of them, picked at random")
	flags.StringVar(&o.scheduled, "scheduled", "", "when, in an unambiguous format: 2026-01-31T04:00+01:00")
	flags.StringVar(&o.version, "pg-version", "", "only if PostgreSQL is older than this version, e.g. 17.2")
	flags.BoolVar(&o.pending, "pending", false, "only if a restart is pending")
	flags.StringVar(&o.timeout, "timeout", "", "give up, and fail over if need be, when it takes longer: seconds, or 5min")
	flags.BoolVar(&o.force, "force", false, "ask nothing, and replace a restart that is scheduled")
	return cmd
}

// restartBody is the body of POST /restart (wire contract §5.7).
type restartBody struct {
	Pending  bool   `json:"restart_pending,omitempty"`
	Version  string `json:"postgres_version,omitempty"`
	Schedule string `json:"schedule,omitempty"`
	Timeout  string `json:"timeout,omitempty"`
}

// restart is the flow of patronictl: show, choose, ask when, confirm, ask for
// the version, order member by member. A member that refuses is a line of the
// output; one that cannot be reached ends the command.
func (a *App) restart(ctx context.Context, s *session, name string, o *restartOptions) error {
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	members, err := a.chooseMembers(ctx, c, name, o.selection)
	if err != nil {
		return err
	}
	members, body, err := a.planRestart(ctx, c, members, o)
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := a.orderRestart(ctx, s, m, o, body); err != nil {
			return err
		}
	}
	return nil
}

// planRestart asks for what the options left open.
func (a *App) planRestart(ctx context.Context, c *dcs.Cluster, members []*dcs.Member, o *restartOptions) ([]*dcs.Member, restartBody, error) {
	body := restartBody{Pending: o.pending, Timeout: o.timeout}
	if o.timeoutSet && o.timeout == "" {
		return nil, body, usageError{"--timeout needs a time: seconds, or a number with a unit such as 5min"}
	}
	at, err := a.restartTime(ctx, o)
	if err != nil {
		return nil, body, err
	}
	if o.pending && at.IsZero() {
		// One that is scheduled is judged when its time has come.
		members = slices.DeleteFunc(members, func(m *dcs.Member) bool { return !m.PendingRestart })
		if len(members) == 0 {
			a.printf("No restart is pending on these members\n")
			return nil, body, nil
		}
	}
	if o.one && len(members) > 1 {
		pick := rand.N(len(members))
		members = members[pick : pick+1]
	}
	if err := a.confirmRestart(ctx, members, o, at); err != nil {
		return nil, body, err
	}
	if body.Version, err = a.restartVersion(ctx, o); err != nil {
		return nil, body, err
	}
	if !at.IsZero() {
		if dynamicOf(c).Pause {
			return nil, body, refuse("Can't schedule restart in the paused state")
		}
		body.Schedule = dcs.FormatTime(at)
	}
	return members, body, nil
}

func (a *App) restartTime(ctx context.Context, o *restartOptions) (time.Time, error) {
	when := o.scheduled
	if !o.scheduledSet && !o.force {
		label := fmt.Sprintf("When should the restart take place (e.g. %s) ", a.Now().Add(time.Hour).Format("2006-01-02T15:04"))
		var err error
		if when, err = a.ask(ctx, label, "now"); err != nil {
			return time.Time{}, err
		}
	}
	return a.parseSchedule(when)
}

func (a *App) confirmRestart(ctx context.Context, members []*dcs.Member, o *restartOptions, at time.Time) error {
	if at.IsZero() || o.force {
		return a.confirmMembers(ctx, members, o.action, o.force)
	}
	question := fmt.Sprintf("Are you sure you want to schedule restart of members %s at %s?",
		joined(namesOf(members)), strings.Replace(dcs.FormatTime(at), "T", " ", 1))
	if o.pending {
		question = "The nodes needing a restart will be identified at the scheduled time, and " +
			"might be different from the ones showing pending restart right now. Is this fine?"
	}
	yes, err := a.confirm(ctx, question)
	if err != nil {
		return err
	}
	if !yes {
		return refuse("Aborted scheduled restart")
	}
	return nil
}

func (a *App) restartVersion(ctx context.Context, o *restartOptions) (string, error) {
	version := o.version
	if !o.versionSet && !o.force {
		var err error
		if version, err = a.ask(ctx, "Restart if the PostgreSQL version is less than provided (e.g. 9.5.2) ", ""); err != nil {
			return "", err
		}
	}
	if version == "" {
		return "", nil
	}
	return version, checkVersion(version)
}

// checkVersion accepts X.Y from version 10 on, and X.Y.Z.
func checkVersion(text string) error {
	parts := strings.Split(text, ".")
	major := 0
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return refuse("Invalid PostgreSQL version: %s", text)
		}
		if i == 0 {
			major = n
		}
	}
	if len(parts) < 2 || len(parts) > 3 || len(parts) == 2 && major < 10 {
		return refuse("Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: %s", text)
	}
	return nil
}

// orderRestart gives the order to one member. With force, one that is scheduled
// already gives way.
func (a *App) orderRestart(ctx context.Context, s *session, m *dcs.Member, o *restartOptions, body restartBody) error {
	if body.Schedule != "" && o.force && scheduledRestart(m.ScheduledRestart) != "" {
		r, err := a.askOne(ctx, s, m, request{method: http.MethodDelete, path: "/restart"})
		if err != nil {
			return err
		}
		if r.status >= http.StatusBadRequest {
			a.failed(r, "flush scheduled restart")
		}
	}
	r, err := a.askOne(ctx, s, m, request{method: http.MethodPost, path: "/restart", body: body, limit: restartPatience})
	if err != nil {
		return err
	}
	switch r.status {
	case http.StatusOK:
		a.printf("Success: restart on member %s\n", m.Name)
	case http.StatusAccepted:
		a.printf("Success: restart scheduled on member %s\n", m.Name)
	case http.StatusConflict:
		a.printf("Failed: another restart is already scheduled on member %s\n", m.Name)
	default:
		a.failed(r, "restart")
	}
	return nil
}
