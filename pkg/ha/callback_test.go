package ha

import (
	"fmt"
	"testing"
)

// What the callbacks are told along the life of a node.
func TestCallbacks(t *testing.T) {
	o := Observation{}
	running := func(server string, recovering bool) func() {
		return func() {
			o.PG.Process, o.PG.Known, o.PG.PostmasterStartTime, o.PG.Row.InRecovery = ProcessRunning, true, server, recovering
			o.PG.DataDir = DataDirPresent
		}
	}
	down := func(op OpKind, failed string) func() {
		return func() {
			o.PG.Process, o.PG.Known = ProcessDown, false
			o.Op = Operation{Kind: op, Error: failed}
		}
	}
	var reason Reason
	for i, step := range []struct {
		change func()
		reason Reason
		want   string
	}{
		{change: func() { running("a", false)(); o.Memory.Bootstrap = BootstrapMade }, want: "[]"}, // nothing while a cluster is made
		{change: func() { o.Memory.Bootstrap = BootstrapNone }, want: "[{on_start primary}]"},
		{change: running("a", false), want: "[]"},
		{change: func() { o.PG.Known = false }, want: "[]"}, // the query failed
		{change: running("a", false), want: "[]"},
		{change: down(OpPromote, ""), want: "[]"}, // a crash
		{change: running("b", false), want: "[{on_start primary}]"},
		{change: down(OpStop, ""), want: "[{on_stop primary}]"},
		{change: down(OpStop, ""), want: "[]"},
		{change: running("c", true), want: "[{on_role_change replica}]"}, // and no on_start
		{change: running("c", false), want: "[{on_role_change primary}]"},
		{change: down(OpStartPrimary, "failed"), reason: StartFailedRelease, want: "[{on_role_change demoted}]"},
		{change: down(OpStartPrimary, "failed"), reason: StartFailedRelease, want: "[]"},
		{change: running("d", true), want: "[{on_role_change replica}]"},
		{change: func() { down(OpRestart, "")(); o.Op.Running = true }, want: "[]"},
		{change: running("d2", true), want: "[{on_restart replica}]"},
		{change: func() { o.PG.Process = ProcessStarting; o.Op = Operation{Kind: OpStartStandby} }, want: "[]"},
		{change: running("e", true), want: "[{on_start replica}]"},
	} {
		step.change()
		reason = step.reason
		d := Decision{Memory: o.Memory, Reason: reason}
		if got := fmt.Sprint(o.noteCallbacks(&d)); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
		o.Memory = d.Memory
	}
}
