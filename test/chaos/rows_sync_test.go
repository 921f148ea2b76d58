//go:build e2e

package chaos

import (
	"fmt"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

func syncRows() []row {
	return []row{
		{id: "39", title: "primary and one synchronous standby die at once", expect: "no promotion before one is back", run: killPair, sync: true},
		{id: "40", title: "synchronous standby dies, returns; then two are demanded, then one", expect: "N", run: standbyDies, sync: true},
		{id: "41", title: "waiting commits cancelled, ended and left, then the primary dies", expect: "F, told OK is there", run: cancelWaits, sync: true},
	}
}

// killPair leaves a node alone that cannot know whether it has everything.
func killPair(x *run) {
	standby := x.standbys()[0]
	x.fault()
	for _, n := range []*lab.Node{x.leader, standby} {
		x.must(x.PowerOff(n))
	}
	x.lasts(2*x.c.ttl + x.c.loopWait)
	if x.firstAckElsewhere(x.leader) > 0 || len(x.Leaders(x.ctx)) > 0 {
		x.wrong("a node was promoted that cannot know whether it has everything")
	}
	back := lab.Boottime()
	x.must(x.PowerOn(standby))
	x.whenHealed(func() error { return x.PowerOn(x.leader) })
	x.newLeader(x.leader)
	x.millis("writes back after the standby", x.acked(back).Return-back)
}

func standbyDies(x *run) {
	standby := x.standbys()[0]
	x.fault()
	x.must(x.PowerOff(standby))
	x.lasts(x.c.ttl)
	// Until the primary has noticed, and somebody else is named.
	x.gapWithin(slack(x.c.loopWait + x.c.retryTimeout))
	x.must(x.PowerOn(standby))
	x.must(x.settled(patience))
	x.whenHealed(func() error { return x.Patch(x.ctx, map[string]any{"synchronous_node_count": nil}) })
	x.must(x.Patch(x.ctx, map[string]any{"synchronous_node_count": 2}))
	x.eventually("two synchronous standbys", func() bool { return len(x.standbys()) == 2 })
	x.acked(lab.Boottime())
	x.must(x.Patch(x.ctx, map[string]any{"synchronous_node_count": 1}))
	want := 1
	if x.c.mode == "quorum" {
		want = 2 // each may be the one
	}
	x.eventually(fmt.Sprintf("%d of them", want), func() bool { return len(x.standbys()) == want })
	x.gapWithin(slack(x.c.loopWait + x.c.retryTimeout))
}

// cancelWaits cuts the primary off from its standbys, so that commits wait, disturbs
// them in every way a client or an operator can, and lets the primary die.
func cancelWaits(x *run) {
	conn, err := x.ConnectLocal(x.ctx, x.leader)
	x.must(err)
	_, err = conn.Exec(x.ctx, "CREATE TABLE pgha_lab.waits (id bigint PRIMARY KEY)")
	_ = conn.Close(x.ctx)
	x.must(err)
	waits := newWaitingCommits(x.ctx, x.Lab, x.leader)
	defer waits.stop()
	x.acked(lab.Boottime() + time.Second) // some that need not wait
	x.fault()
	x.must(x.Isolate(x.leader, lab.FromPeers))
	x.lasts(5 * time.Second)
	x.must(x.PowerOff(x.leader))
	x.must(x.Heal(x.leader, lab.FromPeers))
	x.whenHealed(func() error { return x.PowerOn(x.leader) })
	next := x.failsOver(5*time.Second + x.c.failover())
	waits.judge(x, next)
}
