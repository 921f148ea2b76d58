package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// chooseRestoreSet gives the label of the set a recovery to target begins with.
// systemID, unless empty, is the one it must have been made of.
func (s *Server) chooseRestoreSet(ctx context.Context, stanza, wanted string, target RecoveryTarget, systemID string) (string, error) {
	repo, err := s.Repository(ctx, stanza)
	if err != nil {
		return "", err
	}
	if systemID == "" {
		systemID = repo.SystemID
	}
	set, err := setForTarget(repo.Backups, wanted, target, systemID)
	return set.Label, err
}

// setForTarget picks the newest sound backup that ended before the target, or
// checks the one that is wanted.
func setForTarget(sets []BackupSet, wanted string, target RecoveryTarget, systemID string) (BackupSet, error) {
	foreign, own := false, false
	for i := len(sets) - 1; i >= 0; i-- {
		b := sets[i]
		switch {
		case wanted != "" && b.Label != wanted:
			continue
		case b.SystemID != systemID:
			foreign = true
			continue
		}
		own = true
		switch {
		case wanted != "":
			if !endsBefore(b, target) {
				return BackupSet{}, fmt.Errorf("the target (%s) lies before the end of the backup %s: choose an older backup set", target, wanted)
			}
			return b, nil
		case !b.Damaged && endsBefore(b, target):
			return b, nil
		}
	}
	switch {
	case foreign && !own:
		return BackupSet{}, fmt.Errorf("%w: expected system identifier %s", ErrForeignRepository, systemID)
	case wanted != "":
		return BackupSet{}, fmt.Errorf("%w: %q", ErrNoBackup, wanted)
	}
	return BackupSet{}, fmt.Errorf("%w: none ended before the target (%s)", ErrNoBackup, target)
}

// endsBefore tells, as far as it can be known in advance, that recovery from b
// can reach the target.
func endsBefore(b BackupSet, target RecoveryTarget) bool {
	if tl, err := strconv.ParseUint(target.Timeline, 10, 32); err == nil && b.Timeline > wal.Timeline(tl) {
		return false
	}
	switch target.kind() {
	case "time":
		at, err := ParseTargetTime(target.Value)
		return err == nil && b.Stop.Before(at.Add(time.Microsecond))
	case "lsn":
		at, err := wal.ParseLSN(target.Value)
		return err == nil && b.StopLSN <= at
	}
	return true
}

// leaderPoint is the leader's present state, as far as a backup is judged by it.
type leaderPoint struct {
	systemID string
	tl       wal.Timeline
	at       wal.LSN
	history  wal.History // of tl
	segment  int64       // WAL segment size in bytes
}

var (
	errNoAncestor = errors.New("no backup in the repository is part of the leader's history")
	errStrayWAL   = errors.New("the archive holds WAL of a former primary from after the leader's branch began, and not yet the leader's own")
)

// setForReplica picks the newest sound backup that is an ancestor of the
// leader's present state: it was made on a timeline of the leader's history,
// and ended before the leader left that timeline. The WAL after it must not
// lead elsewhere: see strays.
func setForReplica(repo Repository, leader leaderPoint) (BackupSet, error) {
	if len(repo.Backups) == 0 {
		return BackupSet{}, ErrNoBackup
	}
	foreign := true
	for i := len(repo.Backups) - 1; i >= 0; i-- {
		b := repo.Backups[i]
		if b.SystemID != leader.systemID {
			continue
		}
		foreign = false
		if b.Damaged || !leader.contains(b) {
			continue
		}
		if b.Timeline != leader.tl && leader.strays(repo.MaxWAL) {
			return BackupSet{}, fmt.Errorf("%w (timeline %d)", errStrayWAL, leader.tl)
		}
		return b, nil
	}
	if foreign {
		return BackupSet{}, fmt.Errorf("%w: the leader has system identifier %s", ErrForeignRepository, leader.systemID)
	}
	return BackupSet{}, fmt.Errorf("%w (timeline %d)", errNoAncestor, leader.tl)
}

// strays tells whether a standby that comes from an older timeline could be
// led astray by the archive, whose last segment is last. PostgreSQL replays a
// segment of an older timeline, also from beyond the end of that timeline,
// where the archive lacks the right one.
func (l leaderPoint) strays(last string) bool {
	if last == "" {
		return false
	}
	tl, start, err := parseSegment(last, l.segment)
	if err != nil {
		return true
	}
	if tl >= l.tl {
		return false // segments are archived in order, the first of the branch among them
	}
	end, ok := l.history.End(tl)
	return !ok || start+wal.LSN(l.segment) > end
}

// parseSegment reads timeline and first position out of a segment's name.
func parseSegment(name string, size int64) (wal.Timeline, wal.LSN, error) {
	if len(name) != 24 || size <= 0 {
		return 0, 0, fmt.Errorf("%q is not the name of a WAL segment", name)
	}
	var part [3]uint64
	for i := range part {
		var err error
		if part[i], err = strconv.ParseUint(name[i*8:i*8+8], 16, 32); err != nil {
			return 0, 0, fmt.Errorf("%q is not the name of a WAL segment", name)
		}
	}
	return wal.Timeline(part[0]), wal.LSN(part[1]<<32 + part[2]*uint64(size)), nil
}

// contains tells whether the leader's history contains all WAL of the backup.
func (l leaderPoint) contains(b BackupSet) bool {
	if b.Timeline == 0 || b.StopLSN == 0 || b.StartLSN > b.StopLSN {
		return false
	}
	if b.Timeline == l.tl {
		return b.StopLSN <= l.at
	}
	end, ok := l.history.End(b.Timeline)
	return b.Timeline < l.tl && ok && b.StopLSN <= end
}

// leaderPointOf asks the leader.
func (s *Server) leaderPointOf(ctx context.Context, leader Upstream) (leaderPoint, error) {
	sys, err := s.IdentifySystem(ctx, &leader)
	if err != nil {
		return leaderPoint{}, fmt.Errorf("%s: %w", leader.where(), err)
	}
	history, err := s.TimelineHistory(ctx, &leader, sys.Timeline)
	if err != nil {
		return leaderPoint{}, fmt.Errorf("%s: %w", leader.where(), err)
	}
	size, err := s.segmentSize(ctx, leader)
	if err != nil {
		return leaderPoint{}, fmt.Errorf("%s: %w", leader.where(), err)
	}
	return leaderPoint{systemID: sys.ID, tl: sys.Timeline, at: sys.XLogPos, history: history, segment: size}, nil
}

// segmentSize asks for wal_segment_size, which is printed with its unit.
func (s *Server) segmentSize(ctx context.Context, up Upstream) (size int64, err error) {
	err = s.replicationQuery(ctx, &up, "SHOW wal_segment_size", func(row [][]byte) error {
		if len(row) < 1 {
			return errors.New("short answer")
		}
		size, err = parseSegmentSize(string(row[0]))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ask for wal_segment_size: %w", err)
	}
	return size, nil
}

func parseSegmentSize(text string) (int64, error) {
	for unit, factor := range map[string]int64{"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			if n, err := strconv.ParseInt(number, 10, 32); err == nil && n > 0 {
				return n * factor, nil
			}
		}
	}
	return 0, fmt.Errorf("wal_segment_size %q cannot be read", text)
}

// putHistory writes the history files of the leader's timelines after from into
// pg_wal. Recovery decides by them where to leave the backup's timeline. The
// archive may not have them yet, but may well have WAL of a former primary from
// beyond that point; a replica that replayed it would be useless.
func (s *Server) putHistory(ctx context.Context, leader Upstream, from, to wal.Timeline) error {
	for tl := from + 1; tl <= to; tl++ {
		query := "TIMELINE_HISTORY " + strconv.FormatUint(uint64(tl), 10)
		err := s.replicationQuery(ctx, &leader, query, func(row [][]byte) error {
			if len(row) < 2 {
				return errors.New("short answer")
			}
			path := s.inData("pg_wal", fmt.Sprintf("%08X.history", uint32(tl)))
			return writeFile(path, row[1], s.fileMode(path))
		})
		if err != nil && tl == to {
			return fmt.Errorf("fetch history of timeline %d: %w", tl, err)
		}
		if err != nil { // not one of the leader's own: the archive has it, if anybody
			s.log.Debug("the leader has no history of a timeline", "timeline", tl, "error", err)
		}
	}
	return nil
}
