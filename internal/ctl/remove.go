package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/pkg/dcs"
)

func newRemoveCommand(a *App, opts *globals) *cobra.Command {
	f := formatPretty
	cmd := membersCommand(a, opts, func(ctx context.Context, s *session, name string, _ []string) error {
		return a.remove(ctx, s, name, f)
	})
	cmd.Use = "remove CLUSTER"
	cmd.Short = "Delete all that etcd holds of a cluster"
	cmd.Args = atMost(1)
	f.addTo(cmd.Flags())
	return cmd
}

// awareOfRemoval is what has to be typed.
const awareOfRemoval = "Yes I am aware"

// remove asks three times before it deletes the keys of a cluster.
func (a *App) remove(ctx context.Context, s *session, name string, f format) error {
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	if err := writeMembers(a.Out, c, name, f, false); err != nil {
		return err
	}
	if err := a.confirmRemoval(ctx, c, name); err != nil {
		return err
	}
	epoch := int64(0)
	if c.Leader != nil {
		epoch = c.Leader.Epoch
	}
	return s.remove(ctx, name, epoch)
}

func (a *App) confirmRemoval(ctx context.Context, c *dcs.Cluster, name string) error {
	for _, q := range []struct{ label, want, otherwise string }{
		{"Please confirm the cluster name to remove", name, "Cluster names specified do not match"},
		{
			fmt.Sprintf("You are about to remove all information in DCS for %s, please type: %q", name, awareOfRemoval),
			awareOfRemoval, fmt.Sprintf("You did not exactly type %q", awareOfRemoval),
		},
		{"This cluster currently is healthy. Please specify the leader name to continue", c.LeaderName(), "You did not specify the current leader of the cluster"},
	} {
		if q.want == "" {
			continue // nobody leads
		}
		answer, err := a.demand(ctx, q.label)
		if err != nil {
			return err
		}
		if answer != q.want {
			return refusal(q.otherwise)
		}
	}
	return nil
}
