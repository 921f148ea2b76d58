// Package plain says in an operator's words why a connection failed: one short
// line, where the libraries report the whole chain of who called whom.
package plain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Reason is the cause of a failed request or connection.
func Reason(err error) string {
	var server *pgconn.PgError
	var name *net.DNSError
	var errno syscall.Errno
	switch {
	case errors.As(err, &server):
		return server.Severity + ": " + OneLine(server.Message)
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Sprintf("nobody knows the name %s", name.Name)
	case late(err):
		return "no answer in time"
	case errors.As(err, &name):
		return fmt.Sprintf("the name %s cannot be looked up", name.Name)
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed without an answer"
	}
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var attempt *pgconn.ConnectError
	if errors.As(err, &attempt) {
		err = attempt.Unwrap()
	}
	return OneLine(err.Error())
}

// Connection is an error whose text is its Reason; what it wraps is found in it
// as before. Nil stays nil.
func Connection(err error) error {
	if err == nil {
		return nil
	}
	return failure{err}
}

type failure struct{ cause error }

func (f failure) Error() string { return Reason(f.cause) }
func (f failure) Unwrap() error { return f.cause }

func late(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// OneLine puts a text of several lines on one.
func OneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
