package chaos

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// listOp is one serializable transaction that appended a value to several lists.
type listOp struct {
	Value int64 // no other transaction's
	Keys  []int
	// Seen are the lists right after the appends; known for lab.OK only.
	Seen           map[int][]int64
	Outcome        lab.Outcome
	Invoke, Return time.Duration
}

// anomalies judges transactions by the lists at the end: what was acknowledged is
// there, in all its lists; nothing of what failed is; what a transaction saw is how
// the list began; and there is one order of all transactions that every list follows
// and that no two transactions contradict of which one began when the other had
// ended. It gives one line for each kind of violation.
func anomalies(ops []listOp, final map[int][]int64) []string {
	byValue := map[int64]int{}
	for i, op := range ops {
		byValue[op.Value] = i
	}
	at := map[int]map[int64]int{} // key, value: position
	found := violations{}
	for key, list := range final {
		at[key] = map[int64]int{}
		for i, value := range list {
			if _, twice := at[key][value]; twice {
				found.add("appended twice", "%d to list %d", value, key)
			}
			if _, known := byValue[value]; !known {
				found.add("nobody appended", "%d to list %d", value, key)
			}
			at[key][value] = i
		}
	}
	for _, op := range ops {
		found.judge(op, at, final)
	}
	if cycle := inCycle(ops, byValue, final); cycle > 0 {
		found.add("no order of the transactions explains the lists", "%d are in cycles", cycle)
	}
	return found.lines()
}

// violations has an example and a count for each kind.
type violations map[string][]string

func (v violations) add(kind, format string, args ...any) {
	v[kind] = append(v[kind], fmt.Sprintf(format, args...))
}

func (v violations) lines() []string {
	var out []string
	for kind, all := range v {
		out = append(out, fmt.Sprintf("lists: %s, %d times: %s", kind, len(all), all[0]))
	}
	slices.Sort(out)
	return out
}

// judge looks at one transaction alone.
func (v violations) judge(op listOp, at map[int]map[int64]int, final map[int][]int64) {
	there := 0
	for _, key := range op.Keys {
		pos, found := at[key][op.Value]
		if found {
			there++
		}
		if op.Outcome != lab.OK || !found {
			continue
		}
		if seen := op.Seen[key]; !slices.Equal(seen, final[key][:pos+1]) {
			v.add("what was read is not how the list began", "%d in list %d", op.Value, key)
		}
	}
	switch {
	case op.Outcome == lab.OK && there < len(op.Keys):
		v.add("an acknowledged append is missing", "%d in %d of %d lists", op.Value, len(op.Keys)-there, len(op.Keys))
	case op.Outcome == lab.Fail && there > 0:
		v.add("a failed append is there", "%d", op.Value)
	case there > 0 && there < len(op.Keys):
		v.add("half a transaction is there", "%d in %d of %d lists", op.Value, there, len(op.Keys))
	}
}

// inCycle counts the transactions that stand in, or behind, a cycle of "before": by
// the place in a list, and by the end of one before the beginning of another.
func inCycle(ops []listOp, byValue map[int64]int, final map[int][]int64) int {
	// Nodes: the transactions, then an instant for the end of each that is known.
	ends := make([]int, 0, len(ops))
	for i, op := range ops {
		if op.Outcome == lab.OK {
			ends = append(ends, i)
		}
	}
	slices.SortFunc(ends, func(a, b int) int { return int(ops[a].Return - ops[b].Return) })
	after := make([][]int, len(ops)+len(ends))
	waits := make([]int, len(after))
	before := func(a, b int) {
		after[a] = append(after[a], b)
		waits[b]++
	}
	for _, list := range final {
		for i := range list {
			b, known := byValue[list[i]]
			if i == 0 || !known {
				continue
			}
			if a, known := byValue[list[i-1]]; known && a != b {
				before(a, b)
			}
		}
	}
	for i, op := range ends {
		before(op, len(ops)+i)
		if i > 0 {
			before(len(ops)+i-1, len(ops)+i)
		}
	}
	for i, op := range ops {
		n, _ := slices.BinarySearchFunc(ends, op.Invoke, func(end int, at time.Duration) int {
			return int(ops[end].Return - at)
		})
		if n > 0 {
			before(len(ops)+n-1, i)
		}
	}
	var free []int
	for i, n := range waits {
		if n == 0 {
			free = append(free, i)
		}
	}
	left := len(ops)
	for len(free) > 0 {
		i := free[len(free)-1]
		free = free[:len(free)-1]
		if i < len(ops) {
			left--
		}
		for _, next := range after[i] {
			if waits[next]--; waits[next] == 0 {
				free = append(free, next)
			}
		}
	}
	return left
}
