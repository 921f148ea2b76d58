package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

func TestAnomalies(t *testing.T) {
	op := func(value int64, from, to int, seen map[int][]int64) listOp {
		o := listOp{Value: value, Seen: seen, Invoke: time.Duration(from), Return: time.Duration(to)}
		for key := range seen {
			o.Keys = append(o.Keys, key)
		}
		return o
	}
	with := func(outcome lab.Outcome, o listOp) listOp { o.Outcome = outcome; return o }
	first := op(1, 0, 10, map[int][]int64{1: {1}, 2: {1}})
	second := op(2, 20, 30, map[int][]int64{1: {1, 2}, 2: {1, 2}})
	for _, c := range []struct {
		name  string
		ops   []listOp
		final map[int][]int64
		want  string // part of the only line; "" for none
	}{
		{"in order", []listOp{first, second}, map[int][]int64{1: {1, 2}, 2: {1, 2}}, ""},
		{"an unknown one is there", []listOp{first, with(lab.Info, second)}, map[int][]int64{1: {1, 2}, 2: {1, 2}}, ""},
		{"an unknown one is not", []listOp{first, with(lab.Info, second)}, map[int][]int64{1: {1}, 2: {1}}, ""},
		{"an unknown one, later than others", []listOp{with(lab.Info, op(1, 0, 10, map[int][]int64{1: nil})), op(2, 20, 30, map[int][]int64{1: {2}})},
			map[int][]int64{1: {2, 1}}, ""},
		{"at the same time, either way", []listOp{op(1, 0, 10, map[int][]int64{1: {2, 1}}), op(2, 5, 15, map[int][]int64{1: {2}})},
			map[int][]int64{1: {2, 1}}, ""},
		{"lost", []listOp{first, second}, map[int][]int64{1: {1}, 2: {1}}, "acknowledged append is missing"},
		{"failed, and there", []listOp{first, with(lab.Fail, second)}, map[int][]int64{1: {1, 2}, 2: {1, 2}}, "failed append is there"},
		{"half", []listOp{first, with(lab.Info, second)}, map[int][]int64{1: {1, 2}, 2: {1}}, "half a transaction"},
		{"from nowhere", []listOp{first}, map[int][]int64{1: {1, 9}, 2: {1}}, "nobody appended"},
		{"twice", []listOp{with(lab.Info, first)}, map[int][]int64{1: {1, 1}, 2: {1}}, "appended twice"},
		{"a read of what was lost", []listOp{first, op(2, 20, 30, map[int][]int64{1: {1, 7, 2}})},
			map[int][]int64{1: {1, 2}, 2: {1}}, "not how the list began"},
		{"two orders", []listOp{op(1, 0, 50, map[int][]int64{1: {1}, 2: {2, 1}}), op(2, 0, 50, map[int][]int64{1: {1, 2}, 2: {2}})},
			map[int][]int64{1: {1, 2}, 2: {2, 1}}, "no order"},
		{"against the clock", []listOp{op(1, 0, 10, map[int][]int64{1: {2, 1}}), op(2, 20, 30, map[int][]int64{1: {2}})},
			map[int][]int64{1: {2, 1}}, "no order"},
	} {
		got := anomalies(c.ops, c.final)
		switch {
		case c.want == "" && len(got) > 0:
			t.Errorf("%s: %q", c.name, got)
		case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
