//go:build e2e

package e2e

import (
	"errors"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// isolate cuts the leader off and waits for its successor.
func (r *row) isolate(from lab.Cut) {
	r.Helper()
	began := lab.Boottime()
	if err := r.Isolate(r.leader, from); errors.Is(err, lab.ErrNoNamespaces) {
		r.Skip("cutting networks needs root and network namespaces")
	} else {
		r.must(err)
	}
	next := r.newLeader(r.leader)
	gap := r.gap(began)
	last := r.lastAck(r.leader) - began
	r.Logf("old primary's last ack after %d ms, %s leads, gap %d ms", last.Milliseconds(), next.Name, gap.Milliseconds())
	if last <= 0 {
		r.Error("no write was acknowledged on the isolated node: the row proves nothing")
	}
	began = lab.Boottime()
	r.must(r.Heal(r.leader, from))
	r.Logf("healed: all streaming after %d ms", r.streaming(began).Milliseconds())
	r.finish(bounded)
}

// The primary's cable is pulled while a program on it goes on writing.
func TestPrimaryIsolated(t *testing.T) { begin(t).isolate(lab.FromAll) }

// The classic split brain: clients and replicas still reach the primary.
func TestPrimaryWithoutEtcd(t *testing.T) { begin(t).isolate(lab.FromEtcd) }
