//go:build e2e

package e2e

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// What the machine is to blame for is asked again: a server, a member or etcd that did
// not answer in time. Any other refusal is one.

// patch changes /config.
func (r *row) patch(change object) {
	r.Helper()
	r.must(patiently(r.ctx, func(ctx context.Context) error { return r.Patch(ctx, change) }))
}

// patiently does something that may fail for a while.
func patiently(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	var last error
	err := lab.Poll(ctx, func() bool { last = do(ctx); return last == nil })
	if err != nil {
		return errors.Join(last, err)
	}
	return nil
}

// configure changes /config, and takes it back when the row is over.
func (r *row) configure(change object) {
	r.Helper()
	back := object{}
	for key := range change {
		back[key] = nil
	}
	r.configureUntil(change, back)
}

// configureUntil does it with what then holds again. The row's own context is over by
// then. A row that failed has the cluster made anew.
func (r *row) configureUntil(change, back object) {
	r.Helper()
	r.patch(change)
	r.Cleanup(func() {
		if r.Failed() {
			return
		}
		err := patiently(context.WithoutCancel(r.ctx), func(ctx context.Context) error { return r.Patch(ctx, back) })
		if err != nil {
			r.Errorf("take the row's configuration back: %v", err)
		}
	})
}

// longerLease gives the primary more time to come back in than it has otherwise: a slow
// disk takes some seconds for a new etcd.
func (r *row) longerLease(d time.Duration) {
	r.Helper()
	of := func(d time.Duration) object { return object{"ttl": int(d.Seconds())} }
	r.configureUntil(of(d), of(ttl))
	r.eventually("the longer lease", func() bool {
		deadline, err := r.Lab.Deadline(r.leader)
		return err == nil && deadline-lab.Boottime() > ttl
	})
}

// unanswered tells whether a refusal says that somebody did not answer in time.
func unanswered(text string) bool {
	return slices.ContainsFunc([]string{"not reachable", "try again later", "failed to write failover key"}, func(words string) bool {
		return strings.Contains(text, words)
	})
}

// switchover hands over to candidate; nil: to anybody.
func (r *row) switchover(leader, candidate *lab.Node) {
	r.Helper()
	r.must(switchover(r.ctx, r.Lab, leader, candidate, r.Logf))
}

func switchover(ctx context.Context, l *lab.Lab, leader, candidate *lab.Node, logf func(string, ...any)) error {
	var refused error
	err := patiently(ctx, func(ctx context.Context) error {
		refused = l.Switchover(ctx, leader, candidate)
		if refused != nil && unanswered(refused.Error()) {
			logf("asked again: %v", refused)
			return refused
		}
		return nil
	})
	if refused != nil && strings.Contains(refused.Error(), "status unknown") { // it takes longer than the answer may
		ctx, cancel := context.WithTimeout(ctx, failover)
		defer cancel()
		_, refused = l.WaitLeader(ctx, lab.Except(leader))
	}
	return errors.Join(refused, err)
}

// slept tells whether an agent has dropped something scheduled since an offset, which it
// moves on, because it did not look for so long that its time had passed.
func (r *row) slept(n *lab.Node, from *int64) bool {
	text, end := r.AgentLog(n, *from)
	if !strings.Contains(text, "its time has passed") {
		return false
	}
	*from = end
	r.Logf("%s slept through the time of what was scheduled: once more", n.Name)
	return true
}

// stopped checks that the server of a node has ended with its agent: the postmaster at
// once, and what ends after it, as its logger does, soon.
func (r *row) stopped(n *lab.Node) {
	r.Helper()
	if pid, err := r.Pid(n, lab.Postmaster); err == nil {
		r.Errorf("PostgreSQL of %s still runs after its agent was stopped: postmaster %d", n.Name, pid)
	}
	r.eventually("the last process of the server of "+n.Name+" ends", func() bool { return !r.ServerRuns(n) })
}

// answers waits until a member gives a status for a path.
func (r *row) answers(n *lab.Node, path string, status int) {
	r.Helper()
	r.eventually(n.Name+path+" answers "+http.StatusText(status), func() bool {
		code, err := r.Get(r.ctx, n, path, nil)
		return err == nil && code == status
	})
}

// known waits until a member's own status document has a field, and gives it.
func (r *row) known(n *lab.Node, name string) (value any) {
	r.Helper()
	r.eventually(name+" of "+n.Name, func() bool { value = r.field(n, name); return value != nil })
	return value
}

// pendingRestart tells whether a member waits for a restart because of a parameter.
func (r *row) pendingRestart(n *lab.Node, parameter string) bool {
	why, _ := r.field(n, "pending_restart_reason").(object)
	return why[parameter] != nil
}
