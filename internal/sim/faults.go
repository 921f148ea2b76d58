package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/pgha/pgha/pkg/ha"
)

// plan is what stream 0 of the seed chooses: the cluster and the swarm of fault
// kinds that this run lives with.
type plan struct {
	nodes        int
	settings     settings
	ppm          []int64
	stale        int64 // how long a cut watch goes unnoticed
	maxLag       int64
	startTimeout int
	wipe         bool
	badStart     float64
	slowStop     float64
	faults       []*fault
	heal, end    int64
	tail         int64
}

// fault is one kind: how it is done to a node, for how long, how often.
type fault struct {
	kind   string
	do     func(w *world, n *node, r *rand.Rand, d int64)
	lo, hi int64 // duration
	gap    int64 // mean time between two
}

var profiles = []settings{{TTL: 30, Wait: 10, Retry: 10}, {TTL: 8, Wait: 1, Retry: 2}, {TTL: 5, Wait: 1, Retry: 1}}

func newPlan(r *rand.Rand, only []string) plan {
	p := plan{
		nodes: []int{1, 2, 3, 3, 3, 3, 4, 5}[r.IntN(8)], settings: profiles[[]int{0, 1, 1, 2, 2}[r.IntN(5)]],
		stale: r.Int64N(3) * sec, maxLag: []int64{1 << 20, 1 << 20, 2000}[r.IntN(3)], wipe: r.IntN(2) == 0,
		startTimeout: []int{300, 300, 3, 0}[r.IntN(4)],
	}
	if r.IntN(4) == 0 {
		p.badStart = 0.1
	}
	if r.IntN(3) == 0 {
		p.slowStop = 0.3
	}
	for range p.nodes {
		p.ppm = append(p.ppm, r.Int64N(1001)-500)
	}
	t := int64(p.settings.TTL) * sec
	p.tail = t + t/10 + 6*int64(p.settings.Wait)*sec + 25*sec
	p.end = 5 * p.tail
	p.heal = p.end - p.tail
	for _, f := range kinds(t) {
		if len(only) > 0 { // what a mutant needs to show itself
			if slices.Contains(only, f.kind) {
				f.gap = 2 * sec
				p.faults = append(p.faults, f)
			}
			continue
		}
		if r.IntN(10) < 3 {
			f.gap = p.heal / (1 + r.Int64N(8))
			p.faults = append(p.faults, f)
		}
	}
	return p
}

func (p *plan) String() string {
	var kinds []string
	for _, f := range p.faults {
		kinds = append(kinds, f.kind)
	}
	return fmt.Sprintf("%d nodes, ttl %d loop_wait %d retry_timeout %d failsafe_mode %t, %s virtual; %s", p.nodes, p.settings.TTL, p.settings.Wait, p.settings.Retry, p.settings.Failsafe, clock(p.end), strings.Join(kinds, ", "))
}

func kinds(t int64) []*fault {
	k := func(kind string, lo, hi int64, do func(*world, *node, *rand.Rand, int64)) *fault {
		return &fault{kind: kind, do: do, lo: lo, hi: hi}
	}
	return []*fault{
		k("agent crash", 100*ms, 2*t, func(w *world, n *node, _ *rand.Rand, d int64) {
			n.killAgent()
			w.after(d, n.startAgent)
		}),
		k("trap", 100*ms, t, func(w *world, n *node, r *rand.Rand, d int64) {
			phases := []ha.OpKind{ha.OpClone, ha.OpRewind, ha.OpPromote, ha.OpStop, ha.OpStartPrimary, ha.OpStartStandby, ha.OpCheckDivergence, ha.OpRestore, ha.OpRestore}
			n.trap = trap{phase: phases[r.IntN(len(phases))], after: between(r, 0, 400*ms), down: d, power: r.IntN(3) == 0}
		}),
		k("agent hang", 100*ms, 2*t, func(w *world, n *node, _ *rand.Rand, d int64) { n.hung = w.now + d }),
		k("agent stop", sec, t, func(w *world, n *node, _ *rand.Rand, _ int64) {
			if n.loop != nil {
				n.loop.Stop()
				n.wake()
			}
		}),
		k("server crash", ms, ms, func(_ *world, n *node, _ *rand.Rand, _ int64) { n.server.crash("killed") }),
		k("server slow", sec, t, func(w *world, n *node, _ *rand.Rand, d int64) { n.slowFacts = w.now + d }),
		k("power", sec, 2*t, func(w *world, n *node, r *rand.Rand, d int64) { n.powerOff(r, d) }),
		k("cut etcd", 100*ms, 2*t, func(w *world, n *node, _ *rand.Rand, d int64) {
			w.cutEtcd(n, true)
			w.after(d, func() { w.cutEtcd(n, false) })
		}),
		k("cut peers", 100*ms, 2*t, func(w *world, n *node, _ *rand.Rand, d int64) {
			n.cutPeers = true
			w.after(d, func() { n.cutPeers = false })
		}),
		k("cut streams", 100*ms, 2*t, func(w *world, n *node, _ *rand.Rand, d int64) {
			n.cutStreams = true
			w.after(d, func() { n.cutStreams = false })
		}),
		k("cut all", 100*ms, 2*t, func(w *world, n *node, _ *rand.Rand, d int64) {
			n.cutPeers, n.cutStreams = true, true
			w.cutEtcd(n, true)
			w.after(d, func() {
				n.cutPeers, n.cutStreams = false, false
				w.cutEtcd(n, false)
			})
		}),
		k("etcd down", 100*ms, 2*t, func(w *world, _ *node, _ *rand.Rand, d int64) {
			w.etcdDown(true)
			w.after(d, func() { w.etcdDown(false) })
		}),
		k("etcd loses", sec, t, func(w *world, n *node, r *rand.Rand, d int64) {
			w.lossy[n] = lossy{request: r.Float64() / 2, answer: r.Float64() / 2}
			w.after(d, func() { delete(w.lossy, n) })
		}),
		k("etcd leader", ms, ms, func(w *world, _ *node, r *rand.Rand, _ int64) { w.srv.ChangeLeader(0) }),
		k("early revoke", ms, ms, func(w *world, _ *node, _ *rand.Rand, _ int64) {
			if kv, ok := w.srv.Get(base + "/leader"); ok {
				w.srv.Revoke(kv.LeaseID)
				w.pump()
			}
		}),
		k("false keepalive", sec, t, func(w *world, _ *node, _ *rand.Rand, d int64) {
			w.srv.SetFalseKeepAlive(true)
			w.after(d, func() { w.srv.SetFalseKeepAlive(false) })
		}),
		k("stale reads", 100*ms, t, func(w *world, _ *node, _ *rand.Rand, d int64) {
			w.srv.FreezeReads()
			w.after(d, w.srv.ThawReads)
		}),
		k("slow watch", sec, 2*t, func(w *world, n *node, r *rand.Rand, d int64) {
			w.slow[n] = between(r, 100*ms, t)
			w.after(d, func() { delete(w.slow, n) })
		}),
		k("switchover", ms, ms, func(w *world, n *node, r *rand.Rand, _ int64) {
			w.request(w.leaderName(), []string{"", n.name}[r.IntN(2)])
		}),
		k("failover", ms, ms, func(w *world, n *node, _ *rand.Rand, _ int64) { w.request("", n.name) }),
		k("restore", ms, ms, func(w *world, n *node, r *rand.Rand, _ int64) { w.orderRestore(r) }),
		k("reinit", ms, ms, func(_ *world, n *node, r *rand.Rand, _ int64) { n.ask(r) }),
		k("config", ms, ms, func(w *world, _ *node, r *rand.Rand, _ int64) {
			s := profiles[r.IntN(len(profiles))]
			if s.TTL > w.plan.settings.TTL { // the time to come to rest was worked out for this one
				s = w.plan.settings
			}
			_, _ = w.srv.Put(base+"/config", []byte(fmt.Sprintf(`{"ttl":%d,"loop_wait":%d,"retry_timeout":%d,"failsafe_mode":%t}`, s.TTL, s.Wait, s.Retry, w.plan.settings.Failsafe)), 0)
			w.pump()
		}),
	}
}

// schedule puts every fault of the run, and the healing, in the heap.
func (w *world) schedule() {
	for i, f := range w.plan.faults {
		r := w.stream(100 + uint64(i))
		first := 5 * sec
		if len(w.Only) > 0 { // by then everybody has joined
			first = 30 * sec
		}
		if f.kind == "trap" { // set from the first copy on
			first = 0
		}
		for at := first + r.Int64N(f.gap+1); at < w.plan.heal; at += f.gap/4 + r.Int64N(f.gap*3/2+1) {
			n, d := w.nodes[r.IntN(len(w.nodes))], between(r, f.lo, f.hi)
			if r.IntN(2) == 0 { // the leader is worth twice the trouble
				n = nil
			}
			d = min(d, w.plan.heal-at)
			w.at(at, func() {
				n := n
				if n == nil {
					n = w.node(w.leaderName())
				}
				if n == nil || w.now >= w.plan.heal {
					return
				}
				w.trace(n, "FAULT: %s for %s", f.kind, clock(d))
				w.res.Faults[f.kind]++
				f.do(w, n, r, d)
			})
		}
	}
	w.at(w.plan.heal, w.healAll)
}

func (w *world) leaderName() string {
	kv, ok := w.srv.Get(base + "/leader")
	if !ok {
		return w.nodes[0].name
	}
	return string(kv.Value)
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
	w.plan.badStart, w.plan.slowStop = 0, 0
	w.after(w.plan.tail/3, w.rescue)
	for _, n := range w.nodes {
		n.trap = trap{}
		w.cutEtcd(n, false)
		n.cutPeers, n.cutStreams, n.slowFacts = false, false, 0
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

func (w *world) cutEtcd(n *node, cut bool) {
	w.ghost.cut[n.name] = cut
	if n.loop == nil {
		return
	}
	n.client.SetPartitioned(cut)
	if !cut {
		n.redeliver()
	}
}

func (w *world) etcdDown(down bool) {
	w.ghost.down = down
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

func (w *world) request(leader, candidate string) {
	doc := `{"leader":"` + leader + `","member":"` + candidate + `"}`
	if leader == "" {
		doc = `{"member":"` + candidate + `"}`
	}
	if candidate == "" {
		doc = `{"leader":"` + leader + `"}`
	}
	_, _ = w.srv.Put(base+"/failover", []byte(doc), 0)
	w.pump()
}

// powerOff ends everything on the node at once; its clock starts anew with it.
func (n *node) powerOff(r *rand.Rand, d int64) {
	if n.off {
		return
	}
	n.off = true
	n.killAgent()
	n.server.crash("power cut")
	n.leash = leash{n: n, timer: n.leash.timer + 1, late: n.leash.late}
	n.w.after(d, func() {
		if !n.off {
			return
		}
		n.off = false
		n.offset = -n.w.now + between(r, sec, 100*sec)
		n.w.ghost.rounds[n.name] = round{}
		n.startAgent()
	})
}

// answersLeader: does the REST interface of n say that it leads?
func (w *world) answersLeader(n *node) bool {
	if n.loop == nil || n.off || n.view == nil || n.hung > w.now {
		return false
	}
	if w.Mutant == "M21" {
		return n.view.IsLeader(n.view.At)
	}
	return n.view.IsLeader(n.clock())
}

// trap ends the agent (or all of the node) in the middle of a phase.
type trap struct {
	phase       ha.OpKind
	after, down int64
	power       bool
}

// spring is called when a long action begins.
func (n *node) spring(k ha.OpKind) {
	t := n.trap
	if t.phase != k || k == ha.OpNone {
		return
	}
	n.trap = trap{}
	serial := n.op.Serial
	n.w.after(t.after, func() {
		if n.op.Serial != serial || n.w.now >= n.w.plan.heal {
			return
		}
		n.w.trace(n, "FAULT: trap during %s", k)
		if t.power {
			n.powerOff(n.w.srvr, t.down)
			return
		}
		n.killAgent()
		n.w.after(t.down, n.startAgent)
	})
}
