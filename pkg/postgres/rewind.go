package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// RewindResult is the outcome of Rewind.
type RewindResult int

const (
	// RewindDone means that the directory can be started as a standby.
	RewindDone RewindResult = iota
	// RewindRetry means that nothing was changed; try again later.
	RewindRetry
	// RewindFailed means that nothing was changed, but it will not work: WAL
	// is missing, or the directory cannot be rewound. Clone, if that is allowed.
	RewindFailed
	// RewindDamaged means that pg_rewind failed half way (safety P12). The
	// marker stays: the directory will not be started, only cloned anew.
	RewindDamaged
)

// String names the outcome for logs.
func (r RewindResult) String() string {
	return [...]string{"done", "retry later", "failed", "damaged"}[min(max(r, 0), RewindDamaged)]
}

// CanRewind tells whether pg_rewind may be used: it is allowed, and the
// control file shows hint-bit logging or checksums.
func (s *Server) CanRewind(ctx context.Context) (bool, error) {
	if !s.config().UsePgRewind {
		return false, nil
	}
	control, err := s.ControlData(ctx)
	if err != nil {
		return false, err
	}
	return control.WalLogHints || control.Checksums, nil
}

// Rewind makes this stopped server a possible standby of up with pg_rewind
// (ha-behaviour 5.4). up must have completed a checkpoint on its timeline;
// see LeaderCheckpointed. A server that was not shut down cleanly is recovered
// in single-user mode first.
func (s *Server) Rewind(ctx context.Context, up Upstream) (RewindResult, error) {
	if _, ok := s.Running(); ok {
		return RewindRetry, fmt.Errorf("rewind: %w", ErrRunning)
	}
	if d := s.State(); d.State != DirPresent {
		return RewindFailed, fmt.Errorf("rewind: data directory is %s", d.State)
	}
	if _, err := s.checkLeader(ctx, up); err != nil {
		if errors.Is(err, ErrForeignSystem) {
			return RewindFailed, fmt.Errorf("rewind: %w", err)
		}
		return RewindRetry, fmt.Errorf("rewind: %w", err)
	}
	control, err := s.ControlData(ctx)
	if err != nil {
		return RewindRetry, fmt.Errorf("rewind: %w", err)
	}
	if control.State != StateShutDown && control.State != StateShutDownInRecovery {
		if err := s.SingleUserRecovery(ctx); err != nil {
			return RewindRetry, fmt.Errorf("rewind: %w", err)
		}
	}
	s.archiveReady(ctx)
	return s.pgRewind(ctx, up)
}

func (s *Server) pgRewind(ctx context.Context, up Upstream) (RewindResult, error) {
	auth := s.config().Rewind
	pass, cleanup, err := s.toolPgpass(up, auth)
	if err != nil {
		return RewindRetry, err
	}
	defer cleanup()
	dsn := s.toolInfo(up, auth)
	dsn["target_session_attrs"] = "read-write"
	// The query by which pg_rewind lists the source's files looks expensive
	// enough to be compiled: a second or more for one of 12 ms.
	source := dsn.String() + " options='-c jit=off'"
	args := []string{"-D", s.config().DataDir, "--source-server", source, "--progress"}
	args = append(args, s.restoreTargetWAL(ctx)...)
	args = append(args, s.rewindOptions()...)
	if err := s.Begin(KindRewind, true); err != nil {
		return RewindRetry, err
	}
	changed := false
	_, err = s.run(ctx, command{
		path: s.bin("pg_rewind"), args: args,
		env: s.toolEnv(append(pass, "PGOPTIONS=-c statement_timeout=0")...),
		line: func(line string) {
			changed = changed || rewindChanges(line)
			s.log.Info("pg_rewind", "output", s.scrub(strings.TrimPrefix(line, "pg_rewind: ")))
		},
	})
	if err == nil {
		// Before the marker goes: without the signal file a stray start would
		// bring up a second primary.
		if err := s.writeSignal(RoleStandby); err != nil {
			return RewindDamaged, err
		}
		if err := s.restoreConfBackups(); err != nil {
			return RewindDamaged, err
		}
		return RewindDone, s.Finish()
	}
	if changed {
		return RewindDamaged, err
	}
	if ferr := s.Finish(); ferr != nil {
		return RewindDamaged, errors.Join(err, ferr)
	}
	if ctx.Err() != nil {
		return RewindRetry, err
	}
	if primary, perr := s.upstreamPrimary(ctx, up); perr != nil || !primary {
		return RewindRetry, err
	}
	return RewindFailed, err
}

// rewindForbidden are the options of pg_rewind that the driver owns (wire
// contract §1.8).
var rewindForbidden = map[string]bool{
	"target-pgdata": true, "source-pgdata": true, "source-server": true, "write-recovery-conf": true, "dry-run": true,
	"restore-target-wal": true, "config-file": true, "no-ensure-shutdown": true, "version": true, "help": true, "progress": true,
}

// rewindOptions renders postgresql.rewind.
func (s *Server) rewindOptions() []string {
	var args []string
	for _, o := range s.config().RewindOptions {
		name := strings.TrimLeft(o.Name, "-")
		if rewindForbidden[name] {
			s.log.Error("dropping an option that pg_rewind may not be given here", "option", name)
			continue
		}
		args = append(args, longOption(name, o))
	}
	return args
}

// rewindChanges tells from a line of pg_rewind's progress that it has begun to
// change the directory, or is about to.
func rewindChanges(line string) bool {
	return strings.Contains(line, "need to copy") || strings.Contains(line, " copied") ||
		strings.Contains(line, "creating backup label")
}

// restoreTargetWAL lets pg_rewind fetch old segments from the archive, where
// the version and the place of the configuration allow it (wire contract §8.6).
func (s *Server) restoreTargetWAL(ctx context.Context) []string {
	major, err := s.MajorVersion()
	if err != nil || major < 13 {
		return nil
	}
	c := s.config()
	if c.ConfigDir != c.DataDir && major < 15 {
		return nil
	}
	if cmd := s.configuredValue(ctx, "restore_command"); cmd == "" || cmd == "?" {
		return nil
	}
	args := []string{"--restore-target-wal"}
	if c.ConfigDir != c.DataDir || c.ConfigBaseName != "postgresql" {
		args = append(args, "--config-file="+s.confPath())
	}
	return args
}

// SingleUserRecovery replays the WAL of a crashed server without letting
// anybody in (ha-behaviour 5.5), so that it ends in state "shut down".
func (s *Server) SingleUserRecovery(ctx context.Context) error {
	if _, ok := s.Running(); ok {
		return fmt.Errorf("recover in single-user mode: %w", ErrRunning)
	}
	stale, err := s.staleOwner()
	if err != nil {
		return fmt.Errorf("recover in single-user mode: %w", err)
	}
	s.archiveReady(ctx)
	if err := s.clearArchiveStatus(); err != nil {
		return fmt.Errorf("recover in single-user mode: %w", err)
	}
	standby := s.hasSignal()
	if err := s.writeSignal(RolePrimary); err != nil {
		return fmt.Errorf("recover in single-user mode: %w", err)
	}
	env := s.serverEnv()
	if stale != 0 {
		env = append(env, fmt.Sprintf("PG_GRANDPARENT_PID=%d", stale))
	}
	// Archiving is on, so that no WAL is recycled, and fails, so that nothing
	// is marked as archived.
	args := append([]string{"--single"}, s.lastOptions()...)
	args = append(args, "--archive_mode=on", "--archive_command=false", "template1")
	_, err = s.run(ctx, command{path: s.bin("postgres"), args: args, env: env})
	if standby {
		err = errors.Join(err, s.writeSignal(RoleStandby))
	}
	if err != nil {
		return fmt.Errorf("recover in single-user mode: %w", err)
	}
	return nil
}

// lastOptions are the options of the last start, from postmaster.opts; recovery
// needs settings no lower than those.
func (s *Server) lastOptions() []string {
	b, err := os.ReadFile(s.inData("postmaster.opts"))
	if opts := parseOpts(string(b)); err == nil && len(opts) > 0 {
		return opts
	}
	major, err := s.MajorVersion()
	if err != nil {
		return []string{"-D", s.config().DataDir}
	}
	_, cmdline := s.wanted(s.configFor(s.DiskRole(), nil), major)
	return s.commandLine(cmdline)
}

// parseOpts reads postmaster.opts: the program, then each argument in double
// quotes, which the server does not escape.
func parseOpts(text string) []string {
	_, rest, ok := strings.Cut(strings.TrimSpace(text), ` "`)
	if !ok {
		return nil
	}
	var opts []string
	for _, o := range strings.Split(strings.TrimSuffix(rest, `"`), `" "`) {
		if strings.HasPrefix(o, "--archive_mode=") || strings.HasPrefix(o, "--archive_command=") {
			continue
		}
		opts = append(opts, o)
	}
	return opts
}

// LeaderCheckpointed tells whether up is a primary whose control file is on its
// current timeline. With superuser credentials it makes the checkpoint; with a
// dedicated rewind role it can only look.
func (s *Server) LeaderCheckpointed(ctx context.Context, up Upstream) (bool, error) {
	done, err := s.LeaderOnTimeline(ctx, up)
	c := s.config()
	if err != nil || done || c.Rewind.Username != c.Superuser.Username {
		return done, err
	}
	cfg, err := s.connConfig(up, c.Superuser, "Patroni heartbeat", map[string]string{"statement_timeout": "0"})
	if err != nil {
		return false, err
	}
	if err := execOnce(ctx, cfg, "CHECKPOINT"); err != nil {
		return false, fmt.Errorf("checkpoint on %s: %w", up.where(), err)
	}
	return s.LeaderOnTimeline(ctx, up)
}

// LeaderOnTimeline tells whether up is a primary whose last checkpoint is on its
// current timeline; it only looks.
func (s *Server) LeaderOnTimeline(ctx context.Context, up Upstream) (bool, error) {
	var control, current int64
	err := s.askUpstream(ctx, up, "SELECT timeline_id::int8, "+timelineSQL+" FROM pg_control_checkpoint()", &control, &current)
	if err != nil {
		return false, fmt.Errorf("ask %s for its checkpoint: %w", up.where(), err)
	}
	return current != 0 && wal.Timeline(control) == wal.Timeline(current), nil
}
