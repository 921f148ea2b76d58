package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/plain"
)

// StartOptions say how to start.
type StartOptions struct {
	Role      Role
	Upstream  *Upstream // standby: whom to stream from; nil: nobody
	Bootstrap bool      // first start of a cluster just made
}

// StartResult is the outcome of a start that did not fail.
type StartResult int

const (
	// Started means that the server accepts connections.
	Started StartResult = iota
	// StillStarting means that the process lives, but was not ready in time.
	StillStarting
)

// StopMode is the way of a stop.
type StopMode int

// The modes of pg_ctl stop.
const (
	StopFast StopMode = iota
	StopImmediate
	StopSmart
)

func (m StopMode) signal() unix.Signal {
	switch m {
	case StopImmediate:
		return unix.SIGQUIT
	case StopSmart:
		return unix.SIGTERM
	default:
		return unix.SIGINT
	}
}

var (
	// ErrNotStartable means that the data directory must not be started.
	ErrNotStartable = errors.New("data directory cannot be started")
	// ErrStartFailed means that the server ended while it was starting.
	ErrStartFailed = errors.New("server ended while starting")
	// ErrStopTimeout means that the server was still there when the context ended.
	ErrStopTimeout = errors.New("server did not stop in time")
	// ErrNotRunning means that the operation needs a running server.
	ErrNotRunning = errors.New("the server is not running")
)

// Start writes the configuration and the signal file, launches the server and
// waits until it accepts connections, its start timeout passes, or ctx ends;
// the latter two give StillStarting while the process lives. A server that
// already runs is only waited for.
func (s *Server) Start(ctx context.Context, o StartOptions) (StartResult, error) {
	if _, ok := s.Running(); ok {
		return s.WaitReady(ctx)
	}
	if err := s.startable(o); err != nil {
		return 0, err
	}
	s.CloseConnections()
	stale, err := s.staleOwner()
	if err != nil {
		return 0, err
	}
	conf, _, err := s.writeConf(ctx, o.Role, o.Upstream, true)
	if err != nil {
		return 0, err
	}
	if err := s.writeSignal(o.Role); err != nil {
		return 0, err
	}
	if o.Role == RoleStandby {
		if err := s.freeNumbers(); err != nil {
			return 0, err
		}
	}
	s.makeSocketDirs()
	env := s.serverEnv()
	if stale != 0 {
		env = append(env, "PG_GRANDPARENT_PID="+strconv.Itoa(stale))
	}
	// The launcher may have another search path than we have.
	path, err := exec.LookPath(s.bin("postgres"))
	if err != nil {
		return 0, fmt.Errorf("start server: find postgres (set postgresql.bin_dir): %w", err)
	}
	err = s.proc.Start(ctx, LaunchSpec{
		Path: path, Args: s.commandLine(conf.cmdline), Env: env, DataDir: s.config().DataDir,
		LogPath: s.logPath, Writable: o.Role == RolePrimary, Bootstrap: o.Bootstrap,
	})
	if err != nil {
		return 0, fmt.Errorf("start server: %w", err)
	}
	s.mu.Lock()
	s.role, s.upstream, s.following = o.Role, o.Upstream, true
	s.raised, s.timeline = conf.raised, timelineCache{}
	s.mu.Unlock()
	res, err := s.WaitReady(ctx)
	switch {
	case errors.Is(err, ErrStartFailed) && s.learnRefused(ctx, conf):
		return s.Start(ctx, o)
	case err == nil && res == Started:
		s.SaveConfBackups()
	}
	return res, err
}

// startable refuses half-made directories (safety S9).
func (s *Server) startable(o StartOptions) error {
	d := s.State()
	switch {
	case d.State == DirPresent, d.State == DirInProgress && d.Kind == KindBootstrap && o.Bootstrap:
		return nil
	case d.State == DirInProgress:
		return fmt.Errorf("%w: a %s of %s did not finish", ErrNotStartable, d.Kind, s.config().DataDir)
	case d.State == DirEmpty:
		return fmt.Errorf("%w: %s is empty", ErrNotStartable, s.config().DataDir)
	default:
		return fmt.Errorf("%w: %w", ErrNotStartable, d.Err)
	}
}

// makeSocketDirs creates missing socket directories; the server itself
// reports what is wrong with them.
func (s *Server) makeSocketDirs() {
	for _, dir := range strings.Split(s.config().Parameters["unix_socket_directories"], ",") {
		if dir = strings.Trim(strings.TrimSpace(dir), `"`); strings.HasPrefix(dir, "/") {
			_ = os.MkdirAll(dir, 0o755)
		}
	}
}

// WaitReady waits until the running server accepts connections; see Start.
func (s *Server) WaitReady(ctx context.Context) (StartResult, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config().PgCtlTimeout)
	defer cancel()
	exited := s.proc.Exited()
	b := backoff{next: 5 * time.Millisecond, max: 50 * time.Millisecond}
	for {
		// The server announces readiness in its pid file. Reading that costs
		// nothing; the connection is the proof.
		if p, err := s.readPidFile(); err == nil && p.accepting() {
			if r, _ := s.Accepting(ctx); r == Accepting {
				return Started, nil
			}
		}
		switch err := b.wait(ctx, exited); {
		case errors.Is(err, errExited):
			return 0, fmt.Errorf("%w%s", ErrStartFailed, s.lastWords())
		case err != nil:
			return StillStarting, nil
		}
	}
}

// lastWords is the last FATAL or PANIC line in the launcher's log file.
func (s *Server) lastWords() string {
	if s.logPath == "" {
		return ""
	}
	b, err := os.ReadFile(s.logPath)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for i := len(lines) - 1; i >= 0 && i > len(lines)-20; i-- {
		for _, level := range []string{"FATAL:", "PANIC:"} {
			if j := strings.Index(lines[i], level); j >= 0 {
				return ": " + s.scrub(lines[i][j:])
			}
		}
	}
	return ""
}

// Stop stops the server and waits until it and all its orphans are gone.
// checkpoint runs a CHECKPOINT first, in at most half of the time left, which
// shortens the shutdown itself. When ctx ends first the error is
// ErrStopTimeout and the server may still be shutting down: ask again with a
// harder mode, or Kill.
func (s *Server) Stop(ctx context.Context, mode StopMode, checkpoint bool) error {
	if _, ok := s.Running(); !ok {
		return s.waitGone(ctx)
	}
	if checkpoint && mode != StopImmediate {
		if err := s.boundedCheckpoint(ctx); err != nil {
			s.log.Warn("checkpoint before the stop did not finish", "error", err)
		}
	}
	if mode != StopImmediate {
		s.beforeStop(ctx)
	}
	s.CloseConnections()
	if err := s.proc.Signal(ctx, mode.signal()); err != nil {
		if _, ok := s.Running(); ok {
			return fmt.Errorf("stop server: %w", err)
		}
	}
	return s.waitGone(ctx)
}

func (s *Server) boundedCheckpoint(ctx context.Context) error {
	limit := 5 * time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.Checkpoint(ctx)
}

func (s *Server) waitGone(ctx context.Context) error {
	select {
	case <-s.proc.Exited():
		s.CloseConnections()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrStopTimeout, context.Cause(ctx))
	}
}

// Kill ends every process of the server at once with SIGKILL.
func (s *Server) Kill(ctx context.Context) error {
	s.CloseConnections()
	if err := s.proc.Sweep(ctx); err != nil {
		return fmt.Errorf("kill server: %w", err)
	}
	return s.waitGone(ctx)
}

// Restart stops the server (fast, after a checkpoint) and starts it again.
func (s *Server) Restart(ctx context.Context, o StartOptions) (StartResult, error) {
	if err := s.Stop(ctx, StopFast, true); err != nil {
		return 0, err
	}
	return s.Start(ctx, o)
}

// Checkpoint runs CHECKPOINT on a connection of its own.
func (s *Server) Checkpoint(ctx context.Context) error {
	cfg, err := s.adminConn()
	if err != nil {
		return err
	}
	if err := execOnce(ctx, cfg, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// execOnce runs one statement on a connection made for it.
func execOnce(ctx context.Context, cfg *pgx.ConnConfig, sql string) error {
	return withConn(ctx, cfg, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

// withConn runs fn on a connection made for it.
func withConn(ctx context.Context, cfg *pgx.ConnConfig, fn func(*pgx.Conn) error) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return plain.Connection(err)
	}
	defer drop(conn)
	return fn(conn)
}
