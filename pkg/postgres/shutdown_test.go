package postgres

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// stop runs the ladder and tells how long it took.
func (n *node) stop(limit time.Duration) (took time.Duration, written []wal.LSN) {
	n.t.Helper()
	begun := time.Now()
	must(n.t, n.Shutdown(testContext(n.t), Shutdown{Limit: limit, Written: func(checkpoint, publish wal.LSN) { written = append(written, checkpoint, publish) }}))
	return time.Since(begun), written
}

func (n *node) state() string {
	n.t.Helper()
	c, err := n.ControlData(testContext(n.t))
	must(n.t, err)
	return c.State
}

func TestShutdown(t *testing.T) {
	n := primaryNode(t, "n1")
	if n.saysShutDown() {
		t.Error("a server that runs counts as shut down")
	}
	if took, written := n.stop(20 * time.Second); took > 10*time.Second || n.state() != StateShutDown || len(written) > 2 {
		t.Errorf("took %s, written %v, state %s", took, written, n.state())
	}
	if !n.saysShutDown() {
		t.Error("it does not count as shut down")
	}
	must(t, n.Shutdown(testContext(t), Shutdown{Limit: time.Second})) // nothing runs
}

// An archive_command that hangs: the shutdown checkpoint is told of, and the
// server is ended without it.
func TestShutdownHungArchiver(t *testing.T) {
	n := primaryNode(t, "n1", func(c *config.Postgres) {
		c.Parameters["archive_mode"], c.Parameters["archive_command"] = "on", "sleep 1000"
	})
	n.sql("INSERT INTO public.t VALUES (1)", "SELECT pg_switch_wal()")
	took, written := n.stop(6 * time.Second)
	if took < 2*time.Second {
		t.Errorf("the test proves nothing: it took %s", took)
	}
	if took > 6*time.Second || n.state() != StateShutDown || len(written) != 2 || written[0] == 0 || written[1] == 0 || written[1] > written[0] {
		t.Errorf("took %s, written %v, state %s", took, written, n.state())
	}
	n.start(StartOptions{Role: RolePrimary})
}

// A postmaster that hears no signal is killed in half of what the orderly part got.
func TestShutdownHungPostmaster(t *testing.T) {
	n := primaryNode(t, "n1")
	pid, _ := n.Running()
	must(t, unix.Kill(pid, unix.SIGSTOP))
	if took, _ := n.stop(100 * time.Millisecond); took > immediateLimit {
		t.Errorf("took %s", took)
	}
	n.start(StartOptions{Role: RolePrimary})
}

// A walsender that stands still holds up the shutdown checkpoint itself.
func TestShutdownStoppedWalsender(t *testing.T) {
	n := primaryNode(t, "n1")
	standbyOf(t, n, "n2")
	pid, err := strconv.Atoi(n.ask("SELECT pid::text FROM pg_stat_replication"))
	must(t, err)
	must(t, unix.Kill(pid, unix.SIGSTOP))
	took, written := n.stop(3 * time.Second)
	if took < 3*time.Second || took > 8*time.Second || len(written) != 0 {
		t.Errorf("took %s, written %v", took, written)
	}
	if !strings.Contains(n.log.String(), "walsender") {
		t.Error("the log does not say who held up the stop")
	}
	n.start(StartOptions{Role: RolePrimary})
}

// logicalReader starts logical replication from n to a client that never says
// what it has received.
func logicalReader(t *testing.T) (n *node, client *pgconn.PgConn) {
	t.Helper()
	n = primaryNode(t, "n1", func(c *config.Postgres) {
		c.Controlled[4].Value = "logical"
		c.Parameters["wal_sender_timeout"] = "0"
	})
	n.sql("SELECT pg_create_logical_replication_slot('l', 'test_decoding')")
	cfg, err := n.localConn("reader", time.Minute)
	must(t, err)
	cfg.RuntimeParams["replication"] = "database"
	client, err = pgconn.ConnectConfig(testContext(t), &cfg.Config)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = client.Close(ctx)
	})
	client.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION SLOT l LOGICAL 0/0"})
	must(t, client.Frontend().Flush())
	return n, client
}

// A logical walsender waits for its client to confirm what it got. It is told to
// go, so that the stop is an orderly one.
func TestShutdownLogicalWalsender(t *testing.T) {
	n, client := logicalReader(t)
	go func() {
		for {
			if _, err := client.ReceiveMessage(context.Background()); err != nil {
				return
			}
		}
	}()
	n.sql("INSERT INTO public.t VALUES (1)")
	took, _ := n.stop(12 * time.Second)
	if took < 3*time.Second {
		t.Errorf("the test proves nothing: it took %s", took)
	}
	if took > 5500*time.Millisecond || n.state() != StateShutDown {
		t.Errorf("took %s, state %s", took, n.state())
	}
	if !strings.Contains(n.log.String(), "ending a logical walsender") {
		t.Error("the log does not say so")
	}
}

// One whose client reads nothing at all cannot even tell it that it goes.
func TestShutdownBlockedWalsender(t *testing.T) {
	n, _ := logicalReader(t)
	n.sql("INSERT INTO public.t SELECT generate_series(1, 300000)")
	eventually(t, "the walsender is stuck", func() bool {
		return n.ask("SELECT coalesce(max(wait_event), '') FROM pg_stat_activity WHERE backend_type = 'walsender'") == "WalSenderWriteData"
	})
	if took, _ := n.stop(3 * time.Second); took > 8*time.Second {
		t.Errorf("took %s", took)
	}
	n.start(StartOptions{Role: RolePrimary})
}
