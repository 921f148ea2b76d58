//go:build e2e

package e2e

import (
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// All of etcd is killed and started at once: shorter than any deadline, so
// nobody may notice.
func TestEtcdRestart(t *testing.T) {
	const longer = 2 * ttl
	r := begin(t)
	r.longerLease(longer)
	began := lab.Boottime()
	for i := range r.Endpoints() {
		r.must(r.StopEtcdMember(i))
	}
	r.must(r.StartEtcd(r.ctx))
	away := lab.Boottime() - began
	r.acked(began + longer)
	t.Logf("all of etcd restarted, away %d ms: gap %d ms", away.Milliseconds(), r.gap(began).Milliseconds())
	r.sameLeader()
	r.finish(none)
}

// Each member in turn is gone for longer than a leader lives without renewal.
func TestEtcdEndpointLoss(t *testing.T) {
	r := begin(t)
	for i, endpoint := range r.Endpoints() {
		began := lab.Boottime()
		r.must(r.StopEtcdMember(i))
		r.acked(began + 5*time.Second)
		t.Logf("without etcd at %s: gap %d ms", endpoint, r.gap(began).Milliseconds())
		r.must(r.StartEtcd(r.ctx))
	}
	r.sameLeader()
	r.finish(none)
}
