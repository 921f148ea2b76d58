//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// duty is what a cluster with synchronous replication shows of it, wherever it is
// asked.
type duty struct {
	mode     any         // synchronous_mode: false, true, "quorum"
	standbys []*lab.Node // in the order of their names
	count    int         // how many of them a commit waits for
	// names is synchronous_standby_names, where it does not follow from the others.
	names string
}

func (d duty) String() string {
	return fmt.Sprintf("mode %v, %d of %v", d.mode, d.count, nodeNames(d.standbys))
}

func nodeNames(nodes []*lab.Node) []string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.Name
	}
	return out
}

// onDuty waits until everything that tells of synchronous replication says the same,
// and a commit gets through.
func (r *row) onDuty(d duty) {
	r.Helper()
	began := lab.Boottime()
	ctx, cancel := context.WithTimeout(r.ctx, settle)
	defer cancel()
	var differs error
	if err := lab.Poll(ctx, func() bool { differs = r.dutyDiffers(d); return differs == nil }); err != nil {
		r.Fatalf("wait for %s: %v", d, differs)
	}
	settled := lab.Boottime()
	r.acked(settled)
	r.Logf("%s after %d ms", d, (settled - began).Milliseconds())
}

func (r *row) dutyDiffers(d duty) error {
	return errors.Join(r.syncKeyDiffers(d), r.syncNamesDiffer(d), r.checksDiffer(d), r.listDiffers(d))
}

func (r *row) syncKeyDiffers(d duty) error {
	var have struct {
		Leader   string `json:"leader"`
		Quorum   int    `json:"quorum"`
		Standbys string `json:"sync_standby"`
	}
	doc, err := r.Key(r.ctx, "sync")
	if err == nil && doc != "" {
		err = json.Unmarshal([]byte(doc), &have)
	}
	if err != nil {
		return err
	}
	leader, quorum := r.leader.Name, 0
	switch d.mode {
	case false:
		leader = ""
	case "quorum":
		quorum = max(len(d.standbys)-d.count, 0)
	}
	if have.Leader != leader || have.Quorum != quorum || have.Standbys != strings.Join(nodeNames(d.standbys), ",") {
		return fmt.Errorf("/sync is %s", doc)
	}
	return nil
}

func (r *row) syncNamesDiffer(d duty) error {
	want := d.names
	if want == "" && len(d.standbys) > 0 {
		list := `"` + strings.Join(nodeNames(d.standbys), `","`) + `"`
		switch {
		case d.mode == "quorum":
			want = fmt.Sprintf("ANY %d (%s)", d.count, list)
		case len(d.standbys) > 1:
			want = fmt.Sprintf("%d (%s)", d.count, list)
		default:
			want = list
		}
	}
	conn, err := r.Connect(r.ctx, r.leader)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(r.ctx) }()
	var have string
	if err := conn.QueryRow(r.ctx, "SHOW synchronous_standby_names").Scan(&have); err != nil {
		return err
	}
	if have != want {
		return fmt.Errorf("synchronous_standby_names is %q, not %q", have, want)
	}
	return nil
}

// checksDiffer asks the health checks that tell of synchronous replication.
func (r *row) checksDiffer(d duty) error {
	paths := []string{"/synchronous", "/asynchronous", "/quorum", "/read-only-sync", "/read-only-quorum"}
	for _, n := range r.Nodes {
		good := []string{"/asynchronous"}
		switch {
		case n == r.leader:
			good = []string{"/read-only-sync", "/read-only-quorum"}
		case !slices.Contains(d.standbys, n):
		case d.mode == "quorum":
			good = []string{"/quorum", "/read-only-quorum"}
		default:
			good = []string{"/synchronous", "/read-only-sync"}
		}
		for _, path := range paths {
			code, err := r.Get(r.ctx, n, path, nil)
			if err != nil && r.ServerRuns(n) || err == nil && (code == http.StatusOK) != slices.Contains(good, path) {
				return fmt.Errorf("%s of %s: %d %s", path, n.Name, code, fmt.Sprint(err))
			}
		}
	}
	return nil
}

func (r *row) listDiffers(d duty) error {
	out, err := r.Ctl(r.ctx, r.leader, "list", "-f", "json")
	if err != nil {
		return fmt.Errorf("pghactl list: %w: %s", err, out)
	}
	var members []struct{ Member, Role string }
	if err := json.Unmarshal([]byte(out), &members); err != nil {
		return fmt.Errorf("pghactl list: %w: %s", err, out)
	}
	for _, m := range members {
		want, n := "Replica", r.Node(m.Member)
		switch {
		case n == r.leader:
			want = "Leader"
		case !slices.Contains(d.standbys, n):
		case d.mode == "quorum":
			want = "Quorum Standby"
		default:
			want = "Sync Standby"
		}
		if m.Role != want {
			return fmt.Errorf("pghactl list: %s is a %s, not a %s", m.Member, m.Role, want)
		}
	}
	return nil
}

// oneOnDuty is the one synchronous standby of mode on, and the other standby.
func (r *row) oneOnDuty() (standby, other *lab.Node) {
	r.Helper()
	var differs error
	ctx, cancel := context.WithTimeout(r.ctx, settle)
	defer cancel()
	err := lab.Poll(ctx, func() bool {
		differs = nil
		for i, n := range r.replicas() {
			err := r.dutyDiffers(duty{mode: true, standbys: []*lab.Node{n}, count: 1})
			if err == nil {
				standby, other = n, r.replicas()[1-i]
				return true
			}
			differs = errors.Join(differs, err)
		}
		return false
	})
	if err != nil {
		r.Fatalf("wait for one synchronous standby: %v", differs)
	}
	r.acked(lab.Boottime())
	return standby, other
}

// replicas are the standbys in the order of their names.
func (r *row) replicas() []*lab.Node {
	return slices.DeleteFunc(slices.Clone(r.Nodes), func(n *lab.Node) bool { return n == r.leader })
}

// synchronous_mode and synchronous_node_count change under clients that write.
func TestSynchronousModes(t *testing.T) {
	r := begin(t)
	both := r.replicas()
	r.onDuty(duty{mode: false})
	r.configure(object{"synchronous_mode": true, "synchronous_node_count": nil})
	r.oneOnDuty()
	set := func(change object) { t.Helper(); r.patch(change) }
	set(object{"synchronous_mode": "quorum"})
	r.onDuty(duty{mode: "quorum", standbys: both, count: 1})
	set(object{"synchronous_node_count": 2})
	r.onDuty(duty{mode: "quorum", standbys: both, count: 2})
	set(object{"synchronous_mode": true})
	r.onDuty(duty{mode: true, standbys: both, count: 2})
	set(object{"synchronous_mode": "quorum"})
	r.onDuty(duty{mode: "quorum", standbys: both, count: 2})
	set(object{"synchronous_node_count": 1})
	r.onDuty(duty{mode: "quorum", standbys: both, count: 1})
	set(object{"synchronous_mode": true})
	r.oneOnDuty()
	set(object{"synchronous_mode": false})
	r.onDuty(duty{mode: false})
	r.sameLeader()
	r.finish(none)
}

// Tags and lag say who does synchronous duty.
func TestSynchronousPreference(t *testing.T) {
	onlyLong(t)
	r := begin(t)
	r.configure(object{"synchronous_mode": true, "maximum_lag_on_syncnode": nil})
	one, other := r.oneOnDuty()
	t.Cleanup(func() { r.retag(one, nil); r.retag(other, nil) })
	is := func(n *lab.Node) { t.Helper(); r.onDuty(duty{mode: true, standbys: []*lab.Node{n}, count: 1}) }

	r.retag(other, object{"sync_priority": 2})
	is(other)
	r.retag(other, object{"nosync": true})
	is(one)

	// Who cannot, or may not, does not in quorum mode either.
	r.patch(object{"synchronous_mode": "quorum"})
	r.onDuty(duty{mode: "quorum", standbys: []*lab.Node{one}, count: 1})
	r.retag(other, nil)
	r.onDuty(duty{mode: "quorum", standbys: r.replicas(), count: 1})
	r.patch(object{"synchronous_mode": true})
	one, other = r.oneOnDuty()

	// A receiver that hangs: every commit waits for it, until it is too far behind.
	r.patch(object{"maximum_lag_on_syncnode": 64 << 10})
	began := lab.Boottime()
	r.must(r.SignalReceiver(one, syscall.SIGSTOP))
	t.Cleanup(func() { _ = r.SignalReceiver(one, syscall.SIGCONT) })
	r.exec(r.leader, "SET synchronous_commit = local; SELECT pg_logical_emit_message(false, 'lag', repeat('x', 1 << 20))")
	is(other)
	t.Logf("a synchronous standby that hung was replaced, gap %d ms", r.gap(began).Milliseconds())
	r.must(r.SignalReceiver(one, syscall.SIGCONT))
	r.patch(object{"synchronous_mode": false})
	r.onDuty(duty{mode: false})
	r.sameLeader()
	r.finish(none)
}

// Members leave and come back, one in order and then all of them at once; what the
// last one left means depends on strict mode.
func TestSynchronousMembers(t *testing.T) {
	onlyLong(t)
	const nobody = "__patroni_strict_sync_replica_placeholder__"
	r := begin(t)
	r.configure(object{"synchronous_mode": true, "synchronous_mode_strict": nil})
	set := func(change object) { t.Helper(); r.patch(change) }
	one, other := r.oneOnDuty()
	back := func(nodes ...*lab.Node) {
		t.Helper()
		for _, n := range nodes {
			r.must(r.StartAgent(n))
		}
		r.streaming(lab.Boottime())
	}
	leave := func(n *lab.Node) {
		t.Helper()
		if status, err := r.StopAgent(r.ctx, n); err != nil {
			t.Fatalf("stop %s: %s, %v", n.Name, status, err)
		}
	}

	began := lab.Boottime()
	leave(one)
	r.onDuty(duty{mode: true, standbys: []*lab.Node{other}, count: 1})
	t.Logf("the synchronous standby stopped in order, gap %d ms", r.gap(began).Milliseconds())
	back(one)
	set(object{"synchronous_mode": "quorum"})
	r.onDuty(duty{mode: "quorum", standbys: r.replicas(), count: 1})
	leave(other)
	r.onDuty(duty{mode: "quorum", standbys: []*lab.Node{one}, count: 1})

	r.must(r.PowerOff(one))
	r.onDuty(duty{mode: "quorum"})
	set(object{"synchronous_mode_strict": true})
	r.eventually("the primary waits for somebody", func() bool {
		return r.syncNamesDiffer(duty{names: "ANY 1 (" + nobody + ")"}) == nil
	})
	if err := r.write(3 * time.Second); err == nil {
		t.Error("strict mode, and nobody there: a commit was acknowledged")
	}
	set(object{"synchronous_mode": true})
	r.eventually("the primary waits for somebody", func() bool { return r.syncNamesDiffer(duty{names: nobody}) == nil })
	r.must(r.PowerOn(one))
	r.onDuty(duty{mode: true, standbys: []*lab.Node{one}, count: 1})
	back(other)
	r.must(r.PowerOff(one))
	r.onDuty(duty{mode: true, standbys: []*lab.Node{other}, count: 1})
	r.must(r.PowerOn(one))
	set(object{"synchronous_mode": false})
	r.onDuty(duty{mode: false})
	r.sameLeader()
	r.finish(none)
}

// write commits something on the leader, if that is acknowledged in time.
func (r *row) write(limit time.Duration) error {
	conn, err := r.Connect(r.ctx, r.leader)
	r.must(err)
	defer func() { _ = conn.Close(r.ctx) }()
	ctx, cancel := context.WithTimeout(r.ctx, limit)
	defer cancel()
	_, err = conn.Exec(ctx, "CREATE TABLE pgha_lab.strict()")
	return err
}
