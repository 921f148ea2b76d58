package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// syncRep is the part of a server that has to do with synchronous replication.
type syncRep struct {
	file  string  // synchronous_standby_names as the configuration file has it
	value *string // what this run of the agent made of it; nil: nothing yet
	text  string  // in force
	// Of text: how many of which nodes; -1 is a name that no node has.
	any   bool
	count int
	nodes []int
	// heard is what the WAL sender to each node has been told by its receiver.
	heard []heard
	// waiting are the ends of the commits that no standby has confirmed yet.
	waiting []wal.LSN
	// strict: in strict mode it has waited for somebody, and is to go on so.
	strict bool
}

// heard is the position that a receiver confirmed, in its connection of that number.
type heard struct {
	conn int
	at   wal.LSN
}

// clients is how many of them write; each waits for its commit.
const clients = 6

// commit flushes a transaction, and acknowledges it once the standbys have it.
func (s *server) commit(size wal.LSN) {
	if s.sync.text != "" && (s.orphaned() || len(s.sync.waiting) >= clients) {
		return // WAL senders end with their postmaster
	}
	s.written += size
	s.flush = s.written
	s.sync.waiting = append(s.sync.waiting, s.flush)
	s.confirm()
}

// confirm acknowledges what enough standbys have.
func (s *server) confirm() {
	end, y := ^wal.LSN(0), &s.sync
	if y.text != "" {
		end = s.confirmed()
	}
	for len(y.waiting) > 0 && y.waiting[0] <= end {
		s.n.w.ghost.ack(s.n, y.waiting[0])
		y.waiting = slices.Delete(y.waiting, 0, 1)
	}
}

// confirmed is the position that the standbys in force have, by the server's
// rule: the first count of the list that are connected, or any count of it.
func (s *server) confirmed() wal.LSN {
	var has [8]wal.LSN
	got := has[:0]
	for _, i := range s.sync.nodes {
		if at, ok := s.sender(i); ok && at > 0 {
			got = append(got, at)
		}
	}
	switch k := s.sync.count; {
	case len(got) < k || k == 0:
		return 0
	case s.sync.any:
		slices.Sort(got)
		return got[len(got)-k]
	default:
		return slices.Min(got[:k])
	}
}

// sender tells how far the standby of node i is known to be, and whether it streams from here.
func (s *server) sender(i int) (at wal.LSN, streams bool) {
	if i < 0 {
		return 0, false
	}
	other := &s.n.w.nodes[i].server
	if !other.streaming || other.up.Member != s.n.name {
		return 0, false
	}
	if h := s.sync.heard[i]; h.conn == other.conn {
		at = h.at
	}
	return at, true
}

// reply is what the receiver of s tells from, a moment after it flushed.
func (s *server) reply(from *server) {
	n := s.n
	if !n.w.syncs() || from.recovery {
		return
	}
	gen, conn, br, at := from.gen, s.conn, s.br, s.flush
	n.w.after(between(n.w.net, ms/5, 5*ms), func() {
		if from.gen != gen || from.dying || from.br != br || from.proc != ha.ProcessRunning || !n.w.linked(n, from.n) {
			return
		}
		from.sync.heard[n.index] = heard{conn: conn, at: at}
		from.confirm()
	})
}

// linked tells whether WAL gets to a node from another one.
func (w *world) linked(to, from *node) bool {
	return !to.off && !from.off && !to.cutStreams && !from.cutStreams && !to.cutFrom[walStream][from.index]
}

// syncs tells whether synchronous replication is in use, or was until a moment ago.
func (w *world) syncs() bool {
	return w.conf.Mode != "" || slices.ContainsFunc(w.nodes, func(n *node) bool { return n.server.sync.text != "" })
}

// SetSyncNames implements loop.Node: a line of the configuration, a signal, and
// the wait until the server goes by it.
func (s *server) SetSyncNames(ctx context.Context, names *string) error {
	n := s.n
	n.reach(before(effSyncNames))
	n.sleep(between(n.w.net, ms, 5*ms))
	s.sync.value = names
	s.configured()
	for s.proc == ha.ProcessRunning && names != nil && s.sync.text != *names && n.w.budget(ctx) > 0 {
		n.sleep(5 * ms)
	}
	n.reach(after(effSyncNames))
	switch {
	case s.proc == ha.ProcessDown:
		return nil // it is in force with the next start
	case names != nil && s.sync.text != *names:
		return errors.New("set synchronous_standby_names: the server did not take the value")
	case names != nil && *names != "" && s.writable():
		s.written += 8 // by which standbys show that they have caught up
		s.flush = s.written
	}
	return nil
}

// configured writes the configuration file and lets the server read it.
func (s *server) configured() {
	n, y := s.n, &s.sync
	y.write(&n.settings, s.proc != ha.ProcessDown && !s.recovery)
	s.later(between(n.w.srvr, ms, 60*ms), func() {
		if !s.dying { // or nobody reads it any more
			s.inForce(y.file)
		}
	})
}

// write is the agent writing the configuration file, before a start too. One that
// has not decided anything yet goes on with what is there.
func (y *syncRep) write(set *settings, primary bool) {
	switch {
	case y.value != nil:
		y.file = *y.value
	case set.Mode == "":
		y.file = ""
	case y.file == "" && set.Strict && primary:
		y.file = nobody
	}
}

// nobody is the name that strict mode waits for when there is no standby.
const nobody = "__patroni_strict_sync_replica_placeholder__"

// inForce lets every process of the server go by a value.
func (s *server) inForce(text string) {
	y, set := &s.sync, &s.n.settings
	s.n.w.ghost.touched = true
	y.strict = set.Strict && set.Mode != "" && (y.strict || text != "")
	if text == y.text {
		return
	}
	names := ha.ParseSyncNames(text)
	y.text, y.any, y.count, y.nodes = text, names.Any, names.Count, nil
	for _, name := range names.Names {
		i := -1
		if n := s.n.w.node(name); n != nil {
			i = n.index
		}
		y.nodes = append(y.nodes, i)
	}
	s.n.w.trace(s.n, "SERVER: waits for %q", text)
	s.confirm()
}

var (
	streams = "streaming"
	states  = [...]string{"async", "potential", "sync", "quorum"}
)

// replication is pg_stat_replication.
func (s *server) replication() (out []ha.Replication) {
	for i, n := range s.n.w.nodes {
		at, ok := s.sender(i)
		if !ok {
			continue
		}
		out = append(out, ha.Replication{ApplicationName: &n.name, State: &streams, SyncState: &states[s.duty(i)], SentLSN: s.flush, WriteLSN: at, FlushLSN: at, ReplayLSN: at})
	}
	return out
}

// duty is the sync_state of the standby of node i, as an index of states.
func (s *server) duty(i int) int {
	place := slices.Index(s.sync.nodes, i)
	switch {
	case place < 0:
		return 0
	case s.sync.any:
		return 3
	}
	before := 0
	for _, j := range s.sync.nodes[:place] {
		if _, there := s.sender(j); there {
			before++
		}
	}
	if before < s.sync.count {
		return 2
	}
	return 1
}

// syncModes are drawn from: every second cluster is an asynchronous one.
var syncModes = []settings{
	{}, {}, {}, {}, {Mode: config.SyncOn}, {Mode: config.SyncOn, Strict: true}, {Mode: config.SyncQuorum}, {Mode: config.SyncQuorum, Strict: true},
}

// drawSync is the synchronous mode of a new cluster, or another one for it.
func (s *settings) drawSync(r *rand.Rand, sync bool) {
	mode := syncModes[r.IntN(len(syncModes))]
	if sync {
		mode = syncModes[len(syncModes)/2+r.IntN(len(syncModes)/2)]
	}
	s.Mode, s.Strict, s.Count, s.SyncLag = mode.Mode, mode.Strict, 1+r.IntN(3)/2*(1+r.IntN(2)), []int64{0, 0, 2000}[r.IntN(3)]
}

// sync is the mode in words.
func (s *settings) sync() string {
	mode := string(cmp.Or(s.Mode, config.SyncOff))
	if s.Strict {
		mode += ", strict"
	}
	return fmt.Sprintf("%s (%d)", mode, s.Count)
}

// resync is an operator who changes the synchronous mode or the number of standbys.
func (w *world) resync(r *rand.Rand) {
	was := w.conf
	w.conf.drawSync(r, false)
	if r.IntN(3) == 0 { // the number only
		w.conf.Mode, w.conf.Strict = was.Mode, was.Strict
	}
	if (was.Mode == "") != (w.conf.Mode == "") {
		w.ghost.unpromise()
		clear(w.ghost.sync.noted[:])
	}
	w.configure()
}

// bothDie is a leader that dies together with its synchronous standbys.
func (w *world) bothDie(n *node, r *rand.Rand, d int64) {
	for _, i := range n.server.sync.nodes {
		if i >= 0 && r.IntN(3) > 0 {
			w.nodes[i].powerOff(r, between(r, 0, d))
		}
	}
	if r.IntN(2) == 0 {
		n.powerOff(r, d)
		return
	}
	n.server.crash("killed")
}
