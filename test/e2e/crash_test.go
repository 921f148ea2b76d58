//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

func TestPostmasterKillRestartsInPlace(t *testing.T) {
	r := begin(t)
	old, err := r.Pid(r.leader, lab.Postmaster)
	r.must(err)
	began := lab.Boottime()
	r.must(r.Kill(r.leader, lab.Postmaster))
	// A backend of the dead postmaster may acknowledge one write more.
	r.must(r.WaitReplaced(r.ctx, r.leader, lab.Postmaster, old))
	gap := r.gap(began)
	t.Logf("kill -9 of the postmaster, restart in place: gap %d ms", gap.Milliseconds())
	r.sameLeader()
	r.finish(none)
}

func TestPostmasterKillFailsOver(t *testing.T) {
	r := begin(t)
	r.setPrimaryStartTimeout(0)
	began := lab.Boottime()
	r.must(r.Kill(r.leader, lab.Postmaster))
	next := r.newLeader(r.leader)
	gap := r.gap(began)
	back := r.streaming(began)
	t.Logf("kill -9 of the postmaster with primary_start_timeout 0: %s leads, gap %d ms, all streaming after %d ms",
		next.Name, gap.Milliseconds(), back.Milliseconds())
	r.finish(bounded)
}

// setPrimaryStartTimeout changes it for the row and waits until every node shows the
// new value.
func (r *row) setPrimaryStartTimeout(seconds int) {
	r.Helper()
	r.configure(object{"primary_start_timeout": seconds})
	for _, n := range r.Nodes {
		r.eventually("configuration of "+n.Name, func() bool {
			var c struct {
				Timeout *json.Number `json:"primary_start_timeout"`
			}
			_, err := r.Get(r.ctx, n, "/config", &c)
			return err == nil && c.Timeout != nil && c.Timeout.String() == strconv.Itoa(seconds)
		})
	}
}

func TestAgentKillSupervised(t *testing.T) {
	r := begin(t)
	r.must(r.Supervise(r.leader, true))
	defer func() { r.must(r.Supervise(r.leader, false)) }()
	server, err := r.Pid(r.leader, lab.Postmaster)
	r.must(err)
	began := lab.Boottime()
	r.must(r.Kill(r.leader, lab.Agent))
	r.answers(r.leader, "/primary", 200)
	away := lab.Boottime() - began
	// Past its old deadline only a renewed lease keeps it alive.
	r.acked(began + ttl)
	gap := r.gap(began)
	t.Logf("kill -9 of the agent, restarted by its supervisor: /primary back after %d ms, gap %d ms", away.Milliseconds(), gap.Milliseconds())
	if now, err := r.Pid(r.leader, lab.Postmaster); err != nil || now != server {
		t.Errorf("server was touched: postmaster %d, now %d (%v)", server, now, err)
	}
	r.sameLeader()
	r.finish(none)
}

func TestAgentKillUnsupervised(t *testing.T) {
	r := begin(t)
	began := lab.Boottime()
	r.must(r.Kill(r.leader, lab.Agent))
	next := r.newLeader(r.leader)
	gap := r.gap(began)
	if r.ServerRuns(r.leader) {
		t.Errorf("%s leads, but PostgreSQL of %s still runs", next.Name, r.leader.Name)
	}
	t.Logf("kill -9 of the agent, nobody restarts it: old primary's last ack after %d ms, %s leads, gap %d ms",
		(r.lastAck(r.leader) - began).Milliseconds(), next.Name, gap.Milliseconds())
	began = lab.Boottime()
	r.must(r.StartAgent(r.leader))
	t.Logf("agent started again: streaming after %d ms", r.streaming(began).Milliseconds())
	r.finish(bounded)
}

func TestPowerOff(t *testing.T) {
	r := begin(t)
	began := lab.Boottime()
	r.must(r.PowerOff(r.leader))
	next := r.newLeader(r.leader)
	gap := r.gap(began)
	t.Logf("power off: %s leads, gap %d ms (ttl %s)", next.Name, gap.Milliseconds(), ttl)
	began = lab.Boottime()
	r.must(r.PowerOn(r.leader))
	t.Logf("power on: streaming after %d ms", r.streaming(began).Milliseconds())
	r.finish(bounded)
}

func TestAllDownAndUp(t *testing.T) {
	r := begin(t)
	began := lab.Boottime()
	for _, n := range r.Nodes {
		r.must(r.PowerOff(n))
	}
	for _, n := range r.Nodes {
		r.must(r.PowerOn(n))
	}
	gap := r.gap(began)
	t.Logf("all nodes lost at once and started again: gap %d ms, all streaming after %d ms",
		gap.Milliseconds(), r.streaming(began).Milliseconds())
	r.finish(bounded)
}

// SIGTERM of the leader's agent, as for maintenance of its host: it hands over
// at once, with everything that was acknowledged.
func TestAgentStopHandsOver(t *testing.T) {
	r := begin(t)
	began := lab.Boottime()
	ctx, cancel := context.WithTimeout(r.ctx, settle)
	defer cancel()
	_, err := r.StopAgent(ctx, r.leader)
	r.must(err)
	next := r.newLeader(r.leader)
	gap := r.gap(began)
	t.Logf("SIGTERM of the primary's agent: %s leads, gap %d ms", next.Name, gap.Milliseconds())
	r.stopped(r.leader)
	began = lab.Boottime()
	r.must(r.StartAgent(r.leader))
	t.Logf("agent started again: streaming after %d ms", r.streaming(began).Milliseconds())
	r.finish(none)
}

func TestAllStoppedAndStarted(t *testing.T) {
	r := begin(t)
	began := lab.Boottime()
	ends := make(chan error)
	for _, n := range r.Nodes {
		go func() {
			ctx, cancel := context.WithTimeout(r.ctx, settle)
			defer cancel()
			_, err := r.StopAgent(ctx, n)
			ends <- err
		}()
	}
	for range r.Nodes {
		r.must(<-ends)
	}
	stopped := lab.Boottime() - began
	for _, n := range r.Nodes {
		r.stopped(n)
	}
	began = lab.Boottime()
	for _, n := range r.Nodes {
		r.must(r.StartAgent(n))
	}
	gap := r.gap(began)
	t.Logf("all agents stopped (%d ms) and started: writes back after %d ms, all streaming after %d ms",
		stopped.Milliseconds(), gap.Milliseconds(), r.streaming(began).Milliseconds())
	// The primary goes on acknowledging for the moment in which the replicas are
	// down already: they must give it the time to come back.
	r.finish(none)
}

// A primary that goes on writing what its replicas do not get, and then dies,
// comes back by pg_rewind and without those rows.
func TestDivergentPrimaryIsRewound(t *testing.T) {
	r := begin(t)
	version := filepath.Join(r.leader.DataDir, "PG_VERSION")
	before, err := os.Stat(version)
	r.must(err)
	r.must(r.SignalSenders(r.leader, syscall.SIGSTOP))
	r.acked(lab.Boottime() + 300*time.Millisecond)
	r.must(r.PowerOff(r.leader))
	r.newLeader(r.leader)
	r.acked(lab.Boottime())
	_, offset := r.AgentLog(r.leader, 0)
	began := lab.Boottime()
	r.must(r.PowerOn(r.leader))
	back := r.streaming(began)
	log, _ := r.AgentLog(r.leader, offset)
	if !strings.Contains(log, "pg_rewind") {
		t.Errorf("agent of %s does not say that it ran pg_rewind", r.leader.Name)
	}
	if after, err := os.Stat(version); err != nil || !os.SameFile(before, after) {
		t.Errorf("data directory of %s was cloned anew instead of rewound (%v)", r.leader.Name, err)
	}
	t.Logf("divergent former primary: streaming after %d ms", back.Milliseconds())
	r.finish(bounded)
}

// A hung agent renews nothing and steps down from nothing: the leash does.
func TestAgentHangs(t *testing.T) {
	r := begin(t)
	began := lab.Boottime()
	r.must(r.Signal(r.leader, lab.Agent, syscall.SIGSTOP))
	next := r.newLeader(r.leader)
	gap := r.gap(began)
	t.Logf("agent stopped: old primary's last ack after %d ms, %s leads, gap %d ms",
		(r.lastAck(r.leader) - began).Milliseconds(), next.Name, gap.Milliseconds())
	began = lab.Boottime()
	r.must(r.Signal(r.leader, lab.Agent, syscall.SIGCONT))
	t.Logf("agent goes on: all streaming after %d ms", r.streaming(began).Milliseconds())
	r.finish(bounded)
}

// SIGUSR2, three times on each node: the agent replaces itself by the program at
// its path, and neither the leadership nor PostgreSQL notices.
func TestAgentUpgrade(t *testing.T) {
	r := begin(t)
	for range 3 {
		for _, n := range r.Nodes {
			agent, err := r.Pid(n, lab.Agent)
			r.must(err)
			server, err := r.Pid(n, lab.Postmaster)
			r.must(err)
			before := r.starts(n)
			began := lab.Boottime()
			r.must(r.Signal(n, lab.Agent, syscall.SIGUSR2))
			r.eventually("the new program of "+n.Name, func() bool {
				code, err := r.Get(r.ctx, n, "/health", nil)
				return r.starts(n) == before+1 && err == nil && code == 200
			})
			away := lab.Boottime() - began
			if n == r.leader {
				r.answers(n, "/primary", 200)
				away = lab.Boottime() - began
				r.acked(began + ttl) // past its old deadline only a renewed lease keeps it alive
			}
			t.Logf("SIGUSR2 of %s: in service again after %d ms", n.Name, away.Milliseconds())
			if now, err := r.Pid(n, lab.Agent); err != nil || now != agent {
				t.Errorf("%s: the agent was %d, now %d (%v)", n.Name, agent, now, err)
			}
			if now, err := r.Pid(n, lab.Postmaster); err != nil || now != server {
				t.Errorf("%s: PostgreSQL was touched: %d, now %d (%v)", n.Name, server, now, err)
			}
		}
	}
	r.sameLeader()
	r.finish(none)
}

// starts is how often the agent of n has begun to run.
func (r *row) starts(n *lab.Node) int {
	r.Helper()
	text, err := os.ReadFile(n.AgentLog)
	r.must(err)
	return strings.Count(string(text), " starting member=")
}
