package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// System is the answer of IDENTIFY_SYSTEM.
type System struct {
	ID       string
	Timeline wal.Timeline // a standby: the timeline it replays
	XLogPos  wal.LSN
}

// IdentifySystem asks up, or the local server when up is nil, on a replication
// connection.
func (s *Server) IdentifySystem(ctx context.Context, up *Upstream) (System, error) {
	var sys System
	err := s.replicationQuery(ctx, up, "IDENTIFY_SYSTEM", func(row [][]byte) error {
		if len(row) < 3 {
			return errors.New("short answer")
		}
		tl, err := strconv.ParseUint(string(row[1]), 10, 32)
		if err != nil {
			return fmt.Errorf("bad timeline %q", row[1])
		}
		pos, err := wal.ParseLSN(string(row[2]))
		sys = System{ID: string(row[0]), Timeline: wal.Timeline(tl), XLogPos: pos}
		return err
	})
	if err != nil {
		return System{}, fmt.Errorf("identify system: %w", err)
	}
	return sys, nil
}

// TimelineHistory fetches the history of timeline tl from up (nil: the local
// server). Timeline 1 has none.
func (s *Server) TimelineHistory(ctx context.Context, up *Upstream, tl wal.Timeline) (wal.History, error) {
	if tl <= 1 {
		return nil, nil
	}
	var h wal.History
	query := "TIMELINE_HISTORY " + strconv.FormatUint(uint64(tl), 10)
	err := s.replicationQuery(ctx, up, query, func(row [][]byte) (err error) {
		if len(row) < 2 {
			return errors.New("short answer")
		}
		h, err = wal.ParseHistory(string(row[1]))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fetch history of timeline %d: %w", tl, err)
	}
	return h, nil
}

// replicationQuery runs one replication command that answers with one row.
func (s *Server) replicationQuery(ctx context.Context, up *Upstream, query string, row func([][]byte) error) error {
	cfg := s.config()
	target := s.localUpstream(cfg.UseUnixSocketRepl)
	if up != nil {
		target = *up
	}
	conf, err := s.connConfig(target, cfg.Replication, "Patroni heartbeat", map[string]string{"replication": "1", "statement_timeout": "2000"})
	if err != nil {
		return err
	}
	if up == nil {
		s.spareTLS(conf)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+connectTimeout)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, &conf.Config)
	if err != nil {
		return plain.Connection(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout/60)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	results, err := conn.Exec(ctx, query).ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return fmt.Errorf("%s: no answer", query)
	}
	return row(results[0].Rows[0])
}

// LocalHistory reads the .history file of timeline tl from pg_wal. Timeline 1
// has none; a missing file of a later one is an error.
func (s *Server) LocalHistory(tl wal.Timeline) (wal.History, error) {
	if tl <= 1 {
		return nil, nil
	}
	name := fmt.Sprintf("%08X.history", uint32(tl))
	b, err := os.ReadFile(s.inData("pg_wal", name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read history of timeline %d: %w", tl, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read history of timeline %d: %w", tl, err)
	}
	return wal.ParseHistory(string(b))
}

// upstreamPrimary tells whether up runs and is out of recovery, asked with the
// credentials of pg_rewind.
func (s *Server) upstreamPrimary(ctx context.Context, up Upstream) (bool, error) {
	var recovering bool
	err := s.askUpstream(ctx, up, "SELECT pg_is_in_recovery()", &recovering)
	if err != nil {
		return false, fmt.Errorf("ask %s for its role: %w", up.where(), err)
	}
	return !recovering, nil
}

func (s *Server) askUpstream(ctx context.Context, up Upstream, query string, dest ...any) error {
	cfg, err := s.connConfig(up, s.config().Rewind, "Patroni heartbeat", map[string]string{"statement_timeout": "2000"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+connectTimeout)
	defer cancel()
	return withConn(ctx, cfg, func(c *pgx.Conn) error { return c.QueryRow(ctx, query).Scan(dest...) })
}
