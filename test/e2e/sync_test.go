//go:build e2e

package e2e

import (
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
	var standby, other *lab.Node
	for _, n := range r.Nodes {
		switch code, err := r.Get(r.ctx, n, "/synchronous", nil); {
		case n == r.leader:
		case err == nil && code == 200:
			standby = n
		default:
			other = n
		}
	}
	if err := r.Switchover(r.ctx, r.leader, other); err == nil {
		t.Errorf("a switchover to %s, which is no synchronous standby, was accepted", other.Name)
	}
	began := lab.Boottime()
	r.must(r.Switchover(r.ctx, r.leader, standby))
	gap := r.gap(began)
	t.Logf("switchover to the synchronous standby %s: gap %d ms", standby.Name, gap.Milliseconds())
	r.streaming(began)
	r.serving("/synchronous", 1)
	r.synchronous(nil, "/synchronous", 0)
	r.finish(none)
}

// synchronous sets synchronous_mode and waits until so many standbys answer to
// the check.
func (r *row) synchronous(mode any, check string, standbys int) {
	r.Helper()
	r.must(r.Patch(r.ctx, map[string]any{"synchronous_mode": mode}))
	r.serving(check, standbys)
}

func (r *row) serving(check string, standbys int) {
	r.Helper()
	r.eventually("standbys answering to "+check, func() bool {
		n := 0
		for _, node := range r.Nodes {
			if code, err := r.Get(r.ctx, node, check, nil); err == nil && code == 200 {
				n++
			}
		}
		return n == standbys
	})
}
