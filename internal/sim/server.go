package sim

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

const systemID = "7700000000000000001"

// branch is one timeline. Two branches may carry one number (P13): only the
// pointer tells them apart.
type branch struct {
	number wal.Timeline
	parent *branch
	start  wal.LSN // where it left the parent
}

// has tells whether a position of branch x lies in the history of b.
func (b *branch) has(x *branch, at wal.LSN) bool {
	limit := ^wal.LSN(0)
	for ; b != nil; b = b.parent {
		if b == x {
			return at <= limit
		}
		limit = min(limit, b.start)
	}
	return false
}

// common returns the last position that b and x share.
func (b *branch) common(x *branch, at wal.LSN) (*branch, wal.LSN) {
	for ; x != nil; x = x.parent {
		limit := ^wal.LSN(0)
		for y := b; y != nil; y = y.parent {
			if y == x {
				return x, min(at, limit)
			}
			limit = min(limit, y.start)
		}
		at = min(at, x.start)
	}
	return nil, 0
}

func (b *branch) history() wal.History {
	if b == nil || b.parent == nil {
		return nil
	}
	return append(b.parent.history(), wal.Switch{Timeline: b.parent.number, LSN: b.start, Reason: "no recovery target specified"})
}

// server models one PostgreSQL: its data directory, its processes, its WAL.
type server struct {
	n *node

	// On disk.
	dir     ha.DataDir
	making  bool // dir is half-made by a bootstrap
	signal  bool // standby.signal
	control string
	br      *branch
	written wal.LSN
	flush   wal.LSN
	known   wal.Timeline // highest number of any history file seen
	point   wal.Timeline // timeline of the last checkpoint
	up      ha.Upstream
	// restored is the last restore order that was carried out here.
	restored  string
	restoring bool // what is half made is a restore

	sync syncRep

	// Running.
	conn      int // of the WAL receiver
	proc      ha.Process
	gen       int // of the processes: what belongs to dead ones is void
	recovery  bool
	closed    bool // a new cluster that lets no clients in yet
	stopping  bool
	dying     bool   // killed, but held by its disk
	started   string // when, as SQL prints it
	shutdown  ha.ShutdownWAL
	streaming bool
	frozen    int // the processes, by gen, whose WAL receiver was ended for good
	crashed   bool
	// orphans is until when backends of a dead postmaster go on (safety P1).
	orphans int64
	byHand  bool // somebody started it, in pause
	// unguarded: it was made writable in pause or by that hand, and the leash was not
	// armed since.
	unguarded bool
	// unsure: when the promotion began, nobody could know which numbers of timelines
	// are taken; a disk that hangs may delay its end.
	unsure bool
}

func (s *server) writable() bool {
	return s.proc == ha.ProcessRunning && !s.recovery && !s.closed && !s.stopping
}

// acks tells whether anything here can still acknowledge a write.
func (s *server) acks() bool { return s.writable() || s.orphaned() }

// orphaned: with its backends about, a server counts as not yet stopped (P7).
func (s *server) orphaned() bool { return s.orphans > s.n.w.now }

// beheaded is the end of a postmaster alone. Its backends go on for as long as
// their calls last, at most for; the leash, its parent, sweeps them up.
func (s *server) beheaded(last int64) {
	n, writable, unguarded := s.n, s.writable(), s.unguarded
	if s.proc == ha.ProcessDown {
		return
	}
	s.crash("its postmaster is gone")
	if !writable {
		return
	}
	s.orphans, s.unguarded = n.w.now+last, unguarded // until the next start
	n.w.sometimes("backends outlived their postmaster")
	end := func() {
		s.orphans = min(s.orphans, n.w.now)
		n.wake()
	}
	n.w.at(s.orphans, end)
	sweep := n.w.now + between(n.w.srvr, ms, 50*ms)
	if n.leash.hung > n.w.now {
		sweep = n.leash.hung
	}
	if !n.leash.gone && !n.leash.sparing {
		n.w.at(sweep, end)
	}
}

// startByHand is pg_ctl, past the leash.
func (s *server) startByHand(primary bool) {
	n := s.n
	if s.proc != ha.ProcessDown || s.dir != ha.DataDirPresent || s.orphaned() || s.signal == primary {
		return
	}
	n.w.trace(n, "OPERATOR: starts the server, primary %v", primary)
	s.run(primary)
	s.byHand = true
}

// Facts implements loop.Node.
func (s *server) Facts(ctx context.Context) ha.Postgres {
	n := s.n
	pg := ha.Postgres{DataDir: s.dir, CanRewind: true, Process: s.proc}
	if n.slowFacts > n.w.now && s.proc != ha.ProcessDown {
		n.sleep(n.w.budget(ctx))
		pg.Process = ha.ProcessUnsure
		if s.proc == ha.ProcessDown {
			pg.Process = ha.ProcessDown
		}
	} else {
		n.sleep(between(n.w.net, ms, 3*ms))
		pg.Process = s.proc
		pg.Known = s.proc == ha.ProcessRunning
	}
	if s.orphaned() || s.stopping {
		pg.Process, pg.Known = ha.ProcessUnsure, false
	}
	pg.Health = ha.Health{Connect: n.deaf.check, Data: n.disk.check}
	pg.Shutdown = s.shutdown
	pg.DataDir = s.dir
	if s.dir != ha.DataDirPresent {
		pg.Problem, pg.HalfBootstrap = "an interrupted copy", s.making && s.dir == ha.DataDirHalfMade
		if pg.HalfBootstrap && s.br != nil {
			pg.SystemID = systemID
		}
		return pg
	}
	pg.SystemID, pg.StandbySignal, pg.Crashed = systemID, s.signal, s.crashed
	pg.Control = ha.Control{State: s.control, Timeline: s.br.number, Checkpoint: s.flush}
	pg.Upstream, pg.UpstreamURL = s.up.Member, s.up.ConnURL
	pg.Frozen = s.frozen != 0 && s.frozen == s.gen
	if !pg.Known {
		return pg
	}
	pg.ServerVersion, pg.PostmasterStartTime = 150020, s.started
	pg.Row = ha.Row{InRecovery: s.recovery, Timeline: s.br.number, Position: s.flush, SyncCommit: "on", SyncNames: s.sync.text}
	pg.SyncOwned = s.sync.value != nil
	if n.settings.Mode != "" {
		pg.Row.Replication = s.replication()
	}
	if s.recovery {
		pg.Row.Receive, pg.Row.Replay = s.flush, s.flush
		if s.streaming {
			pg.Row.ReplicationState = "streaming"
		}
		return pg
	}
	pg.CheckpointPending = s.point != s.br.number
	pg.HistoryLocal, pg.HistoryTime = s.br.history(), time.Unix(1_800_000_000, 0)
	return pg
}

// Follow implements loop.Node.
func (s *server) Follow(_ context.Context, up ha.Upstream) error {
	s.n.reach(before(effFollow))
	s.n.sleep(between(s.n.w.net, ms, 10*ms))
	s.n.reach(after(effFollow))
	if s.proc != ha.ProcessRunning || !s.recovery {
		return errors.New("follow: the server is no running standby")
	}
	if up.Member != s.up.Member {
		s.conn++
	}
	s.up, s.frozen = up, 0
	return nil
}

// Freeze implements loop.Node: the receiver ends, and with it its connection.
func (s *server) Freeze(ctx context.Context) error {
	if err := s.Follow(ctx, ha.Upstream{}); err != nil {
		return err
	}
	s.streaming, s.frozen = false, s.gen
	return nil
}

// ResumeReplay implements loop.Node.
func (s *server) ResumeReplay(context.Context) error { return nil }

// SyncSlots implements loop.Node.
func (s *server) SyncSlots(ha.SyncSlots) {}

// MoveAside implements loop.Node.
func (s *server) MoveAside(context.Context) error {
	s.dir = ha.DataDirEmpty
	return nil
}

// FinishBootstrap implements loop.Node.
func (s *server) FinishBootstrap(context.Context) error {
	s.dir, s.making = ha.DataDirPresent, false
	s.n.w.ghost.bootstrap(s.n, s.br)
	return nil
}

// crash ends all processes at once; what was not flushed is gone.
func (s *server) crash(why string) {
	if s.proc == ha.ProcessDown {
		return
	}
	if s.n.hangs() { // no process ends before its I/O has
		s.n.w.trace(s.n, "SERVER: %s, and held by its disk", why)
		s.dying, s.stopping = true, true
		s.n.w.sometimes("a server outlived its kill, held by its disk")
		return
	}
	s.n.w.trace(s.n, "SERVER: %s (timeline %d at %d)", why, s.number(), s.flush)
	s.written, s.crashed = s.flush, true
	s.down()
}

func (s *server) number() wal.Timeline {
	if s.br == nil {
		return 0
	}
	return s.br.number
}

func (s *server) down() {
	s.proc, s.streaming, s.stopping, s.closed, s.unguarded = ha.ProcessDown, false, false, false, false
	s.gen++
	s.n.astray = false
	s.dying, s.unsure, s.shutdown = false, false, ha.ShutdownWAL{}
	if s.n.deaf.until > 0 {
		s.n.cure(&s.n.deaf)
	}
	clear(s.sync.heard)
	s.sync.waiting, s.sync.strict = nil, false
	s.n.w.ghost.touched = true
	s.n.wake()
}

// later runs f after d of true time, unless the processes of now are gone then.
func (s *server) later(d int64, f func()) {
	gen := s.gen
	s.n.w.after(d, func() {
		if s.gen == gen {
			f()
		}
	})
}

// start is what the leash does with a request to start postgres.
func (s *server) start(primary bool, up ha.Upstream) error {
	n := s.n
	n.w.ghost.start(n, primary)
	switch {
	case n.leash.gone || n.leash.hung > n.w.now:
		return errNoLeash
	case s.proc != ha.ProcessDown:
		return errors.New("start: it runs already")
	case s.orphaned():
		return errors.New("start: pre-existing shared memory block is still in use")
	case s.dir != ha.DataDirPresent:
		return errors.New("start: no data directory")
	case primary && (n.leash.armed == 0 || s.signal):
		return errors.New("start: the leash is not armed")
	}
	if !primary {
		s.signal, s.up = true, up
	}
	s.sync.write(&n.settings, primary)
	s.run(primary)
	return nil
}

// run begins the processes of a server.
func (s *server) run(primary bool) {
	n := s.n
	s.proc, s.recovery, s.crashed, s.closed, s.byHand, s.unguarded = ha.ProcessStarting, !primary, false, false, false, false
	s.gen++
	s.started = strconv.FormatInt(n.w.now, 10)
	s.inForce(s.sync.file)
	s.later(n.delay(between(n.w.srvr, 50*ms, 900*ms)), func() {
		if n.w.srvr.Float64() < n.w.plan.BadStart || n.full() {
			s.crash("did not come up")
			return
		}
		s.proc = ha.ProcessRunning
		s.control = "in archive recovery"
		if !s.recovery {
			s.control, s.point = "in production", s.br.number // recovery ends with a checkpoint
			n.w.ghost.open(n)
		}
		n.wake()
	})
}

// open lets clients into a new cluster.
func (s *server) open() {
	if s.closed {
		s.closed = false
		s.n.w.ghost.open(s.n)
	}
}

// quit is an immediate stop; what hears no signal till then is killed after limit.
func (s *server) quit(limit int64) {
	last := between(s.n.w.srvr, 20*ms, 100*ms)
	if left := s.n.deaf.until - s.n.w.now; left > 0 {
		last += min(limit, left)
	}
	s.later(last, func() { s.crash("stopped immediately") })
}

// shut is a stop in the given mode.
func (s *server) shut(mode ha.StopMode) {
	n := s.n
	if s.proc == ha.ProcessDown {
		return
	}
	if mode != ha.StopFast {
		s.quit(sec)
		return
	}
	if wait := n.deaf.until - n.w.now; wait > 0 { // the signal is heard then
		s.later(wait, func() { s.shut(mode) })
		return
	}
	clean := s.proc == ha.ProcessRunning
	s.later(between(n.w.srvr, ms, 30*ms), func() { s.stopping = true })
	last := between(n.w.srvr, 60*ms, 600*ms)
	if n.w.srvr.Float64() < n.w.plan.SlowStop {
		last = between(n.w.srvr, sec, 15*sec)
	}
	last = n.delay(last)
	if clean && !s.recovery { // then a walsender or the archiver may hold it up
		s.later(last/2, func() {
			s.shutdown = ha.ShutdownWAL{Checkpoint: s.written, Publish: s.written}
			s.written += 100 // the shutdown checkpoint, which standbys that stream still get
			s.flush = s.written
			s.point = s.br.number
			for _, other := range n.w.nodes {
				if other.server.streaming && other.server.up.Member == n.name {
					other.server.receive(s, s.flush)
				}
			}
			n.wake()
		})
	}
	s.later(last, func() {
		switch {
		case !clean:
		case s.recovery:
			s.control = "shut down in recovery"
		default:
			s.control = "shut down"
		}
		n.w.trace(n, "SERVER: stopped (%s, timeline %d at %d)", s.control, s.number(), s.flush)
		s.down()
	})
}

// promote ends recovery on a timeline with the number after the highest known, and
// not below next.
func (s *server) promote(next wal.Timeline) {
	n := s.n
	s.later(n.delay(between(n.w.srvr, 50*ms, 500*ms)), func() {
		if s.proc != ha.ProcessRunning || !s.recovery || s.stopping {
			return
		}
		s.known = max(max(s.known, s.br.number)+1, next)
		old := s.br
		s.br = &branch{number: s.known, parent: old, start: s.flush}
		n.w.trace(n, "SERVER: promoted to timeline %d at %d", s.known, s.flush)
		s.recovery, s.signal, s.streaming, s.control, s.up = false, false, false, "in production", ha.Upstream{}
		n.w.ghost.newTimeline(n, s.br)
		n.w.ghost.open(n)
		s.later(between(n.w.srvr, 10*ms, 2*sec), func() {
			if !s.recovery {
				s.point = s.br.number
				n.wake()
			}
		})
		n.wake()
	})
}

// write is the clients' load: each commit is flushed, then acknowledged.
func (s *server) write() {
	n := s.n
	n.w.after(between(n.w.srvr, 50*ms, 250*ms), s.write)
	if !s.acks() || n.off || n.hangs() {
		return
	}
	if n.full() {
		s.crash("PANIC: no space left on device")
		return
	}
	s.commit(wal.LSN(n.w.srvr.Int64N(200)))
	s.written += wal.LSN(n.w.srvr.Int64N(50)) // not flushed yet: lost in a crash
}

// replicate is the WAL receiver.
func (s *server) replicate() {
	n := s.n
	n.w.after(between(n.w.srvr, 50*ms, 250*ms), s.replicate)
	was := s.streaming
	s.streaming = false
	if n.off || s.proc != ha.ProcessRunning || !s.recovery || s.stopping || n.full() {
		return
	}
	if n.hangs() {
		s.streaming = was // nothing of it gets to the disk
		return
	}
	from := n.w.node(s.up.Member)
	if from == nil || from == n || !n.w.linked(n, from) || from.server.proc != ha.ProcessRunning {
		return
	}
	if s.receive(&from.server, from.server.flush) {
		s.streaming = true
		if !was {
			s.conn++
			n.wake()
		}
		s.reply(&from.server)
	}
}

// receive takes the WAL of up to the position at, if the own WAL is part of it.
func (s *server) receive(up *server, at wal.LSN) bool {
	if s.n.hangs() || s.n.full() {
		return false
	}
	same := up.br.has(s.br, s.flush)
	if !same || at < s.flush {
		return same && up.br == s.br
	}
	s.n.w.ghost.touched = s.n.w.ghost.touched || s.br != up.br
	s.br, s.known = up.br, max(s.known, up.known)
	s.flush, s.written = at, at
	return true
}
