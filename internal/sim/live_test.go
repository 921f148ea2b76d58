package sim

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

// TestNeedless (L2): an etcd that is silent for less than the lease allows, a
// member that is restarted, answers that are lost now and then, change no leader.
func TestNeedless(t *testing.T) {
	for seed := range seeds(6) {
		for _, kind := range []string{"etcd down", "cut etcd", "etcd leader", "server slow", "cut peers", "cut streams", "restart"} {
			s := NewSchedule(Options{Seed: seed, Only: []string{kind}, Nodes: 3})
			s.BadStart, s.SlowStop = 0, 0
			timing, err := ha.NewTiming(time.Duration(s.Config.TTL)*time.Second, time.Duration(s.Config.Wait)*time.Second, time.Duration(s.Config.Retry)*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			most := timing.Budget - timing.Stop - timing.Period - time.Second
			kept := s.Faults[:0]
			for _, f := range s.Faults {
				f.For = min(f.For, int64(most))
				if len(kept) == 0 || f.At > kept[len(kept)-1].At+3*int64(s.Config.TTL)*sec { // one at a time
					kept = append(kept, f)
				}
			}
			s.Faults = kept
			res := Play(s, Options{Seed: seed})
			if res.Violation != "" || res.Leaders != 1 {
				t.Errorf("seed %d, %q of at most %v: %d leaderships; %s\n%s", seed, kind, most, res.Leaders, res.Violation, s)
			}
		}
	}
}

// TestSwitchovers (L5): each ends soon, one way or the other, and nobody misses a
// leader for long.
func TestSwitchovers(t *testing.T) {
	for seed := range seeds(6) {
		for _, sync := range []bool{false, true} {
			s := NewSchedule(Options{Seed: seed, Only: []string{"switchover"}, Nodes: 3, Sync: sync})
			s.BadStart, s.SlowStop = 0, 0
			res := Play(s, Options{Seed: seed})
			if res.Violation != "" {
				t.Errorf("seed %d: %s\n%s", seed, res.Violation, s)
			}
			if most := 5 * sec; res.Gap > most {
				t.Errorf("seed %d: nobody held the leader key for %s, more than %s\n%s", seed, clock(res.Gap), clock(most), s)
			}
			if res.Leaders < 2 {
				t.Errorf("seed %d: no switchover was carried out\n%s", seed, s)
			}
		}
	}
}

// seeds is how many of them a test tries; fewer where time is short.
func seeds(n uint64) uint64 {
	if testing.Short() || slow {
		return 1
	}
	return n
}
