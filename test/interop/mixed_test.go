//go:build e2e

package interop

import (
	"context"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// A cluster with members of both kinds: each can lead the others, each kind's
// command line operates both, and each takes over from the other.
func TestMixedCluster(t *testing.T) {
	c := start(t, patroniProgram(t), nil)
	old := c.leader()
	ours, theirs := c.replicas()[0], c.replicas()[1]
	c.change(ours, false)

	for _, out := range []string{c.patronictl(ours, "list"), c.pghactl(theirs, "list")} {
		for _, n := range c.Nodes {
			if !strings.Contains(out, n.Name) {
				t.Errorf("%s is not in the list:\n%s", n.Name, out)
			}
		}
	}

	// Patroni hands over to pgha, at the word of Patroni's command line.
	began := lab.Boottime()
	c.switchover(c.patronictl, theirs, old, ours)
	c.leads(ours)
	gap := c.gap(began)
	c.streaming()
	t.Logf("switchover from Patroni to pgha by patronictl: gap %d ms", gap.Milliseconds())

	// patronictl operates the pgha leader, pghactl a Patroni member.
	c.patronictl(theirs, "reload", c.Options().Scope, ours.Name, "--force")
	c.pghactl(ours, "reload", c.Options().Scope, theirs.Name, "--force")
	c.pghactl(ours, "restart", c.Options().Scope, theirs.Name, "--force")
	c.streaming()
	c.patronictl(theirs, "restart", c.Options().Scope, ours.Name, "--force")
	c.acked()
	c.streaming()

	// pgha hands over to Patroni, at the word of ours.
	began = lab.Boottime()
	c.switchover(c.pghactl, ours, ours, theirs)
	c.leads(theirs)
	gap = c.gap(began)
	c.streaming()
	t.Logf("switchover from pgha to Patroni by pghactl: gap %d ms", gap.Milliseconds())

	// A Patroni leader's host is lost: pgha takes over, if it has the WAL.
	c.tag(old, false)
	began = lab.Boottime()
	c.must(c.PowerOff(theirs))
	c.leads(ours)
	t.Logf("power off of a Patroni leader: %s leads, gap %d ms (ttl %s)", ours.Name, c.gap(began).Milliseconds(), ttl)
	c.must(c.PowerOn(theirs))
	c.streaming()

	// And the other way round.
	c.tag(old, true)
	began = lab.Boottime()
	c.must(c.PowerOff(ours))
	next := c.successor(ours)
	t.Logf("power off of a pgha leader: %s (Patroni) leads, gap %d ms (ttl %s)", next.Name, c.gap(began).Milliseconds(), ttl)
	c.must(c.PowerOn(ours))
	c.streaming()
}

// tag says whether a Patroni member may take over.
func (c *cluster) tag(n *lab.Node, may bool) {
	c.Helper()
	c.must(c.WriteConfig(n, map[string]any{"tags": map[string]any{"nofailover": !may}}))
	c.patronictl(n, "reload", c.Options().Scope, n.Name, "--force")
	c.must(lab.Poll(c.ctx, func() bool {
		var doc struct {
			Tags map[string]any `json:"tags"`
		}
		_, err := c.Get(c.ctx, n, "/patroni", &doc)
		return err == nil && (doc.Tags["nofailover"] == true) != may
	}))
}

func (c *cluster) leads(n *lab.Node) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, failover)
	defer cancel()
	_, err := c.WaitLeader(ctx, lab.Only(n))
	c.must(err)
}

func (c *cluster) successor(old *lab.Node) *lab.Node {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, failover)
	defer cancel()
	n, err := c.WaitLeader(ctx, lab.Except(old))
	c.must(err)
	return n
}
