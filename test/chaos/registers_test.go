//go:build e2e

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/lab"
)

// The registers: few enough to be contended, with few enough operations each for
// porcupine to judge.
const (
	registerCount    = 20
	registerClients  = 4
	registerPeriod   = 50 * time.Millisecond
	opsPerRegister   = 300
	registerOpLimit  = time.Second
	registerLimit    = 30 * time.Second
	registerReadFrom = "SELECT value FROM pgha_lab.registers WHERE key = $1 AND NOT pg_is_in_recovery()"
)

// registerLoad is a set of clients that read, write and compare-and-set registers on
// the primary, in serializable transactions.
type registerLoad struct {
	lab    *lab.Lab
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	ops   []regOp
	count [registerCount]int
	value int64 // the last one written: all differ
}

func newRegisterLoad(ctx context.Context, l *lab.Lab, primary *lab.Node) (*registerLoad, error) {
	conn, err := l.ConnectSoon(ctx, primary)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, fmt.Sprintf(`CREATE TABLE pgha_lab.registers (key int PRIMARY KEY, value bigint NOT NULL);
		INSERT INTO pgha_lab.registers SELECT k, 0 FROM generate_series(0, %d) k`, registerCount-1))
	if err != nil {
		return nil, fmt.Errorf("create registers: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &registerLoad{lab: l, cancel: cancel}
	for i := range registerClients {
		r.wg.Go(func() { r.client(ctx, i) })
	}
	return r, nil
}

func (r *registerLoad) stop() {
	r.cancel()
	r.wg.Wait()
}

func (r *registerLoad) history() []regOp {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]regOp(nil), r.ops...)
}

func (r *registerLoad) client(ctx context.Context, number int) {
	tick := time.NewTicker(registerPeriod)
	defer tick.Stop()
	var conn *pgx.Conn
	drop := func() {
		if conn != nil {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
			defer cancel()
			_ = conn.Close(closing)
			conn = nil
		}
	}
	defer drop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if conn == nil {
			if conn = r.connect(ctx); conn == nil {
				continue
			}
		}
		op, chosen := r.choose(number)
		if !chosen {
			return // enough of all
		}
		if r.do(ctx, conn, op) != lab.OK {
			drop()
		}
	}
}

func (r *registerLoad) connect(ctx context.Context) *pgx.Conn {
	leaders := r.lab.Leaders(ctx)
	if len(leaders) == 0 {
		return nil
	}
	conn, err := r.lab.Connect(ctx, leaders[0])
	if err != nil {
		return nil
	}
	if _, err := conn.Exec(ctx, "SET default_transaction_isolation = serializable"); err != nil {
		_ = conn.Close(ctx)
		return nil
	}
	return conn
}

// choose picks a register that has had few operations, and what to do with it.
func (r *registerLoad) choose(client int) (regOp, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op := regOp{Key: rand.IntN(registerCount), Verb: verb(rand.IntN(3)), Client: client}
	for tries := 0; r.count[op.Key] >= opsPerRegister; tries++ {
		if tries == registerCount {
			return op, false
		}
		op.Key = (op.Key + 1) % registerCount
	}
	r.count[op.Key]++
	r.value++
	op.New = r.value
	// What it was some operations ago: often right, often not.
	for i := len(r.ops) - 1; op.Verb == compareAndSet && i >= 0; i-- {
		if old := r.ops[i]; old.Key == op.Key && old.Outcome == lab.OK {
			op.Old = old.New
			if old.Verb == read {
				op.Old = old.Seen
			}
			break
		}
	}
	return op, true
}

func (r *registerLoad) do(ctx context.Context, conn *pgx.Conn, op regOp) lab.Outcome {
	ctx, cancel := context.WithTimeout(ctx, registerOpLimit)
	defer cancel()
	op.Invoke = lab.Boottime()
	var err error
	switch op.Verb {
	case read:
		err = conn.QueryRow(ctx, registerReadFrom, op.Key).Scan(&op.Seen)
	case write:
		_, err = conn.Exec(ctx, "UPDATE pgha_lab.registers SET value = $2 WHERE key = $1", op.Key, op.New)
	case compareAndSet:
		var tag pgconn.CommandTag
		tag, err = conn.Exec(ctx, "UPDATE pgha_lab.registers SET value = $2 WHERE key = $1 AND value = $3", op.Key, op.New, op.Old)
		op.Set = err == nil && tag.RowsAffected() == 1
	}
	op.Return = lab.Boottime()
	op.Outcome = lab.OutcomeOf(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
	return op.Outcome
}
