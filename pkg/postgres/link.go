package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
)

// connectTimeout bounds one connection attempt (wire contract §1.8).
const connectTimeout = 3 * time.Second

// link is one lazily made connection, used by one caller at a time. It is
// dropped on every error that is not a plain SQL error, so the next use finds
// a restarted server; close works from outside at any time.
type link struct {
	config func() (*pgx.ConnConfig, error)
	token  chan struct{} // held while in use

	mu     sync.Mutex
	conn   *pgx.Conn
	cancel context.CancelCauseFunc // interrupts the current use
}

var errClosed = errors.New("connection closed by us")

func newLink(config func() (*pgx.ConnConfig, error)) *link {
	return &link{config: config, token: make(chan struct{}, 1)}
}

// do runs fn on the connection. When a connection kept from earlier turns out
// broken, fn is run once more on a fresh one; fn must be safe to repeat.
func (l *link) do(ctx context.Context, fn func(context.Context, *pgx.Conn) error) error {
	select {
	case l.token <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-l.token }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.mu.Lock()
	l.cancel = cancel
	l.mu.Unlock()

	for {
		kept, err := l.use(ctx, fn)
		if err == nil || !kept || ctx.Err() != nil || !isBroken(err) {
			if cause := context.Cause(ctx); err != nil && cause != nil {
				return cause
			}
			return err
		}
	}
}

// use makes one attempt; kept tells whether it ran on an old connection.
func (l *link) use(ctx context.Context, fn func(context.Context, *pgx.Conn) error) (kept bool, err error) {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	kept = conn != nil && !conn.IsClosed()
	if !kept {
		if conn, err = l.connect(ctx); err != nil {
			return false, err
		}
	}
	err = fn(ctx, conn)
	if err != nil && (isBroken(err) || conn.IsClosed()) || ctx.Err() != nil {
		drop(conn)
		return kept, err
	}
	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
	return kept, err
}

func (l *link) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := l.config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	return conn, plain.Connection(err)
}

// close drops the connection, interrupting whoever uses it.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel != nil {
		l.cancel(errClosed)
	}
	if l.conn != nil {
		drop(l.conn)
		l.conn = nil
	}
}

// drop closes a connection without waiting for the server's consent.
func drop(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

// isBroken tells errors of the connection from errors of the statement.
func isBroken(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Severity == "FATAL" || pg.Severity == "PANIC"
	}
	return err != nil
}

// connConfig makes the configuration of a connection. The process's PG*
// variables have no say in it.
func (s *Server) connConfig(up Upstream, a config.Auth, app string, params map[string]string) (*pgx.ConnConfig, error) {
	c := s.toolInfo(up, a)
	for _, key := range []string{"sslcrl", "sslcrldir", "gssencmode", "krbsrvname"} {
		delete(c, key) // not known to pgx, which would send them to the server
	}
	c["passfile"], c["sslpassword"] = "/dev/null", a.SSLPassword.Reveal()
	if c["host"] == "" {
		c["host"] = "/var/run/postgresql"
	}
	c.setDefault("sslmode", "prefer")
	cfg, err := pgx.ParseConfig(c.quoted())
	if err != nil {
		// pgx's own message repeats the whole string.
		return nil, fmt.Errorf("connect to %s: bad connection parameters", up.where())
	}
	cfg.Password = a.Password.Reveal()
	cfg.RuntimeParams = map[string]string{"application_name": app, "search_path": "pg_catalog"}
	for k, v := range params {
		cfg.RuntimeParams[k] = v
	}
	cfg.ConnectTimeout = connectTimeout
	return cfg, nil
}

// where names an upstream in messages.
func (u Upstream) where() string {
	if u.Name != "" {
		return fmt.Sprintf("%s (%s:%s)", u.Name, u.Host, u.Port)
	}
	return u.Host + ":" + u.Port
}

func (s *Server) localConn(app string, timeout time.Duration) (*pgx.ConnConfig, error) {
	cfg := s.config()
	conn, err := s.connConfig(s.localUpstream(cfg.UseUnixSocket), cfg.Superuser, app, map[string]string{
		"statement_timeout":        strconv.FormatInt(timeout.Milliseconds(), 10),
		"pg_stat_statements.track": "none",
	})
	if err == nil {
		s.spareTLS(conn)
	}
	return conn, err
}

// spareTLS leaves out the attempt with TLS that sslmode prefer begins with, where the
// local server is known to have none: it costs a connection of its own. A refusal,
// which may be for want of TLS, ends that knowledge.
func (s *Server) spareTLS(cfg *pgx.ConnConfig) {
	if last := len(cfg.Fallbacks) - 1; s.noTLS.Load() && cfg.TLSConfig != nil && last >= 0 && cfg.Fallbacks[last].TLSConfig == nil {
		cfg.TLSConfig, cfg.Fallbacks = nil, nil
	}
}

func (s *Server) monitorConn() (*pgx.ConnConfig, error) {
	return s.localConn("Patroni heartbeat", 2*time.Second)
}

func (s *Server) restConn() (*pgx.ConnConfig, error) {
	return s.localConn("Patroni restapi", 2*time.Second)
}

// adminConn has no statement timeout: a checkpoint is bounded by its context.
func (s *Server) adminConn() (*pgx.ConnConfig, error) { return s.localConn("Patroni heartbeat", 0) }

func (s *Server) slotsConn() (*pgx.ConnConfig, error) {
	return s.localConn("Patroni heartbeat", 10*time.Second)
}
