//go:build e2e

package e2e

import (
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

func TestBootstrap(t *testing.T) {
	r := begin(t)
	r.sameLeader()
	r.finish(none)
}

// Three planned hand-overs under load; the last names nobody.
func TestSwitchover(t *testing.T) {
	r := begin(t)
	leader := r.leader
	for i := range 3 {
		var candidate *lab.Node
		if i < 2 {
			candidate = r.Nodes[0]
			if candidate == leader {
				candidate = r.Nodes[1]
			}
		}
		began := lab.Boottime()
		r.must(r.Switchover(r.ctx, leader, candidate))
		next := r.newLeader(leader)
		if candidate != nil && next != candidate {
			t.Errorf("switchover to %s made %s the leader", candidate.Name, next.Name)
		}
		gap := r.gap(began)
		back := r.streaming(began)
		t.Logf("switchover %s to %s: gap %d ms, all streaming after %d ms", leader.Name, next.Name, gap.Milliseconds(), back.Milliseconds())
		leader = next
	}
	r.finish(none)
}
