package ctl

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
)

func newReloadCommand(a *App, opts *globals) *cobra.Command {
	sel := selection{action: "reload", role: anyMember}
	cmd := membersCommand(a, opts, func(ctx context.Context, s *session, name string, members []string) error {
		sel.names = members
		return a.reload(ctx, s, name, sel)
	})
	cmd.Use = "reload CLUSTER [MEMBER...]"
	cmd.Short = "Have members read their configuration again"
	sel.role.addTo(cmd.Flags(), "only members in this role")
	cmd.Flags().BoolVar(&sel.force, "force", false, "ask nothing")
	return cmd
}

func (a *App) reload(ctx context.Context, s *session, name string, sel selection) error {
	c, members, err := a.confirmedMembers(ctx, s, name, sel)
	if err != nil {
		return err
	}
	for _, m := range members {
		r, err := a.askOne(ctx, s, m, request{method: http.MethodPost, path: "/reload"})
		if err != nil {
			return err
		}
		switch r.status {
		case http.StatusOK:
			a.printf("No changes to apply on member %s\n", m.Name)
		case http.StatusAccepted:
			a.printf("Reload request received for member %s and will be processed within %s seconds\n",
				m.Name, secondsText(dynamicOf(c).LoopWait))
		default:
			a.failed(r, sel.action)
		}
	}
	return nil
}
