package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// diskFacts are what costs a program to find out; they are kept while the
// control file does not change.
type diskFacts struct {
	changed   time.Time
	serial    int // bumped by every long action
	systemID  string
	control   ha.Control
	canRewind bool
	history   wal.History
	timeline  wal.Timeline
	when      time.Time
}

// Facts implements loop.Node.
func (n *node) Facts(ctx context.Context) ha.Postgres {
	for ctx.Err() == nil {
		done, serial := n.gather()
		select {
		case <-done:
			if f, current := n.seen(serial); current {
				f.Health = n.health.facts()
				return f
			} // an operation ended meanwhile: what was seen is from before
		case <-ctx.Done():
		}
	}
	f, looked := n.remembered()
	f.Known, f.Old, f.Health = false, n.behind(), n.health.facts()
	switch _, up := n.keeper.Running(); {
	case !looked:
		// Down and empty are the zero values, and claims: a leader whose agent was just
		// restarted would tell others that nothing of it is left.
		f.DataDir, f.Process = ha.DataDirPresent, ha.ProcessUnsure
	case !up:
		f.Process = ha.ProcessDown
	case f.Process == ha.ProcessDown: // started since the last look
		f.Process = ha.ProcessUnsure
	}
	return f
}

// remembered returns the facts gathered last, and whether there are any.
func (n *node) remembered() (f ha.Postgres, looked bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.facts, n.looked
}

// seen returns the facts gathered last, and whether no operation has ended since
// the one of that serial.
func (n *node) seen(serial int) (f ha.Postgres, current bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.facts, serial == n.disk.serial
}

// behind tells whether an operation has ended since the last look began.
func (n *node) behind() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.factsSerial != n.disk.serial
}

// gather returns a channel that is closed once facts are there, and the serial
// of the last operation they know of. A look that is under way is shared.
func (n *node) gather() (<-chan struct{}, int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.flight != nil {
		return n.flight, n.flightSerial
	}
	done := make(chan struct{})
	n.flight, n.flightSerial = done, n.disk.serial
	n.background(func(ctx context.Context) {
		f := n.look(ctx)
		n.mu.Lock()
		n.facts, n.looked, n.flight, n.factsSerial = f, true, nil, n.flightSerial
		n.mu.Unlock()
		close(done)
	})
	return done, n.flightSerial
}

// queryTimeout bounds the monitoring query.
const queryTimeout = 2 * time.Second

// look gathers everything anew.
func (n *node) look(ctx context.Context) ha.Postgres {
	var f ha.Postgres
	n.directory(&f)
	if f.DataDir == ha.DataDirPresent { // on a half-made one it is a method's own, for a moment
		n.keeper.takeOver(ctx)
	}
	n.process(&f)
	switch f.Process {
	case ha.ProcessDown:
		if f.DataDir == ha.DataDirPresent || f.DataDir == ha.DataDirHalfMade {
			n.readDisk(ctx, &f)
		}
	case ha.ProcessStarting, ha.ProcessRunning, ha.ProcessUnsure:
		n.query(ctx, &f)
		n.readDisk(ctx, &f)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	f.Since, f.Crashed = n.since, n.crashed
	f.Upstream, f.UpstreamURL = n.upstream.Member, n.upstream.ConnURL
	f.Frozen = n.frozen != 0 && n.frozen == n.pid && f.Process == ha.ProcessRunning
	f.PendingRestart = n.pending
	f.CheckpointPending = n.checkpoint == 1
	if n.stopping {
		f.Shutdown = n.shutdown
	}
	return f
}

func (n *node) directory(f *ha.Postgres) {
	d := n.srv.State()
	if last, looked := n.remembered(); looked && last.Process != ha.ProcessDown && exhausted(d.Err) {
		// It could not be looked at, and its server has it open: as it was.
		f.DataDir, f.StandbySignal, f.Problem = last.DataDir, last.StandbySignal, last.Problem
		f.HalfBootstrap, f.Resumable = last.HalfBootstrap, last.Resumable
		return
	}
	switch d.State {
	case postgres.DirEmpty:
		f.DataDir = ha.DataDirEmpty
	case postgres.DirPresent:
		f.DataDir = ha.DataDirPresent
		f.StandbySignal = n.srv.DiskRole() == postgres.RoleStandby
	case postgres.DirInProgress:
		f.DataDir = ha.DataDirHalfMade
		f.Problem = "an earlier " + string(d.Kind) + " of it was interrupted"
		f.HalfBootstrap, f.Resumable = d.Kind == postgres.KindBootstrap, d.Resumable
	case postgres.DirUnreadable:
		f.DataDir = ha.DataDirUnreadable
		if d.Err != nil {
			f.Problem = d.Err.Error()
		}
	}
}

// exhausted tells whether something failed because this process, or the host, has no
// more files or memory: that says nothing about what was looked for.
func exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// process looks at the postmaster and notices that it is another one than last time.
func (n *node) process(f *ha.Postgres) {
	pid, up := n.keeper.Running()
	n.mu.Lock()
	defer n.mu.Unlock()
	if pid != n.pid {
		n.crashed = n.pid != 0 && !n.stopping && !up
		n.pid, n.ready, n.stopping, n.since = pid, false, false, n.now()
		n.checkpoint, n.shutdown = 0, ha.ShutdownWAL{}
		n.pending, n.flagged = nil, false
	}
	switch {
	case !up:
		f.Process = ha.ProcessDown
	case n.stopping:
		f.Process = ha.ProcessUnsure
	case n.ready:
		f.Process = ha.ProcessRunning
	default:
		f.Process = ha.ProcessStarting
	}
}

func (n *node) query(ctx context.Context, f *ha.Postgres) {
	n.mu.Lock()
	stopping := n.stopping
	n.mu.Unlock()
	if stopping {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	lanes := n.slots.state() // before the slots: work that ends meanwhile still counts as under way
	st, err := n.srv.Status(ctx)
	if err != nil {
		n.log.Debug("monitoring query: " + err.Error())
		return
	}
	n.mu.Lock()
	ask := !n.ready || n.flagged != st.PendingRestart
	n.ready, n.flagged = true, st.PendingRestart
	if n.stopping { // asked to stop meanwhile
		n.mu.Unlock()
		return
	}
	n.mu.Unlock()
	if ask {
		n.background(n.askPending)
	}
	f.Process, f.Known = ha.ProcessRunning, true
	f.Row, f.SyncOwned = row(&st), n.srv.SyncNamesOwned()
	f.ServerVersion, f.PostmasterStartTime = st.ServerVersion, st.StartTime
	n.watchUnready(&st)
	f.Slots, f.SlotLanes, f.Feedback = n.slots.facts(st.Slots), lanes, n.srv.FeedbackForced()
	f.WALLevel, f.MaxSlots, f.SlotLimit = st.WALLevel, st.MaxSlots, st.SlotLimit
	f.WALVolume, _, _ = postgres.Volume(filepath.Join(n.config().Postgres.DataDir, "pg_wal")) // 0: unknown
	n.afterPromotion(f)
}

func row(st *postgres.Status) ha.Row {
	r := ha.Row{
		InRecovery: st.InRecovery, Timeline: st.Timeline, Position: st.FlushLSN,
		Receive: max(st.ReceiveLSN, st.WrittenLSN), Replay: st.ReplayLSN,
		LatestEnd: st.Receiver.LatestEndLSN, ReplayPaused: st.ReplayPaused, ReplayedTimestamp: st.ReplayedAt,
		SyncCommit: st.SyncCommit, SyncNames: st.SyncNames,
	}
	if st.InRecovery {
		r.Position = max(r.Receive, r.Replay)
		switch {
		case st.Receiver.State == "streaming":
			r.ReplicationState = "streaming"
		case st.RestoreCommand:
			r.ReplicationState = "in archive recovery"
		}
	}
	for _, p := range st.Replication {
		r.Replication = append(r.Replication, ha.Replication{
			User: p.User, ApplicationName: p.Application, ClientAddr: p.ClientAddr,
			State: p.State, SyncState: p.SyncState, SyncPriority: p.SyncPriority,
			SentLSN: p.SentLSN, WriteLSN: p.WriteLSN, FlushLSN: p.FlushLSN, ReplayLSN: p.ReplayLSN,
		})
	}
	return r
}

// afterPromotion makes the first checkpoint on a new timeline, beside the loop:
// pg_rewind of the others needs it.
func (n *node) afterPromotion(f *ha.Postgres) {
	if f.Row.InRecovery {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.checkpoint != 0 {
		return
	}
	if f.Row.Timeline <= 1 {
		n.checkpoint = 2
		return
	}
	n.checkpoint = 1
	pid := n.pid
	n.background(func(ctx context.Context) {
		done, err := n.srv.CheckpointAfterPromote(ctx)
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.pid != pid || n.checkpoint != 1 {
			return
		}
		n.checkpoint = 0 // not done: the next look tries again
		if err != nil {
			n.log.Warn("checkpoint after promotion: " + err.Error())
		} else if done {
			n.checkpoint = 2
			n.wake()
		}
	})
}

// readDisk fills in what programs and files tell, anew only when the control
// file changed (a stopped server) or once per server (a running one).
func (n *node) readDisk(ctx context.Context, f *ha.Postgres) {
	n.mu.Lock()
	d := n.disk
	n.mu.Unlock()
	running := f.Process != ha.ProcessDown
	dataDir := n.config().Postgres.DataDir
	st, err := os.Stat(filepath.Join(dataDir, "global", "pg_control"))
	if err == nil && (d.systemID == "" || !running && !st.ModTime().Equal(d.changed)) {
		if cd, err := n.srv.ControlData(ctx); err == nil {
			d.changed, d.systemID = st.ModTime(), cd.SystemID
			d.control = ha.Control{
				State: cd.State, Timeline: cd.CheckpointTLI, Checkpoint: cd.CheckpointLSN,
				MinRecoveryEnd: cd.MinRecoveryEnd, MinRecoveryEndTLI: cd.MinRecoveryTLI,
			}
			d.canRewind = n.config().Postgres.UsePgRewind && (cd.Checksums || cd.WalLogHints)
			if _, err := os.Stat(filepath.Join(dataDir, "backup_label")); err == nil {
				d.control.HasBackupLabel = true
			}
		} else {
			n.log.Warn(err.Error())
		}
	}
	if f.Known && !f.Row.InRecovery && f.Row.Timeline > 1 && d.timeline != f.Row.Timeline {
		if h, err := n.srv.LocalHistory(f.Row.Timeline); err == nil {
			d.timeline, d.history = f.Row.Timeline, h
			if st, err := os.Stat(filepath.Join(dataDir, "pg_wal", fmt.Sprintf("%08X.history", f.Row.Timeline))); err == nil {
				d.when = st.ModTime()
			}
		}
	}
	f.SystemID, f.Control, f.CanRewind = d.systemID, d.control, d.canRewind
	f.HistoryLocal, f.HistoryTime = d.history, d.when
	n.mu.Lock()
	if n.disk.serial == d.serial {
		n.disk = d
	}
	n.mu.Unlock()
}

// forgetDisk makes the next look read everything anew.
func (n *node) forgetDisk() {
	n.mu.Lock()
	n.disk = diskFacts{serial: n.disk.serial + 1}
	n.mu.Unlock()
}

// sample is the query behind restapi's positions.
func (n *node) sample(ctx context.Context) (ha.Sample, error) {
	s, err := n.srv.Sample(ctx)
	if err != nil {
		return ha.Sample{}, err
	}
	out := ha.Sample{
		InRecovery: s.InRecovery, Location: s.WriteLSN, Replayed: s.ReplayLSN,
		ReplayedTimestamp: s.ReplayedAt, ReplayPaused: s.ReplayPaused, At: n.now(),
	}
	if s.InRecovery {
		out.Location = 0
		for _, at := range []wal.LSN{s.WrittenLSN, s.ReceiveLSN, s.ReplayLSN} {
			if out.Received == 0 {
				out.Received = at
			}
		}
	}
	return out, nil
}
