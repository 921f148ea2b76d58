package sim

import (
	"encoding/json"
	"math/rand/v2"

	"github.com/pgha/pgha/pkg/dcs/mem"
	"github.com/pgha/pgha/pkg/ha"
)

// snapshot is a copy of etcd that an operator keeps.
type snapshot struct {
	backup   mem.Backup
	revision int64
}

// snapshots takes one now and then.
func (w *world) snapshots() {
	if _, there := w.srv.Get(base + "/config"); there && len(w.saved) < 20 {
		w.saved = append(w.saved, snapshot{w.srv.Backup(), w.srv.Revision()})
	}
	w.after(11*sec, w.snapshots)
}

// restoreEtcd stops etcd for d and puts it back to an older snapshot, as the same
// cluster or as another one. Some operators say afterwards that this is the truth
// now, whatever the members believe.
func (w *world) restoreEtcd(r *rand.Rand, d int64) {
	which, same, word := r.IntN(1<<20), r.IntN(2) == 0, between(r, 0, 3*d)
	if len(w.saved) == 0 || w.restoring || w.now+d >= w.plan.Heal { // the last faults end then
		return
	}
	w.restoring = true
	w.etcdDown(true)
	w.after(d, func() {
		w.restoring = false
		s, id := w.saved[which%len(w.saved)], w.etcdID()
		if !same || s.revision > w.srv.Revision() {
			id += 1000
		}
		w.goBack(s, id)
		w.etcdDown(false)
		if r.IntN(2) == 0 {
			w.after(word, w.accept)
		}
	})
}

// goBack replaces what etcd holds.
func (w *world) goBack(s snapshot, id uint64) {
	g, was := &w.ghost, w.conf
	w.trace(nil, "OPERATOR: etcd is restored from revision %d to %d, cluster %d", w.srv.Revision(), s.revision, id)
	g.wentBack(id, s.revision)
	w.srv.Restore(s.backup, id)
	if kv, ok := w.srv.Get(base + "/leader"); ok {
		g.lastSeen = kv.CreateRevision
	}
	if kv, ok := w.srv.Get(base + "/config"); ok {
		w.conf = settings{}
		_ = json.Unmarshal(kv.Value, &w.conf) // written by configure, or by an agent from the same settings
	}
	if was.Pause && !w.conf.Pause {
		g.resumed = w.now
	}
	if was.Mode != w.conf.Mode {
		g.unpromise()
	}
	w.pump()
	for _, n := range w.nodes {
		n.redeliver()
	}
}

// doubts tells whether n is in quarantine.
func (n *node) doubts() bool { return n.loop != nil && n.loop.Memory().Quarantine.Why != "" }

// accept is the operator's word to every member that is in doubt.
func (w *world) accept() {
	for _, n := range w.nodes {
		if !n.doubts() {
			continue
		}
		w.trace(n, "OPERATOR: accepts what etcd holds")
		w.sometimes("an operator accepted an etcd that went back")
		w.ghost.giveUp()
		w.ghost.back.accepted, w.ghost.back.since = true, w.now
		n.accepted.Serial++
		n.word = true
		n.wake()
	}
}

// wentBack is what the ghost knows of an etcd that went back (S11).
type wentBack struct {
	id       uint64 // since then; 0: it did not
	revision int64  // that it went back to
	listed   []byte // /failsafe before
	knew     [8]ha.Seen
	// noticed are those who looked and were sure, first is when they had the first
	// look: one etcd member may give a stale answer.
	noticed [8]bool
	first   [8]ha.Instant
	// by is whose round or claim etcd had last. republished: it had one since.
	// accepted: an operator said that what etcd holds is the truth.
	by                    *node
	republished, accepted bool
	since                 int64 // of the last of these, or of going back
}

func (g *ghost) wentBack(id uint64, revision int64) {
	g.back = wentBack{id: id, revision: revision, listed: g.listed(), since: g.w.now}
	for _, n := range g.w.nodes {
		g.back.knew[n.index] = known(n.seen, ha.Quarantine{}, id)
		if n.loop != nil {
			m := n.loop.Memory()
			g.back.knew[n.index] = known(m.Seen, m.Quarantine, id)
			g.back.accepted = g.back.accepted || m.AcceptSeen != n.accepted.Serial // the word is for the next look
		}
	}
	clear(g.requests)
	clear(g.handed)
	clear(g.sync.noted[:])
	g.sync.key, g.sync.revision, g.lastSeen = nil, 0, 0
}

// known is what a member can compare the etcd with this id with. One that is in doubt
// already, about this very etcd, notices a second return only by what it saw since.
func known(s ha.Seen, q ha.Quarantine, id uint64) ha.Seen {
	switch d := s.Doubt; {
	case q.Why != "" && q.Etcd == id:
		return ha.Seen{ClusterID: id, Revision: q.Newest}
	case q.Why == "" && d.Why != "" && d.Etcd == id: // the agent was started anew, and had no look yet
		return ha.Seen{ClusterID: id, Revision: d.Revision}
	}
	return s
}

// giveUp is for what an operator gives up with the word.
func (g *ghost) giveUp() {
	g.unpromise()
	g.restored = nil
}

// forget is for an agent that starts: that it was sure is on its disk, not that it
// was in doubt. Where revisions have caught up under the same cluster id, it cannot
// tell any more.
func (b *wentBack) forget(n *node) {
	b.noticed[n.index], b.first[n.index], b.knew[n.index] = b.noticed[n.index] && n.seen.Doubt.Why != "", 0, known(n.seen, ha.Quarantine{}, b.id)
}

// stale tells whether a key is from before etcd went back.
func (b *wentBack) stale(revision int64) bool { return b.id != 0 && revision <= b.revision }

// settled tells whether the keys are those of the present again.
func (b *wentBack) settled() bool { return b.id == 0 || b.accepted || b.republished }

// unsettled: or there was no time yet to put all of them right.
func (g *ghost) unsettled() bool {
	return g.back.id != 0 && (!g.back.settled() || g.w.now < g.back.since+g.settle())
}

// blind tells whether n cannot know that etcd went back: it never saw anything newer.
func (b *wentBack) blind(n *node) bool { return b.id != 0 && !b.noticed[n.index] }

// deceives tells whether n takes the keys of an etcd that went back for those of the
// present, and cannot know better: it was not there meanwhile, saw nothing newer, or
// not for long enough to tell it from a stale answer. Whoever led since may go on
// beside it up to its deadline, and what that one acknowledged may be lost.
func (g *ghost) deceives(n *node) bool {
	published := g.back.republished && (g.w.conf.Mode == "" || !g.back.stale(g.sync.revision))
	if !g.back.blind(n) || published {
		return false
	}
	g.w.sometimes("a member could not know that etcd had gone back, and took the lead")
	g.beside = g.w.now + int64(max(g.w.plan.Config.TTL, n.settings.TTL))*sec
	return true
}

// renewed: n goes on with a leadership of before etcd went back, as the key is its own.
func (g *ghost) renewed(n *node, epoch int64) {
	if g.back.stale(epoch) && g.deceives(n) {
		n.deceived = true
	}
}

// obeys (S11): nobody who could tell acts on the keys of an etcd that went back.
func (g *ghost) obeys(n *node, o *ha.Observation, d *ha.Decision) {
	b := &g.back
	if before := &o.Memory.Quarantine; n.word && before.Word && d.Memory.Quarantine.Why == "" && d.Memory.Seen.Count != o.Memory.Seen.Count { // it takes effect
		g.giveUp()
		b.accepted, b.since = true, g.w.now
	}
	if b.id == 0 || !o.DCS.Fresh || o.DCS.Cluster.ID != g.w.etcdID() {
		return
	}
	c, knew := o.DCS.Cluster, &b.knew[n.index]
	other := c.ID != knew.ClusterID
	shows := knew.ClusterID != 0 && (other || c.Revision < knew.Revision)
	switch first := &b.first[n.index]; {
	case !shows:
		*first = 0
	case *first == 0:
		*first = n.clock()
	}
	if shows && (other || n.clock().Sub(b.first[n.index]) >= o.Settings.TTL) && !b.noticed[n.index] {
		b.noticed[n.index] = true
		g.w.sometimes("a member was sure that etcd went back")
	}
	if b.publishes(); b.settled() || !shows && !b.noticed[n.index] {
		return
	}
	switch a := d.Action.(type) {
	case ha.Promote, ha.Rewind, ha.Restore, ha.Bootstrap:
	case ha.Clone:
		if n.server.dir != ha.DataDirPresent {
			return
		}
	case ha.Claim:
		if n.server.writable() {
			return
		}
	case ha.WriteInitialize:
		if a.SystemID != "" {
			return
		}
	default:
		return
	}
	g.w.fail("S11", "%s decides for %s on keys of an etcd that went back to revision %d", n.name, verb(d.Action), b.revision)
}

// publishes: who leads in the present etcd has told so, by a round or claim since it
// went back. Whether its server runs, the others take from its member key, which may
// be from before: that much is not checked yet.
func (b *wentBack) publishes() {
	if n := b.by; n != nil && !b.republished {
		b.republished, b.since = true, n.w.now
	}
}

// revisionOf is the epoch as etcd has it, of one as the leash counts it.
func revisionOf(epoch int64) int64 { return epoch & (1<<48 - 1) }

// etcdID is the cluster id that etcd has now.
func (w *world) etcdID() uint64 { return max(w.ghost.back.id, 1) }

// keep writes what the agent of n has seen to its disk: the revision only now and
// then.
func (n *node) keep(s ha.Seen) {
	same := s
	same.Revision = n.seen.Revision
	if same != n.seen || n.kept+10*sec <= n.w.now {
		n.seen, n.kept = s, n.w.now
	}
}
