package sim

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"
	"time"
)

// calibrate returns how much a second of a core of this machine does, 1 being
// what it does on an idle core of the virtual machine that the budgets were set on.
func calibrate() float64 {
	const reference = 150 * time.Millisecond
	doc := []byte(`{"optime":123456,"slots":{"a":1,"b":2},"pgha":{"beat":17,"epoch":4711,"ttl":30000,"holder":"somebody","released":false}}`)
	begun := cpu()
	for range 40_000 {
		var v map[string]any
		if json.Unmarshal(doc, &v) != nil {
			return 0
		}
	}
	return reference.Seconds() / (cpu() - begun).Seconds()
}

// TestMutants: each guard that is removed is missed within its budget, by a
// schedule that violates nothing while the guard is there. `make mutants` gives
// each its whole budget; otherwise a few schedules are tried, and a mutant that
// they do not catch is skipped.
func TestMutants(t *testing.T) {
	if slow {
		t.Skip("nothing here runs concurrently; the mutants are hunted without the race detector")
	}
	full := os.Getenv("PGHA_MUTANTS") != ""
	speed := calibrate()
	t.Logf("a core of this machine does %.2f of what the reference core does; budgets are divided by that", speed)
	for _, id := range slices.Sorted(maps.Keys(Absent)) {
		t.Logf("not here: %s: %s", id, Absent[id])
	}
	for _, m := range Mutants {
		t.Run(m.ID, func(t *testing.T) {
			begun := cpu()
			for seed := uint64(0); ; seed++ {
				used := (cpu() - begun).Seconds() * speed
				switch {
				case full && used > m.Budget:
					t.Fatalf("survives %.0f s: %s", m.Budget, m.What)
				case !full && (seed == 100 || used > 1.5 || testing.Short()):
					t.Skipf("not caught by %d schedules: %s", seed, m.What)
				}
				res := Run(Options{Seed: seed, Mutant: m.ID})
				if !slices.Contains(m.Catches, res.ID()) {
					continue
				}
				if with := Play(res.Schedule, Options{Seed: seed}); with.Violation != "" {
					t.Fatalf("the same schedule fails with the guard in place: %s", with.Violation)
				}
				t.Logf("caught by seed %d in %.2f of %.0f s: %s: %s", seed, used, m.Budget, m.What, res.Violation)
				return
			}
		})
	}
}
