package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
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
		end = s.recordEnd(ctx, local.tl, local.at)
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
	sys, err := s.IdentifySystem(ctx, nil)
	if err != nil {
		return localPoint{}, err
	}
	var recovering bool
	var replay *string
	err = s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text").Scan(&recovering, &replay)
	})
	switch {
	case err != nil:
		return localPoint{}, fmt.Errorf("ask for the replay position: %w", err)
	case !recovering:
		return localPoint{}, errors.New("the local server is not in recovery")
	case lsn(replay) == 0:
		return localPoint{}, errors.New("the local server does not know its replay position")
	}
	return localPoint{tl: sys.Timeline, at: lsn(replay), inRecovery: true}, nil
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

// recordEnd finds the position after the record at lsn, 0 when unknown.
func (s *Server) recordEnd(ctx context.Context, tl wal.Timeline, at wal.LSN) wal.LSN {
	out, errOut := s.waldump(ctx, tl, at, 2)
	return parseRecordEnd(out, errOut, at)
}

// waldump prints up to n records from at on. Failing is normal: the record
// after the last one does not exist.
func (s *Server) waldump(ctx context.Context, tl wal.Timeline, at wal.LSN, n int) (out, errOut string) {
	out, err := s.run(ctx, command{path: s.bin("pg_waldump"), args: []string{
		"-t", fmt.Sprint(uint32(tl)), "-p", s.inData("pg_wal"), "-s", at.String(), "-n", fmt.Sprint(n)}})
	var failed *CommandError
	if errors.As(err, &failed) {
		errOut = failed.Stderr
	}
	return out, errOut
}

var (
	waldumpRecord = regexp.MustCompile(`^rmgr: (\S+)\s+len .*, lsn: ([0-9A-F]+/[0-9A-F]+), prev ([0-9A-F]+/[0-9A-F]+), desc: (.*)$`)
	waldumpAfter  = regexp.MustCompile(`error in WAL record at ([0-9A-F]+/[0-9A-F]+): (.*)`)
	anyLSN        = regexp.MustCompile(`[0-9A-F]{1,8}/[0-9A-F]{1,8}`)
)

// walRecord is one line of pg_waldump.
type walRecord struct {
	rmgr, desc string
	lsn, prev  wal.LSN
}

func parseWaldump(out string) []walRecord {
	var recs []walRecord
	for _, line := range strings.Split(out, "\n") {
		m := waldumpRecord.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		at, err1 := wal.ParseLSN(m[2])
		prev, err2 := wal.ParseLSN(m[3])
		if err1 == nil && err2 == nil {
			recs = append(recs, walRecord{rmgr: m[1], desc: m[4], lsn: at, prev: prev})
		}
	}
	return recs
}

// parseRecordEnd finds where the record at at ends: at the next record, or
// where reading the next one failed. 0 means unknown.
func parseRecordEnd(out, errOut string, at wal.LSN) wal.LSN {
	recs := parseWaldump(out)
	if len(recs) == 0 || recs[0].lsn != at {
		return 0
	}
	if len(recs) > 1 {
		if recs[1].lsn > at && recs[1].prev == at {
			return recs[1].lsn
		}
		return 0
	}
	for _, line := range strings.Split(errOut, "\n") {
		m := waldumpAfter.FindStringSubmatch(line)
		if m == nil || m[1] != at.String() {
			continue
		}
		// The message names where it looked for the next record; a prev-link
		// it found there may be named before it.
		all := anyLSN.FindAllString(m[2], -1)
		if len(all) == 0 {
			return 0
		}
		end, err := wal.ParseLSN(all[len(all)-1])
		if err != nil || end <= at {
			return 0
		}
		return end
	}
	return 0
}

// ShutdownCheckpoint gives, for a cleanly stopped primary, the position of its
// shutdown checkpoint and the position to publish: that of the record before
// it when that is the WAL switch archiving adds, else the same (ha-behaviour
// 1.21). Both are 0 unless the control file says "shut down".
func (s *Server) ShutdownCheckpoint(ctx context.Context) (checkpoint, publish wal.LSN, err error) {
	control, err := s.ControlData(ctx)
	if err != nil {
		return 0, 0, err
	}
	if control.State != StateShutDown {
		return 0, 0, nil
	}
	checkpoint = control.CheckpointLSN
	out, _ := s.waldump(ctx, control.CheckpointTLI, checkpoint, 1)
	recs := parseWaldump(out)
	if len(recs) == 0 || recs[0].prev == 0 {
		return checkpoint, checkpoint, nil
	}
	out, _ = s.waldump(ctx, control.CheckpointTLI, recs[0].prev, 1)
	if before := parseWaldump(out); len(before) > 0 && before[0].rmgr == "XLOG" && strings.HasPrefix(before[0].desc, "SWITCH") {
		return checkpoint, before[0].lsn, nil
	}
	return checkpoint, checkpoint, nil
}
