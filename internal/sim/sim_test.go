package sim

import (
	"flag"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

var (
	simSeed     = flag.Uint64("sim.seed", 0, "first seed; with -sim.n=1, the one to replay")
	simN        = flag.Int("sim.n", 0, "number of seeds, 0: the default of each test")
	simDuration = flag.Duration("sim.duration", 0, "run seeds for as long as this instead")
	simStrict   = flag.Bool("sim.strict", false, "a timeline number used twice is always a violation")
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(800) // small heap, much garbage: twice the schedules
	os.Exit(m.Run())
}

func run(t *testing.T, o Options) (res Result) {
	t.Helper()
	return Run(o)
}

// report replays a failed seed with its trace and ends the test.
func report(t *testing.T, o Options, res Result) {
	t.Helper()
	var lines []string
	o.Trace = func(line string) { lines = append(lines, line) }
	again := run(t, o)
	if !testing.Verbose() {
		lines = lines[max(0, len(lines)-200):]
	}
	t.Log("\n" + strings.Join(lines, "\n"))
	if again.Violation != res.Violation {
		t.Errorf("the replay ended differently: %q", again.Violation)
	}
	t.Fatalf("seed %d: %s\n%s\nreplay: go test ./internal/sim -run TestSim$ -v -sim.seed=%d -sim.n=1", o.Seed, res.Violation, res.Schedule, o.Seed)
}

func TestSim(t *testing.T) {
	n := 30
	if testing.Short() || slow {
		n = 3
	}
	if *simN > 0 {
		n = *simN
	}
	begun := time.Now()
	var sum Result
	seeds := 0
	faults := map[string]int{}
	for seed := *simSeed; ; seed++ {
		if *simDuration > 0 && time.Since(begun) >= *simDuration || *simDuration == 0 && seeds == n {
			break
		}
		o := Options{Seed: seed, Strict: *simStrict}
		res := run(t, o)
		if res.Violation != "" {
			report(t, o, res)
		}
		seeds++
		sum.Events, sum.Decisions, sum.Acks, sum.Leaders, sum.Reused = sum.Events+res.Events, sum.Decisions+res.Decisions, sum.Acks+res.Acks, sum.Leaders+res.Leaders, sum.Reused+res.Reused
		for r, k := range res.Reasons {
			sum.Reasons[r] += k
		}
		for k, c := range res.Faults {
			faults[k] += c
		}
	}
	took := time.Since(begun).Seconds()
	t.Logf("%d schedules in %.1f s: %.0f/s; %d events, %d decisions, %d acks, %d leaderships, %d timeline numbers used twice",
		seeds, took, float64(seeds)/took, sum.Events, sum.Decisions, sum.Acks, sum.Leaders, sum.Reused)
	t.Logf("faults: %v", faults)
	for r, k := range sum.Reasons {
		if k == 0 {
			t.Logf("never decided here: %s", ha.Reason(r))
		}
	}
}

// TestReplay: a seed gives the same run, to the last line of its trace.
func TestReplay(t *testing.T) {
	trace := func(seed uint64) (out []string) {
		run(t, Options{Seed: seed, Trace: func(l string) { out = append(out, l) }})
		return out
	}
	for seed := range uint64(3) {
		a, b := trace(seed), trace(seed)
		if len(a) != len(b) {
			t.Fatalf("seed %d: %d lines, then %d", seed, len(a), len(b))
		}
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("seed %d line %d:\n%s\n%s", seed, i, a[i], b[i])
			}
		}
	}
}

// TestMutants: each guard that is removed is missed within a few seconds.
func TestMutants(t *testing.T) {
	if slow {
		t.Skip("nothing here runs concurrently; the mutants are hunted without the race detector")
	}
	for _, m := range Mutants {
		t.Run(m.ID, func(t *testing.T) {
			limit := 40 * time.Second
			begun := time.Now()
			for seed := uint64(0); time.Since(begun) < limit; seed++ {
				res := run(t, Options{Seed: seed, Mutant: m.ID})
				for _, id := range m.Catches {
					if len(res.Violation) > len(id) && res.Violation[:len(id)+1] == id+" " {
						t.Logf("seed %d, %.2f s: %s", seed, time.Since(begun).Seconds(), res.Violation)
						return
					}
				}
			}
			t.Errorf("survives: %s", m.What)
		})
	}
}
