package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Audit is what became of the acknowledged writes.
type Audit struct {
	Acked int
	// Missing holds, per node, the acknowledged rows it does not have.
	Missing map[string][]int64
	// LostBytes is the acknowledged WAL that no timeline of the cluster holds.
	LostBytes uint64
	// Present holds the ids on the primary.
	Present map[int64]bool
}

// Lost counts the rows missing on the primary, or on any node if that is more.
func (a Audit) Lost() int {
	n := 0
	for _, ids := range a.Missing {
		n = max(n, len(ids))
	}
	return n
}

// Audit reads the table on every node given (default: all), after each has
// replayed what the primary has, and compares it with the history. The clients
// should be stopped or idle, or rows acknowledged meanwhile are left out.
func (l *Lab) Audit(ctx context.Context, ops []Op, primary *Node, nodes ...*Node) (Audit, error) {
	if len(nodes) == 0 {
		nodes = l.Nodes
	}
	a := Audit{Acked: Acked(ops, 0, Boottime()), Missing: map[string][]int64{}}
	var target string
	err := l.queryPatiently(ctx, primary, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&target)
	})
	if err != nil {
		return a, fmt.Errorf("read position of the primary: %w", err)
	}
	for _, n := range nodes {
		present, err := l.rowsOf(ctx, n, target)
		if err != nil {
			return a, err
		}
		a.Missing[n.Name] = Missing(ops, present)
		if n == primary {
			a.Present = present
		}
	}
	history, err := l.History(ctx, primary)
	if err != nil {
		return a, err
	}
	a.LostBytes = LostBytes(ops, history)
	return a, nil
}

// replayLimit bounds the wait for a replica to replay what the primary has.
const replayLimit = 30 * time.Second

func (l *Lab) rowsOf(ctx context.Context, n *Node, target string) (map[int64]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, replayLimit)
	defer cancel()
	present := map[int64]bool{}
	err := l.queryPatiently(ctx, n, func(conn *pgx.Conn) error {
		clear(present)
		var queryErr error
		err := Poll(ctx, func() bool {
			var there bool
			queryErr = conn.QueryRow(ctx, `SELECT CASE WHEN pg_is_in_recovery()
				THEN pg_last_wal_replay_lsn() >= $1::pg_lsn ELSE true END`, target).Scan(&there)
			return there || queryErr != nil
		})
		if queryErr != nil || err != nil {
			return fmt.Errorf("wait until it has replayed %s: %w", target, firstError(queryErr, err))
		}
		rows, err := conn.Query(ctx, "SELECT id FROM pgha_lab.writes")
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		for _, id := range ids {
			present[id] = true
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read rows of %s: %w", n.Name, err)
	}
	return present, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// queryPatiently tries until ctx ends while the connection fails: a busy server may
// need more than one attempt, and a standby may be restarted for a parameter or a
// copied slot while it is read. use may run again and must begin anew.
func (l *Lab) queryPatiently(ctx context.Context, n *Node, use func(*pgx.Conn) error) error {
	var queryErr error
	err := Poll(ctx, func() bool {
		var conn *pgx.Conn
		if conn, queryErr = l.ConnectLocal(ctx, n); queryErr != nil {
			return false
		}
		queryErr = use(conn)
		cut := conn.IsClosed()
		closeConn(ctx, conn)
		return queryErr == nil || !cut
	})
	return errors.Join(queryErr, err)
}

func (l *Lab) query(ctx context.Context, n *Node, use func(*pgx.Conn) error) error {
	conn, err := l.ConnectLocal(ctx, n)
	if err != nil {
		return err
	}
	defer func() { closeConn(ctx, conn) }()
	return use(conn)
}
