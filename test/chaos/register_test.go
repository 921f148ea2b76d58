package chaos

import (
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

func TestLinearizable(t *testing.T) {
	const ms = time.Millisecond
	op := func(v verb, from, to int, change func(*regOp)) regOp {
		o := regOp{Key: 1, Verb: v, Invoke: time.Duration(from) * ms, Return: time.Duration(to) * ms}
		change(&o)
		return o
	}
	wrote := func(value int64, from, to int) regOp {
		return op(write, from, to, func(o *regOp) { o.New = value })
	}
	saw := func(value int64, from, to int) regOp {
		return op(read, from, to, func(o *regOp) { o.Seen = value })
	}
	swapped := func(before, after int64, set bool, from, to int) regOp {
		return op(compareAndSet, from, to, func(o *regOp) { o.Old, o.New, o.Set = before, after, set })
	}
	unknown := func(o regOp) regOp { o.Outcome = lab.Info; return o }
	failed := func(o regOp) regOp { o.Outcome = lab.Fail; return o }
	other := func(o regOp) regOp { o.Key = 2; return o }

	for _, c := range []struct {
		name    string
		history []regOp
		ok      bool
	}{
		{"in order", []regOp{saw(0, 0, 1), wrote(1, 2, 3), saw(1, 4, 5), swapped(1, 2, true, 6, 7), saw(2, 8, 9)}, true},
		{"overlapping", []regOp{wrote(1, 0, 10), saw(0, 1, 2), saw(1, 3, 4)}, true},
		{"lost write", []regOp{wrote(1, 0, 1), saw(0, 2, 3)}, false},
		{"stale read of a second primary", []regOp{wrote(1, 0, 1), wrote(2, 2, 3), saw(2, 4, 5), saw(1, 6, 7)}, false},
		{"read of what nobody wrote", []regOp{wrote(1, 0, 1), saw(7, 2, 3)}, false},
		{"swap won twice", []regOp{wrote(1, 0, 1), swapped(1, 2, true, 2, 3), swapped(1, 3, true, 4, 5)}, false},
		{"swap refused without reason", []regOp{wrote(1, 0, 1), swapped(1, 2, false, 2, 3)}, false},
		{"unknown write seen late", []regOp{wrote(1, 0, 1), unknown(wrote(2, 2, 3)), saw(1, 4, 5), saw(2, 6, 7)}, true},
		{"unknown write gone again", []regOp{wrote(1, 0, 1), unknown(wrote(2, 2, 3)), saw(2, 4, 5), saw(1, 6, 7)}, false},
		{"unknown swap, either way", []regOp{unknown(swapped(0, 2, false, 0, 1)), saw(2, 2, 3)}, true},
		{"failed write seen", []regOp{failed(wrote(2, 0, 1)), saw(2, 2, 3)}, false},
		{"registers are apart", []regOp{wrote(1, 0, 1), other(saw(0, 2, 3))}, true},
		{"one of two registers is broken", []regOp{wrote(1, 0, 1), saw(1, 2, 3), other(saw(5, 2, 3))}, false},
	} {
		if ok, why := linearizable(c.history, time.Minute); ok != c.ok {
			t.Errorf("%s: linearizable %v, want %v (%s)", c.name, ok, c.ok, why)
		}
	}
}
