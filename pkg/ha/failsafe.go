package ha

import (
	"maps"
	"slices"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// AskFailsafe is a round among the members of /failsafe while etcd is silent
// (safety B.3, ha-behaviour 8.1): each of them is asked to let this leader be
// for another lease time. It runs beside the renewal, which it does not hold up.
type AskFailsafe struct {
	Epoch   int64
	Members []dcs.Member // name and API URL of everybody else in /failsafe
	Slots   map[string]wal.LSN
	// After is how long the renewal has the stage to itself: when it succeeds by
	// then, nobody is asked.
	After time.Duration
	// Until is when every answer must be in.
	Until Instant
	// Timing in force; its TTL is what is asked for.
	Timing Timing
}

// FailsafeRound is the round under way, or the last one that ended.
type FailsafeRound struct {
	Running bool
	Epoch   int64
	Sent    Instant // read before the first question left
	Timing  Timing
	// Complete: every member accepted; none missing.
	Complete bool
	// Missing says who did not, and why.
	Missing string
}

// Promise is what this node last told a leader that asked for it: not to race
// before Until.
type Promise struct {
	Leader string
	Until  Instant // 0: none
}

// Binds tells whether the promise holds; freed is the leader who is owed nothing any
// more, "" nobody.
func (p Promise) Binds(now Instant, freed string) bool {
	return now < p.Until && (freed == "" || freed != p.Leader)
}

// FailsafeWrite is the value of /failsafe that was last sent and is not known
// to be in the snapshot yet.
type FailsafeWrite struct {
	Revision int64             // the guard: mod revision of the key it was to replace
	Members  map[string]string // as sent last
	Any      map[string]string // everybody in any value sent under that guard
	Done     bool              // etcd has it
}

// Agree returns the lease after every member of /failsafe promised, in answer to
// a round sent at sent, to outwait it: the same arithmetic as for a renewal.
func (l Lease) Agree(sent Instant, t Timing) Lease {
	l.Promise = max(l.Promise, l.Announce(sent, t)) // the next beat must announce what still binds
	l.Deadline = max(l.Deadline, sent.Add(t.Budget))
	l.Timing, l.Agreed = t, sent
	return l
}

// noteFailsafe takes in a complete round and what the snapshot shows of writes.
func (o *Observation) noteFailsafe() {
	m, f := &o.Memory, &o.Failsafe
	if c, seen := o.DCS.Cluster, m.FailsafeSeen; c != nil && c.Failsafe != nil && (seen == nil || c.Failsafe.ModRevision > seen.ModRevision) {
		m.FailsafeSeen = c.Failsafe
	}
	if o.DCS.Fresh && m.FailsafeSent.Members != nil && o.DCS.Cluster.ModRevision(dcs.KeyFailsafe) != m.FailsafeSent.Revision {
		m.FailsafeSent = FailsafeWrite{} // whatever was under way has arrived, or never will
	}
	if f.Complete && !f.Running && m.Lease.Epoch != 0 && f.Epoch == m.Lease.Epoch && f.Sent > max(m.Lease.Agreed, m.Lease.Renewed) { // what etcd confirmed since is the newer word, and timing
		m.Lease = m.Lease.Agree(f.Sent, f.Timing)
	}
	if _, renew := o.Last.Action.(Renew); renew && m.Lease.Agreed > m.Lease.Renewed {
		m.Lease.Attempt = o.Now - 1 // the pause counts from here: rounds in vain must not take all of the time
	}
}

// failsafeAsk is the round to run beside the renewal that is due; nil: none.
func (o *Observation) failsafeAsk() *AskFailsafe {
	m, f := &o.Memory, &o.Failsafe
	left := m.Lease.StopAt().Sub(o.Now)
	if !o.Settings.Failsafe || o.Settings.Pause || m.Demoting || f.Running || left <= 0 {
		return nil
	}
	if f.Complete && f.Epoch == m.Lease.Epoch && o.Now.Sub(f.Sent) < m.Lease.Timing.Period/2 {
		return nil
	}
	others, in := o.failsafeOthers()
	if !in {
		return nil
	}
	t, _ := NewTiming(o.Settings.TTL, o.Settings.LoopWait, o.Settings.RetryTimeout) // its warning is the loop's to give
	ask := &AskFailsafe{Epoch: m.Lease.Epoch, Members: others, Slots: o.publishedSlots(), Until: m.Lease.StopAt().Add(-FailsafeReserve(left)), Timing: t}
	if m.Lease.Attempt <= m.Lease.Renewed { // the last round succeeded: most likely this one will, too
		ask.After = left / 4
	}
	return ask
}

// FailsafeReserve is the part of what is left of a lease that a round must leave
// for taking its result in, before the orderly stop would begin.
func FailsafeReserve(left time.Duration) time.Duration { return left / 8 }

// failsafeOthers is everybody who may be in /failsafe, but this node. It is the
// last value read, the newest one known, the last one of an etcd that was not in
// doubt, and all that this node sent since: one
// that arrives late lets its members race. in tells whether this node is in the
// last value read.
func (o *Observation) failsafeOthers() (others []dcs.Member, in bool) {
	c, sent := o.DCS.Cluster, &o.Memory.FailsafeSent
	if c == nil || c.Failsafe == nil {
		return nil, false
	}
	all := map[string]string{}
	maps.Copy(all, c.Failsafe.Members)
	for _, known := range []*dcs.Failsafe{o.Memory.FailsafeSeen, o.Memory.FailsafeTrusted} {
		if known != nil {
			maps.Copy(all, known.Members)
		}
	}
	if sent.Revision == c.Failsafe.ModRevision {
		maps.Copy(all, sent.Any)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name != o.Me.Name {
			others = append(others, dcs.Member{Name: name, APIURL: all[name]})
		}
	}
	_, in = c.Failsafe.Members[o.Me.Name]
	return others, in
}

// writeFailsafe keeps /failsafe: every member with an API URL, and this node.
func (o *Observation) writeFailsafe() (Decision, bool) {
	m, c := &o.Memory, o.DCS.Cluster
	if !o.Settings.Failsafe || o.Me.APIURL == "" {
		return Decision{}, false
	}
	want := map[string]string{o.Me.Name: o.Me.APIURL}
	for i := range c.Members {
		if mem := &c.Members[i]; mem.APIURL != "" && mem.Name != o.Me.Name {
			want[mem.Name] = mem.APIURL
		}
	}
	if c.Failsafe != nil && maps.Equal(c.Failsafe.Members, want) {
		return Decision{}, false
	}
	if o.Failsafe.Running || m.Lease.Agreed > m.Lease.Renewed {
		return Decision{}, false // who is named now was not asked, and would not wait: a beat comes first
	}
	sent, revision := &m.FailsafeSent, c.ModRevision(dcs.KeyFailsafe)
	if sent.Revision == revision && sent.Done && maps.Equal(sent.Members, want) {
		return Decision{}, false // on its way into the snapshot
	}
	next := FailsafeWrite{Revision: revision, Members: want, Any: maps.Clone(want)}
	if sent.Revision == revision {
		maps.Copy(next.Any, sent.Any)
	}
	m.FailsafeSent = next
	return o.then(WriteFailsafe{Members: want, Revision: revision}, LeaderWritesFailsafe), true
}

// promised tells whether this node has told another leader to let it be, and
// that still binds.
func (o *Observation) promised() bool {
	return o.Memory.Lease.Epoch == 0 && o.Promise.Binds(o.Now, Freed(o))
}

// Freed is the leader who is owed nothing any more, since the last leadership, which
// was its own, ended in good order; "": nobody. The claim's guard on /status sees to it
// that it is the last one. After etcd went back that may be another leader's than who
// lives by a promise.
func Freed(o *Observation) string {
	if !Released(o.DCS.Cluster) {
		return ""
	}
	return o.Memory.LastLeader
}

// Released tells whether the last leadership known of is marked as over.
func Released(c *dcs.Cluster) bool {
	return c != nil && c.Status != nil && c.Status.Beat != nil && c.Status.Beat.Released
}

func (o *Observation) keepPromise() Decision {
	return o.wait(o.Promise.Until.Sub(o.Now), FailsafeFollows, o.Promise.Leader)
}

// bound replaces a decision that would break a promise given.
func (o *Observation) bound(d Decision, before Memory) Decision {
	if claims(d.Action) {
		if o.Memory = before; o.promised() {
			return o.keepPromise()
		}
	}
	return d
}

// claims tells whether a is an attempt to become the leader.
func claims(a Action) bool {
	if _, claim := a.(Claim); claim {
		return true
	}
	_, back := a.(TakeBack)
	return back
}

// MayPromise tells whether a leader that asks may be told yes: this node neither
// leads nor is about to, and its server accepts no writes.
func MayPromise(o *Observation, d *Decision) bool {
	return !claims(d.Action) && d.Memory.Lease.Epoch == 0 && o.Leash.Armed == 0 && !o.mayWrite()
}

// unlisted: 2.1.9. A node that is not in /failsafe was not asked by a leader
// that lives by it.
func (o *Observation) unlisted(name string) bool {
	f := o.DCS.Cluster.Failsafe
	if !o.Settings.Failsafe || f == nil || len(f.Members) == 0 {
		return false
	}
	_, listed := f.Members[name]
	return !listed
}

// inFailsafe tells whether the failsafe mode is on and name in its list.
func (o *Observation) inFailsafe(name string) bool {
	f := o.DCS.Cluster.Failsafe
	if !o.Settings.Failsafe || f == nil {
		return false
	}
	_, listed := f.Members[name]
	return listed
}

// failsafeUntil is until when the failsafe mode counts as active here, 0: it is not.
func (o *Observation) failsafeUntil(l Lease) Instant {
	switch {
	case l.Epoch != 0 && l.Agreed > l.Renewed:
		return l.Agreed.Add(l.Timing.TTL)
	case l.Epoch == 0:
		return o.Promise.Until
	}
	return 0
}
