package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/mem"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/ha/loop"
)

// node is one host: its clock, its agent, its leash and its server.
type node struct {
	w      *world
	name   string
	index  int
	off    bool  // powered off
	offset int64 // of CLOCK_BOOTTIME
	ppm    int64 // its rate: parts per million faster than true time
	server server
	leash  leash

	// The agent, while it runs.
	client     *mem.Client
	failsafe   *failsafe
	promises   *loop.Promises
	loop       *loop.Loop
	view       *ha.View
	settings   settings
	documented settings
	document   []byte // of these, as /config has it
	op         ha.Operation
	opCancel   bool
	reinit     ha.Reinit
	freeze     int64 // serial of the last request to freeze
	yield      func(int64) bool
	next       func() (int64, bool)
	stop       func()
	since      int64 // when the agent began, or was last disturbed
	gen        int   // of the agent's next resumption
	idle       bool  // between two steps
	woken      bool
	hung       int64 // stopped by a signal until then
	expecting  bool  // a delivery of watch events is on its way
	trap       trap
	bug        bug
	restart    int64 // after how long the agent that crashed at a point is started again
	deaf, disk sick
	heard      ha.Instant // since when the postmaster hears again
	restarts   ha.Restarts
	seen       ha.Seen // as the file has it, written when
	kept       int64
	accepted   ha.Acceptance
	word       bool       // and it was an operator's
	named      bool       // by an operator, when it last claimed
	paused     bool       // it last claimed in a pause
	deceived   bool       // it could not know, when it last claimed, that etcd went back
	astray     bool       // it lives by another /failsafe than the one of an etcd that went back
	slowFacts  int64      // the server's answers hang until then
	cutPeers   bool       // from other agents
	cutFrom    [2][8]bool // single links, by channel and the index of the other node
	cutStreams bool       // from other servers
}

type settings struct {
	TTL   int `json:"ttl"`
	Wait  int `json:"loop_wait"`
	Retry int `json:"retry_timeout"`
	// Failsafe is the failsafe mode.
	Failsafe bool `json:"failsafe_mode"`
	Pause    bool `json:"pause,omitempty"`
	// Mode is synchronous_mode, "" for off; SyncLag is maximum_lag_on_syncnode.
	Mode    config.SyncMode `json:"synchronous_mode,omitempty"`
	Strict  bool            `json:"synchronous_mode_strict,omitempty"`
	Count   int             `json:"synchronous_node_count,omitempty"`
	SyncLag int64           `json:"maximum_lag_on_syncnode,omitempty"`
}

func newNode(w *world, i int) *node {
	n := &node{w: w, name: fmt.Sprintf("n%d", i+1), index: i, offset: int64(i+1) * 1000 * sec, ppm: w.plan.PPM[i], settings: w.plan.Config}
	n.server.n, n.leash.n = n, n
	n.server.sync.heard = make([]heard, len(w.plan.PPM))
	w.mutateNode(n)
	w.after(between(w.net, 0, sec), n.startAgent)
	w.after(between(w.srvr, 20*ms, 60*ms), n.server.replicate)
	w.after(between(w.srvr, 20*ms, 60*ms), n.server.write)
	return n
}

// local is what CLOCK_BOOTTIME shows at true time t.
func (n *node) local(t int64) ha.Instant { return ha.Instant(n.offset + t + t/1_000_000*n.ppm) }

// truly returns the true time of a local instant.
func (n *node) truly(i ha.Instant) int64 {
	at := int64(i) - n.offset
	return at - at/(1_000_000+n.ppm)*n.ppm
}

func (n *node) clock() ha.Instant { return n.local(n.w.now) }

type killed struct{}

// startAgent starts the agent with an empty memory.
func (n *node) startAgent() {
	if n.off || n.loop != nil {
		return
	}
	n.w.trace(n, "agent starts")
	n.client = n.w.srv.Store(base, n.name)
	n.client.SetAutoDeliver(false)
	n.client.SetStaleAfter(time.Duration(n.w.plan.Stale))
	n.client.SetPartitioned(n.w.ghost.cut[n.name])
	n.server.sync.value = nil
	n.deaf.check, n.disk.check, n.restarts = ha.Check{}, ha.Check{}, ha.Restarts{}
	n.accepted, n.word = ha.Acceptance{}, false
	n.w.ghost.back.forget(n)
	n.op, n.opCancel, n.reinit, n.view, n.expecting = ha.Operation{Serial: n.op.Serial}, false, ha.Reinit{}, nil, false
	n.failsafe, n.promises = &failsafe{n: n}, &loop.Promises{}
	n.loop = loop.New(loop.Options{
		Me: ha.Identity{Name: n.name, Scope: "sim", ConnURL: "postgres://" + n.name + ":5432/postgres",
			APIURL: "http://" + n.name + ":8008/patroni", Version: "4.1.4", Holder: "holder-" + n.name, CanBootstrap: true},
		DCS: n.w.mutateStore(n, &store{n: n, c: n.client}), Node: n.w.mutateServer(n, &n.server), Ops: n.w.mutateOperator(n),
		Leash: n.w.mutateLeash(n, &n.leash), Peers: peers{n},
		Failsafe: n.failsafe, Promises: n.promises,
		Settings: n.current, Configure: n.configure,
		Reinit: func() ha.Reinit { return n.reinit }, Freeze: func() int64 { return n.freeze },
		Restart: func() ha.Restarts { return n.restarts }, Seen: n.seen, Accepted: n.mutateAccepted,
		Now: n.clock, Timeout: n.w.timeout, Wall: n.w.wall,
		Publish: func(v *ha.View) { n.view = v }, Log: slog.New(slog.DiscardHandler), Trace: n.traceTurn,
	})
	n.since = n.w.now
	n.next, n.stop = iter.Pull(n.run)
	n.gen++
	n.resume(n.gen)
}

// run is the agent's coroutine.
func (n *node) run(yield func(int64) bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(killed); !ok {
				panic(r)
			}
		}
	}()
	n.yield = yield
	for {
		wait, exit := n.loop.Step(context.Background())
		if exit != nil {
			n.w.trace(n, "agent ends: %s", exit.Message)
			n.seen = n.loop.Memory().Seen // written once more
			return
		}
		if !n.woken {
			n.idle = true
			n.sleep(int64(wait))
			n.idle = false
		}
		n.woken = false
	}
}

// sleep gives the control back for d of true time. It is called by the agent only.
func (n *node) sleep(d int64) {
	if !n.yield(n.w.now + max(d, ms/10)) {
		panic(killed{})
	}
}

// resume runs the agent until it waits for something again.
func (n *node) resume(gen int) {
	if gen != n.gen || n.loop == nil {
		return
	}
	if n.hung > n.w.now {
		n.since = n.hung
		n.w.at(n.hung, func() { n.resume(gen) })
		return
	}
	until, ok := n.next()
	n.w.pump()
	if !ok {
		n.gone()
		d := between(n.w.net, sec, 5*sec)
		if n.restart > 0 {
			d, n.restart = n.restart, 0
		}
		if !n.off {
			n.w.after(d, n.startAgent)
		}
		return
	}
	n.gen++
	gen = n.gen
	n.w.at(until, func() { n.resume(gen) })
}

// wake ends the pause between two steps.
func (n *node) wake() {
	n.woken = true
	if n.loop == nil || !n.idle {
		return
	}
	n.gen++
	gen := n.gen
	n.w.after(between(n.w.net, ms/10, 2*ms), func() { n.resume(gen) })
}

func (n *node) killAgent() {
	if n.loop == nil {
		return
	}
	n.stop()
	n.gone()
}

// gone cleans up after the agent's process: its children die with it, but for
// the leash and postgres.
func (n *node) gone() {
	n.gen++
	n.op.Serial++
	n.op.Running = false
	n.failsafe, n.promises = nil, nil
	n.loop, n.view, n.idle, n.woken, n.hung, n.since = nil, nil, false, false, 0, n.w.now
	_ = n.client.Close()
}

// expectEvents puts the delivery of pending watch events on its way.
func (n *node) expectEvents() {
	if n.loop == nil || n.expecting || n.client.Pending() == 0 && !n.w.ghost.cut[n.name] {
		return
	}
	n.expecting = true
	c := n.client
	n.w.after(between(n.w.net, ms/2, 5*ms)+n.w.slow[n], func() {
		n.expecting = false
		if n.client != c || n.loop == nil {
			return
		}
		c.Deliver()
		select {
		case <-c.Changed():
			n.wake()
		default:
		}
	})
}

func (n *node) current() ha.Settings {
	s := n.settings
	if s != n.documented || n.document == nil {
		n.documented = s
		n.document, _ = json.Marshal(s) // a struct of integers cannot fail
	}
	return ha.Settings{
		TTL: time.Duration(s.TTL) * time.Second, LoopWait: time.Duration(s.Wait) * time.Second, RetryTimeout: time.Duration(s.Retry) * time.Second,
		MaximumLagOnFailover: n.w.mutateLag(), PrimaryStartTimeout: time.Duration(n.w.plan.StartTimeout) * time.Second,
		WipeOnRewindFailure: n.w.plan.Wipe, FailoverPriority: 1, Document: n.document, Failsafe: s.Failsafe, Pause: s.Pause,
		Sync: n.mutateSync(ha.SyncSettings{Mode: s.Mode, Strict: s.Strict, Count: s.Count, MaxLag: s.SyncLag}),
	}
}

func (n *node) configure(_ context.Context, doc []byte) {
	var s settings
	if json.Unmarshal(doc, &s) != nil || s.TTL <= 0 {
		return
	}
	changed := s.Mode != n.settings.Mode || s.Strict != n.settings.Strict
	n.settings = s
	if changed && n.server.proc == ha.ProcessRunning {
		n.server.configured()
	}
}

// situation counts what a decision tells of.
func (w *world) situation(d *ha.Decision) {
	switch d.Reason {
	case ha.FailsafeHolds:
		w.sometimes("the failsafe mode held a leader")
	case ha.FailsafeFollows:
		w.sometimes("a promise kept a member out of the race")
	case ha.HandOver:
		w.sometimes("a leader handed over on request")
	case ha.TakeBackOwn:
		w.sometimes("a restarted agent took its leadership back")
	case ha.TakeBackLatched:
		w.sometimes("a restarted agent found its deadline passed")
	case ha.RewindWaitsForLeader:
		w.sometimes("a rewind waited for a checkpoint")
	default: // nothing that has to be reached
	}
}

func (w *world) sometimes(what string) { w.res.Sometimes[what]++ }

func (n *node) traceTurn(o *ha.Observation, d *ha.Decision) {
	n.w.res.Decisions++
	n.w.res.Reasons[d.Reason]++
	n.w.res.pair(o)
	n.w.situation(d)
	n.w.ghost.decided(n, o, d)
	n.keep(d.Memory.Seen)
	if n.w.Trace == nil {
		return
	}
	if d.Action != nil || d.Reason != ha.LeaderNoAction && d.Reason != ha.SecondaryNoAction {
		n.w.trace(n, "%s", n.story(o, d))
	}
}

// story is a decision in one line: what failed before, why, and what is done.
func (n *node) story(o *ha.Observation, d *ha.Decision) string {
	s := d.Text(n.name)
	if o.Last.Result != ha.ResultOK && o.Last.Result != ha.ResultNone {
		s = fmt.Sprintf("(%s failed: %s) %s", verb(o.Last.Action), o.Last.Error, s)
	}
	if d.Action != nil {
		s += " -> " + verb(d.Action)
	}
	if e := d.Memory.Lease.Epoch; e != 0 {
		s += fmt.Sprintf(" [epoch %d]", e)
	}
	return s
}

func verb(a ha.Action) string { return strings.TrimPrefix(fmt.Sprintf("%T", a), "ha.") }

// peers asks the other agents over the network.
type peers struct{ n *node }

func (p peers) Ask(ctx context.Context, await, glance []dcs.Member) map[string]ha.Peer {
	n, out := p.n, map[string]ha.Peer{}
	n.reach(before(effAsk))
	limit := n.w.budget(ctx)
	var wait int64
	reach := func(name string) (*node, int64) {
		other := n.w.node(name)
		switch {
		case other == nil || other.off || n.cutPeers || other.cutPeers || n.cutFrom[questions][other.index] || other.hung > n.w.now:
			return nil, limit
		case other.loop == nil:
			return nil, ms // connection refused
		}
		return other, between(n.w.net, ms, 20*ms)
	}
	var there []*node
	for _, m := range await {
		other, d := reach(m.Name)
		wait = max(wait, d)
		if other != nil {
			there = append(there, other)
		}
	}
	for _, m := range glance {
		if other, d := reach(m.Name); other != nil && d <= max(wait, 5*ms) {
			there = append(there, other)
		}
	}
	n.sleep(min(wait, limit) + ms/2)
	n.reach(after(effAsk))
	for _, other := range there {
		if s := &other.server; s.proc == ha.ProcessRunning && other.loop != nil {
			out[other.name] = ha.Peer{Reachable: true, InRecovery: s.recovery, Position: s.flush, Timeline: s.br.number, Priority: 1, Fault: other.faulty()}
		}
	}
	return out
}

// deadline is a context that ends at an instant of true time.
type deadline struct {
	context.Context
	w  *world
	at int64
}

func (d deadline) Err() error {
	if d.w.now > d.at {
		return context.DeadlineExceeded
	}
	return nil
}

// timeout is what the loop has in place of context.WithTimeout.
func (w *world) timeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if w.Mutant == "M22" {
		return ctx, func() {}
	}
	return deadline{Context: ctx, w: w, at: w.now + min(max(int64(d), 0), w.budget(ctx))}, func() {}
}

// budget is what ctx leaves.
func (w *world) budget(ctx context.Context) int64 {
	if d, ok := ctx.(deadline); ok {
		return max(d.at-w.now, 0)
	}
	return 3600 * sec
}

func (w *world) node(name string) *node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}
