package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/internal/version"
)

func newVersionCommand(a *App, opts *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version [CLUSTER [MEMBER...]]",
		Short: "Show the version of pghactl, and of a cluster's members",
		RunE: func(cmd *cobra.Command, args []string) error {
			a.printf("pghactl version %s, compatible with patronictl %s\n", version.Version(), version.Patroni)
			if len(args) == 0 {
				return nil
			}
			s, err := a.newSession(opts)
			if err != nil {
				return err
			}
			defer s.close()
			return a.memberVersions(cmd.Context(), s, args[0], args[1:])
		},
	}
	opts.addGroup(cmd.Flags())
	return cmd
}

// memberVersions asks each member itself. One that does not answer is a line
// of the output, not a failure.
func (a *App) memberVersions(ctx context.Context, s *session, cluster string, names []string) error {
	c, err := s.read(ctx, cluster)
	if err != nil {
		return err
	}
	api, err := s.memberAPI()
	if err != nil {
		return err
	}
	a.printf("\n")
	for i := range c.Members {
		m := &c.Members[i]
		if m.APIURL == "" || len(names) > 0 && !slices.Contains(names, m.Name) {
			continue
		}
		text, err := memberVersion(ctx, api, m.APIURL)
		if err != nil {
			text = "failed to get version: " + plain.OneLine(err.Error())
		}
		a.printf("%s: %s\n", m.Name, text)
	}
	return nil
}

// memberTimeout bounds a question to one member.
const memberTimeout = 5 * time.Second

func memberVersion(ctx context.Context, api memberAPI, apiURL string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	_, body, err := api.Get(ctx, apiURL)
	if err != nil {
		return "", shortURLError(err)
	}
	var doc struct {
		Patroni struct {
			Version string `json:"version"`
		} `json:"patroni"`
		ServerVersion int `json:"server_version"`
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Patroni.Version == "" {
		return "", fmt.Errorf("%s did not answer with a status document", apiURL)
	}
	text := "Patroni " + doc.Patroni.Version
	if doc.ServerVersion > 0 {
		text += " PostgreSQL " + postgresVersion(doc.ServerVersion)
	}
	return text, nil
}

// postgresVersion prints server_version_num: 150020 is 15.20, 90624 is 9.6.24.
func postgresVersion(num int) string {
	if num < 100000 {
		return fmt.Sprintf("%d.%d.%d", num/10000, num/100%100, num%100)
	}
	return fmt.Sprintf("%d.%d", num/10000, num%10000)
}

// shortURLError says where and why a request failed, without net/http's chain.
func shortURLError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("%s: %w", u.URL, plain.Connection(u.Err))
	}
	return plain.Connection(err)
}
