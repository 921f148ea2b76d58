package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/pkg/config"
	"golang.org/x/sys/unix"
)

// Reload writes the configuration files, makes the server read them, and
// returns what needs a restart (wire contract §1.13).
func (s *Server) Reload(ctx context.Context) (map[string]Pending, error) {
	_, pending, err := s.Apply(ctx, true)
	return pending, err
}

// Apply is Reload that leaves the server alone when no file had to change,
// unless force is set; told says whether the server was made to read them.
func (s *Server) Apply(ctx context.Context, force bool) (told bool, pending map[string]Pending, err error) {
	if s.isPrivate() {
		return false, nil, nil // the settings of a recovery stay as they are until it is over
	}
	role, up, follow := s.followState()
	conf, changed, err := s.writeConf(ctx, role, up, follow)
	if err != nil {
		return false, nil, err
	}
	if _, ok := s.Running(); !ok {
		return false, nil, nil
	}
	if changed || force {
		if err := s.hup(ctx); err != nil {
			return false, nil, err
		}
	}
	s.mu.Lock()
	s.raised = conf.raised
	s.mu.Unlock()
	pending, err = s.Pending(ctx)
	return changed || force, pending, err
}

func (s *Server) followState() (Role, *Upstream, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.role, s.upstream, s.following
}

// hup sends SIGHUP and waits until a backend has read the files. A server
// that rejects connections reads them on its own time.
func (s *Server) hup(ctx context.Context) error {
	var before time.Time
	known := s.loadTime(ctx, &before) == nil
	if err := s.proc.Signal(ctx, unix.SIGHUP); err != nil {
		return fmt.Errorf("reload server: %w", err)
	}
	if !known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	b := backoff{next: 2 * time.Millisecond, max: 20 * time.Millisecond}
	for {
		var now time.Time
		if err := s.loadTime(ctx, &now); err == nil && now.After(before) {
			return nil
		}
		switch err := b.wait(ctx, s.proc.Exited()); {
		case errors.Is(err, errExited):
			return fmt.Errorf("reload server: %w", err)
		case err != nil:
			s.log.Warn("the server did not confirm the reload; see its log for errors in the configuration")
			return nil
		}
	}
}

func (s *Server) loadTime(ctx context.Context, t *time.Time) error {
	return s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT pg_conf_load_time()").Scan(t)
	})
}

// Pending lists the parameters whose configured value needs a restart: those
// the server reports, those on its command line that differ from what the
// next start would pass, and those raised for a standby.
func (s *Server) Pending(ctx context.Context) (map[string]Pending, error) {
	major, err := s.MajorVersion()
	if err != nil {
		return nil, err
	}
	role, up, _ := s.followState()
	_, cmdline := s.wanted(s.configFor(role, up), major)
	pending := make(map[string]Pending)
	reported := make(map[string]string) // their units
	err = s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, `SELECT name, current_setting(name), vartype, coalesce(unit, ''), pending_restart FROM pg_settings
			WHERE pending_restart OR name = ANY($1)`, keys(cmdline))
		if err != nil {
			return err
		}
		clear(pending)
		clear(reported)
		var name, value, vartype, unit string
		var flagged bool
		_, err = pgx.ForEachRow(rows, []any{&name, &value, &vartype, &unit, &flagged}, func() error {
			want, ours := cmdline[name]
			switch {
			case ours && !sameSetting(vartype, value, want):
				pending[name] = Pending{OldValue: value, NewValue: want}
			case !ours && flagged && !recoveryGUCs[name]:
				pending[name] = Pending{OldValue: value}
				reported[name] = unit
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask for pending restarts: %w", err)
	}
	for name, unit := range reported {
		pending[name] = Pending{OldValue: pending[name].OldValue, NewValue: config.ShowInt(s.configuredValue(ctx, name), unit)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, p := range s.raised {
		pending[name] = p
	}
	return pending, nil
}

// configuredValue asks postgres -C what the next start would use.
func (s *Server) configuredValue(ctx context.Context, name string) string {
	out, err := s.run(ctx, command{path: s.bin("postgres"),
		args: []string{"-D", s.config().DataDir, "--config-file=" + s.confPath(), "-C", name}})
	var failed *CommandError
	if err != nil && !errors.As(err, &failed) || strings.TrimSpace(out) == "" && err != nil {
		return "?"
	}
	return strings.TrimSpace(out)
}

// sameSetting compares two spellings of a value without unit.
func sameSetting(vartype, a, b string) bool {
	a, b = strings.ToLower(strings.TrimSpace(a)), strings.ToLower(strings.TrimSpace(b))
	switch vartype {
	case "bool":
		x, ok1 := parseBool(a)
		y, ok2 := parseBool(b)
		return ok1 && ok2 && x == y
	case "integer":
		x, err1 := strconv.ParseInt(a, 0, 64)
		y, err2 := strconv.ParseInt(b, 0, 64)
		if err1 == nil && err2 == nil {
			return x == y
		}
	}
	return a == b
}

func parseBool(v string) (value, ok bool) {
	switch v {
	case "on", "true", "yes", "1", "t", "y":
		return true, true
	case "off", "false", "no", "0", "f", "n":
		return false, true
	}
	return false, false
}

func keys(m settings) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}

// FollowResult is the outcome of Follow.
type FollowResult int

const (
	// FollowUnchanged means that the server already follows that upstream.
	FollowUnchanged FollowResult = iota
	// FollowReloaded means that the settings were written and reloaded.
	FollowReloaded
	// FollowRestartNeeded means that only a restart as a standby of that
	// upstream will do: the server is a primary, or too old to reload it.
	FollowRestartNeeded
)

// restartOnly are the recovery settings that are read at server start only
// below the given major version.
var restartOnly = map[string]int{"primary_conninfo": 13, "primary_slot_name": 13, "restore_command": 14}

// Follow makes a running standby stream from up; nil makes it stream from
// nobody, which ends the WAL receiver (safety P11).
func (s *Server) Follow(ctx context.Context, up *Upstream) (FollowResult, error) {
	if _, ok := s.Running(); !ok {
		return 0, fmt.Errorf("follow: %w", ErrNotRunning)
	}
	if s.isPrivate() {
		return 0, errors.New("follow: the server recovers from the archive")
	}
	if _, err := os.Lstat(s.inData(standbySignal)); err != nil {
		return FollowRestartNeeded, nil
	}
	if err := s.freeNumbers(); err != nil {
		return 0, err
	}
	major, err := s.MajorVersion()
	if err != nil {
		return 0, err
	}
	conf, changed, err := s.writeConf(ctx, RoleStandby, up, true)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.role, s.upstream, s.following = RoleStandby, up, true
	s.raised = conf.raised
	s.mu.Unlock()
	differ, asked := s.recoveryDiffers(ctx, s.recoverySettings(up, major))
	for name := range differ {
		if major < restartOnly[name] {
			return FollowRestartNeeded, nil
		}
	}
	if asked && len(differ) == 0 && !changed || !asked && !changed {
		return FollowUnchanged, nil
	}
	if err := s.proc.Signal(ctx, unix.SIGHUP); err != nil {
		return 0, fmt.Errorf("follow: %w", err)
	}
	return FollowReloaded, nil
}

// ResumeReplay ends a pause of WAL replay. A standby that had paused because its
// settings are too small shuts down then.
func (s *Server) ResumeReplay(ctx context.Context) error {
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SELECT pg_wal_replay_resume()")
		return err
	})
	if err != nil {
		return fmt.Errorf("resume WAL replay: %w", err)
	}
	return nil
}

// recoveryDiffers compares the wanted recovery settings with the running ones;
// asked is false when the server did not answer.
func (s *Server) recoveryDiffers(ctx context.Context, want settings) (differ map[string]bool, asked bool) {
	names := []string{"primary_conninfo", "primary_slot_name", "restore_command"}
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, "SELECT name, setting FROM pg_settings WHERE name = ANY($1)", names)
		if err != nil {
			return err
		}
		differ = make(map[string]bool)
		var name, value string
		_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
			if want[name] != value {
				differ[name] = true
			}
			return nil
		})
		return err
	})
	return differ, err == nil
}
