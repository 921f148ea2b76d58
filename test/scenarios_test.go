// Package test holds what is to be checked about the tests themselves.
package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	numbers = regexp.MustCompile(`^\| ([0-9, -]+) \|`)
	named   = regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([^`]+))?`")
)

// TestScenarios keeps docs/scenarios.md true: no number is left out, and every
// test that is named exists.
func TestScenarios(t *testing.T) {
	text, err := os.ReadFile("../docs/scenarios.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tables, ok := strings.Cut(string(text), "\n## Scenarios\n")
	scenarios, rest, ok2 := strings.Cut(tables, "\n## Scars\n")
	scars, edges, ok3 := strings.Cut(rest, "\n## Edge cases\n")
	if !ok || !ok2 || !ok3 {
		t.Fatal("the page has lost one of its three tables")
	}
	source := sources(t)
	checkTable(t, "scenario", scenarios, 83, source)
	checkTable(t, "scar", scars, 130, source)
	checkTable(t, "edge case", edges, 11, source)
}

func checkTable(t *testing.T, what, table string, count int, source string) {
	t.Helper()
	seen := map[int]int{}
	for line := range strings.Lines(table) {
		m := numbers.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		for part := range strings.SplitSeq(m[1], ",") {
			from, to, span := strings.Cut(strings.TrimSpace(part), "-")
			if !span {
				to = from
			}
			a, err1 := strconv.Atoi(from)
			b, err2 := strconv.Atoi(to)
			if err1 != nil || err2 != nil {
				t.Errorf("%s %q: no number", what, m[1])
			}
			for i := a; i <= b; i++ {
				seen[i]++
			}
		}
		for _, n := range named.FindAllStringSubmatch(line, -1) {
			if !strings.Contains(source, "\nfunc "+n[1]+"(t *testing.T)") {
				t.Errorf("%s %s: there is no %s", what, m[1], n[1])
			}
			if n[2] != "" && !strings.Contains(source, `"`+n[2]+`"`) {
				t.Errorf("%s %s: %s has no case %q", what, m[1], n[1], n[2])
			}
		}
	}
	for i := 1; i <= count; i++ {
		if seen[i] != 1 {
			t.Errorf("%s %d is there %d times", what, i, seen[i])
		}
	}
	if len(seen) != count {
		t.Errorf("%d numbers of %ss, want %d", len(seen), what, count)
	}
}

// sources are all files of tests.
func sources(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		b.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
