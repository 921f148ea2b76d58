package sim

import (
	"slices"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// syncGhost knows what synchronous replication has promised.
type syncGhost struct {
	// promised is the newest position that was acknowledged, of each timeline.
	promised []promise
	// noted are the nodes whose leadership is in /sync, or was since synchronous
	// mode was turned on: from then on what they acknowledge is promised.
	noted [8]bool
	// beside: the newest primary was promoted by an operator's word, so that one whose
	// leash a pause suspended may go on, with the standbys that have not heard of it.
	beside   bool
	key      *dcs.Sync // as etcd has it
	revision int64
}

type promise struct {
	br *branch
	at wal.LSN
}

// unpromise is for what an operator gives up: a restore, a failover to a member
// that is no synchronous standby, a mode turned off.
func (g *ghost) unpromise() { g.sync.promised = nil }

// noteSync watches /sync itself.
func (g *ghost) noteSync() {
	kv, ok := g.w.srv.Get(base + "/" + string(dcs.KeySync))
	if !ok || kv.ModRevision == g.sync.revision {
		return
	}
	s, err := dcs.DecodeSync(kv.Value)
	if err != nil {
		g.w.fail("S5", "/sync cannot be read: %s", kv.Value)
		return
	}
	old := g.sync.key != nil && g.back.id != 0 && slices.Equal(g.sync.key.Encode(), kv.Value) // what an etcd that went back has, written again before all else
	g.sync.key, g.sync.revision, g.touched = s, kv.ModRevision, true
	g.w.trace(nil, "ETCD: /sync is %s", kv.Value)
	if n := g.w.node(s.Leader); n != nil && g.w.conf.Mode != "" && !g.back.stale(kv.ModRevision) && !old {
		g.sync.noted[n.index] = true
	}
}

// acked (S3): what is acknowledged while a synchronous mode is in force must be
// on every later primary. In strict mode somebody else has it at once.
func (g *ghost) acked(n *node, at wal.LSN) {
	y := &n.server.sync
	if y.strict && y.text == "" {
		g.w.fail("S3", "%s acknowledges a write in strict mode, and waits for nobody", n.name)
	}
	if g.w.conf.Mode == "" || !g.sync.noted[n.index] || g.newest != n && (g.w.now < g.beside || n.unguarded() && (y.text == "" || g.sync.beside)) {
		return // in a pause, or after one, an operator promoted another beside a primary
	}
	if y.text != "" {
		g.w.sometimes("a write waited for a standby")
	}
	for i := range g.sync.promised {
		if p := &g.sync.promised[i]; p.br == n.server.br {
			p.at = max(p.at, at)
			return
		}
	}
	g.sync.promised = append(g.sync.promised, promise{n.server.br, at})
}

// kept (S3): n, which is becoming writable, has all that was promised.
func (g *ghost) kept(n *node) {
	s := &n.server
	if n.named || n.settings.Pause || n.deceived { // in a pause whoever leads does so by an operator's word or hand
		n.named, n.deceived = false, false
		g.unpromise()
	}
	if g.doubled { // by an operator's word, too: the others cannot tell two timelines of one number apart
		g.unpromise()
	}
	if len(g.sync.promised) > 0 && g.newest != n {
		g.w.sometimes("a standby took over what was acknowledged")
	}
	for _, p := range g.sync.promised {
		if s.br == p.br && p.at <= s.flush || s.br != p.br && s.br.has(p.br, p.at) {
			continue
		}
		g.w.fail("S3", "%s is writable on timeline %d at %d, and lacks what was acknowledged on timeline %d at %d", n.name, s.number(), s.flush, p.br.number, p.at)
	}
}

// meet (S5): every set of nodes that may acknowledge a write of the primary
// meets every set that may elect its successor. One that elects is a quorum of
// the voters and one more; the member of the voters that is elected counts.
func (g *ghost) meet() {
	p, key := g.newest, g.sync.key
	if p == nil || key == nil || key.Leader == "" || g.w.conf.Mode == "" || !p.server.acks() || g.excuses(p) || g.unsettled() || p.settings.Pause || !g.sync.noted[p.index] {
		return
	}
	if g.w.order().Open() { // nobody races before it is done (R2)
		return
	}
	y := &p.server.sync
	voters, listed, outside := 0, 0, 0 // voters but for the primary, those that it waits for, and others it waits for
	for _, n := range g.w.nodes {
		if n != p && key.Voter(n.name) {
			voters++
		}
	}
	for _, i := range y.nodes {
		switch {
		case i < 0:
		case key.Voter(g.w.nodes[i].name):
			listed++
		default:
			outside++
		}
	}
	if y.text != "" && listed+outside < y.count {
		return // nothing is acknowledged
	}
	without := voters - max(0, y.count-outside) // voters that may lack what is acknowledged
	if y.text == "" {
		without = voters
	}
	if without > key.Quorum {
		g.w.fail("S5", "%s waits for %q, and /sync lets %d voters that have nothing of it elect: leader %s, quorum %d, standbys %v", p.name, y.text, without, key.Leader, key.Quorum, key.Standbys)
	}
}
