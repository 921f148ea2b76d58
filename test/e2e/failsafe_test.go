//go:build e2e

package e2e

import (
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// failsafe switches the mode on, and waits until the leader has told etcd whom
// it will ask.
func failsafe(r *row) {
	r.Helper()
	r.configure(object{"failsafe_mode": true})
	r.eventually("every member in /failsafe", func() bool {
		var members map[string]string
		code, err := r.Get(r.ctx, r.leader, "/failsafe", &members)
		return err == nil && code == http.StatusOK && len(members) == len(r.Nodes)
	})
}

// All of etcd is away for longer than any lease, and every member can be
// reached: with failsafe_mode the primary goes on, and nobody is elected.
func TestFailsafe(t *testing.T) {
	r := begin(t)
	failsafe(r)
	began := lab.Boottime()
	for i := range r.Endpoints() {
		r.must(r.StopEtcdMember(i))
	}
	r.acked(began + 2*ttl)
	t.Logf("without etcd for %s: gap %d ms", 2*ttl, r.gap(began).Milliseconds())
	r.must(r.StartEtcd(r.ctx))
	r.acked(lab.Boottime() + ttl)
	t.Logf("and with it again: gap %d ms", r.gap(began).Milliseconds())
	r.sameLeader()
	r.finish(none)
}

// One member that does not answer may be one that was elected on the other side
// of a broken network: the primary stops writing before its lease ends.
func TestFailsafeNeedsEverybody(t *testing.T) {
	r := begin(t)
	failsafe(r)
	silent := r.Nodes[0]
	if silent == r.leader {
		silent = r.Nodes[1]
	}
	r.must(r.Signal(silent, lab.Agent, syscall.SIGSTOP))
	began := lab.Boottime()
	for i := range r.Endpoints() {
		r.must(r.StopEtcdMember(i))
	}
	const quiet = 4 * time.Second
	r.eventually("writes to end", func() bool { return lab.Boottime()-max(r.lastAck(r.leader), began) > quiet })
	last := r.lastAck(r.leader) - began
	if last > ttl {
		t.Errorf("last write %s after etcd went away, longer than a lease", last)
	}
	t.Logf("without etcd and with %s silent: last write after %d ms", silent.Name, last.Milliseconds())
	r.must(r.Signal(silent, lab.Agent, syscall.SIGCONT))
	r.must(r.StartEtcd(r.ctx))
	r.acked(lab.Boottime())
	r.finish(bounded)
}
