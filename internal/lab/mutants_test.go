package lab

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// found tells whether any checker objects to a history and to what was found in
// the tables at its end.
func found(ops []Op, present map[int64]bool) bool {
	last := int64(0)
	for _, op := range ops {
		last = max(last, op.ID)
	}
	var failed []int64
	for _, op := range ops {
		if op.Outcome == Fail {
			failed = append(failed, op.ID)
		}
	}
	return len(DualPrimaries(ops)) > 0 || len(Missing(ops, present)) > 0 || len(Unexpected(failed, last, present)) > 0
}

// TestCheckersCanFail: each damage done to a legal history is found by one of
// the checkers. A checker that never objects proves nothing.
func TestCheckersCanFail(t *testing.T) {
	// What a commit that was answered with a warning is taken for: a row of it
	// that vanishes is nobody's loss, one that was counted as acknowledged is.
	warned := ack(6, "b", 2, 60)
	warned.Outcome = outcomeOf(nil, true)
	refused := ack(7, "b", 2, 65)
	refused.Outcome = outcomeOf(&pgconn.PgError{SeverityUnlocalized: "ERROR"}, false)
	legal := func() ([]Op, map[int64]bool) {
		return append(handOver(), warned, refused), map[int64]bool{1: true, 2: true, 3: true, 4: true, 5: true}
	}
	if found(legal()) {
		t.Fatal("a legal history is objected to")
	}
	for name, damage := range map[string]func([]Op, map[int64]bool){
		"an acknowledged row is dropped":  func(_ []Op, present map[int64]bool) { delete(present, 3) },
		"a row appears that nobody wrote": func(_ []Op, present map[int64]bool) { present[99] = true },
		"a refused row appears":           func(_ []Op, present map[int64]bool) { present[7] = true },
		"a commit with a warning is reported as ok": func(ops []Op, _ map[int64]bool) {
			ops[5].Outcome = outcomeOf(nil, false)
		},
		"two timelines are swapped": func(ops []Op, _ map[int64]bool) {
			for i := range ops {
				ops[i].Timeline = 3 - ops[i].Timeline
			}
		},
		"an acknowledgement is repeated on the other node": func(ops []Op, _ map[int64]bool) {
			ops[4] = ack(3, "a", 1, 62)
		},
		"one timeline is used by two nodes": func(ops []Op, _ map[int64]bool) { ops[3].Node, ops[3].Timeline = "b", 1 },
	} {
		ops, present := legal()
		if damage(ops, present); !found(ops, present) {
			t.Errorf("not found: %s", name)
		}
	}
}
