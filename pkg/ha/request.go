package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// requestStanding is where a switchover or failover request stands.
type requestStanding int

const (
	requestNone   requestStanding = iota // nothing is asked for
	requestBad                           // cannot be read
	requestEarly                         // its time has not come; in pause it never does
	requestDue                           // to be carried out
	requestPast                          // its time has passed, nothing was done
	requestServed                        // this node has carried it out, or tried to
)

// standing is the guard of S12: the leader carries a request out when it is due,
// once, and never late. Whoever it names is a matter of manualFailover.
func (o *Observation) standing(f *dcs.Failover) requestStanding {
	switch {
	case f.Empty():
		return requestNone
	case f.Bad:
		return requestBad
	case f.ModRevision != 0 && f.ModRevision == o.Memory.HandedOver:
		return requestServed
	case f.ScheduledAt.IsZero():
		return requestDue
	}
	switch due, stale := o.scheduled(f.ScheduledAt); {
	case stale:
		return requestPast
	case due:
		return requestDue
	}
	return requestEarly
}

// scheduled is ha-behaviour 1.18: an action is due at its time, and stale when
// that is more than one and a half pauses of the loop ago, in whole seconds. In
// pause it waits.
func (o *Observation) scheduled(at time.Time) (due, stale bool) {
	delta := at.Sub(o.Wall)
	late := (o.Settings.LoopWait * 3 / 2).Truncate(time.Second)
	return delta <= 0 && !o.Settings.Pause, delta < -late && !o.Settings.Pause
}

// raceRequest is the request that has a say in who becomes the leader, nil
// without one. A scheduled one has when the leader handed over because of it:
// if that died instead, before or after, the best member follows it. Clocks of
// two hosts may differ by a pause of the loop.
func (o *Observation) raceRequest() *dcs.Failover {
	f := o.DCS.Cluster.Failover
	switch {
	case f.Empty() || f.Bad:
		return nil
	case f.ScheduledAt.IsZero():
		return f
	case f.ScheduledAt.Sub(o.Wall) > o.Settings.LoopWait:
		return nil
	}
	if st := o.DCS.Cluster.Status; st != nil && st.Beat != nil && (!st.Beat.Released || st.ModRevision < f.ModRevision) {
		return nil
	}
	return f
}

// wanted tells whether a request names this node as the new leader.
func (o *Observation) wanted() bool {
	f := o.raceRequest()
	return f != nil && f.Candidate == o.Me.Name
}
