package ha

import (
	"testing"
	"time"
)

// hung: new connections get no answer, for as long as it takes to believe it.
func hung(o *Observation) {
	o.PG.Health.Connect = Check{Good: plus(-8 * sec), Failing: plus(-5 * sec), Failures: 3, Fault: FaultHang}
}

func TestHungServer(t *testing.T) {
	kill := wants(Stop{Mode: StopKill})
	runTable(t, []row{
		{name: "L2 a single slow connection changes nothing", change: func(o *Observation) {
			hung(o)
			o.PG.Health.Connect.Failures = 1
		}, reason: LeaderNoAction},
		{name: "L2 nor do two", change: func(o *Observation) {
			hung(o)
			o.PG.Health.Connect.Failures = 2
		}, reason: LeaderNoAction},
		{name: "L2 nor do many in no time", change: func(o *Observation) {
			hung(o)
			o.PG.Health.Connect.Failing = plus(-sec)
		}, reason: LeaderNoAction},
		{name: "a hung primary looks for somebody first", change: hung, action: AskPeers{}, reason: FaultAsksPeers},
		{name: "and is killed when somebody can", change: func(o *Observation) {
			hung(o)
			answered(o, Peer{}, standbyPeer(1000))
		}, action: Stop{}, reason: FaultHandsOver, check: kill},
		{name: "also when the old connection hangs as well", change: func(o *Observation) {
			hung(o)
			o.PG.Known, o.PG.Row = false, Row{}
			answered(o, Peer{}, standbyPeer(1000))
		}, action: Stop{}, reason: FaultHandsOver, check: kill},
		{name: "also when this agent never saw it answer", change: func(o *Observation) {
			hung(o)
			o.PG.Known, o.PG.Row, o.PG.Process = false, Row{}, ProcessStarting
			answered(o, Peer{}, standbyPeer(1000))
		}, action: Stop{}, reason: FaultHandsOver, check: kill},
		{name: "found nobody a moment ago: does not ask again", change: func(o *Observation) { hung(o); o.Memory.NoTaker = o.Now.Add(-sec) }, reason: FaultStays},
		{name: "found nobody a period ago: asks again", change: func(o *Observation) { hung(o); o.Memory.NoTaker = o.Now.Add(-10 * sec) }, action: AskPeers{}, reason: FaultAsksPeers},
		{name: "nobody answers: it stays and says why", change: func(o *Observation) { hung(o); answered(o, Peer{}, Peer{}) }, reason: FaultStays, check: func(t *testing.T, d Decision) {
			if d.Memory.NoTaker == 0 {
				t.Error("asks for ever")
			}
		}},
		{name: "nobody else is there: it stays", change: func(o *Observation) {
			hung(o)
			o.DCS.Cluster.Members = o.DCS.Cluster.Members[:1]
		}, reason: FaultStays},
		{name: "the others lag too far behind: it stays", change: func(o *Observation) {
			hung(o)
			o.PG.Row.Position = 1000 + 2<<20
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, reason: FaultStays},
		{name: "the others may not lead: it stays", change: func(o *Observation) {
			hung(o)
			p := standbyPeer(1000)
			p.NoFailover = true
			answered(o, p, p)
		}, reason: FaultStays},
		{name: "the others are not well either: it stays", change: func(o *Observation) {
			hung(o)
			p := standbyPeer(1000)
			p.Fault = "its disk hangs"
			answered(o, p, p)
		}, reason: FaultStays},
		{name: "it stays, and does a leader's work", change: func(o *Observation) {
			hung(o)
			answered(o, Peer{}, Peer{})
			o.DCS.Cluster.Config = nil
		}, action: WriteConfig{}, reason: LeaderRepairsConfig},
		{name: "before anything else the lease", change: func(o *Observation) { hung(o); o.Now = plus(4 * sec) }, action: Renew{}, reason: LeaseRenewal},
		{name: "in pause nothing", change: func(o *Observation) { hung(o); paused3(o) }, reason: PausedNoAction},
		{name: "without etcd nothing", change: func(o *Observation) { hung(o); o.DCS.Fresh = false }, reason: OfflineWaiting},
		{name: "not yet promoted: gives the key back", change: func(o *Observation) {
			standbyLeaderToBe(o)
			hung(o)
			answered(o, Peer{}, standbyPeer(1000))
		}, action: Release{}, reason: FaultHandsOver, check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "its promotion was given up and may still end: killed first (S1)", change: func(o *Observation) {
			standbyLeaderToBe(o)
			hung(o)
			answered(o, Peer{}, standbyPeer(1000))
			o.Memory.Promoting = true
		}, action: Stop{}, reason: FaultHandsOver, check: wants(Stop{Mode: StopKill})},
		{name: "stopped: the key goes", change: func(o *Observation) {
			hung(o)
			down(o, "in production")
			o.Memory.Demoting = true
			ended(o, OpStop, "")
		}, action: Release{}, reason: HandOverStops},
		{name: "a standby that hangs stands for no election", change: func(o *Observation) { leaderless(o); hung(o) }, reason: ElectionRefused},
		{name: "a standby that hangs otherwise goes on", change: func(o *Observation) { replica(o); hung(o) }, reason: SecondaryNoAction},
	})
}

// TestProbing: a hung server is seen within 5 s and believed within 8, so that
// there is a new primary within 10, at any profile that promises that.
func TestProbing(t *testing.T) {
	for _, c := range []struct{ ttl, wait, seen, believed time.Duration }{
		{30 * sec, 10 * sec, 4500 * time.Millisecond, 8500 * time.Millisecond},
		{20 * sec, 1 * sec, 2 * sec, 5 * sec},
		{8 * sec, 1 * sec, 1800 * time.Millisecond, 5 * sec},
		{5 * sec, 1 * sec, 1500 * time.Millisecond, 5 * sec},
		{300 * sec, 10 * sec, 15 * sec, 30 * sec},
		{0, 0, 1500 * time.Millisecond, 5 * sec},
	} {
		s := Settings{TTL: c.ttl, LoopWait: c.wait}
		p := s.Probing()
		if p.Pause <= 0 || p.Limit < time.Second || p.Pause+p.Limit > c.seen {
			t.Errorf("ttl %s: %+v: seen after %s, want %s", c.ttl, p, p.Pause+p.Limit, c.seen)
		}
		if all := p.Pause + enough*p.Limit + (enough-1)*p.Limit/4; all > c.believed {
			t.Errorf("ttl %s: %+v: believed after %s, want %s", c.ttl, p, all, c.believed)
		}
	}
}
