package ha

import "time"

// String is the task name, as Patroni shows it.
func (k OpKind) String() string {
	switch k {
	case OpNone:
		return "none"
	case OpBootstrap:
		return "bootstrap"
	case OpPostBootstrap:
		return "post_bootstrap"
	case OpClone:
		return "bootstrap from leader"
	case OpRestore:
		return "restoring from backup"
	case OpRewind:
		return "running pg_rewind"
	case OpCrashRecovery:
		return "doing crash recovery in a single user mode"
	case OpStartPrimary:
		return "starting primary after failure"
	case OpStartStandby:
		return "starting as a secondary"
	case OpStop:
		return "stopping"
	case OpPromote:
		return "promote"
	case OpCheckDivergence:
		return "comparing timelines"
	case OpCheckRemote:
		return "asking the remote"
	case OpRestart:
		return "restart"
	case OpCopySlots:
		return "copy_logical_slots"
	}
	return "unknown"
}

// duringOperation is table A. The lease has been seen to already; what is left
// is to decide whether the operation may go on.
func duringOperation(o *Observation) Decision {
	k := o.Op.Kind
	switch {
	case o.Stopping && k != OpStop && k != OpPromote && k != OpPostBootstrap:
		o.Memory.Restore.Interrupted = k == OpRestore
		return o.cancel()
	case k == OpClone && o.Memory.Reinit.Held, o.Memory.Reinit.Wanted && o.Memory.Reinit.Force && o.mayCancel():
		return o.cancel()
	case o.stopHangs():
		return o.then(o.releaseKey(false), FaultUnproven)
	case o.releasesEarly():
		return releaseEarly(o)
	case k == OpRestore:
		return duringRestore(o)
	case o.Memory.Bootstrap != BootstrapNone || o.Settings.Pause || k == OpStop:
		return o.goesOn()
	case !o.mayLead() && (k == OpPromote || k == OpStartPrimary || k == OpRestart && o.Memory.Primary): // A3, A4
		return o.cancel()
	case o.mayLead() && (k == OpStartPrimary || k == OpCrashRecovery) && o.startOverdue(): // A1, B2
		return o.giveUpIfSomebodyCan(StartTimeout, o.cancel())
	case o.holds() && (k == OpPromote || k == OpStartPrimary || k == OpRestart) && !o.armed() && !o.armFailed():
		return o.then(ArmLeash{}, LeaderArming) // the key was lost and taken again meanwhile: the old epoch is not renewed any more
	default:
		return o.goesOn()
	}
}

// ProgressPeriod is how often the progress of a long operation is published.
const ProgressPeriod = 2 * time.Second

// goesOn lets the operation run, and looks often enough to publish its progress.
func (o *Observation) goesOn() Decision {
	if left := o.Memory.StopBy.Sub(o.Now); o.Memory.Demoting && left > 0 {
		return o.wait(min(o.period(), left), OperationRuns, o.Op.Kind.String())
	}
	if o.Op.Method == "" {
		return o.rest(OperationRuns, o.Op.Kind.String())
	}
	return o.wait(min(o.period(), ProgressPeriod), OperationRuns, o.Op.Kind.String())
}

// mayCancel tells whether an operator may cut the running operation short, to
// have this member made anew.
func (o *Observation) mayCancel() bool {
	switch o.Op.Kind {
	case OpRewind, OpCrashRecovery, OpStartStandby, OpCheckDivergence, OpCheckRemote:
		return true
	case OpClone, OpRestart, OpCopySlots:
		return true
	case OpNone, OpBootstrap, OpPostBootstrap, OpRestore, OpStartPrimary, OpStop, OpPromote:
	}
	return false
}

// mayLead is holds without the demand that etcd was heard of this instant: an
// operation of the leader goes on while the lease does.
func (o *Observation) mayLead() bool {
	m := &o.Memory
	return m.Lease.Epoch != 0 && (m.Lease.Held(o.Now) || o.Settings.Pause)
}

func (o *Observation) cancel() Decision {
	d := o.rest(OperationCancelled, o.Op.Kind.String())
	d.Action = CancelOperation{}
	return d
}

// startOverdue tells whether a primary takes longer to come back than
// primary_start_timeout allows.
func (o *Observation) startOverdue() bool {
	if o.Memory.Restart.Overdue {
		return true
	}
	since := o.Memory.CrashedPrimary
	if since == 0 {
		since = o.Op.Started
	}
	return o.Now.Sub(since) >= o.Settings.PrimaryStartTimeout
}

// giveUpIfSomebodyCan returns act if another node could take over, otherwise
// a decision that finds out, or that goes on waiting.
func (o *Observation) giveUpIfSomebodyCan(r Reason, act Decision) Decision {
	can, ask := o.takers(failoverQuery{})
	switch {
	case len(ask) > 0:
		return o.ask(ask, CrashAskPeers)
	case !can:
		return o.rest(StartingUp)
	}
	act.Reason = r
	return act
}

// stopping ends the agent: hand over, stop the server, leave (ha-behaviour 1.22).
func stopping(o *Observation) Decision {
	m := &o.Memory
	switch {
	case o.Settings.Pause && m.Bootstrap == BootstrapNone:
		return o.exit(0, Stopped, "")
	case o.PG.Process != ProcessDown:
		if left, due := o.retryDue(m.FailedOp); !due && o.Op.Kind == OpStop {
			return o.wait(left, StoppingWaits, o.Op.Error)
		}
		if d, waits := o.relieved(2 * o.Settings.LoopWait); waits {
			return d
		}
		m.Demoting = m.Lease.Epoch != 0
		if o.leashNear() {
			return o.begin(o.demotion(), StoppingServer)
		}
		return o.begin(Stop{Mode: StopFast, Checkpoint: m.Demoting && m.Primary, Escalate: o.Settings.stopLimit()}, StoppingServer)
	case m.Lease.Epoch != 0 && !o.releaseInVain():
		return o.then(o.release(), HandOverStops)
	default:
		return o.exit(0, Stopped, "")
	}
}

// releaseInVain: etcd cannot be reached to give the leadership back. The server
// is down, so nothing but the wait for the lease is lost by leaving.
func (o *Observation) releaseInVain() bool {
	_, tried := o.Last.Action.(Release)
	return tried && o.Last.Result != ResultOK && !o.DCS.Fresh
}

// release gives the held leadership back after the server was verified dead or
// read-only.
func (o *Observation) release() Release {
	return Release{Epoch: o.Memory.Lease.Epoch, Clean: true, Optime: o.Memory.ShutdownLSN}
}
