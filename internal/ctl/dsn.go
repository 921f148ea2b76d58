package ctl

import (
	"context"

	"github.com/spf13/cobra"
)

func newDSNCommand(a *App, opts *globals) *cobra.Command {
	var t target
	cmd := clusterCommand(a, opts, func(ctx context.Context, s *session, name string) error {
		return a.dsn(ctx, s, name, t)
	})
	cmd.Use = "dsn [CLUSTER]"
	cmd.Short = "Print how to connect to a member"
	t.addTo(cmd.Flags())
	return cmd
}

func (a *App) dsn(ctx context.Context, s *session, name string, t target) error {
	if err := t.check(); err != nil {
		return err
	}
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	m := t.find(c)
	if m == nil {
		return refuse("Can not find a suitable member")
	}
	host, port := hostPort(m.ConnURL)
	if host == "" {
		return refuse("Member %s publishes no address of its PostgreSQL", m.Name)
	}
	a.printf("host=%s port=%d\n", host, port)
	return nil
}
