package ctl

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/dcs"
)

func newPauseCommand(a *App, opts *globals) *cobra.Command {
	cmd := newManagementCommand(a, opts, management{on: true, verb: "pause", done: "paused"})
	cmd.Short = "Leave PostgreSQL alone: no failover, no restart until resume"
	return cmd
}

func newResumeCommand(a *App, opts *globals) *cobra.Command {
	cmd := newManagementCommand(a, opts, management{on: false, verb: "resume", done: "resumed"})
	cmd.Short = "Take up the management of PostgreSQL after a pause"
	return cmd
}

// management is the switch of maintenance mode, in one direction.
type management struct {
	on         bool // pause
	verb, done string
}

func newManagementCommand(a *App, opts *globals, to management) *cobra.Command {
	var wait bool
	cmd := clusterCommand(a, opts, func(ctx context.Context, s *session, name string) error {
		return a.manage(ctx, s, name, to, wait)
	})
	cmd.Use = to.verb + " [CLUSTER]"
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until every member has taken notice")
	return cmd
}

// manage is the flow of patronictl: the members are asked in turn, the leader
// first, and the first that answers decides.
func (a *App) manage(ctx context.Context, s *session, name string, to management, wait bool) error {
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	if dynamicOf(c).Pause == to.on {
		if to.on {
			return refuse("Cluster is already paused")
		}
		return refuse("Cluster is not paused")
	}
	var pause any // null removes the key
	if to.on {
		pause = true
	}
	order := request{method: http.MethodPatch, path: "/config", body: map[string]any{"pause": pause}}
	r, err := a.askReachable(ctx, s, c, order)
	if err != nil {
		return err
	}
	switch {
	case r.status != http.StatusOK:
		a.printf("Failed: %s cluster management status code=%d, (%s)\n", to.verb, r.status, plain.OneLine(r.text))
	case wait:
		return a.awaitPause(ctx, s, name, c, to)
	default:
		a.printf("Success: cluster management is %s\n", to.done)
	}
	return nil
}

// askReachable puts a request to the members that have a REST API, the leader
// first, and returns the first answer, whatever it is.
func (a *App) askReachable(ctx context.Context, s *session, c *dcs.Cluster, q request) (reply, error) {
	for _, m := range leaderFirst(c) {
		if m.APIURL == "" {
			continue
		}
		r, err := a.askOne(ctx, s, m, q)
		switch {
		case err == nil:
			return r, nil
		case ctx.Err() != nil:
			return reply{}, errAborted
		}
		a.warnf("%v", err)
		a.warnf("Member %s is not accessible", m.Name)
	}
	return reply{}, refuse("Can not find accessible cluster member")
}

// awaitPause waits for a turn of the loop until all members publish the new
// state. Those that have written their key meanwhile and still show the old one
// are named; those that write nothing at all are not there to take notice.
func (a *App) awaitPause(ctx context.Context, s *session, name string, before *dcs.Cluster, to management) error {
	a.printf("'%s' request sent, waiting until it is recognized by all nodes\n", to.verb)
	loopWait := dynamicOf(before).LoopWait
	var late []string
	ok, err := a.awaitCluster(ctx, s, name, loopWait+time.Second, func(c *dcs.Cluster) bool {
		late = late[:0]
		all := true
		for i := range c.Members {
			m := &c.Members[i]
			old := before.Member(m.Name)
			if old == nil || old.APIURL == "" || m.Pause == to.on {
				continue
			}
			all = false
			if m.ModRevision != old.ModRevision {
				late = append(late, m.Name)
			}
		}
		return all
	})
	switch {
	case err != nil:
		return err
	case !ok && len(late) > 0:
		a.printf("%s members didn't recognized pause state after %s seconds\n", strings.Join(late, ", "), secondsText(loopWait))
	default:
		a.printf("Success: cluster management is %s\n", to.done)
	}
	return nil
}

// secondsText prints a duration as a number of seconds.
func secondsText(d time.Duration) string { return fmt.Sprint(d.Seconds()) }
