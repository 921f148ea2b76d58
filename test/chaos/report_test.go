package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStoreReplacesAndResumes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chaos.json")
	s, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(r Result) {
		t.Helper()
		if err := s.put(r); err != nil {
			t.Fatal(err)
		}
	}
	put(Result{Row: "10", Peer: "pgha", Mode: "async", Profile: "8/1/2", GapMS: 1})
	put(Result{Row: "9", Peer: "Patroni", Mode: "async", Profile: "8/1/2"})
	put(Result{Row: "9", Peer: "pgha", Mode: "async", Profile: "8/1/2"})
	put(Result{Row: "10", Peer: "pgha", Mode: "async", Profile: "8/1/2", GapMS: 2})
	again, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, r := range again.results {
		keys = append(keys, r.Row+" "+r.Peer)
	}
	if got := strings.Join(keys, ", "); got != "9 pgha, 9 Patroni, 10 pgha" {
		t.Errorf("stored: %s", got)
	}
	if again.results[2].GapMS != 2 {
		t.Error("the later result of a row does not replace the earlier one")
	}
	if !again.has(Result{Row: "9", Peer: "pgha", Mode: "async", Profile: "8/1/2"}) || again.has(Result{Row: "9", Peer: "pgha", Mode: "sync", Profile: "8/1/2"}) {
		t.Error("rows to resume are not recognized")
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("garbage in the file: %v", err)
	}
}

func TestTables(t *testing.T) {
	out := tables([]Result{
		{Row: "3", Title: "kill", Expect: "N", Peer: "pgha", Mode: "async", Profile: "20/1/3", Verdict: Expected, Acked: 100, Steady: true, TookMS: 2000,
			Figures: []Figure{{"back", 12.5, "ms"}}},
		{Row: "3", Title: "kill", Expect: "N", Peer: "Patroni", Mode: "async", Profile: "20/1/3", Verdict: Unexpected, Acked: 90, Lost: 7, OverlapMS: 80, Changes: 1, Steady: true, Notes: []string{"a|b"}},
		{Row: "8", Title: "leash", Expect: "D", Peer: "pgha", Mode: "async", Profile: "20/1/3", Verdict: Skipped, Notes: []string{"no dog"}},
		{Row: "9", Title: "both", Expect: "F", Peer: "pgha", Mode: "async", Profile: "20/1/3", Verdict: Expected, Acked: 50, Lost: 5, GapMS: 700, OverlapMS: 600, Admitted: true, Slack: 3,
			Figures: []Figure{{lateFigure, -40, "ms"}}},
		{Row: "10", Title: "ice", Expect: "F", Peer: "pgha", Mode: "async", Profile: "20/1/3", Verdict: Unexpected, Acked: 9, GivenUp: true, Notes: []string{"given up"}},
		{Row: "3", Title: "kill", Expect: "N", Peer: "pgha", Mode: "async", Profile: "8/1/2", Verdict: Expected},
	})
	for _, want := range []string{
		"| # | Fault | Expected | pgha | Patroni |\n|---|---|---|---|---|\n",
		"| 3 | kill | N | gap 0 ms, overlap 0 ms, lost 0 of 100 rows, back 12.5 ms | gap 0 ms, overlap 80 ms, lost 7 of 90 rows; **NOT as expected**: a/b |\n",
		"| 8 | leash | D | skip: no dog |  |\n",
		"* pgha: 3 rows run, 2 as expected, 1 skipped; 150 writes acknowledged, 5 of them lost; longest overlap of two primaries 0 ms; 0 needless changes of the leader in 1 rows (2 s) that should have none; an overlap of 600 ms in the row where none is promised; ",
		"in the 2 rows that expect F; the latest write of an old primary came -40 ms after its deadline (negative: before)\n",
		"lost 5 of 50 rows, last write minus deadline -40 ms (limits stretched 3 times) |  |\n",
		"| 10 | ice | F | gap 0 ms, overlap 0 ms, lost unknown of 9 rows; **NOT as expected**: given up |  |\n",
		"* Patroni: 1 rows run, 0 as expected, 0 skipped; 90 writes acknowledged, 7 of them lost; longest overlap of two primaries 80 ms; 1 needless changes",
		"| # | Fault | Expected | pgha |\n|---|---|---|---|\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("tables lack %q:\n%s", want, out)
		}
	}
}

func TestSplice(t *testing.T) {
	beginMark, endMark := marks("chaos")
	page := "above\n" + beginMark + "\nold\n" + endMark + "\nbelow\n"
	got, err := splice(page, "chaos", "new\n")
	if err != nil || got != "above\n"+beginMark+"\n\nnew\n\n"+endMark+"\nbelow\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := splice("nothing here", "chaos", "new"); err == nil {
		t.Error("a page without marks is taken")
	}
}
