//go:build e2e

package chaos

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

func laterRows() []row {
	sync := because("needs synchronous replication")
	return []row{
		{id: "35", title: "partition between claim and promotion, and between promotion and checkpoint", expect: "safe", needs: because("internal/sim crashes and cuts between any two actions; real processes cannot be stopped there")},
		{id: "36", title: "kill -9 of everything during pg_rewind and pg_basebackup, 6 times", expect: "rejoins by rewind or clone", run: killRejoin},
		{id: "37", title: "WAL for the rewind is gone", expect: "clone", run: walGone},
		{id: "38", title: "power cut of all nodes at once", expect: "back within the ttl and 3 s", run: powerCut, fast: true},
		{id: "39", title: "primary and its only synchronous standby die", expect: "no promotion", needs: sync},
		{id: "40", title: "synchronous standby dies, returns", expect: "N", needs: sync},
		{id: "41", title: "commits cancelled while they wait, then failover", expect: "ok never lost", needs: sync},
		{id: "42", title: "clock stepped by an hour", expect: "N", needs: because("the machine's clock belongs to others too; deadlines use CLOCK_BOOTTIME, which cannot be set")},
	}
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

// walGone takes from a former primary the segments a rewind would have to read.
func walGone(x *run) {
	old := x.diverge()
	segments, err := filepath.Glob(filepath.Join(old.DataDir, "pg_wal", "0000000*"))
	x.must(err)
	for _, path := range segments {
		if filepath.Ext(path) == "" {
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
