//go:build e2e

package chaos

import (
	"fmt"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

func networkRows() []row {
	return []row{
		{id: "27", title: "primary cut off from everything", expect: "F", run: cutOff(lab.FromAll), proc: true, app: true, fast: true},
		{id: "28", title: "primary cut off from etcd only", expect: "F", run: cutOff(lab.FromEtcd), proc: true, app: true, fast: true},
		{id: "29", title: "primary cut off from its replicas only", expect: "N", run: cutOffPeers},
		{id: "30", title: "PostgreSQL cannot start again", expect: "another node leads", run: crashLoop},
		{id: "31", title: "a replica cut off from etcd only", expect: "N", run: replicaCutOff, reg: true, quick: true},
		{id: "32", title: "one-way loss, primary to etcd", expect: "F", run: oneWay(lab.Outgoing)},
		{id: "32b", title: "one-way loss, etcd to primary", expect: "F", run: oneWay(lab.Incoming)},
		{id: "33", title: "the primary's link flaps 1 s off, 1 s on, 40 s", expect: "at most one change of the leader", run: flap, fast: true},
		{id: "34", title: "20 % of packets lost between the primary and etcd, each way, 30 s", expect: "N", run: lossy, needs: iptables, fast: true},
		{id: "34b", title: "200 ms delay between the primary and etcd, 30 s", expect: "N", run: slow, needs: iptables, fast: true},
	}
}

func cutOff(from lab.Cut) func(*run) {
	return func(x *run) {
		x.must(x.Isolate(x.leader, from))
		x.whenHealed(func() error { return x.Heal(x.leader, from) })
		x.failsOver(x.c.failover())
		x.lasts(20 * time.Second)
		x.deadInTime()
		alone := from == lab.FromAll && x.c.mode != "async" // then it may acknowledge nothing at all
		if !alone && x.lastAck(x.leader) < x.began {
			x.wrong("nothing was acknowledged on the node that was cut off: the row proves nothing")
		}
	}
}

func cutOffPeers(x *run) {
	x.must(x.Isolate(x.leader, lab.FromPeers))
	x.whenHealed(func() error { return x.Heal(x.leader, lab.FromPeers) })
	x.lasts(20 * time.Second)
	if x.c.mode == "async" { // otherwise commits wait, which the gap tells
		x.gapWithin(slack(time.Second))
	}
}

// crashLoop kills a primary that cannot be started again.
func crashLoop(x *run) {
	conn, err := x.ConnectLocal(x.ctx, x.leader)
	x.must(err)
	_, err = conn.Exec(x.ctx, "ALTER SYSTEM SET shared_preload_libraries = 'pgha_no_such_library'")
	_ = conn.Close(x.ctx)
	x.must(err)
	x.must(x.Patch(x.ctx, map[string]any{"primary_start_timeout": 10}))
	x.whenHealed(func() error { return x.Patch(x.ctx, map[string]any{"primary_start_timeout": nil}) })
	x.whenHealed(func() error { return x.forgetAlterSystem(x.leader) })
	x.fault()
	x.must(x.Kill(x.leader, lab.Postmaster))
	x.failsOver(10*time.Second + x.c.failover())
}

func replicaCutOff(x *run) {
	node := x.replicas()[0]
	x.must(x.Isolate(node, lab.FromEtcd))
	x.whenHealed(func() error { return x.Heal(node, lab.FromEtcd) })
	x.lasts(x.c.ttl + 6*time.Second)
	x.gapWithin(slack(time.Second))
}

func oneWay(d lab.Direction) func(*run) {
	return func(x *run) {
		x.must(x.IsolateOneWay(x.leader, lab.FromEtcd, d))
		x.whenHealed(func() error { return x.HealOneWay(x.leader, lab.FromEtcd, d) })
		x.failsOver(x.c.failover())
		x.lasts(20 * time.Second)
		x.deadInTime()
	}
}

func flap(x *run) {
	plugged := true
	x.whenHealed(func() error {
		if plugged {
			return nil
		}
		return x.Heal(x.leader, lab.FromAll)
	})
	for i := range 20 {
		x.must(x.Isolate(x.leader, lab.FromAll))
		plugged = false
		x.lasts(time.Duration(2*i+1) * time.Second)
		x.must(x.Heal(x.leader, lab.FromAll))
		plugged = true
		x.lasts(time.Duration(2*i+2) * time.Second)
	}
	x.must(x.settled(patience))
	x.figure("changes of the leader", float64(x.changes()), "")
	if n := x.changes(); n > 1 {
		x.wrong("%d changes of the leader", n)
	}
}

// changes counts the changes of the leader so far, as seen by who acknowledged.
func (x *run) changes() int {
	timelines := map[uint32]bool{}
	for _, op := range x.load.History() {
		if op.Outcome == lab.OK {
			timelines[op.Timeline] = true
		}
	}
	return len(timelines) - 1
}

func slow(x *run) {
	proxies, err := x.Delay(x.leader, 100*time.Millisecond) // each way
	x.must(err)
	x.whenHealed(proxies.End)
	x.lasts(30 * time.Second)
}

func lossy(x *run) {
	x.must(x.Lose(x.leader, 20))
	x.whenHealed(func() error { return x.KeepAll(x.leader) })
	x.lasts(30 * time.Second)
}

// forgetAlterSystem empties postgresql.auto.conf.
func (x *run) forgetAlterSystem(n *lab.Node) error {
	if err := x.WriteOwnFile(n.DataDir+"/postgresql.auto.conf", nil, 0o600); err != nil {
		return fmt.Errorf("undo ALTER SYSTEM: %w", err)
	}
	return nil
}
