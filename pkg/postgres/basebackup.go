package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// baseBackupPause lies between the two attempts (ha-behaviour 6.2).
const baseBackupPause = 5 * time.Second

// ErrNotEmpty means that the data directory holds something that somebody must
// decide to wipe first.
var ErrNotEmpty = errors.New("data directory is not empty")

var baseBackupForbidden = map[string]bool{
	"pgdata": true, "format": true, "wal-method": true, "xlog-method": true, "gzip": true, "version": true,
	"dbname": true, "host": true, "port": true, "username": true, "password": true,
}

// BaseBackup clones up with pg_basebackup into the empty data directory and
// makes it a standby. What an interrupted clone left behind is removed; a
// complete directory is not: call Wipe first. There are two attempts; after
// the second failure the directory is empty again. progress (may be nil) gets
// bytes done and the estimated total.
//
// The backup asks for a fast checkpoint, unless the configuration names the
// option itself: by default pg_basebackup waits for the next scheduled one, for
// minutes on an idle cluster.
func (s *Server) BaseBackup(ctx context.Context, up Upstream, progress func(done, total int64)) error {
	if _, ok := s.Running(); ok {
		return fmt.Errorf("clone: %w", ErrRunning)
	}
	switch d := s.State(); d.State {
	case DirEmpty:
	case DirInProgress:
		if err := s.Wipe(); err != nil {
			return fmt.Errorf("clone: %w", err)
		}
	case DirPresent:
		return fmt.Errorf("clone: %w: %s", ErrNotEmpty, s.config().DataDir)
	default:
		return fmt.Errorf("clone: %w", d.Err)
	}
	if err := s.Begin(KindClone, false); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	if err := s.baseBackups(ctx, up, progress); err != nil {
		return errors.Join(fmt.Errorf("clone from %s: %w", up.where(), err), s.Finish())
	}
	if err := s.restoreConfBackups(); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	// Before the marker goes: a copy of a primary must not come up as one.
	if err := s.writeSignal(RoleStandby); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	return s.Finish()
}

// baseBackups makes up to two attempts and leaves the directory empty after
// the last failure.
func (s *Server) baseBackups(ctx context.Context, up Upstream, progress func(done, total int64)) error {
	err := s.tryBaseBackup(ctx, up, progress)
	if err == nil || ctx.Err() != nil {
		return err
	}
	s.log.Warn("base backup did not work, trying once more", "error", err)
	pause := backoff{next: baseBackupPause}
	if pause.wait(ctx, nil) == nil {
		err = s.tryBaseBackup(ctx, up, progress)
	}
	return err
}

// tryBaseBackup makes one attempt and leaves the directory empty on failure.
func (s *Server) tryBaseBackup(ctx context.Context, up Upstream, progress func(done, total int64)) error {
	auth := s.config().Replication
	pass, cleanup, err := s.toolPgpass(up, auth)
	if err != nil {
		return err
	}
	defer cleanup()
	args := []string{"--pgdata=" + s.config().DataDir, "-X", "stream", "--dbname=" + s.toolInfo(up, auth).String(), "--no-password"}
	args = append(args, s.baseBackupOptions(ctx)...)
	var line func(string)
	if progress != nil {
		args = append(args, "--progress")
		line = func(l string) {
			if done, total, ok := parseProgress(l); ok {
				progress(done, total)
			}
		}
	}
	_, err = s.run(ctx, command{path: s.bin("pg_basebackup"), args: args, env: s.toolEnv(pass...), line: line})
	if err != nil {
		return errors.Join(err, s.Wipe())
	}
	return nil
}

// baseBackupOptions renders the configured options without those the driver
// owns (wire contract §1.8).
func (s *Server) baseBackupOptions(ctx context.Context) []string {
	version, err := s.BinaryVersion(ctx)
	if err != nil {
		s.log.Warn("cannot ask for the version of the binaries", "error", err)
	}
	var args []string
	checkpoint := false
	for _, o := range s.config().BaseBackup {
		name := strings.TrimLeft(o.Name, "-")
		if baseBackupForbidden[name] || name == "compress" && (version < 150000 || !strings.HasPrefix(o.Value, "server")) {
			s.log.Error("dropping an option that pg_basebackup may not be given here", "option", name)
			continue
		}
		checkpoint = checkpoint || name == "checkpoint"
		args = append(args, longOption(name, o))
	}
	if !checkpoint {
		args = append(args, "--checkpoint=fast")
	}
	return args
}

// longOption renders an option for a command line.
func longOption(name string, o config.Option) string {
	if o.Flag || o.Value == "" {
		return "--" + name
	}
	return "--" + name + "=" + o.Value
}

var progressLine = regexp.MustCompile(`^\s*(\d+)/(\d+) kB `)

// parseProgress reads "12345/67890 kB (18%), 0/1 tablespace".
func parseProgress(line string) (done, total int64, ok bool) {
	m := progressLine.FindStringSubmatch(line)
	if m == nil {
		return 0, 0, false
	}
	d, err1 := strconv.ParseInt(m[1], 10, 53)
	t, err2 := strconv.ParseInt(m[2], 10, 53)
	return d * 1024, t * 1024, err1 == nil && err2 == nil
}
