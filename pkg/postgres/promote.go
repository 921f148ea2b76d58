package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Promote ends recovery and waits until the server takes writes. A server that
// is not in recovery is left alone; one on timeline from gets a number that is not
// below next. SQL is used, because a connection is at
// hand and pg_ctl costs a process; pg_ctl steps in when SQL does not get
// through.
func (s *Server) Promote(ctx context.Context, from, next wal.Timeline) error {
	if _, ok := s.Running(); !ok {
		return fmt.Errorf("promote: %w", ErrNotRunning)
	}
	if err := s.takeNumbers(from, next); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(false) END")
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("promote: %w", err)
		}
		s.log.Warn("promoting by SQL did not work, using pg_ctl", "error", err)
		args := []string{"promote", "-W", "-s", "-D", s.config().DataDir}
		if _, err := s.run(ctx, command{path: s.bin("pg_ctl"), args: args}); err != nil {
			return fmt.Errorf("promote: %w", err)
		}
	}
	if err := s.waitWritable(ctx); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	s.mu.Lock()
	// Removing the recovery settings from the file of a running server would
	// show up as pending restarts (and as errors in its log, even for equal
	// values): following false keeps them until the next start.
	s.role, s.upstream, s.following, s.timeline = RolePrimary, nil, false, timelineCache{}
	s.mu.Unlock()
	return nil
}

// waitWritable waits for the end of recovery.
func (s *Server) waitWritable(ctx context.Context) error {
	b := backoff{next: time.Millisecond, max: 10 * time.Millisecond}
	for {
		var recovering bool
		err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
			return c.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&recovering)
		})
		if err == nil && !recovering {
			return nil
		}
		if werr := b.wait(ctx, s.proc.Exited()); werr != nil {
			return werr
		}
	}
}

// CheckpointAfterPromote makes the first checkpoint on the current timeline,
// which pg_rewind needs to see (safety P12), and tells whether it is done.
// It blocks for as long as the checkpoint takes: run it beside the loop.
func (s *Server) CheckpointAfterPromote(ctx context.Context) (done bool, err error) {
	for _, checkpoint := range []bool{false, true} {
		if checkpoint {
			if err := s.Checkpoint(ctx); err != nil {
				return false, err
			}
		}
		control, err := s.ControlData(ctx)
		if err != nil {
			return false, err
		}
		tl, err := s.currentTimeline(ctx)
		if err != nil {
			return false, err
		}
		if tl != 0 && control.CheckpointTLI == tl {
			return true, nil
		}
	}
	return false, nil
}

// currentTimeline is the timeline of a primary's current WAL file, 0 in recovery.
func (s *Server) currentTimeline(ctx context.Context) (wal.Timeline, error) {
	var tl int64
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT "+timelineSQL).Scan(&tl)
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the timeline: %w", err)
	}
	return wal.Timeline(tl), nil
}
