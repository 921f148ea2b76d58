package ha

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// elect is table U: nobody holds the lock, and this node's server runs.
func elect(o *Observation) Decision {
	m := &o.Memory
	if m.Lease.Epoch != 0 { // rule (d) was tried a moment ago, and is tried again
		return o.rest(ElectionReclaims)
	}
	if o.promised() {
		return o.keepPromise()
	}
	if o.leashNear() { // before it has to
		m.armRewind()
		return o.begin(o.demotion(), DemoteNoLock, "my leadership could not be renewed in time")
	}
	if o.claimsInitialize() { // E4, E5
		if o.PG.Known && o.PG.Row.InRecovery {
			switch {
			case m.Seen.Stale != 0: // an operator said that what etcd holds is right
				return o.claimInitialize()
			case o.Settings.Standby.On: // nobody in it could ever say so as a primary
				return o.claimInitialize()
			case m.LastEpoch == 0:
				return o.exit(1, JoinAborted, "")
			}
		} else {
			return o.claimInitialize()
		}
	}
	if o.ownLastBeat() {
		return o.then(PublishReleased{}, TakeBackFinished)
	}
	if o.Leash.Armed != 0 && o.PG.Known && o.ReadOnly() {
		return o.disarm()
	}
	if d, ok := o.freezeAsked(); ok {
		return d
	}
	if o.Now < m.YieldUntil && o.others() {
		return o.wait(m.YieldUntil.Sub(o.Now), ElectionYields)
	}
	if why := o.unfit(); why != "" {
		return refuse(o, why)
	}
	hold := m.holdOff(o)
	if hold > 0 && o.mayWrite() {
		return refuse(o, "the last leader may still act, and I am writable without the lock")
	}
	if left := o.raceBackoff(); left > hold {
		return o.wait(left, ElectionBacksOff)
	}
	if hold <= 0 {
		if d, ok := o.freezeFirst(); ok {
			return d
		}
	}
	if ask := o.racersToAsk(hold > 0); ask != nil && !o.unopposed() {
		return o.then(*ask, ElectionAsks)
	}
	if hold > 0 {
		return o.wait(hold, ElectionHoldOff, hold.Round(100*time.Millisecond).String())
	}
	if why := o.lostRace(); why != "" {
		return refuse(o, why)
	}
	if left := o.awaitMoreWAL(); left > 0 {
		return o.wait(min(left, settling), ElectionWaitsForMore, o.DCS.Cluster.Status.Optime.String())
	}
	if silent, left := o.awaitAll(); left > 0 {
		return o.wait(min(left, settling), ElectionWaitsForAll, strings.Join(silent, ", "))
	}
	return o.then(Claim{}, ElectionWins)
}

// awaitMoreWAL is how long this node waits for one that holds more WAL. After
// an orderly end of the last leadership (a whole cluster was stopped) the
// position it ended at is known, and safe on its disk: a node that has less
// gives the others one lease time to come back before it leaves that behind. In a
// standby cluster the rest comes from the remote.
func (o *Observation) awaitMoreWAL() time.Duration {
	st := o.DCS.Cluster.Status
	if st == nil || st.Beat == nil || !st.Beat.Released || o.wanted() || o.Settings.Standby.On || !o.PG.Row.InRecovery || o.PG.Row.Position >= st.Optime || outlived(st, o.PG.Row.Timeline) {
		return 0
	}
	return o.Memory.Leaderless.Add(o.Settings.TTL).Sub(o.Now)
}

// unled tells whether nobody has led yet in an etcd that was put back or made anew, and
// is trusted again, or /status is gone: etcd does not know how far the cluster was, in
// WAL and timelines.
func (o *Observation) unled() bool {
	return o.DCS.Cluster.ModRevision(dcs.KeyStatus) <= o.Memory.Seen.Stale && !o.Settings.Standby.On
}

// awaitAll is how long this node waits for members that have not told how far they are
// while only they know: one whose server still starts is given one lease time.
func (o *Observation) awaitAll() (silent []string, left time.Duration) {
	if !o.unled() || o.wanted() || !o.PG.Row.InRecovery {
		return nil, 0
	}
	for _, mem := range o.racers() {
		if !o.Peers.Answers[mem.Name].Reachable {
			silent = append(silent, mem.Name)
		}
	}
	if len(silent) == 0 {
		return nil, 0
	}
	return silent, o.Memory.Leaderless.Add(o.Settings.TTL).Sub(o.Now)
}

// refuse stays out of the race. Without a lock nobody may be writable: a
// primary that does not win stops (F4b).
func refuse(o *Observation, why string) Decision {
	m := &o.Memory
	if o.mayWrite() {
		m.armRewind()
		return o.begin(Stop{Mode: StopImmediate}, DemoteNoLock, why)
	}
	if o.Settings.NoFailover || o.raceRequest() != nil { // U3: the new leader may be behind me
		m.armRewind()
	}
	return o.wait(o.period()/2, ElectionRefused, why)
}

// mayWrite tells whether the running server accepts writes, or may begin to at any
// moment, as far as is known.
func (o *Observation) mayWrite() bool {
	switch {
	case o.PG.Process == ProcessDown:
		return false
	case o.Memory.Promoting:
		return true
	case o.PG.Known:
		return !o.PG.Row.InRecovery
	case o.Op.Kind == OpRestore: // which opens the server, whatever was here before
		return true
	}
	return o.Memory.Primary
}

// ReadOnly tells whether the server is known to accept no writes, now and later.
func (o *Observation) ReadOnly() bool {
	return o.PG.Process == ProcessDown || o.PG.Known && o.PG.Row.InRecovery && !o.Memory.Promoting
}

// notePromoting: a promotion that did not come to its end may still do so, also one
// that an earlier run of this agent began: only for it is the leash of a standby
// armed. A primary's shutdown checkpoint is an end, too: nothing is written after it.
func (o *Observation) notePromoting() {
	m := &o.Memory
	switch {
	case o.PG.Process == ProcessDown || o.PG.Known && !o.PG.Row.InRecovery || o.PG.Shutdown.Checkpoint != 0:
		m.Promoting = false
	case o.PG.Known && !m.Looked:
		m.Promoting = o.Leash.Binds()
	}
	m.Looked = m.Looked || o.PG.Known || o.PG.Process == ProcessDown
}

// unfit is the gate of ha-behaviour 2.1: why this node may not race at all.
func (o *Observation) unfit() string {
	c := o.DCS.Cluster
	switch {
	case !o.PG.Known:
		return "the server does not answer"
	case c.Initialize == nil || !dcs.InitializeValid(c.Initialize.SystemID):
		return "the cluster has no system identifier yet"
	case o.PG.Row.Timeline < o.reached(): // 2.1.4, and S2 for whomever an operator named
		return fmt.Sprintf("my timeline %d is older than the cluster's %d", o.PG.Row.Timeline, clusterTimeline(c))
	case o.overtaken():
		return "a later leader may have made a timeline above mine"
	case o.watchdogFault() != "" && !o.Settings.Standby.On: // 2.1.8, for a running primary too: it could not be armed
		return "the watchdog is required and cannot be used: " + o.watchdogFault()
	case o.unlisted(o.Me.Name): // for a running primary too: a leader that lives by the others would not hear of its claim
		return "failsafe_mode is on and I am not in /failsafe"
	case !o.PG.Row.InRecovery:
		return ""
	case o.Now < o.Memory.SitOut:
		return "pre_promote refused my promotion a moment ago"
	case o.Settings.NoFailover: // 2.1.6, before 2.1.7
		return "nofailover is set"
	case o.fault() != "":
		return o.fault()
	}
	return o.syncUnfit()
}

// overtaken: this server runs as a primary, and a later leadership of somebody
// else has announced a higher timeline. Whether it came to be may be known to
// nobody: the agent can have died between the promotion and the next beat.
func (o *Observation) overtaken() bool {
	st := o.DCS.Cluster.Status
	return !o.PG.Row.InRecovery && st != nil && st.Beat != nil && st.Beat.Holder != o.Me.Holder && st.Beat.Next > o.PG.Row.Timeline
}

// racers are the other members that could hold more WAL: those of the last
// snapshot with a leader and the present ones, the later list winning.
func (o *Observation) racers() []dcs.Member {
	var out []dcs.Member
	add := func(mem *dcs.Member) {
		if mem.Name == o.Me.Name || mem.APIURL == "" || mem.NoFailover() || !o.mayElect(mem.Name) {
			return
		}
		out = append(out, *mem)
	}
	for i := range o.Memory.LastMembers {
		if mem := &o.Memory.LastMembers[i]; o.DCS.Cluster.Member(mem.Name) == nil {
			add(mem)
		}
	}
	for i := range o.DCS.Cluster.Members {
		add(&o.DCS.Cluster.Members[i])
	}
	if f := o.DCS.Cluster.Failsafe; f != nil && o.Settings.Failsafe {
		for _, name := range slices.Sorted(maps.Keys(f.Members)) {
			if o.DCS.Cluster.Member(name) == nil && !slices.ContainsFunc(o.Memory.LastMembers, func(mem dcs.Member) bool { return mem.Name == name }) {
				add(&dcs.Member{Name: name, APIURL: f.Members[name]})
			}
		}
	}
	return out
}

// answersFresh is how old answers may be when a claim is decided on.
const answersFresh = 500 * time.Millisecond

// racersToAsk returns the question to put before going on, nil when the answers
// at hand are good. While the hold-off runs they are asked once, so that the
// timeout of a dead host is over when it ends: a node whose key vanished, or
// that did not answer then, is only glanced at the second time. Where that did not
// make a leader there is no hurry: the third time it is waited for again, since it
// may be back.
func (o *Observation) racersToAsk(waiting bool) *AskPeers {
	p, m := &o.Peers, &o.Memory
	asked := p.AskedAt != 0 && p.AskedAt >= m.Leaderless
	ask := AskPeers{Timeout: peerTimeout}
	if left, bound := o.leashLeft(); bound && o.mayWrite() { // a primary that lost its key, or may get it again
		ask.Timeout = min(peerTimeout, max(left, handOverPause))
	}
	if !waiting {
		ask.Ballot = o.ballot()
	}
	// What was told before the last leadership was seen to have ended is too old:
	// a standby may have received, and acknowledged, more up to its end.
	if asked && (waiting || p.AskedAt >= m.SeenAt && o.Now.Sub(p.AskedAt) <= answersFresh && p.Ballot == ask.Ballot) {
		return nil
	}
	for _, mem := range o.racers() {
		gone := o.DCS.Cluster.Member(mem.Name) == nil
		gone = gone && !o.inFailsafe(mem.Name) // keys vanish with etcd, too
		if prev, known := p.Answers[mem.Name]; gone || asked && known && !prev.Reachable && !prev.Glanced {
			ask.Glance = append(ask.Glance, mem)
		} else {
			ask.Await = append(ask.Await, mem)
		}
	}
	if len(ask.Await)+len(ask.Glance) == 0 {
		return nil
	}
	return &ask
}

// peerTimeout is how long a member's answer is waited for (ha-behaviour 2.3).
const peerTimeout = 2 * time.Second

// lostRace is the comparison of ha-behaviour 2.2 and 2.4: why this node does
// not claim, or "".
func (o *Observation) lostRace() string {
	f := o.raceRequest()
	pending := f != nil
	// A leader that hands over at the time of a request has seen to its lag.
	limited, skip := !pending || !f.ScheduledAt.IsZero(), ""
	switch {
	case limited && o.PG.Row.InRecovery && o.lags(o.PG.Row.Position, o.PG.Row.Timeline):
		return fmt.Sprintf("my WAL position %s is more than %d bytes behind the last leader's %s", o.PG.Row.Position, o.maxLag(), o.DCS.Cluster.Status.Optime)
	case o.unopposed():
		return ""
	case pending && f.Candidate != "":
		allowed := f.Leader == "" || o.mayElect(f.Candidate)
		if p, ok := o.Peers.Answers[f.Candidate]; ok && allowed && p.Limitation() == "" && !o.leftBehind(p) && !o.opposed(p) && !o.unlisted(f.Candidate) && !(limited && o.lags(p.Position, p.Timeline)) && o.DCS.Cluster.Member(f.Candidate) != nil {
			return "leaving it to the requested candidate " + f.Candidate
		}
	}
	if pending {
		if f.Leader == o.Me.Name && f.Candidate != o.Me.Name {
			if o.failoverPossible(failoverQuery{except: f.Candidate}) {
				return "a switchover away from me was requested"
			}
		} else {
			skip = f.Leader
		}
	}
	if !o.PG.Row.InRecovery {
		return "" // 2.1.4: a running primary on the newest timeline
	}
	return o.compare(skip)
}

// lags tells whether a standby at this position may not take over by itself (S4).
func (o *Observation) lags(at wal.LSN, tl timeline) bool {
	st := o.DCS.Cluster.Status
	return st != nil && st.Optime.Sub(at) > o.maxLag() && !outlived(st, tl)
}

// outlived tells whether the position in st is of an older timeline than tl: a leader
// that an operator chose, who was behind, ended before a beat told of its own.
func outlived(st *dcs.Status, tl timeline) bool {
	return st.Beat != nil && st.Beat.Timeline != 0 && st.Beat.Timeline < tl
}

// leftBehind: a standby of a timeline that the cluster has left refuses to race
// (S2), whoever named it.
func (o *Observation) leftBehind(p Peer) bool {
	return p.Timeline != 0 && p.Timeline < o.reached()
}

func (o *Observation) compare(skip string) string {
	mine := o.PG.Row.Position
	s, sync := o.voters()
	var votes poll
	for _, mem := range o.racers() {
		p, ok := o.Peers.Answers[mem.Name]
		if !ok || p.Limitation() != "" {
			continue
		}
		switch {
		case mem.Name == skip && p.InRecovery && p.Position > mine: // whatever it has, it is not to lead
			continue
		case !p.InRecovery:
			return mem.Name + " still runs as a primary"
		case o.unlisted(mem.Name): // it cannot win, however much WAL it has
			continue
		case p.Timeline > o.PG.Row.Timeline && !o.Settings.Standby.On: // it is I who was left behind
			return fmt.Sprintf("%s is on timeline %d, newer than my %d", mem.Name, p.Timeline, o.PG.Row.Timeline)
		case o.leftBehind(p), p.Timeline != 0 && p.Timeline < o.PG.Row.Timeline && !o.Settings.Standby.On: // nor can it, and of this timeline it has acknowledged nothing
		case p.Position > mine && sync && mem.Name == s.Leader: // what it has more was acknowledged to nobody
			votes.ahead = true
			continue
		case p.Position > mine:
			return fmt.Sprintf("%s is ahead of my WAL position: %s > %s", mem.Name, p.Position, mine)
		case p.Position == mine && p.Priority > o.Settings.FailoverPriority && mem.Name != o.formerLeader() && mem.Name != skip:
			return fmt.Sprintf("%s has equal WAL and a higher failover_priority", mem.Name)
		}
		if o.backs(&p) {
			votes.votes++
		}
	}
	return o.carried(votes)
}

// maxLag is maximum_lag_on_failover as an unsigned bound; below zero it is zero.
func (o *Observation) maxLag() uint64 {
	return uint64(max(o.Settings.MaximumLagOnFailover, 0))
}
