// Package loop drives a node: it gathers the facts, asks ha.Decide, performs
// the one action it returns, and looks again. It decides nothing itself.
//
// Step is synchronous and starts no goroutine, so that the simulator runs the
// very code that runs in production; Run adds the timer and the wake-ups.
package loop

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// Node is the local server as the loop needs it.
type Node interface {
	// Facts returns what is known of the server. It never takes longer than
	// ctx allows, whatever the server or the disk does: what could not be
	// found out in time is reported as unknown.
	Facts(ctx context.Context) ha.Postgres
	// Follow points the running standby at another upstream.
	Follow(ctx context.Context, up ha.Upstream) error
	// Freeze makes the running standby stream from nobody, and returns once its
	// WAL receiver is gone and its position complete (ha.Freeze).
	Freeze(ctx context.Context) error
	// ResumeReplay lets a standby replay WAL again that has paused.
	ResumeReplay(ctx context.Context) error
	// SyncSlots begins the work on replication slots and does not wait for it.
	SyncSlots(plan ha.SyncSlots)
	// SetSyncNames puts synchronous_standby_names into force and returns once
	// the server uses it; nil gives the parameter back to the configuration.
	SetSyncNames(ctx context.Context, names *string) error
	// MoveAside renames the data directory this run made to <dir>.failed.
	MoveAside(ctx context.Context) error
	// FinishBootstrap marks the data directory this run made as whole.
	FinishBootstrap(ctx context.Context) error
}

// Operator runs long actions, one at a time.
type Operator interface {
	// Begin starts a; the caller made sure that nothing runs.
	Begin(a ha.Action)
	// Poll returns the running operation or the last one.
	Poll() ha.Operation
	// Cancel asks the running operation to end; it may take a while.
	Cancel()
}

// Leash is the process that owns postgres and the deadline.
type Leash interface {
	Status() ha.Leash
	// Arm hands over epoch and deadline and returns once the leash confirmed. The
	// epoch is of the etcd cluster with this id.
	Arm(ctx context.Context, epoch int64, deadline ha.Instant, etcd uint64) error
	// Extend moves the deadline of the armed epoch; it cannot block or fail.
	Extend(epoch int64, deadline ha.Instant)
	Disarm(ctx context.Context, epoch int64) error
	Suspend(ctx context.Context) error
}

// Peers asks other members for their state. It returns when every member in
// await answered or failed to, or when ctx ends; members in glance are asked
// too, but not waited for.
type Peers interface {
	Ask(ctx context.Context, await, glance []dcs.Member) map[string]ha.Peer
	// AskPatiently asks each until it has told its position, or ctx ends.
	AskPatiently(ctx context.Context, members []dcs.Member) map[string]ha.Peer
	// AskFrozen is Ask that has them freeze for the leadership epoch first.
	AskFrozen(ctx context.Context, epoch int64, await, glance []dcs.Member) map[string]ha.Peer
}

// Options are what a Loop works with. All fields are required, but for those
// that say otherwise.
type Options struct {
	Me    ha.Identity
	DCS   dcs.Store
	Node  Node
	Ops   Operator
	Leash Leash
	Peers Peers
	// Failsafe and Promises are the two sides of the failsafe mode; optional.
	Failsafe Failsafe
	Promises *Promises
	// Settings returns the values in force; Configure is told of each new
	// /config document before the next decision.
	Settings  func() ha.Settings
	Configure func(ctx context.Context, document []byte)
	// Reinit returns the newest request to make this member anew; optional.
	Reinit func() ha.Reinit
	// Restart returns the newest requests to restart the server; optional.
	Restart func() ha.Restarts
	// Freeze returns the serial of the newest request to freeze; optional.
	Freeze func() int64
	// Accepted returns the newest word of an operator on what etcd holds; optional.
	Accepted func() ha.Acceptance
	// Seen is the newest of etcd that an earlier run saw.
	Seen ha.Seen
	Now  func() ha.Instant
	Wall func() time.Time
	// Timeout bounds a request; context.WithTimeout when nil. The simulator has
	// deadlines in virtual time.
	Timeout func(context.Context, time.Duration) (context.Context, context.CancelFunc)
	// Publish receives the view after each decision.
	Publish func(*ha.View)
	Log     *slog.Logger
	// Callback begins to run one of the operator's scripts and does not wait for it; optional.
	Callback func(ha.Callback)
	// Myself is Me with the addresses in force, which a reload may change; optional.
	Myself func() ha.Identity
	// Heartbeat is how often a decision that stays the same is logged again; 0
	// or nil: never.
	Heartbeat func() time.Duration
	// Trace, when set, sees every observation with its decision; both are used
	// again afterwards, so what is kept must be copied.
	Trace func(o *ha.Observation, d *ha.Decision)
}

// Loop is one node's cycle. It is not safe for concurrent use: the goroutine
// that calls Step owns it.
type Loop struct {
	Options
	memory   ha.Memory
	seen     ha.Observation // of the present turn
	decided  ha.Decision
	last     ha.Outcome
	peers    ha.Peers
	cluster  *dcs.Cluster
	seenAt   ha.Instant
	seenWall time.Time
	config   *dcs.Config // that is in force
	reread   bool        // the watched view is suspect: read past it
	// What the last such read showed.
	readID       uint64
	readRevision int64
	stopping     bool
	member       published
	reason       ha.Reason
	detail       string
	saidAt       ha.Instant // when the loop last logged a decision
}

// New returns a loop that has seen nothing yet.
func New(o Options) *Loop {
	if o.Timeout == nil {
		o.Timeout = context.WithTimeout
	}
	return &Loop{Options: o, memory: ha.Memory{Seen: o.Seen}}
}

// maxTurns bounds the decisions of one step; more means that two of them
// contradict each other.
const maxTurns = 40

// Stop makes the next decisions end the agent in good order. It must be called
// from the goroutine that owns the loop.
func (l *Loop) Stop() { l.stopping = true }

// Memory returns what the loop carries between decisions.
func (l *Loop) Memory() ha.Memory { return l.memory }

// Step observes, decides and acts until nothing more is to be done at once. It
// returns how long to wait for an event, or why the agent is to end.
func (l *Loop) Step(ctx context.Context) (time.Duration, *ha.Exit) {
	for turn := 0; ; turn++ {
		d, o := l.Turn(ctx)
		if e, ok := d.Action.(ha.Exit); ok {
			l.touch(ctx, o)
			return 0, &e
		}
		if !d.Again || turn == maxTurns || ctx.Err() != nil {
			l.touch(ctx, o)
			if turn == maxTurns {
				l.Log.Error("decisions do not settle; pausing", "reason", d.Text(l.Me.Name))
				return time.Second, nil
			}
			return d.Wait, nil
		}
	}
}

// Turn is one observation, one decision, one action. What it returns is good
// until the next turn.
func (l *Loop) Turn(ctx context.Context) (*ha.Decision, *ha.Observation) {
	l.seen = l.observe(ctx)
	l.decided = ha.Decide(l.seen)
	o, d := &l.seen, &l.decided
	l.sayQuarantine(o, d)
	l.memory = d.Memory
	l.Promises.set(ha.MayPromise(o, d))
	l.agree(o, d)
	l.say(d)
	l.publish(o, d)
	if l.Trace != nil {
		l.Trace(o, d)
	}
	o.Memory = d.Memory
	if l.Callback != nil {
		for _, c := range d.Callbacks {
			l.Callback(c)
		}
	}
	l.last = l.act(ctx, o, d.Action)
	if failed(l.last) {
		d.Again = false
		d.Wait = min(d.Wait, time.Second)
	}
	l.reread = l.reread || l.last.Result == ha.ResultConflict || l.last.Result == ha.ResultUnknown
	return d, o
}

// agree tells the leash of a deadline that a round of the failsafe mode moved.
func (l *Loop) agree(o *ha.Observation, d *ha.Decision) {
	lease := d.Memory.Lease
	if f := o.Failsafe; f.Complete && lease.Epoch != 0 && lease.Agreed == f.Sent && o.Leash.Armed == d.Memory.Hold(lease.Epoch) && !o.Leash.Suspended && lease.Deadline > o.Leash.Deadline {
		l.Leash.Extend(o.Leash.Armed, lease.Deadline)
	}
}

// failed tells whether an action's failure ends the step. A round that failed
// does not: there is more to decide, and the next round is spaced by the lease.
func failed(last ha.Outcome) bool {
	if _, renew := last.Action.(ha.Renew); renew {
		return false
	}
	return last.Result != ha.ResultOK && last.Result != ha.ResultNone
}

// factsTimeout bounds the look at the server; less when a round is due or the
// time for an orderly stop has come, which nothing may delay. It ends before the next
// round is due: where a server is slow, there would be nothing but rounds.
func (l *Loop) factsTimeout(now ha.Instant) time.Duration {
	const least, round = 200 * time.Millisecond, 100 * time.Millisecond
	switch lease := l.memory.Lease; {
	case lease.Epoch == 0:
		return beforeStop(now, lease, &l.seen.Leash, time.Second, least)
	case lease.Due(now), !lease.Held(now.Add(time.Second)):
		return least
	default:
		return min(time.Second, max(lease.DueIn(now)-round, least))
	}
}

// snapshotTimeout bounds the look at etcd's keys. They come from memory; a view
// that is not whole is an event's business, not worth waiting for.
const snapshotTimeout = 300 * time.Millisecond

// lateTimeout bounds a request to etcd when the time for an orderly stop has come or
// is about to.
const lateTimeout = 100 * time.Millisecond

// shortestStop is the time for an orderly stop with the shortest ttl.
const shortestStop = time.Second

func (l *Loop) observe(ctx context.Context) ha.Observation {
	o := ha.Observation{Me: l.Me, Stopping: l.stopping, Memory: l.memory, Last: l.last, Peers: l.peers}
	if l.Myself != nil {
		o.Me = l.Myself()
	}
	if l.Options.Reinit != nil {
		o.Reinit = l.Options.Reinit()
	}
	if l.Options.Restart != nil {
		o.Restart = l.Options.Restart()
	}
	if l.Options.Freeze != nil {
		o.Freeze = l.Options.Freeze()
	}
	if l.Options.Accepted != nil {
		o.Accepted = l.Options.Accepted()
	}
	o.DCS = l.look(ctx)
	o.Settings = l.Settings()
	o.Op = l.Ops.Poll() // before the facts: an operation seen as ended is in them
	facts, cancel := l.Timeout(ctx, l.factsTimeout(l.Now()))
	o.PG = l.Node.Facts(facts)
	cancel()
	if o.PG.Old && o.Op.Kind.MakesDirectory() { // its end is told together with what it left
		o.Op.Running = true
	}
	o.Leash = l.Leash.Status()
	o.Promise = l.Promises.newest()
	if l.Failsafe != nil {
		o.Failsafe = l.Failsafe.Poll()
	}
	o.Now, o.Wall = l.Now(), l.Wall()
	return o
}

// look returns the newest snapshot, and applies a changed /config first.
func (l *Loop) look(ctx context.Context) ha.DCS {
	ctx, cancel := l.Timeout(ctx, l.lookTimeout())
	defer cancel()
	at := l.Now()
	c, err := l.snapshot(ctx)
	if err != nil {
		return ha.DCS{Cluster: l.cluster, Granted: l.DCS.TTL(), Error: err.Error()}
	}
	l.reread = false
	l.cluster, l.seenAt, l.seenWall = c, at, l.Wall()
	if c.Config != nil && !sameConfig(l.config, c.Config) {
		l.config = c.Config
		l.Configure(ctx, c.Config.Raw)
	}
	l.DCS.SetTTL(l.Settings().TTL)
	return ha.DCS{Cluster: c, Fresh: true, Granted: l.DCS.TTL()}
}

// sameConfig tells whether b is a. An etcd that went back uses its revisions a second
// time.
func sameConfig(a, b *dcs.Config) bool {
	return a != nil && a.ModRevision == b.ModRevision && bytes.Equal(a.Raw, b.Raw)
}

// snapshot takes the watched view, unless it is suspect or has not caught up
// with what a read past it showed: time does not run backwards for Decide.
func (l *Loop) snapshot(ctx context.Context) (*dcs.Cluster, error) {
	if !l.reread {
		c, err := l.DCS.Snapshot(ctx)
		if err != nil || c.ID != l.readID || c.Revision >= l.readRevision {
			return c, err
		}
	}
	c, err := l.DCS.Read(ctx)
	if err == nil {
		l.readID, l.readRevision = c.ID, c.Revision
	}
	return c, err
}

func (l *Loop) lookTimeout() time.Duration {
	most := time.Second
	if !l.reread || l.memory.Lease.Epoch == 0 && l.seen.Leash.Binds() {
		most = snapshotTimeout
	}
	return beforeStop(l.Now(), l.memory.Lease, &l.seen.Leash, most, lateTimeout)
}

// beforeStop shortens a wait, but not below least, that would take up time in which the
// server may have to stop in good order: of its lease, or before its leash acts.
func beforeStop(now ha.Instant, lease ha.Lease, leash *ha.Leash, most, least time.Duration) time.Duration {
	switch {
	case lease.Epoch != 0:
		return min(most, max(lease.StopAt().Sub(now), least))
	case leash.Binds():
		return min(most, max(leash.Deadline.Sub(now)-shortestStop, least))
	}
	return most
}

func (l *Loop) publish(o *ha.Observation, d *ha.Decision) {
	v := ha.NewView(o, d)
	v.MarkSeen(l.seenAt, l.seenWall)
	l.Publish(v)
}

// say logs a decision when it is a new one, or a heartbeat is due.
func (l *Loop) say(d *ha.Decision) {
	if e, ok := d.Action.(ha.Exit); ok && e.Code != 0 {
		return // the error that ends the agent is reported once, as such
	}
	if d.Reason == ha.LeaseRenewal {
		return
	}
	level := slog.LevelDebug
	if d.Reason != l.reason || d.Detail != l.detail && d.Reason != ha.ElectionHoldOff && d.Reason != ha.OfflineWaiting {
		level = slog.LevelInfo
		if d.Memory.Quarantine.Why != "" {
			level = slog.LevelWarn
		}
	}
	if l.Heartbeat != nil && !d.Again {
		if every := l.Heartbeat(); every > 0 && l.Now().Sub(l.saidAt) >= every {
			level = slog.LevelInfo
		}
	}
	if level >= slog.LevelInfo {
		l.saidAt = l.Now()
	}
	l.reason, l.detail = d.Reason, d.Detail
	if ctx := context.Background(); l.Log.Enabled(ctx, level) {
		l.Log.Log(ctx, level, d.Text(l.Me.Name))
	}
}

// sayQuarantine tells of its end.
func (l *Loop) sayQuarantine(o *ha.Observation, d *ha.Decision) {
	if was := l.memory.Quarantine.Why; was == "" || d.Memory.Quarantine.Why != "" {
		return
	}
	why := "what was behind was an old answer"
	switch {
	case d.Memory.Seen.Count == l.memory.Seen.Count:
	case o.DCS.Cluster.LeaderName() == "": // the word took effect, a ttl after it was given
		why = "accepted by " + o.Accepted.By
	default:
		why = o.DCS.Cluster.LeaderName() + " runs as the primary and published itself again"
	}
	l.Log.Warn("the quarantine is over: "+why, "revision", d.Memory.Seen.Revision, "epoch", d.Memory.Seen.Epoch, "timeline", d.Memory.Seen.Timeline)
}
