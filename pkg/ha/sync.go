package ha

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// SyncSettings are the values synchronous replication depends on.
type SyncSettings struct {
	Mode   config.SyncMode
	Strict bool
	// Count is synchronous_node_count.
	Count int
	// MaxLag is maximum_lag_on_syncnode in bytes; 0 or less: no limit.
	MaxLag int64
}

func (s SyncSettings) on() bool { return s.Mode != config.SyncOff && s.Mode != "" }

// SyncMemory is what a primary remembers of its synchronous standbys
// (ha-behaviour 3.3).
type SyncMemory struct {
	// Names are synchronous_standby_names as last seen in force, Since the
	// position of the WAL when they were first seen.
	Names SyncNames
	Since wal.LSN
	Seen  bool
	// Caught are those of Names that have all that was written before Since.
	Caught nameSet
	// Unheard are the standbys that have not confirmed what they were sent.
	Unheard []unheard
	// Met: a standby was connected; Alone is since when there is none any more.
	Met   bool
	Alone Instant
}

// unheard is a standby that says since an instant that it has written up to here,
// and was sent more. Duty: commits wait for it.
type unheard struct {
	name  string
	wrote wal.LSN
	since Instant
	duty  bool
}

// noteUnheard takes in who has confirmed what was sent to him.
func (o *Observation) noteUnheard() {
	before := o.Memory.Sync.Unheard
	o.Memory.Sync.Unheard = nil
	for i := range o.PG.Row.Replication {
		r := &o.PG.Row.Replication[i]
		if r.ApplicationName == nil || r.SentLSN <= r.WriteLSN {
			continue
		}
		now := unheard{name: *r.ApplicationName, wrote: r.WriteLSN, since: o.Now, duty: r.SyncState != nil && *r.SyncState == "sync"}
		for _, u := range before {
			if u.name == now.name && u.wrote == now.wrote {
				now.since = u.since
			}
		}
		o.Memory.Sync.Unheard = append(o.Memory.Sync.Unheard, now)
	}
}

// patience is how long a synchronous standby may confirm nothing of what it was
// sent before another one takes its place: clients wait for it, and a host that
// lost its power keeps its connection, and its member key for up to a ttl. With
// the look before it that is at most loop_wait and retry_timeout.
func (o *Observation) patience() time.Duration {
	return min(time.Second, o.Settings.RetryTimeout/2)
}

// silent tells whether a standby has used up that patience.
func (o *Observation) silent(application string) bool {
	return slices.ContainsFunc(o.Memory.Sync.Unheard, func(u unheard) bool {
		return u.name == application && o.Now.Sub(u.since) >= o.patience()
	})
}

// untilSilent shortens what a leader with nothing to do waits, so that it looks again
// at a standby that is not heard of when the patience ends, where another one could
// take its place.
func (o *Observation) untilSilent(d Decision) Decision {
	if o.Settings.Sync.Mode != config.SyncOn || len(o.PG.Row.Replication) <= o.Settings.Sync.Count {
		return d
	}
	for _, u := range o.Memory.Sync.Unheard {
		if left := u.since.Add(o.patience()).Sub(o.Now); u.duty && left > 0 {
			d.Wait = min(d.Wait, left)
		}
	}
	return d
}

// noteSync takes in how far the standbys are.
func (o *Observation) noteSync() {
	m := &o.Memory.Sync
	if !o.Settings.Sync.on() {
		o.Memory.NamesUnsure = nil
	}
	if !o.PG.Known {
		return
	}
	if !o.Settings.Sync.on() || o.PG.Row.InRecovery {
		*m = SyncMemory{}
		return
	}
	switch none := len(o.PG.Row.Replication) == 0; {
	case !none:
		m.Met, m.Alone = true, 0
	case m.Met && m.Alone == 0:
		m.Alone = o.Now
	}
	o.noteUnheard()
	quorum := o.Settings.Sync.Mode == config.SyncQuorum
	if now := ParseSyncNames(o.PG.Row.SyncNames); !m.Seen || !now.equal(m.Names) {
		caught := m.Caught.and(now.Names)
		if quorum && !m.Names.Names.within(now.Names) { // who is gone may have acknowledged alone what they have not got yet
			caught = nil
		}
		*m = SyncMemory{Names: now, Since: o.PG.Row.Position, Seen: true, Caught: caught, Unheard: m.Unheard, Met: m.Met, Alone: m.Alone}
	}
	for _, s := range o.syncStandbys() {
		if !m.Names.Names.has(s.name) || m.Caught.has(s.name) {
			continue
		}
		switch caught := s.lsn >= m.Since; {
		case quorum && caught && s.state == "quorum",
			!quorum && (o.DCS.Cluster.Sync.Has(s.name) || caught && s.state == "sync"):
			m.Caught = m.Caught.plus(nameSet{s.name})
		}
	}
}

// syncStandby is a standby that may do synchronous duty.
type syncStandby struct {
	name       string
	state      string // sync_state
	lsn        wal.LSN
	priority   int
	noFailover bool
	silent     bool
}

// syncStandbys lists those that may, best first (ha-behaviour 3.2).
func (o *Observation) syncStandbys() []syncStandby {
	if o.DCS.Cluster == nil {
		return nil
	}
	var out []syncStandby
	for i := range o.PG.Row.Replication {
		r := &o.PG.Row.Replication[i]
		lsn := r.FlushLSN
		switch o.PG.Row.SyncCommit {
		case "remote_write":
			lsn = r.WriteLSN
		case "remote_apply":
			lsn = r.ReplayLSN
		}
		if lsn == 0 || r.ApplicationName == nil || r.State == nil || *r.State != "streaming" {
			continue
		}
		mem := o.memberFold(*r.ApplicationName)
		if !o.mayBeSync(mem) || o.cascades(mem) {
			continue
		}
		s := syncStandby{name: mem.Name, lsn: lsn, priority: mem.SyncPriority(), noFailover: mem.NoFailover(), silent: o.silent(*r.ApplicationName)}
		if r.SyncState != nil {
			s.state = *r.SyncState
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b syncStandby) int {
		switch {
		case a.noFailover != b.noFailover:
			return order(b.noFailover, a.noFailover)
		case a.silent != b.silent:
			return order(b.silent, a.silent)
		case a.priority != b.priority:
			return b.priority - a.priority
		case a.state != b.state:
			return strings.Compare(b.state, a.state) // "sync" before the others: who does it goes on
		}
		return order(a.lsn > b.lsn, a.lsn < b.lsn)
	})
	return out
}

// order sorts what is true of first to the front.
func order(first, second bool) int {
	switch {
	case first == second:
		return 0
	case first:
		return -1
	}
	return 1
}

func (o *Observation) memberFold(name string) *dcs.Member {
	for i := range o.DCS.Cluster.Members {
		if strings.EqualFold(o.DCS.Cluster.Members[i].Name, name) {
			return &o.DCS.Cluster.Members[i]
		}
	}
	return nil
}

func (o *Observation) mayBeSync(mem *dcs.Member) bool {
	return mem != nil && mem.State == "running" && !mem.NoSync() && mem.Name != o.Me.Name
}

// cascades tells whether mem is to stream from a standby that streams from here.
func (o *Observation) cascades(mem *dcs.Member) bool {
	top := mem
	for range o.DCS.Cluster.Members { // a ring has no top
		up := top.Tags.String("replicatefrom")
		if up == "" {
			return top != mem && o.streamsHere(top.Name)
		}
		next := o.memberFold(up)
		if !o.mayBeSync(next) {
			return false
		}
		top = next
	}
	return false
}

func (o *Observation) streamsHere(name string) bool {
	return slices.ContainsFunc(o.PG.Row.Replication, func(r Replication) bool {
		return r.ApplicationName != nil && strings.EqualFold(*r.ApplicationName, name)
	})
}

// syncPicked are the standbys that are to do synchronous duty now, and those of
// them that have all that was written before they were asked to.
func (o *Observation) syncPicked() (active, caught nameSet) {
	set, all := &o.Settings.Sync, o.syncStandbys()
	quorum := set.Mode == config.SyncQuorum
	for _, s := range all {
		if set.MaxLag > 0 && farthest(all, o.PG.Row.Position).Sub(s.lsn) > uint64(set.MaxLag) {
			continue
		}
		switch {
		case quorum && s.noFailover && len(active) >= set.Count:
			continue // its position says nothing about those who may lead
		case !quorum && len(active) >= set.Count:
			return active, caught
		}
		active = active.plus(nameSet{s.name})
		if o.Memory.Sync.Caught.has(s.name) && (quorum || s.state == "sync") {
			caught = caught.plus(nameSet{s.name})
		}
	}
	return active, caught
}

// farthest is what lag is measured from: the best standby, or this primary if
// there is only one.
func farthest(all []syncStandby, own wal.LSN) wal.LSN {
	if len(all) == 1 {
		return own
	}
	var best wal.LSN
	for _, s := range all {
		best = max(best, s.lsn)
	}
	return best
}

// keepSync is 1.13's synchronous pass of a primary: one write a turn, each of
// which leaves a state in which nothing acknowledged can be lost (S5). ok is
// false when there is nothing to write.
func keepSync(o *Observation) (d Decision, ok bool) {
	have := ParseSyncNames(o.PG.Row.SyncNames)
	s := o.DCS.Cluster.Sync
	switch {
	case !o.Settings.Sync.on():
		if d, ok := o.endSync(); ok {
			return d, ok
		}
		if o.PG.SyncOwned {
			return o.then(SetSyncNames{}, SyncGivesBack), true
		}
		return d, false
	case o.DCS.Cluster.Invalid[dcs.KeySync] != "" || s == nil || s.Leader == "":
		return o.writeSync(dcs.Sync{Leader: o.Me.Name})
	case o.Memory.SyncUnsure: // the next step must not be taken on what that may change
		return o.writeSync(*s)
	case o.Memory.NamesUnsure != nil: // nor on names that may be others in a moment
		return o.setSyncNames(ParseSyncNames(*o.Memory.NamesUnsure))
	case o.justAlone():
		return d, false
	case o.Settings.Sync.Mode == config.SyncQuorum:
		return o.keepQuorum(s, have)
	}
	return o.keepPriority(s, have)
}

// endSync: without synchronous mode nobody is waited for, and /sync says so before
// the server goes by it: the mode may be on again in a moment.
func (o *Observation) endSync() (d Decision, ok bool) {
	if s := o.DCS.Cluster.Sync; !o.Settings.Sync.on() && s != nil && s.Leader != "" {
		return o.writeSync(dcs.Sync{})
	}
	return d, false
}

// aloneFor is how long a primary that has lost all its standbys at once waits before it
// relieves them of their duty.
const aloneFor = 300 * time.Millisecond

// justAlone: a postmaster that is killed takes its walsenders along, and a backend may
// answer yet. Whoever was synchronous then is to take over.
func (o *Observation) justAlone() bool {
	at := o.Memory.Sync.Alone
	return at != 0 && o.Now.Sub(at) < aloneFor
}

// writeSync writes /sync, unless that was refused a moment ago.
func (o *Observation) writeSync(s dcs.Sync) (Decision, bool) {
	s.ModRevision = o.DCS.Cluster.ModRevision(dcs.KeySync)
	text := "no synchronous mode"
	if s.Leader != "" {
		text = "leader " + s.Leader + ", standbys " + strings.Join(s.Standbys, ",")
	}
	return o.then(WriteSync{Sync: s}, SyncPublishes, text), true
}

func (o *Observation) setSyncNames(n SyncNames) (Decision, bool) {
	text := n.String()
	if text == "" {
		return o.then(SetSyncNames{Names: &text}, SyncSetsNames, "nobody"), true
	}
	return o.then(SetSyncNames{Names: &text}, SyncSetsNames, text), true
}

// keepPriority is ha-behaviour 3.4 with the guard of 3.5. A name is in /sync
// only while the server waits for it and it has caught up: names leave /sync
// before the server, and enter it after.
func (o *Observation) keepPriority(s *dcs.Sync, have SyncNames) (d Decision, ok bool) {
	voters := newNameSet(s.Standbys...)
	picked, caught := o.syncPicked()
	want := SyncNames{Count: len(picked), Names: picked}
	if s.Leader != o.Me.Name {
		return o.writeSync(dcs.Sync{Leader: o.Me.Name})
	}
	if len(picked) == 0 && o.Settings.Sync.Strict {
		return o.guard(voters, 0, have)
	}
	if keep := voters.and(caught); len(keep) < len(voters) || s.Quorum != 0 {
		return o.writeSync(dcs.Sync{Leader: o.Me.Name, Standbys: keep})
	}
	if !have.equal(want) {
		return o.setSyncNames(want)
	}
	if !caught.equal(voters) {
		return o.writeSync(dcs.Sync{Leader: o.Me.Name, Standbys: caught})
	}
	return d, false
}

// guard is ha-behaviour 3.5: in strict mode and with nobody there, the server
// goes on waiting for those who may take over.
func (o *Observation) guard(voters nameSet, quorum int, have SyncNames) (d Decision, ok bool) {
	want := SyncNames{Any: o.Settings.Sync.Mode == config.SyncQuorum, Count: max(1, len(voters)-quorum), Names: voters}
	if len(voters) == 0 {
		want.Names = nameSet{nobodyYet}
	}
	if have.equal(want) {
		return d, false
	}
	return o.setSyncNames(want)
}

// keepQuorum is one step of ha-behaviour 3.8.
func (o *Observation) keepQuorum(s *dcs.Sync, have SyncNames) (d Decision, ok bool) {
	active, caught := o.syncPicked()
	voters := newNameSet(s.Standbys...)
	if len(active) == 0 && o.Settings.Sync.Strict && s.Leader == o.Me.Name {
		return o.guard(voters, s.Quorum, have)
	}
	q := QuorumState{
		Leader: s.Leader, Quorum: s.Quorum, Voters: voters,
		NumSync: have.Count, Sync: have.members(),
		Confirmed: len(caught), Active: active, Wanted: max(o.Settings.Sync.Count, 1), Me: o.Me.Name,
	}
	if len(q.Sync) > 0 && !have.Any { // ANY n acknowledges whatever FIRST n does, with the same names
		return o.setSyncNames(SyncNames{Any: true, Count: min(q.NumSync, len(q.Sync)), Names: q.Sync})
	}
	steps, err := q.Steps()
	if err != nil || len(steps) == 0 {
		return d, false
	}
	switch step := steps[0]; step.Kind {
	case QuorumStepVoters:
		return o.writeSync(dcs.Sync{Leader: o.Me.Name, Quorum: step.Count, Standbys: step.Names})
	case QuorumStepStandby:
		if len(step.Names) == 0 && o.Settings.Sync.Strict {
			return o.guard(nil, 0, have)
		}
		return o.setSyncNames(SyncNames{Any: true, Count: max(step.Count, o.atLeast()), Names: step.Names})
	case QuorumStepRestart:
	}
	return d, false
}

// atLeast is how many standbys every commit waits for in strict mode (D4).
func (o *Observation) atLeast() int {
	if o.Settings.Sync.Strict {
		return 1
	}
	return 0
}

// syncSettles tells whether standbys are catching up, of which the server sends
// no event.
func (o *Observation) syncSettles() bool {
	if !o.Settings.Sync.on() || o.PG.Row.InRecovery {
		return false
	}
	active, caught := o.syncPicked()
	return !active.equal(caught) || o.justAlone()
}

// syncLook is the pause between looks at standbys that are catching up.
const syncLook = 200 * time.Millisecond

// beforePromotion is ha-behaviour 3.6: what the server waits for from its first
// commit as a primary on. ok is false when all is set.
func beforePromotion(o *Observation) (d Decision, ok bool) {
	s, have := o.DCS.Cluster.Sync, ParseSyncNames(o.PG.Row.SyncNames)
	if !o.Settings.Sync.on() {
		return keepSync(o)
	}
	if s == nil {
		s = &dcs.Sync{}
	}
	if o.Memory.SyncUnsure { // of a restored server, which leads without a claim
		again := *s
		again.Leader = cmp.Or(again.Leader, o.Me.Name)
		return o.writeSync(again)
	}
	voters := newNameSet(s.Standbys...)
	if s.Leader != "" {
		voters = voters.plus(nameSet{s.Leader})
	}
	me := nameSet{o.Me.Name}
	var want SyncNames
	switch {
	case o.Settings.Sync.Mode == config.SyncQuorum || s.Quorum > 0:
		q := QuorumState{Leader: s.Leader, Quorum: s.Quorum, Voters: newNameSet(s.Standbys...), Me: o.Me.Name}
		want.Any = true
		if want.Count, want.Names = q.atPromotion(); s.Leader == "" {
			want = SyncNames{}
		}
		want.Count = max(want.Count, o.atLeast())
		if want.Count == 0 {
			want = SyncNames{}
		}
	case o.Settings.Sync.Strict: // D2: all of them, until the first pass as primary
		rest := voters.minus(me)
		want = SyncNames{Count: len(rest), Names: rest}
		if s.Leader != o.Me.Name && s.Leader != "" {
			return o.writeSync(dcs.Sync{Leader: o.Me.Name, Standbys: rest})
		}
	default:
		if s.Leader != o.Me.Name || len(s.Standbys) > 0 {
			return o.writeSync(dcs.Sync{Leader: o.Me.Name})
		}
	}
	if len(want.Names) == 0 && o.Settings.Sync.Strict {
		want = SyncNames{Any: want.Any, Count: 1, Names: nameSet{nobodyYet}}
	}
	if !have.equal(want) || o.Memory.NamesUnsure != nil {
		return o.setSyncNames(want)
	}
	return d, false
}
