package loop

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs/mem"
	"github.com/pgha/pgha/pkg/ha"
)

// fakeFailsafe answers at once, when it is asked to.
type fakeFailsafe struct {
	now   func() ha.Instant
	agree bool
	begun []ha.AskFailsafe
	ends  int
	round ha.FailsafeRound
}

func (f *fakeFailsafe) Begin(a ha.AskFailsafe) {
	f.begun = append(f.begun, a)
	f.round = ha.FailsafeRound{Running: true, Epoch: a.Epoch, Timing: a.Timing, Sent: f.now()}
}

// Poll shows the round as ended once its After is over.
func (f *fakeFailsafe) Poll() ha.FailsafeRound {
	if n := len(f.begun); f.round.Running && f.now() > f.round.Sent.Add(f.begun[n-1].After) {
		f.round.Running, f.round.Complete = false, f.agree
	}
	return f.round
}

func (f *fakeFailsafe) Cancel() { f.ends++; f.round = ha.FailsafeRound{} }

// withFailsafe leads, with n2 in /failsafe, too.
func withFailsafe(t *testing.T, r *rig, agree bool) *fakeFailsafe {
	t.Helper()
	f := &fakeFailsafe{now: r.Now, agree: agree}
	r.Failsafe, r.Promises = f, &Promises{}
	r.set.Failsafe = true
	r.put("members/n2", `{"conn_url":"postgres://n2/postgres","api_url":"http://n2:8008/patroni","state":"running","role":"replica","version":"4.1.4"}`)
	r.step(t)
	if kv, ok := r.srv.Get(base + "/failsafe"); !ok || string(kv.Value) != `{"n1":"http://n1:8008/patroni","n2":"http://n2:8008/patroni"}` {
		t.Fatalf("/failsafe: %s", kv.Value)
	}
	return f
}

// TestFailsafeOutage: etcd is away for ten minutes. While everybody agrees, the
// deadline of the leash is always ahead; without that, the server is stopped.
func TestFailsafeOutage(t *testing.T) {
	for name, agree := range map[string]bool{"everybody agrees": true, "somebody is silent": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				f := withFailsafe(t, r, agree)
				epoch := r.Memory().Lease.Epoch
				r.client.SetPartitioned(true)
				begun, demoted := time.Now(), false
				for time.Since(begun) < 10*time.Minute && !demoted {
					wait, turns := r.step(t)
					for _, d := range turns {
						demoted = demoted || d.Reason == ha.DemoteOffline
					}
					if l := r.Memory().Lease; !demoted && (!l.Held(r.Now()) && agree || r.leash.status.Deadline <= r.Now()) {
						t.Fatalf("after %v: lease %+v, leash %+v", time.Since(begun), l, r.leash.status)
					}
					if l := r.Memory().Lease; !demoted && l.Epoch != 0 && r.leash.status.Deadline != l.Deadline {
						t.Fatalf("the leash has %v, the lease %+v", r.leash.status.Deadline, l)
					}
					if !demoted {
						time.Sleep(wait)
					}
				}
				if demoted == agree || len(f.begun) == 0 {
					t.Fatalf("demoted %v, asked %d times", demoted, len(f.begun))
				}
				if !agree {
					if took := time.Since(begun); took > 22*time.Second {
						t.Errorf("demotes after %v", took)
					}
					return
				}
				if n := len(f.begun); n > 130 {
					t.Errorf("asked %d times in ten minutes", n)
				}
				r.client.SetPartitioned(false)
				for range 5 {
					wait, _ := r.step(t)
					time.Sleep(min(wait, time.Second))
				}
				l := r.Memory().Lease
				if kv, ok := r.srv.Get(base + "/leader"); !ok || kv.CreateRevision != l.Epoch || l.Epoch == epoch || l.Agreed > l.Renewed {
					t.Errorf("etcd is back: lease %+v, key %+v", l, kv)
				}
			})
		})
	}
}

// TestFailsafeBeside: a renewal that succeeds ends the round beside it, and
// nobody is asked before its share of the time is over.
func TestFailsafeBeside(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		f := withFailsafe(t, r, true)
		time.Sleep(10 * time.Second)
		r.step(t)
		if len(f.begun) != 1 || f.begun[0].After <= 0 || f.ends != 1 {
			t.Errorf("begun %+v, ended %d", f.begun, f.ends)
		}
		if l := r.Memory().Lease; l.Agreed != 0 || l.Renewed == 0 {
			t.Errorf("lease %+v", l)
		}
	})
}

// TestFailsafeRefused: etcd's no is final, whatever the members say.
func TestFailsafeRefused(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		f := withFailsafe(t, r, true)
		r.client.SetAutoDeliver(false)
		r.srv.Delete(base + "/leader")
		lease := r.srv.GrantLease(time.Hour)
		if _, err := r.srv.Put(base+"/leader", []byte("n2"), lease); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		f.agree = true
		if _, turns := r.step(t); last(turns) == ha.LeaderNoAction || r.Memory().Lease.Epoch != 0 {
			t.Errorf("%s, lease %+v", last(turns), r.Memory().Lease)
		}
	})
}

// TestPromises: given only while this node neither leads nor claims, and a claim
// is not sent while one binds.
func TestPromises(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.Promises = &Promises{}
		if r.Promises.Accept("n2", r.Now().Add(time.Minute)) {
			t.Error("before the first turn")
		}
		r.standby(t)
		r.step(t)
		if !r.Promises.Accept("n2", r.Now().Add(time.Minute)) || !r.Promises.Accept("n2", r.Now().Add(time.Second)) {
			t.Fatal("a replica refuses")
		}
		r.srv.Delete(base + "/leader")
		r.put("status", `{"optime":1000}`)
		if _, turns := r.step(t); last(turns) != ha.FailsafeFollows {
			t.Fatalf("decides: %s", last(turns))
		}
		o := ha.Observation{Settings: r.set} // one made just before the promise
		o.DCS.Cluster = r.Loop.cluster
		if out := r.claim(t.Context(), &o, ha.Claim{}); out.Result != ha.ResultFailed || r.store.counts[mem.OpClaim] != 0 {
			t.Errorf("claims all the same: %+v", out)
		}
		if out := r.takeBack(t.Context(), &o, ha.TakeBack{Epoch: 3}); out.Result != ha.ResultFailed {
			t.Errorf("takes back all the same: %+v", out)
		}
		time.Sleep(time.Minute)
		for range 5 {
			wait, _ := r.step(t)
			time.Sleep(wait)
		}
		if r.Memory().Lease.Epoch == 0 {
			t.Fatalf("never leads: %s", last(r.turns))
		}
		if r.Promises.Accept("n2", r.Now().Add(time.Minute)) {
			t.Error("a leader promises")
		}
	})
}

// TestPromiseForAnEndedLeadership does not bind.
func TestPromiseForAnEndedLeadership(t *testing.T) {
	p := &Promises{open: true}
	p.Accept("n2", 100)
	p.Accept("n3", 60) // who is freed by nothing that ends
	if p.close(50, "") || p.close(50, "n3") || !p.close(50, "n2") || p.newest() != (ha.Promise{}) || p.Accept("n2", 200) {
		t.Errorf("%+v", p)
	}
	var none *Promises
	if none.set(true); !none.close(1, "") || none.newest() != (ha.Promise{}) {
		t.Error("without a book")
	}
}
