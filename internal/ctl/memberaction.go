package ctl

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/dcs"
)

// selection says which members an order is for.
type selection struct {
	action string // as the prompts call it
	role   memberRole
	names  []string // none: all in the role
	force  bool
	choose bool // without names, one is to be chosen
}

// chooseMembers prints the table and takes the members an order is for. Unknown
// names, and those of members in another role, are dropped; it is an error if
// nobody is left.
func (a *App) chooseMembers(ctx context.Context, c *dcs.Cluster, cluster string, sel selection) ([]*dcs.Member, error) {
	candidates := membersWith(c, sel.role)
	if len(sel.names) == 0 && len(candidates) == 0 {
		return nil, refuse("%s cluster doesn't have any members", cluster)
	}
	if err := writeMembers(a.Out, c, cluster, formatPretty, false); err != nil {
		return nil, err
	}
	known := func(name string) bool {
		return slices.ContainsFunc(candidates, func(m *dcs.Member) bool { return m.Name == name })
	}
	names := sel.names
	switch {
	case len(names) > 0 && !slices.ContainsFunc(names, known):
		return nil, refuse("No %s among provided members", sel.role)
	case len(names) > 0:
	case !sel.choose:
		return candidates, nil
	case sel.force:
		return nil, nil
	default:
		answer, err := a.ask(ctx, fmt.Sprintf("Which member do you want to %s [%s]?", sel.action, joined(namesOf(candidates))), "")
		if err != nil {
			return nil, err
		}
		if !known(answer) {
			return nil, refuse("%s is not a member of cluster", answer)
		}
		names = []string{answer}
	}
	return slices.DeleteFunc(candidates, func(m *dcs.Member) bool { return !slices.Contains(names, m.Name) }), nil
}

func namesOf(members []*dcs.Member) []string {
	names := make([]string, 0, len(members))
	for _, m := range members {
		names = append(names, m.Name)
	}
	return names
}

// confirmedMembers reads the cluster, chooses among its members, and asks.
func (a *App) confirmedMembers(ctx context.Context, s *session, cluster string, sel selection) (*dcs.Cluster, []*dcs.Member, error) {
	c, err := s.read(ctx, cluster)
	if err != nil {
		return nil, nil, err
	}
	members, err := a.chooseMembers(ctx, c, cluster, sel)
	if err != nil {
		return nil, nil, err
	}
	return c, members, a.confirmMembers(ctx, members, sel.action, sel.force)
}

// confirmMembers asks before an order is given, unless force says not to.
func (a *App) confirmMembers(ctx context.Context, members []*dcs.Member, action string, force bool) error {
	if force {
		return nil
	}
	yes, err := a.confirm(ctx, fmt.Sprintf("Are you sure you want to %s members %s?", action, joined(namesOf(members))))
	if err != nil {
		return err
	}
	if !yes {
		return refuse("Aborted %s", action)
	}
	return nil
}

// report prints a member's answer in patronictl's words.
func (a *App) report(r reply, action string) bool {
	if r.status >= http.StatusBadRequest {
		a.failed(r, action)
		return false
	}
	a.printf("Success: %s for member %s\n", action, r.member)
	return true
}

// failed prints that a member refused.
func (a *App) failed(r reply, action string) {
	a.printf("Failed: %s for member %s, status code=%d, (%s)\n", action, r.member, r.status, plain.OneLine(r.text))
}

// lookPeriod is the time between two looks at a cluster whose members are about
// to carry out an order.
const lookPeriod = 200 * time.Millisecond

// awaitCluster reads the cluster again and again until done says so; it is
// false when it did not within limit. A read that fails is tried again.
func (a *App) awaitCluster(ctx context.Context, s *session, name string, limit time.Duration, done func(*dcs.Cluster) bool) (bool, error) {
	period := a.pollPeriod
	if period == 0 {
		period = lookPeriod
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		if c, err := s.read(within, name); err == nil && done(c) {
			return true, nil
		}
		select {
		case <-within.Done():
			if ctx.Err() != nil {
				return false, errAborted
			}
			return false, nil
		case <-tick.C:
		}
	}
}
