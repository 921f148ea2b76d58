package ha

import "time"

// crashBudget is how many crashes of a primary within the window end in a restart
// in place. The next one is a loop: somebody else may do better.
const crashBudget = 2

// Crashes are the newest crashes of a leadership's server, the latest first.
type Crashes struct {
	Epoch int64
	At    [crashBudget + 1]Instant
}

// noteCrash counts the present crash of the leader's server, once.
func (o *Observation) noteCrash() {
	m := &o.Memory
	if m.CrashedPrimary != 0 && o.PG.Since <= m.Crashes.At[0] {
		return
	}
	if m.CrashedPrimary == 0 { // else it died before it was seen to be back
		m.CrashedPrimary = o.Now
	}
	if m.Crashes.Epoch != m.Lease.Epoch {
		m.Crashes = Crashes{Epoch: m.Lease.Epoch}
	}
	copy(m.Crashes.At[1:], m.Crashes.At[:crashBudget])
	m.Crashes.At[0] = o.Now
}

// crashWindow is the time in which the budget counts: what crashes more rarely
// serves its clients in between. A primary that may take less than that to start
// has less.
func (s *Settings) crashWindow() time.Duration {
	w := 12 * max(s.LoopWait, 2*time.Second) // a slow disk takes some seconds of it for each recovery
	if s.PrimaryStartTimeout > 0 {
		w = min(w, s.PrimaryStartTimeout)
	}
	return w
}

// crashLoop tells whether the budget of this leadership is spent (L7).
func (o *Observation) crashLoop() bool {
	c := &o.Memory.Crashes
	oldest := c.At[crashBudget]
	return c.Epoch == o.Memory.Lease.Epoch && oldest != 0 && c.At[0].Sub(oldest) <= o.Settings.crashWindow()
}
