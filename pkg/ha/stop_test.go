package ha

import "testing"

// ha-behaviour 1.22.5 when etcd is gone: the server is stopped, there is nobody
// to tell, and the agent's end must not wait for the lease to run out.
func TestStopWithoutEtcd(t *testing.T) {
	stopped := func(o *Observation) {
		down(o, "shut down")
		o.Stopping, o.Memory.Demoting = true, true
		o.DCS.Fresh = false
	}
	runTable(t, []row{
		{name: "1.22 tries to give the lock back", change: stopped, action: Release{}, reason: HandOverStops},
		{name: "1.22 once, when nobody answers", change: func(o *Observation) {
			stopped(o)
			did(o, Release{}, ResultFailed)
		}, action: Exit{}, reason: Stopped},
		{name: "1.22 again, when etcd answers", change: func(o *Observation) {
			stopped(o)
			o.DCS.Fresh = true
			did(o, Release{}, ResultFailed)
		}, action: Release{}, reason: HandOverStops},
	})
}
