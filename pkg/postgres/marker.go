package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The in-progress marker says that the data directory is being made or
// rebuilt and must not be started (safety S9). It exists twice:
//
//   - beside the directory (<data_dir>.pgha.in_progress), where it outlives a
//     reboot; in StateDir when we may not write there. This one counts: it is
//     written before anything else and removed after all else, and neither an
//     empty directory nor pg_rewind, which deletes what the source does not
//     have, can do without or away with it.
//   - inside the directory as pgha.in_progress, when the tool tolerates it
//     (bootstrap, rewind, wipe). pgbackrest does not: it deletes what is not
//     in the backup.
//
// The leash refuses to start over this one and over the sibling.
//
// Finishing removes the inner one first, so a crash between the two leaves the
// outer one: the work is done again rather than trusted.
const markerName = "pgha.in_progress"

// Kind says what was in progress.
type Kind string

// What can leave a directory half done.
const (
	KindBootstrap Kind = "bootstrap"
	KindClone     Kind = "clone"
	KindRewind    Kind = "rewind"
	KindRestore   Kind = "restore"
	KindWipe      Kind = "wipe"
)

type marker struct {
	What    Kind      `json:"what"`
	Started time.Time `json:"started"`
}

// sidePath is where a file of ours about the data directory is written: beside
// the directory if we may, else in StateDir.
func (s *Server) sidePath(name string) string {
	paths := s.sidePaths(name)
	if len(paths) > 1 && unix.Access(filepath.Dir(paths[0]), unix.W_OK|unix.X_OK) != nil {
		return paths[1]
	}
	return paths[0]
}

// sidePaths are the places where such a file may be found: rights may have
// changed since it was written.
func (s *Server) sidePaths(name string) []string {
	dir := s.config().DataDir
	paths := []string{dir + "." + name}
	if s.stateDir != "" {
		flat := strings.ReplaceAll(strings.Trim(dir, "/"), "/", "-")
		paths = append(paths, filepath.Join(s.stateDir, flat+"."+name))
	}
	return paths
}

// markerPath is the place of the marker that counts.
func (s *Server) markerPath() string { return s.sidePath(markerName) }

// Begin marks the data directory as being worked on. inside also puts the
// marker into the directory, for tools that do not need it empty.
func (s *Server) Begin(kind Kind, inside bool) error {
	if err := s.endLeftovers(); err != nil {
		return fmt.Errorf("mark data directory: %w", err)
	}
	body, err := json.Marshal(marker{What: kind, Started: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("write in-progress marker: %w", err)
	}
	body = append(body, '\n')
	if err := writeFile(s.markerPath(), body, 0o600); err != nil {
		return fmt.Errorf("mark data directory (it must be possible to write beside %s, or set a state directory): %w",
			s.config().DataDir, err)
	}
	if !inside {
		return nil
	}
	if err := writeFile(s.inData(markerName), body, s.fileMode(s.inData(markerName))); err != nil {
		return fmt.Errorf("mark data directory: %w", err)
	}
	return nil
}

// Finish removes the marker, and what is known of the way there, once the work
// is complete and durable.
func (s *Server) Finish() error {
	if err := s.clearRepair(); err != nil {
		return err
	}
	return s.unmark()
}

// unmark removes the marker alone.
func (s *Server) unmark() error {
	if _, err := os.Stat(s.config().DataDir); err == nil {
		if err := removeFile(s.inData(markerName)); err != nil {
			return err
		}
	}
	for _, path := range s.sidePaths(markerName) {
		if err := removeFile(path); err != nil {
			return err
		}
	}
	return nil
}

// inProgress reads the marker. One that cannot be parsed counts all the same;
// where none could be looked for, nothing is known.
func (s *Server) inProgress() (kind Kind, marked bool, err error) {
	for _, path := range append(s.sidePaths(markerName), s.inData(markerName)) {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
			continue
		}
		if err != nil {
			return "", false, fmt.Errorf("look for in-progress marker: %w", err)
		}
		var m marker
		if json.Unmarshal(b, &m) == nil && m.What != "" {
			return m.What, true, nil
		}
		return KindClone, true, nil
	}
	return "", false, nil
}
