package ha

// withoutDCS is table X: etcd could not be asked. The lease goes on being
// renewed by transactions that need no snapshot; this is about what to do when
// that has not helped.
func withoutDCS(o *Observation) Decision {
	m := &o.Memory
	down := o.PG.Process == ProcessDown
	switch {
	case m.Bootstrap != BootstrapNone || (o.Settings.Pause || o.DCS.Cluster == nil) && !o.leashNear(): // X1; nothing is touched in pause, nor before the first snapshot, but what the leash is about to end
		return o.rest(OfflineWaiting, o.DCS.Error)
	case m.Lease.Held(o.Now) && o.mayWrite() && !o.armed() && !o.armFailed(): // a pause has just ended, or the leash died
		return o.then(ArmLeash{}, LeaderArming)
	case m.Lease.Held(o.Now) && m.Lease.Agreed > m.Lease.Renewed: // X2
		return o.rest(FailsafeHolds)
	case m.Lease.Held(o.Now):
		return o.rest(OfflineWaiting, o.DCS.Error)
	case o.mayWrite(): // X3
		m.Offline = true
		m.armRewind()
		return o.begin(o.demotion(), DemoteOffline, o.DCS.Error)
	case o.PG.Process == ProcessStarting && !o.PG.StandbySignal && !m.Offline && o.Leash.Binds(): // a primary in a moment, also where none ran before
		m.Offline = true
		return o.begin(Stop{Mode: StopImmediate}, DemoteOffline, o.DCS.Error)
	case down && m.Offline && o.PG.DataDir == DataDirPresent && o.Leash.Armed != 0:
		return o.disarm()
	case down && m.Offline && o.PG.DataDir == DataDirPresent:
		if left, due := o.retryDue(m.FailedStart); !due {
			return o.wait(left, OfflineWaiting, o.DCS.Error)
		}
		return o.begin(Start{}, OfflineReadOnly)
	case o.promised():
		return o.rest(FailsafeFollows, o.Promise.Leader)
	default: // X4
		return o.rest(OfflineWaiting, o.DCS.Error)
	}
}

// disarm tells the leash that the server is dead or in recovery, so that the
// old deadline does not end a harmless standby.
func (o *Observation) disarm() Decision {
	return o.then(DisarmLeash{Epoch: o.Leash.Armed}, SecondaryDisarms)
}
