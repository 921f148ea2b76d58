package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Timeouts and pauses of the clients. A client that gets no answer for
// opTimeout gives up the connection; the write is then Info.
const (
	connectTimeout = time.Second
	opTimeout      = time.Second
	retryPause     = 10 * time.Millisecond
)

// insert adds one row and tells on which timeline and where in the WAL.
const insert = `INSERT INTO pgha_lab.writes (id, client) VALUES ($1, $2)
RETURNING ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int,
          (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`

// Load is a set of running clients and the history of their writes.
type Load struct {
	lab    *Lab
	cancel context.CancelFunc
	wg     sync.WaitGroup
	lastID atomic.Int64

	mu     sync.Mutex
	ops    []Op    // OK and Info only
	failed []int64 // ids of those that failed
}

// PrepareLoad creates the table of the workloads on the primary, anew if it is
// there: ids of a Load are unique in its own table only.
func (l *Lab) PrepareLoad(ctx context.Context, primary *Node) error {
	conn, err := l.ConnectSoon(ctx, primary)
	if err != nil {
		return err
	}
	defer func() { closeConn(ctx, conn) }()
	// A call of a load that was stopped goes on for a while, and would go on in the
	// new table.
	_, err = conn.Exec(ctx, `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE 'CALL pgha_lab.%';
		DROP SCHEMA IF EXISTS pgha_lab CASCADE;
		CREATE SCHEMA pgha_lab;
		CREATE TABLE pgha_lab.writes (id bigint PRIMARY KEY, client text NOT NULL);
		`+procedure)
	if err != nil {
		return fmt.Errorf("create table of the workload: %w", err)
	}
	return nil
}

// NewLoad makes a history without clients yet.
func (l *Lab) NewLoad() *Load { return &Load{lab: l} }

// Writer adds a client that writes to the primary it finds by /primary, one row
// every period, until ctx ends or Stop is called.
func (w *Load) Writer(ctx context.Context, period time.Duration) {
	c := &client{load: w, name: WriterName, period: period, dial: w.lab.dialClient(), pick: w.lab.anyLeader}
	w.run(ctx, c.loop)
}

// WriterName is the Client of the operations of a Writer.
const WriterName = "writer"

func (l *Lab) anyLeader(ctx context.Context) *Node {
	if found := l.Leaders(ctx); len(found) > 0 {
		return found[0]
	}
	return nil
}

// Probers adds a client on every node that tries to write to that node's own
// server whatever its role, every period.
func (w *Load) Probers(ctx context.Context, period time.Duration) {
	for _, n := range w.lab.Nodes {
		c := &client{
			load: w, name: "prober on " + n.Name, period: period, dial: w.lab.dialOn(n),
			pick: func(context.Context) *Node { return n }, stubborn: true,
		}
		w.run(ctx, c.loop)
	}
}

func (w *Load) run(ctx context.Context, loop func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	stopEarlier := w.cancel
	w.cancel = func() {
		cancel()
		if stopEarlier != nil {
			stopEarlier()
		}
	}
	w.wg.Go(func() { loop(ctx) })
}

// Stop ends all clients and waits for them.
func (w *Load) Stop() {
	if w.cancel != nil {
		w.cancel()
	}
	w.wg.Wait()
}

// History gives the writes so far that were or may have been committed.
func (w *Load) History() []Op {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Op(nil), w.ops...)
}

// Since gives those of them that ended after an instant.
func (w *Load) Since(at time.Duration) []Op {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := len(w.ops)
	for i > 0 && w.ops[i-1].Return > at-disorder {
		i--
	}
	var out []Op
	for _, op := range w.ops[i:] {
		if op.Return > at {
			out = append(out, op)
		}
	}
	return out
}

// disorder is how much later than their end writes may be recorded.
const disorder = time.Second

// LastAck gives the end of the last acknowledged write of a node; 0 if there is none.
func (w *Load) LastAck(n *Node) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var last time.Duration
	for i := len(w.ops) - 1; i >= 0 && w.ops[i].Return > last-disorder; i-- {
		if op := w.ops[i]; op.Outcome == OK && op.Node == n.Name {
			last = max(last, op.Return)
		}
	}
	return last
}

// Failed gives the ids of the writes so far that certainly were not committed, and
// the highest id that was ever used.
func (w *Load) Failed() (ids []int64, last int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]int64(nil), w.failed...), w.lastID.Load()
}

func (w *Load) record(op Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if op.Outcome == Fail {
		w.failed = append(w.failed, op.ID)
		return
	}
	w.ops = append(w.ops, op)
}

// client is one connection's worth of load.
type client struct {
	load   *Load
	name   string
	period time.Duration
	dial   dialFunc
	pick   func(context.Context) *Node
	// stubborn clients keep the connection after a refused write: the prober
	// of a replica, which is refused most of the time.
	stubborn bool
}

func (c *client) loop(ctx context.Context) {
	for ctx.Err() == nil {
		if n := c.pick(ctx); n != nil {
			c.serve(ctx, n)
		}
		pause(ctx, retryPause)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// serve writes to one node until the connection breaks or the node refuses.
func (c *client) serve(ctx context.Context, n *Node) {
	warned := false
	conn, err := c.load.lab.connect(ctx, n, c.dial, &warned)
	if err != nil {
		return
	}
	defer func() { closeConn(ctx, conn) }()
	tick := time.NewTicker(c.period)
	defer tick.Stop()
	for {
		warned = false
		op := c.write(ctx, n, conn, &warned)
		if ctx.Err() != nil && op.Outcome != OK {
			op.Outcome = Info // we ended it ourselves
		}
		c.load.record(op)
		if op.Outcome == Info || op.Outcome == Fail && !c.stubborn {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

func (c *client) write(ctx context.Context, n *Node, conn *pgx.Conn, warned *bool) Op {
	op := Op{ID: c.load.lastID.Add(1), Client: c.name, Node: n.Name}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	var timeline int32
	var lsn int64
	op.Invoke = Boottime()
	err := conn.QueryRow(ctx, insert, op.ID, c.name).Scan(&timeline, &lsn)
	op.Return = Boottime()
	op.Timeline, op.LSN = uint32(timeline), uint64(lsn)
	op.Outcome = outcomeOf(err, *warned)
	return op
}

// OutcomeOf classifies the answer to a statement in a transaction of its own.
func OutcomeOf(err error) Outcome { return outcomeOf(err, false) }

// outcomeOf classifies an answer. An ERROR came before the commit; after FATAL
// (the server is going down) or silence the row may be there or not, and a
// warning at commit means that its durability is not known.
func outcomeOf(err error, warned bool) Outcome {
	var pgErr *pgconn.PgError
	switch {
	case err == nil && !warned:
		return OK
	case errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR":
		return Fail
	default:
		return Info
	}
}

// Connect opens a superuser connection to a node, as a client on the network.
func (l *Lab) Connect(ctx context.Context, n *Node) (*pgx.Conn, error) {
	return l.connect(ctx, n, l.dialClient(), nil)
}

// ConnectLocal opens it as a program on the node itself.
func (l *Lab) ConnectLocal(ctx context.Context, n *Node) (*pgx.Conn, error) {
	return l.connect(ctx, n, l.dialOn(n), nil)
}

// connectPatience is what a server may need until it takes a connection: one on a busy
// machine is late, and one that is being restarted refuses for a while.
const connectPatience = 30 * time.Second

// ConnectSoon is ConnectLocal that tries again for a while.
func (l *Lab) ConnectSoon(ctx context.Context, n *Node) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	var conn *pgx.Conn
	var last error
	err := Poll(ctx, func() bool {
		conn, last = l.ConnectLocal(ctx, n)
		return last == nil
	})
	if err != nil {
		return nil, errors.Join(last, err)
	}
	return conn, nil
}

// ConnectHearing is ConnectLocal with every notice of the server given to heard.
func (l *Lab) ConnectHearing(ctx context.Context, n *Node, heard func(*pgconn.Notice)) (*pgx.Conn, error) {
	return l.connectHearing(ctx, n, l.dialOn(n), heard)
}

func (l *Lab) connect(ctx context.Context, n *Node, dial dialFunc, warned *bool) (*pgx.Conn, error) {
	var heard func(*pgconn.Notice)
	if warned != nil {
		heard = func(notice *pgconn.Notice) {
			*warned = *warned || notice.SeverityUnlocalized == "WARNING"
		}
	}
	return l.connectHearing(ctx, n, dial, heard)
}

// connectHearing connects, and gives notices of the server to heard, if not nil.
func (l *Lab) connectHearing(ctx context.Context, n *Node, dial dialFunc, heard func(*pgconn.Notice)) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig("sslmode=disable user=postgres dbname=postgres")
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(n.Addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port, cfg.Password = host, uint16(number), l.password
	cfg.Fallbacks = nil
	cfg.DialFunc = pgconn.DialFunc(dial)
	// A replica's prober is refused many times a second: keep its log readable.
	cfg.RuntimeParams = map[string]string{"application_name": "pgha lab", "log_min_messages": "fatal"}
	if heard != nil {
		cfg.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { heard(notice) }
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", n.Name, err)
	}
	return conn, nil
}

// WaitAck waits until a write that was invoked after an instant is acknowledged.
func (w *Load) WaitAck(ctx context.Context, after time.Duration) (Op, error) {
	var found Op
	err := Poll(ctx, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i := len(w.ops) - 1; i >= 0; i-- {
			if op := w.ops[i]; op.Outcome == OK && op.Invoke > after {
				found = op
				return true
			}
		}
		return false
	})
	if err != nil {
		return found, fmt.Errorf("wait for an acknowledged write: %w", err)
	}
	return found, nil
}
