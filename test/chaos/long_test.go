package chaos

import (
	"strings"
	"testing"
)

func TestLifeTables(t *testing.T) {
	got := lifeTables([]Life{
		{Mode: "quorum", Profile: "8/1/2", Faults: []Fault{{"switchover", 100}, {"power cut", 9000}}, Acked: 10, TookMS: 60000},
		{Mode: "sync", Profile: "8/1/2", Faults: []Fault{{"switchover", 50}}, Acked: 7, Lost: 1, OverlapMS: 3, RoleOverlapMS: 5, GivenUp: true, TookMS: 1000},
		{Mode: "quorum", Profile: "8/1/2", Faults: []Fault{{"switchover", 300}}, Acked: 5, TookMS: 60000},
	})
	for _, want := range []string{
		"1 faults in 1 lives (0 min, 1 of them given up); 0 writes acknowledged, 0 of them lost; longest overlap of two primaries 5 ms",
		"3 faults in 2 lives (2 min, 0 of them given up); 15 writes acknowledged, 0 of them lost; longest overlap of two primaries 0 ms",
		"| switchover | 2 | 300 ms | 300 ms | 300 ms |\n| all | 3 | 300 ms | 9000 ms | 9000 ms |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Index(got, "sync replication") > strings.Index(got, "quorum replication") {
		t.Error("the modes are not in order")
	}
}
