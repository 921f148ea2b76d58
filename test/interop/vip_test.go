//go:build e2e

package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// vip-manager gives an address to whoever leads: by the leader key in etcd, and by
// the REST API. Both addresses follow a switchover and the stop of an agent, and a
// client that connects there always finds the primary.
func TestVIPManager(t *testing.T) {
	program := os.Getenv("PGHA_VIP_MANAGER")
	if program == "" {
		t.Skip("PGHA_VIP_MANAGER does not name vip-manager (2 or later): make interop-trixie fetches one")
	}
	c := start(t, "", func(o *lab.Options) {
		o.Config["postgresql"] = map[string]any{"listen": "0.0.0.0:5432", "pg_hba": []any{
			"local all all scram-sha-256", "host replication replicator 192.0.2.0/24 scram-sha-256",
			"host all all 192.0.2.0/24 scram-sha-256",
			"host all,replication all 127.0.0.1/32 scram-sha-256", // the agent's own
		}}
	})
	byKey, byREST := "192.0.2.200", "192.0.2.201"
	for _, n := range c.Nodes {
		args := []string{"--netmask", "24", "--interface", "eth0", "--interval", "200", "--retry-after", "100"}
		c.beside(n, program, append([]string{"--ip", byKey, "--trigger-value", n.Name, "--dcs-type", "etcd", "--dcs-endpoints", c.etcdURLs(),
			"--trigger-key", "/opt/pgsql/patroni/" + c.Options().Scope + "/leader"}, args...)...)
		c.beside(n, program, append([]string{"--ip", byREST, "--trigger-value", "200", "--dcs-type", "patroni", "--dcs-endpoints", "http://" + n.REST,
			"--trigger-key", "/leader"}, args...)...)
	}
	follow := func(what string, leader *lab.Node) {
		t.Helper()
		began := lab.Boottime()
		c.serves(byKey, leader)
		key := lab.Boottime() - began
		c.serves(byREST, leader)
		t.Logf("%s: %s is %s after %d ms, %s after %d ms", what, leader.Name, byKey, key.Milliseconds(), byREST, (lab.Boottime() - began).Milliseconds())
	}
	leader := c.leader()
	follow("at first", leader)
	next := c.replicas()[0]
	c.switchover(c.pghactl, leader, leader, next)
	follow("after a switchover", next)
	c.streaming()
	_, err := c.StopAgent(c.ctx, next)
	c.must(err)
	follow("after an agent was stopped", c.successor(next))
	c.must(c.StartAgent(next))
	c.streaming()
	c.nothingLost()
}

// etcdURLs are the endpoints of the lab as vip-manager wants them.
func (c *cluster) etcdURLs() string {
	return "http://" + strings.Join(c.Endpoints(), ",http://")
}

// beside runs a program on a node's host until the test ends; its last lines are
// shown when the test fails.
func (c *cluster) beside(n *lab.Node, name string, args ...string) {
	c.Helper()
	p, err := c.RunBeside(n, name, args...)
	c.must(err)
	c.Cleanup(func() {
		if out := p.Stop(); c.Failed() {
			c.Logf("--- %s on %s:\n%s", filepath.Base(name), n.Name, out)
		}
	})
}

// serves waits until an address is the primary's: only the leader has it, and a
// client that connects there can write.
func (c *cluster) serves(addr string, leader *lab.Node) {
	c.Helper()
	pass := filepath.Join(leader.Dir, "vip.pgpass")
	c.must(c.WriteOwnFile(pass, []byte("*:*:*:*:"+c.Password()+"\n"), 0o600))
	client := c.Nodes[0]
	if client == leader {
		client = c.Nodes[1] // from another host, over the wire
	}
	last := ""
	err := lab.Poll(c.ctx, func() bool {
		for _, n := range c.Nodes {
			out, err := c.AsServer(c.ctx, n, "ip", "-o", "-4", "addr", "show")
			if err != nil || strings.Contains(out, addr+"/") != (n == leader) {
				last = n.Name + ": " + out
				return false
			}
		}
		out, err := c.AsServer(c.ctx, client, "env", "PGPASSFILE="+pass, "PGCONNECT_TIMEOUT=2", filepath.Join(c.Options().PGBin, "psql"), "-XAtq",
			"-h", addr, "-U", "postgres", "-d", "postgres", "-c", "CREATE TEMP TABLE t (); SELECT current_setting('cluster_name'), pg_is_in_recovery()")
		last = out
		return err == nil && strings.TrimSpace(out) == c.Options().Scope+"|f"
	})
	if err != nil {
		c.Fatalf("%s does not become the address of %s: %v, last seen %s", addr, leader.Name, err, last)
	}
}
