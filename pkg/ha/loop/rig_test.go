package loop

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/mem"
	"github.com/pgha/pgha/pkg/ha"
)

const (
	base  = "/service/demo"
	sysID = "7710903353966102417"
)

// rig is a loop over the in-memory etcd, with fakes that do what they are told.
// Everything runs in a synctest bubble: time.Now is virtual.
type rig struct {
	*Loop
	srv    *mem.Server
	client *mem.Client
	store  *spy
	node   *fakeNode
	leash  *fakeLeash
	runner *Runner
	worker *fakeWorker
	peers  *fakePeers
	views  []*ha.View
	turns  []ha.Decision
	set    ha.Settings
	docs   []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	begun := time.Now()
	now := func() ha.Instant { return ha.Instant(time.Since(begun) + time.Hour) }
	r := &rig{
		srv:  mem.NewServer(mem.Options{Now: func() int64 { return int64(time.Since(begun)) }}),
		node: &fakeNode{}, leash: &fakeLeash{status: ha.Leash{Attached: true}}, worker: &fakeWorker{}, peers: &fakePeers{},
		set: ha.Settings{TTL: 30 * time.Second, LoopWait: 10 * time.Second, RetryTimeout: 10 * time.Second, MaximumLagOnFailover: 1 << 20,
			PrimaryStartTimeout: 300 * time.Second, Document: []byte(`{"ttl":30}`)},
	}
	r.client = r.srv.Store(base, "n1")
	r.store = &spy{Store: r.client, counts: map[mem.Op]int{}, faults: map[mem.Op]mem.Fault{}}
	r.client.SetHook(r.store.hook)
	r.runner = NewRunner(r.worker, now)
	t.Cleanup(r.runner.Close)
	r.put("initialize", sysID)
	r.put("config", `{"ttl":30}`)
	r.node.facts = ha.Postgres{DataDir: ha.DataDirPresent, SystemID: sysID, Process: ha.ProcessRunning, Known: true,
		Row: ha.Row{Timeline: 1, Position: 1000}, Control: ha.Control{State: "in production"}}
	r.Loop = New(Options{
		Me:  ha.Identity{Name: "n1", Scope: "demo", ConnURL: "postgres://n1/postgres", APIURL: "http://n1:8008/patroni", Version: "4.1.4", Holder: "h1"},
		DCS: r.store, Node: r.node, Ops: r.runner, Leash: r.leash, Peers: r.peers,
		Settings:  func() ha.Settings { return r.set },
		Configure: func(_ context.Context, doc []byte) { r.docs = append(r.docs, string(doc)) },
		Now:       now, Wall: time.Now, Publish: func(v *ha.View) { r.views = append(r.views, v) },
		Log:   slog.New(slog.DiscardHandler),
		Trace: func(_ *ha.Observation, d *ha.Decision) { r.turns = append(r.turns, *d) },
	})
	return r
}

func (r *rig) put(key, value string) {
	if _, err := r.srv.Put(base+"/"+key, []byte(value), 0); err != nil {
		panic(err)
	}
}

// step makes one step and returns its decisions.
func (r *rig) step(t *testing.T) (time.Duration, []ha.Decision) {
	t.Helper()
	r.turns = nil
	wait, exit := r.Step(t.Context())
	if exit != nil {
		t.Fatalf("the agent ends: %s", exit.Message)
	}
	return wait, r.turns
}

// standby makes the server a replica of n2, which leads with a lease of its own.
func (r *rig) standby(t *testing.T) {
	t.Helper()
	lease := r.srv.GrantLease(time.Hour)
	for key, value := range map[string]string{
		"leader":     "n2",
		"members/n2": `{"conn_url":"postgres://n2/postgres","api_url":"http://n2:8008/patroni","state":"running","role":"primary","version":"4.1.4","timeline":1}`,
	} {
		if _, err := r.srv.Put(base+"/"+key, []byte(value), lease); err != nil {
			t.Fatal(err)
		}
	}
	r.put("status", `{"optime":1000,"pgha":{"beat":1,"epoch":4,"ttl":30000,"holder":"h2","released":false}}`)
	f := &r.node.facts
	f.StandbySignal, f.Upstream, f.UpstreamURL = true, "n2", "postgres://n2/postgres"
	f.Row = ha.Row{InRecovery: true, Timeline: 1, Position: 1000, Receive: 1000, Replay: 1000, ReplicationState: "streaming"}
}

// spy counts requests, injects faults, and keeps the time each round was given.
type spy struct {
	dcs.Store
	counts  map[mem.Op]int
	faults  map[mem.Op]mem.Fault
	budgets []time.Duration
}

func (s *spy) hook(op mem.Op) mem.Fault {
	s.counts[op]++
	return s.faults[op]
}

func (s *spy) Renew(ctx context.Context, r dcs.Renewal) error {
	at, _ := ctx.Deadline()
	s.budgets = append(s.budgets, time.Until(at))
	return s.Store.Renew(ctx, r)
}

type fakeNode struct {
	facts   ha.Postgres
	hang    bool
	moving  bool // the position grows with each look
	follow  error
	follows int
}

func (n *fakeNode) Facts(ctx context.Context) ha.Postgres {
	f := n.facts
	if n.hang {
		<-ctx.Done()
		f.Process, f.Known = ha.ProcessUnsure, false
	}
	if n.moving {
		n.facts.Row.Position++
	}
	return f
}

func (n *fakeNode) Follow(context.Context, ha.Upstream) error { n.follows++; return n.follow }

func (n *fakeNode) Freeze(context.Context) error {
	n.facts.Frozen, n.facts.Upstream = true, ""
	return nil
}

func (n *fakeNode) ResumeReplay(context.Context) error          { return nil }
func (n *fakeNode) SyncSlots(ha.SyncSlots)                      {}
func (n *fakeNode) SetSyncNames(context.Context, *string) error { return nil }

func (n *fakeNode) MoveAside(context.Context) error { return nil }

func (n *fakeNode) FinishBootstrap(context.Context) error { return nil }

type fakeLeash struct {
	status  ha.Leash
	extends []ha.Instant
	refuse  error
}

func (l *fakeLeash) Status() ha.Leash { return l.status }

func (l *fakeLeash) Arm(_ context.Context, epoch int64, deadline ha.Instant, _ uint64) error {
	if l.refuse != nil {
		return l.refuse
	}
	l.status.Armed, l.status.Highest, l.status.Deadline = epoch, epoch, deadline
	return nil
}

func (l *fakeLeash) Extend(_ int64, deadline ha.Instant) {
	l.status.Deadline = deadline
	l.extends = append(l.extends, deadline)
}

func (l *fakeLeash) Disarm(context.Context, int64) error { l.status.Armed = 0; return nil }

func (l *fakeLeash) Suspend(context.Context) error { l.status.Suspended = true; return nil }

type fakePeers struct {
	asked   int
	patient int
	froze   []int64 // epochs
	answers map[string]ha.Peer
}

func (p *fakePeers) Ask(context.Context, []dcs.Member, []dcs.Member) map[string]ha.Peer {
	p.asked++
	return nil
}

func (p *fakePeers) AskPatiently(context.Context, []dcs.Member) map[string]ha.Peer {
	p.patient++
	return p.answers
}

func (p *fakePeers) AskFrozen(_ context.Context, epoch int64, _, _ []dcs.Member) map[string]ha.Peer {
	p.froze = append(p.froze, epoch)
	return p.answers
}

// fakeWorker waits until it is told how to end.
type fakeWorker struct {
	end      chan error
	progress func(method string, done, total int64)
	actions  []ha.Action
}

var errWorker = errors.New("it did not work")

func (w *fakeWorker) Do(ctx context.Context, a ha.Action, progress func(method string, done, total int64)) (ha.Operation, error) {
	w.actions = append(w.actions, a)
	w.progress = progress
	progress("basebackup", 1, 2)
	select {
	case err := <-w.end:
		return ha.Operation{ShutdownLSN: 77, Timeline: 4, Divergence: ha.DivergenceFound, Damaged: true}, err
	case <-ctx.Done():
		return ha.Operation{}, ctx.Err()
	}
}
