package ha

import (
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

const (
	sec     = time.Second
	sysID   = "7710903353966102417"
	noon    = Instant(1000 * sec)
	myEpoch = 100
)

func plus(d time.Duration) Instant { return noon.Add(d) }

// base is a healthy cluster of three: n1 is this node, the leader, renewed a
// second ago; n2 and n3 stream from it. Each case changes a little of it.
func base() *Observation {
	timing, _ := NewTiming(30*sec, 10*sec, 10*sec)
	lease := Claimed(myEpoch, plus(-sec), timing)
	lease.Beat = 7
	c := &dcs.Cluster{
		ID: 1, Revision: 130,
		Leader:     &dcs.Leader{Name: "n1", Epoch: myEpoch},
		Members:    []dcs.Member{member("n1", "primary"), member("n2", "replica"), member("n3", "replica")},
		Initialize: &dcs.Initialize{SystemID: sysID, ModRevision: 5},
		Config:     &dcs.Config{Raw: []byte(`{"ttl":30}`), ModRevision: 6},
		Status: &dcs.Status{Optime: 1000, ModRevision: 120,
			Beat: &dcs.Beat{Beat: 7, Epoch: myEpoch, Holder: "h1", TTL: 30000}},
	}
	o := &Observation{
		Now: noon, Wall: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Me: Identity{Name: "n1", Scope: "demo", ConnURL: "postgres://n1:5432/postgres", APIURL: "http://n1:8008/patroni",
			Version: "4.1.4", Holder: "h1", CanBootstrap: true},
		Settings: Settings{
			TTL: 30 * sec, LoopWait: 10 * sec, RetryTimeout: 10 * sec, MaximumLagOnFailover: 1 << 20,
			PrimaryStartTimeout: 300 * sec, FailoverPriority: 1, Document: []byte(`{"ttl":30}`),
		},
		DCS: DCS{Cluster: c, Fresh: true, Granted: 30 * sec},
		PG: Postgres{
			DataDir: DataDirPresent, SystemID: sysID, Process: ProcessRunning, Since: plus(-100 * sec), CanRewind: true,
			Known: true, Row: Row{Timeline: 1, Position: 1000},
			Control: Control{State: "in production", Timeline: 1, Checkpoint: 900},
		},
		Peers: Peers{Answers: map[string]Peer{}},
		Leash: Leash{Attached: true, Armed: myEpoch, Deadline: lease.Deadline, Highest: myEpoch},
		Memory: Memory{
			Lease: lease, SeenStatus: 120, SeenAt: plus(-sec), LastLeader: "n1", LastEpoch: myEpoch,
			LastMembers: c.Members, Primary: true, Looked: true,
		},
	}
	return o
}

func member(name, role string) dcs.Member {
	return dcs.Member{Name: name, ConnURL: "postgres://" + name + ":5432/postgres", APIURL: "http://" + name + ":8008/patroni",
		State: "running", Role: role, Version: "4.1.4", Timeline: 1, XLogLocation: 1000}
}

// mem returns the member key of name, to be changed.
func mem(o *Observation, name string) *dcs.Member { return o.DCS.Cluster.Member(name) }

// replica turns this node into a standby that streams from n2, the leader with
// epoch 90 (a beat of it was seen a second ago).
func replica(o *Observation) {
	o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 90}
	o.DCS.Cluster.Members = []dcs.Member{member("n1", "replica"), member("n2", "primary"), member("n3", "replica")}
	o.DCS.Cluster.Status.Beat = &dcs.Beat{Beat: 3, Epoch: 90, Holder: "h2", TTL: 30000}
	o.PG.Row = Row{InRecovery: true, Timeline: 1, Position: 1000, Receive: 1000, Replay: 1000, ReplicationState: "streaming"}
	o.PG.StandbySignal = true
	upstream(o, "n2")
	o.PG.Control.State = "in archive recovery"
	o.Leash = Leash{Attached: true, Highest: 50}
	o.Memory = Memory{SeenStatus: 120, SeenAt: plus(-sec), LastLeader: "n2", LastEpoch: 90, RewindFor: 90, LastMembers: o.DCS.Cluster.Members, Looked: true}
}

// leaderless: n2 was the leader, its keys vanished just now; the hold-off is
// over and everybody answered.
func leaderless(o *Observation) {
	replica(o)
	c := o.DCS.Cluster
	c.Leader, c.Members = nil, []dcs.Member{member("n1", "replica"), member("n3", "replica")}
	o.Memory.Leaderless = plus(-3 * sec)
	o.Memory.SeenAt = plus(-31 * sec)
	o.Peers = Peers{AskedAt: noon, Answers: map[string]Peer{"n2": {}, "n3": standbyPeer(1000)}}
}

// upstream: the recovery settings follow name.
func upstream(o *Observation, name string) {
	o.PG.Upstream, o.PG.UpstreamURL = name, "postgres://"+name+":5432/postgres"
}

func standbyPeer(at wal.LSN) Peer {
	return Peer{Reachable: true, InRecovery: true, Position: at, Timeline: 1, Priority: 1}
}

// answered records fresh answers of the others.
func answered(o *Observation, n2, n3 Peer) {
	o.Peers = Peers{AskedAt: noon, Answers: map[string]Peer{"n2": n2, "n3": n3}}
}

// down: the local server does not run; its control file says state.
func down(o *Observation, state string) {
	o.PG.Process, o.PG.Known, o.PG.Row = ProcessDown, false, Row{}
	o.PG.Control.State = state
}

// lost: this node never heard of a leadership of its own.
func lost(o *Observation) { o.Memory.Lease = Lease{} }

// unwatched: the kernel watchdog must be had, and cannot be.
func unwatched(o *Observation) {
	o.Settings.WatchdogRequired, o.Leash.Watchdog = true, "no device"
}

func paused3(o *Observation) { o.Settings.Pause = true; o.Leash.Suspended = true }

// ended: the last long action is over.
func ended(o *Observation, k OpKind, errText string) {
	o.Op = Operation{Kind: k, Serial: o.Memory.OpSeen + 1, Started: plus(-5 * sec), Ended: plus(-100 * time.Millisecond), Error: errText}
}

// runs: a long action is running.
func runs(o *Observation, k OpKind) {
	o.Op = Operation{Kind: k, Serial: 1, Running: true, Started: plus(-5 * sec)}
}

// physical are slots of that type, at these positions.
func physical(at map[string]wal.LSN) map[string]SlotState {
	out := map[string]SlotState{}
	for name, lsn := range at {
		out[name] = SlotState{Type: SlotPhysical, Restart: lsn, At: lsn}
	}
	return out
}

// did: the outcome of the action decided just before.
func did(o *Observation, a Action, r Result) {
	t, _ := NewTiming(30*sec, 10*sec, 10*sec)
	o.Last = Outcome{Action: a, Result: r, Sent: plus(-100 * time.Millisecond), Epoch: 131, Beat: 8, Timing: t}
	if r != ResultOK {
		o.Last.Error = "it failed"
	}
}

func failover(o *Observation, leader, candidate string) *dcs.Failover {
	f := &dcs.Failover{Leader: leader, Candidate: candidate, ModRevision: 128}
	o.DCS.Cluster.Failover = f
	return f
}

// hits counts how often each reason was decided by the tests of this package.
var hits struct {
	sync.Mutex
	n [Reasons]int
}

func decide(o *Observation) Decision {
	d := Decide(*o)
	hits.Lock()
	defer hits.Unlock()
	if d.Reason >= 0 && int(d.Reason) < Reasons {
		hits.n[d.Reason]++
	}
	return d
}
