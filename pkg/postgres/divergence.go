package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Divergence is the answer of CheckDivergence.
type Divergence int

const (
	// DivergenceUnknown means that the question could not be answered now.
	DivergenceUnknown Divergence = iota
	// RewindNotNeeded means that the server can stream from the leader as it is.
	RewindNotNeeded
	// RewindNeeded means that this directory holds WAL the leader's history
	// does not contain.
	RewindNeeded
)

// String names the answer for logs.
func (d Divergence) String() string {
	return [...]string{"unknown", "not needed", "needed"}[min(max(d, 0), RewindNeeded)]
}

// ErrForeignSystem means that the other server is not of this cluster.
var ErrForeignSystem = errors.New("the other server has another system identifier")

// ErrNotPrimary means that the other server is in recovery, so nothing can be
// compared with it, cloned or rewound from it.
var ErrNotPrimary = errors.New("the other server is in recovery")

// localPoint is where this server's WAL ends for good.
type localPoint struct {
	tl         wal.Timeline
	at         wal.LSN
	inRecovery bool
}

// CheckDivergence compares this server with the leader up (ha-behaviour 5.3).
// DivergenceUnknown comes with the reason; ask again later.
func (s *Server) CheckDivergence(ctx context.Context, up Upstream) (Divergence, error) {
	local, err := s.localPoint(ctx)
	if err != nil {
		return DivergenceUnknown, fmt.Errorf("compare with %s: %w", up.where(), err)
	}
	leader, err := s.checkLeader(ctx, up)
	if err != nil {
		return DivergenceUnknown, err
	}
	if local.tl >= leader.Timeline {
		return fork(wal.Compare(local.tl, local.at, 0, local.inRecovery, leader.Timeline, nil)), nil
	}
	history, err := s.TimelineHistory(ctx, &up, leader.Timeline)
	if err != nil {
		return DivergenceUnknown, err
	}
	var end wal.LSN
	if !local.inRecovery {
		if end, err = s.recordEnd(ctx, local.tl, local.at); err != nil { // then a rewind it is: it reads the WAL itself
			s.log.Warn("where the last local WAL record ends is not known", "error", err)
		}
	}
	s.log.Info("comparing timelines", "local_timeline", local.tl, "local_lsn", local.at.String(),
		"in_recovery", local.inRecovery, "record_end", end.String(), "leader_timeline", leader.Timeline)
	return fork(wal.Compare(local.tl, local.at, end, local.inRecovery, leader.Timeline, history)), nil
}

func fork(f wal.Fork) Divergence {
	if f == wal.ForkNone {
		return RewindNotNeeded
	}
	return RewindNeeded
}

// checkLeader makes sure that up is a primary of this cluster and identifies it.
func (s *Server) checkLeader(ctx context.Context, up Upstream) (System, error) {
	primary, err := s.upstreamPrimary(ctx, up)
	if err != nil {
		return System{}, err
	}
	if !primary {
		return System{}, fmt.Errorf("%s: %w", up.where(), ErrNotPrimary)
	}
	return s.identify(ctx, up)
}

func (s *Server) identify(ctx context.Context, up Upstream) (System, error) {
	sys, err := s.IdentifySystem(ctx, &up)
	if err != nil {
		return System{}, fmt.Errorf("%s: %w", up.where(), err)
	}
	control, err := s.ControlData(ctx)
	if err != nil {
		return System{}, err
	}
	if sys.ID != control.SystemID {
		return System{}, fmt.Errorf("%s: %w (%s, ours is %s)", up.where(), ErrForeignSystem, sys.ID, control.SystemID)
	}
	return sys, nil
}

// localPoint finds the end of the local WAL: by asking a running standby, else
// from the control file.
func (s *Server) localPoint(ctx context.Context) (localPoint, error) {
	_, running := s.Running()
	if running {
		p, err := s.runningPoint(ctx)
		if err == nil {
			return p, nil
		}
		if r, _ := s.Accepting(ctx); r == Accepting {
			return localPoint{}, err
		}
	}
	control, err := s.ControlData(ctx)
	if err != nil {
		return localPoint{}, err
	}
	return control.endPoint()
}

func (s *Server) runningPoint(ctx context.Context) (localPoint, error) {
	timeline := func() (wal.Timeline, error) {
		sys, err := s.IdentifySystem(ctx, nil)
		return sys.Timeline, err
	}
	tl, at, err := together(timeline, func() (wal.LSN, error) { return s.replayPosition(ctx) })
	if err != nil {
		return localPoint{}, err
	}
	return localPoint{tl: tl, at: at, inRecovery: true}, nil
}

// together asks for a timeline and a position on it, which only different connections
// tell: a standby that crosses to the new leader's timeline between the two answers
// would seem to have run past the fork.
func together(timeline func() (wal.Timeline, error), position func() (wal.LSN, error)) (wal.Timeline, wal.LSN, error) {
	before, err := timeline()
	for err == nil {
		at, failed := position()
		if failed != nil {
			return 0, 0, failed
		}
		var after wal.Timeline
		if after, err = timeline(); err == nil && after == before {
			return after, at, nil
		}
		before = after
	}
	return 0, 0, err
}

// replayPosition is how far a running standby has replayed.
func (s *Server) replayPosition(ctx context.Context) (wal.LSN, error) {
	var recovering bool
	var replay *string
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text").Scan(&recovering, &replay)
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("ask for the replay position: %w", err)
	case !recovering:
		return 0, errors.New("the local server is not in recovery")
	case lsn(replay) == 0:
		return 0, errors.New("the local server does not know its replay position")
	}
	return lsn(replay), nil
}

// endPoint reads the end of WAL out of a control file.
func (c ControlData) endPoint() (localPoint, error) {
	switch c.State {
	case StateShutDownInRecovery, StateInArchiveRecovery:
		if c.MinRecoveryEnd != 0 && c.MinRecoveryTLI != 0 {
			return localPoint{tl: c.MinRecoveryTLI, at: c.MinRecoveryEnd, inRecovery: true}, nil
		}
		// It was a primary and has replayed nothing yet.
	case StateShutDown:
	default:
		return localPoint{}, fmt.Errorf("the control file says %q: the server was not shut down cleanly", c.State)
	}
	if c.CheckpointTLI == 0 || c.CheckpointLSN == 0 {
		return localPoint{}, errors.New("the control file names no checkpoint")
	}
	return localPoint{tl: c.CheckpointTLI, at: c.CheckpointLSN}, nil
}

// recordEnd finds the position after the record at at.
func (s *Server) recordEnd(ctx context.Context, tl wal.Timeline, at wal.LSN) (wal.LSN, error) {
	rec, err := s.walRecord(ctx, tl, at)
	if err != nil {
		return 0, err
	}
	control, err := s.ControlData(ctx)
	if err != nil {
		return 0, err
	}
	return wal.RecordEnd(at, rec.length, control.WalBlockSize, control.WalSegmentSize), nil
}

// walRecord is what pg_waldump shows of a record.
type walRecord struct {
	rmgr, desc string
	lsn, prev  wal.LSN
	length     uint32 // in bytes, with full-page images
}

func (s *Server) walRecord(ctx context.Context, tl wal.Timeline, at wal.LSN) (walRecord, error) {
	out, err := s.run(ctx, command{path: s.bin("pg_waldump"), args: []string{
		"-t", fmt.Sprint(uint32(tl)), "-p", s.inData("pg_wal"), "-s", at.String(), "-n", "1"}})
	if err != nil {
		return walRecord{}, err
	}
	rec, ok := parseWalRecord(out)
	if !ok || rec.lsn != at {
		return walRecord{}, fmt.Errorf("pg_waldump shows no record at %s of timeline %d: %q", at, tl, out)
	}
	return rec, nil
}

var walRecordLine = regexp.MustCompile(`^rmgr: (\S+)\s+len \(rec/tot\): *\d+/ *(\d+), .*lsn: ([0-9A-F]+/[0-9A-F]+), prev ([0-9A-F]+/[0-9A-F]+), desc: (.*)$`)

func parseWalRecord(line string) (walRecord, bool) {
	m := walRecordLine.FindStringSubmatch(strings.TrimSpace(line))
	if m == nil {
		return walRecord{}, false
	}
	length, err1 := strconv.ParseUint(m[2], 10, 32)
	at, err2 := wal.ParseLSN(m[3])
	prev, err3 := wal.ParseLSN(m[4])
	return walRecord{rmgr: m[1], desc: m[5], lsn: at, prev: prev, length: uint32(length)}, errors.Join(err1, err2, err3) == nil
}

// ShutdownCheckpoint gives, for a cleanly stopped primary, the position of its
// shutdown checkpoint and the position to publish: that of the record before
// it when that is the WAL switch archiving adds, else the same (ha-behaviour
// 1.21). Both are 0 unless the control file says "shut down". Writers wait for it:
// the WAL is read only where there may be such a switch.
func (s *Server) ShutdownCheckpoint(ctx context.Context) (checkpoint, publish wal.LSN, err error) {
	control, err := s.ControlData(ctx)
	if err != nil {
		return 0, 0, err
	}
	if control.State != StateShutDown {
		return 0, 0, nil
	}
	checkpoint = control.CheckpointLSN
	if mode := s.config().Parameters["archive_mode"]; mode == "" || mode == "off" {
		return checkpoint, checkpoint, nil
	}
	rec, err := s.walRecord(ctx, control.CheckpointTLI, checkpoint)
	if err != nil {
		s.log.Warn("what comes before the shutdown checkpoint is not known", "error", err)
		return checkpoint, checkpoint, nil
	}
	before, err := s.walRecord(ctx, control.CheckpointTLI, rec.prev)
	if err == nil && before.rmgr == "XLOG" && strings.HasPrefix(before.desc, "SWITCH") {
		return checkpoint, before.lsn, nil
	}
	return checkpoint, checkpoint, nil
}
