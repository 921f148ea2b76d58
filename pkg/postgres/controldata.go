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
	WalBlockSize     int64 // bytes
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
	fields := c.fields()
	for _, line := range strings.Split(out, "\n") {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		switch key, value = strings.TrimSpace(key), strings.TrimSpace(value); key {
		case "Database system identifier":
			if _, err := strconv.ParseUint(value, 10, 64); err == nil {
				c.SystemID = value
			}
		case "Data page checksum version":
			var version int
			setControl(&version, value)
			c.Checksums = version != 0
		default:
			setControl(fields[key], value)
		}
	}
	if c.SystemID == "" || c.State == "" {
		return ControlData{}, fmt.Errorf("parse pg_controldata: no system identifier or state in its output")
	}
	return c, nil
}

// fields tells where the value of a line goes.
func (c *ControlData) fields() map[string]any {
	return map[string]any{
		"Database cluster state":             &c.State,
		"Latest checkpoint location":         &c.CheckpointLSN,
		"Latest checkpoint's REDO location":  &c.RedoLSN,
		"Latest checkpoint's REDO WAL file":  &c.RedoWALFile,
		"Latest checkpoint's TimeLineID":     &c.CheckpointTLI,
		"Minimum recovery ending location":   &c.MinRecoveryEnd,
		"Min recovery ending loc's timeline": &c.MinRecoveryTLI,
		"wal_level setting":                  &c.WalLevel,
		"wal_log_hints setting":              &c.WalLogHints,
		"track_commit_timestamp setting":     &c.TrackCommitTS,
		"max_connections setting":            &c.MaxConnections,
		"max_worker_processes setting":       &c.MaxWorkers,
		"max_wal_senders setting":            &c.MaxWalSenders,
		"max_prepared_xacts setting":         &c.MaxPreparedXacts,
		"max_locks_per_xact setting":         &c.MaxLocksPerXact,
		"Bytes per WAL segment":              &c.WalSegmentSize,
		"WAL block size":                     &c.WalBlockSize,
	}
}

func setControl(field any, value string) {
	switch f := field.(type) {
	case *string:
		*f = value
	case *bool:
		*f = value == "on"
	case *int:
		n, _ := strconv.ParseInt(value, 10, 32)
		*f = int(n)
	case *int64:
		*f, _ = strconv.ParseInt(value, 10, 64)
	case *wal.Timeline:
		n, _ := strconv.ParseUint(value, 10, 32)
		*f = wal.Timeline(n)
	case *wal.LSN:
		*f, _ = wal.ParseLSN(value)
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
