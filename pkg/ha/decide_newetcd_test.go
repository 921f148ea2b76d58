package ha

import (
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// unledEtcd: an operator accepted what etcd holds, and nobody has led in it since.
func unledEtcd(o *Observation) {
	leaderless(o)
	o.Memory.Seen.Stale = 200
	o.PG.Row.Timeline = 4
	answered(o, on(4, 1000), on(4, 1000))
}

// on is a standby that tells its timeline.
func on(tl timeline, at wal.LSN) Peer {
	p := standbyPeer(at)
	p.Timeline = tl
	return p
}

// TestElectionInNewEtcd: what etcd does not know any more, the members tell.
func TestElectionInNewEtcd(t *testing.T) {
	runTable(t, []row{
		{name: "all have told", change: unledEtcd, action: Claim{}, reason: ElectionWins},
		{name: "a server still starts", change: func(o *Observation) { unledEtcd(o); answered(o, on(4, 1000), Peer{}) }, reason: ElectionWaitsForAll,
			check: func(t *testing.T, d Decision) {
				if d.Wait > settling {
					t.Errorf("looks again after %s", d.Wait)
				}
			}},
		{name: "for one lease time", change: func(o *Observation) {
			unledEtcd(o)
			answered(o, on(4, 1000), Peer{})
			o.Memory.Leaderless = plus(-30 * sec)
		}, action: Claim{}, reason: ElectionWins},
		{name: "not when an operator names the new leader", change: func(o *Observation) {
			unledEtcd(o)
			answered(o, on(4, 1000), Peer{})
			failover(o, "", "n1")
			o.DCS.Cluster.Failover.ModRevision = 201
		}, action: Claim{}, reason: ElectionWins},
		{name: "not once somebody has led", change: func(o *Observation) {
			unledEtcd(o)
			answered(o, on(4, 1000), Peer{})
			o.DCS.Cluster.Status.ModRevision, o.Memory.SeenStatus = 201, 201
		}, action: Claim{}, reason: ElectionWins},
		{name: "nor where an intact etcd was trusted all the time", change: func(o *Observation) {
			unledEtcd(o)
			answered(o, on(4, 1000), Peer{})
			o.Memory.Seen.Stale = 0
		}, action: Claim{}, reason: ElectionWins},
		{name: "the claim of a bootstrap that etcd went back to is nobody's any more", change: func(o *Observation) {
			unledEtcd(o)
			o.DCS.Cluster.Initialize = &dcs.Initialize{ModRevision: 190}
		}, action: WriteInitialize{}, reason: ClaimsInitialize},
		{name: "one that was made since is", change: func(o *Observation) {
			unledEtcd(o)
			o.DCS.Cluster.Initialize = &dcs.Initialize{ModRevision: 201}
		}, reason: ElectionRefused},
		{name: "somebody deleted /status", change: func(o *Observation) {
			unledEtcd(o)
			answered(o, on(4, 1000), Peer{})
			o.Memory.Seen.Stale, o.DCS.Cluster.Status = 0, nil
		}, reason: ElectionWaitsForAll},
		{name: "a newer timeline is further than more WAL", change: func(o *Observation) { unledEtcd(o); answered(o, on(5, 900), on(4, 1000)) }, reason: ElectionRefused},
		{name: "an older one is not", change: func(o *Observation) { unledEtcd(o); answered(o, on(3, 1100), on(4, 1000)) }, action: Claim{}, reason: ElectionWins},
	})
}

// TestNumbersOutliveEtcd: a number that another member's timeline may have is not given
// again because etcd forgot it.
func TestNumbersOutliveEtcd(t *testing.T) {
	old := &dcs.Cluster{ID: 1, Revision: 500, Initialize: &dcs.Initialize{SystemID: sysID}, Status: &dcs.Status{Beat: &dcs.Beat{Timeline: 6, Next: 7}}}
	seen := Seen{}.with(old).anew(&dcs.Cluster{ID: 2, Revision: 3}, 3)
	o := base()
	unledEtcd(o)
	o.Memory.Seen = seen
	if got := o.nextTimeline(); got != 8 {
		t.Errorf("the next timeline is %d", got)
	}
	o.PG.SystemID = "7000000000000000001"
	if got := o.nextTimeline(); got != 5 {
		t.Errorf("of other data the next timeline is %d", got)
	}
	other := &dcs.Cluster{ID: 2, Revision: 9, Initialize: &dcs.Initialize{SystemID: "7000000000000000001"}}
	if seen = seen.with(other); seen.Given != 0 || seen.GivenOf != "7000000000000000001" {
		t.Errorf("after another cluster was seen: %+v", seen)
	}
}

// TestNumbersOfMembers: in an etcd made anew the number of a timeline that only a member
// whose server is down has is not given again; one that etcd can know is its own matter.
func TestNumbersOfMembers(t *testing.T) {
	late := base()
	down(late, "in production")
	late.PG.Control = Control{Timeline: 4, MinRecoveryEndTLI: 5} // promoted, and no checkpoint since
	doc := MemberDocument(late)
	if doc.DataTimeline != 5 || doc.Timeline != 0 {
		t.Fatalf("a server that is down is on %d, %d", doc.Timeline, doc.DataTimeline)
	}
	late = base()
	late.PG.Control.Timeline = 4
	if doc := MemberDocument(late); doc.DataTimeline != 0 {
		t.Errorf("a server that answers tells %d, too", doc.DataTimeline)
	}
	o := base()
	unledEtcd(o)
	given := o.nextTimeline()
	o.DCS.Cluster.Member("n3").DataTimeline = 8
	if got := o.nextTimeline(); given != 5 || got != 9 {
		t.Errorf("the next timelines are %d and %d", given, got)
	}
	o.DCS.Cluster.Status.ModRevision = 201 // somebody has led since
	if got := o.nextTimeline(); got != 5 {
		t.Errorf("where somebody has led it is %d", got)
	}
	o.DCS.Cluster.Status = nil
	o.DCS.Cluster.Member("n3").DataTimeline, o.DCS.Cluster.Member("n3").Timeline = 0, 7
	if got := o.nextTimeline(); got != 8 {
		t.Errorf("past a member that runs it is %d", got)
	}
}

// TestWaitBeginsWithTheWord: the time before an operator's word took effect, in which
// nobody could lead, is none that the silent had to tell how far they are.
func TestWaitBeginsWithTheWord(t *testing.T) {
	o := base()
	unledEtcd(o)
	answered(o, on(4, 1000), Peer{})
	o.DCS.Cluster.ID = 2
	o.Memory.Seen, o.Memory.Leaderless = Seen{ClusterID: 1, Revision: 500}, plus(-60*sec)
	o.Memory.Quarantine = Quarantine{Why: "x", Etcd: 2, Since: plus(-60 * sec), Revision: 200, Certain: true, Word: true}
	d := decide(o)
	if d.Memory.Quarantine.Why != "" || d.Memory.Leaderless != o.Now {
		t.Fatalf("%s, leaderless since %d, now %d", d.Text("n1"), d.Memory.Leaderless, o.Now)
	}
	if _, ask := d.Action.(AskPeers); ask {
		o.Memory = d.Memory
		answered(o, on(4, 1000), Peer{})
		d = decide(o)
	}
	if d.Reason != ElectionWaitsForAll {
		t.Errorf("%s", d.Text("n1"))
	}
}
