package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxSocketPath is sizeof(sun_path) less its terminating zero.
const maxSocketPath = 107

// runPrivately starts the server out of everybody's reach, waits until it is a
// primary, runs work, and stops it. When it fails the server is gone too.
func (s *Server) runPrivately(ctx context.Context, r Recovery, work func(context.Context, session) error) (err error) {
	dir, cleanup, err := s.privateDir()
	if err != nil {
		return err
	}
	defer cleanup()
	s.setPrivate(true)
	defer s.setPrivate(false)
	s.CloseConnections()
	from := s.logSize()
	if err := s.launchPrivately(ctx, r, dir); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), privateStop)
		defer cancel()
		if s.Stop(sctx, StopImmediate, false) != nil {
			_ = s.Kill(sctx)
		}
	}()
	do := s.privateSession(dir)
	if err := s.awaitPromotion(ctx, r, do, from); err != nil {
		return err
	}
	if err := work(ctx, do); err != nil {
		return err
	}
	return s.Stop(ctx, StopFast, false)
}

// privateStop bounds the end of a private server that is not wanted any more.
const privateStop = 30 * time.Second

func (s *Server) setPrivate(on bool) {
	s.mu.Lock()
	s.private = on
	s.mu.Unlock()
}

func (s *Server) isPrivate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.private
}

// privateDir makes a directory that only we can enter, for the socket and the
// access rules, with a path short enough for a socket.
func (s *Server) privateDir() (dir string, cleanup func(), err error) {
	var last error
	s.sweepPrivateDirs()
	socket := "/.s.PGSQL." + strconv.Itoa(s.config().Port)
	for _, parent := range []string{s.config().RunDir, s.stateDir, os.TempDir(), "/tmp"} {
		if parent == "" {
			continue
		}
		dir, err := os.MkdirTemp(parent, privatePrefix) // 0700
		if err == nil && len(dir+socket) > maxSocketPath {
			err = fmt.Errorf("the path %s is too long for a socket", dir)
			_ = os.Remove(dir)
		}
		if err == nil {
			err = writeFile(filepath.Join(dir, "pg_hba.conf"), []byte(confHeader+"local all all trust\n"), 0o600)
		}
		if err == nil {
			return dir, func() { _ = os.RemoveAll(dir) }, nil
		}
		last = err
	}
	return "", nil, fmt.Errorf("make a private socket directory: %w", last)
}

const privatePrefix = "pgha-recovery-"

// sweepPrivateDirs removes what an agent that was killed left in our own
// runtime directory.
func (s *Server) sweepPrivateDirs() {
	run := s.config().RunDir
	if run == "" {
		return
	}
	old, _ := filepath.Glob(filepath.Join(run, privatePrefix+"*")) // fails for no path we make
	for _, dir := range old {
		_ = os.RemoveAll(dir)
	}
}

// launchPrivately starts the postmaster. What is on the command line wins over
// all files. With hot_standby off, larger settings in the WAL than ours do not
// stop recovery.
func (s *Server) launchPrivately(ctx context.Context, r Recovery, dir string) error {
	stale, err := s.staleOwner()
	if err != nil {
		return err
	}
	major, err := s.MajorVersion()
	if err != nil {
		return err
	}
	all, cmdline := s.wanted(s.configFor(RolePrimary, nil), major)
	control, err := s.ControlData(ctx)
	if err != nil {
		return err
	}
	raise(all, cmdline, control)
	for name, value := range map[string]string{
		"listen_addresses": "", "unix_socket_directories": dir, "unix_socket_permissions": "0700",
		"hba_file": filepath.Join(dir, "pg_hba.conf"), "hot_standby": "off", "synchronous_standby_names": "",
		// Where recovery ended, and why, is read from the log.
		"logging_collector": "off", "log_destination": "stderr", "lc_messages": "C", "log_min_messages": "warning",
	} {
		cmdline[name] = value
	}
	env := s.serverEnv()
	if stale != 0 {
		env = append(env, "PG_GRANDPARENT_PID="+strconv.Itoa(stale))
	}
	path, err := exec.LookPath(s.bin("postgres"))
	if err != nil {
		return fmt.Errorf("find postgres (set postgresql.bin_dir): %w", err)
	}
	err = s.proc.Start(ctx, LaunchSpec{
		Path: path, Args: s.commandLine(cmdline), Env: env, DataDir: s.config().DataDir,
		LogPath: s.logPath, Writable: true, Bootstrap: r.Bootstrap,
	})
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	return nil
}

// privateSession runs functions on connections through the private socket.
func (s *Server) privateSession(dir string) session {
	return func(ctx context.Context, fn func(context.Context, *pgx.Conn) error) error {
		c := s.config()
		cfg, err := s.connConfig(Upstream{Host: dir, Port: strconv.Itoa(c.Port)}, c.Superuser, "Patroni heartbeat", nil)
		if err != nil {
			return err
		}
		err = withConn(ctx, cfg, func(conn *pgx.Conn) error { return fn(ctx, conn) })
		var pg *pgconn.PgError
		if errors.As(err, &pg) && (pg.Code == "28000" || pg.Code == "3D000") {
			return fmt.Errorf("%s: set postgresql.authentication.superuser.username (and postgresql.database) to what the restored cluster has: %w", pg.Message, errUnusable)
		}
		return err
	}
}

var errUnusable = errors.New("no connection to the restored server")

// awaitPromotion waits until the server is out of recovery. It ends with the
// process, with ctx, and with nothing else.
func (s *Server) awaitPromotion(ctx context.Context, r Recovery, do session, logFrom int64) error {
	exited := s.proc.Exited()
	b := backoff{next: 5 * time.Millisecond, max: 200 * time.Millisecond}
	watch := replayWatch{s: s, progress: r.Progress, said: time.Now()}
	for {
		if p, err := s.readPidFile(); err == nil && p.Status == "ready" {
			var recovering bool
			err := do(ctx, func(ctx context.Context, c *pgx.Conn) error {
				return c.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&recovering)
			})
			if errors.Is(err, errUnusable) {
				return err
			}
			if err == nil && !recovering {
				return nil
			}
		}
		watch.look()
		switch err := b.wait(ctx, exited); {
		case errors.Is(err, errExited):
			return s.recoveryError(r, logFrom)
		case err != nil:
			return err
		}
	}
}

// replayWatch reports the segment being replayed.
type replayWatch struct {
	s        *Server
	progress func(string)
	segment  string
	said     time.Time
}

func (w *replayWatch) look() {
	segment := w.s.replaySegment()
	if segment == "" {
		return
	}
	if segment != w.segment && w.progress != nil {
		w.progress(segment)
	}
	w.segment = segment
	if time.Since(w.said) >= reportEvery {
		w.said = time.Now()
		w.s.log.Info("recovery goes on", "segment", segment)
	}
}

var replayTitle = regexp.MustCompile(`\bstartup\s+(?:process\s+)?(?:recovering|waiting for)\s+([0-9A-F]{24})`)

// replaySegment reads the segment from the startup process's title.
func (s *Server) replaySegment() string {
	for _, pid := range serverProcesses(s.config().DataDir) {
		title, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err != nil {
			continue
		}
		if m := replayTitle.FindStringSubmatch(strings.ReplaceAll(string(title), "\x00", " ")); m != nil {
			return m[1]
		}
	}
	return ""
}
