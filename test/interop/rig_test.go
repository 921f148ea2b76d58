//go:build e2e

package interop

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// Patroni's smallest ttl is 20 s, and its smallest retry_timeout 3 s.
const (
	ttl          = 20 * time.Second
	loopWait     = 1 * time.Second
	retryTimeout = 3 * time.Second
	failover     = ttl + 25*time.Second
	settle       = 3 * time.Minute
)

func TestMain(m *testing.M) {
	lab.BeInit()
	os.Exit(m.Run())
}

// patroniProgram is Patroni's agent.
func patroniProgram(t *testing.T) string {
	t.Helper()
	path := os.Getenv("PGHA_PATRONI")
	if path == "" {
		path = "/usr/bin/patroni"
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("Patroni is not there (%v): run 'scripts/deps.sh patroni'", err)
	}
	return path
}

// cluster is a cluster of three under load.
type cluster struct {
	*testing.T
	*lab.Lab
	ctx     context.Context
	patroni string
	load    *lab.Load
	stalls  *lab.Stalls
}

// start builds a cluster all of whose agents are Patroni's at first; pgha's, with
// patroni "". change, if given, changes the lab's options.
func start(t *testing.T, patroni string, change func(*lab.Options)) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	t.Cleanup(cancel)
	c := &cluster{T: t, ctx: ctx, patroni: patroni}
	dir, err := os.MkdirTemp("", "pgha-interop-")
	c.must(err)
	c.must(os.Chmod(dir, 0o755))
	bin, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	c.must(err)
	opts := lab.Options{
		Dir: dir, Etcd: 3, BinDir: bin, Network: lab.Namespaces, TTL: ttl, LoopWait: loopWait, RetryTimeout: retryTimeout,
		Patroni: c.patroni,
		Config:  map[string]any{"restapi": map[string]any{"authentication": map[string]any{"username": "admin", "password": "rig"}}},
	}
	if change != nil {
		change(&opts)
	}
	c.Lab, err = lab.New(opts)
	c.must(err)
	t.Cleanup(c.end)
	c.must(c.StartEtcd(ctx))
	for _, n := range c.Nodes {
		c.must(c.StartAgent(n))
	}
	c.streaming()
	leader := c.leader()
	c.must(c.PrepareLoad(ctx, leader))
	c.load = c.NewLoad()
	c.load.Writer(ctx, 5*time.Millisecond)
	c.stalls = c.WatchMachine(ctx)
	c.acked()
	return c
}

// end stops everything; a failed test shows the logs.
func (c *cluster) end() {
	if c.load != nil {
		c.load.Stop()
		c.stalls.Stop()
	}
	if c.Failed() {
		var b strings.Builder
		c.DumpLogs(&b, 40)
		c.Log("\n" + b.String())
	}
	if err := c.Close(); err != nil {
		c.Error(err)
	}
	_ = os.RemoveAll(c.Options().Dir)
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) leader() *lab.Node {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, failover)
	defer cancel()
	n, err := c.WaitLeader(ctx, nil)
	c.must(err)
	return n
}

func (c *cluster) streaming() {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, settle)
	defer cancel()
	_, err := c.WaitStreaming(ctx)
	c.must(err)
}

// replicas are the nodes that do not lead.
func (c *cluster) replicas() []*lab.Node {
	var out []*lab.Node
	leader := c.leader()
	for _, n := range c.Nodes {
		if n != leader {
			out = append(out, n)
		}
	}
	return out
}

// acked waits for a write that begins from now on.
func (c *cluster) acked() {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, failover)
	defer cancel()
	_, err := c.load.WaitAck(ctx, lab.Boottime())
	c.must(err)
}

// gap is the longest time without an acknowledged write since an instant.
func (c *cluster) gap(since time.Duration) time.Duration {
	c.Helper()
	c.acked()
	gap, _ := lab.LongestGap(c.load.History(), since, lab.Boottime())
	return gap
}

// run calls a program on a node's host and returns what it printed.
func (c *cluster) run(n *lab.Node, name string, args ...string) string {
	c.Helper()
	out, err := c.AsServer(c.ctx, n, name, args...)
	if err != nil {
		c.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return out
}

// switchover hands over by a command line. A member that did not answer in time is asked
// again.
func (c *cluster) switchover(ctl func(n *lab.Node, args ...string) string, on, leader, candidate *lab.Node) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, settle)
	defer cancel()
	c.must(lab.Poll(ctx, func() bool {
		out := ctl(on, "switchover", "--leader", leader.Name, "--candidate", candidate.Name, "--force")
		again := strings.Contains(out, "no good candidate")
		if again {
			c.Logf("asked again: %s", out)
		}
		return !again
	}))
}

func (c *cluster) patronictl(n *lab.Node, args ...string) string {
	c.Helper()
	return c.run(n, filepath.Join(filepath.Dir(c.patroni), "patronictl"), append([]string{"-c", n.Config}, args...)...)
}

func (c *cluster) pghactl(n *lab.Node, args ...string) string {
	c.Helper()
	return c.run(n, filepath.Join(c.Bin(), "pghactl"), append([]string{"-c", n.Config}, args...)...)
}

// change stops the agent of a node, which stops PostgreSQL, and starts the other
// one.
func (c *cluster) change(n *lab.Node, patroni bool) {
	c.Helper()
	_, err := c.StopAgent(c.ctx, n)
	c.must(err)
	c.use(n, patroni)
	c.must(c.StartAgent(n))
	c.streaming()
}

func (c *cluster) use(n *lab.Node, patroni bool) {
	path := ""
	if patroni {
		path = c.patroni
	}
	c.UsePatroni(n, path)
}

// nothingLost ends the load and checks that every acknowledged row is there.
func (c *cluster) nothingLost() {
	c.Helper()
	c.load.Stop()
	history := c.load.History()
	audit, err := c.Audit(c.ctx, history, c.leader())
	c.must(err)
	c.Logf("acknowledged %d rows, missing %d", audit.Acked, audit.Lost())
	if audit.Acked == 0 || audit.Lost() > 0 {
		c.Errorf("missing rows: %v", audit.Missing)
	}
	for _, v := range lab.DualPrimaries(history) {
		c.Errorf("two primaries: %s", v)
	}
}
