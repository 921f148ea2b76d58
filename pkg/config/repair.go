package config

import (
	"fmt"
	"regexp"
	"strings"
)

// This file explains a patroni.yml that YAML refuses. A parser stops at the
// first oddity; a person wants all of them at once. So the text is read line by
// line with the schema as guide: every slip that can be mended is reported with
// its line and mended, and the checks then run over the mended text as over any
// other. The mended text is never used to run.

// frame is one open level while lines are read.
type frame struct {
	key    string
	path   string // dotted, "" for the root
	spec   *spec  // nil when the schema says nothing below here
	indent int    // as written; -1 for the root
	depth  int    // of its children in the mended text
	kids   int    // indentation of its first child, -1 when none was seen
	also   int    // another indentation already accepted for children, -1
	list   bool   // an item of a list
	empty  bool   // a section without any line below it so far
	scalar bool   // its value stands on its own line: nothing can be below it
}

type repairer struct {
	file     string
	root     *spec
	frames   []frame
	out      []string
	problems []Problem
	orphans  map[string]*orphanGroup
	// literal is the indentation of the key of a block scalar, -1 outside.
	literal int
	// shift is what mended lines without a key are moved by.
	shift int
}

// orphanGroup collects keys that stand beside their empty section.
type orphanGroup struct {
	line, last int
	path       string
	keys       []string
}

var (
	keyLine   = regexp.MustCompile(`^([A-Za-z_][\w.-]*|"[^"]+"|'[^']+')[ ]*:(?:[ \t]+(.*)|)$`)
	tightLine = regexp.MustCompile(`^([A-Za-z_][\w.-]*):([^\s/].*|/[^/].*)$`)
	itemLine  = regexp.MustCompile(`^-(?:[ \t]+(.*)|)$`)
	blockHead = regexp.MustCompile(`^[|>][-+0-9]*\s*(?:#.*)?$`)
)

// diagnose explains why src is not a usable YAML mapping; cause is the parser's
// reason.
func diagnose(src source, cause error) []Problem {
	r := &repairer{file: src.name, root: localSpec(), literal: -1, orphans: map[string]*orphanGroup{}}
	r.frames = []frame{{spec: r.root, indent: -1, kids: -1, also: -1}}
	text := strings.TrimPrefix(string(src.data), "\ufeff")
	for i, line := range strings.Split(text, "\n") {
		r.out = append(r.out, r.line(i+1, strings.TrimRight(line, "\r")))
	}
	r.reportOrphans()
	tree, more, err := parseYAML([]byte(strings.Join(r.out, "\n")), src.name)
	found := append(r.problems, more...)
	if err != nil || !tree.isMap() {
		if err == nil || len(r.problems) == 0 {
			err = cause
		}
		msg, cure := explainYAML(err)
		return sortProblems(dedupe(append(found, Problem{File: src.name, Line: yamlLine(err), Message: msg, Cure: cure, Severity: Error})))
	}
	if len(r.problems) == 0 {
		msg, cure := explainYAML(cause)
		found = append(found, Problem{File: src.name, Line: yamlLine(cause), Message: msg, Cure: cure, Severity: Error})
	}
	return sortProblems(dedupe(append(found, checkLocal(tree)...)))
}

func (r *repairer) add(line int, path, msg, cure string) {
	r.problems = append(r.problems, Problem{File: r.file, Line: line, Path: path, Message: msg, Cure: cure, Severity: Error})
}

// line mends one line.
func (r *repairer) line(no int, line string) string {
	body := strings.TrimLeft(line, " \t")
	indent := len(line) - len(body)
	if r.literal >= 0 && (body == "" || indent > r.literal) {
		return pad(max(0, indent+r.shift)) + body
	}
	r.literal = -1
	if body == "" || strings.HasPrefix(body, "#") {
		return pad(indent) + body
	}
	if strings.HasPrefix(body, "---") || strings.HasPrefix(body, "%") {
		return line
	}
	if strings.Contains(line[:indent], "\t") {
		r.add(no, "", "the line is indented with a tab, which YAML forbids", "indent with spaces")
		indent = len(strings.ReplaceAll(line[:indent], "\t", "  "))
	}
	if m := itemLine.FindStringSubmatch(body); m != nil {
		return r.item(indent, m[1])
	}
	body = r.spaceAfterColon(no, indent, body)
	if m := keyLine.FindStringSubmatch(body); m != nil {
		return r.key(no, indent, strings.Trim(m[1], `"'`), m[2], body)
	}
	return pad(max(0, indent+r.shift)) + body
}

// spaceAfterColon mends "scope:name".
func (r *repairer) spaceAfterColon(no, indent int, body string) string {
	m := tightLine.FindStringSubmatch(body)
	if m == nil || keyLine.MatchString(body) {
		return body
	}
	s := r.parentOf(indent, m[1]).spec
	if s.kid(m[1]) == nil && len(r.root.pathsOf(m[1])) == 0 {
		return body
	}
	mended := m[1] + ": " + m[2]
	path, shown, want := m[1], body, mended
	if secretWord.MatchString(m[1]) {
		shown, want = m[1]+":...", m[1]+": ..."
	}
	r.add(no, path, fmt.Sprintf("%q lacks a space after the colon", shorten(shown)), fmt.Sprintf("write %q", shorten(want)))
	return mended
}

var secretWord = regexp.MustCompile(`password|^url$|^proxy$`)

// parentOf guesses the section a key at this indentation is meant for.
func (r *repairer) parentOf(indent int, key string) *frame {
	i := len(r.frames) - 1
	for i > 0 && (r.frames[i].indent >= indent || r.frames[i].scalar) {
		i--
	}
	f := &r.frames[i]
	aligned := f.kids < 0 || f.kids == indent || f.also == indent
	if f.list {
		return f
	}
	// A section meant to hold this key stands beside it, empty.
	if o := r.emptyNeighbour(i, indent, key); o != nil {
		return o
	}
	if aligned && (i > 0 || f.spec.kid(key) != nil || f.kids < 0) {
		return f
	}
	// Out of line with its neighbours: the schema decides, innermost first.
	for j := i; j >= 0; j-- {
		if s := r.frames[j].spec; s != nil && s.kid(key) != nil {
			return &r.frames[j]
		}
	}
	return f
}

// emptyNeighbour finds the section in front of a key at the same indentation
// that is still empty (or already took such keys) and knows the key, when the
// section around does not.
func (r *repairer) emptyNeighbour(parent, indent int, key string) *frame {
	if parent+1 >= len(r.frames) {
		return nil
	}
	o := &r.frames[parent+1]
	if o.indent != indent || o.list || o.spec == nil || o.spec.kind != kMap {
		return nil
	}
	if !o.empty && o.also != indent {
		return nil
	}
	if o.spec.kid(key) == nil || r.frames[parent].spec.kid(key) != nil {
		return nil
	}
	return o
}

// key mends the place of a "key: value" line.
func (r *repairer) key(no, indent int, key, value, body string) string {
	f := r.parentOf(indent, key)
	at := 0
	for i := range r.frames {
		if &r.frames[i] == f {
			at = i
		}
	}
	r.reportIndent(no, indent, key, f, at)
	path := joinPath(f.path, key)
	f.empty = false
	depth := f.depth
	sub := frame{key: key, path: path, spec: f.spec.kid(key), indent: indent, depth: depth + 1, kids: -1, also: -1}
	value = strings.TrimSpace(value)
	sub.empty = value == "" || strings.HasPrefix(value, "#")
	sub.scalar = !sub.empty && !strings.ContainsAny(value[:1], "{[|>&!'\"")
	r.frames = append(r.frames[:at+1], sub)
	if blockHead.MatchString(value) {
		r.literal = indent
	}
	mended := 2 * depth
	r.shift = mended - indent
	return pad(mended) + body
}

// reportIndent says what is wrong with a key's indentation, and remembers it.
func (r *repairer) reportIndent(no, indent int, key string, f *frame, at int) {
	if f.indent >= indent && at > 0 {
		r.orphan(no, key, f)
		f.also = indent
		return
	}
	switch {
	case f.list:
	case at == 0 && indent > 0:
		r.add(no, key, fmt.Sprintf("top-level key %q is indented by %s", key, blanks(indent)), "start it in the first column, and move the lines below it along")
	case f.kids < 0:
		f.kids = indent
	case indent != f.kids:
		r.add(no, joinPath(f.path, key), fmt.Sprintf("is indented by %s, but the other keys of %s by %s", blanks(indent), f.key, blanks(f.kids)),
			fmt.Sprintf("indent it by %s, and move the lines below it along", blanks(f.kids)))
		f.also = indent
	}
	if at == 0 && f.kids < 0 {
		f.kids = 0
	}
}

// orphan notes a key that stands beside its empty section.
func (r *repairer) orphan(no int, key string, f *frame) {
	g := r.orphans[f.path]
	if g == nil {
		g = &orphanGroup{line: no, path: f.path}
		r.orphans[f.path] = g
	}
	g.last = no
	g.keys = append(g.keys, key)
}

// reportOrphans makes one finding of all keys that miss the same indentation.
func (r *repairer) reportOrphans() {
	for _, g := range r.orphans {
		r.add(g.line, g.path, fmt.Sprintf("the section is empty, because the keys meant for it are not indented below it: %s (lines %d to %d)",
			strings.Join(g.keys, ", "), g.line, g.last), fmt.Sprintf("indent these lines, and what is below them, by two more spaces than %q", lastPart(g.path)+":"))
	}
}

// item mends a "- entry" line.
func (r *repairer) item(indent int, rest string) string {
	i := len(r.frames) - 1
	for i > 0 && (r.frames[i].indent > indent || r.frames[i].list && r.frames[i].indent >= indent) {
		i--
	}
	f := &r.frames[i]
	f.empty = false
	depth := f.depth
	sub := frame{path: f.path, indent: indent, depth: depth + 1, kids: -1, also: -1, list: true}
	r.frames = append(r.frames[:i+1], sub)
	r.shift = 2*depth - indent
	if blockHead.MatchString(strings.TrimSpace(rest)) {
		r.literal = indent
	}
	return pad(2*depth) + "- " + rest
}

func pad(n int) string { return strings.Repeat(" ", n) }

func blanks(n int) string {
	switch n {
	case 0:
		return "no space"
	case 1:
		return "1 space"
	}
	return fmt.Sprintf("%d spaces", n)
}
