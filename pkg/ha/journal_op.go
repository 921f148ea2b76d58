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
	n.event, n.text, n.past = t.describe(t.d.Action)
	switch kind {
	case OpBootstrap, OpClone, OpRestore, OpRewind: // nobody knows how long they take
		t.tellBegin()
	case OpStop:
		if n.event == dcs.EventDemote {
			t.demoting, t.stopped = t.o.Now, 0
		}
	case OpNone, OpPostBootstrap, OpCrashRecovery, OpStartPrimary, OpStartStandby, OpRestart, OpPromote, OpCheckDivergence, OpCheckRemote, OpCopySlots:
	}
}

func (t *turn) tellBegin(change ...func(*dcs.Event)) {
	t.op.told = true
	if t.op.times == 0 { // of one that fails again and again, the ends tell enough
		t.say(t.op.event, dcs.EventBegan, "begins to "+t.op.text, append(change, t.opCause)...)
	}
}

func (t *turn) opCause(e *dcs.Event) { e.Reason, e.Cause = t.op.reason.Code(), t.op.cause }

// describe is what a long action is called in the journal: to do it, and to have
// done it.
func (t *turn) describe(a Action) (kind dcs.EventKind, do, done string) {
	switch a := a.(type) {
	case Bootstrap:
		if a.From.Remote {
			return dcs.EventBootstrap, "make a standby cluster of " + a.From.Member, "made a standby cluster of " + a.From.Member
		}
		return dcs.EventBootstrap, "make a new cluster", "made a new cluster"
	case PostBootstrap:
		return dcs.EventBootstrap, "create the roles of the new cluster", "created the roles of the new cluster"
	case Clone:
		of := "copy of " + a.From.Member
		if a.From.Member == "" {
			of = "copy from a backup"
		}
		return dcs.EventClone, "make a " + of, "made a " + of
	case Restore:
		return dcs.EventRestore, "restore backup " + a.Order.Set, "restored backup " + a.Order.Set
	case Rewind:
		to := " to the history of " + a.From.Member
		return dcs.EventRewind, "rewind" + to, "rewound" + to
	case CrashRecovery:
		return dcs.EventCrashRecovery, "recover in single-user mode", "recovered in single-user mode"
	case Start:
		as := " read-only"
		switch {
		case a.Primary:
			as = " as a primary"
		case a.Upstream.Member != "":
			as = " as a standby of " + a.Upstream.Member
		}
		return dcs.EventStart, "start" + as, "started" + as
	case Stop:
		how := ""
		if a.Mode == StopImmediate {
			how = " at once"
		}
		if t.o.mayWrite() {
			return dcs.EventDemote, "stop the primary" + how, "stopped the primary" + how
		}
		return dcs.EventStop, "stop" + how, "stopped" + how
	case Restart:
		return dcs.EventRestart, "restart", "restarted"
	case Promote:
		return dcs.EventPromote, "become the primary", "is the primary"
	case CopySlots:
		what := "logical slots of " + a.From.Member + " (" + slotNames(a.Slots) + ")"
		return dcs.EventSlot, "copy " + what, "copied " + what
	case CheckDivergence:
		return dcs.EventDivergence, "compare the WAL with " + a.Leader.Member + "'s", "has WAL that went another way than " + a.Leader.Member + "'s"
	default:
		return "", "", ""
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
	text := n.past
	switch n.kind {
	case OpCheckDivergence:
		if op.Divergence != DivergenceFound {
			return
		}
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
	case OpStartPrimary, OpStartStandby, OpRestart, OpClone, OpCopySlots:
		t.awaitStream = true
	case OpNone, OpBootstrap, OpPostBootstrap, OpRestore, OpRewind, OpCrashRecovery, OpCheckRemote:
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
	text := t.op.past
	if t.o.PG.Known && !t.o.PG.Row.InRecovery {
		text += fmt.Sprintf(", on timeline %d", t.o.PG.Row.Timeline)
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
	text := "could not " + n.text
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
