package lab

import (
	"testing"
	"time"
)

func answer(node string, at int, primary bool) RoleAnswer {
	return RoleAnswer{Node: node, Primary: primary,
		Invoke: time.Duration(at) * ms, Return: time.Duration(at+2) * ms}
}

func TestDualRoles(t *testing.T) {
	clean := []RoleAnswer{
		answer("a", 0, true), answer("b", 0, false), answer("a", 20, true), answer("b", 20, false),
		answer("a", 40, false), answer("b", 40, true), answer("a", 60, false), answer("b", 60, true),
	}
	if got := DualRoles(clean); len(got) != 0 {
		t.Fatalf("violation in a clean hand-over: %v", got)
	}
	both := append([]RoleAnswer(nil), clean...)
	both[4].Primary, both[6].Primary = true, true // a never steps back
	if got := DualRoles(both); len(got) != 1 {
		t.Fatalf("two primaries for 18 ms: found %v", got)
	}
	// Answers under way at the same time prove nothing.
	crossing := []RoleAnswer{answer("a", 0, true), answer("a", 20, true), answer("b", 19, true), answer("a", 40, false), answer("b", 40, true)}
	if got := DualRoles(crossing); len(got) != 0 {
		t.Fatalf("no proof of two primaries, but %v", got)
	}
}
