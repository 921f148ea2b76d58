//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// diskLab is a cluster whose nodes have disks of their own.
func diskLab(t *testing.T) *row {
	t.Helper()
	l := newLab(t, func(o *lab.Options) { o.Volume, o.Etcd = 600<<20, 1 })
	if l.Options().Network != lab.Namespaces {
		t.Skip("disks of their own need root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), rowLimit)
	r := &row{T: t, Lab: l, ctx: ctx}
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			logs(t, l)
		}
		if r.load != nil {
			r.load.Stop()
			r.roles.Stop()
			r.stalls.Stop()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	boot(t, l)
	r.leader = r.soleLeader()
	r.underLoad()
	return r
}

// handsOver waits for the next leader and for the line that says why.
func (r *row) handsOver(old *lab.Node, why string) (next *lab.Node, took time.Duration) {
	r.Helper()
	began := lab.Boottime()
	next = r.newLeader(old)
	took = lab.Boottime() - began
	log, _ := r.AgentLog(old, 0)
	if !strings.Contains(log, why) {
		r.Errorf("the agent of %s does not say %q", old.Name, why)
	}
	return next, took
}

// Disks that fail in each way are seen, and the leadership goes to a node whose
// disk is well; the former primary comes back when its disk does.
func TestDisks(t *testing.T) {
	onlyLong(t)
	r := diskLab(t)
	began := lab.Boottime()
	r.must(r.FillDisk(r.leader))
	next, took := r.handsOver(r.leader, "the disk of the data directory is full")
	t.Logf("full disk: %s leads after %d ms, gap %d ms", next.Name, took.Milliseconds(), r.gap(began).Milliseconds())
	if r.fault(r.leader) == "" {
		t.Error("the former primary does not show what is wrong")
	}
	r.must(r.DrainDisk(r.leader))
	t.Logf("disk drained: all streaming after %d ms", r.streaming(lab.Boottime()).Milliseconds())

	r.leader = next
	began = lab.Boottime()
	r.must(r.HangDisk(r.leader))
	next, took = r.handsOver(r.leader, "the disk of the data directory hangs")
	t.Logf("hung disk: %s leads after %d ms, gap %d ms", next.Name, took.Milliseconds(), r.gap(began).Milliseconds())
	if last := r.lastAck(r.leader); last > began+time.Second {
		t.Errorf("%s acknowledged a write %s after its disk hung", r.leader.Name, last-began)
	}
	r.must(r.ThawDisk(r.leader))
	t.Logf("disk thawed: all streaming after %d ms", r.streaming(lab.Boottime()).Milliseconds())

	r.leader = next
	began = lab.Boottime()
	r.must(r.BreakDisk(r.leader))
	next = r.newLeader(r.leader)
	t.Logf("broken disk: %s leads after %d ms, gap %d ms", next.Name, (lab.Boottime() - began).Milliseconds(), r.gap(began).Milliseconds())
	for _, v := range lab.DualPrimaries(r.load.History()) {
		t.Errorf("two primaries: %s", v)
	}
	for _, v := range lab.DualRoles(r.roles.Stop()) {
		t.Errorf("two primaries: %s", v)
	}
}
