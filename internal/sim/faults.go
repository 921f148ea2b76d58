package sim

import (
	"encoding/json"
	"math/rand/v2"

	"github.com/pgha/pgha/pkg/ha"
)

// kind is one sort of fault: how it is done to a node, and for how long.
type kind struct {
	name  string
	rare  bool // in one schedule of ten, not in three
	least int64
	most  func(t int64) int64 // by the ttl
	do    func(w *world, n *node, r *rand.Rand, d int64)
}

func times(x int64) func(int64) int64 { return func(t int64) int64 { return x * t } }

// once is for what has no duration.
func once(int64) int64 { return 0 }

// kinds is the swarm. The place in the list is the number of the kind's stream:
// new ones go to the end.
var kinds = []kind{
	{name: "agent crash", least: 100 * ms, most: times(2), do: func(w *world, n *node, _ *rand.Rand, d int64) {
		n.killAgent()
		w.after(d, n.startAgent)
	}},
	{name: "trap", least: 100 * ms, most: times(1), do: func(_ *world, n *node, r *rand.Rand, d int64) {
		phases := []ha.OpKind{ha.OpClone, ha.OpRewind, ha.OpPromote, ha.OpStop, ha.OpStartPrimary, ha.OpStartStandby, ha.OpCheckDivergence, ha.OpRestore, ha.OpRestore}
		n.trap = trap{phase: phases[r.IntN(len(phases))], after: between(r, 0, 400*ms), down: d, what: r.IntN(4)}
	}},
	{name: "agent hang", least: 100 * ms, most: times(2), do: func(w *world, n *node, _ *rand.Rand, d int64) { n.hung = w.now + d }},
	{name: "agent stop", most: once, do: func(_ *world, n *node, _ *rand.Rand, _ int64) {
		if n.loop != nil {
			n.loop.Stop()
			n.wake()
		}
	}},
	{name: "server crash", most: once, do: func(_ *world, n *node, _ *rand.Rand, _ int64) { n.server.crash("killed") }},
	{name: "server slow", least: sec, most: times(1), do: func(w *world, n *node, _ *rand.Rand, d int64) { n.slowFacts = w.now + d }},
	{name: "power", least: sec, most: times(2), do: func(_ *world, n *node, r *rand.Rand, d int64) { n.powerOff(r, d) }},
	{name: "cut etcd", least: 100 * ms, most: times(2), do: func(w *world, n *node, _ *rand.Rand, d int64) {
		w.cutEtcd(n, true)
		w.after(d, func() { w.cutEtcd(n, false) })
	}},
	{name: "cut peers", least: 100 * ms, most: times(2), do: func(w *world, n *node, _ *rand.Rand, d int64) {
		n.cutPeers = true
		w.after(d, func() { n.cutPeers = false })
	}},
	{name: "cut streams", least: 100 * ms, most: times(2), do: func(w *world, n *node, _ *rand.Rand, d int64) {
		n.cutStreams = true
		w.after(d, func() { n.cutStreams = false })
	}},
	{name: "cut all", least: 100 * ms, most: times(2), do: func(w *world, n *node, _ *rand.Rand, d int64) {
		n.cutPeers, n.cutStreams = true, true
		w.cutEtcd(n, true)
		w.after(d, func() {
			n.cutPeers, n.cutStreams = false, false
			w.cutEtcd(n, false)
		})
	}},
	{name: "etcd down", least: 100 * ms, most: times(2), do: func(w *world, _ *node, _ *rand.Rand, d int64) {
		w.etcdDown(true)
		w.after(d, func() { w.etcdDown(false) })
	}},
	{name: "etcd loses", least: sec, most: times(1), do: func(w *world, n *node, r *rand.Rand, d int64) {
		w.lossy[n] = lossy{request: r.Float64() / 2, answer: r.Float64() / 2}
		w.after(d, func() { w.unlossy(n) })
	}},
	{name: "etcd leader", most: once, do: func(w *world, _ *node, _ *rand.Rand, _ int64) { w.srv.ChangeLeader(0) }},
	{name: "early revoke", most: once, do: func(w *world, _ *node, _ *rand.Rand, _ int64) {
		if kv, ok := w.srv.Get(base + "/leader"); ok {
			w.srv.Revoke(kv.LeaseID)
			w.pump()
		}
	}},
	{name: "false keepalive", least: sec, most: times(1), do: func(w *world, _ *node, _ *rand.Rand, d int64) {
		w.srv.SetFalseKeepAlive(true)
		w.after(d, func() { w.srv.SetFalseKeepAlive(false) })
	}},
	{name: "stale reads", least: 100 * ms, most: times(1), do: func(w *world, _ *node, _ *rand.Rand, d int64) {
		w.srv.FreezeReads()
		w.after(d, w.srv.ThawReads)
	}},
	{name: "slow watch", least: sec, most: times(2), do: func(w *world, n *node, r *rand.Rand, d int64) {
		w.slow[n] = between(r, 100*ms, int64(w.plan.Config.TTL)*sec)
		w.after(d, func() { delete(w.slow, n) })
	}},
	{name: "switchover", most: once, do: func(w *world, n *node, r *rand.Rand, _ int64) {
		w.request(w.leaderName(), []string{"", n.name}[r.IntN(2)], now)
	}},
	{name: "scheduled switchover", most: once, do: func(w *world, n *node, r *rand.Rand, _ int64) { w.schedule(n, r) }},
	{name: "failover", most: once, do: func(w *world, n *node, _ *rand.Rand, _ int64) { w.request("", n.name, now) }},
	{name: "restore", most: once, do: func(w *world, _ *node, r *rand.Rand, _ int64) { w.orderRestore(r) }},
	{name: "reinit", most: once, do: func(_ *world, n *node, r *rand.Rand, _ int64) { n.ask(r) }},
	{name: "config", most: once, do: func(w *world, _ *node, r *rand.Rand, _ int64) { w.retime(r) }},
	{name: "leader deleted", most: once, do: func(w *world, _ *node, _ *rand.Rand, _ int64) {
		w.srv.Delete(base + "/leader")
		w.pump()
	}},
	{name: "postmaster killed", least: 100 * ms, most: func(int64) int64 { return 4 * sec }, do: func(_ *world, n *node, _ *rand.Rand, d int64) { n.server.beheaded(d) }},
	{name: "leash killed", least: 100 * ms, most: func(int64) int64 { return 2 * sec }, do: func(_ *world, n *node, _ *rand.Rand, d int64) { n.leash.die(d) }},
	{name: "leash slow", least: sec, most: times(2), do: func(w *world, n *node, _ *rand.Rand, d int64) { n.leash.slow = w.now + d }},
	{name: "leash hangs", least: 100 * ms, most: times(2), do: func(w *world, n *node, _ *rand.Rand, d int64) {
		if w.plan.Watchdog { // without one, a leash and an agent that both hang are not covered (safety B.7)
			n.leash.hang(d)
		}
	}},
	{name: "pause", least: sec, most: times(2), do: func(w *world, _ *node, _ *rand.Rand, d int64) {
		w.pause(true)
		w.after(d, func() { w.pause(false) })
	}},
	{name: "by hand", least: 100 * ms, most: times(1), do: func(w *world, n *node, r *rand.Rand, d int64) { n.byHand(r, d) }},
	{name: "late restart", most: once, do: func(w *world, n *node, r *rand.Rand, _ int64) { n.restartLate(between(r, 0, sec)) }},
	{name: "ttl in failsafe", least: sec, most: times(2), do: func(w *world, n *node, r *rand.Rand, d int64) {
		w.cutEtcd(n, true) // the others see the change, the leader that lives by them does not
		w.after(d/2, func() { w.retime(r) })
		w.after(d, func() { w.cutEtcd(n, false) })
	}},
	{name: "failsafe ends", least: sec, most: times(2), do: func(w *world, n *node, r *rand.Rand, d int64) {
		w.etcdDown(true)
		w.after(between(r, 0, d), func() {
			n.cutPeers = true
			w.after(between(r, 0, d), func() { n.cutPeers = false })
		})
		w.after(d, func() { w.etcdDown(false) })
	}},
	{name: "point", least: 100 * ms, most: times(2), do: func(_ *world, n *node, r *rand.Rand, d int64) {
		n.bug = bug{at: point(r.IntN(2 * int(effects))), crash: r.IntN(3) > 0, down: d}
	}},
	{name: "etcd delays", least: sec, most: times(2), do: func(w *world, n *node, r *rand.Rand, d int64) {
		w.lossy[n] = lossy{request: r.Float64(), late: 2 * int64(w.plan.Config.TTL) * sec}
		w.after(d, func() { w.unlossy(n) })
	}},
	{name: "sync mode", most: once, do: func(w *world, _ *node, r *rand.Rand, _ int64) { w.resync(r) }},
	{name: "sync dies", least: sec, most: times(2), do: func(w *world, n *node, r *rand.Rand, d int64) { w.bothDie(n, r, d) }},
	{name: "postmaster hangs", least: sec, most: times(2), do: func(_ *world, n *node, _ *rand.Rand, d int64) { n.deafens(d) }},
	{name: "disk hangs", least: sec, most: times(3), do: func(_ *world, n *node, _ *rand.Rand, d int64) { n.ail(&n.disk, ha.FaultHang, d) }},
	{name: "disk full", least: sec, most: times(3), do: func(_ *world, n *node, _ *rand.Rand, d int64) { n.ail(&n.disk, ha.FaultFull, d) }},
	{name: "restart", most: once, do: func(_ *world, n *node, r *rand.Rand, _ int64) { n.askRestart(r) }},
	{name: "cut link", least: 100 * ms, most: times(2), do: func(w *world, n *node, r *rand.Rand, d int64) { w.cutLink(n, w.nodes[r.IntN(len(w.nodes))], r, d) }},
	{name: "etcd restored", rare: true, least: 100 * ms, most: times(1), do: func(w *world, _ *node, r *rand.Rand, d int64) { w.restoreEtcd(r, d) }},
}

// do strikes with one fault of the schedule.
func (w *world) do(f Fault) {
	var n *node
	switch {
	case f.Node == leads:
		n = w.node(w.leaderName())
	case f.Node < len(w.nodes):
		n = w.nodes[f.Node]
	}
	if n == nil || w.now >= w.plan.Heal {
		return
	}
	for _, k := range kinds {
		if k.name != f.Kind {
			continue
		}
		w.trace(n, "FAULT: %s for %s", f.Kind, clock(f.For))
		w.res.Faults[f.Kind]++
		w.res.Phases[phase{f.Kind, n.phase()}]++
		k.do(w, n, stream(f.Arg, 0), min(f.For, w.plan.Heal-w.now))
	}
}

// phase is what the node is doing.
func (n *node) phase() string {
	switch {
	case n.off:
		return "off"
	case n.loop == nil:
		return "no agent"
	case n.op.Running:
		return n.op.Kind.String()
	case n.view != nil:
		return n.view.Role + " " + n.view.State
	}
	return "begins"
}

func (w *world) leaderName() string {
	kv, ok := w.srv.Get(base + "/leader")
	if !ok {
		return w.nodes[0].name
	}
	return string(kv.Value)
}

// The channels of a link that can be cut.
const (
	questions = iota // of agents
	walStream
)

// cutLink cuts one direction of one link: what a asks b, the WAL that a gets from
// b, or both.
func (w *world) cutLink(a, b *node, r *rand.Rand, d int64) {
	what := r.IntN(3)
	for c := range a.cutFrom {
		if what == c || what == len(a.cutFrom) {
			a.cutFrom[c][b.index] = true
			w.after(d, func() { a.cutFrom[c][b.index] = false })
		}
	}
}

// healAll ends every fault.
func (w *world) healAll() {
	w.trace(nil, "FAULTS HEAL")
	w.ghost.healed = w.now
	w.etcdDown(false)
	w.srv.SetFalseKeepAlive(false)
	w.srv.ThawReads()
	clear(w.lossy)
	clear(w.slow)
	w.plan.BadStart, w.plan.SlowStop = 0, 0
	if w.conf.Pause {
		w.pause(false)
	}
	w.after(w.plan.tail()/4, w.accept)
	w.after(w.plan.tail()/3, w.rescue)
	for _, n := range w.nodes {
		n.trap, n.bug, n.cutFrom = trap{}, bug{}, [2][8]bool{}
		n.cure(&n.disk)
		n.cure(&n.deaf)
		w.cutEtcd(n, false)
		n.cutPeers, n.cutStreams, n.slowFacts, n.server.orphans, n.leash.slow = false, false, 0, 0, 0
		if l := &n.leash; l.hung > w.now {
			l.hung = w.now
			l.set()
		}
		if n.hung > w.now {
			n.hung = w.now
			gen := n.gen
			w.at(w.now, func() { n.resume(gen) })
		}
		n.off = false
		n.startAgent()
		n.reinit = ha.Reinit{Serial: n.reinit.Serial + 1} // the operator wants it after all
		if r := w.leaderName(); r == n.name || !n.held() {
			n.reinit = ha.Reinit{Serial: n.reinit.Serial}
		}
	}
}

// configure writes /config.
func (w *world) configure() {
	doc, _ := json.Marshal(w.conf) // a struct of integers cannot fail
	_, _ = w.srv.Put(base+"/config", doc, 0)
	w.pump()
}

// retime is an operator who changes ttl, loop_wait and retry_timeout.
func (w *world) retime(r *rand.Rand) {
	s := timings[r.IntN(len(timings))]
	if s.TTL > w.plan.Config.TTL { // the time to come to rest was worked out for this one
		s = w.plan.Config
	}
	w.conf.TTL, w.conf.Wait, w.conf.Retry = s.TTL, s.Wait, s.Retry
	w.configure()
}

func (w *world) pause(on bool) {
	w.conf.Pause = on
	if !on {
		w.ghost.resumed = w.now
	}
	w.configure()
}

func (w *world) cutEtcd(n *node, cut bool) {
	w.ghost.cut[n.name], w.ghost.disturbed = cut, w.now
	if n.loop == nil {
		return
	}
	n.client.SetPartitioned(cut)
	if !cut {
		n.redeliver()
	}
}

// unlossy ends the loss of requests to etcd by n, which may not have heard of anything
// meanwhile.
func (w *world) unlossy(n *node) {
	delete(w.lossy, n)
	w.ghost.disturbed = w.now
}

func (w *world) etcdDown(down bool) {
	w.ghost.down, w.ghost.disturbed = down, w.now
	w.srv.SetDown(down)
	if !down {
		for _, n := range w.nodes {
			n.redeliver()
		}
	}
}

// redeliver brings the watch up again a moment after its connection came back.
func (n *node) redeliver() {
	if n.loop == nil {
		return
	}
	c := n.client
	n.w.after(between(n.w.net, 10*ms, 200*ms), func() {
		if n.client == c && n.loop != nil {
			c.Deliver()
			n.wake()
		}
	})
}
