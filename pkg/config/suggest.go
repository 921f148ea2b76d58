package config

import (
	"fmt"
	"strings"
)

// editDistance counts single-character insertions, deletions, substitutions
// and swaps of neighbours between a and b.
func editDistance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(x)][len(y)]
}

// nearest finds the known word closest to a mistyped one; "" when none is near.
func nearest(word string, known []string) string {
	if len(word) > 64 {
		return ""
	}
	norm := strings.ReplaceAll(strings.ToLower(word), "-", "_")
	best, bestD := "", 3
	if len(word) <= 4 {
		bestD = 2
	}
	for _, k := range known {
		if d := editDistance(norm, k); d < bestD {
			best, bestD = k, d
		}
	}
	return best
}

// homes finds the sections where a key of this name is known, nearest to path
// first in meaning: those that share the longest beginning with it. Legacy
// places and the root section for free words are left out.
func (s *spec) homes(name, path string) []string {
	best, bestScore := []string(nil), -1
	for _, h := range s.pathsOf(name) {
		if h == path || inBackup(h) && !strings.Contains(path, "pgha") {
			continue // the plain words of pgha.backup hint at nothing elsewhere
		}
		score := sharedParts(h, path)*10 - strings.Count(h, ".")
		switch {
		case score > bestScore || best == nil:
			best, bestScore = []string{h}, score
		case score == bestScore:
			best = append(best, h)
		}
	}
	if len(best) > 3 {
		return nil
	}
	return best
}

// sharedParts counts the leading path parts two paths have in common.
func sharedParts(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	n := 0
	for n < len(x) && n < len(y) && x[n] == y[n] && x[n] != "" {
		n++
	}
	return n
}

// belongs words the place(s) a key should be moved to.
func belongs(name string, homes []string) (msg, cure string) {
	words := make([]string, len(homes))
	for i, h := range homes {
		words[i] = h
		if h == "" {
			words[i] = "the top level"
		}
	}
	where := strings.Join(words, " or ")
	if where == "the top level" {
		return fmt.Sprintf("%s belongs at the top level of the file", name),
			fmt.Sprintf("start %q in the first column", name+":")
	}
	return fmt.Sprintf("%s belongs under %s", name, where), fmt.Sprintf("move it there: indent it as a key of %s", lastPart(words[0]))
}

func lastPart(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
