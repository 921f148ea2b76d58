//go:build e2e

package chaos

import (
	"encoding/json"
	"net/http"
	"strconv"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/internal/lab"
)

// moreRows are the cases that are easy to miss.
func moreRows() []row {
	return []row{
		{id: "52", title: "kill -9 postmaster with primary_start_timeout 0, 16 times", expect: "failover within 1 s, each", run: failoverTail},
		{id: "53", title: "the holder's lease revoked in etcd", expect: "same node goes on", run: revokeLease},
		{id: "54", title: "agent hangs until just before its deadline", expect: "N", run: lastSecond},
		{id: "55", title: "ttl changed while failsafe mode is active", expect: "refused, N", run: ttlInFailsafe},
		{id: "56", title: "garbage in every key of the cluster but /leader", expect: "N", run: garbage},
	}
}

const tailRounds = 16

// failoverTail measures many failovers that wait for no lease: what is left is ours
// and PostgreSQL's.
func failoverTail(x *run) {
	x.must(x.Patch(x.ctx, map[string]any{"primary_start_timeout": 0}))
	x.whenHealed(func() error { return x.Patch(x.ctx, map[string]any{"primary_start_timeout": nil}) })
	for _, n := range x.Nodes {
		x.eventually("the setting at "+n.Name, func() bool {
			var c struct {
				Timeout json.Number `json:"primary_start_timeout"`
			}
			_, err := x.Get(x.ctx, n, "/config", &c)
			return err == nil && c.Timeout == "0"
		})
	}
	x.fault()
	var gaps []time.Duration
	leader := x.leader
	for range tailRounds {
		began := lab.Boottime()
		x.must(x.Kill(leader, lab.Postmaster))
		next := x.newLeader(leader)
		x.acked(lab.Boottime())
		gap, _ := lab.LongestGap(x.load.History(), began, lab.Boottime())
		gaps = append(gaps, gap)
		if gap > slack(time.Second) {
			x.wrong("failover from %s to %s took %s", leader.Name, next.Name, gap.Round(time.Millisecond))
		}
		x.must(x.settled(patience))
		leader = x.currentLeader()
	}
	x.spread("gap", gaps)
}

func revokeLease(x *run) {
	server, err := x.Pid(x.leader, lab.Postmaster)
	x.must(err)
	client := x.etcd()
	got, err := client.Get(x.ctx, x.prefix()+"leader")
	x.must(err)
	x.fault()
	for _, kv := range got.Kvs {
		_, err := client.Revoke(x.ctx, clientv3.LeaseID(kv.Lease))
		x.must(err)
	}
	x.goesOn(server)
}

// lastSecond stops the agent for as long as a primary can be left alone, and half a
// second less: it must be in time.
func lastSecond(x *run) {
	for range 3 {
		x.must(x.Signal(x.leader, lab.Agent, syscall.SIGSTOP))
		// The renewal before may be a period old.
		hung := x.c.orderly - x.c.loopWait - 500*time.Millisecond
		x.lasts(lab.Boottime() - x.began + hung)
		x.must(x.Signal(x.leader, lab.Agent, syscall.SIGCONT))
		x.lasts(lab.Boottime() - x.began + x.c.ttl)
	}
	x.gapWithin(slack(time.Second))
}

func ttlInFailsafe(x *run) {
	x.must(x.Patch(x.ctx, map[string]any{"failsafe_mode": true}))
	x.whenHealed(func() error {
		x.eventually("failsafe_mode off", func() bool { return x.Patch(x.ctx, map[string]any{"failsafe_mode": nil}) == nil })
		return nil
	})
	x.eventually("every member in /failsafe", func() bool {
		var members map[string]string
		code, err := x.Get(x.ctx, x.leader, "/failsafe", &members)
		return err == nil && code == http.StatusOK && len(members) == len(x.Nodes)
	})
	before := map[string]any{"ttl": int(x.c.ttl / time.Second)}
	x.whenHealed(func() error {
		x.eventually("the usual ttl", func() bool { return x.Patch(x.ctx, before) == nil })
		return nil
	})
	x.stopMajority()
	x.lasts(x.c.ttl + 2*time.Second)
	if err := x.Patch(x.ctx, map[string]any{"ttl": 2 * before["ttl"].(int)}); err == nil {
		x.wrong("a new ttl was taken without etcd")
	}
	x.lasts(2*x.c.ttl + 2*time.Second)
	// And again when etcd is just back, before anything else is written.
	x.must(x.StartEtcd(x.ctx))
	x.eventually("the new ttl", func() bool { return x.Patch(x.ctx, map[string]any{"ttl": 2 * before["ttl"].(int)}) == nil })
	x.lasts(lab.Boottime() - x.began + 2*x.c.ttl)
	x.gapWithin(slack(time.Second))
}

func garbage(x *run) {
	client := x.etcd()
	got, err := client.Get(x.ctx, x.prefix(), clientv3.WithPrefix())
	x.must(err)
	x.whenHealed(func() error {
		for _, kv := range got.Kvs {
			// What a living member wrote anew meanwhile stays.
			unchanged := clientv3.Compare(clientv3.Value(string(kv.Key)), "=", rubbish)
			if _, err := client.Txn(x.ctx).If(unchanged).Then(clientv3.OpPut(string(kv.Key), string(kv.Value))).Commit(); err != nil {
				return err
			}
		}
		return nil
	})
	x.fault()
	spoilt := 0
	for _, kv := range got.Kvs {
		if string(kv.Key) == x.prefix()+"leader" {
			continue
		}
		_, err := client.Put(x.ctx, string(kv.Key), rubbish)
		x.must(err)
		spoilt++
	}
	x.lasts(x.c.ttl + 5*time.Second)
	x.figure("keys", float64(spoilt), "")
	x.gapWithin(slack(time.Second))
}

// rubbish is JSON that begins well.
var rubbish = `{"ttl": [` + strconv.Quote("\x00") + `, 1e999`
