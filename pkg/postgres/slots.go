package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Slot is one row of pg_replication_slots.
type Slot struct {
	Name         string
	Type         string // physical or logical
	Database     string
	Plugin       string
	Active       bool
	HasXmin      bool // xmin or catalog_xmin
	RestartLSN   wal.LSN
	ConfirmedLSN wal.LSN
	WalStatus    string // PostgreSQL 13: reserved, extended, unreserved, lost
}

// SlotWant is one physical slot that shall exist.
type SlotWant struct {
	Name         string
	LSN          wal.LSN // where to advance it to while inactive; 0: unknown
	ExpectActive *bool   // nil: no expectation
}

// SlotsOptions are the circumstances of one pass.
type SlotsOptions struct {
	KeepUnwanted bool            // pause: drop nothing that is merely unwanted
	HasLeader    bool            // the cluster has a leader
	Ignore       func(Slot) bool // these are never touched; may be nil
}

type slotRow struct {
	Name      string  `json:"slot_name"`
	Type      string  `json:"slot_type"`
	Database  *string `json:"database"`
	Plugin    *string `json:"plugin"`
	Active    bool    `json:"active"`
	HasXmin   bool    `json:"has_xmin"`
	Restart   *string `json:"restart_lsn"`
	Confirmed *string `json:"confirmed_flush_lsn"`
	WalStatus *string `json:"wal_status"`
}

func decodeSlots(doc string) ([]Slot, error) {
	return decodeRows(doc, "replication slots", func(r slotRow) Slot {
		return Slot{Name: r.Name, Type: r.Type, Database: text(r.Database), Plugin: text(r.Plugin), Active: r.Active,
			HasXmin: r.HasXmin, RestartLSN: lsn(r.Restart), ConfirmedLSN: lsn(r.Confirmed), WalStatus: text(r.WalStatus)}
	})
}

// Slots lists the server's slots, temporary ones excepted.
func (s *Server) Slots(ctx context.Context) ([]Slot, error) {
	var out []Slot
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) (err error) {
		out, err = listSlots(ctx, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list replication slots: %w", err)
	}
	return out, nil
}

func listSlots(ctx context.Context, c *pgx.Conn) ([]Slot, error) {
	var doc *string
	if err := c.QueryRow(ctx, forVersion(c, "SELECT json_agg(x)::text FROM ("+slotsSQL+") x")).Scan(&doc); err != nil {
		return nil, err
	}
	return decodeSlots(text(doc))
}

// EnsureSlots makes one pass over the physical slots (ha-behaviour 4.4):
// unwanted and broken ones go unless they are in use, missing ones are created
// and reserve WAL at once, and inactive ones advance. Logical slots are not
// touched. It returns the position of every slot that exists afterwards, for
// /status. Slots are independent: the error joins what went wrong, the
// rest was done.
func (s *Server) EnsureSlots(ctx context.Context, want []SlotWant, o SlotsOptions) (map[string]wal.LSN, error) {
	have, err := s.Slots(ctx)
	if err != nil {
		return nil, err
	}
	wanted := make(map[string]SlotWant, len(want))
	for _, w := range want {
		wanted[w.Name] = w
	}
	var errs []error
	standby := s.DiskRole() == RoleStandby
	exists := make(map[string]bool)
	for _, slot := range have {
		exists[slot.Name] = true
		if slot.Type != "physical" || o.Ignore != nil && o.Ignore(slot) {
			delete(wanted, slot.Name)
			continue
		}
		w, ok := wanted[slot.Name]
		delete(wanted, slot.Name)
		gone, err := s.treatSlot(ctx, slot, w, ok, standby, o)
		if err != nil {
			errs = append(errs, err)
		}
		if gone && ok {
			wanted[slot.Name] = w // to be created anew
		}
	}
	for name := range wanted {
		if err := s.slotExec(ctx, "create", name, "SELECT pg_create_physical_replication_slot($1, true)", name); err != nil {
			errs = append(errs, err)
		}
	}
	now, err := s.Slots(ctx)
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	out := make(map[string]wal.LSN, len(now))
	for _, slot := range now {
		out[slot.Name] = slot.RestartLSN
		if slot.Type == "logical" {
			out[slot.Name] = slot.ConfirmedLSN
		}
	}
	return out, errors.Join(errs...)
}

// treatSlot does to one existing slot what its state asks for; gone tells that
// it was dropped.
func (s *Server) treatSlot(ctx context.Context, slot Slot, w SlotWant, wanted, standby bool, o SlotsOptions) (gone bool, err error) {
	inactive := w.ExpectActive != nil && !*w.ExpectActive
	switch {
	case !wanted && o.KeepUnwanted:
		return false, nil
	case !wanted, slot.WalStatus == "lost":
		return s.dropSlot(ctx, slot)
	case inactive && slot.HasXmin && o.HasLeader:
		// An old xmin would hold back vacuum for ever.
		return s.dropSlot(ctx, slot)
	case w.ExpectActive != nil && *w.ExpectActive, slot.HasXmin, slot.Active:
		return false, nil
	case slot.RestartLSN == 0:
		return s.dropSlot(ctx, slot) // foreign: ours reserve WAL from the start
	case w.LSN > slot.RestartLSN:
		return false, s.advanceSlot(ctx, slot.Name, w.LSN, standby)
	}
	return false, nil
}

// advanceSlot moves a slot forward, never past what this server has.
func (s *Server) advanceSlot(ctx context.Context, name string, to wal.LSN, standby bool) error {
	limit := "pg_current_wal_flush_lsn()"
	if standby {
		limit = "pg_last_wal_replay_lsn()"
	}
	return s.slotExec(ctx, "advance", name, "SELECT pg_replication_slot_advance(slot_name, least($2::text::pg_lsn, "+limit+"))"+
		" FROM pg_replication_slots WHERE slot_name = $1 AND NOT active AND restart_lsn < least($2::text::pg_lsn, "+limit+")", name, to.String())
}

// dropSlot drops a slot in one statement that leaves a slot in use alone.
func (s *Server) dropSlot(ctx context.Context, slot Slot) (gone bool, err error) {
	err = s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		tag, err := c.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active", slot.Name)
		gone = err == nil && tag.RowsAffected() > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("drop replication slot %s: %w", slot.Name, err)
	}
	if gone {
		s.log.Info("dropped replication slot", "slot", slot.Name)
	}
	return gone, nil
}

func (s *Server) slotExec(ctx context.Context, verb, name, sql string, args ...any) error {
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s replication slot %s: %w", verb, name, err)
	}
	return nil
}
