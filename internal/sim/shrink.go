package sim

import (
	"slices"
	"strings"
	"time"
)

// ID is the invariant that a violation begins with.
func (r *Result) ID() string {
	id, _, _ := strings.Cut(r.Violation, " ")
	return id
}

// Shrink cuts a schedule that violates an invariant down to what is needed for
// a violation of the same one, within a time: fewer faults (ddmin), shorter ones,
// no tempers, fewer nodes. It returns the smallest found, and how it ends.
func Shrink(s *Schedule, o Options, limit time.Duration) (*Schedule, Result) {
	until := time.Now().Add(limit)
	best := *s
	res := Play(&best, o)
	id := res.ID()
	if id == "" {
		return s, res
	}
	smaller := func(next Schedule) bool {
		if time.Now().After(until) {
			return false
		}
		r := Play(&next, o)
		if r.ID() == id {
			best, res = next, r
			best.Faults = slices.Clone(next.Faults)
			return true
		}
		return false
	}
	for before := -1; before != size(&best); {
		before = size(&best)
		ddmin(&best, smaller)
		for i := range best.Faults {
			for best.Faults[i].For/2 >= 100*ms {
				next := best
				next.Faults = slices.Clone(best.Faults)
				next.Faults[i].For /= 2
				if !smaller(next) {
					break
				}
			}
		}
		for _, calm := range []func(*Schedule){
			func(n *Schedule) { n.PPM = n.PPM[:max(len(n.PPM)-1, 1)] },
			func(n *Schedule) { n.PPM = make([]int64, len(n.PPM)) },
			func(n *Schedule) { n.BadStart = 0 }, func(n *Schedule) { n.SlowStop = 0 }, func(n *Schedule) { n.Stale = 0 },
			func(n *Schedule) { n.Watchdog = false }, func(n *Schedule) { n.Config.Failsafe = false }, func(n *Schedule) { n.StartTimeout = 300 },
		} {
			next := best
			if calm(&next); size(&next) < size(&best) {
				smaller(next)
			}
		}
	}
	return &best, res
}

// ddmin removes runs of faults, the longest first.
func ddmin(best *Schedule, smaller func(Schedule) bool) {
	for chunk := max(len(best.Faults)/2, 1); ; chunk /= 2 {
		for i := 0; i < len(best.Faults); {
			next := *best
			next.Faults = slices.Delete(slices.Clone(best.Faults), i, min(i+chunk, len(best.Faults)))
			if !smaller(next) {
				i += chunk
			}
		}
		if chunk <= 1 {
			return
		}
	}
}

// size is what shrinking makes smaller.
func size(s *Schedule) int {
	n := 1000*len(s.Faults) + 100*len(s.PPM)
	for _, f := range s.Faults {
		n += int(f.For / sec)
	}
	for _, ppm := range s.PPM {
		n += b2i(ppm != 0)
	}
	return n + b2i(s.BadStart != 0) + b2i(s.SlowStop != 0) + b2i(s.Stale != 0) + b2i(s.Watchdog) + b2i(s.Config.Failsafe) + b2i(s.StartTimeout != 300)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
