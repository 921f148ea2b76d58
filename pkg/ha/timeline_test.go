package ha

import (
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
)

// TestNumberIsPublishedFirst (S2): the claim says which number its promotion may
// give, past every number that was given or may have been, and no promotion begins
// before that stands in etcd.
func TestNumberIsPublishedFirst(t *testing.T) {
	for name, test := range map[string]struct {
		change func(o *Observation)
		next   timeline
	}{
		"nothing is known": {func(*Observation) {}, 2},
		"a claim came to nothing or its primary died": {func(o *Observation) { o.DCS.Cluster.Status.Beat.Next = 2 }, 3},
		"the last primary wrote":                      {func(o *Observation) { o.DCS.Cluster.Status.Beat.Timeline, o.PG.Row.Timeline = 4, 4 }, 5},
		"/history knows more": {func(o *Observation) {
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 7}}}
			o.PG.Row.Timeline = 8
		}, 9},
		"my control file is ahead of what is known": {func(o *Observation) { o.PG.Control.Timeline, o.DCS.Cluster.Status.Beat.Next = 6, 3 }, 7},
		"I am ahead of what is known":               {func(o *Observation) { o.PG.Row.Timeline, o.DCS.Cluster.Status.Beat.Next = 6, 3 }, 7},
	} {
		o := base()
		leaderless(o)
		test.change(o)
		b := ClaimStatus(o, noon, o.Memory.Lease.Timing).Beat
		if b.Next != test.next {
			t.Errorf("%s: the claim publishes %d, want %d", name, b.Next, test.next)
		}
	}
	o := base()
	o.PG.Row.Timeline, o.DCS.Cluster.Status.Beat.Next = 5, 3
	if b := ClaimStatus(o, noon, o.Memory.Lease.Timing).Beat; b.Timeline != 5 || b.Next != 0 {
		t.Errorf("a running primary claims with %+v", b)
	}
	if st := ReleasedStatus(o, myEpoch, 0); st.Beat.Next != 3 {
		t.Errorf("forgotten at the release: %+v", st.Beat)
	}
}

// TestNumbersDoNotFall: a beat whose answer was lost may have been seen, so a later
// one, of a server that died since, and the release do not say less.
func TestNumbersDoNotFall(t *testing.T) {
	o := base()
	o.DCS.Cluster.Status.Beat.Timeline, o.DCS.Cluster.Status.Beat.Next, o.PG.Row.Timeline = 4, 6, 5
	m := decide(o).Memory
	o = base()
	o.Memory, o.PG.Known, o.DCS.Cluster.Status.Beat.Timeline = m, false, 4
	o.PG.Process = ProcessDown
	for what, st := range map[string]dcs.Status{"beat": NextStatus(o, noon, o.Memory.Lease.Timing), "release": ReleasedStatus(o, myEpoch, 0)} {
		if st.Beat.Timeline != 5 || st.Beat.Next != 6 {
			t.Errorf("%s: %+v", what, st.Beat)
		}
	}
	o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: myEpoch + 1}
	if m = decide(o).Memory; m.Numbers != (Numbers{}) {
		t.Errorf("kept after another led: %+v", m.Numbers)
	}
}

// TestNoPromotionToAnUnknownNumber: what makes a promotion wait for a round first.
func TestNoPromotionToAnUnknownNumber(t *testing.T) {
	for name, change := range map[string]func(o *Observation){
		"no number":            func(o *Observation) { o.DCS.Cluster.Status.Beat.Next = 0 },
		"another's number":     func(o *Observation) { o.DCS.Cluster.Status.Beat.Holder = "h2" },
		"of another epoch":     func(o *Observation) { o.DCS.Cluster.Status.Beat.Epoch = 90 },
		"a newer one was seen": func(o *Observation) { o.PG.Row.Timeline = 2 },
		"no beat":              func(o *Observation) { o.DCS.Cluster.Status.Beat = nil },
	} {
		o := base()
		standbyLeaderToBe(o)
		change(o)
		d := decide(o)
		if _, renews := d.Action.(Renew); !renews {
			t.Errorf("%s: %s", name, d.Text("n1"))
		}
		o.Memory, o.Last = d.Memory, Outcome{Action: Renew{}, Result: ResultUnknown, Sent: o.Now, Timing: o.Memory.Lease.Timing}
		if d := decide(o); d.Action != nil {
			t.Errorf("%s, the round not answered: %s", name, d.Text("n1"))
		}
		st := NextStatus(o, o.Now, o.Memory.Lease.Timing)
		st.ModRevision = 131
		o.DCS.Cluster.Status, o.Last.Result, o.Last.Beat = &st, ResultOK, st.Beat.Beat
		if d := decide(o); d.Action != (Promote{From: o.PG.Row.Timeline, Timeline: st.Beat.Next, Until: d.Memory.Lease.Deadline}) {
			t.Errorf("%s, published %+v: %s", name, st.Beat, d.Text("n1"))
		}
	}
}

// TestClusterTimeline (S2): what a candidate must have reached. The end of a
// restore counts for as long as anybody remembers it, whatever came of the next.
func TestClusterTimeline(t *testing.T) {
	for name, test := range map[string]struct {
		c    dcs.Cluster
		want timeline
	}{
		"nothing is known": {dcs.Cluster{}, 0},
		"/history":         {dcs.Cluster{History: &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 2}}}}, 3},
		"a beat":           {dcs.Cluster{Status: &dcs.Status{Beat: &dcs.Beat{Timeline: 4}}}, 4},
		"a restore, and a Patroni leader since": {dcs.Cluster{
			Restore: &dcs.Restore{State: dcs.RestoreDone, Timeline: 5}, Status: &dcs.Status{}}, 5},
		"a restore, and a primary since": {dcs.Cluster{
			Restore: &dcs.Restore{State: dcs.RestoreDone, Timeline: 5}, Status: &dcs.Status{Beat: &dcs.Beat{Timeline: 6}}}, 6},
		"the next order failed": {dcs.Cluster{
			Restore: &dcs.Restore{State: dcs.RestoreFailed}, Status: &dcs.Status{Beat: &dcs.Beat{Timeline: 5, Next: 6}}}, 5},
	} {
		if got := clusterTimeline(&test.c); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
