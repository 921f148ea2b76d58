package loop

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/mem"
	"github.com/pgha/pgha/pkg/ha"
)

func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newRig(t)) })
}

func last(turns []ha.Decision) ha.Reason { return turns[len(turns)-1].Reason }

func TestStepSettles(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		wait, turns := r.step(t)
		if last(turns) != ha.LeaderNoAction || len(turns) != 3 {
			t.Fatalf("%d turns, the last: %s", len(turns), last(turns))
		}
		if wait <= 0 || wait > 10*time.Second {
			t.Errorf("waits %v", wait)
		}
		lease := r.Memory().Lease
		if lease.Epoch == 0 || r.leash.status.Armed != lease.Epoch || r.leash.status.Deadline != lease.Deadline {
			t.Errorf("lease %+v, leash %+v", lease, r.leash.status)
		}
		v := r.views[len(r.views)-1]
		if !v.IsLeader(r.Now()) || v.State != "running" || v.Role != "primary" {
			t.Errorf("view: leader %v, %s %s", v.IsLeader(r.Now()), v.State, v.Role)
		}
		if kv, ok := r.srv.Get(base + "/members/n1"); !ok || kv.LeaseID != r.client.Lease() {
			t.Error("the member key is not there, or without the lease")
		}
		if _, turns = r.step(t); len(turns) != 1 {
			t.Errorf("a second step makes %d turns", len(turns))
		}
	})
}

// TestLeads: over ten minutes the lease is renewed once a period and the
// deadline of the leash is always ahead.
func TestLeads(t *testing.T) {
	for name, hang := range map[string]bool{"answering server": false, "hung server": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.step(t)
				r.node.hang = hang
				begun := time.Now()
				for time.Since(begun) < 10*time.Minute {
					wait, _ := r.step(t)
					time.Sleep(wait)
					if l := r.Memory().Lease; !l.Held(r.Now()) || r.leash.status.Deadline != l.Deadline {
						t.Fatalf("after %v: lease %+v, leash %+v", time.Since(begun), l, r.leash.status)
					}
				}
				if n := len(r.leash.extends); n < 55 || n > 65 {
					t.Errorf("%d rounds in ten minutes", n)
				}
			})
		})
	}
}

// TestShortLease: the same under the shortest timing, where a hung server
// costs the most.
func TestShortLease(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.set.TTL, r.set.LoopWait, r.set.RetryTimeout = 5*time.Second, time.Second, time.Second
		r.step(t)
		r.node.hang = true
		for range 200 {
			wait, _ := r.step(t)
			time.Sleep(wait)
			if l := r.Memory().Lease; !l.Held(r.Now()) {
				t.Fatalf("lost it: %+v", l)
			}
		}
	})
}

func TestFailedActionBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.standby(t)
		r.node.facts.Upstream = "n3"
		r.node.follow = errors.New("cannot write postgresql.conf")
		begun := time.Now()
		for time.Since(begun) < time.Minute {
			wait, turns := r.step(t)
			if len(turns) > 2 {
				t.Fatalf("%d turns in one step", len(turns))
			}
			time.Sleep(wait)
		}
		if r.node.follows == 0 || r.node.follows > 20 {
			t.Errorf("%d attempts in a minute", r.node.follows)
		}
	})
}

func TestUnarmableLeashGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.leash.refuse = errors.New("socket is gone")
		r.step(t)
		_, turns := r.step(t)
		if turns[0].Reason != ha.LeaderUnarmed {
			t.Errorf("decided: %s", turns[0].Reason)
		}
	})
}

// TestUnknownOutcome: a claim without an answer is looked up past the watch,
// again and again if need be, and nothing else is done before.
func TestUnknownOutcome(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.standby(t)
		r.step(t)
		r.srv.Delete(base + "/leader")
		r.put("status", `{"optime":1000}`)
		r.client.SetAutoDeliver(false) // the watch is of no help
		r.store.faults[mem.OpClaim] = mem.AnswerLost
		wait, turns := r.step(t)
		if last(turns) != ha.ElectionWins || wait > time.Second {
			t.Fatalf("waits %v after %s", wait, last(turns))
		}
		if r.store.counts[mem.OpRead] != 0 {
			t.Fatal("reads before there was a reason")
		}
		r.store.faults[mem.OpRead] = mem.Unavailable
		if _, turns = r.step(t); last(turns) != ha.OfflineWaiting {
			t.Fatalf("with the read failing it decides: %s", last(turns))
		}
		if _, turns = r.step(t); last(turns) != ha.OfflineWaiting || r.store.counts[mem.OpRead] != 2 {
			t.Fatalf("a failed read is forgotten: %s after %d reads", last(turns), r.store.counts[mem.OpRead])
		}
		r.store.faults = map[mem.Op]mem.Fault{}
		_, turns = r.step(t)
		if turns[0].Reason != ha.TakeBackOwn || last(turns) != ha.OperationRuns {
			t.Errorf("decides %s, ..., %s", turns[0].Reason, last(turns))
		}
		if r.store.counts[mem.OpClaim] != 1 {
			t.Errorf("%d claims", r.store.counts[mem.OpClaim])
		}
	})
}

// TestRoundBudget: no round may take longer than what is left before the stop.
func TestRoundBudget(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.step(t)
		r.store.faults[mem.OpKeepAlive] = mem.Unavailable
		stop := r.Memory().Lease.StopAt()
		for range 100 {
			wait, _ := r.step(t)
			if synctest.Wait(); len(r.worker.actions) > 0 {
				break
			}
			time.Sleep(wait)
		}
		if len(r.store.budgets) < 5 {
			t.Fatalf("%d rounds", len(r.store.budgets))
		}
		for i, b := range r.store.budgets {
			if b > 10*time.Second {
				t.Errorf("round %d may take %v", i, b)
			}
		}
		if shortest := slices.Min(r.store.budgets); shortest > 2*time.Second {
			t.Errorf("near the end a round may still take %v", shortest)
		}
		if late := r.Now().Sub(stop); late > 1500*time.Millisecond {
			t.Errorf("gives up %v after the stop instant", late)
		}
		if n := len(r.worker.actions); n != 1 {
			t.Fatalf("%d operations", n)
		}
		if s, ok := r.worker.actions[0].(ha.Stop); !ok || s.Mode != ha.StopFast {
			t.Errorf("does %#v", r.worker.actions[0])
		}
	})
}

func TestMemberKeyRate(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.standby(t)
		r.node.moving = true
		r.step(t)
		before := r.store.counts[mem.OpPutMember]
		for range 600 { // an event every tenth of a second
			time.Sleep(100 * time.Millisecond)
			r.step(t)
		}
		if n := r.store.counts[mem.OpPutMember] - before; n < 6 || n > 13 {
			t.Errorf("%d writes of the member key in a minute, want one per half period", n)
		}
		if n := r.store.counts[mem.OpKeepAlive]; n < 6 || n > 13 {
			t.Errorf("%d keepalives in a minute", n)
		}
		before = r.store.counts[mem.OpPutMember]
		r.node.facts.Row.ReplicationState = ""
		r.step(t)
		if r.store.counts[mem.OpPutMember] != before+1 {
			t.Error("a change of state is not published at once")
		}
		r.srv.Revoke(r.client.Lease())
		before = r.store.counts[mem.OpPutMember]
		time.Sleep(10 * time.Second)
		r.step(t)
		r.step(t)
		if kv, ok := r.srv.Get(base + "/members/n1"); !ok || kv.LeaseID != r.client.Lease() || r.store.counts[mem.OpPutMember] == before {
			t.Error("a lost lease does not bring the key back")
		}
	})
}

func TestQuietMember(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.standby(t)
		r.step(t)
		before := r.store.counts[mem.OpPutMember]
		for range 60 {
			time.Sleep(time.Second)
			r.step(t)
		}
		if n := r.store.counts[mem.OpPutMember] - before; n != 0 {
			t.Errorf("%d writes of a key that did not change", n)
		}
	})
}

// An idle leader says once more what it is to whoever does not count on words from
// before: a member in quarantine, and everybody after it took its key anew.
func TestDoubtedLeader(t *testing.T) {
	for name, doubt := range map[string]func(r *rig){
		"a member in quarantine": func(r *rig) {
			r.put("members/n2", string((&dcs.Member{Name: "n2", State: "running", Role: "replica", Quarantine: "x"}).Encode()))
		},
		"the key was taken anew": func(r *rig) { r.srv.Delete(base + "/leader") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.step(t)
				time.Sleep(10 * time.Second)
				r.step(t)
				before, old := r.store.counts[mem.OpPutMember], r.srv.Revision()
				doubt(r)
				for range 5 {
					r.step(t)
					time.Sleep(10 * time.Second)
				}
				if key, _ := r.srv.Get(base + "/members/n1"); key.ModRevision <= old+1 {
					t.Errorf("the member key of revision %d is no newer than the doubt, %d", key.ModRevision, old+1)
				}
				if n := r.store.counts[mem.OpPutMember] - before; n != 1 {
					t.Errorf("%d writes of the leader's member key, want 1", n)
				}
			})
		})
	}
}

// A request that was given up long ago arrives after all, and says what is over.
func TestLateMemberWrite(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.standby(t)
		r.step(t)
		key := base + "/members/n1"
		good, _ := r.srv.Get(key)
		late := dcs.Member{Name: "n1", State: "starting", Role: "replica"}
		if _, err := r.srv.Put(key, late.Encode(), good.LeaseID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		r.step(t)
		if now, ok := r.srv.Get(key); !ok || string(now.Value) != string(good.Value) {
			t.Errorf("the key says %s, want %s", now.Value, good.Value)
		}
	})
}

func TestConfigure(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.step(t)
		r.step(t)
		if len(r.docs) != 1 || r.docs[0] != `{"ttl":30}` {
			t.Fatalf("told of %q", r.docs)
		}
		r.put("config", `{"ttl":40}`)
		r.step(t)
		if len(r.docs) != 2 || r.docs[1] != `{"ttl":40}` {
			t.Fatalf("told of %q", r.docs)
		}
		r.srv.Delete(base + "/config")
		r.set.Document = []byte(`{"ttl":40}`)
		r.step(t)
		if kv, _ := r.srv.Get(base + "/config"); string(kv.Value) != `{"ttl":40}` {
			t.Errorf("a missing /config is not restored: %q", kv.Value)
		}
		for _, doc := range r.docs { // scar 19: who is told nothing keeps what was in force
			if doc == "" {
				t.Errorf("told of a /config that is not there: %q", r.docs)
			}
		}
	})
}

// TestNewTTL: a longer or shorter ttl moves the keys to a new lease, and the
// epoch stays.
func TestNewTTL(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.step(t)
		epoch, lease := r.Memory().Lease.Epoch, r.client.Lease()
		r.set.TTL = 60 * time.Second
		time.Sleep(10 * time.Second)
		r.step(t)
		time.Sleep(10 * time.Second)
		r.step(t)
		l := r.Memory().Lease
		if l.Epoch != epoch || r.client.Lease() == lease || l.Timing.TTL != 60*time.Second {
			t.Errorf("epoch %d lease %d timing %+v", l.Epoch, r.client.Lease(), l.Timing)
		}
		r.set.TTL = 10 * time.Second
		time.Sleep(10 * time.Second)
		r.step(t)
		kv, _ := r.srv.Get(base + "/status")
		st, err := dcs.DecodeStatus(kv.Value)
		if err != nil || st.Beat.TTL != 60_000 {
			t.Errorf("while the old deadline binds, the beat announces %+v, %v", st.Beat, err)
		}
	})
}

// A longer ttl takes a longer time for an orderly stop. That is for the deadline that
// the next round brings, which would otherwise have no time at all.
func TestLongerTTLLeavesTimeForItsRound(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.set.TTL, r.set.LoopWait, r.set.RetryTimeout = 5*time.Second, time.Second, time.Second
		r.step(t)
		time.Sleep(time.Second)
		r.step(t)
		r.store.budgets = nil
		r.set.TTL = 30 * time.Second
		time.Sleep(time.Second)
		r.step(t)
		if len(r.store.budgets) == 0 || r.store.budgets[0] < 500*time.Millisecond {
			t.Errorf("rounds may take %v", r.store.budgets)
		}
	})
}

func TestNobodyAnswers(t *testing.T) { // an empty answer of Peers is no crash
	bubble(t, func(t *testing.T, r *rig) {
		r.standby(t)
		r.step(t)
		r.srv.Delete(base + "/leader")
		r.put("status", `{"optime":1000}`)
		_, turns := r.step(t)
		if r.peers.asked == 0 {
			t.Fatal("nobody was asked")
		}
		if got := r.Memory().Lease.Epoch; got == 0 {
			t.Errorf("no lease after %s", last(turns))
		}
	})
}

func TestExit(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.step(t)
		r.Stop()
		r.worker.end = make(chan error, 1)
		r.step(t)
		r.node.facts.Process, r.node.facts.Known = ha.ProcessDown, false
		r.node.facts.Control.State = "shut down"
		r.worker.end <- nil
		<-r.runner.Done()
		_, exit := r.Step(t.Context())
		if exit == nil || exit.Code != 0 {
			t.Fatalf("exit %+v", exit)
		}
		kv, _ := r.srv.Get(base + "/status")
		st, err := dcs.DecodeStatus(kv.Value)
		if err != nil || st.Beat == nil || !st.Beat.Released {
			t.Errorf("status %s", kv.Value)
		}
		if _, ok := r.srv.Get(base + "/leader"); ok {
			t.Error("the leader key is still there")
		}
		if kv, _ := r.srv.Get(base + "/members/n1"); !contains(kv.Value, `"state":"stopped"`) {
			t.Errorf("member key %s", kv.Value)
		}
	})
}

func contains(b []byte, s string) bool {
	for i := 0; i+len(s) <= len(b); i++ {
		if string(b[i:i+len(s)]) == s {
			return true
		}
	}
	return false
}

func TestTurnsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.standby(t)
		r.node.facts.Upstream = "n3" // and Follow never changes that
		wait, turns := r.step(t)
		if len(turns) != maxTurns+1 || wait != time.Second {
			t.Errorf("%d turns, waits %v", len(turns), wait)
		}
	})
}

// TestEndWithItsDirectory: the end of an operation is told together with the directory
// that it left. A restored one that still looked half-made ended the restore as failed.
func TestEndWithItsDirectory(t *testing.T) {
	for _, c := range []struct {
		kind ha.OpKind
		old  bool
		want bool
	}{
		{ha.OpRestore, true, true}, {ha.OpClone, true, true}, {ha.OpRestore, false, false},
		{ha.OpStop, true, false}, // the key of a stopped leader waits for no disk
	} {
		r := newRig(t)
		r.node.facts.Old = c.old
		r.Ops = ended{op: ha.Operation{Kind: c.kind, Serial: 7}}
		if o := r.observe(t.Context()); o.Op.Running != c.want {
			t.Errorf("%s, old %v: running %v", c.kind, c.old, o.Op.Running)
		}
	}
}

// ended is an operation that has.
type ended struct {
	Operator
	op ha.Operation
}

func (e ended) Poll() ha.Operation { return e.op }

// shows is an etcd of one snapshot.
type shows struct {
	dcs.Store
	c *dcs.Cluster
}

func (s *shows) Snapshot(context.Context) (*dcs.Cluster, error) { return s.c, nil }

// TestConfigOfAnotherPast: an etcd that went back uses a revision a second time, for
// another /config.
func TestConfigOfAnotherPast(t *testing.T) {
	l, etcd := newRig(t).Loop, &shows{}
	var applied []string
	etcd.Store, l.DCS = l.DCS, etcd
	l.Configure = func(_ context.Context, doc []byte) { applied = append(applied, string(doc)) }
	for _, doc := range []string{`{"ttl":30}`, `{"ttl":30}`, `{"ttl":20}`} {
		etcd.c = &dcs.Cluster{Config: &dcs.Config{Raw: []byte(doc), ModRevision: 7}}
		l.look(t.Context())
	}
	if !slices.Equal(applied, []string{`{"ttl":30}`, `{"ttl":20}`}) {
		t.Errorf("applied %q", applied)
	}
}

// written keeps what was put.
type written struct {
	dcs.Store
	puts []dcs.Write
}

func (w *written) Put(_ context.Context, put dcs.Write) error {
	w.puts = append(w.puts, put)
	return nil
}

// TestWritesAreGuarded (S10): every write made in leader role carries the epoch of
// the leadership, and every other one the revision that it replaces.
func TestWritesAreGuarded(t *testing.T) {
	store := &written{}
	l := newRig(t).Loop
	l.DCS = store
	o := &ha.Observation{DCS: ha.DCS{Cluster: &dcs.Cluster{Status: &dcs.Status{}}}}
	o.Memory.Lease = ha.Lease{Epoch: 7, Deadline: l.Now().Add(time.Hour)}
	led := map[dcs.Key]bool{dcs.KeyStatus: true, dcs.KeySync: true, dcs.KeyHistory: true, dcs.KeyFailsafe: true, dcs.KeyFailover: true}
	for _, a := range []ha.Action{
		ha.WriteHistory{}, ha.WriteFailsafe{}, ha.WriteSync{}, ha.CleanFailover{Revision: 3},
		ha.WriteInitialize{SystemID: "1"}, ha.WriteConfig{}, ha.WriteRestore{}, ha.PublishReleased{},
	} {
		before := len(store.puts)
		l.act(t.Context(), o, a)
		if len(store.puts) != before+1 {
			t.Errorf("%T puts %d keys", a, len(store.puts)-before)
			continue
		}
		switch put := store.puts[before]; {
		case led[put.Key] && put.Epoch != 7 && !(put.NoLeader && put.Revision != nil):
			t.Errorf("%T writes %s without the epoch", a, put.Key)
		case put.Epoch == 0 && put.Revision == nil:
			t.Errorf("%T writes %s without a guard", a, put.Key)
		}
	}
}

// TestAsk: an election asks as it is, a request of an operator patiently, and a
// ballot has the members freeze; who did not answer is in the answers, too.
func TestAsk(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.peers.answers = map[string]ha.Peer{"n2": {Reachable: true, Position: 7}}
		question := ha.AskPeers{Await: []dcs.Member{{Name: "n2"}, {Name: "n3"}}, Timeout: time.Second}
		patient, ballot := question, question
		patient.Patient, ballot.Ballot = true, ha.Ballot{Epoch: 5}
		for _, a := range []ha.AskPeers{question, patient, ballot} {
			r.peers.asked, r.peers.patient, r.peers.froze = 0, 0, nil
			r.ask(t.Context(), a)
			if plain := !a.Patient && a.Ballot.Epoch == 0; (r.peers.asked == 1) != plain || (r.peers.patient == 1) != a.Patient || slices.Equal(r.peers.froze, []int64{5}) != (a.Ballot.Epoch == 5) {
				t.Errorf("%+v asked as %+v", a, r.peers)
			}
			if got := r.Loop.peers; got.Answers["n2"].Reachable == (r.peers.asked == 1) || len(got.Answers) != 2 || got.Ballot != a.Ballot {
				t.Errorf("%+v answered %+v", a, got)
			}
		}
	})
}
