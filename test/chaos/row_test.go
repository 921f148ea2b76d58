//go:build e2e

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

const (
	writerPeriod = 5 * time.Millisecond
	proberPeriod = 20 * time.Millisecond
	rolePeriod   = 50 * time.Millisecond

	// warmUp is how long the load runs before the fault.
	warmUp = 2 * time.Second

	bootLimit = 2 * time.Minute
	rowLimit  = 5 * time.Minute
	// settleLimit is what a healed cluster has until all its members stream;
	// patience bounds the wait for what takes longer, which is wrong.
	settleLimit = 20 * time.Second
	patience    = 90 * time.Second
)

// row is one fault.
type row struct {
	id, title string
	// expect is F (failover within the ttl and 3 s), N (nobody is elected), Q
	// (failover within 3 s, by release), D (demotion, nobody elected), or words.
	expect string
	run    func(*run)

	needs    func() string // why it cannot be run here; nil: it always can
	proc     bool          // with procedures that commit inside
	reg      bool          // with registers; not where rows may be lost
	app      bool          // with lists; not where rows may be lost, so seldom in mode async
	sync     bool          // about synchronous replication
	async    bool          // about WAL that nobody else has: with synchronous standbys nobody takes over from it
	fast     bool          // with ttl 5 too
	quick    bool          // in chaos-quick
	oursOnly bool          // about a part Patroni does not have
}

// skipped tells why the row is not run with this cluster; "" when it is.
func (r row) skipped(c *campaign) string {
	switch {
	case r.oursOnly && c.peer == patroni:
		return "about a part that Patroni does not have"
	case r.sync && c.mode == "async":
		return "about synchronous replication: see the tables of modes sync and quorum"
	case r.async && c.mode != "async":
		return "a leader whose standbys are cut off goes on without them, and nobody takes over from it"
	case r.needs != nil:
		return r.needs()
	}
	return ""
}

// lossless tells whether no acknowledged row may be lost.
func (r row) lossless(c *campaign) bool { return r.expect == "N" || r.reg || c.mode != "async" }

// run is a row under way.
type run struct {
	t *testing.T
	*lab.Lab
	c   *campaign
	res *Result
	ctx context.Context

	load   *lab.Load
	roles  *lab.Roles
	regs   *registerLoad
	lists  *listLoad
	leader *lab.Node     // when the row began
	began  time.Duration // of the fault
	heals  []func() error
	cancel context.CancelFunc
	// deadline is the last one the leash of the leader was told, as failsOver saw it;
	// 0 where there is none.
	deadline time.Duration

	// allowOverlap is for the rows whose overlap docs/safety.md admits.
	allowOverlap bool
}

// abort is what must panics with.
type abort struct{ err error }

// guard gives the error for which a row was given up.
func (x *run) guard(do func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case abort:
			err = fmt.Errorf("given up: %w", p.err)
		default:
			panic(p)
		}
	}()
	do()
	return nil
}

// must gives the row up when something of the rig, or something it waits for, fails.
func (x *run) must(err error) {
	if err != nil {
		panic(abort{err})
	}
}

// wrong notes something that is not as expected.
func (x *run) wrong(format string, args ...any) {
	x.res.Notes = append(x.res.Notes, fmt.Sprintf(format, args...))
}

// figure notes a number of the row.
func (x *run) figure(name string, value float64, unit string) {
	x.res.Figures = append(x.res.Figures, Figure{name, value, unit})
}

func (x *run) millis(name string, d time.Duration) { x.figure(name, float64(d.Milliseconds()), "ms") }

// live goes through a whole row.
func (x *run) live(r row) {
	x.begin(r, rowLimit)
	r.run(x)
	x.heal()
	x.check(r)
}

// begin puts the load on a healthy cluster.
func (x *run) begin(r row, limit time.Duration) {
	x.ctx, x.cancel = context.WithTimeout(x.t.Context(), limit)
	var err error
	x.Lab, err = x.c.cluster(x.ctx)
	x.must(err)
	x.must(x.settled(patience))
	x.leader = x.currentLeader()
	x.covered()
	x.must(x.PrepareLoad(x.ctx, x.leader))
	x.load = x.NewLoad()
	x.load.Writer(x.ctx, writerPeriod)
	x.load.Probers(x.ctx, proberPeriod)
	if r.proc {
		x.load.Procedures(x.ctx)
	}
	if r.reg {
		x.regs, err = newRegisterLoad(x.ctx, x.Lab, x.leader)
		x.must(err)
	}
	if r.app && r.lossless(x.c) {
		x.lists, err = newListLoad(x.ctx, x.Lab, x.leader)
		x.must(err)
	}
	x.roles = x.WatchRoles(x.ctx, rolePeriod)
	x.acked(lab.Boottime() + warmUp)
	x.began = lab.Boottime()
}

// fault marks the instant of the fault, for rows that prepare something first.
func (x *run) fault() { x.began = lab.Boottime() }

// whenHealed notes what undoes a fault, for heal and for a row that is given up.
func (x *run) whenHealed(undo func() error) { x.heals = append(x.heals, undo) }

// heal undoes the faults, the last one first.
func (x *run) heal() {
	for len(x.heals) > 0 {
		undo := x.heals[len(x.heals)-1]
		x.heals = x.heals[:len(x.heals)-1]
		x.must(undo())
	}
}

// close ends what a row that was given up has left running.
func (x *run) close() {
	if x.ctx != nil && x.ctx.Err() != nil { // healing takes its own time
		var cancel context.CancelFunc
		x.ctx, cancel = context.WithTimeout(x.t.Context(), patience)
		defer cancel()
	}
	if err := x.guard(x.heal); err != nil {
		x.wrong("heal: %v", err)
		x.c.broken = true
	}
	if x.load != nil {
		x.load.Stop()
		if x.res.GivenUp = x.res.Acked == 0; x.res.GivenUp { // what the clients saw is known all the same
			history := x.load.History()
			x.ofHistory(history, lab.Boottime())
			x.res.Acked = lab.Acked(history, 0, lab.Boottime())
		}
	}
	if x.regs != nil {
		x.regs.stop()
	}
	if x.lists != nil {
		x.lists.stop()
	}
	if x.roles != nil {
		x.roles.Stop()
	}
	if x.cancel != nil {
		x.cancel()
	}
}

// settled waits until all members stream.
func (x *run) settled(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(x.ctx, limit)
	defer cancel()
	_, err := x.WaitStreaming(ctx)
	return err
}

// check lets the cluster settle, ends the load and looks at what it saw.
func (x *run) check(r row) {
	healed := lab.Boottime()
	if err := x.settled(slack(settleLimit)); err != nil {
		x.wrong("not settled after %s: %v", slack(settleLimit), err)
		x.must(x.settled(patience))
	}
	if took := lab.Boottime() - healed; took > time.Second {
		x.millis("all streaming after", took)
	}
	x.acked(lab.Boottime())
	leader := x.currentLeader()
	ended := lab.Boottime()
	x.load.Stop()
	history := x.load.History()
	x.ofHistory(history, ended)
	if r.expect == "N" {
		x.res.Steady = true
		if leader != x.leader || x.res.Changes > 0 {
			x.wrong("a needless change of the leader: %s, then %s, on %d timelines", x.leader.Name, leader.Name, x.res.Changes+1)
		}
	}
	x.ofRows(r, history, leader)
	x.ofRoles(x.roles.Stop())
	if x.regs != nil {
		x.regs.stop()
		if ok, why := linearizable(x.regs.history(), registerLimit); !ok {
			x.wrong("%s", why)
		}
		x.figure("register operations", float64(len(x.regs.history())), "")
	}
	if x.lists != nil {
		x.lists.stop()
		lines, n, err := x.lists.judge(x.ctx, leader)
		x.must(err)
		for _, line := range lines {
			x.wrong("%s", line)
		}
		x.figure("list transactions", float64(n), "")
	}
	files, err := x.TimelineFiles()
	x.must(err)
	for _, line := range lab.ForkedTimelines(files) {
		x.wrong("%s", line)
	}
	for _, n := range x.Nodes {
		if log, _ := x.AgentLog(n, 0); strings.Contains(log, x.Password()) {
			x.wrong("the password of the superuser is in the log of %s", n.Name)
		}
	}
}

// ofHistory judges who acknowledged when.
func (x *run) ofHistory(history []lab.Op, ended time.Duration) {
	var clients []lab.Op
	timelines := map[uint32]bool{}
	for _, op := range history {
		if op.Client == lab.WriterName {
			clients = append(clients, op)
		}
		if op.Outcome == lab.OK {
			timelines[op.Timeline] = true
		}
	}
	gap, _ := lab.LongestGap(clients, x.began, ended)
	x.res.GapMS, x.res.Admitted = gap.Milliseconds(), x.allowOverlap
	x.res.Changes = max(0, len(timelines)-1)
	for _, v := range lab.DualPrimaries(history) {
		if !x.allowOverlap {
			x.wrong("two primaries: %s", v)
		}
		x.res.OverlapMS = max(x.res.OverlapMS, v.Overlap.Milliseconds())
	}
}

// ofRows judges what became of the rows.
func (x *run) ofRows(r row, history []lab.Op, leader *lab.Node) {
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	audit, err := x.Audit(ctx, history, leader)
	x.must(err)
	x.res.Acked, x.res.Lost, x.res.LostBytes = audit.Acked, audit.Lost(), audit.LostBytes
	if x.res.Acked == 0 {
		x.wrong("nothing was acknowledged: the row proves nothing")
	}
	failed, last := x.load.Failed()
	if strange := lab.Unexpected(failed, last, audit.Present); len(strange) > 0 {
		x.wrong("%d rows are there that nobody wrote, %d for example", len(strange), strange[0])
	}
	switch limit := x.Options().MaximumLag; {
	case r.lossless(x.c) && audit.Lost() > 0:
		x.wrong("%d acknowledged rows are lost, and none may be", audit.Lost())
	case audit.LostBytes > uint64(limit):
		x.wrong("%d bytes of acknowledged WAL are lost, more than maximum_lag_on_failover (%d)", audit.LostBytes, limit)
	}
}

func (x *run) ofRoles(answers []lab.RoleAnswer) {
	for _, o := range lab.DualRoles(answers) {
		if !x.allowOverlap {
			x.wrong("two primaries: %s", o)
		}
		x.res.RoleOverlapMS = max(x.res.RoleOverlapMS, o.For.Milliseconds())
	}
}

// currentLeader waits for one primary.
func (x *run) currentLeader() *lab.Node {
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	n, err := x.WaitLeader(ctx, nil)
	x.must(err)
	return n
}

// newLeader waits for a primary other than the one given.
func (x *run) newLeader(old *lab.Node) *lab.Node {
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	n, err := x.WaitLeader(ctx, lab.Except(old))
	x.must(err)
	return n
}

// acked waits for an acknowledged write that was invoked after an instant.
func (x *run) acked(after time.Duration) lab.Op {
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	op, err := x.load.WaitAck(ctx, after)
	x.must(err)
	return op
}

// lastAck gives the last acknowledged write of a node.
func (x *run) lastAck(n *lab.Node) time.Duration { return x.load.LastAck(n) }

// firstAckElsewhere gives the first acknowledged write of another node since the
// fault; 0 when there is none.
func (x *run) firstAckElsewhere(n *lab.Node) time.Duration {
	var first time.Duration
	for _, op := range x.load.Since(x.began) {
		if op.Outcome == lab.OK && op.Node != n.Name && op.Invoke > x.began && (first == 0 || op.Return < first) {
			first = op.Return
		}
	}
	return first
}

// writes gives what the clients that follow /primary wrote since the fault.
func (x *run) writes() []lab.Op {
	return slices.DeleteFunc(x.load.Since(x.began), func(op lab.Op) bool { return op.Client != lab.WriterName })
}

// failsOver waits for another node's first acknowledged write, which must come
// within limit of the fault.
func (x *run) failsOver(limit time.Duration) *lab.Node {
	next := x.newLeader(x.leader)
	x.eventually("a write on "+next.Name, func() bool { return x.firstAckElsewhere(x.leader) > 0 })
	took := x.firstAckElsewhere(x.leader) - x.began
	x.millis("first write on the new primary after", took)
	x.noteDeadline()
	if took > limit {
		x.wrong("the new primary took its first write after %s, more than %s", took.Round(time.Millisecond), limit)
	}
	return next
}

// noteDeadline reads the last deadline of the primary of before, when it has passed
// and before that node leads again.
func (x *run) noteDeadline() {
	if x.c.peer == ours {
		x.deadline, _ = x.Deadline(x.leader) // a record that is gone tells none
	}
}

// failover is the limit of F, release that of Q.
func (c *campaign) failover() time.Duration { return c.ttl + slack(3*time.Second) }

func release() time.Duration { return slack(3 * time.Second) }

// deadInTime checks when the old primary acknowledged for the last time: before its
// lease could be anybody else's.
func (x *run) deadInTime() {
	ack := x.lastAck(x.leader)
	last := ack - x.began
	x.millis("old primary's last write after", max(0, last))
	if x.deadline > 0 {
		late := ack - x.deadline
		x.millis(lateFigure, late)
		if late > x.c.kill {
			x.wrong("the old primary acknowledged %s after its deadline, more than %s", late.Round(time.Millisecond), x.c.kill)
		}
	}
	if last > x.c.last {
		x.wrong("the old primary acknowledged %s after the fault, more than %s", last.Round(time.Millisecond), x.c.last)
	}
}

// covered waits until the standbys on synchronous duty are there.
func (x *run) covered() {
	if x.c.mode == "async" {
		return
	}
	x.eventually("synchronous standbys", func() bool { return len(x.standbys()) > 0 })
}

// standbys lists the nodes on synchronous duty.
func (x *run) standbys() []*lab.Node {
	check := map[string]string{"sync": "/synchronous", "quorum": "/quorum"}[x.c.mode]
	var out []*lab.Node
	for _, n := range x.Nodes {
		if code, err := x.Get(x.ctx, n, check, nil); err == nil && code == http.StatusOK {
			out = append(out, n)
		}
	}
	return out
}

// successor is a node that a switchover may name: the next one, or one on synchronous
// duty.
func (x *run) successor(leader *lab.Node) *lab.Node {
	if x.c.mode == "async" {
		return x.Nodes[(slices.Index(x.Nodes, leader)+1)%len(x.Nodes)]
	}
	var duty []*lab.Node
	x.eventually("a synchronous standby", func() bool { duty = x.standbys(); return len(duty) > 0 })
	return duty[0]
}

// eventually waits for something to become true.
func (x *run) eventually(what string, done func() bool) {
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	if err := lab.Poll(ctx, done); err != nil {
		x.must(fmt.Errorf("wait for %s: %w", what, err))
	}
}

// lasts lets time pass under the fault, up to an instant after its begin.
func (x *run) lasts(d time.Duration) {
	timer := time.NewTimer(x.began + d - lab.Boottime())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.ctx.Done():
		x.must(errors.Join(errors.New("let the fault last"), x.ctx.Err()))
	}
}

// replicas lists the nodes that did not lead when the row began.
func (x *run) replicas() []*lab.Node {
	var out []*lab.Node
	for _, n := range x.Nodes {
		if n != x.leader {
			out = append(out, n)
		}
	}
	return out
}
