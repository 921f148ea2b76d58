package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/dcs"
)

func newShowConfigCommand(a *App, opts *globals) *cobra.Command {
	cmd := clusterCommand(a, opts, a.showConfig)
	cmd.Use = "show-config [CLUSTER]"
	cmd.Short = "Show the dynamic configuration of a cluster"
	return cmd
}

func (a *App) showConfig(ctx context.Context, s *session, name string) error {
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	doc, err := storedConfig(c, name)
	if err != nil {
		return err
	}
	if doc != nil {
		a.printf("%s\n", yamlBlock(doc))
	}
	return nil
}

// storedConfig decodes /config; nil when there is none.
func storedConfig(c *dcs.Cluster, name string) (pyjson.Object, error) {
	if why, bad := c.Invalid[dcs.KeyConfig]; bad {
		return nil, fmt.Errorf("the config key of cluster %s cannot be read: %s; its members use the last good one: replace it with PUT /config", name, why)
	}
	if c.Config == nil {
		return nil, nil
	}
	v, err := pyjson.Decode(c.Config.Raw)
	doc, ok := v.(pyjson.Object)
	if err != nil || !ok {
		return nil, fmt.Errorf("the config key of cluster %s is no JSON object", name)
	}
	return doc, nil
}
