//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/internal/lab"
)

// slots maps the slots of a server to their type; nil while it does not answer.
func (r *row) slots(n *lab.Node) map[string]string {
	conn, err := r.Connect(r.ctx, n)
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close(r.ctx) }()
	rows, err := conn.Query(r.ctx, "SELECT slot_name, slot_type FROM pg_replication_slots WHERE NOT temporary")
	if err != nil {
		return nil
	}
	out := map[string]string{}
	var name, kind string
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind}, func() error { out[name] = kind; return nil }); err != nil {
		return nil
	}
	return out
}

// allSlots waits for the server's answer.
func (r *row) allSlots(n *lab.Node) (slots map[string]string) {
	r.Helper()
	r.eventually("the slots of "+n.Name, func() bool { slots = r.slots(n); return slots != nil })
	return slots
}

func (r *row) exec(n *lab.Node, sql string) {
	r.Helper()
	conn, err := r.ConnectSoon(r.ctx, n)
	r.must(err)
	defer func() { _ = conn.Close(r.ctx) }()
	_, err = conn.Exec(r.ctx, sql)
	r.must(err)
}

// slotOf is the slot of a member.
func slotOf(n *lab.Node) string { return strings.ReplaceAll(n.Name, "-", "_") }

// consumer is pg_recvlogical, which looks for the primary by itself.
type consumer struct {
	*row
	cmd  *exec.Cmd
	file string
}

func (r *row) consume(slot string) *consumer {
	r.Helper()
	c := &consumer{row: r, file: filepath.Join(r.TempDir(), "changes")}
	var hosts, ports []string
	for _, n := range r.Nodes {
		host, port, err := net.SplitHostPort(n.Addr)
		r.must(err)
		hosts, ports = append(hosts, host), append(ports, port)
	}
	c.cmd = exec.Command(filepath.Join(r.Options().PGBin, "pg_recvlogical"), "--start", "--slot="+slot, "--file="+c.file,
		"--status-interval=1", "--fsync-interval=1", "--dbname=host="+strings.Join(hosts, ",")+" port="+strings.Join(ports, ",")+
			" user=postgres dbname=postgres connect_timeout=2 tcp_user_timeout=3000 target_session_attrs=read-write")
	c.cmd.Env = append(os.Environ(), "PGPASSWORD="+r.Password())
	r.must(r.StartClient(c.cmd))
	r.Cleanup(c.stop)
	return c
}

func (c *consumer) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGINT)
	_ = c.cmd.Wait()
}

var insertedID = regexp.MustCompile(`pgha_lab\.writes: INSERT: id\[bigint\]:(\d+)`)

// received counts how often the consumer was told of each row.
func (c *consumer) received() map[int64]int {
	text, _ := os.ReadFile(c.file)
	out := map[int64]int{}
	for line := range bytes.Lines(text) {
		if m := insertedID.FindSubmatch(line); m != nil {
			id, _ := strconv.ParseInt(string(m[1]), 10, 64)
			out[id]++
		}
	}
	return out
}

// follows waits until the consumer was told of a row written after now.
func (c *consumer) follows() {
	c.Helper()
	op := c.acked(lab.Boottime())
	c.eventually("the consumer gets the changes of now", func() bool { return c.received()[op.ID] > 0 })
}

// Permanent slots, physical and logical, are on every member, and a consumer goes
// on after a switchover and after the loss of the primary's host: it misses no row
// that is there. What /config says is another's is left alone; the slot of a
// member that is gone stays for member_slots_ttl.
func TestSlots(t *testing.T) {
	r := begin(t)
	r.configure(object{
		"member_slots_ttl": "20s", "ignore_slots": []object{{"name": "mine"}}, // the slot must still be there when it is looked for
		"slots": object{"outside": object{"type": "physical"}, "stream": object{"database": "postgres", "plugin": "test_decoding"}},
	})
	r.send(r.leader, "PATCH", "/config", object{"slots": object{"x": object{"type": "logical"}}}, 422, "is logical without database or plugin")
	everywhere := func() bool {
		for _, n := range r.Nodes {
			if s := r.slots(n); s["outside"] != "physical" || s["stream"] != "logical" {
				return false
			}
		}
		return true
	}
	r.eventually("the permanent slots on every member", everywhere)
	r.exec(r.leader, "SELECT pg_create_physical_replication_slot('mine', true), pg_create_physical_replication_slot('stray', true)")
	from := r.acked(lab.Boottime()).ID // ids grow: whatever has a higher one was written later
	c := r.consume("stream")
	c.follows()
	r.eventually("an unknown slot is dropped", func() bool {
		s := r.slots(r.leader)
		return s != nil && s["stray"] == ""
	})

	first := r.leader
	r.switchover(first, nil)
	second := r.newLeader(first)
	c.follows()
	r.streaming(lab.Boottime())
	if s := r.allSlots(first); s["mine"] == "" {
		t.Errorf("a slot of ignore_slots is gone: %v", s)
	}
	r.exec(first, "SELECT pg_drop_replication_slot('mine')")

	r.must(r.PowerOff(second))
	third := r.newLeader(second)
	if s := r.allSlots(third); s[slotOf(second)] == "" {
		t.Errorf("%s has no slot for %s, which was the leader a moment ago: %v", third.Name, second.Name, s)
	}
	c.follows()
	r.eventually("the slot of the lost member is dropped after member_slots_ttl", func() bool {
		s := r.slots(third)
		return s != nil && s[slotOf(second)] == ""
	})
	r.must(r.PowerOn(second))
	r.streaming(lab.Boottime())
	r.eventually("the permanent slots on every member again", everywhere)
	c.follows()

	c.missedNothing(from)
	r.finish(bounded)
}

// missedNothing ends the load and checks that the consumer was told of every row
// that is there and was written after the one called from.
func (c *consumer) missedNothing(from int64) {
	c.Helper()
	c.load.Stop()
	audit, err := c.Audit(c.ctx, c.load.History(), c.soleLeader()) // a starved machine may have moved it since
	c.must(err)
	var received map[int64]int
	missed, again := 0, 0
	ctx, cancel := context.WithTimeout(c.ctx, settle)
	defer cancel()
	_ = lab.Poll(ctx, func() bool { // it is a moment behind
		received = c.received()
		missed, again = 0, 0
		for id := range audit.Present {
			if id >= from && received[id] == 0 {
				missed++
			}
			again += max(received[id]-1, 0)
		}
		return missed == 0
	})
	c.Logf("the consumer was told of %d rows, and again of %d; %d of the table's %d it was not told of", len(received), again, missed, len(audit.Present))
	if missed > 0 {
		c.Errorf("%d rows never reached the consumer", missed)
	}
	if again > len(received)/2 {
		c.Errorf("%d of %d rows came again: a slot was not moved along", again, len(received))
	}
}

// PostgreSQL 17 keeps slots with failover on standbys itself, beside those that pgha
// looks after: it is let do so, also on a former primary.
func TestFailoverSlots(t *testing.T) {
	if version := serverVersion(t); version < 170000 {
		t.Skipf("the server is %d, and such slots came with PostgreSQL 17: make test-pg17", version)
	}
	r := begin(t)
	r.configure(object{"slots": object{"ours": object{"database": "postgres", "plugin": "test_decoding"}}})
	sync := func(value any) object {
		return object{"postgresql": object{"parameters": object{"sync_replication_slots": value}}}
	}
	r.configureUntil(sync("on"), sync(nil))
	r.exec(r.leader, "SELECT pg_create_logical_replication_slot('native', 'test_decoding', false, false, true)")
	synced := func(except *lab.Node) bool {
		for _, n := range r.Nodes {
			if n != except && !r.hasSlot(n, "slot_name = 'native' AND failover AND synced AND NOT temporary") {
				return false
			}
			if !r.hasSlot(n, "slot_name = 'ours' AND NOT failover") {
				return false
			}
		}
		return true
	}
	first := r.leader
	from := r.acked(lab.Boottime()).ID
	c := r.consume("native")
	c.follows()
	r.eventually("both kinds of slots on the standbys", func() bool { return synced(first) })

	r.switchover(first, nil)
	second := r.newLeader(first)
	c.follows()
	r.streaming(lab.Boottime())
	r.eventually("the former primary's own slot makes room for a copy", func() bool { return synced(second) })

	r.must(r.PowerOff(second))
	third := r.newLeader(second)
	c.follows()
	r.must(r.PowerOn(second))
	r.streaming(lab.Boottime())
	r.eventually("both kinds of slots on the standbys again", func() bool { return synced(third) })
	c.follows()
	c.missedNothing(from)

	c.stop()
	r.exec(third, "SELECT pg_drop_replication_slot('native')")
	r.eventually("the copies go with the slot", func() bool {
		for _, n := range r.Nodes {
			if s := r.slots(n); s == nil || s["native"] != "" {
				return false
			}
		}
		return true
	})
	r.finish(bounded)
}

// serverVersion is that of the server under test, as 170002.
func serverVersion(t *testing.T) (version int) {
	t.Helper()
	l := sharedLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), settle)
	defer cancel()
	leader, err := l.WaitLeader(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.ConnectSoon(ctx, leader)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	return version
}

func (r *row) hasSlot(n *lab.Node, condition string) (there bool) {
	conn, err := r.Connect(r.ctx, n)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(r.ctx) }()
	err = conn.QueryRow(r.ctx, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE "+condition+")").Scan(&there)
	return err == nil && there
}

// A member that streams from another one has its slot there; when that one is
// lost it turns to the leader, and back.
func TestCascade(t *testing.T) {
	r := begin(t)
	var upstream, leaf *lab.Node
	for _, n := range r.Nodes {
		switch {
		case n == r.leader:
		case upstream == nil:
			upstream = n
		default:
			leaf = n
		}
	}
	r.retag(leaf, object{"replicatefrom": upstream.Name, "noloadbalance": true})
	t.Cleanup(func() { r.retag(leaf, nil) })
	streams := func(from *lab.Node) bool { return r.streamsFrom(from, leaf) }
	r.eventually("it streams from its upstream, by its slot", func() bool { return streams(upstream) })
	r.answers(leaf, "/replica", 503) // noloadbalance
	r.must(r.PowerOff(upstream))
	r.eventually("it turns to the leader", func() bool { return streams(r.leader) })
	r.must(r.PowerOn(upstream))
	r.eventually("and back", func() bool { return streams(upstream) })
	r.answers(upstream, "/replica?lag=16MB", 200) // the other one serves reads
	r.retag(leaf, nil)
	r.eventually("without the tag it streams from the leader", func() bool { return streams(r.leader) })
	r.sameLeader()
	r.finish(none)
}

// streamsFrom tells whether a member streams from another one, by its slot there.
func (r *row) streamsFrom(from, member *lab.Node) (there bool) {
	conn, err := r.Connect(r.ctx, from)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(r.ctx) }()
	err = conn.QueryRow(r.ctx, "SELECT EXISTS (SELECT FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE application_name = $1 AND state = 'streaming' AND slot_name = $2)", member.Name, slotOf(member)).Scan(&there)
	return err == nil && there
}
