package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/testuser"
)

var (
	simSeed     = flag.Uint64("sim.seed", 0, "first seed; with -sim.n=1, the one to replay")
	simN        = flag.Int("sim.n", 0, "number of seeds, 0: the default of each test")
	simDuration = flag.Duration("sim.duration", 0, "run seeds for as long as this instead")
	simMutant   = flag.String("sim.mutant", "", "the guard to remove")
	simSchedule = flag.String("sim.schedule", "", "a schedule as a failure prints it, to replay")
	simOnly     = flag.String("sim.only", "", "the kinds of faults to play, separated by commas, instead of those that a seed chooses")
	simCover    = flag.Bool("sim.cover", false, "fail if something was never reached and is not explained")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := testuser.Postgres(); err != nil {
		fmt.Fprintln(os.Stderr, "tests run as root and cannot become postgres:", err)
		os.Exit(1)
	}
	debug.SetGCPercent(400) // small heap, much garbage
	os.Exit(m.Run())
}

// report shrinks what failed, shows it as a table, and ends the test.
func report(t *testing.T, o Options, res Result) {
	t.Helper()
	small, _ := Shrink(res.Schedule, o, time.Minute)
	var lines []Line
	o.Trace = func(l Line) { lines = append(lines, l) }
	again := Play(small, o)
	if again.ID() != res.ID() {
		t.Errorf("the replay ended differently: %q", again.Violation)
	}
	const most = 150
	var table strings.Builder
	Table(&table, len(small.PPM), lines[max(0, len(lines)-most):])
	doc, err := json.Marshal(small)
	if err != nil {
		t.Fatal(err)
	}
	faults := ""
	for _, f := range small.Faults {
		faults += f.String() + "\n"
	}
	t.Fatalf("seed %d: %s\n%s\n\nshrunk to %s\n%s\n%s\n%s\n\nreplay: go test ./internal/sim -run 'TestReplay$' -v -sim.mutant='%s' -sim.schedule='%s'\n(kept as a regression test by this line in testdata/schedules)",
		o.Seed, res.Violation, res.Schedule, small, faults, table.String(), again.Violation, o.Mutant, doc)
}

func TestSim(t *testing.T) {
	n := 40
	if testing.Short() || slow {
		n = 5
	}
	if *simN > 0 {
		n = *simN
	}
	begun, used, virtual := time.Now(), cpu(), time.Duration(0)
	var sum Coverage
	seeds := 0
	for seed := *simSeed; ; seed++ {
		if *simDuration > 0 && time.Since(begun) >= *simDuration || *simDuration == 0 && seeds == n {
			break
		}
		o := Options{Seed: seed, Mutant: *simMutant}
		if *simOnly != "" {
			o.Only = strings.Split(*simOnly, ",")
		}
		res := Run(o)
		if res.Violation != "" {
			report(t, o, res)
		}
		seeds++
		virtual += res.Schedule.Virtual()
		sum.Add(&res.Coverage)
	}
	var out strings.Builder
	core := (cpu() - used).Seconds()
	fmt.Fprintf(&out, "%d schedules in %.1f s, %.1f s of a core: %.0f/s; as ones of a minute and three nodes: %.0f/s\n",
		seeds, time.Since(begun).Seconds(), core, float64(seeds)/core, virtual.Minutes()/3/core)
	sum.Report(&out)
	t.Log("\n" + out.String())
	if *simCover {
		for _, r := range sum.Unexplained() {
			t.Errorf("never decided for, and reasons.go does not say why: %s", r)
		}
		for _, s := range sum.Unseen() {
			t.Errorf("never: %s", s)
		}
		for _, p := range sum.Missed() {
			t.Errorf("no agent was ever stopped %s", p)
		}
	}
}

// TestReplay plays the schedule of -sim.schedule, shows it and how it ends.
func TestReplay(t *testing.T) {
	if *simSchedule == "" {
		t.Skip("nothing to replay: -sim.schedule")
	}
	var s Schedule
	if err := json.Unmarshal([]byte(*simSchedule), &s); err != nil {
		t.Fatalf("-sim.schedule: %v", err)
	}
	var lines []Line
	res := Play(&s, Options{Seed: s.Seed, Mutant: *simMutant, Trace: func(l Line) { lines = append(lines, l) }})
	Table(os.Stdout, len(s.PPM), lines)
	if res.Violation != "" {
		t.Fatal(res.Violation)
	}
}

// TestRegressions: what once failed stays mended.
func TestRegressions(t *testing.T) {
	text, err := os.ReadFile("testdata/schedules")
	if err != nil {
		t.Fatal(err)
	}
	why := ""
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "{") {
			why = strings.TrimPrefix(line, "# ")
			continue
		}
		var s Schedule
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		if res := Play(&s, Options{Seed: s.Seed}); res.Violation != "" {
			t.Errorf("%s: %s\n%s", why, res.Violation, line)
		}
	}
}

// TestSame: a seed gives the same run, to the last line of its trace.
func TestSame(t *testing.T) {
	trace := func(seed uint64) (out []Line) {
		Run(Options{Seed: seed, Trace: func(l Line) { out = append(out, l) }})
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
