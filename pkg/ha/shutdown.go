package ha

import "time"

// stopLimit is what an orderly stop may take: clients are gone then, and wait.
func (s *Settings) stopLimit() time.Duration {
	if s.PrimaryStopTimeout > 0 {
		return s.PrimaryStopTimeout
	}
	return max(2*s.TTL, 30*time.Second)
}

// leashNear: the server can write, and only the time of an orderly stop is left
// until its leash ends it.
func (o *Observation) leashNear() bool {
	left, bound := o.leashLeft()
	return bound && left <= 0 && o.mayWrite()
}

// leashLeft is the time until an orderly stop must begin, where a leash ends the server.
func (o *Observation) leashLeft() (left time.Duration, bound bool) {
	return o.Leash.Deadline.Add(-o.Memory.stopBudget(o)).Sub(o.Now), o.Leash.Binds()
}

// demotion is the stop of a primary whose leash ends it soon. Half of the time that
// is left is for good order; SIGQUIT gets a quarter and SIGKILL is done before the
// leash has to act, also where the postmaster hears no signal.
func (o *Observation) demotion() Stop {
	left := o.Memory.stopBudget(o)
	if o.Leash.Binds() {
		left = min(left, max(o.Leash.Deadline.Sub(o.Now), 200*time.Millisecond))
	}
	return Stop{Mode: StopFast, Escalate: left / 2}
}

// releasesEarly: the leader's server has written its shutdown checkpoint, so that
// nobody can write any more, and is held up by its archiver or a walsender.
func (o *Observation) releasesEarly() bool {
	return o.Op.Kind == OpStop && o.Memory.Demoting && o.Memory.Lease.Epoch != 0 && o.DCS.Fresh && o.PG.Shutdown.Checkpoint != 0 && !o.Settings.Pause
}

// handOverPause is how soon the members are asked again for that checkpoint, and how
// long an answer is waited for: the server may have stopped meanwhile, which frees the
// key at once.
const handOverPause = 100 * time.Millisecond

// releaseEarly is ha-behaviour 1.21: the key is released as soon as a member that
// may take over has that checkpoint.
func releaseEarly(o *Observation) Decision {
	q := failoverQuery{behind: o.PG.Shutdown.Checkpoint}
	if f := o.DCS.Cluster.Failover; f != nil && !f.Bad {
		q.candidate = f.Candidate
	}
	can, ask := o.takers(q)
	switch {
	case len(ask) > 0:
		return o.then(AskPeers{Await: ask, Timeout: handOverPause}, HandOverAsks)
	case !can:
		return o.wait(handOverPause, OperationRuns, o.Op.Kind.String())
	}
	r := o.releaseKey(true)
	r.Optime = o.PG.Shutdown.Publish
	return o.then(r, HandOverEarly)
}
