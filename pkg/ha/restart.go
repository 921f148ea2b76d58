package ha

import (
	"encoding/json"
	"strings"
	"time"
)

// RestartRequest is an operator's request to restart the server, on conditions
// (wire contract §5.7).
type RestartRequest struct {
	Serial  int64         // grows with each request; 0: none
	At      time.Time     // zero: at once
	Role    string        // only a server in this role; "" any
	Version int           // only a server older than this server_version_num; 0: any
	Pending bool          // only where a parameter waits for a restart
	Timeout time.Duration // of the start; 0: primary_start_timeout
	// PostmasterStart is of the server that a scheduled restart is meant for.
	PostmasterStart string
	// Document is a scheduled request as its sender wrote it: a JSON object.
	Document []byte
}

// Restarts are the newest requests of the two kinds.
type Restarts struct{ Now, Scheduled RestartRequest }

// RestartMemory is what became of them. A request is taken up once, in the first
// turn that could carry it out, and never looked at again (S12).
type RestartMemory struct {
	Now, Scheduled int64 // serials of the requests that were taken up or dropped
	Runs           bool  // the restart that Now asked for
	Failure        string
	// Overdue: a restarted primary outlived the timeout of its start.
	Overdue bool
}

// RestartState tells whoever sent a request what became of it.
type RestartState struct {
	Now, Scheduled int64 // as in RestartMemory
	Runs           bool
	Failure        string // "" when the restart that Now asked for was done
}

func (m *RestartMemory) state() RestartState {
	return RestartState{Now: m.Now, Scheduled: m.Scheduled, Runs: m.Runs, Failure: m.Failure}
}

// noteRestart refuses a request that cannot be carried out now: whoever sent it
// waits, and it must not surprise anybody later.
func (o *Observation) noteRestart() {
	m, r := &o.Memory.Restart, o.Restart.Now
	if r.Serial == m.Now {
		return
	}
	if why := o.restartRefused(r); why != "" {
		m.Now, m.Runs, m.Failure = r.Serial, false, why
	}
}

// noteRestarted takes in the end of a restart.
func (o *Observation) noteRestarted() {
	m, op := &o.Memory, o.Op
	if m.Restart.Runs {
		m.Restart.Runs, m.Restart.Failure = false, ""
		if op.Error != "" {
			m.Restart.Failure = "restart failed: " + op.Error
		}
	}
	switch {
	case op.Error == "":
		m.Offline = false
	case o.PG.Process == ProcessDown: // a leader that does not come up gives the lock away (scenario 75)
		m.FailedStart = op.Ended
		m.FailedTries++
	case o.PG.Process == ProcessStarting && m.Primary:
		m.CrashedPrimary, m.Restart.Overdue = op.Started, true
	}
}

// restart is ha-behaviour 1.19: the request of somebody who waits for its end,
// and the scheduled one when its time has come (1.18).
func restart(o *Observation) (d Decision, ok bool) {
	m := &o.Memory.Restart
	if o.holds() && !o.Settings.Pause && (!o.armed() || o.watchdogFault() != "") {
		return d, false // first things first: somebody must be there to stop the server in time
	}
	if r := o.Restart.Now; r.Serial != m.Now {
		if d, waits := o.relieved(2 * o.Settings.LoopWait); waits {
			return d, true
		}
		m.Now, m.Runs, m.Failure = r.Serial, true, ""
		return o.beginRestart(r, RestartRuns), true
	}
	r := o.Restart.Scheduled
	if r.Serial == m.Scheduled || o.Settings.Pause || o.DCS.Cluster.Leader == nil {
		return d, false
	}
	drop := func(why string) (Decision, bool) {
		m.Scheduled = r.Serial
		return o.then(nil, RestartDropped, why), true
	}
	if now := o.PG.PostmasterStartTime; now != "" && r.PostmasterStart != "" && now != r.PostmasterStart {
		return drop("the server was restarted at " + now)
	}
	switch due, stale := o.scheduled(r.At); {
	case stale:
		return drop("its time has passed")
	case !due:
		return d, false
	}
	if why := o.restartRefused(r); why != "" {
		return drop(why)
	}
	if d, waits := o.relieved(o.Settings.LoopWait); waits { // longer, and it were stale
		return d, true
	}
	m.Scheduled = r.Serial
	return o.beginRestart(r, RestartScheduled), true
}

func (o *Observation) beginRestart(r RestartRequest, why Reason) Decision {
	a := Restart{Primary: o.restartsAsPrimary(), Timeout: r.Timeout}
	if a.Timeout == 0 {
		a.Timeout = o.Settings.PrimaryStartTimeout
	}
	if !a.Primary {
		a.Upstream = Upstream{Member: o.PG.Upstream, ConnURL: o.PG.UpstreamURL}
		if a.Upstream.ConnURL == "" || o.followsRemote() {
			a.Upstream = o.followed()
		}
	}
	return o.begin(a, why)
}

// restartsAsPrimary: the role does not change by a restart. Of a server that is
// down, the directory tells.
func (o *Observation) restartsAsPrimary() bool {
	if o.PG.Process == ProcessDown {
		return !o.PG.StandbySignal
	}
	return o.mayWrite()
}

// restartRefused is why the server must not, or need not, be restarted; "" if
// it may be.
func (o *Observation) restartRefused(r RestartRequest) string {
	m := &o.Memory
	switch {
	case o.Op.Running: // clients know the words
		return o.Op.Kind.String() + " already in progress"
	case o.Stopping:
		return "the agent is being stopped"
	case !o.DCS.Fresh:
		return "etcd does not answer, try again later"
	case m.Bootstrap != BootstrapNone:
		return "bootstrap already in progress"
	case m.Reinit.Wanted:
		return "reinitialize already in progress"
	case o.order() != nil:
		return "restore already in progress"
	case o.PG.DataDir != DataDirPresent:
		return "there is no usable data directory"
	case o.foreign():
		return "the data directory is of another cluster"
	case m.Demoting || m.Releasing != 0 && m.Releasing == m.Lease.Epoch:
		return "switchover already in progress"
	case o.PG.Process == ProcessDown && !o.Settings.Pause:
		return "the server is down, and will be started without being asked to"
	case o.restartsAsPrimary() && !o.mayRunAsPrimary():
		return "the server would come up as a primary, but this member does not hold the leader key"
	case !o.restartMatches(r):
		return "restart conditions are not satisfied"
	}
	return ""
}

// mayRunAsPrimary: the leader may. In pause, so may whoever could take the free
// key once it runs (1.23.3); a primary without the key that runs is left alone
// (1.23.4), and not made to run again beside a leader.
func (o *Observation) mayRunAsPrimary() bool {
	if o.holds() {
		return true
	}
	return o.Settings.Pause && (o.DCS.Cluster.Leader == nil || o.leaderIsMe()) && !o.foreign()
}

func (o *Observation) restartMatches(r RestartRequest) bool {
	switch {
	case r.Role != "" && r.Role != o.Role():
		return false
	case r.Version != 0 && o.PG.ServerVersion >= r.Version:
		return false
	case r.Pending && len(o.PG.PendingRestart) == 0:
		return false
	}
	return true
}

// settleRestart refuses a request that nothing came of by the end of a step: the
// reason for that is the answer. The end of a synchronous duty is waited for.
func (o *Observation) settleRestart(d Decision) Decision {
	if d.Reason == SyncLeaves {
		return d
	}
	if r := o.Restart.Now; r.Serial != d.Memory.Restart.Now && !d.Again {
		d.Memory.Restart.Now, d.Memory.Restart.Runs, d.Memory.Restart.Failure = r.Serial, false, "not now: "+d.Text(o.Me.Name)
	}
	return d
}

// untilScheduled bounds a wait by the time of a scheduled action: no event tells
// of it.
func (o *Observation) untilScheduled(d Decision) Decision {
	if o.Settings.Pause || o.DCS.Cluster == nil {
		return d
	}
	at := time.Time{}
	if r := o.Restart.Scheduled; r.Serial != d.Memory.Restart.Scheduled {
		at = r.At
	}
	if f := o.DCS.Cluster.Failover; !f.Empty() && d.Memory.Lease.Epoch != 0 && !f.ScheduledAt.IsZero() && (at.IsZero() || f.ScheduledAt.Before(at)) {
		at = f.ScheduledAt
	}
	if left := at.Sub(o.Wall); !at.IsZero() && left > 0 {
		d.Wait = min(d.Wait, max(left, time.Millisecond))
	}
	return d
}

// scheduledRestart is the request that waits for its time, as the member key
// shows it: with the start of the server it is meant for.
func (o *Observation) scheduledRestart() json.RawMessage {
	r := o.Restart.Scheduled
	if r.Serial == o.Memory.Restart.Scheduled || len(r.Document) == 0 {
		return nil
	}
	if r.PostmasterStart == "" {
		return r.Document
	}
	start, _ := json.Marshal(r.PostmasterStart) // a string cannot fail
	return json.RawMessage(strings.TrimSuffix(string(r.Document), "}") + `,"postmaster_start_time":` + string(start) + "}")
}
