//go:build e2e

package e2e

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// All of etcd is lost and made anew, empty, while the primary runs: it goes on, if
// its lease lasts until etcd is there again.
func TestEtcdMadeAnew(t *testing.T) {
	const longer = 3 * ttl / 2 // a slow disk takes some seconds for a new etcd
	r := begin(t)
	set := func(d time.Duration) error {
		return r.Patch(context.WithoutCancel(r.ctx), object{"ttl": int(d.Seconds())})
	}
	r.must(set(longer))
	t.Cleanup(func() { _ = set(ttl) })
	r.eventually("the longer lease", func() bool {
		deadline, err := r.Lab.Deadline(r.leader)
		return err == nil && deadline-lab.Boottime() > ttl
	})
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
	for _, n := range r.Nodes {
		_, err := r.StopAgent(r.ctx, n)
		r.must(err)
	}
	r.must(r.LoseEtcd())
	r.must(r.StartEtcd(r.ctx))
	for _, n := range r.Nodes {
		r.must(r.StartAgent(n))
	}
	for _, n := range r.Nodes {
		r.eventually(n.Name+" in quarantine, and its server up", func() bool {
			why := r.quarantine(n)
			return strings.HasPrefix(why, "etcd") && r.ServerRuns(n)
		})
	}
	if leaders := r.Leaders(r.ctx); len(leaders) != 0 {
		t.Errorf("%s leads, and no operator said so", leaders[0].Name)
	}
	ctl := func(args ...string) string {
		out, err := r.AsServer(r.ctx, r.Nodes[0], filepath.Join(r.Options().BinDir, "pghactl"), append([]string{"-c", r.Nodes[0].Config}, args...)...)
		r.must(err)
		return out
	}
	list := ctl("list")
	if strings.Count(list, "Quarantine: ") != len(r.Nodes) {
		t.Errorf("pghactl list does not show it:\n%s", list)
	}
	began := lab.Boottime()
	out := ctl("accept-dcs", "--force")
	if strings.Count(out, "Success: ") != len(r.Nodes) {
		t.Errorf("accept-dcs:\n%s", out)
	}
	ctx, cancel := context.WithTimeout(r.ctx, settle)
	defer cancel()
	leader, err := r.WaitLeader(ctx, nil)
	r.must(err)
	t.Logf("accepted: %s leads after %d ms", leader.Name, (lab.Boottime() - began).Milliseconds())
	r.published()
	r.streaming(began)
}
