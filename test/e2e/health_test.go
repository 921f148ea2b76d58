//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// fault is what a member says is wrong with its server.
func (r *row) fault(n *lab.Node) string {
	var doc struct {
		PGHA struct {
			Fault string `json:"fault"`
		} `json:"pgha"`
	}
	if _, err := r.Get(r.ctx, n, "/patroni", &doc); err != nil {
		return ""
	}
	return doc.PGHA.Fault
}

// A postmaster that hangs serves its old connections and takes no new ones. The
// leadership is given away, by force: it hears no signal.
func TestPostmasterHangs(t *testing.T) {
	r := begin(t)
	began := lab.Boottime()
	r.must(r.Signal(r.leader, lab.Postmaster, syscall.SIGSTOP))
	next := r.newLeader(r.leader)
	took := lab.Boottime() - began
	gap := r.gap(began)
	t.Logf("postmaster stopped: %s leads after %d ms, gap %d ms", next.Name, took.Milliseconds(), gap.Milliseconds())
	if limit := 10*time.Second + r.stalls.Since(began); took > limit {
		t.Errorf("a new primary after %s, want %s at most", took, limit)
	}
	log, _ := r.AgentLog(r.leader, 0)
	if !strings.Contains(log, "giving the leadership away, because new connections to the server get no answer") {
		t.Error("the agent does not say why it gave the leadership away")
	}
	t.Logf("the former primary streams after %d ms", r.streaming(began).Milliseconds())
	r.finish(bounded)
}

// A postmaster that stands still for a moment is no reason for anything.
func TestPostmasterPauses(t *testing.T) {
	const moment = 1500 * time.Millisecond
	r := begin(t)
	at := lab.Boottime()
	r.must(r.Signal(r.leader, lab.Postmaster, syscall.SIGSTOP))
	// Ends at that instant, however slow the machine is: Boottime grows by itself.
	r.must(lab.Poll(r.ctx, func() bool { return lab.Boottime() >= at+moment }))
	r.must(r.Signal(r.leader, lab.Postmaster, syscall.SIGCONT))
	if paused := lab.Boottime() - at; paused > 2*moment {
		t.Skipf("the machine stood still meanwhile: the pause was %s", paused)
	}
	if r.stalls.Since(at) == 0 && lab.Acked(r.load.History(), at+moment/2, at+moment) == 0 {
		t.Error("the connections of before could not go on writing")
	}
	r.acked(lab.Boottime() + 3*time.Second)
	if why := r.fault(r.leader); why != "" {
		t.Errorf("fault: %s", why)
	}
	r.sameLeader()
	r.finish(none)
}

// Nobody can take over: the hung primary goes on with the connections it has,
// and says what is wrong.
func TestPostmasterHangsAlone(t *testing.T) {
	r := begin(t)
	for _, n := range r.Nodes {
		if n != r.leader {
			r.must(r.PowerOff(n))
		}
	}
	r.must(r.Signal(r.leader, lab.Postmaster, syscall.SIGSTOP))
	r.eventually("the fault is shown", func() bool { return r.fault(r.leader) != "" })
	log := ""
	r.eventually("the agent says that it stays", func() bool {
		log, _ = r.AgentLog(r.leader, 0)
		return strings.Contains(log, "keeping the lock although new connections to the server get no answer: no other member can take over")
	})
	r.must(r.Signal(r.leader, lab.Postmaster, syscall.SIGCONT))
	r.eventually("the fault is over", func() bool { return r.fault(r.leader) == "" })
	for _, n := range r.Nodes {
		if n != r.leader {
			r.must(r.PowerOn(n))
			r.answers(n, "/replica", 200) // its old keys are still there
		}
	}
	r.sameLeader()
	r.finish(none)
}

// A primary that crashes again and again is restarted twice, then somebody else
// leads.
func TestCrashLoopHandsOver(t *testing.T) {
	// window is that of the agent with this loop_wait, less what it may see a crash late.
	const window = 22 * time.Second
	r := begin(t)
	began := lab.Boottime()
	var next *lab.Node
	var crashes []time.Duration
	for next == nil {
		old, err := r.Pid(r.leader, lab.Postmaster)
		r.must(err)
		crashes = append(crashes, lab.Boottime())
		r.must(r.Kill(r.leader, lab.Postmaster))
		r.eventually("the agent sees that it is up again, or somebody else leads", func() bool { // else it is a start that failed
			now, err := r.Pid(r.leader, lab.Postmaster)
			leaders := r.Leaders(r.ctx)
			switch {
			case len(leaders) != 1:
				return false
			case leaders[0] != r.leader:
				next = leaders[0]
				return true
			}
			return err == nil && now != old
		})
		if next == nil { // a standby without its WAL is waited for, and nobody takes over
			r.streaming(0)
		}
		// Where a recovery takes long, the first ones are too old to count.
		if i := len(crashes) - 3; next == nil && i >= 0 && crashes[i+2]-crashes[i] < window {
			t.Fatalf("the leadership stays after three crashes in %s", crashes[i+2]-crashes[i])
		}
	}
	t.Logf("%d crashes: %s leads after %d ms, gap %d ms", len(crashes), next.Name, (lab.Boottime() - began).Milliseconds(), r.gap(began).Milliseconds())
	if len(crashes) < 3 {
		t.Errorf("the leadership was given away after %d crashes", len(crashes))
	}
	log, _ := r.AgentLog(r.leader, 0)
	if !strings.Contains(log, "giving the leadership away, because the server crashes again and again") {
		t.Error("the agent does not say why it gave the leadership away")
	}
	r.finish(bounded)
}
