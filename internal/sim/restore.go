package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// backup is a state of the cluster that the repository has.
type backup struct {
	br *branch
	at wal.LSN
}

// backup takes one of the primary now and then. A repository outlives all nodes.
func (w *world) backup() {
	if p := w.ghost.newest; p != nil && p.server.writable() {
		w.backups = append(w.backups, backup{br: p.server.br, at: p.server.flush})
	}
	w.after(7*sec, w.backup)
}

// order is the restore order as etcd has it, nil without one.
func (w *world) order() *dcs.Restore {
	kv, ok := w.srv.Get(base + "/" + string(dcs.KeyRestore))
	if !ok {
		return nil
	}
	r, err := dcs.DecodeRestore(kv.Value)
	if err != nil {
		w.fail("R4", "the restore order cannot be read: %v", err)
		return nil
	}
	r.ModRevision = kv.ModRevision
	return r
}

// orderRestore is the operator: it orders a restore from the leader, or takes
// an open order back.
func (w *world) orderRestore(r *rand.Rand) {
	which, cancel := r.IntN(1<<20), r.IntN(4) == 0
	leader, ok := w.srv.Get(base + "/leader")
	switch old := w.order(); {
	case old.Open() && cancel && w.copies(w.node(old.Member)) > 0:
		old.State, old.Error = dcs.RestoreFailed, "taken back"
		w.putOrder(old)
		w.ghost.unpromise() // what the restored server acknowledged before the order was done
	case old.Open() || !ok || len(w.backups) == 0:
	default:
		w.newOrder(string(leader.Value), which%len(w.backups))
	}
}

func (w *world) newOrder(member string, which int) {
	w.orders++
	w.putOrder(&dcs.Restore{ID: strconv.Itoa(w.orders), State: dcs.RestoreRequested, Member: member, Set: strconv.Itoa(which),
		SystemID: systemID, Target: dcs.RestoreTarget{Type: "immediate"}, Requested: time.Unix(1_800_000_000, w.now)})
}

func (w *world) putOrder(r *dcs.Restore) {
	w.trace(nil, "OPERATOR: restore order %s for %s: %s", r.ID, r.Member, r.State)
	_, _ = w.srv.Put(base+"/"+string(dcs.KeyRestore), r.Encode(), 0)
	w.pump()
	if r.State == dcs.RestoreFailed {
		w.after(sec, w.retryLost)
	}
}

// retryLost gives the order once more after a failure that left nobody a copy.
func (w *world) retryLost() {
	if r := w.order(); r != nil && r.State == dcs.RestoreFailed && w.copies(nil) == 0 {
		which, _ := strconv.Atoi(r.Set) // written by newOrder
		w.newOrder(r.Member, which)
	}
}

// rescue is the operator who finds, well after all faults healed, that a restore
// failed half-way, or was taken back when it was all but done, and that nobody may
// lead: what the other members have is from before the timeline that is gone. The
// repository has it, so it is ordered again. Or one that was promoted by an
// operator's word, and died before the others had followed it: the word is given
// again. Or an agent died between its claim to make the cluster and the first byte
// on its disk: the claim is taken back.
func (w *world) rescue() {
	if _, led := w.srv.Get(base + "/leader"); led {
		return
	}
	if r := w.order(); r != nil && r.State == dcs.RestoreFailed {
		if s := &w.node(r.Member).server; s.dir == ha.DataDirHalfMade && s.restoring || s.restored == r.ID {
			which, _ := strconv.Atoi(r.Set) // written by newOrder
			w.newOrder(r.Member, which)
			return
		}
	}
	if kv, ok := w.srv.Get(base + "/initialize"); ok && len(kv.Value) == 0 && !slices.ContainsFunc(w.nodes, func(n *node) bool { return n.server.dir != ha.DataDirEmpty }) {
		w.trace(nil, "OPERATOR: removes what is left of a cluster that was never made")
		w.srv.Delete(base + "/initialize")
		w.pump()
		return
	}
	for _, n := range w.nodes { // the order is gone with the etcd that had it
		if s := &n.server; s.dir == ha.DataDirHalfMade && s.restoring && !w.order().Open() && len(w.backups) > 0 {
			w.newOrder(n.name, len(w.backups)-1)
			return
		}
	}
	g := &w.ghost
	switch best := w.best(); {
	case slices.ContainsFunc(w.nodes, (*node).doubts): // whose agent did not run, or came back later
		w.accept()
		w.after(int64(w.plan.Config.TTL)*sec, w.rescue)
	case g.back.accepted && g.unsettled():
		w.after(g.settle(), w.rescue)
	case g.back.id != 0 && best != nil: // /sync and /failsafe are older ones, which name who has no copy any more
		if w.conf.Failsafe {
			w.conf.Failsafe = false
			w.configure()
		}
		w.request("", best.name, now)
	case g.sync.beside && g.newest != nil && w.conf.Mode != "":
		w.request("", g.newest.name, now)
	}
}

// best is who has most of those that run as standbys, nil if nobody does.
func (w *world) best() (best *node) {
	for _, n := range w.nodes {
		s := &n.server
		if s.dir == ha.DataDirPresent && s.proc == ha.ProcessRunning && (best == nil || s.number() > best.server.number() || s.number() == best.server.number() && s.flush > best.server.flush) {
			best = n
		}
	}
	return best
}

// copies is how many nodes have a whole data directory, except this one.
func (w *world) copies(except *node) int {
	count := 0
	for _, n := range w.nodes {
		if n != except && n.server.dir == ha.DataDirPresent {
			count++
		}
	}
	return count
}

// ask is the operator of one member: make it anew, or stop that.
func (n *node) ask(r *rand.Rand) {
	n.reinit = ha.Reinit{Serial: n.reinit.Serial + 1, Force: r.IntN(2) == 0, FromLeader: r.IntN(2) == 0}
	if r.IntN(3) == 0 {
		n.w.after(between(r, 100*ms, 2*sec), func() {
			if n.w.now < n.w.plan.Heal && n.op.Running && n.op.Kind == ha.OpClone {
				n.reinit = ha.Reinit{Serial: n.reinit.Serial + 1, Cancel: true}
				n.wake()
			}
		})
	}
	n.wake()
}

// tooOld: the WAL that pg_rewind would need is from long before the restore, and
// gone.
func (n *node) tooOld(from *server) bool {
	r := n.w.order()
	return r != nil && r.State == dcs.RestoreDone && n.server.number() < r.Timeline && from.number() >= r.Timeline && n.w.srvr.IntN(2) == 0
}

// held: an operator cancelled a copy here, and asked for nothing since.
func (n *node) held() bool { return n.loop != nil && n.loop.Memory().Reinit.Held }

// restore is the whole operation: stop, files from the repository, a recovery
// that nobody can connect to, start. What was interrupted is begun again; what
// was finished is not.
func (p operator) restore(r dcs.Restore) {
	n, s := p.n, &p.n.server
	if l := &n.leash; (l.armed == 0 || n.clock() >= l.deadline) && n.w.Mutant != "M33" {
		n.op.Interrupted = true
		n.finish(5*ms, func() string { return "the leadership ended before the restore began; nothing was changed" })
		return
	}
	n.w.ghost.restore(n, &r)
	which, err := strconv.Atoi(r.Set)
	if err != nil || which >= len(n.w.backups) {
		n.finish(5*ms, func() string { return "no such backup" })
		return
	}
	if s.restored == r.ID && s.dir == ha.DataDirPresent {
		n.op.Timeline = s.number()
		n.finish(5*ms, func() string { return "" })
		return
	}
	if s.dir == ha.DataDirPresent && s.proc != ha.ProcessDown {
		n.step(between(n.w.srvr, 50*ms, 500*ms), func() { // the newest WAL gets archived
			if n.w.now < n.w.plan.Heal && n.w.srvr.IntN(10) == 0 {
				n.end("the archive does not take WAL")
				return
			}
			s.shut(ha.StopFast)
			n.once(func() bool { return s.proc == ha.ProcessDown }, func() { p.files(r.ID, n.w.backups[which]) })
		})
		return
	}
	p.files(r.ID, n.w.backups[which])
}

func (p operator) files(id string, b backup) {
	n, s := p.n, &p.n.server
	s.dir, s.signal, s.crashed, s.restored = ha.DataDirHalfMade, false, false, ""
	s.restoring, s.making = true, false
	n.w.ghost.unpromise()
	n.w.ghost.sync.noted[n.index] = false // until /sync names it anew
	n.w.ghost.restored = nil              // it may go back to before the last one
	n.step(between(n.w.srvr, 300*ms, 3*sec), func() {
		if n.w.now < n.w.plan.Heal && n.w.srvr.IntN(8) == 0 && n.w.copies(n) > 0 {
			n.end("the repository is damaged")
			return
		}
		s.proc = ha.ProcessStarting
		s.gen++
		gen := s.gen
		n.step(between(n.w.srvr, 100*ms, 2*sec), func() {
			if s.gen != gen {
				n.end("the recovery was killed")
				return
			}
			s.down()
			number := n.w.newestTimeline() + 1
			s.br = &branch{number: number, parent: b.br, start: b.at}
			s.flush, s.written, s.known, s.point, s.up = b.at, b.at, number, number, ha.Upstream{}
			s.dir, s.control, s.restored = ha.DataDirPresent, "shut down", id
			n.w.ghost.newTimeline(n, s.br)
			n.w.trace(n, "SERVER: restored to %d on timeline %d", b.at, number)
			n.op.Timeline = number
			if err := s.start(true, ha.Upstream{}); err != nil {
				n.end(err.Error())
				return
			}
			n.once(func() bool { return s.proc != ha.ProcessStarting }, func() {
				if s.proc == ha.ProcessDown {
					n.end("the restored server did not come up")
					return
				}
				n.end("")
			})
		})
	})
}

// newestTimeline is the highest number in the archive.
func (w *world) newestTimeline() wal.Timeline {
	top := wal.Timeline(0)
	for number := range w.ghost.numbers {
		top = max(top, number)
	}
	return top
}

// step goes on with the running operation after d, unless it was cancelled: an agent
// that hangs goes on with nothing.
func (n *node) step(d int64, next func()) {
	serial := n.op.Serial
	n.w.after(d, func() {
		switch {
		case n.op.Serial != serial || !n.op.Running:
		case n.hung > n.w.now:
			n.step(n.hung-n.w.now, next)
		case n.opCancel:
			if n.server.dir == ha.DataDirHalfMade {
				n.server.crash("the recovery is cancelled")
			}
			n.end("cancelled")
		default:
			next()
		}
	})
}

// once goes on as soon as ok says so.
func (n *node) once(ok func() bool, next func()) {
	n.step(15*ms, func() {
		if !ok() {
			n.once(ok, next)
			return
		}
		next()
	})
}

// decided (R2): while an order is open, nobody takes the free leader key but
// the member it names, once the order can be seen.
func (g *ghost) decided(n *node, o *ha.Observation, d *ha.Decision) {
	if o.DCS.Cluster != nil {
		g.handsOver(n, o, d)
	}
	g.obeys(n, o, d)
	switch d.Reason {
	case ha.RestartRuns:
		g.restarts(n, o, &o.Restart.Now)
	case ha.RestartScheduled:
		g.restarts(n, o, &o.Restart.Scheduled)
	default: // no restart
	}
	if _, claims := d.Action.(ha.Claim); !claims || o.Memory.Lease.Epoch != 0 {
		return
	}
	f := o.DCS.Cluster.Failover
	n.paused = o.Settings.Pause
	n.named = f != nil && f.Candidate == n.name && (f.Leader == "" || o.Settings.Pause) // in pause any request is the operator's word
	if r := g.w.order(); r.Open() && !g.back.stale(r.ModRevision) && r.Member != n.name && o.DCS.Cluster.Revision >= r.ModRevision {
		g.w.fail("R2", "%s claims the leader key while %s is to restore the cluster", n.name, r.Member)
	}
}

// restore (R3): what must be true when a restore begins.
func (g *ghost) restore(n *node, r *dcs.Restore) {
	l := &n.leash
	switch {
	case l.armed == 0 || l.deadline <= n.clock() || revisionOf(l.armed) < g.lastSeen:
		g.w.fail("R3", "%s begins a restore with leash %+v, newest epoch %d", n.name, l.Status(), g.lastSeen)
	case n.server.dir == ha.DataDirHalfMade && n.server.proc != ha.ProcessDown:
		g.w.fail("R3", "%s begins a restore over a server that runs", n.name)
	}
	if now := g.w.order(); now != nil && now.ID == r.ID && now.Member != n.name {
		g.w.fail("R2", "%s carries out the order of %s", n.name, now.Member)
	}
}

// orderEnds: n's word on an order is in etcd.
func (g *ghost) orderEnds(n *node, value []byte) {
	r, err := dcs.DecodeRestore(value)
	if err != nil || r.Open() {
		g.w.fail("R4", "%s writes an order that is open: %s", n.name, value)
		return
	}
	g.w.trace(nil, "ETCD: restore order %s is %s %s", r.ID, r.State, r.Error)
	g.w.res.Faults[fmt.Sprintf("restore %s", r.State)]++
	if r.State == dcs.RestoreFailed {
		g.w.after(sec, g.w.retryLost)
		return
	}
	if n.server.restored != r.ID || n.server.number() < r.Timeline {
		g.w.fail("R1", "%s calls order %s done on timeline %d, having restored %q", n.name, r.ID, n.server.number(), n.server.restored)
	}
	g.restored, g.touched = n.server.br, true
	for g.restored.parent != nil && g.restored.number > r.Timeline {
		g.restored = g.restored.parent
	}
}
