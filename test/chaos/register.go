package chaos

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/pgha/pgha/internal/lab"
)

// verb is what a client does to a register.
type verb uint8

const (
	read verb = iota
	write
	compareAndSet
)

// regOp is one operation on one register, in a serializable transaction.
type regOp struct {
	Key      int
	Verb     verb
	Old, New int64 // compareAndSet: from Old to New; write: New
	// Seen is what a read gave; Set tells whether a compareAndSet found Old. Known
	// for lab.OK only.
	Seen           int64
	Set            bool
	Client         int
	Outcome        lab.Outcome
	Invoke, Return time.Duration
}

// registers is porcupine's model of one register, which begins as 0. The output of an
// operation whose answer never came is nil: it may have happened or not.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[int][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(regOp).Key
			byKey[key] = append(byKey[key], op)
		}
		var out [][]porcupine.Operation
		for _, ops := range byKey {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		now, op := state.(int64), input.(regOp)
		answer, known := output.(regOp)
		switch op.Verb {
		case read:
			return !known || answer.Seen == now, now
		case write:
			return true, op.New
		default:
			if known && answer.Set != (now == op.Old) {
				return false, now
			}
			if now == op.Old {
				return true, op.New
			}
			return true, now
		}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// linearizable checks a history of registers. It gives false with an explanation, for
// one that no single copy of the data can have produced, and for one that could not
// be decided within limit: unknown is not passed.
func linearizable(ops []regOp, limit time.Duration) (ok bool, why string) {
	var history []porcupine.Operation
	for _, op := range ops {
		if op.Outcome == lab.Fail || op.Outcome == lab.Info && op.Verb == read {
			continue // did nothing
		}
		p := porcupine.Operation{ClientId: op.Client, Input: op, Call: int64(op.Invoke), Return: int64(op.Return), Output: op}
		if op.Outcome == lab.Info {
			p.Output, p.Return = nil, math.MaxInt64 // it may happen at any time from now on
		}
		history = append(history, p)
	}
	switch porcupine.CheckOperationsTimeout(registers, history, limit) {
	case porcupine.Ok:
		return true, ""
	case porcupine.Illegal:
		return false, fmt.Sprintf("registers: %d operations are not linearizable%s", len(history), firstBad(ops, limit))
	default:
		return false, fmt.Sprintf("registers: %d operations could not be judged within %s", len(history), limit)
	}
}

// firstBad names the first register whose history is broken.
func firstBad(ops []regOp, limit time.Duration) string {
	var keys []int
	for _, op := range ops {
		keys = append(keys, op.Key)
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if len(keys) < 2 {
		return ""
	}
	for _, key := range keys {
		only := slices.DeleteFunc(slices.Clone(ops), func(op regOp) bool { return op.Key != key })
		if ok, _ := linearizable(only, limit); !ok {
			return fmt.Sprintf(", those of register %d for example", key)
		}
	}
	return ""
}
