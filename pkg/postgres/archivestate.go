package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// ArchiveState is how archiving of the local server stands.
type ArchiveState struct {
	On           bool          // the server archives: archive_mode and a command are set
	ReadyFiles   int           // segments that wait to be archived
	OldestReady  time.Duration // how long the oldest of them has waited
	LastArchived string        // segment or history file
	LastTime     time.Time     // of LastArchived
	LastFailed   string
	LastFailTime time.Time // of LastFailed
	FailedCount  int64     // attempts that failed since the statistics were reset
	Failing      bool      // the newest attempt failed
	WALBytes     int64     // used by pg_wal
	WALFreeBytes int64     // free for the server on pg_wal's file system
}

const archiverSQL = `SELECT coalesce(last_archived_wal, ''), last_archived_time, coalesce(last_failed_wal, ''), last_failed_time, failed_count,
 current_setting('archive_mode') <> 'off'
  AND (current_setting('archive_command') <> '' OR coalesce(current_setting('archive_library', true), '') <> '')
 FROM pg_stat_archiver`

// ArchiveState asks the server and looks at pg_wal. What the directory tells is
// filled in also when the server does not answer, which is then the error.
func (s *Server) ArchiveState(ctx context.Context) (ArchiveState, error) {
	var st ArchiveState
	if err := s.walFiles(&st); err != nil {
		return st, fmt.Errorf("look at pg_wal: %w", err)
	}
	if err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error { return st.ask(ctx, c) }); err != nil {
		return st, fmt.Errorf("ask for the archiver's state: %w", err)
	}
	return st, nil
}

func (st *ArchiveState) ask(ctx context.Context, c *pgx.Conn) error {
	var last, failed *time.Time
	err := c.QueryRow(ctx, archiverSQL).Scan(&st.LastArchived, &last, &st.LastFailed, &failed, &st.FailedCount, &st.On)
	if err != nil {
		return err
	}
	st.LastTime, st.LastFailTime = time.Time{}, time.Time{}
	if last != nil {
		st.LastTime = *last
	}
	if failed != nil {
		st.LastFailTime = *failed
	}
	st.Failing = st.LastFailTime.After(st.LastTime)
	return nil
}

// walFiles measures pg_wal and its waiting segments.
func (s *Server) walFiles(st *ArchiveState) error {
	dir := s.inData("pg_wal")
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		dir = target
	}
	var err error
	if _, st.WALFreeBytes, err = Volume(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		// Files come and go while we look.
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
			st.WALBytes += fi.Size()
		}
	}
	return st.readyFiles(filepath.Join(dir, "archive_status"))
}

func (st *ArchiveState) readyFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var oldest time.Time
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".ready") {
			continue
		}
		fi, err := e.Info()
		if err != nil {
			continue
		}
		st.ReadyFiles++
		if oldest.IsZero() || fi.ModTime().Before(oldest) {
			oldest = fi.ModTime()
		}
	}
	if !oldest.IsZero() {
		st.OldestReady = max(0, time.Since(oldest))
	}
	return err
}

// WaitArchived switches WAL and waits until everything written before is
// archived. When ctx ends first, the error names the segment that cannot be
// archived; archiving that is off is an error at once. Only a primary can.
func (s *Server) WaitArchived(ctx context.Context) error {
	if err := s.waitArchived(ctx); err != nil {
		return fmt.Errorf("wait until WAL is archived: %w", err)
	}
	return nil
}

// switchSQL ends the current segment and names it. When nothing was written
// since the last switch, the position is the boundary after that segment; up to
// PostgreSQL 16 pg_walfile_name counts a boundary to the segment before it, and
// before 14 nothing can be subtracted from a position.
func switchSQL(c *pgx.Conn) string {
	version, _ := parseVersion(c.PgConn().ParameterStatus("server_version"))
	if version < 140000 {
		return "SELECT pg_walfile_name(pg_switch_wal())"
	}
	return "SELECT pg_walfile_name(pg_switch_wal() - 1)"
}

func (s *Server) waitArchived(ctx context.Context) error {
	var st ArchiveState
	var segment string
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		if err := st.ask(ctx, c); err != nil || !st.On {
			return err
		}
		return c.QueryRow(ctx, switchSQL(c)).Scan(&segment)
	})
	if err != nil {
		return err
	}
	if !st.On {
		return fmt.Errorf("%w: archive_mode or archive_command is off", ErrArchiving)
	}
	pause := backoff{next: 5 * time.Millisecond, max: 250 * time.Millisecond}
	woken := time.Now()
	for {
		err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
			if st.Failing && time.Since(woken) > archiverNap {
				woken = time.Now()
				wakeArchiver(ctx, c)
			}
			return st.ask(ctx, c)
		})
		if err == nil && s.archived(segment) {
			return nil
		}
		if err == nil {
			err = pause.wait(ctx, nil)
		}
		if ctx.Err() != nil {
			return st.lateError(segment, context.Cause(ctx))
		}
		if err != nil {
			return err
		}
	}
}

// archiverNap is how often an archiver that gave up is woken. By itself it
// tries again after a minute, or when the next segment is full.
const archiverNap = time.Second

// wakeArchiver sends the signal by which the server's processes wake each other.
func wakeArchiver(ctx context.Context, c *pgx.Conn) {
	var pid int
	if c.QueryRow(ctx, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'archiver'").Scan(&pid) == nil && pid > 1 {
		_ = unix.Kill(pid, unix.SIGUSR1)
	}
}

// archived tells whether nothing up to that segment waits. pg_stat_archiver
// names only the last one, and statistics come late and may be reset; the flags
// beside the segments are what the archiver itself goes by.
func (s *Server) archived(segment string) bool {
	entries, err := os.ReadDir(s.inData("pg_wal", "archive_status"))
	if err != nil {
		return false
	}
	done := false
	for _, e := range entries {
		name, ready := strings.CutSuffix(e.Name(), ".ready")
		if ready && walEntry.MatchString(name) && (len(name) < 24 || name[8:24] <= segment[8:24]) {
			return false
		}
		done = done || e.Name() == segment+".done"
	}
	if done {
		return true
	}
	// Recycled since: no flag is left, and neither is the segment.
	_, err = os.Stat(s.inData("pg_wal", segment))
	return errors.Is(err, fs.ErrNotExist)
}

func (st *ArchiveState) lateError(segment string, cause error) error {
	if st.LastFailed != "" && st.Failing {
		return fmt.Errorf("%w: archive_command fails for %s: look at the server's log and at pgha.backup.repo: %w", ErrArchiving, st.LastFailed, cause)
	}
	return fmt.Errorf("%w: %s is not archived yet: %w", ErrArchiving, segment, cause)
}
