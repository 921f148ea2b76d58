//go:build e2e

package e2e

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

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
	ctx, cancel := context.WithTimeout(t.Context(), rowLimit)
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
		west.answers(leader, path, want)
	}
	if out := west.ctl("list"); !strings.Contains(out, "Standby Leader") {
		t.Errorf("list:\n%s", out)
	}

	began = lab.Boottime()
	west.eventually("a candidate that answers", func() bool {
		err := west.Switchover(ctx, leader, nil)
		if err == nil {
			return true
		}
		t.Log(err)
		return slices.ContainsFunc(west.Nodes, func(n *lab.Node) bool { // the answer may come before the end
			code, err := west.Get(ctx, n, "/standby-leader", nil)
			return n != leader && err == nil && code == http.StatusOK
		})
	})
	west.standbyLeader(leader)
	t.Logf("switchover of the standby leader: %d ms until all stream again", (lab.Boottime() - began).Milliseconds())

	handOver(t, east, west)
	handOver(t, west, east)
}

// The standby leader's host is lost: another member follows the remote, on the same
// timeline, and the others follow it.
func TestStandbyLeaderLost(t *testing.T) {
	onlyLong(t)
	ctx, cancel := context.WithTimeout(t.Context(), rowLimit)
	defer cancel()
	east := newSide(t, ctx, "east", 25600, 1, nil).start()
	primary, err := east.WaitLeader(ctx, nil)
	east.must(err)
	east.must(east.PrepareLoad(ctx, primary))
	host, port := remoteOf(primary)
	west := newSide(t, ctx, "west", 25800, 2, map[string]any{"standby_cluster": map[string]any{"host": host, "port": port}}).start()
	west.losesLeader(east, "streaming")
}

// A standby cluster that knows its remote by an archive alone: the first copy comes
// from a backup, the rest from restore_command. Its leader is lost, and in the end
// it takes over with all that was archived.
func TestStandbyClusterArchive(t *testing.T) {
	onlyLong(t)
	ctx, cancel := context.WithTimeout(t.Context(), rowLimit)
	defer cancel()
	s := newScripts(t)
	archive, backup := filepath.Join(s.dir, "archive"), filepath.Join(s.dir, "backup")
	east := newSide(t, ctx, "east", 25600, 1, map[string]any{"postgresql": map[string]any{"parameters": map[string]any{
		"archive_mode": "on", "archive_command": "test ! -e " + archive + "/%f && cp %p " + archive + "/%f.part && mv " + archive + "/%f.part " + archive + "/%f"}}})
	east.must(east.OwnDir(archive))
	east.start()
	primary, err := east.WaitLeader(ctx, nil)
	east.must(err)
	east.must(east.PrepareLoad(ctx, primary))
	out, err := east.AsServer(ctx, primary, filepath.Join(east.Options().PGBin, "pg_basebackup"), "-D", backup, "-X", "none", "-c", "fast",
		"-d", strings.Replace(east.DSN(primary), "//postgres:", "//replicator:", 1))
	if err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}

	west := newSide(t, ctx, "west", 25800, 2, map[string]any{"standby_cluster": map[string]any{
		"restore_command": "cp " + archive + "/%f %p", "create_replica_methods": []any{"backup"}}})
	for _, n := range west.Nodes {
		west.must(west.WriteConfig(n, object{"postgresql": object{"backup": object{"command": s.write("copy", "cp -a "+backup+"/. $d"), "no_leader": true}}}))
	}
	west.start()
	leader := west.losesLeader(east, "in archive recovery")

	// The last segment reaches the archive when the remote is stopped.
	rows := east.rows(primary)
	if status, err := east.StopAgent(ctx, primary); err != nil {
		t.Fatalf("stop %s: %s, %v", primary.Name, status, err)
	}
	west.eventually("all that was archived", func() bool { return west.rows(leader) == rows })
	t.Log("\n" + west.ctl("promote-cluster", "--force"))
	if primary, err = west.WaitLeader(ctx, nil); err != nil || west.rows(primary) != rows {
		t.Errorf("after the promotion: %d rows, %d before (%v)", west.rows(primary), rows, err)
	}
}

// losesLeader cuts the power of the standby leader, in front of a remote that is
// written to, and gives the one who took over; state is that of its server.
func (s *side) losesLeader(remote *side, state string) (leader *lab.Node) {
	s.Helper()
	primary, err := remote.WaitLeader(s.ctx, nil)
	s.must(err)
	leads := func(not *lab.Node) *lab.Node {
		s.Helper()
		asked := s.Nodes[0]
		if asked == not {
			asked = s.Nodes[1]
		}
		var leader *lab.Node
		s.eventually("a standby leader "+state+" on the remote's timeline, and a standby that streams from it", func() bool {
			var c, far lab.Cluster
			if code, err := remote.Get(s.ctx, primary, "/cluster", &far); err != nil || code != http.StatusOK || len(far.Members) == 0 {
				return false
			}
			if code, err := s.Get(s.ctx, asked, "/cluster", &c); err != nil || code != http.StatusOK {
				return false
			}
			follows := 0
			leader = nil
			for _, m := range c.Members {
				switch {
				case m.Role == "standby_leader" && m.State == state && m.Timeline == far.Members[0].Timeline:
					leader = s.Node(m.Name)
				case m.State == "streaming":
					follows++
				}
			}
			return leader != nil && leader != not && (not != nil || follows == len(s.Nodes)-1)
		})
		return leader
	}
	arrives := func(n *lab.Node) {
		s.Helper()
		remote.exec(primary, "INSERT INTO pgha_lab.writes SELECT count(*), 'row' FROM pgha_lab.writes")
		remote.exec(primary, "SELECT pg_switch_wal()")
		rows := remote.rows(primary)
		s.eventually("the remote's rows on "+n.Name, func() bool { return s.rows(n) == rows })
	}
	old := leads(nil)
	arrives(old)
	began := lab.Boottime()
	s.must(s.PowerOff(old))
	leader = leads(old)
	s.Logf("power off of the standby leader: %s leads after %d ms (ttl %s)", leader.Name, (lab.Boottime() - began).Milliseconds(), ttl)
	arrives(leader)
	s.must(s.PowerOn(old))
	s.eventually("the lost one follows", func() bool {
		var c lab.Cluster
		code, err := s.Get(s.ctx, leader, "/cluster", &c)
		return err == nil && code == http.StatusOK && len(c.Members) == len(s.Nodes) && slices.ContainsFunc(c.Members, func(m lab.Member) bool {
			return m.Name == old.Name && m.Role == "replica" && m.State == "streaming"
		})
	})
	arrives(old)
	return leader
}

// rows counts what is in the table of the load.
func (s *side) rows(n *lab.Node) (rows int) {
	s.Helper()
	s.eventually("the number of rows on "+n.Name, func() bool {
		conn, err := s.Connect(s.ctx, n)
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close(s.ctx) }()
		return conn.QueryRow(s.ctx, "SELECT count(*) FROM pgha_lab.writes").Scan(&rows) == nil
	})
	return rows
}
