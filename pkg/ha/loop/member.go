package loop

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// published is this node's member key as last written.
type published struct {
	document  []byte // without positions
	next      []byte // what is compared with it
	at        ha.Instant
	positions dcs.Member
	alive     ha.Instant // last keepalive
}

// touch publishes the member key and keeps its lease alive. Positions that move
// all the time are written once per period; everything else at once.
func (l *Loop) touch(ctx context.Context, o *ha.Observation) {
	if !o.DCS.Fresh || l.lapsing(o) {
		return
	}
	o.Op, o.Now, o.Wall = l.Ops.Poll(), l.Now(), l.Wall()
	if o.Op.Running && o.Op.Kind == ha.OpPromote {
		return // clients wait for its end, which must not wait for a write to etcd
	}
	mem := ha.MemberDocument(o)
	still := mem
	still.XLogLocation, still.ReceiveLSN, still.ReplayLSN = 0, 0, 0
	if still.Progress != nil { // how far it is counts as a position
		still.Progress = &dcs.Progress{Operation: mem.Progress.Operation, Method: mem.Progress.Method}
	}
	l.member.next = still.Append(l.member.next)
	document := l.member.next
	period := min(o.Settings.LoopWait, o.Settings.TTL/3)
	moved := mem.XLogLocation != l.member.positions.XLogLocation || mem.ReceiveLSN != l.member.positions.ReceiveLSN || mem.ReplayLSN != l.member.positions.ReplayLSN
	half := o.Now.Sub(l.member.at) >= period/2
	if p, before := mem.Progress, l.member.positions.Progress; p != nil && (before == nil || *p != *before) {
		moved, half = true, o.Now.Sub(l.member.at) >= ha.ProgressPeriod
	}
	if leased := l.DCS.MemberLeased(l.Me.Name); !leased || !bytes.Equal(document, l.member.document) || half && (moved || l.overwritten(o, &mem) || l.doubted(o)) {
		if l.stopping { // the last words of an agent must not hold up its end
			var cancel context.CancelFunc
			ctx, cancel = l.Timeout(ctx, time.Second)
			defer cancel()
		}
		err := l.request(ctx, o, func(ctx context.Context) error {
			return l.DCS.PutMember(ctx, l.Me.Name, mem.Encode())
		})
		if err == nil {
			l.member = published{document: document, next: l.member.document, at: o.Now, positions: mem, alive: l.member.alive}
		} else if !errors.Is(err, dcs.ErrLeaseLost) {
			l.Log.Warn("publish member: " + err.Error())
		}
	}
	l.keepAlive(ctx, o)
}

// overwritten: the key does not say what was written last. A request that was
// given up can still arrive, after a newer one.
func (l *Loop) overwritten(o *ha.Observation, written *dcs.Member) bool {
	if o.DCS.Cluster == nil {
		return false
	}
	shown := o.DCS.Cluster.Member(l.Me.Name)
	return shown != nil && (shown.State != written.State || shown.Role != written.Role || shown.Timeline != written.Timeline)
}

// doubted: a word of the leader from before it took the key counts for little, and a
// member in quarantine waits for one that is newer than its doubt (safety S11). An idle
// server's position does not move.
func (l *Loop) doubted(o *ha.Observation) bool {
	mine := o.DCS.Cluster.Member(l.Me.Name)
	if l.memory.Lease.Epoch == 0 || mine == nil {
		return false
	}
	if mine.ModRevision < l.memory.Lease.Epoch {
		return true
	}
	for i := range o.DCS.Cluster.Members {
		if m := &o.DCS.Cluster.Members[i]; m.Quarantine != "" && m.ModRevision > mine.ModRevision {
			return true
		}
	}
	return false
}

// lapsing: the leadership could not be renewed, and the server that may still
// accept writes is to be stopped before the leash kills it, or will be soon. The
// member key can wait.
func (l *Loop) lapsing(o *ha.Observation) bool {
	soon := l.Now().Add(500 * time.Millisecond)
	return !l.memory.Lease.Held(soon) && o.Leash.Binds() && !o.ReadOnly()
}

// keepAlive refreshes the lease of a member that is not the leader; the
// leader's rounds do it for both keys.
func (l *Loop) keepAlive(ctx context.Context, o *ha.Observation) {
	period := min(o.Settings.LoopWait, o.Settings.TTL/3)
	now := l.Now()
	if l.memory.Lease.Epoch != 0 {
		l.member.alive = now
		return
	}
	if l.member.alive != 0 && now.Sub(l.member.alive) < period/2 {
		return
	}
	if err := l.request(ctx, o, l.DCS.KeepAlive); err != nil {
		l.Log.Warn("refresh lease: " + err.Error())
		return
	}
	l.member.alive = now
}
