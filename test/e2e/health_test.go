//go:build e2e

package e2e

import (
	"net/http"
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
	if took > 10*time.Second {
		t.Errorf("a new primary after %s, want 10 s at most", took)
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
	r := begin(t)
	r.must(r.Signal(r.leader, lab.Postmaster, syscall.SIGSTOP))
	at := lab.Boottime()
	r.acked(at + 1500*time.Millisecond)
	r.must(r.Signal(r.leader, lab.Postmaster, syscall.SIGCONT))
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
			r.eventually(n.Name+" is back", func() bool { // its old keys are still there
				code, err := r.Get(r.ctx, n, "/replica", nil)
				return err == nil && code == 200
			})
		}
	}
	r.sameLeader()
	r.finish(none)
}

// A primary that crashes again and again is restarted twice, then somebody else
// leads.
func TestCrashLoopHandsOver(t *testing.T) {
	r := begin(t)
	began := lab.Boottime()
	old, err := r.Pid(r.leader, lab.Postmaster)
	r.must(err)
	for i := range 3 {
		r.must(r.Kill(r.leader, lab.Postmaster))
		if i < 2 {
			r.must(r.WaitReplaced(r.ctx, r.leader, lab.Postmaster, old))
			r.eventually("the agent sees that it is up again", func() bool { // else it is a start that failed
				code, err := r.Get(r.ctx, r.leader, "/primary", nil)
				return err == nil && code == http.StatusOK
			})
			old, err = r.Pid(r.leader, lab.Postmaster)
			r.must(err)
		}
	}
	next := r.newLeader(r.leader)
	t.Logf("three crashes: %s leads after %d ms, gap %d ms", next.Name, (lab.Boottime() - began).Milliseconds(), r.gap(began).Milliseconds())
	log, _ := r.AgentLog(r.leader, 0)
	if !strings.Contains(log, "giving the leadership away, because the server crashes again and again") {
		t.Error("the agent does not say why it gave the leadership away")
	}
	r.finish(bounded)
}
