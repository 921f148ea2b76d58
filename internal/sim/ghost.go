package sim

import (
	"fmt"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// ghost knows the truth and checks it after every event.
type ghost struct {
	w    *world
	cut  map[string]bool // nodes that cannot reach etcd
	down bool            // etcd as a whole

	newest     *node // the node whose server was made writable last
	first      *node // who made the cluster
	numbers    map[wal.Timeline]*branch
	rounds     map[string]round // by node
	restored   *branch          // what the last restore order that was carried out made
	leader     int64            // epoch of /leader, 0: absent
	lastSeen   int64            // last epoch that was not 0
	since      int64            // of the last new leadership
	gone       int64            // when the leader key was last deleted
	revision   int64            // of etcd, as last looked at
	healed     int64
	newestBeat beat
	resumed    int64               // when the last pause ended
	excused    bool                // S1 is not promised in pause, nor until it has worn off
	beside     int64               // until then a primary may go on beside which an operator promoted another in a pause
	changes    int                 // leaderships after healing
	disturbed  int64               // when etcd was last out of reach for somebody
	requests   map[int64]time.Time // when those of an operator are to be carried out, by revision
	handed     map[handOver]bool
	restarted  map[int64]bool // requests, by serial
	sync       syncGhost
	back       wentBack
	doubled    bool // an operator's word, or a member that could not know, led to two timelines of one number
	touched    bool // something that S5 depends on has changed
}

// round is the newest beat of a node that etcd has.
type round struct {
	epoch int64
	sent  ha.Instant
	ttl   time.Duration // as announced to everybody
	law   ha.Instant    // the deadline that may be acted on
	// agreed is the deadline that the members of /failsafe outwait, whatever the beat says.
	agreed ha.Instant
}

func (g *ghost) init() {
	g.cut, g.numbers, g.rounds = map[string]bool{}, map[wal.Timeline]*branch{}, map[string]round{}
	g.requests, g.handed, g.restarted = map[int64]time.Time{}, map[handOver]bool{}, map[int64]bool{}
}

// beat: a claim or round of n got through to etcd.
func (g *ghost) beat(n *node, epoch int64, sent ha.Instant, status []byte) {
	st, err := dcs.DecodeStatus(status)
	if err != nil || st.Beat == nil {
		g.w.fail("S7", "%s writes a status without a beat: %s", n.name, status)
		return
	}
	g.back.by, n.astray = n, false
	g.outwaits(n, epoch, time.Duration(st.Beat.TTL)*time.Millisecond)
	r := g.rounds[n.name]
	if r.epoch != epoch {
		r = round{epoch: epoch, law: r.law, agreed: r.agreed}
	}
	g.newestBeat = beat{by: n, at: g.w.now, ttl: time.Duration(st.Beat.TTL) * time.Millisecond}
	r.sent, r.ttl = sent, time.Duration(st.Beat.TTL)*time.Millisecond
	g.rounds[n.name] = r
}

// outwaits (S1, safety B.3): whoever waits for ttl from now on waits until n has
// stopped. In the failsafe mode it is the others' promises that they wait for.
func (g *ghost) outwaits(n *node, epoch int64, ttl time.Duration) {
	l := n.loop.Memory().Lease
	if stops := n.truly(l.Deadline) + int64(l.Timing.Kill); l.Epoch == epoch && l.Agreed <= l.Renewed && stops > g.w.now+int64(ttl)*1002/1000 {
		g.w.fail("S1", "a beat of %s lets others wait for %s, but it may act for %s", n.name, ttl, clock(stops-g.w.now))
	}
}

// beat is the newest one that etcd has, of whomever; none once it was marked as
// the last of its leadership.
type beat struct {
	by  *node
	at  int64
	ttl time.Duration
}

// claimed (S1, safety B.3): nobody takes the key before the last holder's time
// is over, that holder itself excepted.
func (g *ghost) claimed(n *node, last beat) {
	if last.by == n {
		g.w.sometimes("the sitting holder took the key again")
	}
	if n.deceived = g.deceives(n); n.deceived {
		return
	}
	least := int64(last.ttl) - int64(last.ttl)*2/1000
	if last.by != nil && last.by != n && g.w.now-last.at < least && !g.excused {
		g.w.fail("S1", "%s takes the leader key %s after a beat of %s, who may act for longer", n.name, clock(g.w.now-last.at), last.by.name)
	}
}

// answered: and n knows of it.
func (g *ghost) answered(n *node, epoch int64, sent ha.Instant) {
	r := g.rounds[n.name]
	if r.epoch == epoch {
		r.law = max(r.law, sent.Add(budgetOf(r.ttl)))
		g.rounds[n.name] = r
	}
}

// arm (S7): a deadline handed to the leash must follow from the send of a
// round that succeeded, and the newest beat must make everybody outwait it.
func (g *ghost) arm(n *node, epoch int64, deadline ha.Instant) {
	r, raw := g.rounds[n.name], revisionOf(epoch)
	switch {
	case epoch <= n.leash.latched:
		g.w.fail("S8", "%s arms epoch %d again, whose deadline had passed", n.name, epoch)
	case r.epoch != raw && deadline > r.agreed: // a claim of its own may have got through unheard
		g.w.fail("S7", "%s arms epoch %d, but its last round in etcd was of %d", n.name, epoch, r.epoch)
	case deadline > r.law:
		g.w.fail("S7", "%s arms a deadline %v beyond the law", n.name, deadline.Sub(r.law))
	case deadline > max(r.sent.Add(budgetOf(r.ttl)), r.agreed):
		g.w.fail("S7", "%s arms a deadline %v beyond what its newest beat announces (%v)", n.name, deadline.Sub(r.sent.Add(budgetOf(r.ttl))), r.ttl)
	}
}

// start (S9): which directories a server is started on.
func (g *ghost) start(n *node, primary bool) {
	if n.server.dir != ha.DataDirPresent {
		g.w.fail("S9", "%s starts its server on a directory in state %d", n.name, n.server.dir)
	}
	if primary && n.leash.armed == 0 {
		g.w.trace(n, "refused: primary start without an armed leash")
	}
}

// promote (S6): what must be true when recovery is ended.
func (g *ghost) promote(n *node) {
	l := &n.leash
	g.lag(n)
	n.server.unsure = g.back.accepted || g.back.blind(n)
	if n.settings.Pause || l.doomed == n.server.gen {
		return // the leash is suspended, and an operator named the node; or it kills the server this moment
	}
	ends := l.deadline
	if n.hung != 0 && n.hung >= g.w.now-ms { // stopped between the decision and the act: the leash is late by less than K
		ends = ends.Add(time.Duration(l.kill()))
	}
	if l.armed == 0 || ends <= n.clock() || n.server.dir != ha.DataDirPresent || revisionOf(l.armed) < g.lastSeen {
		g.w.fail("S6", "%s promotes with leash %+v, newest epoch %d", n.name, l.Status(), g.lastSeen)
	}
}

// wipe (S9): the last copy is never deleted, and none without a leader to copy.
func (g *ghost) wipe(n *node) {
	if n.server.dir != ha.DataDirPresent {
		return
	}
	for _, other := range g.w.nodes {
		if other != n && other.server.dir == ha.DataDirPresent && other.server.br != nil {
			return
		}
	}
	g.w.fail("S9", "%s wipes the last copy", n.name)
}

// rewind (S13): the source has finished its checkpoint.
func (g *ghost) rewind(n *node, from *server) {
	if from.point != from.br.number {
		g.w.fail("S13", "%s rewinds from %s, whose last checkpoint is on timeline %d, not %d", n.name, from.n.name, from.point, from.br.number)
	}
	if n.server.proc != ha.ProcessDown {
		g.w.fail("S13", "%s rewinds a running server", n.name)
	}
}

// put (S10): writes in leader role are guarded by the epoch.
func (g *ghost) put(n *node, w dcs.Write) {
	switch w.Key {
	case dcs.KeyHistory, dcs.KeyStatus, dcs.KeySync, dcs.KeyFailsafe:
		if w.Epoch == 0 && !w.NoLeader {
			g.w.fail("S10", "%s writes %s without its epoch", n.name, w.Key)
		}
	}
}

// bootstrap (S15): one cluster.
func (g *ghost) bootstrap(n *node, b *branch) {
	if g.first != nil {
		g.w.fail("S15", "%s makes a cluster, %s did already", n.name, g.first.name)
	}
	g.first = n
	g.numbers[b.number] = b
}

// newTimeline (S2): no number twice.
func (g *ghost) newTimeline(n *node, b *branch) {
	switch old := g.numbers[b.number]; {
	case old == nil || old == b:
	case g.back.accepted || g.back.blind(n) || n.server.unsure:
		g.doubled = true
	default:
		g.w.fail("S2", "%s makes timeline %d a second time", n.name, b.number)
	}
	g.numbers[b.number], n.server.unsure = b, false
}

// open (S1): a server begins to accept writes. From then on no other may.
func (g *ghost) open(n *node) {
	for _, other := range g.w.nodes {
		if other != n && other.server.acks() && !g.excuses(n) && !g.excuses(other) {
			g.w.fail("S1", "%s becomes writable on timeline %d while %s is, on %d", n.name, n.server.number(), other.name, other.server.number())
		}
	}
	if n.deceived {
		g.restored = nil
	}
	if g.restored != nil && !g.doubled && !n.server.br.has(g.restored, g.restored.start) { // two of a number cannot be told apart
		g.w.fail("R1", "%s opens timeline %d, which does not come from the restored one, %d", n.name, n.server.number(), g.restored.number)
	}
	g.sync.beside = n.settings.Pause || n.named
	if n.settings.Pause || n.paused {
		g.beside = g.w.now + int64(max(g.w.plan.Config.TTL, n.settings.TTL))*sec
	}
	g.kept(n)
	if n.settings.Pause && g.w.leaderName() != n.name {
		g.sync.noted[n.index] = false // a hand may start one beside the leader
	}
	g.newest, g.touched = n, true
	n.server.unguarded = n.leash.armed == 0 && (g.w.conf.Pause || n.settings.Pause || n.server.byHand)
}

// ack (S1): an acknowledged write belongs to the newest primary.
func (g *ghost) ack(n *node, at wal.LSN) {
	g.w.res.Acks++
	g.acked(n, at)
	if g.newest != n && !g.excuses(n) && !g.excuses(g.newest) {
		g.w.fail("S1", "%s acknowledges a write after %s became writable", n.name, g.newest.name)
	}
}

// noteLeader watches /leader itself.
func (g *ghost) noteLeader() {
	rev := g.w.srv.Revision()
	if rev == g.revision {
		return
	}
	g.revision = rev
	g.noteSync()
	kv, ok := g.w.srv.Get(base + "/leader")
	if !ok {
		if g.leader != 0 {
			g.gone = g.w.now
		}
		g.leader = 0
		return
	}
	if g.leader == 0 && g.lastSeen != 0 {
		g.w.res.Gap = max(g.w.res.Gap, g.w.now-g.gone)
	}
	if kv.CreateRevision != g.lastSeen {
		g.lastSeen, g.since = kv.CreateRevision, g.w.now
		g.w.res.Leaders++
		if g.healed != 0 {
			g.changes++
		}
		g.w.trace(nil, "ETCD: leader is %s, epoch %d", kv.Value, kv.CreateRevision)
	}
	g.leader = kv.CreateRevision
}

// excuses tells whether nothing is promised for n: the cluster is paused, or it
// was until a moment ago, or nobody has told the leash of n that it is over, or n
// lives by a /failsafe that etcd has forgotten.
func (g *ghost) excuses(n *node) bool { return g.excused || n.unguarded() || n.astray }

// unguarded: a pause left the server of n without an armed leash.
func (n *node) unguarded() bool { return n.leash.suspended || n.server.unguarded }

// settle is how long an agent that can reach etcd may take to arm the leash
// after a pause.
func (g *ghost) settle() int64 {
	c := &g.w.plan.Config
	return int64(c.Wait+c.Retry)*sec + 5*sec
}

// pauses keeps track of what a pause excuses.
func (g *ghost) pauses() {
	w := g.w
	was := g.excused
	g.excused = w.conf.Pause || g.resumed != 0 && w.now < g.resumed+g.settle() || w.now < g.beside
	if was && !g.excused {
		for _, n := range w.nodes {
			if n.server.writable() && !n.unguarded() && !n.astray {
				g.newest = n
			}
		}
	}
	if g.excused || g.resumed == 0 {
		return
	}
	for _, n := range w.nodes { // S8: the agent is well and had the time
		if n.unguarded() && n.server.writable() && n.well(g.settle()) && n.slowFacts+g.settle() <= w.now && w.now > g.resumed+2*g.settle() {
			w.fail("S8", "the leash of %s is not armed %s after the pause", n.name, clock(w.now-g.resumed))
		}
	}
}

// well tells whether the agent of n has been running, undisturbed, for d.
func (n *node) well(d int64) bool {
	w := n.w
	if _, slow := w.lossy[n]; slow { // it may not have heard of anything yet
		return false
	}
	if n.loop == nil || n.off || n.hung > w.now || w.ghost.down || w.ghost.cut[n.name] || n.slowFacts > w.now || n.op.Running || w.ghost.disturbed+d > w.now {
		return false
	}
	return n.since+d <= w.now && n.leash.hung <= w.now
}

// fenced: the leash is the last resort. An agent that runs stops its server
// before the deadline, in good order, whatever etcd does (S7).
func (g *ghost) fenced(n *node) {
	t := int64(n.settings.TTL) * sec
	stops := !n.op.Running || n.op.Kind == ha.OpStop
	if n.disk.until != 0 {
		return // processes that outlive their kill, and a checkpoint that cannot be written, are for the leash
	}
	if n.deafAtStop() {
		return // the stop keeps the limit that it was given, and the leash that has to end it
	}
	if n.server.writable() && stops && !n.settings.Pause && n.loop != nil && n.hung <= g.w.now && n.since+2*t < g.w.now && n.slowFacts+t < g.w.now {
		g.w.fail("S7", "the agent of %s runs, and let the deadline pass", n.name)
	}
}

// lag (S4): who is promoted without an operator's word is not further behind
// than maximum_lag_on_failover.
func (g *ghost) lag(n *node) {
	if kv, ok := g.w.srv.Get(base + "/failover"); ok && len(kv.Value) > 2 {
		return
	}
	if behind := g.published(n).Sub(n.server.flush); behind > uint64(g.w.plan.MaxLag) && g.w.orders == 0 && !g.back.accepted {
		g.w.fail("S4", "%s promotes at %d, %d bytes behind what was published, more than %d", n.name, n.server.flush, behind, g.w.plan.MaxLag)
	}
}

// published is the position of the last leader, as everybody may know it; none if it
// is of an older timeline than n's.
func (g *ghost) published(n *node) wal.LSN {
	if kv, ok := g.w.srv.Get(base + "/status"); ok {
		if st, err := dcs.DecodeStatus(kv.Value); err == nil && (st.Beat == nil || st.Beat.Timeline == 0 || st.Beat.Timeline >= n.server.number()) {
			return st.Optime
		}
	}
	return 0
}

// tooFar: every node of the newest timeline is further behind than
// maximum_lag_on_failover.
func (g *ghost) tooFar() bool {
	newest := wal.Timeline(0)
	for _, n := range g.w.nodes {
		newest = max(newest, n.server.number())
	}
	for _, n := range g.w.nodes {
		if n.server.number() == newest && g.published(n).Sub(n.server.flush) <= uint64(g.w.plan.MaxLag) {
			return false
		}
	}
	return true
}

// check runs after every event.
func (g *ghost) check() {
	var answers *node
	g.pauses()
	if g.touched {
		g.touched = false
		g.meet()
	}
	for _, n := range g.w.nodes {
		if n.server.acks() && !g.excuses(n) { // S8
			r := g.rounds[n.name]
			if end := r.law.Add(killOf(r.ttl)); n.clock() > end && (n.leash.hung == 0 || n.clock() > hardLimit(r).Add(50*time.Millisecond)) {
				g.w.fail("S8", "%s is writable %v after its deadline and K", n.name, n.clock().Sub(end))
			}
		}
		if !g.excuses(n) && g.w.answersLeader(n) && !n.settings.Pause && !n.view.Paused { // S14
			if answers != nil {
				g.w.fail("S14", "%s and %s both answer as the leader", answers.name, n.name)
			}
			answers = n
		}
	}
}

// hardLimit is H of safety B.1: the watchdog resets the host by then.
func hardLimit(r round) ha.Instant {
	return r.law.Add(killOf(r.ttl) + r.ttl*2/1000 + 100*time.Millisecond)
}

// atRest: after all faults healed, the cluster must have come to rest (L1, L3, L4).
func (g *ghost) atRest() {
	w := g.w
	var primary *node
	for _, n := range w.nodes {
		if n.server.writable() {
			if primary != nil {
				w.fail("L1", "%s and %s are both writable", primary.name, n.name)
			}
			primary = n
		}
	}
	if r := w.order(); r.Open() && !g.back.stale(r.ModRevision) {
		w.fail("R4", "the restore order for %s is still open; %s", r.Member, w.states())
	}
	if primary == nil && g.tooFar() {
		return // what was published is on no disk any more: an operator's decision
	}
	if primary == nil {
		w.fail("L1", "no writable primary; %s", w.states())
		return
	}
	g.kept(primary)
	for _, n := range w.nodes {
		if s := &n.server; n != primary && !(s.streaming && s.br == primary.server.br) && !(g.doubled && !primary.server.br.has(s.br, s.flush)) {
			w.fail("L3", "%s does not stream from %s; %s", n.name, primary.name, w.states())
		}
	}
	if f, ok := w.srv.Get(base + "/failover"); ok && len(f.Value) > 2 && !g.back.stale(f.ModRevision) {
		w.fail("L5", "a request was neither carried out nor dropped: %s", f.Value)
	}
	if w.now-g.since < w.plan.tail()/4 {
		w.fail("L4", "the last change of leader was %s before the end", clock(w.now-g.since))
	}
	if g.changes > 3 {
		w.fail("L4", "%d leaderships after all faults healed", g.changes)
	}
}

func (w *world) states() string {
	out := ""
	for _, n := range w.nodes {
		s := &n.server
		reason := "agent down"
		if n.view != nil {
			reason = n.view.Reason
		}
		out += fmt.Sprintf("%s: dir %d proc %d recovery %v timeline %d at %d streaming %v, %s; ", n.name, s.dir, s.proc, s.recovery, s.number(), s.flush, s.streaming, reason)
	}
	return out
}
