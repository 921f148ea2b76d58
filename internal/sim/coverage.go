package sim

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/pgha/pgha/pkg/ha"
)

// Coverage is what a run, or many, came to see.
type Coverage struct {
	Events    int
	Decisions int
	Acks      int
	Agreed    int   // complete rounds of the failsafe mode
	Leaders   int   // leaderships over the run
	Gap       int64 // the longest time in which nobody held the leader key, after the first who did; ns
	Reasons   [ha.Reasons]int
	Points    [2 * int(effects)]int
	Pairs     [roles * keys * leashes * modes]int
	Faults    map[string]int
	Phases    map[phase]int // in which phase of its node a fault struck
	Sometimes map[string]int
}

// phase is what a node was doing when a fault struck it.
type phase struct{ fault, of string }

func (c *Coverage) init() {
	c.Faults, c.Phases, c.Sometimes = map[string]int{}, map[phase]int{}, map[string]int{}
}

// Add takes in what another run saw.
func (c *Coverage) Add(o *Coverage) {
	if c.Faults == nil {
		c.init()
	}
	c.Events, c.Decisions, c.Acks = c.Events+o.Events, c.Decisions+o.Decisions, c.Acks+o.Acks
	c.Agreed, c.Leaders = c.Agreed+o.Agreed, c.Leaders+o.Leaders
	c.Gap = max(c.Gap, o.Gap)
	addAll(c.Reasons[:], o.Reasons[:])
	addAll(c.Points[:], o.Points[:])
	addAll(c.Pairs[:], o.Pairs[:])
	for k, n := range o.Faults {
		c.Faults[k] += n
	}
	for k, n := range o.Phases {
		c.Phases[k] += n
	}
	for k, n := range o.Sometimes {
		c.Sometimes[k] += n
	}
}

func addAll(to, from []int) {
	for i, n := range from {
		to[i] += n
	}
}

// What a node is at the moment of a decision, for the pairs that were covered.
const (
	roles   = 3 // no server, standby, primary
	keys    = 3 // no leader, I lead, another leads
	leashes = 3 // not armed, armed, suspended
	modes   = 3 // etcd seen, etcd not seen, paused
)

// pair counts the combination that a decision was made in.
func (c *Coverage) pair(o *ha.Observation) {
	role, key, leash, mode := 0, 0, 0, 0
	switch {
	case o.PG.Known && o.PG.Row.InRecovery:
		role = 1
	case o.PG.Known:
		role = 2
	}
	switch name := o.DCS.Cluster.LeaderName(); name {
	case "":
	case o.Me.Name:
		key = 1
	default:
		key = 2
	}
	switch {
	case o.Leash.Suspended:
		leash = 2
	case o.Leash.Armed != 0:
		leash = 1
	}
	switch {
	case o.Settings.Pause:
		mode = 2
	case !o.DCS.Fresh:
		mode = 1
	}
	c.Pairs[((role*keys+key)*leashes+leash)*modes+mode]++
}

// sometimes are the situations that a simulator worth its time must reach: each
// is a place where a guard matters. What is never seen fails the long run.
var sometimes = []string{
	"a claim failed on its compares", "a round failed on its compares", "a request that was given up on reached etcd",
	"the leash killed a server", "the watchdog reset a host", "backends outlived their postmaster", "a latched epoch was not armed again",
	"the failsafe mode held a leader", "a promise kept a member out of the race", "the sitting holder took the key again",
	"a restarted agent took its leadership back", "a restarted agent found its deadline passed",
	"a copy was cut off half-way", "a rewind was cut off half-way", "a rewind waited for a checkpoint",
	"a leader handed over on request", "the leash was armed again after a pause",
	"a server was restarted on request", "a server outlived its kill, held by its disk",
	"a write waited for a standby", "a standby took over what was acknowledged", "a voter froze for a candidate",
}

// Unseen are those of the list that never happened.
func (c *Coverage) Unseen() (out []string) {
	for _, s := range sometimes {
		if c.Sometimes[s] == 0 {
			out = append(out, s)
		}
	}
	return out
}

// Unexplained are the reasons that were never decided for, without a word on why.
func (c *Coverage) Unexplained() (out []ha.Reason) {
	for r, n := range c.Reasons {
		if n == 0 && unreached[ha.Reason(r)] == "" {
			out = append(out, ha.Reason(r))
		}
	}
	return out
}

// Missed are the points at which an agent was never crashed or held up.
func (c *Coverage) Missed() (out []string) {
	for i, n := range c.Points {
		if n == 0 && unstoppable[effect(i/2)] == "" {
			out = append(out, point(i).String())
		}
	}
	return out
}

// Report prints all of it.
func (c *Coverage) Report(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("%d events, %d decisions, %d acknowledged writes, %d leaderships, %d complete rounds of the failsafe mode\n",
		c.Events, c.Decisions, c.Acks, c.Leaders, c.Agreed)
	p("faults by kind:")
	for _, k := range slices.Sorted(maps.Keys(c.Faults)) {
		p("  %s\t%d", k, c.Faults[k])
	}
	hit, all := 0, 0
	for _, n := range c.Pairs {
		if all++; n > 0 {
			hit++
		}
	}
	p("\n%d of %d combinations of role, leader key, leash and mode were decided in; %d pairs of a fault and what its node was doing", hit, all, len(c.Phases))
	p("\nsituations:")
	for _, s := range sometimes {
		p("  %s\t%d", s, c.Sometimes[s])
	}
	if missed := c.Missed(); len(missed) > 0 {
		p("\nno agent was ever stopped at: %q", missed)
	}
	p("\nreasons never decided for:")
	for r, n := range c.Reasons {
		if n > 0 {
			continue
		}
		why := unreached[ha.Reason(r)]
		if why == "" {
			why = "UNEXPLAINED"
		}
		p("  %s\t%s", ha.Reason(r), why)
	}
	_ = w.Flush()
}
