package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// PostgreSQL gives a new timeline the number after the last .history file it
// finds, looking for one number after the other. Where a number was given on
// another host (its server died before anybody could stream from it), a file that
// holds a comment only takes its place: it is no ancestor of anything, so no
// standby follows it, and the next number is free.
var takenNumber = []byte("# pgha: this number belongs to a timeline of another host\n")

func (s *Server) historyPath(tl wal.Timeline) string {
	return s.inData("pg_wal", fmt.Sprintf("%08X.history", uint32(tl)))
}

// takeNumbers makes the next promotion of a server on timeline from give the
// number next at least.
func (s *Server) takeNumbers(from, next wal.Timeline) error {
	for tl := from + 1; from > 0 && tl < next; tl++ {
		path := s.historyPath(tl)
		switch _, err := os.Lstat(path); {
		case err == nil:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("take the number of timeline %d: %w", tl, err)
		}
		if err := writeFile(path, takenNumber, s.fileMode(path)); err != nil {
			return fmt.Errorf("take the number of timeline %d: %w", tl, err)
		}
		s.log.Info("a timeline's number is left out: it may have been given on another host", "timeline", tl)
	}
	return nil
}

// freeNumbers removes what takeNumbers left behind of a promotion that did not
// happen: a standby must be able to fetch the true history of such a timeline.
func (s *Server) freeNumbers() error {
	paths, err := filepath.Glob(s.inData("pg_wal", "*.history"))
	if err != nil {
		return err
	}
	own, taken := uint64(0), map[string]uint64{}
	for _, path := range paths {
		n, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".history"), 16, 32)
		if err != nil {
			continue
		}
		text, err := os.ReadFile(path)
		switch {
		case err != nil:
			return fmt.Errorf("read history: %w", err)
		case bytes.Equal(text, takenNumber):
			taken[path] = n
		default:
			own = max(own, n)
		}
	}
	for path, n := range taken {
		if n < own {
			continue // left out on the way to the present timeline
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("free the number of timeline %d: %w", n, err)
		}
	}
	return nil
}
