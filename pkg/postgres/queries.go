package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Readiness is the answer of a fresh connection.
type Readiness int

const (
	// Accepting means that the server takes connections.
	Accepting Readiness = iota
	// Rejecting means alive, but starting up, shutting down or in recovery.
	Rejecting
	// NoResponse means that nobody answered within the time given.
	NoResponse
)

// String names the answer for logs.
func (r Readiness) String() string {
	return [...]string{"accepting", "rejecting", "no response"}[min(max(r, 0), NoResponse)]
}

// cannotConnectNow is the SQLSTATE of a server that rejects connections.
const cannotConnectNow = "57P03"

// Accepting makes a fresh connection, so it sees what a client would see: a
// postmaster that hangs does not answer, though old connections still work.
// The error tells why there was no response. A server that refuses us for any
// other reason (password, too many clients) does accept connections.
func (s *Server) Accepting(ctx context.Context) (Readiness, error) {
	cfg, err := s.localConn("Patroni heartbeat", connectTimeout)
	if err != nil {
		return NoResponse, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	var pg *pgconn.PgError
	switch {
	case err == nil:
		drop(conn)
		return Accepting, nil
	case errors.As(err, &pg) && pg.Code == cannotConnectNow:
		return Rejecting, nil
	case errors.As(err, &pg):
		return Accepting, nil
	default:
		return NoResponse, fmt.Errorf("connect to the server: %w", plain.Connection(err))
	}
}

// Status is one monitoring row. LSNs are 0 and strings empty when unknown.
type Status struct {
	InRecovery     bool
	Timeline       wal.Timeline // primary: of the current WAL file; standby: of replay
	WriteLSN       wal.LSN      // primary: pg_current_wal_lsn
	FlushLSN       wal.LSN      // primary: pg_current_wal_flush_lsn
	ReceiveLSN     wal.LSN      // standby: pg_last_wal_receive_lsn
	WrittenLSN     wal.LSN      // standby: written by the WAL receiver, PostgreSQL 13
	ReplayLSN      wal.LSN      // standby
	ReplayPaused   bool         // standby
	ReplayedAt     string       // time of the last replayed commit, in the form of StartTime
	Receiver       Receiver     // standby
	RestoreCommand bool         // a restore_command is set
	ServerVersion  int          // 150020
	StartTime      string       // postmaster start, wire contract §5.4
	PendingRestart bool         // the server itself knows of a pending restart
	SyncCommit     string       // synchronous_commit
	SyncNames      string       // synchronous_standby_names in force
	Replication    []Replica
	Slots          []Slot // without temporary ones
	WALLevel       string // wal_level
	MaxSlots       int    // max_replication_slots
	SlotLimit      int64  // max_slot_wal_keep_size in bytes; -1: none, 0: an older server
}

// Receiver is pg_stat_wal_receiver; an empty State means there is none.
type Receiver struct {
	State        string       // streaming, waiting, ...
	Timeline     wal.Timeline // 0 until LatestEndLSN is known
	Slot         string
	ConnInfo     string // the server blanks the password
	LatestEndLSN wal.LSN
}

// Replica is one row of pg_stat_replication, in the form of GET /patroni.
type Replica struct {
	User         *string `json:"usename"`
	Application  *string `json:"application_name"`
	ClientAddr   *string `json:"client_addr"`
	State        *string `json:"state"`
	SyncState    *string `json:"sync_state"`
	SyncPriority int     `json:"sync_priority"`

	// Positions, for synchronous replication; not part of the document.
	SentLSN   wal.LSN `json:"-"`
	WriteLSN  wal.LSN `json:"-"`
	FlushLSN  wal.LSN `json:"-"`
	ReplayLSN wal.LSN `json:"-"`
}

// Sample is the cheap WAL position for REST; the fields are those of Status.
type Sample struct {
	InRecovery   bool
	WriteLSN     wal.LSN
	ReceiveLSN   wal.LSN
	WrittenLSN   wal.LSN
	ReplayLSN    wal.LSN
	ReplayPaused bool
	ReplayedAt   string
}

const (
	timelineSQL = `CASE WHEN pg_is_in_recovery() THEN 0
 ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 END`

	// timeFormat gives the form of wire contract §5.4; a zero fraction is cut
	// off by trimTime.
	timeFormat = `'YYYY-MM-DD HH24:MI:SS.USTZH:TZM'`

	positionSQL = `pg_is_in_recovery(),
 CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_lsn()::text END,
 CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn()::text END,
 CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text END,
 CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END,
 CASE WHEN pg_is_in_recovery() THEN to_char(pg_last_xact_replay_timestamp(), ` + timeFormat + `) END,
 r.WRITTEN::text`

	sampleSQL = "SELECT " + positionSQL + " FROM (SELECT 1) one LEFT JOIN pg_stat_get_wal_receiver() r ON true"

	statusSQL = "SELECT " + positionSQL + ", " + timelineSQL + `,
 CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_flush_lsn()::text END,
 r.status, CASE WHEN r.latest_end_lsn IS NOT NULL THEN r.received_tli END, r.slot_name, r.conninfo, r.latest_end_lsn::text,
 current_setting('restore_command') <> '', current_setting('server_version_num')::int4,
 to_char(pg_postmaster_start_time(), ` + timeFormat + `),
 EXISTS (SELECT FROM pg_settings WHERE pending_restart),
 current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
 (SELECT json_agg(x)::text FROM (SELECT usename, application_name, client_addr, state, sync_state, sync_priority,
   sent_lsn, write_lsn, flush_lsn, replay_lsn FROM pg_stat_replication) x),
 (` + slotsSQL + `), current_setting('wal_level'), current_setting('max_replication_slots')::int4,
 coalesce(pg_size_bytes(current_setting('max_slot_wal_keep_size', true)), 0)
 FROM (SELECT 1) one LEFT JOIN pg_stat_get_wal_receiver() r ON true`

	// slotsSQL takes whole rows: what is in them depends on the version.
	slotsSQL = "SELECT json_agg(to_jsonb(s))::text FROM pg_replication_slots s WHERE NOT temporary"
)

// forVersion fills in what the views call things in the server at the other
// end of c.
func forVersion(c *pgx.Conn, sql string) string {
	version, _ := parseVersion(c.PgConn().ParameterStatus("server_version"))
	written := "written_lsn"
	if version < 130000 {
		written = "received_lsn"
	}
	return strings.ReplaceAll(sql, "WRITTEN", written)
}

// position is the destination of positionSQL.
type position struct {
	write, receive, replay, at, written *string
}

func (p *position) dest(inRecovery, paused *bool) []any {
	return []any{inRecovery, &p.write, &p.receive, &p.replay, paused, &p.at, &p.written}
}

func lsn(s *string) wal.LSN {
	if s == nil {
		return 0
	}
	l, _ := wal.ParseLSN(*s)
	return l
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// trimTime cuts off a fraction of zero, as Python's rendering does.
func trimTime(s *string) string { return strings.Replace(text(s), ".000000", "", 1) }

// Sample asks for the WAL position only, on a connection of its own.
func (s *Server) Sample(ctx context.Context) (Sample, error) {
	var out Sample
	err := s.rest.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var p position
		var res Sample
		if err := c.QueryRow(ctx, forVersion(c, sampleSQL)).Scan(p.dest(&res.InRecovery, &res.ReplayPaused)...); err != nil {
			return err
		}
		res.WriteLSN, res.ReceiveLSN, res.ReplayLSN = lsn(p.write), lsn(p.receive), lsn(p.replay)
		res.WrittenLSN, res.ReplayedAt = lsn(p.written), trimTime(p.at)
		out = res
		return nil
	})
	if err != nil {
		return Sample{}, fmt.Errorf("ask for the WAL position: %w", err)
	}
	return out, nil
}

// Status asks for the monitoring row.
func (s *Server) Status(ctx context.Context) (Status, error) {
	var st Status
	err := s.monitor.do(ctx, func(ctx context.Context, c *pgx.Conn) (err error) {
		st, err = queryStatus(ctx, c)
		return err
	})
	if err != nil {
		return Status{}, fmt.Errorf("ask for the server's status: %w", err)
	}
	if st.InRecovery {
		st.Timeline = s.replayTimeline(ctx, st)
	}
	return st, nil
}

func queryStatus(ctx context.Context, c *pgx.Conn) (Status, error) {
	var st Status
	var p position
	var flush, status, slot, conninfo, latest, start, repl, slots *string
	var tl int64
	var tli *int32
	dest := append(p.dest(&st.InRecovery, &st.ReplayPaused), &tl, &flush, &status, &tli, &slot, &conninfo, &latest,
		&st.RestoreCommand, &st.ServerVersion, &start, &st.PendingRestart, &st.SyncCommit, &st.SyncNames, &repl, &slots, &st.WALLevel, &st.MaxSlots, &st.SlotLimit)
	if err := c.QueryRow(ctx, forVersion(c, statusSQL)).Scan(dest...); err != nil {
		return Status{}, err
	}
	st.Timeline = wal.Timeline(tl)
	st.WriteLSN, st.FlushLSN = lsn(p.write), lsn(flush)
	st.ReceiveLSN, st.ReplayLSN, st.WrittenLSN = lsn(p.receive), lsn(p.replay), lsn(p.written)
	st.ReplayedAt, st.StartTime = trimTime(p.at), trimTime(start)
	st.Receiver = Receiver{State: text(status), Slot: text(slot), ConnInfo: text(conninfo), LatestEndLSN: lsn(latest)}
	if tli != nil && *tli > 0 {
		st.Receiver.Timeline = wal.Timeline(*tli)
	}
	var err error
	if st.Replication, err = decodeReplicas(text(repl)); err != nil {
		return Status{}, err
	}
	st.Slots, err = decodeSlots(text(slots))
	return st, err
}

type replicaRow struct {
	Replica
	Sent   *string `json:"sent_lsn"`
	Write  *string `json:"write_lsn"`
	Flush  *string `json:"flush_lsn"`
	Replay *string `json:"replay_lsn"`
}

func decodeReplicas(doc string) ([]Replica, error) {
	return decodeRows(doc, "replication rows", func(r replicaRow) Replica {
		r.SentLSN, r.WriteLSN, r.FlushLSN, r.ReplayLSN = lsn(r.Sent), lsn(r.Write), lsn(r.Flush), lsn(r.Replay)
		return r.Replica
	})
}

// decodeRows reads what json_agg made of a view: nothing, or a list of rows.
func decodeRows[Row, T any](doc, what string, convert func(Row) T) ([]T, error) {
	if doc == "" {
		return nil, nil
	}
	var rows []Row
	if err := json.Unmarshal([]byte(doc), &rows); err != nil {
		return nil, fmt.Errorf("decode %s: %w", what, err)
	}
	out := make([]T, len(rows))
	for i, r := range rows {
		out[i] = convert(r)
	}
	return out, nil
}

// replayTimeline asks the local walsender for the timeline being replayed,
// since the WAL receiver runs ahead of replay (ha-behaviour 5.3). The answer
// is kept while the receiver streams that timeline, and while nothing is replayed:
// in an election, when there is no receiver, every turn asks for the status.
func (s *Server) replayTimeline(ctx context.Context, st Status) wal.Timeline {
	s.mu.Lock()
	kept := s.timeline
	s.mu.Unlock()
	if kept.tl != 0 && kept.start == st.StartTime && (st.Receiver.Timeline == kept.tl || st.ReplayLSN == kept.replayed) {
		return kept.tl
	}
	sys, err := s.IdentifySystem(ctx, nil)
	if err != nil {
		s.log.Debug("cannot ask for the replay timeline", "error", err)
		control, err := s.ControlData(ctx)
		if err != nil {
			return 0
		}
		return max(control.CheckpointTLI, control.MinRecoveryTLI)
	}
	s.mu.Lock()
	s.timeline = timelineCache{tl: sys.Timeline, start: st.StartTime, replayed: st.ReplayLSN}
	s.mu.Unlock()
	return sys.Timeline
}
