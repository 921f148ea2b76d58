package ha

import "testing"

// broken: the disk of the data directory is no good, for as long as it takes to
// believe it.
func broken(f Fault) func(*Observation) {
	return func(o *Observation) {
		o.PG.Health.Data = Check{Good: plus(-30 * sec), Failing: plus(-20 * sec), Failures: 9, Fault: f}
	}
}

func TestDiskFaults(t *testing.T) {
	somebody := func(o *Observation) { answered(o, standbyPeer(1000), Peer{}) }
	handed := func(f Fault) func(*Observation) {
		return func(o *Observation) { broken(f)(o); somebody(o) }
	}
	kill := wants(Stop{Mode: StopKill})
	hangs := func(o *Observation) { // nothing of the server can be shown to be gone
		handed(FaultHang)(o)
		runs(o, OpStop)
		o.Memory.Demoting, o.Memory.StopBy = true, plus(-1)
	}
	runTable(t, []row{
		{name: "a disk that hangs", change: handed(FaultHang), action: Stop{}, reason: FaultHandsOver, check: kill},
		{name: "L2 not one that hung for a moment", change: func(o *Observation) {
			handed(FaultHang)(o)
			o.PG.Health.Data.Failing = plus(-14 * sec)
		}, reason: LeaderNoAction},
		{name: "a full disk", change: handed(FaultFull), action: Stop{}, reason: FaultHandsOver, check: kill},
		{name: "a read-only disk", change: handed(FaultReadOnly), action: Stop{}, reason: FaultHandsOver, check: kill},
		{name: "a broken disk", change: handed(FaultIO), action: Stop{}, reason: FaultHandsOver, check: kill},
		{name: "on answers of a moment ago", change: func(o *Observation) {
			handed(FaultIO)(o)
			o.Peers.AskedAt = plus(-sec)
			o.Memory.Question = Question{Epoch: myEpoch, Since: plus(-sec)}
		}, action: Stop{}, reason: FaultHandsOver, check: kill},
		{name: "not on older ones", change: func(o *Observation) { handed(FaultIO)(o); o.Peers.AskedAt = plus(-3 * sec) }, action: AskPeers{}, reason: FaultAsksPeers},
		{name: "the disk of pg_wal", change: func(o *Observation) {
			handed(FaultFull)(o)
			o.PG.Health.WAL, o.PG.Health.Data = o.PG.Health.Data, Check{}
		}, action: Stop{}, reason: FaultHandsOver, check: kill},
		{name: "asks first", change: broken(FaultFull), action: AskPeers{}, reason: FaultAsksPeers},
		{name: "nobody can: stays", change: func(o *Observation) { broken(FaultFull)(o); answered(o, Peer{}, Peer{}) }, reason: FaultStays},
		{name: "P14 the server died of it: not started again when somebody can", change: func(o *Observation) {
			handed(FaultFull)(o)
			down(o, "in production")
		}, action: Release{}, reason: FaultHandsOver, check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "P14 nobody can: started again", change: func(o *Observation) {
			broken(FaultFull)(o)
			answered(o, Peer{}, Peer{})
			down(o, "in production")
		}, action: Start{}, reason: StartAsPrimary},
		{name: "a replica stands for no election", change: func(o *Observation) { leaderless(o); broken(FaultReadOnly)(o) }, reason: ElectionRefused},
		{name: "a replica otherwise goes on", change: func(o *Observation) { replica(o); broken(FaultFull)(o) }, reason: SecondaryNoAction},
		{name: "P12 no rewind on such a disk", change: func(o *Observation) {
			replica(o)
			down(o, "shut down")
			o.PG.StandbySignal, o.Memory.Rewind = false, RewindNeed
			broken(FaultFull)(o)
		}, reason: DiskAwaited},
		{name: "in pause nothing", change: func(o *Observation) { handed(FaultIO)(o); paused3(o) }, reason: PausedNoAction},

		{name: "while it is killed, waits", change: func(o *Observation) { hangs(o); o.Memory.StopBy = plus(sec) }, reason: OperationRuns},
		{name: "and renews nothing", change: func(o *Observation) {
			hangs(o)
			o.Memory.StopBy, o.Memory.Lease.Renewed, o.Memory.Lease.Attempt = plus(sec), plus(-11*sec), plus(-11*sec)
		}, reason: OperationRuns},
		{name: "killed and not gone: the key goes, without the word", change: hangs, action: Release{}, reason: FaultUnproven,
			check: wants(Release{Epoch: myEpoch})},
		{name: "which is said once", change: func(o *Observation) {
			hangs(o)
			did(o, Release{Epoch: myEpoch}, ResultOK)
		}, reason: OperationRuns, check: noLease},
		{name: "an orderly stop has its time", change: func(o *Observation) { hangs(o); o.Memory.StopBy = 0 }, reason: OperationRuns},
	})
	o := base()
	handed(FaultHang)(o)
	if d := decide(o); d.Memory.StopBy != noon.Add(3*sec) || !d.Memory.Demoting {
		t.Errorf("the kill has until %v", d.Memory.StopBy)
	}
}
