//go:build e2e

package chaos

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/internal/lab"
)

func operatorRows() []row {
	return []row{
		{id: "43", title: "switchover, 10 times", expect: "each within 2 s", run: switchovers, reg: true, app: true},
		{id: "43b", title: "switchover to a node that is dead", expect: "N", run: switchoverToDead},
		{id: "44", title: "switchover, the old primary killed half way", expect: "one primary", run: switchoverKillOld},
		{id: "44b", title: "switchover, the new primary killed half way", expect: "one primary", run: switchoverKillNew},
		{id: "45", title: "pause, kill -9 of the primary's host, resume", expect: "no promotion in pause", run: pauseKill},
		{id: "46", title: "operator starts the fenced old primary by hand", expect: "comes up read-only", run: handStart, oursOnly: true},
		{id: "47", title: "operator deletes /leader", expect: "same node goes on", run: deleteLeader, quick: true},
		{id: "47b", title: "operator deletes every key of the cluster", expect: "same node goes on", run: deletePrefix},
		{id: "48", title: "ttl and loop_wait changed live, to good and bad values", expect: "N", run: changeTimings},
		{id: "49", title: "agents re-executed and killed, 20 times, on all nodes", expect: "N", run: upgrades, oursOnly: true},
		{id: "51", title: "REST flood, 20 s", expect: "N", run: flood, reg: true, quick: true},
	}
}

const switchoverLimit = 2 * time.Second

func switchovers(x *run) {
	leader := x.leader
	var gaps []time.Duration
	for range 10 {
		next := x.successor(leader)
		began := lab.Boottime()
		x.must(x.Switchover(x.ctx, leader, next))
		if now := x.newLeader(leader); now != next {
			x.wrong("a switchover to %s made %s the leader", next.Name, now.Name)
			next = now
		}
		x.acked(lab.Boottime())
		gap, _ := lab.LongestGap(x.load.History(), began, lab.Boottime())
		if gaps = append(gaps, gap); gap > slack(switchoverLimit) {
			x.wrong("a switchover cost %s, more than %s", gap, switchoverLimit)
		}
		x.must(x.settled(patience))
		leader = next
	}
	x.spread("gap", gaps)
}

// spread notes how a number of times are distributed.
func (x *run) spread(name string, times []time.Duration) {
	slices.Sort(times)
	at := func(share float64) time.Duration { return times[min(len(times)-1, int(share*float64(len(times))))] }
	x.millis(name+" p50", at(0.5))
	x.millis(name+" p95", at(0.95))
	x.millis(name+" max", times[len(times)-1])
}

func switchoverToDead(x *run) {
	dead := x.replicas()[0]
	x.must(x.PowerOff(dead))
	x.whenHealed(func() error { return x.PowerOn(dead) })
	ctx, cancel := context.WithTimeout(x.ctx, x.c.failover())
	defer cancel()
	if err := x.Switchover(ctx, x.leader, dead); err == nil {
		x.wrong("a switchover to a dead node is said to have been done")
	}
}

func switchoverKillOld(x *run) {
	x.halfWay(x.successor(x.leader), x.leader)
}

func switchoverKillNew(x *run) {
	candidate := x.successor(x.leader)
	x.halfWay(candidate, candidate)
}

// halfWay begins a switchover and cuts the power of one of the two as soon as the old
// primary does not answer /primary any more.
func (x *run) halfWay(candidate, victim *lab.Node) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(x.ctx, x.c.failover())
		defer cancel()
		_ = x.Switchover(ctx, x.leader, candidate) // it may end either way
	})
	x.eventually("the old primary steps down", func() bool {
		code, err := x.Get(x.ctx, x.leader, "/primary", nil)
		return err == nil && code != http.StatusOK
	})
	x.must(x.PowerOff(victim))
	x.whenHealed(func() error { return x.PowerOn(victim) })
	op := x.acked(lab.Boottime())
	x.millis("writes back after", op.Return-x.began)
	if limit := 2 * x.c.failover(); op.Return-x.began > limit {
		x.wrong("no writes for %s, more than %s", op.Return-x.began, limit)
	}
}

func pauseKill(x *run) {
	x.must(x.Patch(x.ctx, map[string]any{"pause": true}))
	resumed := false
	resume := func() error {
		if resumed {
			return nil
		}
		resumed = true
		return x.Patch(x.ctx, map[string]any{"pause": nil})
	}
	x.whenHealed(resume)
	for _, n := range x.Nodes {
		x.eventually("pause at "+n.Name, func() bool {
			var c struct {
				Pause bool `json:"pause"`
			}
			_, err := x.Get(x.ctx, n, "/patroni", &c)
			return err == nil && c.Pause
		})
	}
	x.fault()
	x.must(x.PowerOff(x.leader))
	x.whenHealed(func() error { return x.PowerOn(x.leader) })
	x.lasts(2*x.c.ttl + x.c.loopWait)
	if x.firstAckElsewhere(x.leader) > 0 || len(x.Leaders(x.ctx)) > 0 {
		x.wrong("a node was promoted in pause")
	}
	began := lab.Boottime()
	x.must(resume())
	x.newLeader(x.leader)
	x.millis("leader after resume", x.acked(began).Return-began)
}

// handStart starts the server of a fenced primary whose agent is dead, as somebody
// might who does not know better.
func handStart(x *run) {
	x.restarts()
	x.must(x.Kill(x.leader, lab.Agent))
	x.failsOver(x.c.failover())
	x.eventually("the leash lets go", func() bool { _, err := x.Pid(x.leader, lab.Postmaster); return err != nil })
	_, err := x.AsServer(x.ctx, x.leader, filepath.Join(x.Options().PGBin, "pg_ctl"),
		"start", "-w", "-t", "15", "-D", x.leader.DataDir, "-l", filepath.Join(x.leader.Dir, "by-hand.log"))
	x.must(err)
	x.whenHealed(func() error {
		_, err := x.AsServer(x.ctx, x.leader, filepath.Join(x.Options().PGBin, "pg_ctl"), "stop", "-m", "fast", "-w", "-D", x.leader.DataDir)
		return err
	})
	conn, err := x.ConnectLocal(x.ctx, x.leader)
	x.must(err)
	var recovery bool
	err = conn.QueryRow(x.ctx, "SELECT pg_is_in_recovery()").Scan(&recovery)
	_ = conn.Close(x.ctx)
	x.must(err)
	if !recovery {
		x.wrong("it came up writable")
	}
	x.lasts(lab.Boottime() - x.began + 3*time.Second)
}

// goesOn checks that the same node leads, that it is the same server, and that
// clients hardly noticed.
func (x *run) goesOn(server int) {
	x.lasts(x.c.ttl + 5*time.Second)
	if leader := x.currentLeader(); leader != x.leader {
		x.wrong("%s leads instead of %s", leader.Name, x.leader.Name)
	}
	if now, err := x.Pid(x.leader, lab.Postmaster); err != nil || now != server {
		x.wrong("the server was restarted: postmaster %d, now %d (%v)", server, now, err)
	}
	x.gapWithin(slack(time.Second))
}

func deleteLeader(x *run) {
	server, err := x.Pid(x.leader, lab.Postmaster)
	x.must(err)
	client := x.etcd()
	x.fault()
	_, err = client.Delete(x.ctx, x.prefix()+"leader")
	x.must(err)
	x.goesOn(server)
}

func deletePrefix(x *run) {
	server, err := x.Pid(x.leader, lab.Postmaster)
	x.must(err)
	client := x.etcd()
	x.fault()
	_, err = client.Delete(x.ctx, x.prefix(), clientv3.WithPrefix())
	x.must(err)
	x.goesOn(server)
	// What the members wrote again lacks the settings nobody remembers but us.
	var text string
	code, err := x.Get(x.ctx, x.leader, "/config", &text)
	x.must(err)
	if code != http.StatusOK {
		x.wrong("GET /config answers %d afterwards", code)
	}
}

func changeTimings(x *run) {
	before := map[string]any{"ttl": int(x.c.ttl / time.Second), "loop_wait": int(x.c.loopWait / time.Second), "retry_timeout": int(x.c.retryTimeout / time.Second)}
	x.whenHealed(func() error { return x.Patch(x.ctx, before) })
	// Refused, or taken and raised or lowered to what is possible, as Patroni does.
	refused := 0
	for _, bad := range []map[string]any{
		{"ttl": 1}, {"ttl": "soon"}, {"loop_wait": 0}, {"loop_wait": 600}, {"retry_timeout": -1},
	} {
		if err := x.Patch(x.ctx, bad); err != nil {
			refused++
		}
		x.must(x.Patch(x.ctx, before))
		x.lasts(lab.Boottime() - x.began + time.Second)
	}
	x.figure("bad values refused", float64(refused), "of 5")
	if x.c.peer == ours && refused < 2 {
		x.wrong("a ttl that is impossible was taken")
	}
	for _, good := range []map[string]any{
		{"ttl": 30, "loop_wait": 2, "retry_timeout": 3}, {"ttl": 20, "loop_wait": 1}, before,
	} {
		x.must(x.Patch(x.ctx, good))
		x.lasts(lab.Boottime() - x.began + 4*time.Second)
	}
	x.lasts(lab.Boottime() - x.began + x.c.ttl)
	x.gapWithin(slack(time.Second))
}

const upgradeRounds = 20

func upgrades(x *run) {
	for _, n := range x.Nodes {
		x.must(x.Supervise(n, true))
		x.whenHealed(func() error { return x.Supervise(n, false) })
	}
	servers := map[*lab.Node]int{}
	for _, n := range x.Nodes {
		pid, err := x.Pid(n, lab.Postmaster)
		x.must(err)
		servers[n] = pid
	}
	for i := range upgradeRounds {
		n := x.Nodes[i%len(x.Nodes)]
		if i%2 == 0 {
			x.must(x.Signal(n, lab.Agent, syscall.SIGUSR2))
		} else {
			x.must(x.Kill(n, lab.Agent))
		}
		x.eventually("the agent of "+n.Name+" answers", func() bool {
			code, err := x.Get(x.ctx, n, "/health", nil)
			return err == nil && code == http.StatusOK
		})
		x.lasts(lab.Boottime() - x.began + time.Second)
	}
	x.lasts(lab.Boottime() - x.began + x.c.ttl)
	for n, pid := range servers {
		if now, err := x.Pid(n, lab.Postmaster); err != nil || now != pid {
			x.wrong("the server of %s was touched: postmaster %d, now %d (%v)", n.Name, pid, now, err)
		}
	}
	x.gapWithin(slack(time.Second))
}

// flood asks the leader for everything from many connections, and leaves a hundred
// half-sent requests lying about.
func flood(x *run) {
	ctx, cancel := context.WithTimeout(x.ctx, 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 100 {
		conn, err := x.Dial(ctx, x.leader.REST)
		x.must(err)
		wg.Go(func() {
			defer func() { _ = conn.Close() }()
			_, _ = fmt.Fprintf(conn, "POST /config HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", 1<<30*(i%2))
			<-ctx.Done()
		})
	}
	for i := range 16 {
		path := []string{"/primary", "/cluster", "/metrics", "/patroni"}[i%4]
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = x.Get(ctx, x.leader, path, nil)
			}
		})
	}
	wg.Wait()
	x.gapWithin(slack(time.Second))
}
