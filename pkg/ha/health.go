package ha

import "time"

// Fault is what is wrong with something that was tried beside the loop.
type Fault int

// Faults. Only what a server cannot work with is one: a refused password or
// too many clients are answers.
const (
	FaultNone Fault = iota
	FaultHang       // no answer in time
)

// Check is the record of one thing that is tried again and again beside the
// loop, so that it may hang without holding anything up.
type Check struct {
	// Good is when the newest attempt that succeeded began, 0: none did.
	Good Instant
	// Failing is when the first of the failed attempts since then began, 0 if
	// the newest one succeeded; Failures is their number, Fault and Error are of
	// the newest.
	Failing  Instant
	Failures int
	Fault    Fault
	Error    string // one line
}

// Health is what was found by trying.
type Health struct {
	// Connect: a fresh local connection with a trivial query, while the server
	// accepts connections. Old connections go on working when the postmaster
	// hangs, so that the monitoring query proves nothing about new ones.
	Connect Check
}

// Probing is the pace of the checks.
type Probing struct {
	Pause time.Duration // between the end of a good attempt and the next one
	Limit time.Duration // of one attempt
}

// Probing follows from the lease: a node that may be dead for ttl before anybody
// acts need not be asked more often than ten times in it.
func (s *Settings) Probing() Probing {
	pause := s.TTL / 10
	if s.LoopWait > 0 {
		pause = min(pause, s.LoopWait)
	}
	return Probing{
		Pause: max(pause, 500*time.Millisecond),
		Limit: min(max(s.TTL/20, time.Second), 5*time.Second),
	}
}

// enough is how many attempts in a row must fail before anything is done (L2: a
// single slow one changes nothing).
const enough = 3

// failed tells whether the check fails for long enough to act on it: the
// attempts are counted, because a host that stood still makes any time pass.
func (c *Check) failed(now Instant, patience time.Duration) bool {
	return c.Fault != FaultNone && c.Failing != 0 && c.Failures >= enough && now.Sub(c.Failing) >= patience
}

// fault is why the server of this node is no good for a leader, though it runs;
// "" as far as nothing is known.
func (o *Observation) fault() string {
	h := &o.PG.Health
	if o.PG.Process != ProcessDown && h.Connect.failed(o.Now, o.Settings.Probing().Limit*2) {
		return "new connections to the server get no answer"
	}
	return ""
}

// handOverFault gives the leadership of a server that is no good to a member
// that qualifies for it. Without one the leader stays: a bad primary is better
// than none.
func handOverFault(o *Observation) (d Decision, ok bool) {
	why := o.fault()
	if why == "" {
		return d, false
	}
	can, ask := o.failoverPossible(failoverQuery{})
	switch {
	case len(ask) > 0:
		return o.ask(ask, FaultAsksPeers), true
	case !can:
		return d, false
	case o.readOnly():
		return o.then(o.releaseKey(true), FaultHandsOver, why), true
	}
	o.Memory.Demoting = true
	o.Memory.armRewind()
	return o.begin(Stop{Mode: StopKill}, FaultHandsOver, why), true
}

// stays is what a leader rests with: the reason given, unless it leads only for
// want of somebody better.
func (o *Observation) stays(r Reason) Decision {
	if why := o.fault(); why != "" {
		return o.rest(FaultStays, why)
	}
	return o.rest(r)
}
