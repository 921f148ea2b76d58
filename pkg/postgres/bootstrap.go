package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/pkg/config"
)

// InitdbOptions are bootstrap.initdb and bootstrap.pg_hba.
type InitdbOptions struct {
	Flags []config.Option
	HBA   []string // appended to pg_hba.conf
}

var initdbForbidden = map[string]bool{"pgdata": true, "nosync": true, "no-sync": true, "pwfile": true, "sync-only": true, "version": true}

// Initdb makes a new cluster in the empty data directory. The marker stays
// until PostBootstrap has finished: only Start with Bootstrap set starts the
// directory before that.
func (s *Server) Initdb(ctx context.Context, o InitdbOptions) error {
	if d := s.State(); d.State != DirEmpty {
		return fmt.Errorf("initialize cluster: %w: %s", errors.Join(ErrNotEmpty, d.Err), s.config().DataDir)
	}
	args, err := initdbArgs(o.Flags)
	if err != nil {
		return fmt.Errorf("initialize cluster: %w", err)
	}
	c := s.config()
	if c.Superuser.Username != "" {
		args = append(args, "--username="+c.Superuser.Username)
	}
	if c.Superuser.Password.IsSet() {
		path, cleanup, err := s.passwordFile(c.Superuser.Password)
		if err != nil {
			return fmt.Errorf("initialize cluster: %w", err)
		}
		defer cleanup()
		args = append(args, "--pwfile="+path)
	}
	if err := s.Begin(KindBootstrap, false); err != nil {
		return fmt.Errorf("initialize cluster: %w", err)
	}
	// Our own environment, not that of tools: it decides the cluster's locale.
	_, err = s.run(ctx, command{path: s.bin("initdb"), args: append(args, c.DataDir), env: s.serverEnv()})
	if err != nil {
		return errors.Join(fmt.Errorf("initialize cluster: %w", err), s.Wipe(), s.Finish())
	}
	if err := s.Begin(KindBootstrap, true); err != nil {
		return fmt.Errorf("initialize cluster: %w", err)
	}
	return s.appendHBA(o.HBA)
}

func initdbArgs(flags []config.Option) ([]string, error) {
	var args []string
	for _, f := range flags {
		name := strings.TrimLeft(f.Name, "-")
		if initdbForbidden[name] {
			return nil, fmt.Errorf("bootstrap.initdb: the option %s is not allowed here: remove it", name)
		}
		f.Value = stripQuotes(f.Value)
		args = append(args, longOption(name, f))
	}
	return args, nil
}

// stripQuotes removes quotes that were meant for a shell.
func stripQuotes(v string) string {
	if len(v) >= 2 && (v[0] == '\'' || v[0] == '"') && v[len(v)-1] == v[0] {
		return v[1 : len(v)-1]
	}
	return v
}

// passwordFile writes a password for initdb, readable for us alone.
func (s *Server) passwordFile(password config.Secret) (path string, cleanup func(), err error) {
	if strings.ContainsAny(password.Reveal(), "\n\r\x00") {
		return "", nil, errors.New("write password file: the superuser's password holds a line break or a zero byte")
	}
	dir := filepath.Dir(s.config().PGPass)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("write password file: %w", err)
	}
	f, err := os.CreateTemp(dir, ".pgha-pwfile-*") // O_EXCL, 0600
	if err != nil {
		return "", nil, fmt.Errorf("write password file: %w", err)
	}
	cleanup = func() { _ = os.Remove(f.Name()) }
	_, err = f.WriteString(password.Reveal() + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		cleanup()
		return "", nil, fmt.Errorf("write password file: %w", err)
	}
	return f.Name(), cleanup, nil
}

// PostBootstrapOptions carry the post_bootstrap script, already split.
type PostBootstrapOptions struct {
	Script []string // empty: none
}

// PostBootstrap makes the roles in a new, running primary and runs the user's
// script (ha-behaviour 6.8). The marker stays until the cluster is published:
// Finish removes it.
func (s *Server) PostBootstrap(ctx context.Context, o PostBootstrapOptions) error {
	if err := s.ensureSuperuser(ctx, s.admin.do); err != nil {
		return err
	}
	s.CloseConnections() // the next one uses the password
	if len(o.Script) > 0 {
		if err := s.runPostBootstrap(ctx, o.Script); err != nil {
			return err
		}
	}
	return s.ensureOthers(ctx, s.admin.do)
}

// session runs a function on a connection to the local server.
type session func(context.Context, func(context.Context, *pgx.Conn) error) error

func (s *Server) ensureSuperuser(ctx context.Context, do session) error {
	c := s.config()
	if c.Superuser.Username == "" || !c.Superuser.Password.IsSet() {
		return nil
	}
	return s.ensureRole(ctx, do, c.Superuser, "SUPERUSER")
}

// ensureOthers makes the roles for replication and pg_rewind.
func (s *Server) ensureOthers(ctx context.Context, do session) error {
	c := s.config()
	if c.Replication.Username != "" {
		if err := s.ensureRole(ctx, do, c.Replication, "REPLICATION"); err != nil {
			return err
		}
	}
	if c.Rewind.Username != c.Superuser.Username {
		return s.ensureRole(ctx, do, c.Rewind, "", rewindGrants(c.Rewind.Username)...)
	}
	return nil
}

// rewindGrants is what pg_rewind needs without being superuser.
func rewindGrants(user string) []string {
	var grants []string
	for _, fn := range []string{
		"pg_ls_dir(text, boolean, boolean)", "pg_stat_file(text, boolean)",
		"pg_read_binary_file(text)", "pg_read_binary_file(text, bigint, bigint, boolean)",
	} {
		grants = append(grants, "GRANT EXECUTE ON FUNCTION pg_catalog."+fn+" TO "+pgx.Identifier{user}.Sanitize())
	}
	return grants
}

// muted are the settings under which a password may pass through the server:
// nothing logs or keeps the statement, and no standby is waited for.
var muted = []string{
	"SET LOCAL synchronous_commit TO 'local'", "SET LOCAL log_statement TO 'none'",
	"SET LOCAL log_min_duration_statement TO -1", "SET LOCAL log_min_error_statement TO 'log'",
	"SET LOCAL log_duration TO off", "SET LOCAL standard_conforming_strings TO on",
	"SET LOCAL pg_stat_statements.track_utility TO 'off'", "SET LOCAL pgaudit.log TO 'none'",
}

// ensureRole creates or alters a login role.
func (s *Server) ensureRole(ctx context.Context, do session, a config.Auth, attributes string, more ...string) error {
	if strings.ContainsRune(a.Username+a.Password.Reveal(), 0) {
		return errors.New("create role: the name or password holds a zero byte")
	}
	err := do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			for _, sql := range muted {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
			}
			var exists bool
			if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", a.Username).Scan(&exists); err != nil {
				return err
			}
			verb := "CREATE"
			if exists {
				verb = "ALTER"
			}
			sql := verb + " ROLE " + pgx.Identifier{a.Username}.Sanitize() + " WITH LOGIN " + attributes
			if a.Password.IsSet() {
				sql += " PASSWORD '" + strings.ReplaceAll(a.Password.Reveal(), "'", "''") + "'"
			}
			for _, stmt := range append([]string{sql}, more...) {
				if _, err := tx.Exec(ctx, stmt, pgx.QueryExecModeSimpleProtocol); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("create role %s: %s", a.Username, s.scrub(err.Error()))
	}
	return nil
}

// runPostBootstrap runs the user's script with a DSN (wire contract §8.4).
func (s *Server) runPostBootstrap(ctx context.Context, script []string) error {
	c := s.config()
	up := s.localUpstream(c.UseUnixSocket)
	pass, cleanup, err := s.toolPgpass(up, c.Superuser)
	if err != nil {
		return err
	}
	defer cleanup()
	env := append(s.serverEnv(), pass...)
	env = append(env, "PGOPTIONS=-c synchronous_commit=local -c statement_timeout=0")
	args := append(append([]string{}, script[1:]...), s.toolInfo(up, c.Superuser).String())
	if _, err := s.run(ctx, command{path: script[0], args: args, env: env}); err != nil {
		return fmt.Errorf("post_bootstrap: %w", err)
	}
	return nil
}
