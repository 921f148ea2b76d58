package ha

import (
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// inSyncMode makes base a cluster in synchronous mode, with two standbys that
// have everything.
func inSyncMode(mode config.SyncMode) *Observation {
	o := base()
	o.Settings.Sync = SyncSettings{Mode: mode, Count: 1, MaxLag: -1}
	o.DCS.Cluster.Sync = &dcs.Sync{Leader: "n1", ModRevision: 125}
	o.PG.SyncOwned = true
	o.PG.Row.Replication = []Replication{streamer("n2", 1000), streamer("n3", 1000)}
	return o
}

func streamer(name string, at wal.LSN) Replication {
	state, async := "streaming", "async"
	return Replication{ApplicationName: &name, State: &state, SyncState: &async, WriteLSN: at, FlushLSN: at, ReplayLSN: at}
}

// serve carries out what a decision about synchronous standbys says, as etcd and
// the server would, and returns it in a line.
func serve(t *testing.T, o *Observation) string {
	t.Helper()
	o.Now = o.Memory.Lease.Renewed.Add(sec)
	d := decide(o)
	o.Memory, o.Last = d.Memory, Outcome{Action: d.Action, Result: ResultOK}
	switch a := d.Action.(type) {
	case WriteSync:
		if old := o.DCS.Cluster.ModRevision(dcs.KeySync); a.Sync.ModRevision != old {
			t.Fatalf("%s at revision %d, want %d", d.Text("n1"), a.Sync.ModRevision, old)
		}
		s := a.Sync
		s.ModRevision = o.DCS.Cluster.ModRevision(dcs.KeySync) + 1
		o.DCS.Cluster.Sync = &s
		return "sync " + string(s.Encode())
	case SetSyncNames:
		if a.Names == nil {
			o.PG.SyncOwned, o.PG.Row.SyncNames = false, ""
			return "names given back"
		}
		o.PG.SyncOwned, o.PG.Row.SyncNames = true, *a.Names
		applySyncStates(o)
		return "names " + *a.Names
	case Promote:
		return "promote"
	}
	return d.Reason.String()
}

// applySyncStates sets sync_state as the server would.
func applySyncStates(o *Observation) {
	n, first := ParseSyncNames(o.PG.Row.SyncNames), 0
	for i := range o.PG.Row.Replication {
		state := "async"
		switch r := &o.PG.Row.Replication[i]; {
		case !n.Names.has(*r.ApplicationName):
		case n.Any:
			state = "quorum"
		case first < n.Count:
			state = "sync"
			first++
		default:
			state = "potential"
		}
		o.PG.Row.Replication[i].SyncState = &state
	}
}

// TestSyncPasses walks through what a primary writes, and in which order.
func TestSyncPasses(t *testing.T) {
	steady := []string{LeaderNoAction.String()}
	for _, c := range []struct {
		name  string
		mode  config.SyncMode
		prep  func(o *Observation)
		steps []string
	}{
		{"switched on", config.SyncOn, func(o *Observation) { o.DCS.Cluster.Sync = nil }, []string{
			`sync {"leader":"n1","quorum":0,"sync_standby":null}`, "names n2",
			`sync {"leader":"n1","quorum":0,"sync_standby":"n2"}`, LeaderNoAction.String()}},
		{"two wanted", config.SyncOn, func(o *Observation) { o.Settings.Sync.Count = 2 }, []string{
			"names 2 (n2,n3)", `sync {"leader":"n1","quorum":0,"sync_standby":"n2,n3"}`, LeaderNoAction.String()}},
		{"priority and tags decide", config.SyncOn, func(o *Observation) {
			mem(o, "n2").Tags = dcs.Tags{{Name: "nosync", Value: true}}
		}, []string{"names n3", `sync {"leader":"n1","quorum":0,"sync_standby":"n3"}`}},
		{"a standby that cascades does no duty", config.SyncOn, func(o *Observation) {
			mem(o, "n2").Tags = dcs.Tags{{Name: "replicatefrom", Value: "n3"}}
		}, []string{"names n3"}},
		{"names are compared as PostgreSQL does", config.SyncOn, func(o *Observation) {
			mem(o, "n2").Tags = dcs.Tags{{Name: "replicatefrom", Value: "N3"}}
		}, []string{"names n3"}},
		{"a ring of replicatefrom is no endless loop", config.SyncOn, func(o *Observation) {
			mem(o, "n2").Tags = dcs.Tags{{Name: "replicatefrom", Value: "n3"}}
			mem(o, "n3").Tags = dcs.Tags{{Name: "replicatefrom", Value: "n2"}}
		}, []string{"names n2"}},
		{"the standby is gone: etcd first, then the server", config.SyncOn, func(o *Observation) {
			standing(o, "n2", "n2")
			o.PG.Row.Replication = o.PG.Row.Replication[1:]
		}, []string{`sync {"leader":"n1","quorum":0,"sync_standby":null}`, "names n3", `sync {"leader":"n1","quorum":0,"sync_standby":"n3"}`}},
		{"nobody is left", config.SyncOn, func(o *Observation) {
			standing(o, "n2", "n2")
			o.PG.Row.Replication = nil
		}, []string{`sync {"leader":"n1","quorum":0,"sync_standby":null}`, "names ", LeaderNoAction.String()}},
		{"nobody is left, strict: commits wait", config.SyncOn, func(o *Observation) {
			standing(o, "n2", "n2")
			o.PG.Row.Replication = nil
			o.Settings.Sync.Strict = true
		}, steady},
		{"nobody ever was there, strict", config.SyncOn, func(o *Observation) {
			o.PG.Row.Replication = nil
			o.Settings.Sync.Strict = true
		}, []string{"names " + nobodyYet, LeaderNoAction.String()}},
		{"behind maximum_lag_on_syncnode", config.SyncOn, func(o *Observation) {
			o.Settings.Sync.MaxLag = 100
			o.PG.Row.Replication[0].FlushLSN = 800
		}, []string{"names n3"}},
		{"not in etcd before it has caught up", config.SyncOn, func(o *Observation) {
			o.PG.Row.Replication = []Replication{streamer("n2", 900)}
		}, []string{"names n2", SyncCatchesUp.String()}},
		{"somebody edited the parameter", config.SyncOn, func(o *Observation) {
			standing(o, "n2", "n2")
			o.PG.Row.SyncNames = "2 (n2,n3)"
			applySyncStates(o)
		}, []string{"names n2", LeaderNoAction.String()}},
		{"after a failover", config.SyncOn, func(o *Observation) { o.DCS.Cluster.Sync.Leader = "n9" }, []string{
			`sync {"leader":"n1","quorum":0,"sync_standby":null}`, "names n2"}},
		{"garbage in /sync", config.SyncOn, func(o *Observation) {
			o.DCS.Cluster.Sync = nil
			o.DCS.Cluster.Invalid = map[dcs.Key]string{dcs.KeySync: "not JSON"}
		}, []string{`sync {"leader":"n1","quorum":0,"sync_standby":null}`}},
		{"switched off: etcd first, then the server", config.SyncOff, func(o *Observation) { standing(o, "n2", "n2") }, []string{
			`sync {"leader":null,"quorum":0,"sync_standby":null}`, "names given back", LeaderNoAction.String()}},
		{"quorum", config.SyncQuorum, nil, []string{
			"names ANY 1 (n2,n3)", `sync {"leader":"n1","quorum":1,"sync_standby":"n2,n3"}`, LeaderNoAction.String()}},
		{"on becomes quorum", config.SyncQuorum, func(o *Observation) { standing(o, "n2", "n2") }, []string{
			"names ANY 1 (n2)", `sync {"leader":"n1","quorum":1,"sync_standby":"n2,n3"}`, "names ANY 1 (n2,n3)", LeaderNoAction.String()}},
		{"quorum becomes on", config.SyncOn, func(o *Observation) {
			standing(o, "ANY 1 (n2,n3)", "n2", "n3")
			o.DCS.Cluster.Sync.Quorum = 1
		}, []string{`sync {"leader":"n1","quorum":0,"sync_standby":null}`, "names n2", `sync {"leader":"n1","quorum":0,"sync_standby":"n2"}`}},
		{"quorum, a standby is gone", config.SyncQuorum, func(o *Observation) {
			standing(o, "ANY 1 (n2,n3)", "n2", "n3")
			o.DCS.Cluster.Sync.Quorum = 1
			o.PG.Row.Replication = o.PG.Row.Replication[1:]
		}, []string{"names ANY 1 (n3)", `sync {"leader":"n1","quorum":0,"sync_standby":"n3"}`, LeaderNoAction.String()}},
		{"a write that may still arrive: the key is written again first", config.SyncQuorum, func(o *Observation) {
			standing(o, "ANY 1 (n3)", "n2", "n3")
			o.DCS.Cluster.Sync.Quorum = 1
			o.Last = Outcome{Action: WriteSync{Sync: dcs.Sync{Leader: "n1", Standbys: []string{"n3"}}}, Result: ResultUnknown}
		}, []string{`sync {"leader":"n1","quorum":1,"sync_standby":"n2,n3"}`, "names ANY 1 (n2,n3)", LeaderNoAction.String()}},
		{"names that may still come into force: they do before anything else", config.SyncQuorum, func(o *Observation) {
			standing(o, "ANY 1 (n2)")
			nobody := ""
			o.Last = Outcome{Action: SetSyncNames{Names: &nobody}, Result: ResultUnknown}
		}, []string{"names ", "names ANY 1 (n2,n3)"}},
		{"quorum, strict, nobody is left", config.SyncQuorum, func(o *Observation) {
			standing(o, "ANY 1 (n2,n3)", "n2", "n3")
			o.DCS.Cluster.Sync.Quorum = 1
			o.PG.Row.Replication = nil
			o.Settings.Sync.Strict = true
		}, steady},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := inSyncMode(c.mode)
			if c.prep != nil {
				c.prep(o)
			}
			for i, want := range c.steps {
				if got := serve(t, o); got != want {
					t.Fatalf("step %d: %s, want %s", i+1, got, want)
				}
			}
		})
	}
}

// Whoever acknowledged alone takes with him what the others have not got yet: who
// had caught up before is no sure one any more, and nobody else is to be elected
// on its word alone.
func TestQuorumLosesWhoWasAhead(t *testing.T) {
	o := inSyncMode(config.SyncQuorum)
	standing(o, "ANY 1 (n2,n3)", "n2", "n3")
	o.DCS.Cluster.Sync.Quorum = 1
	steps := func(steps ...string) {
		t.Helper()
		for i, want := range steps {
			if got := serve(t, o); got != want {
				t.Fatalf("step %d: %s, want %s", i+1, got, want)
			}
		}
	}
	steps(LeaderNoAction.String())
	o.PG.Row.Position = 1100
	o.PG.Row.Replication = []Replication{streamer("n3", 1050)} // n2, which is gone, had 1100
	applySyncStates(o)
	steps("names ANY 1 (n3)", `sync {"leader":"n1","quorum":1,"sync_standby":"n3"}`, SyncCatchesUp.String())
	o.PG.Row.Replication = []Replication{streamer("n3", 1100)}
	applySyncStates(o)
	steps(`sync {"leader":"n1","quorum":0,"sync_standby":"n3"}`, LeaderNoAction.String())
}

// A postmaster that is killed takes its walsenders along before the agent knows: nobody
// is relieved of synchronous duty at that moment, or nobody could take over.
func TestAllStandbysGoneAtOnce(t *testing.T) {
	for _, mode := range []config.SyncMode{config.SyncOn, config.SyncQuorum} {
		o := inSyncMode(mode)
		names := map[config.SyncMode]string{config.SyncOn: "n2", config.SyncQuorum: "ANY 1 (n2)"}[mode]
		o.PG.Row.Replication = o.PG.Row.Replication[:1]
		standing(o, names, "n2")
		if got := serve(t, o); got != LeaderNoAction.String() {
			t.Fatalf("%s: %s", mode, got)
		}
		o.PG.Row.Replication = nil
		if got := serve(t, o); got != SyncCatchesUp.String() {
			t.Errorf("%s: %s at once", mode, got)
		}
		o.Memory.Sync.Alone = o.Memory.Sync.Alone.Add(-aloneFor)
		if got := serve(t, o); got != `sync {"leader":"n1","quorum":0,"sync_standby":null}` {
			t.Errorf("%s: %s in the end", mode, got)
		}
	}
}

// A host that lost its power keeps its connection: who confirms nothing of what he was
// sent is relieved when somebody else can do his duty, long before his member key ends.
func TestSilentSyncStandby(t *testing.T) {
	relieved := []string{`sync {"leader":"n1","quorum":0,"sync_standby":null}`, "names n3", `sync {"leader":"n1","quorum":0,"sync_standby":"n3"}`, LeaderNoAction.String()}
	steady := []string{LeaderNoAction.String()}
	for _, c := range []struct {
		name  string
		later func(o *Observation) // after the first look
		want  []string
	}{
		{"before the patience is used up", func(o *Observation) { o.Memory.Sync.Unheard[0].since++ }, steady},
		{"after", nil, relieved},
		{"it said something meanwhile", func(o *Observation) { o.PG.Row.Replication[0].WriteLSN++ }, steady},
		{"it has everything now", func(o *Observation) { o.PG.Row.Replication[0].WriteLSN = 1100 }, steady},
		{"the other one is silent, too", func(o *Observation) {
			o.PG.Row.Replication[1].SentLSN = 1200
			o.Memory.Sync.Unheard = append(o.Memory.Sync.Unheard, unheard{name: "n3", wrote: 1100})
		}, steady},
		{"the other one may not lead", func(o *Observation) { mem(o, "n3").Tags = dcs.Tags{{Name: "nofailover", Value: true}} }, steady},
		{"the other one is preferred less", func(o *Observation) { mem(o, "n2").Tags = dcs.Tags{{Name: "sync_priority", Value: int64(2)}} }, relieved},
		{"there is no other one", func(o *Observation) { o.PG.Row.Replication = o.PG.Row.Replication[:1] }, steady},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := inSyncMode(config.SyncOn)
			o.PG.Row.Position = 1100
			o.PG.Row.Replication = []Replication{streamer("n2", 1000), streamer("n3", 1100)}
			o.PG.Row.Replication[0].SentLSN, o.PG.Row.Replication[1].SentLSN = 1100, 1100
			standing(o, "n2", "n2")
			if got := serve(t, o); got != LeaderNoAction.String() || len(o.Memory.Sync.Unheard) != 1 {
				t.Fatalf("%s, not heard: %v", got, o.Memory.Sync.Unheard)
			}
			for _, paused := range []bool{false, true} {
				o.Settings.Pause, o.Leash.Suspended = paused, paused
				if d := decide(o); d.Wait != o.patience() {
					t.Errorf("paused %v: looks again after %s, want %s", paused, d.Wait, o.patience())
				}
			}
			o.Settings.Pause, o.Leash.Suspended = false, false
			o.Memory.Sync.Unheard[0].since = o.Now.Add(-o.patience())
			if c.later != nil {
				c.later(o)
			}
			for i, want := range c.want {
				if got := serve(t, o); got != want {
					t.Fatalf("step %d: %s, want %s", i+1, got, want)
				}
			}
		})
	}
}

// Names that were to come into force count for nothing once the mode is off.
func TestNamesUnsureEnd(t *testing.T) {
	o := inSyncMode(config.SyncOff)
	nobody := ""
	o.DCS.Cluster.Sync, o.PG.SyncOwned, o.Memory.NamesUnsure = nil, false, &nobody
	if got := serve(t, o); got != LeaderNoAction.String() || o.Memory.NamesUnsure != nil {
		t.Errorf("%s, and names are unsure: %v", got, o.Memory.NamesUnsure != nil)
	}
}

// A claim ends what was sent under the leadership of before: it does not hold up the next promotion.
func TestClaimEndsUnsureSync(t *testing.T) {
	o := inSyncMode(config.SyncQuorum)
	o.PG.Row = Row{InRecovery: true, Timeline: 1, Position: 1000}
	o.DCS.Cluster.Status.Beat.Next = 2
	o.Memory.SyncUnsure = true
	o.Last = Outcome{Action: Claim{}, Result: ResultOK, Epoch: o.Memory.Lease.Epoch, Sent: o.Now, Timing: o.Memory.Lease.Timing}
	if got := serve(t, o); got != "promote" {
		t.Errorf("%s, want promote", got)
	}
}

// standing: names are in force and these standbys in /sync.
func standing(o *Observation, names string, voters ...string) {
	o.PG.Row.SyncNames = names
	applySyncStates(o)
	o.DCS.Cluster.Sync.Standbys = voters
}

// In pause, too, standbys that are catching up are looked at soon.
func TestPausedSyncSettles(t *testing.T) {
	o := inSyncMode(config.SyncOn)
	paused3(o)
	o.PG.Row.Replication = []Replication{streamer("n2", 900)}
	standing(o, "n2")
	if d := decide(o); d.Reason != PausedNoAction || d.Wait != syncLook {
		t.Errorf("%s, looks again after %s", d.Text("n1"), d.Wait)
	}
}

// TestSyncPromotion: what is set before a standby becomes a primary.
func TestSyncPromotion(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   config.SyncMode
		strict bool
		sync   *dcs.Sync
		names  string
		steps  []string
		unsure string
	}{
		{"on", config.SyncOn, false, &dcs.Sync{Leader: "n2", Standbys: []string{"n1"}, ModRevision: 9}, "n3", []string{
			`sync {"leader":"n1","quorum":0,"sync_standby":null}`, "names ", "promote"}, ""},
		{"strict: everybody must confirm at first (D2)", config.SyncOn, true, &dcs.Sync{Leader: "n2", Standbys: []string{"n1", "n3"}, ModRevision: 9}, "", []string{
			`sync {"leader":"n1","quorum":0,"sync_standby":"n2,n3"}`, "names 2 (n2,n3)", "promote"}, ""},
		{"strict, alone", config.SyncOn, true, &dcs.Sync{Leader: "n1", ModRevision: 9}, "", []string{"names " + nobodyYet, "promote"}, ""},
		{"quorum: /sync stays", config.SyncQuorum, false, &dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n1", "n3"}, ModRevision: 9}, "", []string{
			"names ANY 1 (n2,n3)", "promote"}, ""},
		{"quorum, an outsider", config.SyncQuorum, false, &dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n3", "n4"}, ModRevision: 9}, "", []string{
			"names ANY 2 (n2,n3,n4)", "promote"}, ""},
		{"names that seem to be right, and may be others in a moment", config.SyncQuorum, false, &dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n1", "n3"}, ModRevision: 9}, "ANY 1 (n2,n3)", []string{
			"names ANY 1 (n2,n3)", "promote"}, "n4"},
		{"off", config.SyncOff, false, &dcs.Sync{Leader: "n2", Standbys: []string{"n1"}, ModRevision: 9}, "n2", []string{
			`sync {"leader":null,"quorum":0,"sync_standby":null}`, "names given back", "promote"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := inSyncMode(c.mode)
			o.Settings.Sync.Strict = c.strict
			o.DCS.Cluster.Sync = c.sync
			o.PG.Row = Row{InRecovery: true, Timeline: 1, Position: 1000, SyncNames: c.names}
			o.DCS.Cluster.Status.Beat.Next = 2 // as the claim wrote it
			if c.unsure != "" {
				o.Memory.NamesUnsure = &c.unsure
			}
			for i, want := range c.steps {
				if got := serve(t, o); got != want {
					t.Fatalf("step %d: %s, want %s", i+1, got, want)
				}
			}
		})
	}
}

// TestSyncElection: who may lead when synchronous standbys are named.
func TestSyncElection(t *testing.T) {
	for _, c := range []struct {
		name string
		mode config.SyncMode
		sync dcs.Sync
		prep func(o *Observation)
		want Reason
		text string
	}{
		{"a synchronous standby", config.SyncOn, dcs.Sync{Leader: "n2", Standbys: []string{"n1"}}, nil, ElectionWins, ""},
		{"names compare without case", config.SyncOn, dcs.Sync{Leader: "n2", Standbys: []string{"N1"}}, nil, ElectionWins, ""},
		{"not one", config.SyncOn, dcs.Sync{Leader: "n2", Standbys: []string{"n3"}}, nil, ElectionRefused, "not a synchronous standby"},
		{"the old leader", config.SyncOn, dcs.Sync{Leader: "n1", Standbys: []string{"n3"}}, nil, ElectionWins, ""},
		{"mode off", config.SyncOff, dcs.Sync{Leader: "n2", Standbys: []string{"n3"}}, nil, ElectionWins, ""},
		{"nothing noted yet", config.SyncOn, dcs.Sync{}, nil, ElectionWins, ""},
		{"garbage in /sync", config.SyncOn, dcs.Sync{}, func(o *Observation) {
			o.DCS.Cluster.Sync = nil
			o.DCS.Cluster.Invalid = map[dcs.Key]string{dcs.KeySync: "not JSON"}
		}, ElectionRefused, "/sync cannot be read"},
		{"the old leader, read-only again, is ahead", config.SyncOn, dcs.Sync{Leader: "n2", Standbys: []string{"n1"}}, func(o *Observation) {
			o.Peers.Answers["n2"] = standbyPeer(2000)
		}, ElectionWins, ""},
		{"who is no voter does not count", config.SyncOn, dcs.Sync{Leader: "n2", Standbys: []string{"n1"}}, func(o *Observation) {
			o.Peers.Answers["n3"] = standbyPeer(2000)
		}, ElectionWins, ""},
		{"quorum reached", config.SyncQuorum, dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n1", "n3"}}, nil, ElectionWins, ""},
		{"quorum not reached", config.SyncQuorum, dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n1", "n3"}}, func(o *Observation) {
			o.Peers.Answers["n3"] = Peer{}
		}, ElectionRefused, "quorum is 1"},
		{"a quorum counts whatever the mode is called", config.SyncOn, dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n1", "n3"}}, func(o *Observation) {
			o.Peers.Answers["n3"] = Peer{}
		}, ElectionRefused, "quorum is 1"},
		{"an outsider needs one vote more", config.SyncQuorum, dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n3", "n4"}}, nil, ElectionRefused, "quorum is 1"},
		{"an outsider leaves a request to those it is for", config.SyncQuorum, dcs.Sync{Leader: "n2", Standbys: []string{"n3"}}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Leader: "n2", Candidate: "n3", ModRevision: 7}
		}, ElectionRefused, "not a synchronous standby"},
		{"and to a voter, where nobody is named", config.SyncQuorum, dcs.Sync{Leader: "n2", Standbys: []string{"n3"}}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Leader: "n2", ModRevision: 7}
		}, ElectionRefused, "not a synchronous standby"},
		{"unless they are on a timeline that was left", config.SyncQuorum, dcs.Sync{Leader: "n2", Standbys: []string{"n3"}}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Candidate: "n3", ModRevision: 7}
			o.PG.Row.Timeline++
			o.DCS.Cluster.Status.Beat.Timeline = o.PG.Row.Timeline
			mem(o, "n3").Timeline = o.PG.Row.Timeline - 1
		}, ElectionWins, ""},
		{"the old leader comes back alone", config.SyncQuorum, dcs.Sync{Leader: "n1", Quorum: 1, Standbys: []string{"n2", "n3"}}, func(o *Observation) {
			o.Peers.Answers = map[string]Peer{"n2": {}, "n3": {}}
			o.DCS.Cluster.Status.Beat.Holder = "h1"
		}, ElectionWins, ""},
		{"a failover by hand to one that is not", config.SyncOn, dcs.Sync{Leader: "n2", Standbys: []string{"n3"}}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Candidate: "n1", ModRevision: 7}
		}, ElectionWins, ""},
		{"a switchover to one that is not", config.SyncOn, dcs.Sync{Leader: "n2", Standbys: []string{"n3"}}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Leader: "n2", Candidate: "n1", ModRevision: 7}
		}, ElectionRefused, "not a synchronous standby"},
		{"a switchover needs the quorum, too", config.SyncQuorum, dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n1", "n3"}}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Leader: "n2", Candidate: "n1", ModRevision: 7}
			o.Peers.Answers["n3"] = Peer{}
		}, ElectionRefused, "quorum is 1"},
		{"the leader that goes has a vote in it", config.SyncQuorum, dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n1", "n3"}}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Leader: "n2", Candidate: "n1", ModRevision: 7}
			o.DCS.Cluster.Members = append(o.DCS.Cluster.Members, member("n2", "replica"))
			o.Peers.Answers = map[string]Peer{"n2": standbyPeer(1000), "n3": {}}
		}, ElectionWins, ""},
		{"a voter on a timeline that was left", config.SyncQuorum, dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n1", "n3"}}, func(o *Observation) {
			o.PG.Row.Timeline++
			o.DCS.Cluster.Status.Beat.Timeline = o.PG.Row.Timeline
			old := standbyPeer(2000)
			old.Timeline = o.PG.Row.Timeline - 1
			o.Peers.Answers["n3"] = old
		}, ElectionWins, ""},
		{"its candidate is the leader itself", config.SyncQuorum, dcs.Sync{Leader: "n1", Quorum: 1, Standbys: []string{"n2", "n3"}}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Leader: "n1", Candidate: "n1", ModRevision: 7}
			o.DCS.Cluster.Members = append(o.DCS.Cluster.Members, member("n2", "replica"))
			o.Peers.Answers = map[string]Peer{"n2": standbyPeer(1000), "n3": standbyPeer(1000)}
		}, ElectionWins, ""},
		{"its candidate is no synchronous standby", config.SyncOn, dcs.Sync{Leader: "n1"}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Leader: "n1", Candidate: "n3", ModRevision: 7}
		}, ElectionWins, ""},
		{"unless an operator named it and not the leader", config.SyncOn, dcs.Sync{Leader: "n1"}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Candidate: "n3", ModRevision: 7}
		}, ElectionRefused, "leaving it to the requested candidate"},
		{"its candidate lacks what I have", config.SyncQuorum, dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n1", "n3"}}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Leader: "n2", Candidate: "n3", ModRevision: 7}
			o.Peers.Answers["n3"] = standbyPeer(900)
		}, ElectionWins, ""},
		{"its candidate is as good as I am", config.SyncQuorum, dcs.Sync{Leader: "n2", Quorum: 1, Standbys: []string{"n1", "n3"}}, func(o *Observation) {
			o.DCS.Cluster.Failover = &dcs.Failover{Leader: "n2", Candidate: "n3", ModRevision: 7}
		}, ElectionRefused, "leaving it to the requested candidate n3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := base()
			replica(o)
			o.Settings.Sync = SyncSettings{Mode: c.mode, Count: 1}
			c.sync.ModRevision = 30
			o.DCS.Cluster.Sync = &c.sync
			o.DCS.Cluster.Leader = nil
			o.DCS.Cluster.Status.Beat.Released = true
			o.DCS.Cluster.Members = []dcs.Member{member("n1", "replica"), member("n3", "replica")}
			o.Memory.Leaderless = o.Now - 1
			o.Peers = Peers{AskedAt: o.Now, Answers: map[string]Peer{"n2": {}, "n3": standbyPeer(1000)}}
			if c.prep != nil {
				c.prep(o)
			}
			d := decide(o)
			if d.Reason != c.want || !strings.Contains(d.Text("n1"), c.text) {
				t.Errorf("%s, want %s with %q", d.Text("n1"), c.want, c.text)
			}
		})
	}
}

// TestSyncHandOver: to whom a primary hands over.
func TestSyncHandOver(t *testing.T) {
	for _, c := range []struct {
		name     string
		sync     dcs.Sync
		mode     config.SyncMode
		failover dcs.Failover
		want     Reason
	}{
		{"to the synchronous standby", dcs.Sync{Leader: "n1", Standbys: []string{"n2"}}, config.SyncOn, dcs.Failover{Leader: "n1", Candidate: "n2"}, HandOver},
		{"to another", dcs.Sync{Leader: "n1", Standbys: []string{"n2"}}, config.SyncOn, dcs.Failover{Leader: "n1", Candidate: "n3"}, FailoverCleaned},
		{"to another, as a failover", dcs.Sync{Leader: "n1", Standbys: []string{"n2"}}, config.SyncOn, dcs.Failover{Candidate: "n3"}, HandOver},
		{"to anyone", dcs.Sync{Leader: "n1", Standbys: []string{"n2"}}, config.SyncOn, dcs.Failover{Leader: "n1"}, HandOver},
		{"nobody is named", dcs.Sync{Leader: "n1"}, config.SyncOn, dcs.Failover{Leader: "n1"}, FailoverCleaned},
		{"a quorum that two reach", dcs.Sync{Leader: "n1", Quorum: 1, Standbys: []string{"n2", "n3"}}, config.SyncQuorum, dcs.Failover{Leader: "n1"}, HandOver},
		{"a quorum that two do not reach", dcs.Sync{Leader: "n1", Quorum: 2, Standbys: []string{"n2", "n3"}}, config.SyncQuorum, dcs.Failover{Leader: "n1"}, FailoverCleaned},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := inSyncMode(c.mode)
			c.failover.ModRevision = 50
			o.DCS.Cluster.Sync, o.DCS.Cluster.Failover = &c.sync, &c.failover
			o.Peers = Peers{AskedAt: o.Now, Answers: map[string]Peer{
				"n2": {Reachable: true, InRecovery: true, Position: 1000, Timeline: 1},
				"n3": {Reachable: true, InRecovery: true, Position: 1000, Timeline: 1},
			}}
			if d := decide(o); d.Reason != c.want {
				t.Errorf("%s, want %s", d.Text("n1"), c.want)
			}
		})
	}
}
