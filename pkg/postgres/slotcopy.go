package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"
)

// SlotFile is a logical slot as its server keeps it on disk.
type SlotFile struct {
	Name, Database, Plugin string
	State                  []byte
}

const readSlotsSQL = `SELECT slot_name, database, plugin, pg_read_binary_file('pg_replslot/' || slot_name || '/state')
 FROM pg_replication_slots s WHERE NOT pg_is_in_recovery() AND slot_type = 'logical' AND NOT temporary AND slot_name = ANY($1)
 AND to_jsonb(s)->>'wal_status' IS DISTINCT FROM 'lost' AND to_jsonb(s)->>'failover' IS DISTINCT FROM 'true'`

// ReadSlots fetches the logical slots called names from a primary, with the
// credentials of pg_rewind, which may read files. Those that are not there, or
// that PostgreSQL 17 brings to standbys itself, are left out.
func (s *Server) ReadSlots(ctx context.Context, from Upstream, names []string) ([]SlotFile, error) {
	cfg, err := s.connConfig(from, s.config().Rewind, "Patroni heartbeat", map[string]string{"statement_timeout": "10000"})
	if err != nil {
		return nil, err
	}
	var out []SlotFile
	err = withConn(ctx, cfg, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, readSlotsSQL, names)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[SlotFile])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read logical slots of %s: %w", from.where(), err)
	}
	return slices.DeleteFunc(out, func(f SlotFile) bool { return !slices.Contains(names, f.Name) }), nil
}

// InstallSlots puts slots that ReadSlots fetched into the data directory of this
// server, which must not run. What a crash leaves half made is removed by
// PostgreSQL when it starts.
func (s *Server) InstallSlots(files []SlotFile) error {
	if _, up := s.Running(); up {
		return errors.New("install logical slots: the server runs")
	}
	if d := s.State(); d.State != DirPresent {
		return fmt.Errorf("install logical slots: %w", ErrNotStartable)
	}
	for _, f := range files {
		if err := s.installSlot(f); err != nil {
			return fmt.Errorf("install logical slot %s: %w", f.Name, err)
		}
	}
	return nil
}

func (s *Server) installSlot(f SlotFile) error {
	all := s.inData("pg_replslot")
	final := filepath.Join(all, f.Name)
	tmp := final + ".tmp"
	mode := fs.FileMode(0o700)
	if fi, err := os.Stat(s.inData()); err == nil {
		mode = fi.Mode().Perm()
	}
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, mode); err != nil {
		return err
	}
	state := filepath.Join(tmp, "state")
	if err := writeFile(state, f.State, s.fileMode(state)); err != nil {
		return err
	}
	if err := os.RemoveAll(final); err != nil {
		return err
	}
	if err := os.Rename(tmp, final); err != nil {
		return err
	}
	return syncDir(all)
}

// SlotXmins asks the server at up, which must be a primary, how far back each of
// its slots holds the rows of catalogs; slots that hold none are left out.
func (s *Server) SlotXmins(ctx context.Context, up Upstream) (map[string]uint32, error) {
	var doc *string
	if err := s.askUpstream(ctx, up, "SELECT json_agg(to_jsonb(s))::text FROM pg_replication_slots s WHERE NOT pg_is_in_recovery() AND catalog_xmin IS NOT NULL", &doc); err != nil {
		return nil, fmt.Errorf("ask %s for its slots: %w", up.where(), err)
	}
	all, err := decodeSlots(text(doc))
	if err != nil {
		return nil, err
	}
	out := make(map[string]uint32, len(all))
	for _, slot := range all {
		out[slot.Name] = slot.CatalogXmin
	}
	return out, nil
}

// SlotReady tells whether a copied logical slot can be relied upon after a
// promotion (ha-behaviour 4.6): the primary holds the rows of catalogs that it
// needs for this standby. there is the horizon of the slot on the primary when
// it was first looked at, held that of the physical slot by which this standby
// streams, here that of the copy; 0: none.
func SlotReady(there, held, here uint32) bool {
	if there == 0 || held == 0 || here == 0 {
		return false
	}
	return !xidBefore(held, there) && !xidBefore(here, held)
}

// xidBefore compares transaction ids, which go round.
func xidBefore(a, b uint32) bool { return int32(a-b) < 0 }

// ForceFeedback turns hot_standby_feedback on whatever the configuration says, or
// gives it back. It takes effect with the next Apply, Follow or Start.
func (s *Server) ForceFeedback(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feedback = on
}

// FeedbackForced tells whether it is forced on.
func (s *Server) FeedbackForced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.feedback
}
