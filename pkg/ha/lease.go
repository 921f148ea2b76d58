package ha

import (
	"fmt"
	"time"
)

// Timing is the arithmetic of one leadership (safety B.1, B.2). All of it
// follows from the lease time T, the loop's pause W and the retry budget R.
type Timing struct {
	TTL          time.Duration // T
	LoopWait     time.Duration // W
	RetryTimeout time.Duration // R, shrunk where the inequality needs it
	Period       time.Duration // W': the real renewal period
	Quit         time.Duration // q: what the leash gives SIGQUIT before the sweep
	Kill         time.Duration // K: from the deadline to "nobody can acknowledge"
	Stop         time.Duration // S: the agent's own orderly demotion
	Margin       time.Duration // m
	Budget       time.Duration // L: deadline = send time + L
}

// Two hosts' clock rates differ by at most this many parts per million (A1).
const rhoPPM = 1000

// NewTiming derives the timing for a lease of ttl. The error says, with the
// numbers, that the inequality L - S >= W' + R does not hold; the Timing
// returned with it is still safe (every request is bounded by D - S), but one
// failed round may demote.
func NewTiming(ttl, loopWait, retry time.Duration) (Timing, error) {
	t := Timing{TTL: ttl, LoopWait: loopWait, RetryTimeout: retry, Period: min(loopWait, ttl/3)}
	switch {
	case ttl >= 20*time.Second:
		t.Kill, t.Stop, t.Margin, t.Quit = longestKill, 5*time.Second, time.Second, time.Second
	case ttl >= 8*time.Second:
		t.Kill, t.Stop, t.Margin, t.Quit = 1200*time.Millisecond, 2*time.Second, 500*time.Millisecond, 800*time.Millisecond
	default:
		t.Kill, t.Stop, t.Margin, t.Quit = 800*time.Millisecond, time.Second, 300*time.Millisecond, 500*time.Millisecond
	}
	skew := ttl / 1_000_000 * (2 * rhoPPM)
	t.Budget = (ttl - t.Kill - t.Margin - skew).Truncate(100 * time.Millisecond)
	if need := t.Period + retry; t.Budget-t.Stop < need {
		t.Stop = max(t.Budget-need, time.Second)
	}
	var err error
	if need := t.Period + retry; t.Budget-t.Stop < need {
		err = fmt.Errorf("ttl %s leaves %s for a renewal after %s for an orderly stop, but loop_wait %s and retry_timeout %s need %s; raise ttl or lower retry_timeout",
			ttl, t.Budget-t.Stop, t.Stop, loopWait, retry, need)
		t.RetryTimeout = max(t.Budget-t.Stop-t.Period, 500*time.Millisecond)
	}
	return t, err
}

// longestKill is K of any ttl.
const longestKill = 2 * time.Second

// Watchdog is the arithmetic of a kernel watchdog (safety B.1): the timeout Wd
// to ask for, the longest that a device may keep instead, both in whole seconds,
// and how far behind the deadline the last instant of a reset may lie.
func (t Timing) Watchdog() (want, longest, tail time.Duration) {
	longest = max((t.TTL - t.Margin - t.Period - t.RetryTimeout).Truncate(time.Second), time.Second)
	return min(longest, 5*time.Second), longest, max(t.TTL-t.Margin-t.Budget, 0)
}

// Lease is one leadership: an epoch and the instant until which its holder may
// act. It is a value; its methods return the next one.
type Lease struct {
	Epoch    int64 // 0: none
	Deadline Instant
	Timing   Timing
	// Promise is the TTL that the last written beat announced: how long every
	// other node waits after it.
	Promise time.Duration
	Beat    int64 // number of the last beat written
	// Renewed is when the last successful round was sent, Attempt when the
	// last round was.
	Renewed, Attempt Instant
	// Agreed is when the last complete round of the failsafe mode was sent.
	Agreed Instant
}

// StopAt is the instant at which an orderly demotion must begin.
func (l Lease) StopAt() Instant { return l.Deadline.Add(-l.Timing.Stop) }

// Held tells whether the node may act as leader at now.
func (l Lease) Held(now Instant) bool { return l.Epoch != 0 && now < l.StopAt() }

// Announce returns the TTL the next beat must carry: the new timing's, unless
// this node may act for longer. An earlier beat may have given it a later deadline,
// which then goes on being announced; and the leash, which is told of a new timing
// beside the round, may still take the K of the one before.
func (l Lease) Announce(sent Instant, t Timing) time.Duration {
	later := l.Deadline.Sub(sent.Add(t.Budget))
	switch {
	case l.Epoch == 0, later <= 0 && l.Timing.Kill <= t.Kill:
		return t.TTL
	case later <= 0:
		return max(t.TTL, outwaits(t.Budget+l.Timing.Kill+t.Margin))
	}
	return max(l.Promise, t.TTL, outwaits(t.Budget+later+max(l.Timing.Kill, t.Kill)+t.Margin))
}

// outwaits is the shortest wait, in whole milliseconds, that by the inequality of
// safety B.2 ends after one of act on another clock.
func outwaits(act time.Duration) time.Duration {
	const ms, part = time.Millisecond, 1_000_000 - 2*rhoPPM
	whole := (act + ms - 1) / ms
	return (whole*1_000_000 + part - 1) / part * ms
}

// Claimed returns the lease of a claim sent at sent.
func Claimed(epoch int64, sent Instant, t Timing) Lease {
	return Lease{Epoch: epoch, Deadline: sent.Add(t.Budget), Timing: t, Promise: t.TTL, Renewed: sent, Attempt: sent}
}

// Reclaimed returns the lease of a claim that may follow one by rule (d): what
// the old epoch was allowed is not taken back, and goes on being announced.
func (l Lease) Reclaimed(epoch int64, sent Instant, t Timing) Lease {
	next := Claimed(epoch, sent, t)
	next.Promise = l.Announce(sent, t)
	next.Deadline = max(next.Deadline, l.Deadline)
	return next
}

// Resumed returns the lease of an earlier run of this agent, as far as the
// leash and the last beat tell: a deadline that still binds, and what was
// announced with it.
func Resumed(o *Observation, epoch int64) Lease {
	l := Lease{Epoch: epoch}
	if o.Leash.Armed == o.Memory.Hold(epoch) {
		l.Deadline = o.Leash.Deadline
	}
	if c := o.DCS.Cluster; c != nil && c.Status != nil && c.Status.Beat != nil {
		l.Beat = c.Status.Beat.Beat
		l.Promise = time.Duration(c.Status.Beat.TTL) * time.Millisecond
	}
	return l
}

// Extended returns the lease after a successful round sent at sent (S7: the
// deadline moves by nothing else, and only forward).
func (l Lease) Extended(sent Instant, t Timing, beat int64) Lease {
	l.Promise = l.Announce(sent, t)
	l.Deadline = max(l.Deadline, sent.Add(t.Budget))
	l.Timing, l.Beat, l.Renewed, l.Attempt = t, beat, sent, sent
	return l
}

// Due tells whether the next round is to be sent. A turn caused by an event
// renews only after half a period: each beat wakes the replicas of the cluster.
func (l Lease) Due(now Instant) bool {
	return l.Epoch != 0 && l.DueIn(now) <= 0
}

// DueIn is how long it is until then.
func (l Lease) DueIn(now Instant) time.Duration {
	if l.Attempt > l.Renewed { // the last round failed
		return l.Attempt.Add(retryPause(l.Timing)).Sub(now)
	}
	return l.Renewed.Add(l.Timing.Period / 2).Sub(now)
}

// retryPause is the pause between failed rounds.
func retryPause(t Timing) time.Duration {
	return min(time.Second, t.Period/4)
}

// NextLook is how long the loop may sleep: until the round after next period,
// or until the pause after a failed one, and never past the stop instant.
func (l Lease) NextLook(now Instant, period time.Duration) time.Duration {
	if l.Epoch == 0 {
		return period
	}
	next := l.Renewed.Add(l.Timing.Period)
	if l.Attempt > l.Renewed {
		next = l.Attempt.Add(retryPause(l.Timing))
	}
	next = min(next, l.StopAt())
	return max(next.Sub(now), time.Millisecond)
}
