package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Checkup is what the local server says about settings and slots that decide
// whether a failover will go well.
type Checkup struct {
	InRecovery          bool
	ServerVersion       int
	DataChecksums       bool
	WALLogHints         bool
	MaxSlotWALKeepSize  int64 // MB; -1: without limit (or too old a server to have one)
	Slots               []SlotCheckup
	RewindUserMissing   []string // functions that the user of pg_rewind may not call, with their arguments
	RewindUserUnchecked string   // why that is not known
}

// SlotCheckup is a slot with the WAL that it keeps from being removed.
type SlotCheckup struct {
	Name     string
	Active   bool
	Lost     bool // what it needs is gone already
	Retained int64
}

// rewindFunctions are what pg_rewind calls on its source, unless its user is a
// superuser.
var rewindFunctions = []string{
	"pg_catalog.pg_ls_dir(text, boolean, boolean)", "pg_catalog.pg_stat_file(text, boolean)",
	"pg_catalog.pg_read_binary_file(text)", "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
}

const checkupSQL = `SELECT pg_is_in_recovery(), current_setting('server_version_num')::int, current_setting('data_checksums') = 'on',
 current_setting('wal_log_hints') = 'on',
 coalesce((SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), -1)`

const checkupSlotsSQL = `SELECT slot_name, active, coalesce(to_jsonb(s)->>'wal_status' = 'lost', false),
 coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0)::bigint
 FROM pg_replication_slots s WHERE NOT temporary ORDER BY 1`

// Checkup asks the local server.
func (s *Server) Checkup(ctx context.Context) (Checkup, error) {
	var out Checkup
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		out = Checkup{}
		err := c.QueryRow(ctx, checkupSQL).Scan(&out.InRecovery, &out.ServerVersion, &out.DataChecksums, &out.WALLogHints, &out.MaxSlotWALKeepSize)
		if err != nil {
			return err
		}
		rows, err := c.Query(ctx, checkupSlotsSQL)
		if err != nil {
			return err
		}
		out.Slots, err = pgx.CollectRows(rows, pgx.RowToStructByPos[SlotCheckup])
		if err != nil {
			return err
		}
		return s.checkRewindUser(ctx, c, &out)
	})
	if err != nil {
		return out, fmt.Errorf("ask the local server: %w", err)
	}
	return out, nil
}

func (s *Server) checkRewindUser(ctx context.Context, c *pgx.Conn, out *Checkup) error {
	user := s.config().Rewind.Username
	if user == "" {
		out.RewindUserUnchecked = "no user is configured for pg_rewind"
		return nil
	}
	var exists bool
	if err := c.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", user).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		out.RewindUserUnchecked = "the role " + user + " does not exist"
		return nil
	}
	for _, f := range rewindFunctions {
		var may bool
		if err := c.QueryRow(ctx, "SELECT has_function_privilege($1::name, $2::text, 'execute')", user, f).Scan(&may); err != nil {
			return err
		}
		if !may {
			out.RewindUserMissing = append(out.RewindUserMissing, strings.TrimPrefix(f, "pg_catalog."))
		}
	}
	return nil
}

// CanConnectForRewind logs in at up with the credentials of pg_rewind.
func (s *Server) CanConnectForRewind(ctx context.Context, up Upstream) error {
	_, err := s.upstreamPrimary(ctx, up)
	return err
}
