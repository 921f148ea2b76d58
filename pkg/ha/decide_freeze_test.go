package ha

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// electing is the election after n2, the leader of a synchronous cluster, was last
// heard of; n1 and n3 are its standbys, and its key is gone.
func electing(mode config.SyncMode) *Observation {
	o := base()
	leaderless(o)
	o.Settings.Sync = SyncSettings{Mode: mode, Count: 1, MaxLag: -1}
	o.DCS.Cluster.Sync = &dcs.Sync{Leader: "n2", Standbys: []string{"n1", "n3"}, ModRevision: 30}
	if mode == config.SyncQuorum {
		o.DCS.Cluster.Sync.Quorum = 1
	}
	upstream(o, "n2")
	return o
}

// frozen: this server streams from nobody, nor does n3, as it said.
func frozen(o *Observation) {
	o.PG.Frozen, o.PG.Upstream, o.PG.UpstreamURL = true, "", ""
	n3 := o.Peers.Answers["n3"]
	n3.Frozen, n3.Promise = true, 90
	o.Peers.Answers["n3"] = n3
	o.Peers.Ballot = Ballot{Epoch: 90, Status: 120, Sync: 30}
}

// TestFreezeCandidate: B.5, who stands for election.
func TestFreezeCandidate(t *testing.T) {
	answers := func(change func(p *Peer)) func(o *Observation) {
		return func(o *Observation) {
			frozen(o)
			p := o.Peers.Answers["n3"]
			change(&p)
			o.Peers.Answers["n3"] = p
		}
	}
	for _, c := range []struct {
		name   string
		mode   config.SyncMode
		change func(o *Observation)
		action Action
		reason Reason
		text   string
	}{
		{"its own receiver first", config.SyncQuorum, nil, Freeze{}, ElectionFreezes, ""},
		{"and in the mode with names", config.SyncOn, nil, Freeze{}, ElectionFreezes, ""},
		{"not in asynchronous mode (S4 holds without)", config.SyncOff, nil, Claim{}, ElectionWins, ""},
		{"not where no primary has named anybody", config.SyncOn, func(o *Observation) { o.DCS.Cluster.Sync = &dcs.Sync{} }, Claim{}, ElectionWins, ""},
		{"not after an orderly end", config.SyncOn, func(o *Observation) { o.DCS.Cluster.Status.Beat.Released = true }, Claim{}, ElectionWins, ""},
		{"but if a member without a beat led since", config.SyncOn, func(o *Observation) {
			o.DCS.Cluster.Status.Beat.Released = true
			o.Memory.LastEpoch = 95
		}, Freeze{}, ElectionFreezes, ""},
		{"not during the hold-off: the holder may be back", config.SyncOn, func(o *Observation) { o.Memory.SeenAt = o.Now }, nil, ElectionHoldOff, ""},
		{"it does not end", config.SyncOn, func(o *Observation) { did(o, Freeze{}, ResultFailed) }, nil, ElectionRefused, "the WAL receiver does not end"},
		{"on, frozen: the others have what it has", config.SyncOn, func(o *Observation) { frozen(o); o.Peers.Ballot = Ballot{} }, Claim{}, ElectionWins, ""},
		{"quorum: answers of streaming voters are not enough", config.SyncQuorum, func(o *Observation) { frozen(o); o.Peers.Ballot = Ballot{} }, AskPeers{}, ElectionAsks, ""},
		{"quorum: nor those for another state of /sync", config.SyncQuorum, func(o *Observation) { frozen(o); o.DCS.Cluster.Sync.ModRevision = 31 }, AskPeers{}, ElectionAsks, ""},
		{"quorum: nor those of before another leadership", config.SyncQuorum, func(o *Observation) { frozen(o); o.Memory.LastEpoch = 110 }, AskPeers{}, ElectionAsks, ""},
		{"quorum: a frozen voter", config.SyncQuorum, frozen, Claim{}, ElectionWins, ""},
		{"quorum: a voter that did not freeze", config.SyncQuorum, answers(func(p *Peer) { p.Frozen = false }), nil, ElectionRefused, "quorum is 1"},
		{"quorum: it is a voter's veto all the same", config.SyncQuorum, answers(func(p *Peer) { p.Frozen, p.Position = false, 2000 }), nil, ElectionRefused, "ahead"},
		{"quorum: Patroni is asked the old way", config.SyncQuorum, answers(func(p *Peer) { p.Frozen, p.Unaware = false, true }), Claim{}, ElectionWins, ""},
		{"the last leader alone", config.SyncQuorum, func(o *Observation) {
			frozen(o)
			o.DCS.Cluster.Sync.Leader, o.Peers.Answers, o.Peers.Ballot = "n1", map[string]Peer{}, Ballot{}
			o.DCS.Cluster.Status.Beat.Released, o.DCS.Cluster.Status.Beat.Holder = true, "h1"
		}, Claim{}, ElectionWins, ""},
		{"who led before somebody else did needs votes, whomever /sync names yet", config.SyncQuorum, func(o *Observation) {
			frozen(o)
			o.DCS.Cluster.Sync.Leader, o.Peers.Answers, o.Peers.Ballot = "n1", map[string]Peer{}, Ballot{}
			o.DCS.Cluster.Status.Beat.Released = true
		}, nil, ElectionRefused, "quorum is 1"},
		{"a primary needs no receiver", config.SyncOn, func(o *Observation) { o.PG.Row.InRecovery = false }, Claim{}, ElectionWins, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := electing(c.mode)
			if c.change != nil {
				c.change(o)
			}
			d := decide(o)
			if fmt.Sprintf("%T", d.Action) != fmt.Sprintf("%T", c.action) || d.Reason != c.reason || !strings.Contains(d.Text("n1"), c.text) {
				t.Errorf("%T, %s; want %T, %s with %q", d.Action, d.Text("n1"), c.action, c.reason, c.text)
			}
		})
	}
}

// TestFreezeVoter: B.5, who is asked.
func TestFreezeVoter(t *testing.T) {
	unfit := func(change func(o *Observation)) func(o *Observation) {
		return func(o *Observation) {
			*o = *electing(config.SyncQuorum)
			o.Settings.NoFailover, o.Freeze = true, 1
			change(o)
		}
	}
	none := func(*Observation) {}
	runTable(t, []row{
		{name: "a voter that is no candidate freezes when it is asked", change: unfit(none), action: Freeze{}, reason: ElectionFreezes},
		{name: "also during its own hold-off", change: unfit(func(o *Observation) { o.Memory.SeenAt = noon }), action: Freeze{}, reason: ElectionFreezes},
		{name: "and when it is in asynchronous mode itself", change: unfit(func(o *Observation) { o.Settings.Sync.Mode = config.SyncOff }), action: Freeze{}, reason: ElectionFreezes},
		{name: "not while it sees a leader", change: unfit(func(o *Observation) {
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 90}
			o.DCS.Cluster.Members = append(o.DCS.Cluster.Members, member("n2", "primary"))
		}), reason: SecondaryNoAction},
		{name: "once for each request", change: unfit(func(o *Observation) { o.Memory.FreezeSeen = 1 }), reason: ElectionRefused},
		{name: "frozen: the view says so", change: unfit(frozen), reason: ElectionRefused, check: func(t *testing.T, d Decision) {
			o := &Observation{}
			unfit(frozen)(o)
			if v := NewView(o, &d); !v.Frozen || v.Promise != 90 || d.Memory.FreezeSeen != 1 {
				t.Errorf("frozen %v, promise %d, request %d", v.Frozen, v.Promise, d.Memory.FreezeSeen)
			}
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 90}
			if d := decide(o); NewView(o, &d).Frozen {
				t.Error("frozen, and it sees a leader")
			}
		}},
		{name: "one that does not end is for the candidate to ask about again", change: unfit(func(o *Observation) { did(o, Freeze{Asked: true}, ResultFailed) }),
			reason: ElectionRefused},
	})
}

// TestThaw: S16, nobody streams again before etcd has said that a leadership is there.
func TestThaw(t *testing.T) {
	led := func(change func(o *Observation)) func(o *Observation) {
		return func(o *Observation) {
			replica(o)
			o.PG.Frozen, o.PG.Upstream, o.PG.UpstreamURL, o.PG.Row.ReplicationState = true, "", "", ""
			change(o)
		}
	}
	none := func(*Observation) {}
	thaw := func(t *testing.T, d Decision) {
		if d.Action != (Thaw{Epoch: 90}) {
			t.Errorf("%+v", d.Action)
		}
	}
	runTable(t, []row{
		{name: "a frozen standby asks first", change: led(none), action: Thaw{}, reason: SecondaryThaws, check: thaw},
		{name: "then follows", change: led(func(o *Observation) { did(o, Thaw{Epoch: 90}, ResultOK) }), action: Follow{}, reason: SecondaryFollows},
		{name: "the leadership is gone", change: led(func(o *Observation) { did(o, Thaw{Epoch: 90}, ResultConflict) }), reason: SecondaryThaws},
		{name: "another leadership is another question", change: led(func(o *Observation) { o.Memory.Thawed = 80 }), action: Thaw{}, reason: SecondaryThaws},
		{name: "an agent that was restarted does not know whether it froze", change: led(func(o *Observation) {
			o.PG.Frozen, o.Settings.Sync.Mode = false, config.SyncOn
		}), action: Thaw{}, reason: SecondaryThaws, check: thaw},
		{name: "nor does one whose server was", change: led(func(o *Observation) {
			o.PG.Frozen, o.Settings.Sync.Mode = false, config.SyncOn
			down(o, "shut down in recovery")
		}), action: Thaw{}, reason: SecondaryThaws},
		{name: "asynchronous mode asks nobody", change: led(func(o *Observation) { o.PG.Frozen = false }), action: Follow{}, reason: SecondaryFollows},
		{name: "a restart of a server that streams keeps its upstream", change: func(o *Observation) {
			replica(o)
			o.Settings.Sync.Mode, o.Restart.Now = config.SyncOn, RestartRequest{Serial: 1}
		}, action: Restart{}, reason: RestartRuns},
		{name: "one that is frozen stays so over a restart", change: led(func(o *Observation) { o.Restart.Now = RestartRequest{Serial: 1} }),
			action: Restart{}, reason: RestartRuns, check: wants(Restart{Timeout: 300 * sec})},
	})
}

// TestFreezeAfterAnother: freezing takes back what was confirmed before.
func TestFreezeAfterAnother(t *testing.T) {
	o := electing(config.SyncQuorum)
	o.Memory.Thawed = 90
	did(o, Freeze{}, ResultOK)
	frozen(o)
	if d := decide(o); d.Memory.Thawed != 0 {
		t.Errorf("it still may stream from %d", d.Memory.Thawed)
	}
}

// sleeper is a cluster whose primary n2 was stopped by its host: the key is gone,
// its deadline is long past, and n1 and n3 hang on its connections. At one moment
// it wakes up and commits.
type sleeper struct {
	nodes   map[string]*Observation
	aware   bool // n3 knows /freeze
	wakes   int  // after so many steps
	reaches string
	steps   int
	acked   wal.LSN
}

// step is where the sleeper may wake up: a commit reaches those that still
// stream, and is acknowledged by any one of them.
func (s *sleeper) step() {
	s.steps++
	if s.steps != s.wakes {
		return
	}
	for _, name := range strings.Split(s.reaches, " ") {
		if o := s.nodes[name]; !o.PG.Frozen {
			o.PG.Row.Position, o.PG.Row.Receive = 1100, 1100
			s.acked = 1100
		}
	}
}

// freeze is n3 while it is asked to.
func (s *sleeper) freeze() Peer {
	o := s.nodes["n3"]
	if s.aware {
		for o.Freeze = 1; !o.PG.Frozen; s.step() {
			d := decide(o)
			o.Memory = d.Memory
			if _, freezes := d.Action.(Freeze); !freezes {
				return Peer{Reachable: true, InRecovery: true, Position: o.PG.Row.Position, Timeline: 1, Priority: 1}
			}
			s.step()
			o.PG.Frozen, o.PG.Upstream, o.Last = true, "", Outcome{Action: d.Action, Result: ResultOK}
		}
	}
	return Peer{Reachable: true, InRecovery: true, Position: o.PG.Row.Position, Timeline: 1, Priority: 1, Frozen: s.aware, Unaware: !s.aware, Promise: 90}
}

// elect lets n1 stand for election. It returns the position it claims with, 0 if
// it does not.
func (s *sleeper) elect(t *testing.T) wal.LSN {
	o := s.nodes["n1"]
	o.Peers = Peers{}
	for range 20 {
		d := decide(o)
		o.Memory, o.Last = d.Memory, Outcome{Action: d.Action, Result: ResultOK}
		s.step()
		switch a := d.Action.(type) {
		case Freeze:
			o.PG.Frozen, o.PG.Upstream = true, ""
		case AskPeers:
			o.Peers = Peers{AskedAt: o.Now, Ballot: a.Ballot, Answers: map[string]Peer{"n2": {}, "n3": s.freeze()}}
		case Claim:
			return o.PG.Row.Position
		case nil:
			if d.Reason == ElectionRefused {
				return 0
			}
		default:
			t.Fatalf("%T: %s", a, d.Text("n1"))
		}
		s.step()
	}
	t.Fatal("the election does not end")
	return 0
}

// TestFreezeKeepsAcknowledged (S3): whenever the old primary wakes up, whomever it
// still reaches, what it acknowledges is in the new leader's WAL. A voter that
// cannot freeze lets it acknowledge what the new leader lacks.
func TestFreezeKeepsAcknowledged(t *testing.T) {
	lost := map[bool]int{}
	for _, aware := range []bool{true, false} {
		for wakes := range 16 {
			for _, reaches := range []string{"n1", "n3", "n1 n3"} {
				s := &sleeper{aware: aware, wakes: wakes + 1, reaches: reaches, nodes: map[string]*Observation{}}
				for _, name := range []string{"n1", "n3"} {
					o := electing(config.SyncQuorum)
					o.Me.Name, o.Settings.NoFailover = name, name == "n3"
					s.nodes[name] = o
				}
				if at := s.elect(t); at != 0 && at < s.acked {
					lost[aware]++
				}
			}
		}
	}
	if lost[true] != 0 || lost[false] == 0 {
		t.Errorf("acknowledged and lost: %d times with frozen voters, %d times without", lost[true], lost[false])
	}
}
