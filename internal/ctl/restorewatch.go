package ctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

// restoreWatch follows one order through the keys of the cluster.
type restoreWatch struct{ id string }

var errOrderGone = errors.New("another restore was ordered meanwhile, or the order was removed; see \"pghactl restore --status\"")

// follow returns the order once it has ended. A failed one has an Error.
func (w *restoreWatch) follow(ctx context.Context, a *App, s *session, name string) (*dcs.Restore, error) {
	f := &follower{app: a}
	var order *dcs.Restore
	err := a.follow(ctx, f, func() (bool, error) {
		c, err := s.look(ctx, name)
		if err != nil {
			return false, err
		}
		order = c.Restore
		if order == nil || order.ID != w.id {
			return false, errOrderGone
		}
		if !order.Open() {
			return true, nil
		}
		f.show(orderPhase(c, order), orderText(c, order))
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	if order.State == dcs.RestoreFailed && order.Error == "" {
		order.Error = "no reason given"
	}
	return order, nil
}

// orderPhase is what the member that restores says it does.
func orderPhase(c *dcs.Cluster, r *dcs.Restore) string {
	if m := c.Member(r.Member); m != nil && m.Progress != nil {
		return r.Member + " " + m.Progress.Operation + " " + m.Progress.Method
	}
	return r.Member
}

// orderText is an open order in one line.
func orderText(c *dcs.Cluster, r *dcs.Restore) string {
	m := c.Member(r.Member)
	switch {
	case m == nil:
		return fmt.Sprintf("%s: not in the cluster at present; it goes on when it is back", r.Member)
	case m.Progress == nil:
		return fmt.Sprintf("%s: %s", r.Member, m.State)
	case m.Progress.Total == 0:
		return fmt.Sprintf("%s: %s", r.Member, publishedText(m.Progress))
	}
	return fmt.Sprintf("%s: %s (%s) %s", r.Member, m.Progress.Operation, m.Progress.Method, barText(restapi.ProgressOf(m.Progress)))
}

// memberPatience is how long a member may show no change while the others are
// waited for: one whose host is down never comes.
const memberPatience = time.Minute

// seeMembers waits until every member streams on the restored timeline, and
// tells of those that show no sign of it.
func (a *App) seeMembers(ctx context.Context, s *session, name string, r *dcs.Restore) error {
	f := &follower{app: a}
	seen, since := "", a.Now()
	var late []string
	err := a.follow(ctx, f, func() (bool, error) {
		c, err := s.look(ctx, name)
		if err != nil {
			return false, err
		}
		late = behind(c, r)
		text := strings.Join(late, "; ")
		if text != seen {
			seen, since = text, a.Now()
		}
		if len(late) == 0 || a.Now().Sub(since) > memberPatience {
			return true, nil
		}
		f.show(fmt.Sprint(len(late)), "waiting for "+text)
		return false, nil
	})
	if err != nil {
		return err
	}
	for _, text := range late {
		a.warnf("%s: no change for %s; it follows by itself when it can, see its log", text, spanText(memberPatience))
	}
	return nil
}

// behind lists the members that do not run on the restored timeline yet, with
// what they do.
func behind(c *dcs.Cluster, r *dcs.Restore) []string {
	var out []string
	for i := range c.Members {
		m := &c.Members[i]
		there := m.Timeline >= r.Timeline && m.Progress == nil
		if m.Name == c.LeaderName() {
			there = there && m.State == "running"
		} else {
			there = there && m.ReplicationState == "streaming"
		}
		if there {
			continue
		}
		doing := m.State
		if m.Progress != nil {
			doing = publishedText(m.Progress)
		}
		out = append(out, m.Name+": "+doing)
	}
	return out
}

// showRestore tells of the last order, and follows it if wanted.
func (a *App) showRestore(ctx context.Context, s *session, name string, wait bool) error {
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	r := c.Restore
	if r == nil {
		a.printf("No restore of cluster %s was ordered\n", name)
		return nil
	}
	if r.Open() && wait {
		return a.seeRestored(ctx, s, name, r.ID)
	}
	a.printf("Restore %s of cluster %s to %s, ordered %s by %s, backup %s\n",
		r.ID, name, orderTarget(r.Target), a.clockText(r.Requested), r.By, r.Set)
	switch r.State {
	case dcs.RestoreDone:
		a.printf("  done by %s at %s: timeline %d\n", r.Member, a.clockText(r.Ended), r.Timeline)
	case dcs.RestoreFailed:
		a.printf("  FAILED on %s at %s: %s\n", r.Member, a.clockText(r.Ended), plain.OneLine(r.Error))
	default:
		a.printf("  under way; %s\n", orderText(c, r))
	}
	return nil
}

func orderTarget(t dcs.RestoreTarget) string {
	text := strings.TrimSpace(t.Type + " " + t.Value)
	if t.Exclusive {
		text += " (exclusive)"
	}
	if t.Timeline != "" && t.Timeline != "latest" {
		text += " on timeline " + t.Timeline
	}
	return text
}

// cancelRestore has the order taken back: by the member that restores, or by
// any other if that one is silent, since it looks at the order.
func (a *App) cancelRestore(ctx context.Context, s *session, name string) error {
	c, err := s.readMembers(ctx, name)
	if err != nil {
		return err
	}
	if !c.Restore.Open() {
		return refuse("no restore of cluster %s is under way", name)
	}
	r, err := a.askAny(ctx, s, leaderFirst(c, c.Restore.Member), request{method: http.MethodDelete, path: "/restore", limit: repositoryTimeout})
	if err != nil {
		return err
	}
	a.printf("%s %s\n", a.timestamp(), plain.OneLine(r.text))
	return nil
}
