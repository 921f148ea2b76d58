package lab

import (
	"fmt"
	"slices"
	"time"
)

// Outcome is what a client knows about its write.
type Outcome uint8

const (
	// OK is a commit answered without a warning.
	OK Outcome = iota
	// Fail is a definite error before the commit.
	Fail
	// Info is everything else: a lost connection, a timeout, a commit with a
	// warning. The row may be there or not.
	Info
)

// Op is one write: a row of its own in a transaction of its own.
type Op struct {
	ID      int64
	Client  string
	Node    string
	Outcome Outcome
	// Invoke is taken before the request left, Return after the answer came
	// (CLOCK_BOOTTIME).
	Invoke, Return time.Duration
	// Timeline and LSN are the server's when the row was inserted; the commit
	// record lies behind LSN. Known for OK only.
	Timeline uint32
	LSN      uint64
}

// LongestGap gives the longest time in [from, to] without an acknowledged write,
// the edges included, and when it began.
func LongestGap(ops []Op, from, to time.Duration) (gap, began time.Duration) {
	var acks []time.Duration
	for _, op := range ops {
		if op.Outcome == OK && op.Return >= from && op.Return <= to {
			acks = append(acks, op.Return)
		}
	}
	slices.Sort(acks)
	last := from
	for _, at := range append(acks, to) {
		if at-last > gap {
			gap, began = at-last, last
		}
		last = at
	}
	return gap, began
}

// Missing gives the ids of acknowledged rows that are not in present, in order.
func Missing(ops []Op, present map[int64]bool) []int64 {
	var out []int64
	for _, op := range ops {
		if op.Outcome == OK && !present[op.ID] {
			out = append(out, op.ID)
		}
	}
	slices.Sort(out)
	return out
}

// Unexpected gives the ids in present that no client can have written: those that
// failed for certain, and those beyond the last one used.
func Unexpected(failed []int64, last int64, present map[int64]bool) []int64 {
	var out []int64
	for _, id := range failed {
		if present[id] {
			out = append(out, id)
		}
	}
	for id := range present {
		if id <= 0 || id > last {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Acked counts the acknowledged writes invoked in [from, to].
func Acked(ops []Op, from, to time.Duration) int {
	n := 0
	for _, op := range ops {
		if op.Outcome == OK && op.Invoke >= from && op.Invoke <= to {
			n++
		}
	}
	return n
}

// LostBytes gives, for a history of timeline switches, how much acknowledged WAL
// lay beyond the point where each timeline ended, summed up. It is a lower
// bound: the last lost row's commit record is not counted.
func LostBytes(ops []Op, history []Switch) uint64 {
	last := map[uint32]uint64{}
	for _, op := range ops {
		if op.Outcome == OK {
			last[op.Timeline] = max(last[op.Timeline], op.LSN)
		}
	}
	var sum uint64
	for _, s := range history {
		if lsn := last[s.TL]; lsn > s.LSN {
			sum += lsn - s.LSN
		}
	}
	return sum
}

// Violation tells that two primaries acknowledged writes.
type Violation struct {
	Old, New Op            // a write of the older one, and what proves it was too late
	Overlap  time.Duration // from the first ack of the newer to the last of the older
	Writes   int           // how many writes of the older one came too late
}

func (v Violation) String() string {
	return fmt.Sprintf("%s (timeline %d) acknowledged %d writes after %s (timeline %d) had, over %s",
		v.Old.Node, v.Old.Timeline, v.Writes, v.New.Node, v.New.Timeline, v.Overlap)
}

// DualPrimaries checks that at any time one primary only acknowledged writes: no
// write on an older timeline may be acknowledged that was invoked after one on a
// newer timeline had been acknowledged, and a timeline belongs to one node. All
// stamps must be of one clock. The result has at most one entry per pair of
// timelines, plus one per timeline used by two nodes.
func DualPrimaries(ops []Op) []Violation {
	lines := map[uint32][]Op{}
	for _, op := range ops {
		if op.Outcome == OK {
			lines[op.Timeline] = append(lines[op.Timeline], op)
		}
	}
	var numbers []uint32
	for tl, acks := range lines {
		numbers = append(numbers, tl)
		slices.SortFunc(acks, func(a, b Op) int { return int(a.Return - b.Return) })
	}
	slices.Sort(numbers)
	var out []Violation
	for i, older := range numbers {
		out = append(out, shared(lines[older])...)
		for _, newer := range numbers[i+1:] {
			out = append(out, late(lines[older], lines[newer][0])...)
		}
	}
	return out
}

// late collects the writes of an older timeline invoked after first, the first
// acknowledged write of a newer one.
func late(older []Op, first Op) []Violation {
	var v Violation
	for _, op := range older {
		if op.Invoke > first.Return {
			v.Old, v.New, v.Writes = op, first, v.Writes+1
			v.Overlap = max(v.Overlap, op.Return-first.Return)
		}
	}
	if v.Writes == 0 {
		return nil
	}
	return []Violation{v}
}

// shared finds a timeline on which two nodes acknowledged writes.
func shared(acks []Op) []Violation {
	first := acks[0]
	var v Violation
	for _, op := range acks {
		if op.Node != first.Node {
			v.Old, v.New, v.Writes = op, first, v.Writes+1
			v.Overlap = max(v.Overlap, op.Return-first.Return)
		}
	}
	if v.Writes == 0 {
		return nil
	}
	return []Violation{v}
}
