//go:build e2e

package e2e

import (
	"testing"
	"time"

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
		r.switchover(leader, candidate)
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

// Scenario 51: a switchover is scheduled, shown, taken back, and happens at its
// time and once; in pause none can be scheduled, and one that was waits.
func TestScheduledSwitchover(t *testing.T) {
	r := begin(t)
	scheduled := func() any {
		var doc object
		if _, err := r.Get(r.ctx, r.leader, "/cluster", &doc); err != nil {
			return nil
		}
		return doc["scheduled_switchover"]
	}
	in := func(d time.Duration) object {
		return object{"leader": r.leader.Name, "scheduled_at": time.Now().Add(d).Format(time.RFC3339Nano)}
	}
	r.send(r.leader, "DELETE", "/switchover", nil, 404, "no switchover is scheduled")
	r.send(r.leader, "POST", "/switchover", in(time.Hour), 202, "Switchover scheduled")
	r.eventually("it is shown", func() bool { return scheduled() != nil })
	r.send(r.leader, "DELETE", "/switchover", nil, 200, "scheduled switchover deleted")
	r.eventually("it is not shown any more", func() bool { return scheduled() == nil })

	r.patch(object{"pause": true})
	r.eventually("pause", func() bool { return r.field(r.leader, "pause") == true })
	r.send(r.leader, "POST", "/switchover", in(time.Hour), 400, "in the paused state")
	r.patch(object{"pause": nil})
	r.eventually("no pause", func() bool { return r.field(r.leader, "pause") == nil })

	var due time.Time
	_, from := r.AgentLog(r.leader, 0)
	schedule := func() {
		due = time.Now().Add(5 * time.Second)
		r.send(r.leader, "POST", "/switchover", object{"leader": r.leader.Name, "scheduled_at": due.Format(time.RFC3339Nano)}, 202, "Switchover scheduled")
	}
	schedule()
	var next *lab.Node
	r.eventually("another leader", func() bool {
		if r.slept(r.leader, &from) {
			schedule()
		}
		leaders := r.Leaders(r.ctx)
		if len(leaders) == 1 && leaders[0] != r.leader {
			next = leaders[0]
		}
		return next != nil
	})
	if early := time.Until(due); early > 0 {
		t.Errorf("switched over %s before its time", early)
	}
	t.Logf("scheduled switchover to %s: %d ms after its time, gap %d ms", next.Name, time.Since(due).Milliseconds(), r.gap(r.began).Milliseconds())
	r.streaming(lab.Boottime())
	if leads := r.soleLeader(); leads != next {
		t.Errorf("leads now: %s", leads.Name)
	}
	r.eventually("the request is gone", func() bool { return scheduled() == nil })
	r.finish(none)
}
