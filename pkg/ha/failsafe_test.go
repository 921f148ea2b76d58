package ha

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// failsafeOn turns the mode on, with everybody in /failsafe.
func failsafeOn(o *Observation) {
	o.Settings.Failsafe = true
	f := &dcs.Failsafe{Members: map[string]string{}, ModRevision: 50}
	for _, name := range []string{"n1", "n2", "n3"} {
		f.Members[name] = "http://" + name + ":8008/patroni"
	}
	o.DCS.Cluster.Failsafe = f
}

// failsafeDue: the mode is on, and a round is due that follows one in vain.
func failsafeDue(o *Observation) {
	failsafeOn(o)
	o.Now = plus(10 * sec)
	o.Memory.Lease.Attempt = plus(8 * sec)
	o.DCS.Fresh = false
}

// agreedRound: everybody said yes to a round sent before.
func agreedRound(o *Observation, before time.Duration) {
	t, _ := NewTiming(30*sec, 10*sec, 10*sec)
	o.Failsafe = FailsafeRound{Epoch: myEpoch, Sent: o.Now.Add(-before), Timing: t, Complete: true}
}

func beside(d Decision) *AskFailsafe {
	r, _ := d.Action.(Renew)
	return r.Beside
}

func names(members []dcs.Member) string {
	var out []string
	for _, mem := range members {
		out = append(out, mem.Name)
	}
	return strings.Join(out, " ")
}

func TestFailsafeAsks(t *testing.T) {
	o := base()
	failsafeDue(o)
	a := beside(decide(o))
	if a == nil || names(a.Members) != "n2 n3" || a.After != 0 || a.Epoch != myEpoch || a.Timing.TTL != 30*sec {
		t.Fatalf("asks %+v", a)
	}
	if stop := o.Memory.Lease.StopAt(); a.Until >= stop || a.Until <= o.Now {
		t.Errorf("answers until %v, the stop begins at %v", a.Until, stop)
	}
	o.Memory.Lease.Attempt = o.Memory.Lease.Renewed
	if a = beside(decide(o)); a == nil || a.After <= 0 || o.Now.Add(a.After) >= a.Until {
		t.Errorf("after a round that succeeded: %+v", a)
	}
	t.Run("of an etcd that can be read", func(t *testing.T) { // and takes no writes: renewals fail
		o.DCS.Fresh = true
		if a := beside(decide(o)); a == nil {
			t.Error("nobody is asked")
		}
	})
}

func TestFailsafeDoesNotAsk(t *testing.T) {
	for name, change := range map[string]func(o *Observation){
		"mode off":           func(o *Observation) { o.Settings.Failsafe = false },
		"no /failsafe":       func(o *Observation) { o.DCS.Cluster.Failsafe = nil },
		"not in it":          func(o *Observation) { delete(o.DCS.Cluster.Failsafe.Members, "n1") },
		"paused":             func(o *Observation) { o.Settings.Pause = true },
		"handing over":       func(o *Observation) { o.Memory.Demoting = true; runs(o, OpStop) },
		"a round runs":       func(o *Observation) { o.Failsafe = FailsafeRound{Running: true, Epoch: myEpoch} },
		"one just held":      func(o *Observation) { agreedRound(o, sec) },
		"the stop has begun": func(o *Observation) { o.Now = o.Memory.Lease.StopAt() },
		"no leader":          func(o *Observation) { lost(o) },
	} {
		o := base()
		failsafeDue(o)
		change(o)
		if a := beside(decide(o)); a != nil {
			t.Errorf("%s: asks %+v", name, a)
		}
	}
}

// TestFailsafeUnion: a value of /failsafe that may arrive yet lets its members
// race, so that they are asked, too.
func TestFailsafeUnion(t *testing.T) {
	o := base()
	failsafeDue(o)
	o.Memory.FailsafeSent = FailsafeWrite{Revision: 50, Members: map[string]string{"n1": "u"}, Any: map[string]string{"n1": "u", "n4": "http://n4/"}}
	if a := beside(decide(o)); a == nil || names(a.Members) != "n2 n3 n4" {
		t.Errorf("asks %+v", a)
	}
	o.Memory.FailsafeSent.Revision = 40
	if a := beside(decide(o)); a == nil || names(a.Members) != "n2 n3" {
		t.Errorf("after another write asks %+v", a)
	}
	before := o.DCS.Cluster.Failsafe
	o.DCS.Cluster.Failsafe = &dcs.Failsafe{ModRevision: 51, Members: map[string]string{"n1": "u", "n4": "http://n4/"}}
	o.Memory = decide(o).Memory
	o.DCS.Cluster.Failsafe = before
	o.Memory.Lease.Attempt = plus(8 * sec)
	if a := beside(decide(o)); a == nil || names(a.Members) != "n2 n3 n4" {
		t.Errorf("after a stale read asks %+v", a)
	}
}

func TestFailsafeExtends(t *testing.T) {
	at := func(o *Observation) { // past the stop instant of the old lease
		failsafeDue(o)
		o.Now = plus(21 * sec)
		o.Memory.Lease.Attempt = plus(20900 * time.Millisecond)
	}
	o := base()
	at(o)
	agreedRound(o, 4*sec)
	d := decide(o)
	l := d.Memory.Lease
	if d.Reason != FailsafeHolds || l.Deadline != o.Failsafe.Sent.Add(l.Timing.Budget) || l.Renewed != o.Memory.Lease.Renewed || l.Beat != 7 {
		t.Fatalf("%s with lease %+v", d.Reason, l)
	}
	if v := NewView(o, &d); !v.IsLeader(o.Now) || !v.FailsafeActive(o.Now) || v.FailsafeActive(o.Now.Add(30*sec)) {
		t.Errorf("view: leader %v, active until %v", v.IsLeader(o.Now), v.FailsafeUntil)
	}
	for name, change := range map[string]func(o *Observation){
		"incomplete":           func(o *Observation) { o.Failsafe.Complete = false },
		"still running":        func(o *Observation) { o.Failsafe.Running, o.Failsafe.Complete = true, false },
		"of another epoch":     func(o *Observation) { o.Failsafe.Epoch = 99 },
		"etcd says not yours":  func(o *Observation) { did(o, Renew{}, ResultConflict) },
		"another leader shows": func(o *Observation) { o.DCS.Fresh = true; o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 120} },
	} {
		o := base()
		at(o)
		o.Now = plus(22 * sec)
		agreedRound(o, 4*sec)
		change(o)
		if d := decide(o); d.Memory.Lease.Epoch != 0 {
			t.Errorf("%s: %s, lease %+v", name, d.Reason, d.Memory.Lease)
		}
	}
}

// TestFailsafeBeforeARound: what the members agreed to before etcd confirmed the leadership
// again is over, and so is its timing: a longer stop would end the new lease at once.
func TestFailsafeBeforeARound(t *testing.T) {
	o := base()
	agreedRound(o, 2*sec) // the lease was renewed a second ago
	o.Failsafe.Timing, _ = NewTiming(60*sec, 10*sec, 10*sec)
	if d := decide(o); d.Memory.Lease != o.Memory.Lease {
		t.Errorf("%s: the lease became %+v", d.Reason, d.Memory.Lease)
	}
}

// TestFailsafeTTL: the lease time in force when the question left counts, and
// what was agreed to is announced as long as it binds.
func TestFailsafeTTL(t *testing.T) {
	long, _ := NewTiming(30*sec, 10*sec, 10*sec)
	short, _ := NewTiming(8*sec, sec, 2*sec)
	l := Claimed(myEpoch, noon, short).Agree(plus(sec), long)
	if l.Deadline != plus(sec).Add(long.Budget) || l.Announce(plus(2*sec), short) != 30*sec {
		t.Errorf("lease %+v announces %v", l, l.Announce(plus(2*sec), short))
	}
	l = Claimed(myEpoch, noon, long).Agree(plus(sec), short)
	if l.Deadline != noon.Add(long.Budget) || l.Announce(plus(2*sec), short) != 30*sec {
		t.Errorf("the shorter one takes back: %+v", l)
	}
}

// TestFailsafeEnds: etcd answers again and the key has expired: rule (d), also
// when the last beat that arrived is one of an outcome unknown.
func TestFailsafeEnds(t *testing.T) {
	for beat, want := range map[int64]Reason{7: LeaseRenewal, 8: LeaseRenewal, 9: DemoteNoLock} {
		o := base()
		failsafeDue(o)
		o.Now = plus(21 * sec)
		agreedRound(o, 3*sec)
		o.DCS.Fresh, o.DCS.Cluster.Leader = true, nil
		o.DCS.Cluster.Status.Beat.Beat = beat
		d := decide(o)
		if _, claims := d.Action.(Claim); d.Reason != want || claims != (want == LeaseRenewal) {
			t.Errorf("beat %d: %T %s", beat, d.Action, d.Reason)
		}
	}
}

func TestFailsafeIsWritten(t *testing.T) {
	o := base()
	failsafeOn(o)
	if d := decide(o); d.Reason != LeaderNoAction {
		t.Errorf("unchanged: %s", d.Reason)
	}
	mem(o, "n3").APIURL = ""
	d := decide(o)
	w, _ := d.Action.(WriteFailsafe)
	if d.Reason != LeaderWritesFailsafe || w.Revision != 50 || len(w.Members) != 2 || w.Members["n1"] == "" || w.Members["n2"] == "" {
		t.Fatalf("%s %+v", d.Reason, w)
	}
	o.Memory = d.Memory
	did(o, d.Action, ResultUnknown)
	if d = decide(o); d.Reason != LeaderWritesFailsafe {
		t.Errorf("unknown outcome: %s", d.Reason)
	}
	did(o, d.Action, ResultOK)
	if d = decide(o); d.Reason != LeaderNoAction { // one write for one change, though the watch lags
		t.Errorf("written: %s", d.Reason)
	}
	o.Settings.Failsafe = false
	o.Memory.FailsafeSent = FailsafeWrite{}
	if d = decide(o); d.Reason != LeaderNoAction {
		t.Errorf("mode off: %s", d.Reason)
	}
}

// A member that /failsafe names only now has promised nothing: it is named when
// a beat binds it, and nobody's answer alone holds the leader.
func TestFailsafeIsNotWrittenUnderPromises(t *testing.T) {
	for name, change := range map[string]func(*Observation){
		"a round is under way":        func(o *Observation) { o.Failsafe.Running = true },
		"the leader lives by a round": func(o *Observation) { o.Memory.Lease.Agreed = o.Memory.Lease.Renewed + 1 },
	} {
		o := base()
		failsafeOn(o)
		mem(o, "n3").APIURL = "http://elsewhere:8008/patroni"
		change(o)
		if d := decide(o); d.Reason == LeaderWritesFailsafe {
			t.Errorf("%s: %s", name, d.Text("n1"))
		}
	}
}

func TestFailsafePromise(t *testing.T) {
	o := base()
	leaderless(o)
	failsafeOn(o)
	o.Promise = Promise{Leader: "n2", Until: plus(7 * sec)}
	if d := decide(o); d.Reason != FailsafeFollows || d.Wait > 7*sec || !strings.Contains(d.Text("n1"), "(n2)") {
		t.Errorf("%s, waits %v", d.Text("n1"), d.Wait)
	}
	o.DCS.Fresh = false
	if d := decide(o); d.Reason != FailsafeFollows {
		t.Errorf("without etcd: %s", d.Reason)
	}
	o.DCS.Fresh = true
	o.DCS.Cluster.Status.Beat.Released = true
	if d := decide(o); d.Reason != ElectionWins {
		t.Errorf("that leadership ended in good order: %s", d.Reason)
	}
	o.Memory.LastLeader = "n3"
	if d := decide(o); d.Reason != FailsafeFollows {
		t.Errorf("another leader's leadership ended in good order: %s", d.Reason)
	}
	o.DCS.Cluster.Status.Beat.Released = false
	o.Promise.Until = noon
	if d := decide(o); d.Reason != ElectionWins {
		t.Errorf("the promise is over: %s", d.Reason)
	}
	o.Promise.Until = plus(sec) // a claim of before arrived late: not acted on
	o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: 140}
	o.DCS.Cluster.Status.Beat = &dcs.Beat{Holder: "h1", TTL: 30000}
	if d := decide(o); d.Reason != FailsafeFollows || d.Action != nil {
		t.Errorf("own key: %T %s", d.Action, d.Reason)
	}
}

// TestFailsafeRace: 2.1.9, and those asked that only /failsafe knows.
func TestFailsafeRace(t *testing.T) {
	o := base()
	leaderless(o)
	failsafeOn(o)
	delete(o.DCS.Cluster.Failsafe.Members, "n1")
	if d := decide(o); d.Reason != ElectionRefused || !strings.Contains(d.Detail, "/failsafe") {
		t.Errorf("not in it: %s", d.Text("n1"))
	}
	failsafeOn(o)
	o.DCS.Cluster.Failsafe.Members["n9"] = "http://n9:8008/patroni"
	o.Peers.AskedAt = plus(-sec)
	d := decide(o)
	if ask, _ := d.Action.(AskPeers); !strings.Contains(names(ask.Await), "n9") || names(ask.Glance) != "n2" {
		t.Errorf("%s: %+v", d.Reason, d.Action)
	}
	o.Settings.Failsafe = false
	if ask, _ := decide(o).Action.(AskPeers); strings.Contains(names(ask.Await), "n9") {
		t.Error("asks it with the mode off, too")
	}
}

func TestMayPromise(t *testing.T) {
	for name, c := range map[string]struct {
		change func(o *Observation)
		want   bool
	}{
		"replica":        {replica, true},
		"leader":         {func(*Observation) {}, false},
		"claims":         {leaderless, false},
		"armed leash":    {func(o *Observation) { replica(o); o.Leash.Armed = 7 }, false},
		"primary":        {func(o *Observation) { replica(o); o.PG.Row.InRecovery = false }, false},
		"primary unsure": {func(o *Observation) { replica(o); o.PG.Known = false; o.Memory.Primary = true }, false},
	} {
		o := base()
		c.change(o)
		d := decide(o)
		if got := MayPromise(o, &d); got != c.want {
			t.Errorf("%s: %v (%s)", name, got, d.Reason)
		}
	}
}

// TestFailsafeBefore: an etcd that went back, twice even, names fewer of those who
// may race than the one of before.
func TestFailsafeBefore(t *testing.T) {
	o := base()
	failsafeOn(o)
	seen(o)
	o.DCS.Cluster.Revision = 5001
	o.Memory.FailsafeSeen = &dcs.Failsafe{ModRevision: 4000, Members: map[string]string{"n1": "u"}} // of the first etcd
	o.Memory = decide(o).Memory
	failsafeDue(o)
	o.DCS.Fresh, o.DCS.Cluster.Revision = true, 90
	o.DCS.Cluster.Failsafe = &dcs.Failsafe{ModRevision: 45, Members: map[string]string{"n1": "u"}}
	if a := beside(decide(o)); a == nil || names(a.Members) != "n2 n3" {
		t.Errorf("asks %+v", a)
	}
}
