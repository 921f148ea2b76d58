package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// archiveReady archives the segments that wait for it, in order, while the
// server is down: pg_rewind may delete them (ha-behaviour 5.4). It stops at
// the first failure, which is logged only: a broken archive must not keep a
// node from coming back.
func (s *Server) archiveReady(ctx context.Context) {
	mode := s.configuredValue(ctx, "archive_mode")
	cmd := s.configuredValue(ctx, "archive_command")
	if mode != "on" && mode != "always" || cmd == "" || cmd == "?" {
		return
	}
	names, err := s.readySegments()
	if err != nil {
		s.log.Warn("cannot list WAL waiting to be archived", "error", err)
		return
	}
	for _, name := range names {
		if err := s.archiveSegment(ctx, cmd, name); err != nil {
			s.log.Warn("cannot archive WAL before it may be removed", "segment", name, "error", err)
			return
		}
	}
}

// archiveLastLimit bounds ArchiveLast.
const archiveLastLimit = time.Minute

// ArchiveLast archives what is left of a server that was stopped in good order:
// the segments that wait, and the last one, in which its shutdown checkpoint is. A
// standby that lives by the archive gets no more than that (ha-behaviour 1.21). A
// failure is logged only, and an archive_command that hangs is given up: the
// leadership is not handed over before.
func (s *Server) ArchiveLast(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, archiveLastLimit)
	defer cancel()
	if mode := s.configuredValue(ctx, "archive_mode"); mode != "on" && mode != "always" { // clients are waiting
		return
	}
	cmd := s.configuredValue(ctx, "archive_command")
	control, err := s.ControlData(ctx)
	switch {
	case err != nil:
		s.log.Warn("cannot archive the last segment", "error", err)
		return
	case control.State != StateShutDown || control.RedoWALFile == "" || cmd == "" || cmd == "?":
		return
	}
	s.archiveReady(ctx)
	if err := s.runArchiveCommand(ctx, cmd, control.RedoWALFile); err != nil {
		s.log.Warn("cannot archive the last segment", "segment", control.RedoWALFile, "error", err)
	}
}

func (s *Server) readySegments() ([]string, error) {
	entries, err := os.ReadDir(s.inData("pg_wal", "archive_status"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name, ready := strings.CutSuffix(e.Name(), ".ready")
		if !ready || !walEntry.MatchString(name) {
			continue
		}
		if _, err := os.Stat(s.inData("pg_wal", name)); err == nil {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names, nil
}

// archiveSegment runs archive_command as the server would: through a shell, in
// the data directory.
func (s *Server) archiveSegment(ctx context.Context, archiveCommand, name string) error {
	if err := s.runArchiveCommand(ctx, archiveCommand, name); err != nil {
		return err
	}
	status := s.inData("pg_wal", "archive_status", name)
	if err := os.Rename(status+".ready", status+".done"); err != nil {
		return err
	}
	return syncDir(filepath.Dir(status))
}

func (s *Server) runArchiveCommand(ctx context.Context, archiveCommand, name string) error {
	line := strings.NewReplacer("%%", "%", "%p", filepath.Join("pg_wal", name), "%f", name).Replace(archiveCommand)
	_, err := s.run(ctx, command{path: "/bin/sh", args: []string{"-c", line}, env: s.serverEnv(), dir: s.config().DataDir})
	return err
}

// clearArchiveStatus removes all flags, so that single-user recovery does not
// remove segments marked as done.
func (s *Server) clearArchiveStatus() error {
	dir := s.inData("pg_wal", "archive_status")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clear archive status: %w", err)
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("clear archive status: %w", err)
		}
	}
	return nil
}
