//go:build e2e

package chaos

import (
	"context"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/pgha/pgha/internal/lab"
)

func etcdRows() []row {
	return []row{
		{id: "20", title: "etcd leader killed, twice; majority away for 2 s (1 s with ttl 5)", expect: "N", run: etcdLeaderKilled, reg: true, fast: true, quick: true},
		{id: "21", title: "etcd majority down 30 s, failsafe off", expect: "D, at most one new epoch", run: etcdDown, fast: true},
		{id: "22", title: "etcd majority down 30 s, failsafe on; then one replica cut off", expect: "N, then D", run: etcdDownFailsafe},
		{id: "23", title: "etcd leader SIGSTOP 10 s", expect: "N or F", run: etcdLeaderHangs, fast: true},
		{id: "24", title: "etcd compacted while a node's watch is cut", expect: "N", run: compaction},
		{id: "25", title: "all of etcd restored from an old backup", expect: "no loss, no overlap", run: oldEtcd},
		{id: "26", title: "etcd refuses all agents 20 s: authentication switched on, no credentials", expect: "D", run: etcdRefuses},
		{id: "26b", title: "certificates expired", expect: "D", needs: because("the rig's etcd runs without TLS; to an agent it is an etcd that refuses it, as in row 26")},
	}
}

func etcdLeaderKilled(x *run) {
	for range 2 {
		i, err := x.EtcdLeader(x.ctx)
		x.must(err)
		x.must(x.StopEtcdMember(i))
		since := lab.Boottime() - x.began
		x.lasts(since + x.c.ttl)
		x.must(x.StartEtcd(x.ctx))
	}
	away := 2 * time.Second
	if x.c.ttl < chaosProfile.ttl {
		away = time.Second // what docs/safety.md promises for short leases
	}
	x.must(x.StopEtcdMember(0))
	x.must(x.StopEtcdMember(1))
	gone := lab.Boottime()
	x.lasts(gone - x.began + away)
	x.must(x.StartEtcd(x.ctx))
	x.millis("majority away for", lab.Boottime()-gone)
	x.lasts(lab.Boottime() - x.began + x.c.ttl)
}

// stopMajority kills two of three members until the row is healed.
func (x *run) stopMajority() {
	x.fault()
	x.must(x.StopEtcdMember(0))
	x.must(x.StopEtcdMember(1))
	x.whenHealed(func() error { return x.StartEtcd(x.ctx) })
}

const outage = 30 * time.Second

func etcdDown(x *run) {
	x.stopMajority()
	x.lasts(max(outage, x.c.ttl+10*time.Second))
	x.noteDeadline()
	x.deadInTime()
	healed := lab.Boottime()
	x.heal()
	x.millis("writes back after etcd", x.acked(healed).Return-healed)
	x.must(x.settled(patience))
	if leader := x.currentLeader(); leader != x.leader {
		x.figure("other node leads", 1, "")
	}
}

func etcdDownFailsafe(x *run) {
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
	x.stopMajority()
	x.lasts(outage)
	x.gapWithin(slack(time.Second))
	if x.currentLeader() != x.leader {
		x.wrong("another node leads although every member answered the primary")
	}
	cut := lab.Boottime()
	x.must(x.Isolate(x.replicas()[0], lab.FromAll))
	x.whenHealed(func() error { return x.Heal(x.replicas()[0], lab.FromAll) })
	x.lasts(cut - x.began + x.c.ttl + 4*time.Second)
	last := x.lastAck(x.leader) - cut
	x.millis("last write after a replica was cut off", max(0, last))
	if last > x.c.last {
		x.wrong("the primary wrote for %s without an answer of every member, more than %s", last, x.c.last)
	}
}

func etcdLeaderHangs(x *run) {
	i, err := x.EtcdLeader(x.ctx)
	x.must(err)
	x.fault()
	x.must(x.SignalEtcd(i, syscall.SIGSTOP))
	x.whenHealed(func() error { return x.SignalEtcd(i, syscall.SIGCONT) })
	x.lasts(10 * time.Second)
	x.heal()
	x.lasts(10*time.Second + x.c.ttl)
}

// etcdRefuses switches authentication on in an etcd whose clients have no credentials.
func etcdRefuses(x *run) {
	const root, secret = "root", "pgha-chaos"
	client := x.etcd()
	_, err := client.UserAdd(x.ctx, root, secret)
	x.must(err)
	_, err = client.UserGrantRole(x.ctx, root, root)
	x.must(err)
	x.whenHealed(func() error {
		known, err := x.etcdAs(root, secret)
		if err != nil {
			return err
		}
		defer func() { _ = known.Close() }()
		if _, err := known.AuthDisable(x.ctx); err != nil {
			return err
		}
		_, err = known.UserDelete(x.ctx, root)
		return err
	})
	x.fault()
	_, err = client.AuthEnable(x.ctx)
	x.must(err)
	x.lasts(max(20*time.Second, x.c.ttl+4*time.Second))
	x.noteDeadline()
	x.deadInTime()
	if log, _ := x.AgentLog(x.leader, 0); x.c.peer == ours && !strings.Contains(log, "user name is empty") {
		x.wrong("the agent's log does not say what etcd answers")
	}
	healed := lab.Boottime()
	x.heal()
	x.millis("writes back after etcd", x.acked(healed).Return-healed)
}

// etcd gives a client of etcd for the row.
func (x *run) etcd() *clientv3.Client {
	client, err := x.etcdAs("", "")
	x.must(err)
	x.whenHealed(client.Close)
	return client
}

func (x *run) etcdAs(user, password string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Context:     x.ctx,
		Endpoints:   x.Endpoints(),
		Username:    user,
		Password:    password,
		DialTimeout: 5 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return x.Dial(ctx, addr) })},
	})
}

// prefix is where the cluster's keys are.
func (x *run) prefix() string { return "/opt/pgsql/patroni/" + x.Options().Scope + "/" }

func compaction(x *run) {
	node := x.replicas()[0]
	client := x.etcd()
	x.must(x.Isolate(node, lab.FromEtcd))
	x.whenHealed(func() error { return x.Heal(node, lab.FromEtcd) })
	x.lasts(x.c.loopWait + x.c.retryTimeout)
	status, err := client.Get(x.ctx, x.prefix()+"leader")
	x.must(err)
	_, err = client.Compact(x.ctx, status.Header.Revision)
	x.must(err)
	x.heal()
	// It must see again what changes, at once.
	x.must(x.settled(patience))
	changed := lab.Boottime()
	x.must(x.Patch(x.ctx, map[string]any{"maximum_lag_on_failover": x.Options().MaximumLag + 1}))
	x.eventually("the change at "+node.Name, func() bool {
		var c struct {
			Lag int64 `json:"maximum_lag_on_failover"`
		}
		_, err := x.Get(x.ctx, node, "/config", &c)
		return err == nil && c.Lag == x.Options().MaximumLag+1
	})
	x.millis("change seen after", lab.Boottime()-changed)
	x.must(x.Patch(x.ctx, map[string]any{"maximum_lag_on_failover": x.Options().MaximumLag}))
}

// oldEtcd puts etcd back to before a change of the leader: the backup names the
// former one, on a timeline that has ended.
func oldEtcd(x *run) {
	x.must(x.SaveEtcd(x.ctx))
	x.eventually("a switchover", func() bool { // on a slow machine that was an outage
		x.must(x.settled(patience))
		x.leader = x.currentLeader()
		x.acked(lab.Boottime())
		return x.Switchover(x.ctx, x.leader, x.successor(x.leader)) == nil
	})
	x.newLeader(x.leader)
	x.must(x.settled(patience))
	x.acked(lab.Boottime())
	x.fault()
	x.must(x.RestoreEtcd(x.ctx))
	restored := lab.Boottime()
	x.lasts(restored - x.began + 2*x.c.ttl)
	if over := restored + x.c.ttl; x.c.peer == ours && lab.Acked(x.load.Since(over), over, lab.Boottime()) == 0 {
		// The restore, or an old leader's key in it, took longer than the deadline: no
		// primary runs that could publish itself again, so an operator says what is right.
		_, err := x.Ctl(x.ctx, x.leader, "accept-dcs", x.Options().Scope, "--force")
		x.must(err)
		x.figure("operator's word needed", 1, "")
	}
	back := x.acked(restored + 2*x.c.ttl)
	x.millis("writing again after", back.Return-x.began)
}
