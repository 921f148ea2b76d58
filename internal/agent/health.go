package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// probe tries one thing again and again beside the loop, and keeps the record.
// An attempt may hang for good: it is waited for by nobody but the next one, so
// that there is never more than one.
type probe struct {
	what string // for the log: "new connections to the server"
	// try makes one attempt. It should end with its context, and may not.
	try func(ctx context.Context) error
	// subject is what an attempt is about, 0 for nothing: the record of one
	// server says nothing about the next.
	subject func() int
	pace    func() ha.Probing
	now     func() ha.Instant
	wake    func()
	log     *slog.Logger

	mu    sync.Mutex
	about int
	check ha.Check
}

// state is the record of the present subject.
func (p *probe) state() ha.Check {
	about := p.subject()
	p.mu.Lock()
	defer p.mu.Unlock()
	if about == 0 || about != p.about {
		return ha.Check{}
	}
	return p.check
}

// run probes until ctx ends; it does not wait for an attempt that hangs.
func (p *probe) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		pace := p.pace()
		pause := pace.Pause
		if about := p.subject(); about != 0 && !p.attempt(ctx, about, pace.Limit) {
			pause = pace.Limit / 4
		}
		timer.Reset(pause)
	}
}

// attempt makes one attempt and returns when it has ended, telling whether it
// succeeded. As long as it hangs, each limit counts as one that failed.
func (p *probe) attempt(ctx context.Context, about int, limit time.Duration) bool {
	began := p.now()
	try, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.try(try) }()
	patience := limit + limit/10 // it has a deadline of its own
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return true
		case err := <-done:
			return p.note(about, began, err)
		case <-timer.C:
			select { // this process may have stood still
			case err := <-done:
				return p.note(about, began, err)
			default:
				p.note(about, began, postgres.ErrNoAnswer)
				timer.Reset(limit)
			}
		}
	}
}

// note records one attempt.
func (p *probe) note(about int, began ha.Instant, err error) (good bool) {
	if p.subject() != about {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.about != about {
		p.about, p.check = about, ha.Check{}
	}
	c := &p.check
	fault := faultOf(err)
	switch {
	case err == nil:
		if c.Failures > 1 {
			p.log.Info(p.what + " work again")
		}
		*c = ha.Check{Good: began}
		return true
	case fault == ha.FaultNone:
		p.log.Debug(err.Error()) // it could not be tried: proves nothing
		return true
	case c.Failures == 0:
		c.Failing = began
	}
	c.Failures++
	c.Fault, c.Error = fault, err.Error()
	if c.Failures == 2 {
		p.log.Warn(p.what + " fail: " + c.Error)
	}
	p.wake()
	return false
}

// faultOf classes the outcome of an attempt.
func faultOf(err error) ha.Fault {
	if errors.Is(err, postgres.ErrNoAnswer) {
		return ha.FaultHang
	}
	return ha.FaultNone
}

// health is what is tried all the time beside the loop.
type health struct {
	connect *probe
}

// watch starts the probes of n.
func (n *node) watch() {
	pace := func() ha.Probing {
		s := settings(n.config())
		return s.Probing()
	}
	n.health.connect = &probe{
		what: "new connections to the server", try: n.srv.Answers, subject: n.accepts,
		pace: pace, now: n.now, wake: n.wake, log: n.log,
	}
	n.background(n.health.connect.run)
}

// facts are what the probes have found.
func (h *health) facts() (f ha.Health) {
	if h.connect != nil {
		f.Connect = h.connect.state()
	}
	return f
}

// accepts is the pid of a server that is to answer connections, else 0. One that
// starts up does: it refuses them.
func (n *node) accepts() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping {
		return 0
	}
	return n.pid
}
