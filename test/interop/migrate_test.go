//go:build e2e

package interop

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

const migrateDoc = "../../docs/migrate-from-patroni.md"

// docs/migrate-from-patroni.md, word for word, under a writer that never stops:
// from Patroni to pgha node by node, and back.
func TestMigrationManual(t *testing.T) {
	c := start(t, patroniProgram(t), nil)
	values := map[string]string{
		"PATRONICTL_CONFIG_FILE": c.Nodes[0].Config,
		"CONFIG":                 "",
		"CLUSTER":                c.Options().Scope,
		"LEADER":                 "",
		"CANDIDATE":              "",
	}
	book, err := c.OpenManual(migrateDoc, values)
	c.must(err)
	c.must(book.Tool("patronictl", []byte("#!/bin/sh\nexec "+filepath.Join(filepath.Dir(c.patroni), "patronictl")+" \"$@\"\n")))
	c.must(book.ServeSystemctl(c.ctx, c.obey))
	follow := func(n *lab.Node, word string, i int) {
		t.Helper()
		book.Set("CONFIG", n.Config)
		out, err := book.Follow(c.ctx, n, word, i)
		t.Logf("%s on %s:\n%s", word, n.Name, out)
		c.must(err)
	}
	move := func(check, there, handOver string) time.Duration {
		t.Helper()
		old := c.leader()
		began := lab.Boottime()
		for _, n := range c.replicas() {
			if check != "" {
				follow(n, check, 0)
			}
			follow(n, there, 0)
			c.streaming()
		}
		notice := func(what string) {
			t.Helper()
			if gap := c.gap(began); gap > 2*time.Second+c.stalls.Since(began) {
				t.Errorf("moving %s cost %d ms of writes", what, gap.Milliseconds())
			}
		}
		notice("the replicas")
		next := c.replicas()[0]
		book.Set("LEADER", old.Name)
		book.Set("CANDIDATE", next.Name)
		began = lab.Boottime()
		follow(next, handOver, 0)
		c.leads(next)
		gap := c.gap(began)
		if gap > 10*time.Second+c.stalls.Since(began) {
			t.Fatalf("%d ms without writes in the switchover to %s", gap.Milliseconds(), next.Name)
		}
		c.streaming()
		began = lab.Boottime()
		follow(old, there, 0)
		c.streaming()
		notice("the old leader")
		return gap
	}
	there := move("check", "to-pgha", "hand-over")
	follow(c.leader(), "look", 0)
	back := move("", "to-patroni", "hand-back")
	t.Logf("a Patroni cluster moved to pgha and back: %d ms and %d ms without writes, in the switchovers", there.Milliseconds(), back.Milliseconds())
	c.nothingLost()
}

// obey is systemctl on the hosts of the lab.
func (c *cluster) obey(n *lab.Node, order string) error {
	switch order {
	case "disable --now patroni", "disable --now pgha-agent":
		_, err := c.StopAgent(c.ctx, n)
		return err
	case "enable --now pgha-agent":
		c.use(n, false)
		return c.StartAgent(n)
	case "enable --now patroni":
		c.use(n, true)
		return c.StartAgent(n)
	}
	return fmt.Errorf("systemctl: not what the document may say: %s", order)
}
