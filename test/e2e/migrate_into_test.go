//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/internal/lab"
)

// plain is a PostgreSQL server that no agent looks after.
type plain struct {
	dir string // data directory
	dsn string // of its superuser, without a database
}

// newPlain makes one on a host of the lab and starts it.
func newPlain(s *side, name string, port int, settings ...string) *plain {
	s.Helper()
	n, bin := s.Nodes[0], s.Options().PGBin
	p := &plain{dir: filepath.Join(n.Dir, name), dsn: fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=%s", port, s.Password())}
	script := fmt.Sprintf(`set -eu
echo %[3]s >%[1]s.pw
%[2]s/initdb -D %[1]s -U postgres -k -N -A scram-sha-256 --pwfile=%[1]s.pw >/dev/null
cat >>%[1]s/postgresql.conf <<-END
	port = %[4]d
	listen_addresses = '127.0.0.1'
	unix_socket_directories = '%[1]s'
	fsync = off
	%[5]s
	END
echo "host replication replicator 127.0.0.1/32 scram-sha-256" >>%[1]s/pg_hba.conf
%[2]s/pg_ctl -D %[1]s -l %[1]s.log -w start >/dev/null
`, p.dir, bin, s.Password(), port, strings.Join(settings, "\n\t"))
	out, err := s.AsServer(s.ctx, n, "bash", "-c", script)
	if err != nil {
		s.Fatalf("make a plain server: %v\n%s", err, out)
	}
	p.exec(s, "postgres", fmt.Sprintf("CREATE ROLE replicator LOGIN REPLICATION PASSWORD '%s'", s.Password()))
	return p
}

func (p *plain) exec(s *side, database, sql string) {
	s.Helper()
	conn, err := pgx.Connect(s.ctx, p.dsn+" dbname="+database)
	s.must(err)
	defer func() { _ = conn.Close(s.ctx) }()
	_, err = conn.Exec(s.ctx, sql)
	s.must(err)
}

// shopper inserts rows one after the other until it is stopped.
type shopper struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	acked  []int64
	last   time.Duration // of the last acknowledgement
}

const orders = "CREATE TABLE orders (id bigserial PRIMARY KEY, at timestamptz DEFAULT now()); CREATE TABLE customers (id int PRIMARY KEY); INSERT INTO customers SELECT generate_series(1, 1000)"

func shop(ctx context.Context, dsn string) *shopper {
	s := &shopper{}
	ctx, s.cancel = context.WithCancel(ctx)
	s.wg.Go(func() {
		for ctx.Err() == nil {
			s.visit(ctx, dsn)
		}
	})
	return s
}

func (s *shopper) visit(ctx context.Context, dsn string) {
	conn, err := pgx.Connect(ctx, dsn)
	for err == nil {
		var id int64
		if err = conn.QueryRow(ctx, "INSERT INTO orders DEFAULT VALUES RETURNING id").Scan(&id); err == nil {
			s.mu.Lock()
			s.acked, s.last = append(s.acked, id), lab.Boottime()
			s.mu.Unlock()
		}
	}
	if conn != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
	}
}

func (s *shopper) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}

// leave ends it and returns what was acknowledged.
func (s *shopper) leave() ([]int64, time.Duration) {
	s.cancel()
	s.wg.Wait()
	return s.acked, s.last
}

// arrived demands that every acknowledged order is in the new place, and that the
// next one can be taken there. It says how long nobody could order.
func arrived(s *side, how, dsn string, from *shopper) {
	s.Helper()
	to := shop(s.ctx, dsn)
	s.eventually("orders in the new place", func() bool { return to.count() > 0 })
	next, _ := to.leave()
	acked, last := from.leave()
	conn, err := pgx.Connect(s.ctx, dsn)
	s.must(err)
	defer func() { _ = conn.Close(s.ctx) }()
	rows, err := conn.Query(s.ctx, "SELECT id FROM orders")
	s.must(err)
	present, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	s.must(err)
	slices.Sort(present)
	missing := 0
	for _, id := range acked {
		if _, ok := slices.BinarySearch(present, id); !ok {
			missing++
		}
	}
	var customers int
	s.must(conn.QueryRow(s.ctx, "SELECT count(*) FROM customers").Scan(&customers))
	s.Logf("%s: %d orders acknowledged, %d missing; %d ms without orders", how, len(acked), missing, (lab.Boottime() - last).Milliseconds())
	if missing > 0 || len(acked) == 0 || customers != 1000 || next[0] <= acked[len(acked)-1] {
		s.Errorf("%s: %d of %d orders missing, %d customers, next order %d after %d", how, missing, len(acked), customers, next[0], acked[len(acked)-1])
	}
}

// docs/migrate-into.md, word for word: a plain server becomes this cluster as its
// standby, and the database of another one follows by a subscription.
func TestMigrateInto(t *testing.T) {
	onlyLong(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	const oldPort, shopPort = 26090, 26091
	s := newSide(t, ctx, "here", 26000, 2, map[string]any{"standby_cluster": map[string]any{
		"host": "127.0.0.1", "port": oldPort, "primary_slot_name": "pgha_move"}})
	old := newPlain(s, "old", oldPort)
	book, err := s.OpenManual("../../docs/migrate-into.md", map[string]string{
		"PATRONICTL_CONFIG_FILE": s.Nodes[0].Config, "CLUSTER": s.Options().Scope, "SOURCE": old.dsn, "FROM": old.dsn,
		"TARGET": "", "DATABASE": "shop", "SOURCE_DATA": old.dir,
	})
	s.must(err)
	for _, tool := range []string{"pg_ctl", "pg_controldata"} {
		s.must(book.Tool(tool, []byte("#!/bin/sh\nexec "+filepath.Join(s.Options().PGBin, tool)+" \"$@\"\n")))
	}
	s.must(book.ServeSystemctl(ctx, func(n *lab.Node, order string) error {
		if order != "enable --now pgha-agent" {
			return fmt.Errorf("systemctl: not what the document may say: %s", order)
		}
		return s.StartAgent(n)
	}))
	follow := func(word string) string {
		t.Helper()
		out, err := book.Follow(ctx, s.Nodes[0], word, 0)
		t.Logf("%s:\n%s", word, out)
		s.must(err)
		return out
	}

	old.exec(s, "postgres", orders)
	customer := shop(ctx, old.dsn+" dbname=postgres")
	follow("source")
	for _, n := range s.Nodes {
		_, err := book.Follow(ctx, n, "start", 0)
		s.must(err)
	}
	s.standbyLeader(nil)
	follow("look")
	follow("stop-source")
	follow("promote")
	leader, err := s.WaitLeader(ctx, nil)
	s.must(err)
	host, port := remoteOf(leader)
	target := fmt.Sprintf("host=%s port=%d user=postgres password=%s", host, port, s.Password())
	arrived(s, "physical", target+" dbname=postgres", customer)

	other := newPlain(s, "other", shopPort, "wal_level = logical")
	book.Set("SOURCE", other.dsn)
	book.Set("FROM", other.dsn)
	book.Set("TARGET", target)
	other.exec(s, "postgres", "CREATE DATABASE shop")
	other.exec(s, "shop", orders+"; CREATE ROLE clerk; GRANT SELECT ON orders TO clerk")
	customer = shop(ctx, other.dsn+" dbname=shop")
	follow("check")
	follow("schema")
	follow("subscribe")
	s.eventually("the tables are copied", func() bool { return strings.TrimSpace(follow("copied")) == "0" })
	follow("move")
	arrived(s, "logical", target+" dbname=shop", customer)
}
