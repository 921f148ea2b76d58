package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// CheckSystem makes sure that up is a server of this cluster, in recovery or not:
// ErrForeignSystem says that it is not. Two clusters that were one can each have
// made a timeline of the same number; PostgreSQL and pg_rewind take those for
// one, so that is another system, too.
func (s *Server) CheckSystem(ctx context.Context, up Upstream) error {
	there, err := s.identify(ctx, up)
	if err != nil {
		return err
	}
	control, err := s.ControlData(ctx)
	if err != nil {
		return err
	}
	mine, err := s.LocalHistory(there.Timeline)
	if err != nil || control.CheckpointTLI != there.Timeline {
		return nil // of that timeline nothing was made here
	}
	theirs, err := s.TimelineHistory(ctx, &up, there.Timeline)
	if err != nil {
		return fmt.Errorf("%s: %w", up.where(), err)
	}
	if !sameHistory(mine, theirs) {
		return fmt.Errorf("%s: %w, by its history: its timeline %d is not ours, and one of the two has to be made anew", up.where(), ErrForeignSystem, there.Timeline)
	}
	return nil
}

func sameHistory(a, b wal.History) bool {
	return slices.EqualFunc(a, b, func(x, y wal.Switch) bool { return x.Timeline == y.Timeline && x.LSN == y.LSN })
}

// RemoteState is what a server elsewhere says of itself.
type RemoteState struct {
	System
	InRecovery bool
}

// RemoteState asks up where its WAL ends and whether it accepts writes.
func (s *Server) RemoteState(ctx context.Context, up Upstream) (RemoteState, error) {
	primary, err := s.upstreamPrimary(ctx, up)
	if err != nil {
		return RemoteState{}, err
	}
	sys, err := s.IdentifySystem(ctx, &up) // after the question: what ends there later is writable yet
	if err != nil {
		return RemoteState{}, fmt.Errorf("%s: %w", up.where(), err)
	}
	return RemoteState{System: sys, InRecovery: !primary}, nil
}

// restoreNewest is for a standby cluster that has a repository only.
func (cl *cloning) restoreNewest(ctx context.Context, r rung) error {
	repo, err := cl.s.Repository(ctx, "")
	if err != nil {
		return err
	}
	set, err := newestSet(*repo, cl.c.SystemID)
	if err != nil {
		return err
	}
	cl.note.Set = set.Label
	if err := cl.begin(ctx, r, KindRestore); err != nil {
		return err
	}
	return cl.s.putFiles(ctx, RestoreFiles{Set: set.Label}, cl.c.Progress)
}

// newestSet is the newest backup that can be used, of the system given; of any,
// if that is "".
func newestSet(repo Repository, systemID string) (BackupSet, error) {
	err := ErrNoBackup
	for _, b := range slices.Backward(repo.Backups) {
		switch {
		case systemID != "" && b.SystemID != systemID:
			err = fmt.Errorf("%w: ours is %s", ErrForeignRepository, systemID)
		case !b.Damaged:
			return b, nil
		}
	}
	return BackupSet{}, err
}
