package ctl

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// TestProgressColumn: only with --extended, only when there is one, and after
// everything patronictl prints.
func TestProgressColumn(t *testing.T) {
	c := clusterAt(t, healthy, 0x4000060)
	list := func(args ...string) string {
		app := newTestApp(t, &fakeCluster{cluster: c})
		if code := app.run(append([]string{"list"}, args...)...); code != 0 {
			t.Fatalf("exit %d: %s", code, app.err.String())
		}
		return app.out.String()
	}
	plain, extended := list(), list("-e")
	if strings.Contains(extended, "Progress") {
		t.Errorf("a column without a value\n%s", extended)
	}
	c.Member("pg-db-03").Progress = &dcs.Progress{Operation: "clone", Method: "pgbackrest", Done: 13_207_024_435, Total: 32_319_628_902,
		Rate: 180 << 20, Started: testNow.Truncate(time.Second)}
	if got := list(); got != plain {
		t.Errorf("the usual list changed\n%s", got)
	}
	const cell = "clone (pgbackrest) 40% 12.3 GB of 30.1 GB, 180 MB/s, 1m41s left"
	table := list("-e")
	if first, _, _ := strings.Cut(strings.SplitN(table, "\n", 3)[1], "\n"); !strings.HasSuffix(first, " Tags             | Progress                                                        |") {
		t.Errorf("titles %q", first)
	}
	if !strings.Contains(table, "| "+cell+" |\n") {
		t.Errorf("no %q in\n%s", cell, table)
	}
	if got := list("-e", "-f", "tsv"); !strings.Contains(got, "\t"+cell+"\n") {
		t.Errorf("tsv\n%s", got)
	}
	const object = `"Progress": {"operation": "clone", "method": "pgbackrest", "done": 13207024435, "total": 32319628902, "percent": 40.86378737`
	got := list("-e", "-f", "json")
	if !strings.Contains(got, object) || strings.Count(got, `"Progress"`) != 1 || !strings.Contains(got, `"started": "2026-11-22T08:03:57Z"}}]`) {
		t.Errorf("json\n%s", got)
	}
	if got := list("-e", "-f", "yaml"); !strings.Contains(got, "\n  Progress:\n    done: 13207024435\n    left_seconds: 101.") {
		t.Errorf("yaml\n%s", got)
	}
	c.Member("pg-db-03").Progress = &dcs.Progress{Operation: "clone", Method: "mine"}
	if got := list("-e"); !strings.Contains(got, "| clone (mine) |\n") {
		t.Errorf("unknown total\n%s", got)
	}
}
