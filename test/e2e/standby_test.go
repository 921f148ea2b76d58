//go:build e2e

package e2e

import (
	"context"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// side is one of two clusters that replicate from one another, on loopback: small,
// with an etcd of its own.
type side struct {
	*row
}

func newSide(t *testing.T, ctx context.Context, name string, port, nodes int, dcs map[string]any) *side {
	t.Helper()
	l := newLab(t, func(o *lab.Options) {
		o.Network, o.BasePort, o.Etcd, o.Nodes = lab.Loopback, port, 1, nodes
		o.Scope, o.NodePrefix, o.Password, o.NoFsync, o.DCS = name, name, "the-same", true, dcs
	})
	s := &side{row: &row{T: t, Lab: l, ctx: ctx}}
	t.Cleanup(func() {
		if t.Failed() {
			logs(t, l)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if !t.Failed() && os.Getenv("PGHA_E2E_KEEP") == "" {
			_ = os.RemoveAll(l.Options().Dir)
		}
	})
	s.must(l.StartEtcd(ctx))
	return s
}

// start starts the agents of a side.
func (s *side) start() *side {
	s.Helper()
	for _, n := range s.Nodes {
		s.must(s.StartAgent(n))
	}
	return s
}

// standbyLeader waits for a node other than not that leads a standby cluster, and
// for the rest to stream from it.
func (s *side) standbyLeader(not *lab.Node) (leader *lab.Node) {
	s.Helper()
	s.eventually("a standby leader", func() bool {
		for _, n := range s.Nodes {
			if code, err := s.Get(s.ctx, n, "/standby-leader", nil); n != not && err == nil && code == http.StatusOK {
				leader = n
			}
		}
		return leader != nil
	})
	s.eventually("all stream", func() bool {
		var c lab.Cluster
		if code, err := s.Get(s.ctx, s.Nodes[0], "/cluster", &c); err != nil || code != http.StatusOK || len(c.Members) != len(s.Nodes) {
			return false
		}
		for _, m := range c.Members {
			if m.State != "streaming" || (m.Role == "standby_leader") != (m.Name == leader.Name) {
				return false
			}
		}
		return true
	})
	return leader
}

func remoteOf(n *lab.Node) (host string, port int) {
	host, text, _ := net.SplitHostPort(n.Addr)
	port, _ = strconv.Atoi(text)
	return host, port
}

// ctl runs pghactl and wants it to succeed.
func (s *side) ctl(args ...string) string {
	s.Helper()
	out, err := s.Ctl(s.ctx, s.Nodes[0], args...)
	if err != nil {
		s.Fatalf("pghactl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// handOver moves the primary from one cluster to the other under load: what was
// acknowledged on one side must be on the other, with a gap of seconds.
func handOver(t *testing.T, from, to *side) {
	t.Helper()
	target := to.standbyLeader(nil)
	ctx, cancel := context.WithCancel(from.ctx)
	defer cancel()
	leader, err := from.WaitLeader(ctx, nil)
	from.must(err)
	from.must(from.PrepareLoad(ctx, leader))
	load := from.NewLoad()
	load.Writer(ctx, writerPeriod)
	defer load.Stop()
	from.load = load
	from.acked(lab.Boottime())

	host, port := remoteOf(target)
	t.Log("\n" + from.ctl("demote-cluster", "--host", host, "--port", strconv.Itoa(port), "--force"))
	load.Stop()
	history := load.History()
	t.Log("\n" + to.ctl("promote-cluster", "--force"))
	primary, err := to.WaitLeader(ctx, nil)
	to.must(err)
	promoted := lab.Boottime()
	audit, err := to.Audit(ctx, history, primary)
	to.must(err)
	last := history[len(history)-1]
	t.Logf("hand-over from %s to %s: %d rows acknowledged, %d missing, gap %d ms from the last row to the new primary",
		from.Options().Scope, to.Options().Scope, audit.Acked, audit.Lost(), (promoted - last.Return).Milliseconds())
	if audit.Lost() > 0 || audit.Acked == 0 {
		t.Errorf("acknowledged rows missing: %v", audit.Missing)
	}
	from.standbyLeader(nil)
	if leaders := from.Leaders(ctx); len(leaders) != 0 {
		t.Errorf("the demoted cluster has primaries: %v", leaders)
	}
}

// Scenarios 76-83: a cluster is bootstrapped as a standby of another, follows it,
// switches its leader, takes over from it, and gives the primary back.
func TestStandbyCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	east := newSide(t, ctx, "east", 25600, 2, nil).start()
	primary, err := east.WaitLeader(ctx, nil)
	east.must(err)
	east.streaming(0)
	host, port := remoteOf(primary)

	began := lab.Boottime()
	west := newSide(t, ctx, "west", 25800, 2, map[string]any{"standby_cluster": map[string]any{"host": host, "port": port}}).start()
	leader := west.standbyLeader(nil)
	t.Logf("standby cluster of two made in %d ms", (lab.Boottime() - began).Milliseconds())
	for path, want := range map[string]int{"/leader": 200, "/primary": 503, "/replica": 503, "/read-only": 200} {
		if code, err := west.Get(ctx, leader, path, nil); err != nil || code != want {
			t.Errorf("%s of the standby leader: %d, want %d (%v)", path, code, want, err)
		}
	}
	if out := west.ctl("list"); !strings.Contains(out, "Standby Leader") {
		t.Errorf("list:\n%s", out)
	}

	began = lab.Boottime()
	west.eventually("a candidate that answers", func() bool {
		err := west.Switchover(ctx, leader, nil)
		if err != nil {
			t.Log(err)
		}
		return err == nil
	})
	west.standbyLeader(leader)
	t.Logf("switchover of the standby leader: %d ms until all stream again", (lab.Boottime() - began).Milliseconds())

	handOver(t, east, west)
	handOver(t, west, east)
}
