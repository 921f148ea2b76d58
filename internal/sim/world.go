package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pgha/pgha/pkg/dcs/mem"
)

const (
	ms   = int64(time.Millisecond)
	sec  = int64(time.Second)
	base = "/service/sim"
)

// Options of one run.
type Options struct {
	Seed uint64
	// Mutant names a guard to remove; see Mutants. "" is the system as it is.
	Mutant string
	// What is drawn from the seed: Only these kinds of faults, none: as it
	// chooses; Nodes, 0: as it chooses; Failsafe turns that mode on.
	Only     []string
	Nodes    int
	Failsafe bool
	Sync     bool // one of the synchronous modes
	// Length of the run in virtual time instead of what the seed's timing needs
	// to come to rest, which is not looked at then.
	Length time.Duration
	// Trace, when set, is told of all that happens.
	Trace func(Line)
}

// Result of one run.
type Result struct {
	Violation string // "" if every check held; begins with the invariant's id
	Schedule  *Schedule
	Coverage
}

// world is one run.
type world struct {
	Options
	plan  Schedule
	now   int64
	seq   uint64
	queue heap
	srv   *mem.Server
	nodes []*node
	ghost ghost
	net   *rand.Rand // latencies
	srvr  *rand.Rand // durations of what servers do
	res   Result
	// backups are the states that a restore can go back to, orders how many were given.
	backups []backup
	saved   []snapshot // of etcd
	// restoring: etcd is about to be put back to one.
	restoring bool
	orders    int
	asked     int64           // requests to restart a server
	lossy     map[*node]lossy // requests to etcd that get lost
	slow      map[*node]int64 // extra delay of the watch
	conf      settings        // as /config has it
}

type lossy struct {
	request, answer float64
	late            int64 // at most, for a lost request that arrives after all
}

// Run plays the schedule of a seed to its end, or to the first violation.
func Run(o Options) Result {
	m := mutant(o.Mutant)
	if o.Only == nil {
		o.Only = m.Faults
	}
	o.Failsafe, o.Sync = o.Failsafe || m.Failsafe, o.Sync || m.Sync
	return Play(NewSchedule(o), o)
}

// Play plays a schedule.
func Play(s *Schedule, o Options) Result {
	w := newWorld(s, o)
	for _, f := range s.Faults {
		w.at(f.At, func() { w.do(f) })
	}
	w.at(s.Heal, w.healAll)
	w.tick()
	w.after(3*sec, w.backup)
	if slices.ContainsFunc(s.Faults, func(f Fault) bool { return f.Kind == "etcd restored" }) {
		w.after(5*sec, w.snapshots)
	}
	for len(w.queue) > 0 && w.queue[0].at <= s.End && w.res.Violation == "" {
		e := w.queue.pop()
		w.now = e.at
		w.res.Events++
		e.run()
		w.ghost.check()
	}
	if w.res.Violation == "" && s.Heal < s.End {
		w.ghost.atRest()
	}
	for _, n := range w.nodes {
		n.killAgent()
	}
	return w.res
}

// newWorld makes the nodes of a schedule; nothing has happened yet.
func newWorld(s *Schedule, o Options) *world {
	w := &world{Options: o, plan: *s, conf: s.Config, lossy: map[*node]lossy{}, slow: map[*node]int64{}}
	w.net, w.srvr = stream(s.Seed, 1), stream(s.Seed, 2)
	w.res.Schedule = s
	w.res.init()
	w.ghost.w = w
	w.ghost.init()
	w.srv = mem.NewServer(mem.Options{Now: func() int64 { return w.now }, MinTTL: 2 * time.Second})
	for i := range s.PPM {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	return w
}

// at puts an event in the heap.
func (w *world) at(t int64, run func()) {
	w.seq++
	w.queue.push(event{at: max(t, w.now), seq: w.seq, run: run})
}

func (w *world) after(d int64, run func()) { w.at(w.now+d, run) }

// tick is etcd's scan for expired leases.
func (w *world) tick() {
	w.srv.Tick()
	w.pump()
	w.after(500*ms, w.tick)
}

// pump sees to it that what etcd has for the watchers is on its way.
func (w *world) pump() {
	for _, n := range w.nodes {
		n.expectEvents()
	}
	w.ghost.noteLeader()
}

func (w *world) fail(id, format string, args ...any) {
	if w.res.Violation == "" {
		w.res.Violation = fmt.Sprintf("%s at %s: %s", id, clock(w.now), fmt.Sprintf(format, args...))
		w.trace(nil, "VIOLATION %s", w.res.Violation)
	}
}

func (w *world) trace(n *node, format string, args ...any) {
	if w.Trace == nil {
		return
	}
	who := leads
	if n != nil {
		who = int(n.name[1] - '1')
	}
	w.Trace(Line{At: w.now, Node: who, Text: fmt.Sprintf(format, args...)})
}

func clock(t int64) string { return fmt.Sprintf("%.3fs", float64(t)/1e9) }

// between draws a duration.
func between(r *rand.Rand, lo, hi int64) int64 { return lo + r.Int64N(hi-lo+1) }

type event struct {
	at  int64
	seq uint64
	run func()
}

// heap orders events by time, then by number.
type heap []event

func (h heap) less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}

func (h *heap) push(e event) {
	*h = append(*h, e)
	q := *h
	for i := len(q) - 1; i > 0; {
		p := (i - 1) / 2
		if !q.less(i, p) {
			break
		}
		q[i], q[p] = q[p], q[i]
		i = p
	}
}

func (h *heap) pop() event {
	q := *h
	top, last := q[0], len(q)-1
	q[0], q[last] = q[last], event{}
	q = q[:last]
	*h = q
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && q.less(c+1, c) {
			c++
		}
		if !q.less(c, i) {
			break
		}
		q[i], q[c] = q[c], q[i]
		i = c
	}
	return top
}
