package lab

import "testing"

func TestForkedTimelines(t *testing.T) {
	const old, other = "1\t0/5000\tno recovery target specified\n", "1\t0/6000\tno recovery target specified\n"
	same := map[string]map[string]string{"00000002.history": {"a": old, "b": old}, "00000003.history": {"c": other}}
	if out := ForkedTimelines(same); len(out) != 0 {
		t.Errorf("equal histories: %v", out)
	}
	forked := map[string]map[string]string{"00000002.history": {"a": old, "b": old, "c": other}}
	if out := ForkedTimelines(forked); len(out) != 1 {
		t.Errorf("one history that differs: %v", out)
	}
}

func TestUnexpected(t *testing.T) {
	present := map[int64]bool{1: true, 2: true, 5: true}
	if out := Unexpected([]int64{3, 4}, 5, present); len(out) != 0 {
		t.Errorf("nothing unexpected: %v", out)
	}
	if out := Unexpected([]int64{2}, 5, present); len(out) != 1 || out[0] != 2 {
		t.Errorf("a row whose write failed: %v", out)
	}
	if out := Unexpected(nil, 4, present); len(out) != 1 || out[0] != 5 {
		t.Errorf("a row nobody wrote: %v", out)
	}
}
