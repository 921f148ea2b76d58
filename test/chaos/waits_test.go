//go:build e2e

package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/lab"
)

// wait is one commit that waited for a standby and was not left in peace.
type wait struct {
	id      int64
	way     string
	outcome lab.Outcome
}

// waitingCommits are commits on one node that are cancelled in every way there is,
// and, beside them, commits that do not wait.
type waitingCommits struct {
	lab  *lab.Lab
	node *lab.Node
	wg   sync.WaitGroup
	stop context.CancelFunc

	mu   sync.Mutex
	last int64
	all  []wait
}

// local marks commits of sessions with synchronous_commit = local.
const local = "local"

// disturbAfter is how long a commit may wait before it is disturbed.
const disturbAfter = 150 * time.Millisecond

func newWaitingCommits(ctx context.Context, l *lab.Lab, n *lab.Node) *waitingCommits {
	ctx, stop := context.WithCancel(ctx)
	w := &waitingCommits{lab: l, node: n, stop: stop}
	signal := func(function string) func(context.Context, *pgx.Conn, uint32) {
		return func(ctx context.Context, by *pgx.Conn, pid uint32) {
			_, _ = by.Exec(ctx, "SELECT "+function+"($1)", pid)
		}
	}
	for way, disturb := range map[string]func(context.Context, *pgx.Conn, uint32){
		"pg_cancel_backend":    signal("pg_cancel_backend"),
		"pg_terminate_backend": signal("pg_terminate_backend"),
		"driver timeout":       nil,
		local:                  nil,
	} {
		w.wg.Go(func() {
			for ctx.Err() == nil {
				if err := w.once(ctx, way, disturb); err != nil {
					select { // it is being stopped
					case <-time.After(disturbAfter):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	return w
}

// once makes one commit on a connection of its own.
func (w *waitingCommits) once(ctx context.Context, way string, disturb func(context.Context, *pgx.Conn, uint32)) error {
	warned := false
	conn, err := w.lab.ConnectHearing(ctx, w.node, func(n *pgconn.Notice) { warned = warned || n.SeverityUnlocalized == "WARNING" })
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if way == local {
		if _, err := conn.Exec(ctx, "SET synchronous_commit = local"); err != nil {
			return err
		}
	}
	limit := 2 * time.Second
	if disturb == nil && way != local {
		limit = disturbAfter
	}
	op, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if disturb != nil {
		by, err := w.lab.ConnectLocal(ctx, w.node)
		if err != nil {
			return err
		}
		pid := conn.PgConn().PID()
		done := make(chan struct{})
		timer := time.AfterFunc(disturbAfter, func() {
			defer close(done)
			disturb(op, by, pid)
		})
		defer func() {
			if !timer.Stop() {
				<-done
			}
			_ = by.Close(op)
		}()
	}
	w.mu.Lock()
	w.last++
	id := w.last
	w.mu.Unlock()
	_, err = conn.Exec(op, "INSERT INTO pgha_lab.waits VALUES ($1)", id)
	outcome := lab.OutcomeOf(err)
	if warned && outcome == lab.OK {
		outcome = lab.Info
	}
	w.mu.Lock()
	w.all = append(w.all, wait{id, way, outcome})
	w.mu.Unlock()
	return nil
}

// judge compares what the clients were told with the rows of the primary: who was
// told OK without a warning, and had waited, has the row.
func (w *waitingCommits) judge(x *run, primary *lab.Node) {
	w.stop()
	w.wg.Wait()
	conn, err := x.ConnectLocal(x.ctx, primary)
	x.must(err)
	defer func() { _ = conn.Close(x.ctx) }()
	rows, err := conn.Query(x.ctx, "SELECT id FROM pgha_lab.waits")
	x.must(err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	x.must(err)
	present := map[int64]bool{}
	for _, id := range ids {
		present[id] = true
	}
	count, missing := map[string]int{}, map[string]int{}
	for _, c := range w.all {
		class := "told OK"
		switch {
		case c.outcome == lab.Fail:
			class = "told of an error"
			if present[c.id] {
				x.wrong("row %d (%s) is there though its client was told of an error", c.id, c.way)
			}
		case c.way == local:
			class = "local"
		case c.outcome == lab.Info:
			class = "warned or cut off"
		}
		count[class]++
		if !present[c.id] {
			missing[class]++
		}
	}
	for _, class := range []string{"told OK", "warned or cut off", local} {
		x.figure(fmt.Sprintf("commits %s", class), float64(count[class]), "")
		x.figure("of them gone", float64(missing[class]), "")
	}
	if missing["told OK"] > 0 {
		x.wrong("%d commits are gone whose clients were told OK", missing["told OK"])
	}
	if count["warned or cut off"] == 0 {
		x.wrong("no waiting commit was disturbed: the row proves nothing")
	}
}
