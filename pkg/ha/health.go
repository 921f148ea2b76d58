package ha

import "time"

// Fault is what is wrong with something that was tried beside the loop.
type Fault int

// Faults. Only what a server cannot work with is one: a refused password or
// too many clients are answers.
const (
	FaultNone     Fault = iota
	FaultHang           // no answer in time
	FaultFull           // no space left
	FaultReadOnly       // a file system that takes no writes
	FaultIO             // an input/output error
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
	// Data and WAL: a small write, flushed, to the file system of the data
	// directory, and to that of pg_wal if it is another one.
	Data, WAL Check
}

// Probing is the pace of the checks.
type Probing struct {
	Pause time.Duration // between the end of a good attempt and the next one
	Limit time.Duration // of one attempt
	// DiskPause is Pause for the disks. DiskHang is how long a write may hang: a
	// disk may be slow for seconds and be itself again.
	DiskPause, DiskHang time.Duration
}

// Probing follows from the lease: a node that may be dead for ttl before anybody
// acts need not be asked more often than ten times in it.
func (s *Settings) Probing() Probing {
	pause := s.TTL / 10
	if s.LoopWait > 0 {
		pause = min(pause, s.LoopWait)
	}
	p := Probing{
		Pause:     max(pause, 500*time.Millisecond),
		Limit:     min(max(s.TTL/20, time.Second), 5*time.Second),
		DiskPause: max(min(s.LoopWait, s.TTL/3), time.Second),
	}
	p.DiskHang = max(s.TTL/2, 4*p.Limit)
	return p
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
	if why := o.diskFault(); why != "" {
		return why
	}
	if o.PG.Process != ProcessDown && o.PG.Health.Connect.failed(o.Now, 2*o.Settings.Probing().Limit) {
		return "new connections to the server get no answer"
	}
	return ""
}

// diskFault is what is wrong with the disks of the server, "" for nothing.
func (o *Observation) diskFault() string {
	p := o.Settings.Probing()
	for _, d := range []struct {
		name  string
		check *Check
	}{{"the data directory", &o.PG.Health.Data}, {"pg_wal", &o.PG.Health.WAL}} {
		patience, what := 4*p.Limit, ""
		switch d.check.Fault {
		case FaultNone:
			continue
		case FaultHang:
			patience, what = p.DiskHang, "hangs"
		case FaultFull:
			what = "is full"
		case FaultReadOnly:
			what = "is read-only"
		case FaultIO:
			what = "has input/output errors"
		}
		if d.check.failed(o.Now, patience) {
			return "the disk of " + d.name + " " + what
		}
	}
	return ""
}

// handOverFault gives the leadership of a server that is no good to a member
// that qualifies for it. Without one the leader stays: a bad primary is better
// than none.
func handOverFault(o *Observation) (d Decision, ok bool) {
	why, m := o.fault(), &o.Memory
	if why == "" || m.NoTaker != 0 && o.Now.Sub(m.NoTaker) < o.period() {
		return d, false
	}
	can, ask := o.takers(failoverQuery{})
	switch {
	case len(ask) > 0:
		return o.ask(ask, FaultAsksPeers), true
	case !can:
		m.NoTaker = o.Now
		return d, false
	case o.ReadOnly():
		return o.then(o.releaseKey(true), FaultHandsOver, why), true
	}
	m.Demoting = true
	m.StopBy = o.Now.Add(m.Lease.Timing.Kill + time.Second)
	m.armRewind()
	return o.begin(Stop{Mode: StopKill}, FaultHandsOver, why), true
}

// kills tells whether the server of a leader that gives way is being killed. Its
// lease is not renewed meanwhile: if the server cannot be shown to have stopped, the
// others wait for that lease.
func (o *Observation) kills() bool {
	return o.Op.Kind == OpStop && o.Op.Running && o.Memory.Demoting && o.Memory.StopBy != 0
}

// stopHangs: the server cannot be shown to have stopped, though everything was
// killed: a process that a disk holds dies when the disk comes back. It
// acknowledges nothing meanwhile, but only the deadline proves that to others, so
// the key goes without the word that nobody needs to wait for it.
func (o *Observation) stopHangs() bool {
	m := &o.Memory
	return o.kills() && o.Now >= m.StopBy && m.Lease.Epoch != 0 && o.DCS.Fresh
}

// stays is what a leader rests with: the reason given, unless it leads only for
// want of somebody better.
func (o *Observation) stays(r Reason) Decision {
	if why := o.fault(); why != "" {
		return o.rest(FaultStays, why)
	}
	return o.rest(r)
}
