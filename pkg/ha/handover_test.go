package ha

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// shutting: the leader's server is being stopped, has written its shutdown
// checkpoint, and is still there.
func shutting(o *Observation) {
	runs(o, OpStop)
	o.Memory.Demoting = true
	o.PG.Known, o.PG.Row, o.PG.Process = false, Row{}, ProcessUnsure
	o.PG.Shutdown = ShutdownWAL{Checkpoint: 1100, Publish: 1090}
}

// behind: some time ago the members said that they have not got it.
func behind(o *Observation, ago time.Duration) {
	shutting(o)
	answered(o, standbyPeer(1000), standbyPeer(1000))
	o.Peers.AskedAt = noon.Add(-ago)
	o.Memory.Question = Question{Behind: 1100, Epoch: myEpoch, Since: o.Peers.AskedAt}
}

func TestReleaseDuringSlowStop(t *testing.T) { // 1.21
	early := wants(Release{Epoch: myEpoch, Clean: true, Optime: 1090})
	runTable(t, []row{
		{name: "nothing is written yet: goes on", change: func(o *Observation) {
			shutting(o)
			o.PG.Shutdown = ShutdownWAL{}
			answered(o, standbyPeer(1100), standbyPeer(1100))
		}, reason: OperationRuns},
		{name: "asks who has it", change: shutting, action: AskPeers{}, reason: HandOverAsks, check: wants(AskPeers{Await: []dcs.Member{member("n2", "replica"), member("n3", "replica")}, Timeout: 100 * time.Millisecond})},
		{name: "what they had before the checkpoint does not count", change: func(o *Observation) {
			shutting(o)
			answered(o, standbyPeer(1000), standbyPeer(1000))
			o.Peers.AskedAt = noon.Add(-time.Millisecond)
		}, action: AskPeers{}, reason: HandOverAsks},
		{name: "nobody has it yet: asks again, not at once", change: func(o *Observation) { behind(o, 99*time.Millisecond) }, reason: OperationRuns},
		{name: "nobody has it yet: asks again", change: func(o *Observation) { behind(o, 100*time.Millisecond) }, action: AskPeers{}, reason: HandOverAsks},
		{name: "somebody has it: the key goes", change: func(o *Observation) { shutting(o); answered(o, Peer{}, standbyPeer(1100)) },
			action: Release{}, reason: HandOverEarly, check: early},
		{name: "nobody has it: goes on", change: func(o *Observation) { shutting(o); answered(o, standbyPeer(1099), standbyPeer(1000)) }, reason: OperationRuns},
		{name: "the one who has it may not lead", change: func(o *Observation) {
			shutting(o)
			p := standbyPeer(1100)
			p.NoFailover = true
			answered(o, p, standbyPeer(1000))
		}, reason: OperationRuns},
		{name: "only the named candidate counts", change: func(o *Observation) {
			shutting(o)
			failover(o, "n1", "n2")
			answered(o, standbyPeer(1000), standbyPeer(1100))
		}, reason: OperationRuns},
		{name: "the named candidate has it", change: func(o *Observation) {
			shutting(o)
			failover(o, "n1", "n2")
			answered(o, standbyPeer(1100), Peer{})
		}, action: Release{}, reason: HandOverEarly, check: early},
		{name: "S1 a promotion that had not come to its end has with that", change: func(o *Observation) {
			shutting(o)
			o.Memory.Promoting = true
			answered(o, Peer{}, standbyPeer(1100))
		}, action: Release{}, reason: HandOverEarly, check: func(t *testing.T, d Decision) {
			early(t, d)
			if d.Memory.Promoting {
				t.Error("it counts as one that may still write")
			}
		}},
		{name: "once", change: func(o *Observation) {
			shutting(o)
			answered(o, Peer{}, standbyPeer(1100))
			did(o, Release{Epoch: myEpoch, Clean: true}, ResultOK)
		}, reason: OperationRuns, check: noLease},
		{name: "1.22 also when the agent ends", change: func(o *Observation) {
			shutting(o)
			o.Stopping = true
			answered(o, Peer{}, standbyPeer(1100))
		}, action: Release{}, reason: HandOverEarly, check: early},
		{name: "a stop for another reason keeps the key", change: func(o *Observation) {
			shutting(o)
			o.Memory.Demoting = false
			answered(o, Peer{}, standbyPeer(1100))
		}, reason: OperationRuns},
	})
}

func TestStopLimit(t *testing.T) {
	for _, c := range []struct{ ttl, configured, want time.Duration }{
		{30 * sec, 0, 60 * sec}, {8 * sec, 0, 30 * sec}, {30 * sec, 5 * sec, 5 * sec},
	} {
		s := Settings{TTL: c.ttl, PrimaryStopTimeout: c.configured}
		if got := s.stopLimit(); got != c.want {
			t.Errorf("ttl %s, primary_stop_timeout %s: %s, want %s", c.ttl, c.configured, got, c.want)
		}
	}
}
