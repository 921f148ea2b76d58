package lab

import (
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// ack is an acknowledged write of 1 ms that was invoked at a millisecond.
func ack(id int64, node string, tl uint32, at int) Op {
	return Op{ID: id, Node: node, Timeline: tl, Outcome: OK, LSN: uint64(id) * 100,
		Invoke: time.Duration(at) * ms, Return: time.Duration(at+1) * ms}
}

// handOver is a clean history: a leads on timeline 1, b from 50 ms on 2.
func handOver() []Op {
	return []Op{ack(1, "a", 1, 0), ack(2, "a", 1, 5), ack(3, "a", 1, 10), ack(4, "b", 2, 50), ack(5, "b", 2, 55)}
}

func TestDualPrimaries(t *testing.T) {
	tests := []struct {
		name    string
		change  func([]Op) []Op
		overlap time.Duration // 0: no violation
		writes  int
	}{
		{"clean hand-over", func(h []Op) []Op { return h }, 0, 0},
		{"old primary acks once more after the new one did", func(h []Op) []Op {
			return append(h, ack(6, "a", 1, 60))
		}, 10 * ms, 1},
		{"old primary goes on", func(h []Op) []Op {
			return append(h, ack(6, "a", 1, 60), ack(7, "a", 1, 70))
		}, 20 * ms, 2},
		{"write invoked before the new primary's first ack, answered after it: no proof", func(h []Op) []Op {
			op := ack(6, "a", 1, 49)
			op.Return = 80 * ms
			return append(h, op)
		}, 0, 0},
		{"late write without a definite answer", func(h []Op) []Op {
			op := ack(6, "a", 1, 60)
			op.Outcome = Info
			return append(h, op)
		}, 0, 0},
		{"two nodes made the same timeline", func(h []Op) []Op {
			return append(h, ack(6, "c", 2, 70))
		}, 20 * ms, 1},
		{"late on a timeline two back", func(h []Op) []Op {
			h[2].Timeline = 2 // a was re-elected before b
			for i := range h {
				if h[i].Node == "b" {
					h[i].Timeline = 3
				}
			}
			return append(h, ack(6, "a", 1, 90))
		}, 80 * ms, 1},
		{"history in any order", func(h []Op) []Op {
			h = append(h, ack(6, "a", 1, 60))
			slices.Reverse(h)
			return h
		}, 10 * ms, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := DualPrimaries(tt.change(handOver()))
			if tt.overlap == 0 {
				if len(got) != 0 {
					t.Fatalf("violations in a legal history: %v", got)
				}
				return
			}
			if len(got) == 0 {
				t.Fatal("violation not found")
			}
			if got[0].Overlap != tt.overlap || got[0].Writes != tt.writes {
				t.Fatalf("overlap %s over %d writes, want %s over %d", got[0].Overlap, got[0].Writes, tt.overlap, tt.writes)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	present := map[int64]bool{1: true, 2: true, 3: true, 4: true, 5: true, 99: true}
	if got := Missing(handOver(), present); len(got) != 0 {
		t.Fatalf("missing %v in a complete table", got)
	}
	delete(present, 2) // the mutant: one acknowledged row dropped
	if got := Missing(handOver(), present); !slices.Equal(got, []int64{2}) {
		t.Fatalf("missing %v, want [2]", got)
	}
	unsure := handOver()
	unsure[1].Outcome = Info
	if got := Missing(unsure, present); len(got) != 0 {
		t.Fatalf("missing %v, but the row was never acknowledged", got)
	}
}

func TestLongestGap(t *testing.T) {
	tests := []struct {
		name       string
		from, to   int
		gap, began time.Duration
	}{
		{"between the primaries", 0, 60, 40 * ms, 11 * ms},
		{"at the end of the window", 50, 200, 144 * ms, 56 * ms},
		{"at its beginning", 12, 60, 39 * ms, 12 * ms},
		{"no ack at all", 100, 130, 30 * ms, 100 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			gap, began := LongestGap(handOver(), time.Duration(tt.from)*ms, time.Duration(tt.to)*ms)
			if gap != tt.gap || began != tt.began {
				t.Fatalf("gap %s from %s, want %s from %s", gap, began, tt.gap, tt.began)
			}
		})
	}
	failed := handOver()
	failed[3].Outcome, failed[4].Outcome = Fail, Info
	if gap, _ := LongestGap(failed, 0, 60*ms); gap != 49*ms {
		t.Fatalf("gap %s: only acknowledged writes may end a gap", gap)
	}
}

func TestLostBytes(t *testing.T) {
	ops := handOver() // timeline 1 was acknowledged up to 300, timeline 2 up to 500
	for _, tt := range []struct {
		name    string
		history []Switch
		want    uint64
	}{
		{"new timeline begins after the last ack", []Switch{{TL: 1, LSN: 320}}, 0},
		{"before it", []Switch{{TL: 1, LSN: 180}}, 120},
		{"two losses", []Switch{{TL: 1, LSN: 180}, {TL: 2, LSN: 450}}, 170},
		{"timeline without acks", []Switch{{TL: 7, LSN: 1}}, 0},
	} {
		if got := LostBytes(ops, tt.history); got != tt.want {
			t.Errorf("%s: lost %d bytes, want %d", tt.name, got, tt.want)
		}
	}
}
