//go:build e2e

package chaos

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

func laterRows() []row {
	return []row{
		{id: "35", title: "a new leader cut off between its claim and its promotion, and let go on when its lease is over", expect: "a third node leads", run: lateClaim},
		{id: "35b", title: "the new primary's checkpointer hangs after the promotion", expect: "the rewind waits for its checkpoint", run: lateCheckpoint, async: true},
		{id: "36", title: "kill -9 of everything during pg_rewind and pg_basebackup, 6 times", expect: "rejoins by rewind or clone", run: killRejoin, async: true},
		{id: "37", title: "WAL for the rewind is gone", expect: "clone", run: walGone, async: true},
		{id: "38", title: "power cut of all nodes at once", expect: "back within the ttl and 3 s", run: powerCut, fast: true},
		{id: "42", title: "clock stepped by an hour", expect: "N", needs: because("one CLOCK_REALTIME for the whole machine, which belongs to others too; " +
			"no deadline of ours is on it (CLOCK_BOOTTIME cannot be set), and internal/sim lets clocks run at different rates")},
		{id: "50", title: "empty nodes race, and the winner is killed in its bootstrap", expect: "one cluster",
			needs: because("the cluster of this run is not empty: TestBootstrapRaces ('make e2e-long') does it 20 times")},
	}
}

// lateClaim holds a node that has taken the leader key before it promotes, cuts it off,
// and lets it go on when its leadership is over.
func lateClaim(x *run) {
	dir := filepath.Join(x.Options().Dir, "hook")
	hold, held := filepath.Join(dir, "hold"), filepath.Join(dir, "held")
	x.must(os.RemoveAll(held))
	x.must(x.WriteOwnFile(hold, nil, 0o644))
	x.whenHealed(func() error { return os.RemoveAll(hold) })
	x.fault()
	x.must(x.PowerOff(x.leader))
	x.whenHealed(func() error { return x.PowerOn(x.leader) })
	var claimer *lab.Node
	pid := ""
	x.eventually("a node that is about to promote", func() bool {
		doc, _ := os.ReadFile(held) // absent before
		pid = strings.TrimSpace(string(doc))
		number, _ := strconv.Atoi(pid)
		for _, n := range x.replicas() {
			if slices.Contains(x.Pids(n), number) {
				claimer = n
			}
		}
		return claimer != nil
	})
	release := func() error { return os.RemoveAll(hold + "." + pid) }
	x.whenHealed(release)
	claimed := lab.Boottime()
	x.must(x.Isolate(claimer, lab.FromAll))
	x.whenHealed(func() error { return x.Heal(claimer, lab.FromAll) })
	x.lasts(claimed - x.began + 2*x.c.ttl)
	if x.c.mode == "async" { // otherwise the third one cannot know whether it has everything
		x.newLeader(claimer)
		x.acked(claimed)
	}
	x.must(release())
	x.lasts(lab.Boottime() - x.began + 4*time.Second)
	if x.lastAck(claimer) > claimed {
		x.wrong("%s acknowledged writes after its leadership was over", claimer.Name)
	}
}

// lateCheckpoint lets a new primary promote and write without a checkpoint on its
// timeline: what its control file says is what a rewind would go by.
func lateCheckpoint(x *run) {
	var stopped []*lab.Node
	resume := func() error {
		for _, n := range stopped {
			_ = x.SignalCheckpointer(n, syscall.SIGCONT) // its server may be another one now
		}
		return nil
	}
	x.whenHealed(resume)
	for _, n := range x.replicas() {
		x.must(x.SignalCheckpointer(n, syscall.SIGSTOP))
		stopped = append(stopped, n)
	}
	x.must(x.Isolate(x.leader, lab.FromPeers))
	before := lab.Boottime()
	x.eventually("a write nobody gets", func() bool { return x.lastAck(x.leader) > before })
	x.fault()
	x.must(x.PowerOff(x.leader))
	x.must(x.Heal(x.leader, lab.FromPeers))
	x.failsOver(x.c.failover())
	watch := x.Watch(x.ctx, 5*time.Millisecond)
	defer watch.Stop()
	on := lab.Boottime()
	x.must(x.PowerOn(x.leader))
	x.lasts(lab.Boottime() - x.began + x.c.ttl)
	if seen := watch.Sightings(x.leader.Name, lab.Rewind, on); len(seen) > 0 {
		x.wrong("pg_rewind ran before the new primary's first checkpoint")
	}
	x.must(resume())
	x.must(x.settled(patience))
}

// diverge makes the leader write what nobody gets, cuts its power, and waits for a
// successor that writes.
func (x *run) diverge() *lab.Node {
	old := x.currentLeader()
	x.must(x.Isolate(old, lab.FromPeers))
	before := lab.Boottime()
	x.eventually("a write nobody gets", func() bool { return x.lastAck(old) > before })
	x.must(x.PowerOff(old))
	x.must(x.Heal(old, lab.FromPeers))
	x.newLeader(old)
	x.acked(lab.Boottime())
	return old
}

// rejoinKills is how often a node is killed while it rejoins.
const rejoinKills = 6

// killRejoin kills a former primary at its rewinds and copies, each time at another
// instant.
func killRejoin(x *run) {
	old := x.diverge()
	watch := x.Watch(x.ctx, 5*time.Millisecond)
	defer watch.Stop()
	hits := 0
	for i := range rejoinKills {
		began := lab.Boottime()
		x.must(x.PowerOn(old))
		tool := func() bool {
			return len(watch.Sightings(old.Name, lab.Rewind, began))+len(watch.Sightings(old.Name, lab.BaseBackup, began)) > 0
		}
		x.eventually("a tool or streaming", func() bool { return tool() || x.streams(old) })
		if !tool() {
			break // it got through
		}
		x.lasts(lab.Boottime() - x.began + time.Duration(15*i)*time.Millisecond)
		x.must(x.PowerOff(old))
		hits++
		if i == 0 { // force the copy in the next rounds
			x.must(os.RemoveAll(filepath.Join(old.DataDir, "global")))
		}
	}
	x.figure("kills", float64(hits), "")
	began := lab.Boottime()
	x.must(x.PowerOn(old))
	x.must(x.settled(patience))
	x.millis("then streaming after", lab.Boottime()-began)
}

// streams tells whether a member streams, as the cluster sees it.
func (x *run) streams(n *lab.Node) bool {
	var c lab.Cluster
	for _, other := range x.Nodes {
		if other == n {
			continue
		}
		if _, err := x.Get(x.ctx, other, "/cluster", &c); err == nil {
			break
		}
	}
	return slices.ContainsFunc(c.Members, func(m lab.Member) bool { return m.Name == n.Name && m.State == "streaming" })
}

// walGone takes from a former primary the segments a rewind would have to read: all
// before its last checkpoint, which lies behind the point where it diverged.
func walGone(x *run) {
	setting := func(value any) error {
		return x.Patch(x.ctx, map[string]any{"postgresql": map[string]any{"remove_data_directory_on_rewind_failure": value}})
	}
	x.must(setting(true))
	x.whenHealed(func() error { return setting(nil) })
	old := x.currentLeader()
	conn, err := x.ConnectLocal(x.ctx, old)
	x.must(err)
	// The last checkpoint that all have, in a segment that has ended; then one on the
	// way that nobody else goes.
	_, err = conn.Exec(x.ctx, "CHECKPOINT; SELECT pg_switch_wal()")
	x.must(err)
	x.acked(lab.Boottime())
	x.must(x.Isolate(old, lab.FromPeers))
	before := lab.Boottime()
	x.eventually("a write nobody gets", func() bool { return x.lastAck(old) > before })
	_, err = conn.Exec(x.ctx, "CHECKPOINT")
	x.must(err)
	var redo string
	err = conn.QueryRow(x.ctx, "SELECT redo_wal_file FROM pg_control_checkpoint()").Scan(&redo)
	_ = conn.Close(x.ctx)
	x.must(err)
	x.must(x.PowerOff(old))
	x.must(x.Heal(old, lab.FromPeers))
	x.newLeader(old)
	x.acked(lab.Boottime())
	segments, err := filepath.Glob(filepath.Join(old.DataDir, "pg_wal", "0000000*"))
	x.must(err)
	for _, path := range segments {
		if filepath.Ext(path) == "" && filepath.Base(path) < redo {
			x.must(os.Remove(path))
		}
	}
	began := lab.Boottime()
	x.must(x.PowerOn(old))
	x.must(x.settled(patience))
	x.millis("streaming after", lab.Boottime()-began)
}

func powerCut(x *run) {
	for _, n := range x.Nodes {
		x.must(x.PowerOff(n))
	}
	on := lab.Boottime()
	for _, n := range x.Nodes {
		x.must(x.PowerOn(n))
	}
	took := x.acked(on).Return - on
	x.millis("writes back after", took)
	if took > x.c.failover() {
		x.wrong("writes came back after %s, more than %s", took, x.c.failover())
	}
}
