package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/dcs"
)

// What flush discards.
const (
	flushRestart    = "restart"
	flushSwitchover = "switchover"
)

func newFlushCommand(a *App, opts *globals) *cobra.Command {
	sel := selection{action: "flush", role: anyMember}
	cmd := membersCommand(a, opts, func(ctx context.Context, s *session, name string, args []string) error {
		what := args[len(args)-1]
		sel.names = args[:len(args)-1]
		if what == flushSwitchover {
			return a.flushSwitchover(ctx, s, name)
		}
		return a.flushRestart(ctx, s, name, sel)
	})
	cmd.Use = "flush CLUSTER [MEMBER...] restart|switchover"
	cmd.Short = "Discard what is scheduled"
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if n := len(args); n < 2 || args[n-1] != flushRestart && args[n-1] != flushSwitchover {
			return usageError{fmt.Sprintf("say at the end what to discard, restart or switchover; usage: %s", cmd.UseLine())}
		}
		return nil
	}
	sel.role.addTo(cmd.Flags(), "only members in this role")
	cmd.Flags().BoolVar(&sel.force, "force", false, "ask nothing")
	return cmd
}

func (a *App) flushRestart(ctx context.Context, s *session, name string, sel selection) error {
	_, members, err := a.confirmedMembers(ctx, s, name, sel)
	if err != nil {
		return err
	}
	for _, m := range members {
		if scheduledRestart(m.ScheduledRestart) == "" {
			a.printf("No scheduled restart for member %s\n", m.Name)
			continue
		}
		r, err := a.askOne(ctx, s, m, request{method: http.MethodDelete, path: "/restart"})
		if err != nil {
			return err
		}
		a.report(r, "flush scheduled restart")
	}
	return nil
}

// flushSwitchover asks the members in turn, the leader first, until one has
// done it or says that there is nothing to do; when none does, the key is
// emptied directly, unless it has changed.
func (a *App) flushSwitchover(ctx context.Context, s *session, name string) error {
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	if c.Failover == nil || c.Failover.ScheduledAt.IsZero() {
		a.printf("No pending scheduled switchover\n")
		return nil
	}
	for _, m := range leaderFirst(c) {
		if m.APIURL == "" {
			continue
		}
		r, err := a.askOne(ctx, s, m, request{method: http.MethodDelete, path: "/switchover"})
		switch {
		case ctx.Err() != nil:
			return errAborted
		case err != nil:
			a.warnf("%v", err)
			a.warnf("Member %s is not accessible", m.Name)
		case r.status == http.StatusOK:
			a.printf("Success: %s\n", plain.OneLine(r.text))
			return nil
		case r.status == http.StatusNotFound:
			a.printf("Failed: %s\n", plain.OneLine(r.text))
			return nil
		default:
			a.printf("Failed: member=%s, status_code=%d, (%s)\n", m.Name, r.status, plain.OneLine(r.text))
		}
	}
	a.warnf("Failing over to DCS")
	a.printf("%s Could not find any accessible member of cluster %s\n", a.timestamp(), name)
	return s.put(ctx, name, dcs.Write{Key: dcs.KeyFailover, Value: new(dcs.Failover).Encode(), Revision: &c.Failover.ModRevision})
}

// changedMeanwhile replaces the error for a key that is not what it was when it
// was read.
func changedMeanwhile(err error, text string) error {
	if errors.Is(err, dcs.ErrConflict) {
		return refusal(text)
	}
	return err
}
