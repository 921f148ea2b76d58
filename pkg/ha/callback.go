package ha

// Callback is one of the operator's scripts that is to be told of a change
// (wire contract §8.1).
type Callback struct {
	Event string // on_start, on_stop, on_restart, on_role_change
	Role  string // primary, replica, standby_leader, demoted
}

// The events decided here; on_reload follows from a reload alone.
const (
	OnStart      = "on_start"
	OnStop       = "on_stop"
	OnRestart    = "on_restart"
	OnRoleChange = "on_role_change"
)

// Told is what the callbacks have been told last.
type Told struct {
	Up   bool
	Role string
	// Server is the start time of the server they were told of.
	Server string
}

// noteCallbacks compares what the callbacks know with what is, and says what
// they are to be told. While a cluster is made, or this node set back, they are
// told nothing.
func (o *Observation) noteCallbacks(d *Decision) []Callback {
	m := &d.Memory
	if m.Bootstrap != BootstrapNone || o.recovering() || o.Op.Running && o.Op.Kind == OpBootstrap {
		return nil
	}
	switch {
	case o.PG.Process == ProcessRunning && o.PG.Known:
		return m.tellRunning(o)
	case o.PG.Process != ProcessDown:
		return nil
	case m.Told.Up && o.stopDone():
		m.Told.Up = false
		return []Callback{{Event: OnStop, Role: m.Told.Role}}
	case d.Reason == StartFailedRelease && (m.Told.Role == "primary" || m.Told.Role == "standby_leader"): // ha-behaviour 10.75
		m.Told.Up, m.Told.Role = false, "demoted"
		return []Callback{{Event: OnRoleChange, Role: "demoted"}}
	}
	return nil
}

// stopDone: the server is down because it was stopped, not because it crashed.
func (o *Observation) stopDone() bool {
	return o.Op.Kind == OpStop && !o.Op.Running && o.Op.Error == ""
}

// tellRunning is for a server that answers: one event at most, the change of
// role before the start.
func (m *Memory) tellRunning(o *Observation) []Callback {
	now := Told{Up: true, Role: "replica", Server: o.PG.PostmasterStartTime}
	switch {
	case !o.PG.Row.InRecovery:
		now.Role = "primary"
	case o.Settings.Standby.On && m.Lease.Epoch != 0:
		now.Role = "standby_leader"
	}
	before := m.Told
	m.Told = now
	switch {
	case before.Role != "" && before.Role != now.Role:
		return []Callback{{Event: OnRoleChange, Role: now.Role}}
	case before.Up && before.Server != now.Server && o.Op.Kind == OpRestart:
		return []Callback{{Event: OnRestart, Role: now.Role}}
	case !before.Up || before.Server != now.Server:
		return []Callback{{Event: OnStart, Role: now.Role}}
	}
	return nil
}
