package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// ErrNoAnswer means that the server took a request and did not answer it in
// the time there was.
var ErrNoAnswer = errors.New("the server does not answer")

// Answers makes a fresh connection and runs a trivial query on it, as a client
// would: the postmaster has to fork, and the new backend to find its way. A
// refusal is an answer too (too many clients, a wrong password, starting up).
// The error is ErrNoAnswer if ctx ended first, or if so many wait already that
// the kernel takes no more; any other one says why the question could not be
// put, which proves nothing about the server.
func (s *Server) Answers(ctx context.Context) error {
	cfg, err := s.localConn("Patroni heartbeat", connectTimeout)
	if err != nil {
		return err
	}
	err = withConn(ctx, cfg, func(conn *pgx.Conn) error {
		_, encrypted := conn.PgConn().Conn().(*tls.Conn)
		s.noTLS.Store(!encrypted)
		_, err := conn.Exec(ctx, "SELECT 1")
		return err
	})
	var refused *pgconn.PgError
	var lookup *net.DNSError
	switch {
	case errors.As(err, &refused):
		s.noTLS.Store(false)
		return nil
	case err == nil:
		return nil
	case errors.As(err, &lookup):
		return fmt.Errorf("find the address of the server: %w", err)
	case ctx.Err() != nil, errors.Is(err, unix.EAGAIN), pgconn.Timeout(err):
		return fmt.Errorf("%w a new connection", ErrNoAnswer)
	default:
		return fmt.Errorf("connect to the server: %w", err)
	}
}
