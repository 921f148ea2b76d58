//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// With synchronous replication the loss of the primary's host loses nothing
// that was acknowledged, in the mode with named standbys and in quorum mode.
func TestSynchronousPowerOff(t *testing.T) {
	for _, c := range []struct {
		name, check string
		setting     any
		standbys    int // how many do synchronous duty
	}{
		{"on", "/synchronous", true, 1},
		{"quorum", "/quorum", "quorum", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := begin(t)
			r.synchronous(c.setting, c.check, c.standbys)
			began := lab.Boottime()
			r.must(r.PowerOff(r.leader))
			next := r.newLeader(r.leader)
			gap := r.gap(began)
			t.Logf("power off in mode %s: %s leads, gap %d ms (ttl %s)", c.name, next.Name, gap.Milliseconds(), ttl)
			r.must(r.PowerOn(r.leader))
			r.streaming(began)
			r.serving(c.check, c.standbys)
			r.synchronous(nil, c.check, 0)
			r.finish(none)
		})
	}
}

// In mode on the only standby that may lead is the one that has everything.
func TestSynchronousSwitchover(t *testing.T) {
	r := begin(t)
	r.synchronous(true, "/synchronous", 1)
	standby, other := r.oneOnDuty()
	if err := r.Switchover(r.ctx, r.leader, other); err == nil {
		t.Errorf("a switchover to %s, which is no synchronous standby, was accepted", other.Name)
	}
	began := lab.Boottime()
	r.switchover(r.leader, standby)
	gap := r.gap(began)
	t.Logf("switchover to the synchronous standby %s: gap %d ms", standby.Name, gap.Milliseconds())
	r.streaming(began)
	r.serving("/synchronous", 1)
	r.synchronous(nil, "/synchronous", 0)
	r.finish(none)
}

// A primary whose agent and leash were both stopped by a signal goes on, with its
// standbys attached, and nothing ends it (no watchdog here). In a synchronous mode
// it acknowledges nothing that its successor lacks: the standbys leave it before
// they compare what they have.
func TestSleepingGuardians(t *testing.T) {
	if !long() {
		t.Skip("one of the longer rows: make e2e-long ROWS=TestSleepingGuardians")
	}
	r := begin(t)
	r.synchronous("quorum", "/quorum", 2)
	from := map[*lab.Node]int64{}
	for _, n := range r.Nodes {
		_, from[n] = r.AgentLog(n, 0)
	}
	began := lab.Boottime()
	r.must(r.Signal(r.leader, lab.Agent, syscall.SIGSTOP))
	r.must(r.Signal(r.leader, lab.Leash, syscall.SIGSTOP))
	next := r.newLeader(r.leader)
	gap := r.gap(began)
	t.Logf("agent and leash of the primary stopped: %s leads, gap %d ms (ttl %s), last acknowledgement of the old one after %d ms",
		next.Name, gap.Milliseconds(), ttl, (r.lastAck(r.leader) - began).Milliseconds())
	for _, n := range r.Nodes {
		if text, _ := r.AgentLog(n, from[n]); n != r.leader && !strings.Contains(text, "ending my WAL receiver") {
			t.Errorf("%s did not freeze", n.Name)
		}
	}
	if !r.ServerRuns(r.leader) {
		t.Error("the old primary does not run: the row proves nothing")
	}
	r.must(r.Signal(r.leader, lab.Leash, syscall.SIGCONT))
	r.must(r.Signal(r.leader, lab.Agent, syscall.SIGCONT))
	r.streaming(began)
	r.serving("/quorum", 2)
	r.synchronous(nil, "/quorum", 0)
	r.finish(none)
}

// synchronous sets synchronous_mode and waits until so many standbys answer to
// the check.
func (r *row) synchronous(mode any, check string, standbys int) {
	r.Helper()
	r.patch(object{"synchronous_mode": mode})
	r.serving(check, standbys)
}

func (r *row) serving(check string, standbys int) {
	r.Helper()
	r.eventually("standbys answering to "+check, func() bool {
		n := 0
		for _, node := range r.Nodes {
			code, err := r.Get(r.ctx, node, check, nil)
			if err != nil {
				return false
			}
			if code == 200 {
				n++
			}
		}
		return n == standbys
	})
}
