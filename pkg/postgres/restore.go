package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// RepositoryBootstrap is bootstrap.pgbackrest and bootstrap.pg_hba.
type RepositoryBootstrap struct {
	Stanza string // "" ours; another cluster's is allowed
	Set    string // label; "" the newest that lies before the target
	Target RecoveryTarget
	HBA    []string // appended to pg_hba.conf
	// Segment (may be nil) gets the WAL segment being replayed.
	Segment func(segment string)
}

// RepositoryBootstrapOf reads the bootstrap section.
func RepositoryBootstrapOf(b config.Bootstrap) RepositoryBootstrap {
	r := b.Repository
	return RepositoryBootstrap{
		Stanza: r.Stanza, Set: r.Set, HBA: b.PGHBA,
		Target: RecoveryTarget{Type: r.TargetType, Value: r.Target, Timeline: r.TargetTimeline, Exclusive: r.TargetExclusive},
	}
}

// BootstrapFromRepository makes a new cluster out of a backup, in an empty
// directory or in one where it was interrupted before, and starts it as a
// primary. Like Initdb it leaves the marker to PostBootstrap.
func (s *Server) BootstrapFromRepository(ctx context.Context, o RepositoryBootstrap, progress func(method string, done, total int64)) error {
	if err := s.bootstrapFromRepository(ctx, o, progress); err != nil {
		return fmt.Errorf("bootstrap from the repository: %w", err)
	}
	return nil
}

func (s *Server) bootstrapFromRepository(ctx context.Context, o RepositoryBootstrap, progress func(string, int64, int64)) error {
	if err := o.Target.Validate(); err != nil {
		return err
	}
	d := s.State()
	if d.State != DirEmpty && !d.Resumable {
		return fmt.Errorf("%w: %s", errors.Join(ErrNotEmpty, d.Err), s.config().DataDir)
	}
	if err := s.endLeftover(ctx, d); err != nil {
		return err
	}
	r := Recovery{Target: o.Target, Stanza: o.Stanza, Bootstrap: true, Progress: o.Segment}
	note := repair{Purpose: purposeBootstrap, Method: config.NativeMethod, Phase: phaseFiles}
	if d.Resumable {
		note, _ = s.loadRepair()
		s.log.Info("going on with the interrupted bootstrap", "phase", note.Phase, "set", note.Set)
	}
	if note.Phase == phaseReplay {
		if err := s.Recover(ctx, r); !errors.Is(err, errTorn) {
			return err
		}
	}
	set, err := s.chooseRestoreSet(ctx, o.Stanza, or(o.Set, note.Set), o.Target, "")
	if err != nil {
		return err
	}
	note.Set, note.Phase, note.Attempts = set, phaseFiles, note.Attempts+1
	if err := s.saveRepair(note); err != nil {
		return err
	}
	if err := s.Begin(KindBootstrap, false); err != nil {
		return err
	}
	if err := s.putFiles(ctx, RestoreFiles{Stanza: o.Stanza, Set: set}, progress); err != nil {
		return err
	}
	if err := s.appendHBA(o.HBA); err != nil {
		return err
	}
	// The leash demands the marker in the directory for a first start.
	if err := s.Begin(KindBootstrap, true); err != nil {
		return err
	}
	return s.Recover(ctx, r)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// endLeftover stops the private server of an interrupted recovery.
func (s *Server) endLeftover(ctx context.Context, d DataDir) error {
	if _, ok := s.Running(); !ok {
		return nil
	}
	if !d.Resumable {
		return ErrRunning
	}
	ctx, cancel := context.WithTimeout(ctx, privateStop)
	defer cancel()
	return s.Stop(ctx, StopImmediate, false)
}

// putFiles restores the files of a set over what is in the directory, which is
// under its marker, and puts our configuration files back.
func (s *Server) putFiles(ctx context.Context, o RestoreFiles, progress func(string, int64, int64)) error {
	if err := os.MkdirAll(s.config().DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := s.dropStalePid(); err != nil {
		return err
	}
	s.log.Info("restoring files from the repository", "set", o.Set)
	err := s.RestoreFiles(ctx, o, func(done, total int64) {
		if progress != nil {
			progress(config.NativeMethod, done, total)
		}
	})
	if err != nil {
		return err
	}
	return s.restoreConfBackups()
}

// RestoreOrder is one order to set the cluster back to an earlier state.
type RestoreOrder struct {
	ID       string
	Stanza   string // "" ours
	Set      string // label; "" the newest that lies before the target
	Target   RecoveryTarget
	SystemID string // of the cluster the order was given for
	Force    bool   // go on although the newest WAL could not be archived
	// Segment (may be nil) gets the WAL segment being replayed.
	Segment func(segment string)
}

// archiveWait bounds the wait for the newest WAL to reach the archive.
const archiveWait = 60 * time.Second

// RestoreInPlace sets this server back: it archives the newest WAL, stops,
// restores the files over the present ones, recovers to the target and starts
// as a primary on the timeline it returns. Until the first file is changed an
// error leaves the directory as it was, State then says DirPresent, and the
// caller may start the server again. Later errors leave it half made. Killed
// or cancelled on the way, it goes on when called again with the same order.
func (s *Server) RestoreInPlace(ctx context.Context, o RestoreOrder, progress func(method string, done, total int64)) (wal.Timeline, error) {
	tl, err := s.restoreInPlace(ctx, o, progress)
	if err != nil {
		return tl, fmt.Errorf("restore to %s: %w", o.Target, err)
	}
	return tl, nil
}

func (s *Server) restoreInPlace(ctx context.Context, o RestoreOrder, progress func(string, int64, int64)) (wal.Timeline, error) {
	if err := o.Target.Validate(); err != nil {
		return 0, err
	}
	d := s.State()
	note, ok := s.loadRepair()
	mine := ok && note.Purpose == purposeRestore && note.Order == o.ID
	switch {
	case mine && note.Phase == phaseDone && d.State == DirPresent:
		return note.Timeline, s.startAgain(ctx)
	case d.Resumable && mine:
		s.log.Info("going on with the interrupted restore", "order", o.ID, "phase", note.Phase, "set", note.Set)
	case d.State == DirPresent, d.State == DirInProgress && d.Kind == KindRestore:
		note = repair{Purpose: purposeRestore, Order: o.ID, Method: config.NativeMethod, Phase: phaseFiles}
	default:
		return 0, fmt.Errorf("%w: the data directory is %s", errors.Join(ErrNotStartable, d.Err), d.State)
	}
	if d.State == DirInProgress {
		if err := s.endLeftover(ctx, DataDir{Resumable: true}); err != nil {
			return 0, err
		}
	}
	r := Recovery{Target: o.Target, Stanza: o.Stanza, Progress: o.Segment, order: o.ID}
	if note.Phase == phaseReplay {
		if err := s.Recover(ctx, r); !errors.Is(err, errTorn) {
			return s.restored(ctx, err)
		}
	}
	set, err := s.chooseRestoreSet(ctx, o.Stanza, or(o.Set, note.Set), o.Target, o.SystemID)
	if err != nil {
		return 0, err
	}
	if d.State == DirPresent {
		if err := s.leaveForRestore(ctx, o); err != nil {
			return 0, err
		}
	}
	note.Set, note.Phase, note.Attempts = set, phaseFiles, note.Attempts+1
	if err := s.restoreOver(ctx, note, o, progress); err != nil {
		return 0, err
	}
	return s.restored(ctx, s.Recover(ctx, r))
}

// startAgain is for an order that was carried out already.
func (s *Server) startAgain(ctx context.Context) error {
	res, err := s.Start(ctx, StartOptions{Role: RolePrimary})
	if err == nil && res != Started {
		err = errors.New("start the recovered server: it did not accept connections in time")
	}
	return err
}

// restored ends a restore: after a failure that is no interruption the
// directory stays half made, and nothing goes on with it.
func (s *Server) restored(ctx context.Context, err error) (wal.Timeline, error) {
	note, _ := s.loadRepair()
	if err == nil || ctx.Err() != nil || note.Phase == phaseDone || errors.Is(err, ErrRecoveryKilled) {
		return note.Timeline, err
	}
	if merr := s.Begin(KindRestore, false); merr != nil {
		return 0, errors.Join(err, merr)
	}
	return 0, errors.Join(err, s.clearRepair())
}

// leaveForRestore brings the newest WAL into the archive and stops the server.
func (s *Server) leaveForRestore(ctx context.Context, o RestoreOrder) error {
	control, err := s.ControlData(ctx)
	if err != nil {
		return err
	}
	if o.SystemID != "" && control.SystemID != o.SystemID {
		return fmt.Errorf("%w: this directory has %s, the order is for %s", ErrForeignSystem, control.SystemID, o.SystemID)
	}
	if _, running := s.Running(); running {
		if err := s.archiveNewest(ctx, o.Force); err != nil {
			return err
		}
		if err := s.Stop(ctx, StopFast, true); err != nil {
			return err
		}
	} else if control.State != StateShutDown && !o.Force {
		return fmt.Errorf("the server was not shut down cleanly (%s), so its newest WAL is not in the archive: start it first, or force", control.State)
	}
	s.archiveReady(ctx)
	if o.Force {
		return ctx.Err()
	}
	left, err := s.readySegments()
	if err != nil {
		return fmt.Errorf("list WAL that waits to be archived: %w", err)
	}
	if len(left) > 0 {
		return fmt.Errorf("%d segments from %s on could not be archived: mend the archive, or force, which gives them up", len(left), left[0])
	}
	return ctx.Err()
}

func (s *Server) archiveNewest(ctx context.Context, force bool) error {
	if force {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, archiveWait)
	defer cancel()
	if err := s.WaitArchived(ctx); err != nil {
		return fmt.Errorf("the newest WAL did not reach the archive, nothing was changed: mend the archive, or force: %w", err)
	}
	return nil
}

// restoreOver puts the files in place. The note comes before the marker: alone
// it says that nothing was changed yet.
func (s *Server) restoreOver(ctx context.Context, note repair, o RestoreOrder, progress func(string, int64, int64)) error {
	if err := s.saveRepair(note); err != nil {
		return err
	}
	untouched := s.watchChanges(s.State().State == DirPresent)
	if err := s.Begin(KindRestore, false); err != nil {
		return err
	}
	err := s.putFiles(ctx, RestoreFiles{Stanza: o.Stanza, Set: note.Set}, progress)
	if err == nil {
		return nil
	}
	if untouched() {
		return errors.Join(fmt.Errorf("nothing was changed: %w", err), s.Finish())
	}
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(err, s.clearRepair())
}

// watchChanges gives a function that tells whether a restore failed before its
// first change: pgbackrest begins by writing its manifest and removing the
// control file, and a restore that came to its end leaves a backup label.
func (s *Server) watchChanges(complete bool) func() bool {
	before, err := os.Stat(s.inData("global", "pg_control"))
	if err != nil || !complete {
		return func() bool { return false }
	}
	return func() bool {
		for _, name := range []string{backupManifest, "backup_label"} {
			if _, err := os.Lstat(s.inData(name)); !os.IsNotExist(err) {
				return false
			}
		}
		now, err := os.Stat(s.inData("global", "pg_control"))
		return err == nil && os.SameFile(before, now) && now.ModTime().Equal(before.ModTime())
	}
}
