package lab

import (
	"strings"
	"testing"
	"time"
)

func seen(w *Watch, node string, what Target, pid, first, last int) {
	w.seen[node+string(what)+string(rune(pid))] = &Sighting{Node: node, What: what, Pid: pid,
		First: time.Duration(first) * ms, Last: time.Duration(last) * ms}
}

func TestWatchViolations(t *testing.T) {
	clean := &Watch{seen: map[string]*Sighting{}}
	seen(clean, "a", BackupRun, 1, 0, 100)
	seen(clean, "b", BackupRun, 2, 101, 200) // after the first one
	seen(clean, "a", RestoreRun, 3, 300, 400)
	seen(clean, "b", Postmaster, 4, 0, 900) // another node's
	seen(clean, "a", Postmaster, 5, 401, 900)
	seen(clean, "a", RestoreOrphan, 9, 250, 260)
	if got := clean.Violations(); len(got) != 0 {
		t.Fatalf("violations where there is none: %v", got)
	}
	seen(clean, "b", BackupRun, 6, 90, 95)
	seen(clean, "a", Postmaster, 7, 390, 395)
	seen(clean, "a", RestoreOrphan, 8, 310, 320)
	got := clean.Violations()
	if len(got) != 3 || !strings.Contains(got[1], "worker 8 of an earlier restore on a wrote for 10ms of restore 3") || !strings.Contains(got[0], "ran together for 5ms") || !strings.Contains(got[2], "server 7 of a") {
		t.Fatalf("two backups at once and a server on a half-made directory: found %v", got)
	}
}

func TestMerge(t *testing.T) {
	base := map[string]any{"a": map[string]any{"x": 1, "y": 2}, "b": 3}
	layer := map[string]any{"a": map[string]any{"y": nil, "z": 4}, "b": map[string]any{"new": 5}, "c": nil}
	merge(base, layer)
	merge(base, map[string]any{"b": map[string]any{"new": 6}})
	if a := base["a"].(map[string]any); a["x"] != 1 || a["z"] != 4 || len(a) != 2 {
		t.Errorf("a is %v", a)
	}
	if b := base["b"].(map[string]any); b["new"] != 6 {
		t.Errorf("b is %v", b)
	}
	if layer["b"].(map[string]any)["new"] != 5 {
		t.Error("merging wrote into a layer of the caller's")
	}
}
