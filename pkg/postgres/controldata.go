package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// States of pg_controldata that callers branch on.
const (
	StateShutDown           = "shut down"
	StateShutDownInRecovery = "shut down in recovery"
	StateInProduction       = "in production"
	StateInArchiveRecovery  = "in archive recovery"
	StateInCrashRecovery    = "in crash recovery"
	StateShuttingDown       = "shutting down"
)

// ControlData is what pg_controldata prints. Zero values: not printed.
type ControlData struct {
	SystemID         string
	State            string // one of the State constants, or "starting up"
	CheckpointLSN    wal.LSN
	CheckpointTLI    wal.Timeline
	RedoLSN          wal.LSN
	RedoWALFile      string
	MinRecoveryEnd   wal.LSN
	MinRecoveryTLI   wal.Timeline
	WalLevel         string
	WalLogHints      bool
	Checksums        bool
	TrackCommitTS    bool
	MaxConnections   int
	MaxWorkers       int
	MaxWalSenders    int
	MaxPreparedXacts int
	MaxLocksPerXact  int
	WalSegmentSize   int64 // bytes
}

// ControlData runs pg_controldata. It works with and without a running server.
func (s *Server) ControlData(ctx context.Context) (ControlData, error) {
	out, err := s.run(ctx, command{path: s.bin("pg_controldata"), args: []string{s.config().DataDir}})
	if err != nil {
		return ControlData{}, fmt.Errorf("read control file: %w", err)
	}
	return parseControlData(out)
}

// parseControlData reads the output for LC_ALL=C. Unknown lines are skipped
// and unreadable values left zero; only an output without a system identifier
// or state is refused, since nothing could be decided by it.
func parseControlData(out string) (ControlData, error) {
	var c ControlData
	for _, line := range strings.Split(out, "\n") {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		c.set(strings.TrimSpace(key), strings.TrimSpace(value))
	}
	if c.SystemID == "" || c.State == "" {
		return ControlData{}, fmt.Errorf("parse pg_controldata: no system identifier or state in its output")
	}
	return c, nil
}

func (c *ControlData) set(key, value string) {
	lsn := func() wal.LSN {
		l, _ := wal.ParseLSN(value)
		return l
	}
	num := func() int {
		n, _ := strconv.ParseInt(value, 10, 32)
		return int(n)
	}
	tli := func() wal.Timeline {
		n, _ := strconv.ParseUint(value, 10, 32)
		return wal.Timeline(n)
	}
	switch key {
	case "Database system identifier":
		if _, err := strconv.ParseUint(value, 10, 64); err == nil {
			c.SystemID = value
		}
	case "Database cluster state":
		c.State = value
	case "Latest checkpoint location":
		c.CheckpointLSN = lsn()
	case "Latest checkpoint's REDO location":
		c.RedoLSN = lsn()
	case "Latest checkpoint's REDO WAL file":
		c.RedoWALFile = value
	case "Latest checkpoint's TimeLineID":
		c.CheckpointTLI = tli()
	case "Minimum recovery ending location":
		c.MinRecoveryEnd = lsn()
	case "Min recovery ending loc's timeline":
		c.MinRecoveryTLI = tli()
	case "wal_level setting":
		c.WalLevel = value
	case "wal_log_hints setting":
		c.WalLogHints = value == "on"
	case "track_commit_timestamp setting":
		c.TrackCommitTS = value == "on"
	case "Data page checksum version":
		c.Checksums = num() != 0
	case "max_connections setting":
		c.MaxConnections = num()
	case "max_worker_processes setting":
		c.MaxWorkers = num()
	case "max_wal_senders setting":
		c.MaxWalSenders = num()
	case "max_prepared_xacts setting":
		c.MaxPreparedXacts = num()
	case "max_locks_per_xact setting":
		c.MaxLocksPerXact = num()
	case "Bytes per WAL segment":
		c.WalSegmentSize, _ = strconv.ParseInt(value, 10, 64)
	}
}

// needs returns, per GUC, the smallest value a standby of this directory can
// start with (wire contract §3.4, decrease rule).
func (c ControlData) needs() map[string]int {
	return map[string]int{
		"max_connections":           c.MaxConnections,
		"max_worker_processes":      c.MaxWorkers,
		"max_wal_senders":           c.MaxWalSenders,
		"max_prepared_transactions": c.MaxPreparedXacts,
		"max_locks_per_transaction": c.MaxLocksPerXact,
	}
}
