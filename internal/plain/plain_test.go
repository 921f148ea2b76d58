package plain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Errors as the libraries make them, and what is left of them.
func TestReason(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hasty, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hasty.Close()
	go func() {
		for {
			c, err := hasty.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096)) // what is unread would make a reset of the end
			_ = c.Close()
		}
	}()
	get := func(where string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+where+"/", nil)
		resp, err := (&http.Client{Transport: &http.Transport{}}).Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	connect := func(where string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := pgconn.Connect(ctx, "postgres://u@"+where+"/d")
		return err
	}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"HTTP, nobody listens", get("127.0.0.1:1"), "connection refused"},
		{"HTTP, silence", get(silent.Addr().String()), "no answer in time"},
		{"HTTP, hung up", get(hasty.Addr().String()), "the connection was closed without an answer"},
		{"PostgreSQL, nobody listens", connect("127.0.0.1:1"), "connection refused"},
		{"PostgreSQL, silence", connect(silent.Addr().String()), "no answer in time"},
		{"PostgreSQL, hung up", connect(hasty.Addr().String()), "the connection was closed without an answer"},
		{"PostgreSQL, after an attempt with TLS", errors.Join(errors.New("tls error: server refused TLS connection"),
			&pgconn.PgError{Severity: "FATAL", Code: "28P01", Message: "password authentication failed for user \"u\""}), `FATAL: password authentication failed for user "u"`},
		{"a name", &net.DNSError{Err: "no such host", Name: "db9", IsNotFound: true}, "nobody knows the name db9"},
		{"DNS is broken", &net.DNSError{Err: "server misbehaving", Name: "db9"}, "the name db9 cannot be looked up"},
		{"the way is closed", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}, "no route to host"},
		{"a context", fmt.Errorf("a: %w", fmt.Errorf("b: %w", context.DeadlineExceeded)), "no answer in time"},
		{"half an answer", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), "the connection was closed without an answer"},
		{"anything else", errors.New("one\n\ttwo"), "one two"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Reason(c.err); got != c.want {
				t.Errorf("%q of %v, want %q", got, c.err, c.want)
			}
			if wrapped := Connection(c.err); !errors.Is(wrapped, c.err) || wrapped.Error() != c.want {
				t.Errorf("Connection: %v", wrapped)
			}
		})
	}
	if Connection(nil) != nil {
		t.Error("no error became one")
	}
}
