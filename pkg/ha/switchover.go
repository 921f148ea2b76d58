package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// manualFailover is ha-behaviour 1.12: a switchover or failover request, seen
// by the leader. ok is false when there is nothing to do about one.
func manualFailover(o *Observation) (d Decision, ok bool) {
	f := o.DCS.Cluster.Failover
	stands := o.standing(f)
	awaits := o.PG.Row.InRecovery && !o.Settings.Standby.On  // its promotion
	if stands == requestNone || o.Settings.Pause && awaits { // M1
		return d, false
	}
	clean := func(why string) (Decision, bool) {
		if o.Last.Action == (CleanFailover{Revision: f.ModRevision}) && o.Last.Result != ResultOK {
			return d, false // somebody else was faster; the next snapshot tells
		}
		return o.then(CleanFailover{Revision: f.ModRevision}, FailoverCleaned, why), true
	}
	switch stands {
	case requestBad:
		return clean("its scheduled time cannot be read")
	case requestPast: // M2
		return clean("its time has passed")
	case requestServed:
		return clean("I have handed over for it before")
	case requestEarly:
		if o.Settings.Pause || awaits || (f.Leader == "" || f.Leader == o.Me.Name) && f.Candidate != o.Me.Name {
			return d, false
		}
		return clean("the leadership changed before its time had come") // U1, M3
	case requestNone, requestDue:
	}
	switch {
	case awaits:
		return d, false // first things first
	case f.Candidate == o.Me.Name && f.Leader != o.Me.Name, f.Candidate == "" && f.Leader == o.Memory.Predecessor && f.Leader != "": // U1
		return clean("it is fulfilled")
	case f.Leader != "" && f.Leader != o.Me.Name: // M3
		return clean("it names " + f.Leader + " as the leader, but that is me")
	case f.Candidate == o.Me.Name: // M4
		return clean("I am the leader already")
	case f.Candidate == "" && o.Settings.Pause: // M5
		return clean("a switchover in pause needs a candidate")
	}
	query := failoverQuery{candidate: f.Candidate, request: f.ModRevision}
	can, ask := o.takers(query)
	if len(ask) > 0 {
		return o.ask(ask, SwitchoverAsks), true
	}
	if !can { // M6
		return clean("no good candidate has been found (" + o.whyNobody(query) + ")")
	}
	o.Memory.HandedOver = f.ModRevision
	if o.leadsStandby() { // nothing has to be stopped: nobody writes here
		return o.then(o.releaseKey(true), StandbyHandsOver), true
	}
	o.Memory.Demoting, o.Memory.ComeBack = true, true // M7
	return o.begin(Stop{Mode: StopFast, Checkpoint: true, Escalate: o.Settings.stopLimit()}, HandOver), true
}

// position is the leader's WAL position as last known.
func (o *Observation) position() wal.LSN {
	if o.PG.Known {
		return o.PG.Row.Position
	}
	if st := o.DCS.Cluster.Status; st != nil {
		return st.Optime
	}
	return 0
}

// ask puts a question to members, bounded so that the next round is not late.
func (o *Observation) ask(members []dcs.Member, r Reason) Decision {
	timeout := peerTimeout
	if o.Memory.Lease.Epoch != 0 {
		timeout = min(timeout, max(o.Memory.Lease.NextLook(o.Now, o.period()), 200*time.Millisecond))
	}
	return o.then(AskPeers{Await: members, Timeout: timeout, Patient: r == SwitchoverAsks}, r) // there an operator waits, and nothing has been stopped yet
}
