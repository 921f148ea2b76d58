package lab

import (
	"testing"
	"time"
)

// What counts as a stall is the part of it after an instant, and one under way too.
func TestStalls(t *testing.T) {
	const s = time.Second
	w := &Stalls{last: 100 * s}
	for _, at := range []time.Duration{100*s + 300*ms, 100*s + 800*ms, 103*s + 800*ms, 103*s + 900*ms} {
		w.looked(at)
	}
	for _, c := range []struct{ since, now, want time.Duration }{
		{0, 104 * s, 3 * s}, // a look may take half a second
		{102 * s, 104 * s, 1800 * ms},
		{104 * s, 104 * s, 0},
		{102 * s, 105*s + 900*ms, 3800 * ms}, // it looks no more
		{105 * s, 105*s + 900*ms, 900 * ms},
	} {
		if got := w.since(c.since, c.now); got != c.want {
			t.Errorf("stalls since %s, seen at %s: %s, want %s", c.since, c.now, got, c.want)
		}
	}
}
