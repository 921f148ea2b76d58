package loop

import (
	"sync"

	"github.com/pgha/pgha/pkg/ha"
)

// Failsafe asks the members of /failsafe beside the loop (ha.AskFailsafe).
type Failsafe interface {
	// Begin starts a round; the caller made sure that none runs. It ends by
	// a.Until by itself. Its end is an event.
	Begin(a ha.AskFailsafe)
	Poll() ha.FailsafeRound
	// Cancel ends a round: etcd was heard of.
	Cancel()
}

// Promises is what this node told leaders that asked to be let be (wire
// contract §4.6). It stands between the REST API, which gives promises at any
// time, and the loop, which must not claim the leadership after one was given,
// nor let one be given after it began to claim. A new one is closed.
type Promises struct {
	mu   sync.Mutex
	open bool
	last ha.Promise
}

// Accept promises leader not to race before until, unless this node leads or is
// about to.
func (p *Promises) Accept(leader string, until ha.Instant) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return false
	}
	if until > p.last.Until { // a longer one covers it, and ends with its own leader
		p.last = ha.Promise{Leader: leader, Until: until}
	}
	return true
}

// newest returns the promise that binds for longest.
func (p *Promises) newest() ha.Promise {
	if p == nil {
		return ha.Promise{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// set opens or closes the book after a decision.
func (p *Promises) set(open bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = open
}

// close ends the giving of promises before the leadership is claimed. It refuses
// while one binds; freed is the leader who is owed nothing any more.
func (p *Promises) close(now ha.Instant, freed string) bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.Binds(now, freed) {
		return false
	}
	p.open, p.last = false, ha.Promise{}
	return true
}
