package sim

import (
	"testing"

	"github.com/pgha/pgha/pkg/ha"
)

// TestFailsafe: with everybody reachable, etcd may be away for as long as it
// likes; with one member cut off, the leader demotes.
func TestFailsafe(t *testing.T) {
	seeds := uint64(5)
	if testing.Short() || slow {
		seeds = 2
	}
	held, offline, lost := 0, 0, 0
	for seed := range seeds {
		o := Options{Seed: seed, Only: []string{"etcd down"}, Failsafe: true}
		res := Run(o)
		if res.Violation != "" {
			report(t, o, res)
		}
		held += res.Agreed
		if n := res.Reasons[ha.DemoteOffline] + res.Reasons[ha.DemoteNoLock]; n != 0 {
			t.Errorf("seed %d: %d demotions although everybody could be asked: %s", seed, n, res.Schedule)
		}
		o.Only = []string{"cut etcd"}
		if res = Run(o); res.Violation != "" {
			report(t, o, res)
		}
		offline += res.Reasons[ha.FailsafeHolds]
		o.Only = []string{"etcd down", "cut peers"}
		if res = Run(o); res.Violation != "" {
			report(t, o, res)
		}
		lost += res.Reasons[ha.DemoteOffline]
	}
	if held == 0 || offline == 0 || lost == 0 {
		t.Errorf("the failsafe mode agreed %d times, held without a view of etcd in %d turns; %d demotions with members cut off", held, offline, lost)
	}
}
