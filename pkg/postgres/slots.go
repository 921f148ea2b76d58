package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Slot is one row of pg_replication_slots.
type Slot struct {
	Name         string
	Type         string // physical or logical
	Database     string
	Plugin       string
	Active       bool
	Xmin         uint32 // 0: none
	CatalogXmin  uint32
	RestartLSN   wal.LSN
	ConfirmedLSN wal.LSN
	WalStatus    string // PostgreSQL 13: reserved, extended, unreserved, lost
	// Invalid: PostgreSQL says that it cannot be used any more.
	Invalid bool
	// Failover and Synced are of PostgreSQL 17, which keeps such slots on
	// standbys itself.
	Failover, Synced bool
}

// slotRow has what every version calls alike, and what some do not have.
type slotRow struct {
	Name        string  `json:"slot_name"`
	Type        string  `json:"slot_type"`
	Database    *string `json:"database"`
	Plugin      *string `json:"plugin"`
	Active      bool    `json:"active"`
	Xmin        *string `json:"xmin"`
	CatalogXmin *string `json:"catalog_xmin"`
	Restart     *string `json:"restart_lsn"`
	Confirmed   *string `json:"confirmed_flush_lsn"`
	WalStatus   *string `json:"wal_status"`          // 13
	Conflicting *bool   `json:"conflicting"`         // 16
	Invalidated *string `json:"invalidation_reason"` // 17
	Failover    bool    `json:"failover"`            // 17
	Synced      bool    `json:"synced"`              // 17
}

func decodeSlots(doc string) ([]Slot, error) {
	return decodeRows(doc, "replication slots", func(r slotRow) Slot {
		s := Slot{
			Name: r.Name, Type: r.Type, Database: text(r.Database), Plugin: text(r.Plugin), Active: r.Active,
			Xmin: xid(r.Xmin), CatalogXmin: xid(r.CatalogXmin), RestartLSN: lsn(r.Restart), ConfirmedLSN: lsn(r.Confirmed),
			WalStatus: text(r.WalStatus), Failover: r.Failover, Synced: r.Synced,
		}
		s.Invalid = s.WalStatus == "lost" || r.Conflicting != nil && *r.Conflicting || r.Invalidated != nil
		return s
	})
}

func xid(s *string) uint32 {
	n, _ := strconv.ParseUint(text(s), 10, 32)
	return uint32(n)
}

// Slots lists the server's slots, temporary ones excepted.
func (s *Server) Slots(ctx context.Context) ([]Slot, error) {
	var out []Slot
	err := s.slots.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var doc *string
		err := c.QueryRow(ctx, slotsSQL).Scan(&doc)
		if err == nil {
			out, err = decodeSlots(text(doc))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list replication slots: %w", err)
	}
	return out, nil
}

// ErrSlotUnusable means that the WAL or the rows that a slot needs are gone.
var ErrSlotUnusable = errors.New("what the slot needs is gone")

// CreateSlot makes a physical slot, which reserves WAL at once, or a logical one
// in its database.
func (s *Server) CreateSlot(ctx context.Context, slot Slot) error {
	if slot.Type == "logical" {
		return s.inDatabase(ctx, "create", slot, "SELECT pg_create_logical_replication_slot($1, $2)", slot.Name, slot.Plugin)
	}
	return s.slotExec(ctx, "create", slot.Name, "SELECT pg_create_physical_replication_slot($1, true)", slot.Name)
}

// advanceSQL leaves alone a slot that is in use, or that is there already.
const advanceSQL = `SELECT pg_replication_slot_advance(slot_name, x.goal) FROM pg_replication_slots,
 LATERAL (SELECT least($2::text::pg_lsn, CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END) AS goal) x
 WHERE slot_name = $1 AND NOT active AND CASE slot_type WHEN 'physical' THEN restart_lsn ELSE confirmed_flush_lsn END < x.goal`

// AdvanceSlot moves an unused slot forward, never past what this server has. For
// a logical one the server reads all WAL in between. ErrSlotUnusable: it cannot.
func (s *Server) AdvanceSlot(ctx context.Context, slot Slot, to wal.LSN) error {
	if slot.Type == "logical" {
		err := s.inDatabase(ctx, "advance", slot, advanceSQL, slot.Name, to.String())
		var pg *pgconn.PgError
		if errors.As(err, &pg) && (pg.Code == "58P01" || pg.Code == "55000") { // undefined_file, object_not_in_prerequisite_state
			return fmt.Errorf("%w: %w", err, ErrSlotUnusable)
		}
		return err
	}
	return s.slotExec(ctx, "advance", slot.Name, advanceSQL, slot.Name, to.String())
}

// DropSlot drops a slot in one statement that leaves a slot in use alone; gone
// tells whether it did.
func (s *Server) DropSlot(ctx context.Context, name string) (gone bool, err error) {
	err = s.slots.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		tag, err := c.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active", name)
		gone = err == nil && tag.RowsAffected() > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("drop replication slot %s: %w", name, err)
	}
	return gone, nil
}

func (s *Server) slotExec(ctx context.Context, verb, name, sql string, args ...any) error {
	err := s.slots.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s replication slot %s: %w", verb, name, err)
	}
	return nil
}

// logicalTimeout is the server's own bound on work on a logical slot. Making one
// waits for the transactions that run; what a client gives up would go on.
const logicalTimeout = 5 * time.Minute

// inDatabase runs a statement on a connection to the slot's database, made for it.
func (s *Server) inDatabase(ctx context.Context, verb string, slot Slot, sql string, args ...any) error {
	cfg, err := s.localConn("Patroni heartbeat", logicalTimeout)
	if err == nil {
		cfg.Database = slot.Database
		err = withConn(ctx, cfg, func(c *pgx.Conn) error {
			_, err := c.Exec(ctx, sql, args...)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("%s logical replication slot %s in database %s: %w", verb, slot.Name, slot.Database, err)
	}
	return nil
}
