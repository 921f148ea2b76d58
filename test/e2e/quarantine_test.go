//go:build e2e

package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// All of etcd is lost and made anew, empty, while the primary runs: it goes on, if
// its lease lasts until etcd is there again.
func TestEtcdMadeAnew(t *testing.T) {
	const longer = 2 * ttl
	r := begin(t)
	r.longerLease(longer)
	began := lab.Boottime()
	r.must(r.LoseEtcd())
	r.must(r.StartEtcd(r.ctx))
	away := lab.Boottime() - began
	r.acked(began + longer)
	t.Logf("all of etcd lost and made anew, away %d ms: gap %d ms", away.Milliseconds(), r.gap(began).Milliseconds())
	r.published()
	r.sameLeader()
	r.finish(none)
}

// published waits until nobody is in quarantine.
func (r *row) published() {
	r.Helper()
	for _, n := range r.Nodes {
		r.eventually(n.Name+" out of quarantine", func() bool { return r.quarantine(n) == "" })
	}
}

// quarantine is why a node does not trust etcd; "?" when it does not say.
func (r *row) quarantine(n *lab.Node) string {
	var doc struct {
		PGHA struct {
			Quarantine string `json:"quarantine"`
		} `json:"pgha"`
	}
	if code, err := r.Get(r.ctx, n, "/patroni", &doc); err != nil || code != http.StatusOK {
		return "?"
	}
	return doc.PGHA.Quarantine
}

// All of etcd is lost and made anew while everything is stopped: the servers come
// up read-only, and an operator decides.
func TestEtcdMadeAnewWhileStopped(t *testing.T) {
	r := begin(t)
	r.load.Stop()
	for _, n := range r.Nodes { // one that is stopped later may lead meanwhile
		_, err := r.StopAgent(r.ctx, n)
		r.must(err)
	}
	r.must(r.LoseEtcd())
	r.must(r.StartEtcd(r.ctx))
	for _, n := range r.Nodes {
		r.must(r.StartAgent(n))
	}
	for _, n := range r.Nodes { // its server may still start, and is waited for then
		r.eventually(n.Name+" in quarantine", func() bool { return strings.HasPrefix(r.quarantine(n), "etcd") })
	}
	if leaders := r.Leaders(r.ctx); len(leaders) != 0 {
		t.Errorf("%s leads, and no operator said so", leaders[0].Name)
	}
	r.eventually("pghactl list shows it", func() bool {
		list, err := r.Ctl(r.ctx, r.Nodes[0], "list")
		return err == nil && strings.Count(list, "Quarantine: ") == len(r.Nodes)
	})
	began := lab.Boottime()
	out, err := r.Ctl(r.ctx, r.Nodes[0], "accept-dcs", "--force")
	r.must(err)
	if strings.Count(out, "Success: ") != len(r.Nodes) {
		t.Errorf("accept-dcs:\n%s", out)
	}
	leader := r.soleLeader()
	t.Logf("accepted: %s leads after %d ms", leader.Name, (lab.Boottime() - began).Milliseconds())
	r.published()
	r.streaming(began)
}
