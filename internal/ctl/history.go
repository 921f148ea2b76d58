package ctl

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/pkg/dcs"
)

func newHistoryCommand(a *App, opts *globals) *cobra.Command {
	f := formatPretty
	cmd := clusterCommand(a, opts, func(ctx context.Context, s *session, name string) error {
		c, err := s.read(ctx, name)
		if err != nil {
			return err
		}
		return historyTable(c).write(a.Out, f)
	})
	cmd.Use = "history [CLUSTER]"
	cmd.Short = "Show the failovers and switchovers a cluster has had"
	f.addTo(cmd.Flags())
	return cmd
}

// historyTable lists the timelines of /history; a line that carries no more has
// empty cells for time and leader.
func historyTable(c *dcs.Cluster) *table {
	t := &table{
		columns: []string{"TL", "LSN", "Reason", "Timestamp", "New Leader"},
		right:   map[string]bool{"TL": true, "LSN": true},
	}
	if c.History != nil {
		for _, l := range c.History.Lines {
			t.rows = append(t.rows, []any{int64(l.Timeline), uint64(l.LSN), l.Reason, l.Timestamp, l.NewLeader})
		}
	}
	return t
}
