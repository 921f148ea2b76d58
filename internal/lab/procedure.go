package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// procedure commits row after row within one call, and says so after each: the
// notice is the acknowledgement. Between rows it computes instead of sleeping, since
// a backend that sleeps notices that its postmaster is dead.
const procedure = `CREATE PROCEDURE pgha_lab.many(client text, first bigint, n int) LANGUAGE plpgsql AS $$
DECLARE began timestamptz; tl int; lsn bigint;
BEGIN
	FOR i IN 0 .. n - 1 LOOP
		began := clock_timestamp();
		INSERT INTO pgha_lab.writes (id, client) VALUES (first + i, client);
		tl := ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int;
		lsn := (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint;
		COMMIT;
		RAISE NOTICE 'pgha_lab % % % %', first + i, tl, lsn, (extract(epoch FROM began) * 1000000)::bigint;
		PERFORM count(*) FROM generate_series(1, 20000);
	END LOOP;
END $$`

// rowsPerCall makes a call last about a second, in which it takes a whole core.
const rowsPerCall = 300

// callTimeout bounds one call of the procedure.
const callTimeout = 30 * time.Second

// Procedures adds a client on every node that runs long procedures on that node's
// own server, when it is a primary. Each row of theirs is an Op of its own.
func (w *Load) Procedures(ctx context.Context) {
	for _, n := range w.lab.Nodes {
		p := &caller{load: w, node: n, name: "procedure on " + n.Name, dial: w.lab.dialOn(n)}
		w.run(ctx, p.loop)
	}
}

type caller struct {
	load *Load
	node *Node
	name string
	dial dialFunc
}

func (p *caller) loop(ctx context.Context) {
	for ctx.Err() == nil {
		p.serve(ctx)
		pause(ctx, callPause)
	}
}

const (
	// callPause is the pause after a call that was refused or broken.
	callPause = 50 * time.Millisecond
	// betweenCalls leaves others the core.
	betweenCalls = 500 * time.Millisecond
)

func (p *caller) serve(ctx context.Context) {
	conn, err := p.load.lab.connectHearing(ctx, p.node, p.dial, p.heard)
	if err != nil {
		return
	}
	defer func() { closeConn(ctx, conn) }()
	for ctx.Err() == nil {
		if err := p.call(ctx, conn.PgConn()); err != nil {
			return
		}
		pause(ctx, betweenCalls)
	}
}

func (p *caller) call(ctx context.Context, conn *pgconn.PgConn) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	first := p.load.lastID.Add(rowsPerCall) - rowsPerCall + 1
	call := fmt.Sprintf("CALL pgha_lab.many('%s', %d, %d)", p.name, first, rowsPerCall)
	return conn.Exec(ctx, call).Close()
}

// heard takes the acknowledgement of one row. It was begun at the server's wall
// clock, which is this machine's.
func (p *caller) heard(notice *pgconn.Notice) {
	op := Op{Client: p.name, Node: p.node.Name, Outcome: OK, Return: Boottime()}
	var lsn, began int64
	if _, err := fmt.Sscanf(notice.Message, "pgha_lab %d %d %d %d", &op.ID, &op.Timeline, &lsn, &began); err != nil {
		return // of something else
	}
	op.LSN = uint64(lsn)
	op.Invoke = op.Return - time.Since(time.UnixMicro(began))
	p.load.record(op)
}
