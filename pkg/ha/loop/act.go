package loop

import (
	"context"
	"errors"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// act performs one action and says what became of it.
func (l *Loop) act(ctx context.Context, o *ha.Observation, a ha.Action) ha.Outcome {
	if a == nil {
		return ha.Outcome{}
	}
	out := ha.Outcome{Action: a, Result: ha.ResultOK}
	var err error
	switch a := a.(type) {
	case ha.Renew:
		return l.renew(ctx, o, a)
	case ha.TakeBack:
		return l.takeBack(ctx, o, a)
	case ha.Claim:
		return l.claim(ctx, o, a)
	case ha.Release:
		err = l.release(ctx, o, a)
	case ha.DropLeader:
		err = l.request(ctx, o, func(ctx context.Context) error { return l.DCS.Release(ctx, dcs.Release{Epoch: a.Epoch}) })
	case ha.PublishReleased:
		err = l.publishReleased(ctx, o)
	case ha.ArmLeash:
		err = l.short(ctx, func(ctx context.Context) error {
			return l.Leash.Arm(ctx, o.Memory.Hold(o.Memory.Lease.Epoch), o.Memory.Lease.Deadline, o.DCS.Cluster.ID)
		})
	case ha.DisarmLeash:
		err = l.short(ctx, func(ctx context.Context) error { return l.Leash.Disarm(ctx, a.Epoch) })
	case ha.SuspendLeash:
		err = l.short(ctx, l.Leash.Suspend)
	case ha.AskPeers:
		l.ask(ctx, a)
	case ha.Follow:
		err = l.short(ctx, func(ctx context.Context) error { return l.Node.Follow(ctx, a.Upstream) })
	case ha.Freeze:
		err = l.short(ctx, l.Node.Freeze)
	case ha.Thaw:
		err = l.request(ctx, o, func(ctx context.Context) error {
			mem := ha.MemberDocument(o)
			return l.DCS.PutMemberUnder(ctx, l.Me.Name, mem.Encode(), a.Epoch)
		})
	case ha.ResumeReplay:
		err = l.short(ctx, l.Node.ResumeReplay)
	case ha.SyncSlots:
		l.Node.SyncSlots(a)
	case ha.MoveAside:
		err = l.short(ctx, l.Node.MoveAside)
	case ha.FinishBootstrap:
		err = l.short(ctx, l.Node.FinishBootstrap)
	case ha.WriteInitialize:
		err = l.put(ctx, o, dcs.Write{Key: dcs.KeyInitialize, Value: []byte(a.SystemID), Revision: &a.Revision})
	case ha.DropInitialize:
		err = l.request(ctx, o, func(ctx context.Context) error { return l.DCS.DeleteInitialize(ctx, a.Revision) })
	case ha.WriteConfig:
		err = l.put(ctx, o, dcs.Write{Key: dcs.KeyConfig, Value: o.Settings.Document, Revision: &a.Revision})
	case ha.WriteHistory:
		err = l.put(ctx, o, dcs.Write{Key: dcs.KeyHistory, Value: (&dcs.History{Lines: a.Lines}).Encode(), Epoch: o.Memory.Lease.Epoch})
	case ha.WriteFailsafe:
		err = l.put(ctx, o, dcs.Write{Key: dcs.KeyFailsafe, Value: (&dcs.Failsafe{Members: a.Members}).Encode(), Epoch: o.Memory.Lease.Epoch, Revision: &a.Revision})
	case ha.WriteSync:
		err = l.put(ctx, o, dcs.Write{Key: dcs.KeySync, Value: a.Sync.Encode(), Epoch: o.Memory.Lease.Epoch, Revision: &a.Sync.ModRevision})
	case ha.SetSyncNames:
		err = l.short(ctx, func(ctx context.Context) error { return l.Node.SetSyncNames(ctx, a.Names) })
	case ha.CleanFailover:
		err = l.put(ctx, o, dcs.Write{Key: dcs.KeyFailover, Value: []byte("{}"), Epoch: o.Memory.Lease.Epoch, Revision: &a.Revision})
	case ha.WriteRestore:
		err = l.put(ctx, o, dcs.Write{Key: dcs.KeyRestore, Value: a.Order.Encode(), Revision: &a.Order.ModRevision})
	case ha.CancelOperation:
		l.Ops.Cancel()
	case ha.Exit: // Step returns it, and whoever runs the loop says why
	case ha.Bootstrap, ha.PostBootstrap, ha.Clone, ha.Restore, ha.Rewind, ha.CrashRecovery, ha.Start, ha.Stop, ha.Restart, ha.Promote, ha.CheckDivergence, ha.CheckRemote, ha.CopySlots:
		l.Ops.Begin(a)
	}
	return l.outcome(out, err)
}

// outcome classes err; a failure is logged here and nowhere else.
func (l *Loop) outcome(out ha.Outcome, err error) ha.Outcome {
	switch {
	case err == nil:
		out.Result = ha.ResultOK
		return out
	case errors.Is(err, dcs.ErrConflict):
		out.Result = ha.ResultConflict
	case errors.Is(err, dcs.ErrUnknown):
		out.Result = ha.ResultUnknown
	case errors.Is(err, dcs.ErrLeaseLost):
		out.Result = ha.ResultLeaseLost
	default:
		out.Result = ha.ResultFailed
	}
	out.Error = err.Error()
	l.Log.Warn(out.Error)
	return out
}

// timing is what the next round promises: the lease that etcd granted, where
// that is more than was asked for.
func (l *Loop) timing(o *ha.Observation) ha.Timing {
	t, err := ha.NewTiming(max(o.Settings.TTL, o.DCS.Granted), o.Settings.LoopWait, o.Settings.RetryTimeout)
	if err != nil && o.Memory.Lease.Epoch == 0 {
		l.Log.Warn(err.Error())
	}
	return t
}

// renew is a round for the held lease, with the members asked beside it where
// the failsafe mode says so. Their answers are in the next observation, for
// which such a round leaves the time.
func (l *Loop) renew(ctx context.Context, o *ha.Observation, a ha.Renew) ha.Outcome {
	if a.Beside != nil && l.Failsafe != nil {
		l.Failsafe.Begin(*a.Beside)
	}
	running := l.Failsafe != nil && l.Failsafe.Poll().Running
	if running && o.Memory.Lease.Deadline != 0 {
		left := o.Memory.Lease.StopAt().Sub(l.Now())
		var cancel context.CancelFunc
		ctx, cancel = l.Timeout(ctx, left-ha.FailsafeReserve(left))
		defer cancel()
	}
	out := l.round(ctx, o, a, o.Memory.Lease)
	switch lease := o.Memory.Lease; {
	case !running:
	case out.Result == ha.ResultOK || out.Result == ha.ResultConflict:
		l.Failsafe.Cancel()
	default: // the leash does not wait for the next observation, which may take its time
		if f := l.Failsafe.Poll(); f.Complete && f.Epoch == lease.Epoch && o.Leash.Armed == o.Memory.Hold(lease.Epoch) && !o.Leash.Suspended {
			l.Leash.Extend(o.Leash.Armed, lease.Agree(f.Sent, f.Timing).Deadline)
		}
	}
	return out
}

// round renews the lease: keepalive and guarded transaction. The clock is read
// before anything is sent, and nothing may take longer than the time that is
// left for it.
func (l *Loop) round(ctx context.Context, o *ha.Observation, a ha.Action, lease ha.Lease) ha.Outcome {
	t := l.timing(o)
	sent := l.Now()
	seen := *o
	seen.Memory.Lease = lease
	st := ha.NextStatus(&seen, sent, t)
	budget := t.RetryTimeout
	binds := lease.Deadline
	if binds == 0 && !o.Leash.Suspended { // of another epoch, whose end would end the server
		binds = o.Leash.Deadline
	}
	if binds != 0 && bound(o) {
		stop := t.Stop
		if lease.Timing.Stop != 0 { // a longer ttl is for the deadline that this round is to bring
			stop = lease.Timing.Stop
		}
		budget = min(budget, binds.Add(-stop).Sub(sent))
	}
	least := time.Millisecond
	if _, again := a.(ha.TakeBack); again {
		least = takeBackBudget
	}
	ctx, cancel := l.Timeout(ctx, max(budget, least))
	defer cancel()
	err := l.DCS.Renew(ctx, dcs.Renewal{Name: l.Me.Name, Epoch: lease.Epoch, Status: st.Encode()})
	out := l.outcome(ha.Outcome{Action: a, Sent: sent, Beat: st.Beat.Beat, Timing: t}, err)
	if err == nil && o.Leash.Armed == o.Memory.Hold(lease.Epoch) && !o.Leash.Suspended {
		l.Leash.Extend(o.Leash.Armed, lease.Extended(sent, t, st.Beat.Beat).Deadline)
	}
	return out
}

// bound tells whether a deadline ends the leadership. A pause does away with it, but
// not before the leash knows: it is not told while an operation runs.
func bound(o *ha.Observation) bool {
	return !o.Settings.Pause || o.Leash.Binds()
}

// takeBackBudget is what a round for a leadership of before gets at least, also
// when its time for an orderly stop has begun.
const takeBackBudget = 500 * time.Millisecond

// takeBack is a round for a leadership that an earlier run of this agent held.
func (l *Loop) takeBack(ctx context.Context, o *ha.Observation, a ha.TakeBack) ha.Outcome {
	if !l.Promises.close(l.Now(), ha.Freed(o)) {
		return l.outcome(ha.Outcome{Action: a}, errPromised)
	}
	return l.round(ctx, o, a, ha.Resumed(o, a.Epoch))
}

func (l *Loop) claim(ctx context.Context, o *ha.Observation, a ha.Claim) ha.Outcome {
	if o.Memory.Lease.Epoch == 0 && !l.Promises.close(l.Now(), ha.Freed(o)) {
		return l.outcome(ha.Outcome{Action: a}, errPromised)
	}
	t := l.timing(o)
	sent := l.Now()
	st := ha.ClaimStatus(o, sent, t)
	budget := t.RetryTimeout
	if lease := o.Memory.Lease; lease.Epoch != 0 && bound(o) { // rule (d): only before the stop instant
		budget = min(budget, lease.StopAt().Sub(sent))
	}
	ctx, cancel := l.Timeout(ctx, max(budget, time.Millisecond))
	defer cancel()
	c := dcs.Claim{
		Name: l.Me.Name, Status: st.Encode(),
		StatusRevision: o.DCS.Cluster.ModRevision(dcs.KeyStatus),
		SyncRevision:   o.DCS.Cluster.ModRevision(dcs.KeySync),
	}
	epoch, err := l.DCS.Claim(ctx, c)
	return l.outcome(ha.Outcome{Action: a, Sent: sent, Epoch: epoch, Timing: t}, err)
}

// errPromised: between the decision and the act, another leader was promised to
// be let be.
var errPromised = errors.New("claim: another leader lives by the failsafe mode")

func (l *Loop) release(ctx context.Context, o *ha.Observation, a ha.Release) error {
	r := dcs.Release{Epoch: a.Epoch}
	if a.Clean {
		st := ha.ReleasedStatus(o, a.Epoch, a.Optime)
		r.Status = st.Encode()
	}
	return l.request(ctx, o, func(ctx context.Context) error { return l.DCS.Release(ctx, r) })
}

func (l *Loop) publishReleased(ctx context.Context, o *ha.Observation) error {
	st := ha.ReleasedStatus(o, 0, 0)
	rev := o.DCS.Cluster.Status.ModRevision
	return l.put(ctx, o, dcs.Write{Key: dcs.KeyStatus, Value: st.Encode(), Revision: &rev, NoLeader: true})
}

func (l *Loop) put(ctx context.Context, o *ha.Observation, w dcs.Write) error {
	return l.request(ctx, o, func(ctx context.Context) error { return l.DCS.Put(ctx, w) })
}

// request bounds a write to etcd by the retry budget, and by what is left of a
// held lease, or of one that was lost until its leash ends the server.
func (l *Loop) request(ctx context.Context, o *ha.Observation, do func(context.Context) error) error {
	budget, lease, stops := o.Settings.RetryTimeout, o.Memory.Lease, !o.ReadOnly()
	if lease.Epoch != 0 {
		budget = min(budget, max(lease.NextLook(l.Now(), budget), 500*time.Millisecond))
		stops = o.PG.Process != ha.ProcessDown && bound(o)
	}
	if stops {
		budget = beforeStop(l.Now(), lease, &o.Leash, budget, lateTimeout)
	}
	ctx, cancel := l.Timeout(ctx, budget)
	defer cancel()
	return do(ctx)
}

// shortTimeout bounds actions on the local server and the leash.
const shortTimeout = 2 * time.Second

func (l *Loop) short(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := l.Timeout(ctx, shortTimeout)
	defer cancel()
	return do(ctx)
}

func (l *Loop) ask(ctx context.Context, a ha.AskPeers) {
	ctx, cancel := l.Timeout(ctx, a.Timeout)
	defer cancel()
	var answers map[string]ha.Peer
	switch {
	case a.Ballot != (ha.Ballot{}):
		answers = l.Peers.AskFrozen(ctx, a.Ballot.Epoch, a.Await, a.Glance)
	case a.Patient:
		answers = l.Peers.AskPatiently(ctx, a.Await)
	default:
		answers = l.Peers.Ask(ctx, a.Await, a.Glance)
	}
	if answers == nil {
		answers = map[string]ha.Peer{}
	}
	missing := func(members []dcs.Member, glanced bool) {
		for _, mem := range members {
			if _, ok := answers[mem.Name]; !ok {
				answers[mem.Name] = ha.Peer{Glanced: glanced}
			}
		}
	}
	missing(a.Await, false)
	missing(a.Glance, true)
	l.peers = ha.Peers{AskedAt: l.Now(), Ballot: a.Ballot, Answers: answers}
}
