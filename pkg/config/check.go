package config

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// checker walks a document along the schema and collects problems.
type checker struct {
	spec     *spec
	methods  map[string]bool // names listed in any create_replica_methods
	problems []Problem
	// strict: what is judged is about to be stored in /config. A value that
	// members would replace by a default is refused there, not warned of.
	strict bool
}

// checkLocal judges the whole tree of patroni.yml.
func checkLocal(root *node) []Problem {
	c := &checker{spec: localSpec(), methods: map[string]bool{}}
	if legacyLayout(root) {
		c.spec = localSpec(mount("postgresql", legacyPGRows()))
	}
	for _, at := range [][]string{{"postgresql"}, {"bootstrap", "dcs", "postgresql"}, {"bootstrap", "dcs", "standby_cluster"}} {
		c.collectMethods(root.get(at...))
	}
	c.section(root, c.spec, "")
	c.checkEtcd(root)
	c.checkBootstrap(root)
	c.checkTags(root.get("tags"))
	c.checkCredentials(root)
	c.checkClientCert(root)
	c.checkLocalGUCs(root.get("postgresql"))
	c.checkDynamicValues(root.get("bootstrap", "dcs"), "bootstrap.dcs", backupSection(root))
	c.checkMethods(root.get("postgresql"), "postgresql", backupSection(root))
	own, first := root.get("pgha", "backup"), root.get("bootstrap", "dcs", "pgha", "backup")
	c.checkBackup(own, orEmpty(first), "pgha.backup")
	c.checkBackup(first, orEmpty(own), "bootstrap.dcs.pgha.backup")
	c.checkPlaceholders(root, "")
	return sortProblems(c.problems)
}

// checkDynamic judges a /config document.
func checkDynamic(root *node) []Problem {
	c := &checker{spec: dynamicSpec(), methods: map[string]bool{}, strict: true}
	c.collectMethods(root.get("postgresql"))
	c.collectMethods(root.get("standby_cluster"))
	c.section(root, c.spec, "")
	c.checkDynamicValues(root, "", true)
	c.checkBackup(root.get("pgha", "backup"), nil, "pgha.backup")
	c.checkPlaceholders(root, "")
	return sortProblems(c.problems)
}

func orEmpty(n *node) *node {
	if n == nil {
		return newMap()
	}
	return n
}

func (c *checker) collectMethods(pg *node) {
	for _, k := range []string{"create_replica_methods", "create_replica_method"} {
		for _, m := range pg.get(k).strings() {
			c.methods[m] = true
		}
	}
}

// sortProblems orders by file and line; findings without a line come last.
func sortProblems(ps []Problem) []Problem {
	sort.SliceStable(ps, func(i, j int) bool {
		a, b := ps[i], ps[j]
		if a.File != b.File {
			return a.File < b.File
		}
		if (a.Line == 0) != (b.Line == 0) {
			return b.Line == 0
		}
		return a.Line < b.Line
	})
	return ps
}

func (c *checker) add(sev Severity, n *node, path, msg, cure string) {
	p := Problem{Path: path, Message: msg, Cure: cure, Severity: sev}
	if n != nil {
		p.File, p.Line, p.Column = n.file, n.line, n.col
	}
	c.problems = append(c.problems, p)
}

// at gives a value the position of its key, where a reader looks first.
func (p *pair) at() *node {
	n := *p.value
	if p.line > 0 {
		n.line, n.col = p.line, p.col
	}
	return &n
}

// section checks the entries of a map whose keys the schema lists.
func (c *checker) section(n *node, s *spec, path string) {
	if !n.isMap() {
		return
	}
	for i := range n.pairs {
		p := &n.pairs[i]
		sub := joinPath(path, p.key)
		k := s.kid(p.key)
		if k == nil {
			c.unknown(n, i, s, path)
			continue
		}
		c.value(p, k, sub)
	}
}

// value checks one known key.
func (c *checker) value(p *pair, s *spec, path string) {
	n := p.value
	if n.isNull() {
		return
	}
	c.reportStatus(p, s, path)
	if s.st == ignored && s.kind == kAny {
		return
	}
	if s.kind == kMap {
		if !n.isMap() {
			c.wrongSection(p, s, path)
			return
		}
		c.section(n, s, path)
		return
	}
	c.checkKind(p, s, path)
}

// reportStatus says once per key that it is not in effect.
func (c *checker) reportStatus(p *pair, s *spec, path string) {
	if s.st == ignored {
		c.add(s.sev, p.at(), path, "this setting is ignored", s.note)
	}
}

// wrongSection reports a value where a section is needed.
func (c *checker) wrongSection(p *pair, s *spec, path string) {
	cure := fmt.Sprintf("put its keys (%s) on the lines below, indented", strings.Join(firstN(s.names(), 4), ", "))
	if n := p.value; n.kind == stringNode {
		if key, rest, ok := strings.Cut(n.s, ":"); ok && s.kid(key) != nil && rest != "" {
			cure = fmt.Sprintf("there is no space after the colon: write \"%s: %s\"", key, shorten(strings.TrimSpace(rest)))
			if s.kid(key).kind == kSecret {
				cure = fmt.Sprintf("write a space after the colon of %q", key+":")
			}
			c.add(Error, n, path, "needs a section (key: value lines)", cure)
			return
		}
	}
	c.add(Error, p.at(), path, "needs a section (key: value lines) but holds "+describeSafe(p.value, s), cure)
}

func describeSafe(n *node, s *spec) string {
	if s.kind == kSecret {
		return "something else"
	}
	return n.describe()
}

func firstN(xs []string, n int) []string {
	if len(xs) > n {
		return append(slices.Clone(xs[:n]), "...")
	}
	return xs
}

// unknown reports a key the schema does not list, with the likeliest cause.
func (c *checker) unknown(n *node, i int, s *spec, path string) {
	p := &n.pairs[i]
	if s.open || c.isMethod(n, p, path) || strings.HasPrefix(p.key, "x-") {
		return
	}
	sub := joinPath(path, p.key)
	if inBackup(path) && isInlineSecret(p.key) {
		msg, cure := secretFault(p.key)
		c.add(Error, p.at(), sub, msg, cure)
		return
	}
	if owner := emptyBefore(n, i, s); owner != "" {
		c.add(Warning, p.at(), sub, fmt.Sprintf("%s belongs under %s, which is empty", p.key, joinPath(path, owner)),
			fmt.Sprintf("indent this line below %q", owner+":"))
		return
	}
	if homes := c.spec.homes(p.key, path); len(homes) > 0 && !methodKeys[p.key] {
		msg, cure := belongs(p.key, homes)
		c.add(Warning, p.at(), sub, msg, cure)
		if len(homes) == 1 {
			c.checkAsIf(p, joinPath(homes[0], p.key), sub)
		}
		return
	}
	if near := nearest(p.key, s.names()); near != "" {
		c.add(Warning, p.at(), sub, "unknown key, ignored", fmt.Sprintf("did you mean %q?", near))
		return
	}
	c.add(Warning, p.at(), sub, "unknown key, ignored", "remove it, or check its spelling and place")
}

// checkAsIf judges a misplaced key as if it stood at home, so that what is
// wrong inside it is found in the same run.
func (c *checker) checkAsIf(p *pair, home, path string) {
	s := c.specAt(home)
	if s == nil || s.st != inEffect {
		return
	}
	before := len(c.problems)
	c.value(p, s, home)
	for i := before; i < len(c.problems); i++ {
		f := &c.problems[i]
		if rest, ok := strings.CutPrefix(f.Path, home); ok {
			f.Path = path + rest
		}
	}
}

// methodKeys are common words inside method sections; finding them elsewhere
// hints at nothing.
var methodKeys = map[string]bool{"command": true}

// emptyBefore names the empty section right before entry i that knows its key:
// the sign of lines that were not indented.
func emptyBefore(n *node, i int, s *spec) string {
	for j := i - 1; j >= 0; j-- {
		q := n.pairs[j]
		k := s.kid(q.key)
		if q.value.isNull() && k != nil && k.kind == kMap {
			if k.kid(n.pairs[i].key) != nil {
				return q.key
			}
			return ""
		}
		if k != nil {
			return ""
		}
	}
	return ""
}

// isMethod tells whether an unlisted key is the section of a custom method.
func (c *checker) isMethod(parent *node, p *pair, path string) bool {
	switch path {
	case "bootstrap":
		if parent.get("method").str() == p.key && p.value.isMap() {
			return true
		}
		return p.value.get("command") != nil
	case "postgresql", "bootstrap.dcs.postgresql":
		return c.methods[p.key] && (p.value.isMap() || p.value.isNull()) || p.value.get("command") != nil
	}
	return false
}
