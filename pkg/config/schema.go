package config

import (
	"fmt"
	"sort"
	"strings"
)

// valueKind says which values a key takes.
type valueKind int

const (
	kMap         valueKind = iota // a section: its keys are in the table
	kFree                         // a map of anything
	kAny                          // any value at all
	kStr                          // text (numbers and booleans are printed)
	kSecret                       // like kStr, never shown
	kPath                         // like kStr
	kBool                         // parse_bool
	kInt                          // parse_int, optionally with a unit
	kHard                         // int() in Patroni: no unit, no rounding of text
	kEnum                         // one of the words in row.enum
	kHostPort                     // host:port
	kList                         // list of scalars
	kStrOrList                    // scalar or list
	kStrMap                       // map of scalars
	kGUCs                         // PostgreSQL parameters: map of scalars
	kOptions                      // list of flags and one-pair maps, or a map
	kSlotFilters                  // list of maps that match slots
	kSlots                        // map of slot name to map
	kSizes                        // map of slot name to bytes
	kMethod                       // a method section: map with free keys
	kBoolOrEnum                   // boolean word or one of row.enum
	kLine                         // text that goes into a line of another program's file
	kName                         // like kLine, and part of a path
	kFile                         // like kLine: an absolute path
	kLines                        // map of names to scalars, lines of such a file
	kCron                         // a schedule
)

// status says what this release does with a key.
type status int

const (
	inEffect status = iota
	ignored         // accepted, without meaning here
)

// row is one line of the table of keys.
type row struct {
	path string
	kind valueKind
	unit string // base unit of kInt
	min  int64
	max  int64 // no upper bound when below min
	enum string
	fold bool // of kEnum: the case of the word does not matter
	st   status
	note string   // for ignored: why, and what to do
	sev  Severity // of the report about an ignored key
}

// spec is the table as a tree.
type spec struct {
	row
	kids map[string]*spec
	// open sections accept unknown keys without a word.
	open bool
}

func (s *spec) kid(name string) *spec {
	if s == nil {
		return nil
	}
	return s.kids[name]
}

// buildSpec makes the tree of a table. A row's parents must stand before it.
func buildSpec(prefixed ...[]row) *spec {
	root := &spec{kids: map[string]*spec{}}
	for _, rows := range prefixed {
		for _, r := range rows {
			at := root
			parts := strings.Split(r.path, ".")
			for _, p := range parts[:len(parts)-1] {
				if at.kids[p] == nil {
					at.kids[p] = &spec{kids: map[string]*spec{}, row: row{path: p}}
				}
				at = at.kids[p]
			}
			name := parts[len(parts)-1]
			if old := at.kids[name]; old != nil {
				old.row = r
				continue
			}
			at.kids[name] = &spec{row: r, kids: map[string]*spec{}}
		}
	}
	return root
}

// mount moves rows below a section.
func mount(section string, rows []row) []row {
	out := make([]row, len(rows))
	for i, r := range rows {
		r.path = section + "." + r.path
		out[i] = r
	}
	return out
}

// without drops rows by path.
func without(rows []row, paths ...string) []row {
	var out []row
	for _, r := range rows {
		keep := true
		for _, p := range paths {
			keep = keep && r.path != p && !strings.HasPrefix(r.path, p+".")
		}
		if keep {
			out = append(out, r)
		}
	}
	return out
}

// pathsOf lists every section that holds a key of this name, sorted, with ""
// for the root.
func (s *spec) pathsOf(name string) []string {
	var out []string
	var walk func(at *spec, path string)
	walk = func(at *spec, path string) {
		if k := at.kids[name]; k != nil {
			out = append(out, path)
		}
		for n, k := range at.kids {
			walk(k, joinPath(path, n))
		}
	}
	walk(s, "")
	sort.Strings(out)
	return out
}

// names lists the keys of a section, sorted.
func (s *spec) names() []string {
	out := make([]string, 0, len(s.kids))
	for n := range s.kids {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

func joinPath(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

// describe names the type of a value for a person.
func (n *node) describe() string {
	if n == nil {
		return "nothing"
	}
	switch n.kind {
	case nullNode:
		return "nothing"
	case boolNode:
		return fmt.Sprintf("the boolean %v", n.b)
	case intNode, floatNode:
		return "the number " + n.printed()
	case stringNode:
		return fmt.Sprintf("the text %q", shorten(n.s))
	case listNode:
		return "a list"
	}
	return "a map (key: value lines)"
}

// shorten cuts a long text for a message.
func shorten(s string) string {
	r := []rune(s)
	if len(r) > 60 {
		return string(r[:57]) + "..."
	}
	return s
}
