package lab

import (
	"testing"
	"time"
)

// The fake watchdog resets its host once, and only while it is armed, unleashed and
// hungry.
func TestDog(t *testing.T) {
	const s = time.Second
	d := &dog{bites: true}
	steps := []struct {
		words string
		at    time.Duration
		reset bool
	}{
		{"", 100 * s, false}, // never armed
		{"Ctimeout=2\n", 101 * s, false},
		{"1", 102 * s, false},
		{"", 104 * s, false},
		{"", 104*s + 1, true},
		{"", 200 * s, false}, // once
		{"Ctimeout=2\n1", 201 * s, false},
		{"1V", 202 * s, false}, // switched off
		{"", 300 * s, false},
	}
	for _, step := range steps {
		if got := d.heard([]byte(step.words), step.at); got != step.reset {
			t.Errorf("%q at %s: reset %v, want %v", step.words, step.at, got, step.reset)
		}
	}
	chained := &dog{}
	chained.heard([]byte("Ctimeout=1\n"), s)
	if chained.heard(nil, 10*s) {
		t.Error("a watchdog that only listens reset its host")
	}
}
