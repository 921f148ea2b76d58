package ha

import (
	"encoding/json"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// NextStatus is the value of /status for the next round of the lease, and the
// TTL it announces. Fields of Patroni's keep their last value while the
// position is unknown.
func NextStatus(o *Observation, sent Instant, t Timing) dcs.Status {
	m := &o.Memory
	st := o.reachedStatus()
	if o.PG.Known && (!o.PG.Row.InRecovery || o.Settings.Standby.On) {
		st.Optime = o.PG.Row.Position
		if slots := o.publishedSlots(); slots != nil {
			st.Slots = slots
		}
		st.RetainSlots = nil
		for _, r := range m.Retain {
			st.RetainSlots = append(st.RetainSlots, r.Name)
		}
	}
	st.Beat = &dcs.Beat{
		Beat: m.Lease.Beat + 1, Epoch: m.Lease.Epoch, Holder: o.Me.Holder,
		TTL: m.Lease.Announce(sent, t).Milliseconds(),
	}
	o.number(st.Beat)
	return st
}

// ClaimStatus is the value of /status that a claim writes: what was there, with
// the beat that starts the new leadership.
func ClaimStatus(o *Observation, sent Instant, t Timing) dcs.Status {
	st := o.lastStatus()
	st.Beat = &dcs.Beat{Holder: o.Me.Holder, TTL: o.Memory.Lease.Announce(sent, t).Milliseconds()}
	o.number(st.Beat)
	return st
}

// ReleasedStatus is the value of /status that ends leadership epoch, whose WAL ends
// at optime; 0: the last position known of it stays.
func ReleasedStatus(o *Observation, epoch int64, optime wal.LSN) dcs.Status {
	st := o.reachedStatus()
	st.Optime = max(st.Optime, optime)
	b := dcs.Beat{Epoch: epoch, Holder: o.Me.Holder, TTL: o.Settings.TTL.Milliseconds(), Released: true}
	if st.Beat != nil {
		b.Beat, b.TTL = st.Beat.Beat, st.Beat.TTL
		b.Timeline, b.Next = max(st.Beat.Timeline, o.Memory.Numbers.Timeline), max(st.Beat.Next, o.Memory.Numbers.Next)
		if epoch == 0 {
			b.Epoch = st.Beat.Epoch
		}
	}
	if b.Epoch == 0 {
		b.Epoch = o.Memory.LastEpoch
	}
	st.Beat = &b
	return st
}

func (o *Observation) lastStatus() dcs.Status {
	if c := o.DCS.Cluster; c != nil && c.Status != nil {
		return *c.Status
	}
	return dcs.Status{}
}

// reachedStatus is that of a leader. Where no beat told yet of the timeline that it
// made, the position there is of the leader before, and may be ahead of what this one,
// whom an operator chose, began with.
func (o *Observation) reachedStatus() dcs.Status {
	st := o.lastStatus()
	if n := &o.Memory.Numbers; outlived(&st, n.Timeline) {
		st.Optime = n.Position
	}
	return st
}

// MemberDocument is the value of this node's member key (wire contract §4.2).
func MemberDocument(o *Observation) dcs.Member {
	s := &o.Settings
	mem := dcs.Member{
		Name: o.Me.Name, ConnURL: o.Me.ConnURL, APIURL: o.Me.APIURL, ProxyURL: o.Me.ProxyURL,
		State: o.State(), Role: o.Role(), Version: o.Me.Version, Tags: o.publishedTags(), Pause: s.Pause,
	}
	if len(o.PG.PendingRestart) > 0 {
		mem.PendingRestart = true
		mem.PendingRestartReason, _ = json.Marshal(o.PG.PendingRestart) // a map of strings cannot fail
	}
	if mem.Role == "primary" && o.PG.CheckpointPending {
		no := false
		mem.CheckpointAfterPromote = &no
	}
	if o.PG.Known && (!o.Op.Running || o.Op.Kind == OpPromote || o.Op.Kind == OpCheckDivergence || o.Op.Kind == OpCheckRemote || o.Op.Kind == OpCopySlots) {
		r := &o.PG.Row
		mem.XLogLocation, mem.Timeline = r.Position, r.Timeline
		if r.InRecovery {
			mem.ReceiveLSN, mem.ReplayLSN, mem.ReplicationState = r.Receive, r.Replay, r.ReplicationState
		}
	}
	if !o.PG.Known && o.PG.DataDir == DataDirPresent { // others must not give its number again
		mem.DataTimeline = o.dataTimeline()
	}
	mem.ScheduledRestart = o.scheduledRestart()
	mem.Progress, mem.Quarantine, mem.Slots = o.progress(), o.Memory.Quarantine.Why, o.publishedUsage()
	return mem
}

// progress is what is published of a long operation that runs.
func (o *Observation) progress() *dcs.Progress {
	op := &o.Op
	name := ""
	switch op.Kind {
	case OpBootstrap:
		name = "bootstrap"
	case OpClone:
		name = "clone"
	case OpRestore:
		name = "restore"
	case OpNone, OpPostBootstrap, OpRewind, OpCrashRecovery, OpStartPrimary, OpStartStandby, OpStop, OpPromote, OpCheckDivergence, OpCheckRemote, OpRestart, OpCopySlots:
	}
	if !op.Running || name == "" {
		return nil
	}
	started := o.Wall.Add(-o.Now.Sub(op.Started)).Round(time.Second)
	return &dcs.Progress{Operation: name, Method: op.Method, Done: op.Done, Total: op.Total, Rate: op.Rate, Started: started}
}

// State is the state string of wire contract §4.2.
func (o *Observation) State() string {
	if o.Op.Running {
		switch o.Op.Kind {
		case OpBootstrap:
			switch {
			case o.Settings.Standby.On:
				return "creating replica"
			case o.Op.Method == "": // initdb reports none
				return "initializing new cluster"
			case o.PG.Process != ProcessDown:
				return "starting after custom bootstrap"
			}
			return "running custom bootstrap script"
		case OpClone:
			return "creating replica"
		case OpStartPrimary, OpStartStandby:
			return "starting"
		case OpStop:
			return "stopping"
		case OpRestart:
			return "restarting"
		case OpRestore:
			switch {
			case o.PG.Process == ProcessDown:
				return "stopped"
			case o.recovering(): // nobody can connect to it
				return "starting"
			}
		case OpNone, OpPostBootstrap, OpRewind, OpCrashRecovery, OpPromote, OpCheckDivergence, OpCheckRemote, OpCopySlots:
		}
	}
	switch o.PG.Process {
	case ProcessRunning:
		return "running"
	case ProcessStarting:
		return "starting"
	case ProcessUnsure:
		return "stopping"
	case ProcessDown:
	}
	switch {
	case o.Memory.Bootstrap == BootstrapFailed && o.Op.Kind == OpBootstrap && o.Op.Method != "":
		return "custom bootstrap failed"
	case o.Memory.Bootstrap == BootstrapFailed && o.Op.Kind == OpBootstrap:
		return "initdb failed"
	case o.Memory.FailedTries > 0 && o.Op.Kind == OpRestart:
		return "restart failed"
	case o.Memory.FailedTries > 0:
		return "start failed"
	case o.PG.Crashed:
		return "crashed"
	}
	return "stopped"
}

// Role is the role string of wire contract §4.2.
func (o *Observation) Role() string {
	switch {
	case o.PG.DataDir != DataDirPresent && !o.recovering() || o.Op.Running && (o.Op.Kind == OpClone || o.Op.Kind == OpBootstrap):
		return "uninitialized"
	case o.PG.Process == ProcessDown && o.PG.StandbySignal:
		return "replica"
	case o.PG.Process == ProcessDown && !(o.mayLead() && o.Memory.Primary):
		return "demoted"
	case o.Op.Running && o.Op.Kind == OpPromote && !o.Memory.Primary:
		return "promoted"
	case o.Memory.Primary:
		return "primary"
	case o.leadsStandby():
		return "standby_leader"
	}
	return "replica"
}

// recovering: a restore of this node has taken the server away. Before that it
// is a primary like any other.
func (o *Observation) recovering() bool {
	return o.Op.Running && o.Op.Kind == OpRestore && (o.PG.DataDir != DataDirPresent || !o.PG.Known || o.PG.Row.InRecovery)
}

// NewView is what everybody else may see after this decision.
func NewView(o *Observation, d *Decision) *View {
	s := &o.Settings
	v := &View{
		Name: o.Me.Name, Scope: o.Me.Scope, Version: o.Me.Version, At: o.Now, Turned: o.Now, Period: o.period(),
		Leading:     d.Memory.Lease.Epoch != 0 && (d.Memory.Primary || s.Standby.On && o.PG.Known) && o.PG.Process == ProcessRunning && !o.recovering(),
		AnswerUntil: d.Memory.Lease.StopAt(), Deadline: d.Memory.Lease.Deadline,
		FailsafeUntil: o.failsafeUntil(d.Memory.Lease),
		Paused:        s.Pause, Cluster: o.DCS.Cluster,
		SystemID: o.PG.SystemID, Known: o.PG.Known, Row: o.PG.Row,
		ServerVersion: o.PG.ServerVersion, PostmasterStartTime: o.PG.PostmasterStartTime,
		PendingRestart: o.PG.PendingRestart, Operation: o.Op, Progress: o.progress(),
		Tags: s.Tags, NoLoadBalance: s.Tags.Bool("noloadbalance"),
		TTL: s.TTL, LoopWait: s.LoopWait, MaximumLagOnFailover: s.MaximumLagOnFailover, Config: s.Document,
		WatchdogFailed: o.watchdogFault() != "", LeashOff: s.LeashOff,
		Quarantine: d.Memory.Quarantine.Why, Seen: d.Memory.Seen,
		Fault: o.fault(), Health: o.PG.Health,
		Slots:   o.slotUsage(),
		Restart: d.Memory.Restart.state(),
		Reason:  d.Text(o.Me.Name),
	}
	if o.frozenVoter() {
		v.Frozen, v.Promise = true, o.lastEpoch()
	}
	if r := o.Restart.Scheduled; r.Serial != d.Memory.Restart.Scheduled {
		v.ScheduledRestart = r.Document
	}
	seen := *o
	seen.Memory = d.Memory
	v.State, v.Role = seen.State(), seen.Role()
	v.Code, v.Obstacles, v.Leash = d.Reason.Code(), obstacles(&seen), seen.leashState()
	return v
}

// MarkSeen records when the view's cluster snapshot was last known to be current.
func (v *View) MarkSeen(at Instant, wall time.Time) { v.ClusterAt, v.DCSLastSeen = at, wall }
