package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/pkg/config"
)

// TestAnswers: a fresh connection tells a server that hangs from one that
// refuses, whatever the old connections say.
func TestAnswers(t *testing.T) {
	n := primaryNode(t, "n1")
	ask := func() error {
		ctx, cancel := context.WithTimeout(testContext(t), 2*time.Second)
		defer cancel()
		return n.Answers(ctx)
	}
	must(t, ask())

	pid, _ := n.Running()
	old := n.connect()
	must(t, unix.Kill(pid, unix.SIGSTOP))
	if err := ask(); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a postmaster that stands still: %v", err)
	}
	if _, err := old.Exec(testContext(t), "SELECT 1"); err != nil {
		t.Errorf("the test proves nothing, old connections hang too: %v", err)
	}
	must(t, unix.Kill(pid, unix.SIGCONT))
	must(t, ask())

	cfg := n.cfg
	cfg.Superuser.Password = "wrong"
	n.SetConfig(cfg)
	if err := ask(); err != nil {
		t.Errorf("a refused password: %v", err)
	}
	n.SetConfig(n.cfg)

	must(t, n.Stop(testContext(t), StopFast, false))
	if err := ask(); err == nil || errors.Is(err, ErrNoAnswer) {
		t.Errorf("nobody listens: %v", err)
	}
}

// TestAnswersOnce: a server that has no TLS is asked for it once, and again after a
// refusal, which may be for want of it.
func TestAnswersOnce(t *testing.T) {
	n := primaryNode(t, "n1")
	counter, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = counter.Close() }()
	var connections atomic.Int32
	go func() {
		for {
			client, err := counter.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			server, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.cfg.Port)))
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() { _, _ = io.Copy(client, server); _ = client.Close() }()
		}
	}()
	right := n.cfg
	right.Port = counter.Addr().(*net.TCPAddr).Port
	wrong := right
	wrong.Superuser.Password = "wrong"
	for _, c := range []struct {
		what string
		cfg  config.Postgres
		want int32
	}{
		{"the first time", right, 2}, {"the second time", right, 1},
		{"refused", wrong, 1}, {"after a refusal", right, 2}, {"again", right, 1},
	} {
		n.SetConfig(c.cfg)
		before := connections.Load()
		must(t, n.Answers(testContext(t)))
		if got := connections.Load() - before; got != c.want {
			t.Errorf("%s: %d connections, want %d", c.what, got, c.want)
		}
	}
}

// TestAnswersTooManyClients: a server that is full answers so.
func TestAnswersTooManyClients(t *testing.T) {
	n := primaryNode(t, "n1", func(c *config.Postgres) {
		c.Controlled[0].Value = "4"
		c.Controlled[1].Value = "0"
		c.Parameters["superuser_reserved_connections"] = "0"
	})
	for range 4 {
		n.connect()
	}
	cfg, err := n.localConn("test", time.Second)
	must(t, err)
	var refused *pgconn.PgError
	if _, err := pgx.ConnectConfig(testContext(t), cfg); !errors.As(err, &refused) || refused.Code != "53300" {
		t.Fatalf("the server is not full: %v", err)
	}
	must(t, n.Answers(testContext(t)))
}
