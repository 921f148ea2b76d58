package ha

// noteReinit takes in a request to make this member's copy anew, or to stop
// doing so.
func (o *Observation) noteReinit() {
	m, r := &o.Memory, o.Reinit
	if r.Serial != m.Reinit.Seen {
		m.Reinit = ReinitMemory{Seen: r.Serial, Wanted: !r.Cancel, Force: r.Force, FromLeader: r.FromLeader,
			Held: r.Cancel && (o.copying() || o.PG.DataDir != DataDirPresent)}
	}
	if !o.Op.Running && o.PG.Known && o.PG.Row.ReplicationState == "streaming" {
		m.Reinit.Held = false // there is a copy after all
	}
	if m.Lease.Epoch != 0 || o.DCS.Fresh && o.leaderIsMe() {
		m.Reinit.Wanted = false // a leader is nobody's copy
	}
}

func (o *Observation) copying() bool { return o.Op.Running && o.Op.Kind == OpClone }

// reinit is ha-behaviour 1.20. Without a leader that runs, the request waits
// and everything else goes on.
func reinit(o *Observation) (d Decision, ok bool) {
	m := &o.Memory
	if o.order() != nil { // the leader's copy may be gone soon: no second one is given up
		return d, false
	}
	if !m.Reinit.Wanted || m.Bootstrap != BootstrapNone || o.PG.DataDir == DataDirUnreadable {
		return d, false
	}
	leader, ready := o.upstream(o.DCS.Cluster.LeaderName())
	if !ready {
		return d, false
	}
	switch left, due := o.retryDue(m.FailedOp); {
	case !due && o.Op.Kind == OpClone:
		return o.wait(left, CloneRetryLater, o.Op.Error), true
	case o.PG.Process != ProcessDown:
		m.Reinit.Force = false // what runs from here on is for the request itself
		return o.begin(Stop{Mode: StopImmediate}, ReinitStops), true
	case o.Leash.Armed != 0:
		return o.disarm(), true
	}
	m.Reinit.Force = false
	from := leader
	if !m.Reinit.FromLeader {
		from = o.copySource(leader)
	}
	return o.begin(Clone{From: from, Wipe: true, FromLeader: m.Reinit.FromLeader}, CloneRuns, from.Member), true
}
