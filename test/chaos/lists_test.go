//go:build e2e

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/internal/lab"
)

// The lists: few, so that transactions meet.
const (
	listCount   = 12
	listClients = 3
	listPeriod  = 50 * time.Millisecond
	listOpLimit = time.Second
)

// listLoad is a set of clients that append to two to four lists at once on the
// primary, and look at them, in serializable transactions.
type listLoad struct {
	lab    *lab.Lab
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	ops   []listOp
	value int64
}

func newListLoad(ctx context.Context, l *lab.Lab, primary *lab.Node) (*listLoad, error) {
	conn, err := l.ConnectSoon(ctx, primary)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, fmt.Sprintf(`CREATE TABLE pgha_lab.lists (key int PRIMARY KEY, list bigint[] NOT NULL);
		INSERT INTO pgha_lab.lists SELECT k, '{}' FROM generate_series(0, %d) k`, listCount-1))
	if err != nil {
		return nil, fmt.Errorf("create lists: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	load := &listLoad{lab: l, cancel: cancel}
	for range listClients {
		load.wg.Go(func() { load.client(ctx) })
	}
	return load, nil
}

func (l *listLoad) stop() {
	l.cancel()
	l.wg.Wait()
}

// judge reads the lists of the primary and compares them with what the clients saw.
func (l *listLoad) judge(ctx context.Context, primary *lab.Node) (lines []string, transactions int, err error) {
	conn, err := l.lab.ConnectSoon(ctx, primary)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	final := map[int][]int64{}
	rows, err := conn.Query(ctx, "SELECT key, list FROM pgha_lab.lists")
	if err != nil {
		return nil, 0, fmt.Errorf("read lists: %w", err)
	}
	var key int
	var list []int64
	if _, err := pgx.ForEachRow(rows, []any{&key, &list}, func() error {
		final[key] = slices.Clone(list)
		return nil
	}); err != nil {
		return nil, 0, fmt.Errorf("read lists: %w", err)
	}
	return anomalies(l.ops, final), len(l.ops), nil
}

func (l *listLoad) client(ctx context.Context) {
	tick := time.NewTicker(listPeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		if leaders := l.lab.Leaders(ctx); len(leaders) > 0 {
			l.serve(ctx, leaders[0], tick)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// serve works on one connection until a transaction does not succeed.
func (l *listLoad) serve(ctx context.Context, n *lab.Node, tick *time.Ticker) {
	conn, err := l.lab.Connect(ctx, n)
	if err != nil {
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	for {
		op := l.choose()
		l.do(ctx, conn, &op)
		l.mu.Lock()
		l.ops = append(l.ops, op)
		l.mu.Unlock()
		if op.Outcome == lab.Info || conn.IsClosed() {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if op.Outcome == lab.Fail {
			return // perhaps another node is the primary
		}
	}
}

func (l *listLoad) choose() listOp {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.value++
	keys := rand.Perm(listCount)[:2+rand.IntN(3)]
	slices.Sort(keys) // or they would wait for each other in a circle
	return listOp{Value: l.value, Keys: keys, Seen: map[int][]int64{}}
}

func (l *listLoad) do(ctx context.Context, conn *pgx.Conn, op *listOp) {
	ctx, cancel := context.WithTimeout(ctx, listOpLimit)
	defer cancel()
	op.Invoke = lab.Boottime()
	err := func() error {
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
		if err != nil {
			return err
		}
		for _, key := range op.Keys {
			var seen []int64
			err := tx.QueryRow(ctx, "UPDATE pgha_lab.lists SET list = list || $2::bigint WHERE key = $1 RETURNING list", key, op.Value).Scan(&seen)
			if err != nil {
				_ = tx.Rollback(ctx)
				return err
			}
			op.Seen[key] = seen
		}
		return tx.Commit(ctx)
	}()
	op.Return = lab.Boottime()
	op.Outcome = lab.OutcomeOf(err)
}
