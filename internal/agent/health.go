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
	pace    func() (pause, limit time.Duration)
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
		pause, limit := p.pace()
		if about := p.subject(); about != 0 && !p.attempt(ctx, about, limit) {
			pause = limit / 4
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
				p.note(about, began, errHangs)
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

var errHangs = errors.New("no answer in time")

// faultOf classes the outcome of an attempt.
func faultOf(err error) ha.Fault {
	switch {
	case errors.Is(err, postgres.ErrNoAnswer), errors.Is(err, errHangs):
		return ha.FaultHang
	case errors.Is(err, postgres.ErrDiskFull):
		return ha.FaultFull
	case errors.Is(err, postgres.ErrDiskReadOnly):
		return ha.FaultReadOnly
	case errors.Is(err, postgres.ErrDiskBroken):
		return ha.FaultIO
	}
	return ha.FaultNone
}

// health is what is tried all the time beside the loop.
type health struct {
	connect, data, wal *probe
}

// watch starts the probes of n.
func (n *node) watch() {
	pace := func() ha.Probing {
		s := settings(n.config())
		return s.Probing()
	}
	start := func(p *probe) *probe {
		p.now, p.wake, p.log = n.now, n.wake, n.log
		n.background(p.run)
		return p
	}
	n.health.connect = start(&probe{
		what: "new connections to the server", try: n.srv.Answers, subject: n.accepts,
		pace: func() (time.Duration, time.Duration) { p := pace(); return p.Pause, p.Limit },
	})
	disk := func(what string, try func() error) *probe {
		return start(&probe{
			what: what, try: func(context.Context) error { return try() }, subject: n.present,
			pace: func() (time.Duration, time.Duration) { p := pace(); return p.DiskPause, p.Limit },
		})
	}
	n.health.data = disk("writes to the disk of the data directory", n.srv.TryDisk)
	n.health.wal = disk("writes to the disk of pg_wal", n.srv.TryWALDisk)
}

// facts are what the probes have found.
func (h *health) facts() (f ha.Health) {
	if h.connect != nil {
		f.Connect, f.Data, f.WAL = h.connect.state(), h.data.state(), h.wal.state()
	}
	return f
}

// present is 1 if there is a data directory to write to, else 0.
func (n *node) present() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.facts.DataDir != ha.DataDirPresent {
		return 0
	}
	return 1
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
