package ha

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// longOp is how long an operation of the quick kinds has to run before its
// beginning is told, too.
const longOp = time.Second

// begins takes in the long action that this turn begins.
func (t *turn) begins() {
	kind := Kind(t.d.Action)
	if kind == OpNone {
		if t.o.Op.Running && !t.op.told && t.op.event != "" && t.o.Now.Sub(t.o.Op.Started) >= longOp {
			t.tellBegin(t.at(t.o.Op.Started))
		}
		return
	}
	n := &t.op
	n.kind, n.reason, n.cause, n.told = kind, t.d.Reason, t.d.Text(t.o.Me.Name), false
	n.event, n.text = t.describe(t.d.Action)
	switch kind {
	case OpBootstrap, OpClone, OpRestore, OpRewind: // nobody knows how long they take
		t.tellBegin()
	case OpStop:
		if n.event == dcs.EventDemote {
			t.demoting, t.stopped = t.o.Now, 0
		}
	case OpNone, OpPostBootstrap, OpCrashRecovery, OpStartPrimary, OpStartStandby, OpPromote, OpCheckDivergence:
	}
}

func (t *turn) tellBegin(change ...func(*dcs.Event)) {
	t.op.told = true
	if t.op.times == 0 { // of one that fails again and again, the ends tell enough
		t.say(t.op.event, dcs.EventBegan, t.op.text, append(change, t.opCause)...)
	}
}

func (t *turn) opCause(e *dcs.Event) { e.Reason, e.Cause = t.op.reason.Code(), t.op.cause }

// describe is what a long action is called in the journal.
func (t *turn) describe(a Action) (dcs.EventKind, string) {
	switch a := a.(type) {
	case Bootstrap:
		return dcs.EventBootstrap, "make a new cluster"
	case PostBootstrap:
		return dcs.EventBootstrap, "create the roles of the new cluster"
	case Clone:
		if a.From.Member == "" {
			return dcs.EventClone, "make a copy from a backup"
		}
		return dcs.EventClone, "make a copy of " + a.From.Member
	case Restore:
		return dcs.EventRestore, "set the cluster back, from backup " + a.Order.Set
	case Rewind:
		return dcs.EventRewind, "rewind to the history of " + a.From.Member
	case CrashRecovery:
		return dcs.EventCrashRecovery, "recover in single-user mode"
	case Start:
		switch {
		case a.Primary:
			return dcs.EventStart, "start as a primary"
		case a.Upstream.Member != "":
			return dcs.EventStart, "start as a standby of " + a.Upstream.Member
		}
		return dcs.EventStart, "start read-only"
	case Stop:
		text := "stop"
		if a.Mode == StopImmediate {
			text = "stop at once"
		}
		if t.o.mayWrite() {
			return dcs.EventDemote, text + ", being a primary"
		}
		return dcs.EventStop, text
	case Promote:
		return dcs.EventPromote, "become the primary"
	case CheckDivergence:
		return dcs.EventDivergence, "compare with " + a.Leader.Member
	default:
		return "", ""
	}
}

// ended takes in the end of a long action.
func (t *turn) ended() {
	op, n := &t.o.Op, &t.op
	if op.Serial == n.serial || op.Running || n.event == "" {
		return
	}
	n.serial = op.Serial
	length := op.Ended.Sub(op.Started)
	if op.Error != "" {
		t.failed(length)
		return
	}
	n.failure, n.times = "", 0
	change := []func(*dcs.Event){t.at(op.Ended), took(length), t.opCause}
	text := n.text
	switch n.kind {
	case OpCheckDivergence:
		if op.Divergence != DivergenceFound {
			return
		}
		text = "the WAL here went another way than the leader's"
	case OpPromote:
		t.promoted(length)
		return
	case OpStop:
		if n.event == dcs.EventDemote {
			t.stopped = t.o.Now.Sub(t.demoting)
		}
		if op.ShutdownLSN != 0 {
			text += fmt.Sprintf("; its WAL ends at %s", op.ShutdownLSN)
		}
	case OpStartPrimary, OpStartStandby, OpClone:
		t.awaitStream = true
	case OpNone, OpBootstrap, OpPostBootstrap, OpRestore, OpRewind, OpCrashRecovery:
	}
	t.say(n.event, dcs.EventDone, text, change...)
}

// promoted says how long the cluster was without a primary, as far as this node
// knows, and where the time went.
func (t *turn) promoted(length time.Duration) {
	op := &t.o.Op
	change := []func(*dcs.Event){t.at(op.Ended), took(length), t.opCause}
	if t.leaderless != 0 {
		phases := append(append([]dcs.EventPhase{}, t.phases...),
			phase("until promotion", op.Started.Sub(t.claimed)), phase("promotion", length))
		change = append(change, took(op.Ended.Sub(t.leaderless)), func(e *dcs.Event) { e.Phases = phases })
	}
	t.leaderless, t.claimed, t.phases = 0, 0, nil
	text := "is the primary"
	if t.o.PG.Known && !t.o.PG.Row.InRecovery {
		text = fmt.Sprintf("is the primary, on timeline %d", t.o.PG.Row.Timeline)
	}
	t.say(dcs.EventPromote, dcs.EventDone, text, change...)
}

// failed tells of a failure; of one that repeats itself ever more seldom.
func (t *turn) failed(length time.Duration) {
	op, n := &t.o.Op, &t.op
	failure := string(n.event) + withoutDigits(op.Error)
	if failure != n.failure {
		n.failure, n.times = failure, 0
	}
	n.times++
	if bits.OnesCount(uint(n.times)) != 1 { // 1, 2, 4, 8...
		return
	}
	text := n.text
	if n.times > 1 {
		text += fmt.Sprintf(" (%d attempts)", n.times)
	}
	t.say(n.event, dcs.EventFailed, text, t.at(op.Ended), took(length), t.opCause, func(e *dcs.Event) { e.Error = op.Error })
}

// withoutDigits makes two failures equal that differ in a time, a pid or a position.
func withoutDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, s)
}
