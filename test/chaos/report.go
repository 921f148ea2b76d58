package chaos

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Verdict is how a row went.
type Verdict string

// The verdicts. A row of Patroni's never fails a run: it tells what happened.
const (
	Expected   Verdict = "as expected"
	Unexpected Verdict = "NOT as expected"
	Skipped    Verdict = "skip"
)

// Figure is one number of a row.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // "ms", "s", "" for a count
}

func (f Figure) String() string {
	text := strconv.FormatFloat(f.Value, 'f', -1, 64)
	if f.Unit != "" {
		text += " " + f.Unit
	}
	return f.Name + " " + text
}

// Result is what one row gave, in one mode, with one peer and one set of timings.
type Result struct {
	Row     string `json:"row"`
	Title   string `json:"title"`
	Expect  string `json:"expect"`
	Peer    string `json:"peer"`
	Mode    string `json:"mode"`
	Profile string `json:"profile"`

	// Date is the day of the run, Slack the factor on what a busy machine may take; not noted of earlier runs.
	Date  string  `json:"date,omitempty"`
	Slack float64 `json:"slack,omitempty"`

	Verdict Verdict `json:"verdict"`
	// Notes say why a row was skipped, or what was not as expected.
	Notes []string `json:"notes,omitempty"`

	// Clients follow /primary: GapMS is their longest time without an
	// acknowledged write. OverlapMS is how long two nodes acknowledged writes,
	// RoleOverlapMS how long two answered /primary.
	GapMS         int64  `json:"gap_ms"`
	OverlapMS     int64  `json:"overlap_ms"`
	RoleOverlapMS int64  `json:"role_overlap_ms"`
	Acked         int    `json:"acked"`
	Lost          int    `json:"lost"`
	LostBytes     uint64 `json:"lost_bytes"`
	// Admitted rows have an overlap that docs/safety.md does not promise to prevent.
	Admitted bool `json:"admitted,omitempty"`
	// Changes counts the timelines on which writes were acknowledged, less one.
	Changes int `json:"changes"`
	// GivenUp rows ended before their rows could be counted.
	GivenUp bool  `json:"given_up,omitempty"`
	TookMS  int64 `json:"took_ms"`
	// Steady rows are those in which nobody may be elected.
	Steady  bool     `json:"steady,omitempty"`
	Figures []Figure `json:"figures,omitempty"`
}

func (r Result) key() string { return strings.Join([]string{r.Profile, r.Mode, r.Peer, r.Row}, "/") }

// store keeps results in a file.
type store struct {
	path    string // "" keeps nothing
	results []Result
}

func openStore(path string) (*store, error) {
	s := &store{path: path}
	return s, readJSON(path, &s.results)
}

// readJSON reads a file that need not be there; the path "" is that of none.
func readJSON(path string, into any) error {
	if path == "" {
		return nil
	}
	doc, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read results: %w", err)
	}
	if err := json.Unmarshal(doc, into); err != nil {
		return fmt.Errorf("read results in %s: %w; remove the file to begin anew", path, err)
	}
	return nil
}

// writeJSON writes a file at once and whole; the path "" is that of none.
func writeJSON(path string, from any) error {
	if path == "" {
		return nil
	}
	doc, err := json.MarshalIndent(from, "", " ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(doc, '\n'))
}

func (s *store) has(r Result) bool {
	return slices.ContainsFunc(s.results, func(o Result) bool { return o.key() == r.key() })
}

// drop forgets the results for which gone says so.
func (s *store) drop(gone func(Result) bool) { s.results = slices.DeleteFunc(s.results, gone) }

// put replaces or adds a result and writes the file.
func (s *store) put(r Result) error {
	s.drop(func(o Result) bool { return o.key() == r.key() })
	s.results = append(s.results, r)
	slices.SortFunc(s.results, compareResults)
	return writeJSON(s.path, s.results)
}

// compareResults orders by timings, mode, row (by number, then letter) and peer.
func compareResults(a, b Result) int {
	return cmp.Or(cmp.Compare(a.Profile, b.Profile), cmp.Compare(a.Mode, b.Mode),
		cmp.Compare(number(a.Row), number(b.Row)), cmp.Compare(a.Row, b.Row), -cmp.Compare(a.Peer, b.Peer))
}

func number(row string) int {
	n, _ := strconv.Atoi(strings.TrimRight(row, "abcdefghijklmnopqrstuvwxyz"))
	return n
}

func replaceFile(path string, doc []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.Write(doc)
	if err := errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(temp.Name(), path)
}

// marks are what tables of a name stand between.
func marks(name string) (beginMark, endMark string) {
	return "<!-- " + name + ":begin -->", "<!-- " + name + ":end -->"
}

// splice puts the tables of a name between their marks in a page.
func splice(page, name, tables string) (string, error) {
	beginMark, endMark := marks(name)
	before, rest, found := strings.Cut(page, beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !found || !ended {
		return "", fmt.Errorf("the page lacks %s and %s", beginMark, endMark)
	}
	return before + beginMark + "\n\n" + tables + "\n" + endMark + after, nil
}

// tables renders results, one section per timings and mode.
func tables(results []Result) string {
	var b strings.Builder
	for len(results) > 0 {
		first := results[0]
		n := slices.IndexFunc(results, func(r Result) bool { return r.Profile != first.Profile || r.Mode != first.Mode })
		if n < 0 {
			n = len(results)
		}
		section(&b, results[:n])
		results = results[n:]
	}
	return b.String()
}

func section(b *strings.Builder, results []Result) {
	peers := peersOf(results)
	fmt.Fprintf(b, "### ttl/loop_wait/retry_timeout %s, %s replication\n\n", results[0].Profile, results[0].Mode)
	for _, peer := range peers {
		b.WriteString("* " + summary(peer, results) + "\n")
	}
	b.WriteString("\n| # | Fault | Expected | " + strings.Join(peers, " | ") + " |\n|---|---|---|" + strings.Repeat("---|", len(peers)) + "\n")
	for i := 0; i < len(results); {
		r := results[i]
		cells := map[string]string{}
		for ; i < len(results) && results[i].Row == r.Row; i++ {
			cells[results[i].Peer] = cell(results[i])
		}
		fmt.Fprintf(b, "| %s | %s | %s |", r.Row, r.Title, r.Expect)
		for _, peer := range peers {
			fmt.Fprintf(b, " %s |", cells[peer])
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

// peersOf lists the peers of some results, ours first.
func peersOf(results []Result) []string {
	var out []string
	for _, r := range results {
		if !slices.Contains(out, r.Peer) {
			out = append(out, r.Peer)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return -strings.Compare(a, b) })
	return out
}

// cell tells what one row gave.
func cell(r Result) string {
	notes := strings.ReplaceAll(strings.Join(r.Notes, "; "), "|", "/")
	if r.Verdict == Skipped {
		return "skip: " + notes
	}
	lost := strconv.Itoa(r.Lost)
	switch {
	case r.GivenUp && r.Acked == 0:
		return "**" + string(r.Verdict) + "**: " + notes
	case r.GivenUp:
		lost = "unknown"
	}
	text := fmt.Sprintf("gap %d ms, overlap %d ms, lost %s of %d rows", r.GapMS, max(r.OverlapMS, r.RoleOverlapMS), lost, r.Acked)
	for _, f := range r.Figures {
		text += ", " + f.String()
	}
	if r.Slack > 1 {
		text += fmt.Sprintf(" (limits stretched %g times)", r.Slack)
	}
	if r.Verdict == Unexpected {
		text += "; **" + string(r.Verdict) + "**: " + notes
	}
	return text
}

// summary is the line about one peer above a table.
func summary(peer string, results []Result) string {
	var rows, good, skipped, acked, lost, steady, changes int
	var overlap, admitted, took int64
	var failovers, late []int64
	for _, r := range results {
		switch {
		case r.Peer != peer:
			continue
		case r.Verdict == Skipped:
			skipped++
			continue
		case r.Verdict == Expected:
			good++
		}
		rows++
		if r.Expect == "F" && r.Acked > 0 {
			failovers = append(failovers, r.GapMS)
		}
		for _, f := range r.Figures {
			if f.Name == lateFigure {
				late = append(late, int64(f.Value))
			}
		}
		if !r.GivenUp {
			acked += r.Acked
			lost += r.Lost
		}
		if seen := max(r.OverlapMS, r.RoleOverlapMS); r.Admitted {
			admitted = max(admitted, seen)
		} else {
			overlap = max(overlap, seen)
		}
		if r.Steady {
			steady++
			changes += r.Changes
			took += r.TookMS
		}
	}
	text := fmt.Sprintf("%s: %d rows run, %d as expected, %d skipped; %d writes acknowledged, %d of them lost; longest overlap of two primaries %d ms; "+
		"%d needless changes of the leader in %d rows (%d s) that should have none",
		peer, rows, good, skipped, acked, lost, overlap, changes, steady, took/1000)
	if admitted > 0 {
		text += fmt.Sprintf("; an overlap of %d ms in the row where none is promised", admitted)
	}
	if len(failovers) > 0 {
		text += fmt.Sprintf("; clients waited %d ms (p50), %d ms (p95), at most %d ms in the %d rows that expect F",
			quantile(failovers, 0.5), quantile(failovers, 0.95), quantile(failovers, 1), len(failovers))
	}
	if len(late) > 0 {
		text += fmt.Sprintf("; the latest write of an old primary came %d ms after its deadline (negative: before)", quantile(late, 1))
	}
	return text
}

// lateFigure is about the last write of an old primary: negative when all was over
// before its deadline.
const lateFigure = "last write minus deadline"
