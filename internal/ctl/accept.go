package ctl

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/dcs"
)

func newAcceptCommand(a *App, opts *globals) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:   "accept-dcs [CLUSTER]",
		Short: "Say that what etcd holds is right, and end the quarantine of the members",
		Long: `Members that find etcd behind what they saw before (restored from an older
snapshot, made anew, emptied by hand) promote, rewind, copy and initialize
nothing. A primary that runs publishes itself again, and that ends it. Where none
runs, look at what etcd holds and at the members first (pghactl list), and wait until
all that are to count say how far their WAL goes; then this command lets them go
by it.`,
		Args: atMost(1),
		RunE: onCluster(a, opts, func(ctx context.Context, s *session, name string) error {
			return a.acceptDCS(ctx, s, name, force)
		}),
	}
	flags := cmd.Flags()
	opts.addGroup(flags)
	flags.BoolVar(&force, "force", false, "do not ask for the cluster's name")
	return cmd
}

// acceptDCS gives the operator's word to every member in quarantine.
func (a *App) acceptDCS(ctx context.Context, s *session, name string, force bool) error {
	c, err := s.readMembers(ctx, name)
	if err != nil {
		return err
	}
	if err := writeMembers(a.Out, c, name, formatPretty, false); err != nil {
		return err
	}
	var members []*dcs.Member
	for i := range c.Members {
		if m := &c.Members[i]; m.Quarantine != "" {
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return refuse("No member of cluster %s is in quarantine", name)
	}
	for i := range c.Members { // an etcd that went back knows no position that a candidate has to reach
		if m := &c.Members[i]; m.XLogLocation == 0 {
			a.printf("%s does not say how far its WAL goes (%s): it is waited for, for one ttl at most. Somebody who has less may lead then, and what it alone has is lost.\n", m.Name, m.State)
		}
	}
	if !force {
		a.printf("From then on the members go by the keys that etcd holds now: they may promote, rewind, copy and initialize.\n")
		typed, err := a.ask(ctx, "Please confirm the name of the cluster", "")
		if err != nil {
			return err
		}
		if typed != name {
			return refuse("Aborted: %q is not the name of the cluster", typed)
		}
	}
	failed := 0
	for _, m := range members {
		r, err := a.askOne(ctx, s, m, request{method: http.MethodPost, path: "/accept_dcs", body: map[string]string{"cluster": name}})
		switch {
		case err != nil:
			a.printf("Failed: accept-dcs for member %s, (%s)\n", m.Name, plain.OneLine(err.Error()))
			failed++
		case !a.report(r, "accept-dcs"):
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d members in quarantine did not take it; run it again when they answer", failed, len(members))
	}
	return nil
}
