package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Schedule is all that a run is made of: the cluster and its timing, the tempers
// of the models, and the faults with their instants. It is drawn from a seed,
// and it is data: a run follows from it alone, so that it can be cut down, kept
// in a file, and played again after the way schedules are drawn has changed.
type Schedule struct {
	Seed         uint64   `json:"seed"` // of what the faults leave open: latencies, durations
	Config       settings `json:"config"`
	PPM          []int64  `json:"ppm"`                 // of the clocks; one node each
	Stale        int64    `json:"stale,omitempty"`     // ns that a cut watch goes unnoticed
	MaxLag       int64    `json:"max_lag"`             // maximum_lag_on_failover
	StartTimeout int      `json:"start_timeout"`       // primary_start_timeout
	Wipe         bool     `json:"wipe,omitempty"`      // remove_data_directory_on_rewind_failure
	Watchdog     bool     `json:"watchdog,omitempty"`  // a kernel watchdog on every node
	BadStart     float64  `json:"bad_start,omitempty"` // chance that a server does not come up
	SlowStop     float64  `json:"slow_stop,omitempty"` // chance that it takes its time to stop
	Faults       []Fault  `json:"faults"`
	Heal         int64    `json:"heal"` // ns; every fault ends here
	End          int64    `json:"end"`
}

// Fault is one entry of a schedule.
type Fault struct {
	At   int64  `json:"at"` // ns
	Kind string `json:"kind"`
	Node int    `json:"node"`          // index; leads: whoever holds the leader key then
	For  int64  `json:"for,omitempty"` // ns
	Arg  uint64 `json:"arg,omitempty"` // seeds what the kind itself chooses
}

// leads is the Node of a fault that is for the leader of the moment.
const leads = -1

func (f Fault) String() string {
	who := "the leader"
	if f.Node != leads {
		who = fmt.Sprintf("n%d", f.Node+1)
	}
	return fmt.Sprintf("%8s  %-18s %-10s for %s", clock(f.At), f.Kind, who, clock(f.For))
}

// timings are loop_wait, retry_timeout and ttl as people have them, the
// shortest profile included.
var timings = []settings{
	{TTL: 8, Wait: 1, Retry: 2}, {TTL: 8, Wait: 1, Retry: 2}, {TTL: 5, Wait: 1, Retry: 1}, {TTL: 5, Wait: 1, Retry: 1},
	{TTL: 30, Wait: 10, Retry: 10}, {TTL: 20, Wait: 4, Retry: 8}, {TTL: 20, Wait: 1, Retry: 3},
}

// NewSchedule draws the schedule of a seed. It is a swarm: each seed has a few
// kinds of faults, each with an intensity of its own, and none of the others.
func NewSchedule(o Options) *Schedule {
	r := stream(o.Seed, 0)
	s := &Schedule{Seed: o.Seed, Config: timings[r.IntN(len(timings))], Stale: r.Int64N(3) * sec, MaxLag: []int64{1 << 20, 1 << 20, 2000}[r.IntN(3)],
		Wipe: r.IntN(2) == 0, StartTimeout: []int{300, 300, 3, 0}[r.IntN(4)], Watchdog: r.IntN(3) == 0}
	s.Config.Failsafe = r.IntN(3) == 0 || o.Failsafe
	s.Config.drawSync(stream(o.Seed, 3), o.Sync)
	nodes := []int{1, 2, 3, 3, 3, 3, 4, 5}[r.IntN(8)]
	if o.Nodes > 0 {
		nodes = o.Nodes
	}
	for range 5 { // always five, so that the number of nodes changes nothing else
		s.PPM = append(s.PPM, r.Int64N(1001)-500)
	}
	s.PPM = s.PPM[:nodes]
	if r.IntN(4) == 0 && o.Nodes == 0 {
		s.BadStart = 0.1
	}
	if r.IntN(3) == 0 {
		s.SlowStop = 0.3
	}
	s.End = 5 * s.tail()
	s.Heal = s.End - s.tail()
	if o.Length > 0 {
		s.End, s.Heal = int64(o.Length), int64(o.Length)
	}
	for i, k := range kinds {
		s.draw(k, stream(o.Seed, 100+uint64(i)), o.Only)
	}
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return int(a.At/ms - b.At/ms) })
	if slices.ContainsFunc(s.Faults, func(f Fault) bool { return f.Kind == "etcd restored" }) && s.Heal < s.End {
		s.End += int64(s.Config.TTL) * sec // an operator's word comes late, waits for a ttl, and then all may wait for who is silent
	}
	return s
}

// tail is how long the cluster has to come to rest after the last fault.
func (s *Schedule) tail() int64 {
	t := int64(s.Config.TTL) * sec
	return t + t/10 + 6*int64(s.Config.Wait)*sec + 25*sec
}

// draw adds the faults of one kind, drawn from a stream of its own.
func (s *Schedule) draw(k kind, r *rand.Rand, only []string) {
	weight := 3
	if k.rare {
		weight = 1
	}
	chosen, gap, first := r.IntN(10) < weight, s.Heal/(1+r.Int64N(8)), 5*sec
	if len(only) > 0 { // what a mutant needs to show itself, by when everybody has joined
		chosen, gap, first = slices.Contains(only, k.name), 2*sec, 30*sec
	}
	if k.name == "trap" || k.name == "point" { // set from the first copy on
		first = 0
	}
	if !chosen {
		return
	}
	t := int64(s.Config.TTL) * sec
	for at := first + r.Int64N(gap+1); at < s.Heal; at += gap/4 + r.Int64N(gap*3/2+1) {
		f := Fault{At: at, Kind: k.name, Node: r.IntN(5) % len(s.PPM), Arg: r.Uint64()}
		if r.IntN(2) == 0 { // the leader is worth twice the trouble
			f.Node = leads
		}
		if hi := k.most(t); hi > 0 {
			f.For = min(between(r, k.least, max(k.least, hi)), s.Heal-at)
		}
		s.Faults = append(s.Faults, f)
	}
}

func (s *Schedule) String() string {
	var names []string
	for _, f := range s.Faults {
		if !slices.Contains(names, f.Kind) {
			names = append(names, f.Kind)
		}
	}
	slices.Sort(names)
	return fmt.Sprintf("%d nodes, ttl %d loop_wait %d retry_timeout %d failsafe_mode %t synchronous_mode %s watchdog %t, %s virtual, %d faults: %s", len(s.PPM),
		s.Config.TTL, s.Config.Wait, s.Config.Retry, s.Config.Failsafe, s.Config.sync(), s.Watchdog, clock(s.End), len(s.Faults), strings.Join(names, ", "))
}

// Virtual is how much time passes on all nodes together.
func (s *Schedule) Virtual() time.Duration { return time.Duration(s.End * int64(len(s.PPM))) }

// stream is a source of random numbers of its own.
func stream(seed, n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
