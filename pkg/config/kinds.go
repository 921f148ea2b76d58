package config

import (
	"fmt"
	"slices"
	"strings"
)

// checkKind judges a value by the kind its row asks for.
func (c *checker) checkKind(p *pair, s *spec, path string) {
	n := p.value
	switch s.kind {
	case kStr, kPath, kSecret:
		if c.needScalar(p, s, path, "text") {
			c.checkUnquoted(p, s, path)
		}
	case kLine, kName, kFile:
		c.checkLine(p, s, path)
	case kLines:
		c.checkLines(p, s, path)
	case kCron:
		c.checkCron(p, s, path)
	case kBool:
		if _, ok := parseBoolText(n.str()); !ok {
			c.wrong(p, s, path, "true or false", "write true or false")
		}
	case kInt, kHard:
		c.checkInt(p, s, path)
	case kEnum, kBoolOrEnum:
		c.checkEnum(p, s, path)
	case kHostPort:
		c.checkHostPort(p, s, path)
	case kList:
		c.checkList(p, s, path)
	case kStrOrList:
		if !n.isScalar() {
			c.checkList(p, s, path)
		}
	case kFree:
		if !n.isMap() {
			c.wrong(p, s, path, "a map", "write \"key: value\" lines below it, indented")
		}
	case kStrMap, kGUCs:
		c.checkScalarMap(p, s, path)
	case kOptions:
		c.checkOptions(p, s, path)
	case kSlotFilters:
		c.checkSlotFilters(p, s, path)
	case kSlots:
		c.checkSlots(p, s, path)
	case kSizes:
		c.checkSizes(p, s, path)
	}
}

// wrong reports a value of the wrong type.
func (c *checker) wrong(p *pair, s *spec, path, want, cure string) {
	c.add(Error, p.at(), path, fmt.Sprintf("needs %s but holds %s", want, describeSafe(p.value, s)), cure)
}

func (c *checker) needScalar(p *pair, s *spec, path, want string) bool {
	if p.value.isScalar() {
		return true
	}
	c.wrong(p, s, path, want, "write one value after the colon")
	return false
}

// checkUnquoted warns where YAML turned text into something that prints
// differently: a password 0123 is the number 83.
func (c *checker) checkUnquoted(p *pair, s *spec, path string) {
	n := p.value
	if n.kind == stringNode || n.text == "" || n.printed() == n.text {
		return
	}
	read := fmt.Sprintf(" as %s", n.printed())
	if s.kind == kSecret {
		read = " as another value"
	}
	c.add(Warning, p.at(), path, "without quotes YAML reads this value"+read, "put it in quotes")
}

func (c *checker) checkInt(p *pair, s *spec, path string) {
	n := p.value
	want, cure := "a whole number", "write a number without quotes"
	if s.unit != "" {
		want, cure = "a whole number ("+unitName(s.unit)+")", "write a number, or a number with a unit such as 30"+exampleUnit(s.unit)
	}
	v, ok := parseIntText(n.str(), s.unit)
	if s.kind == kHard {
		want, cure = "a whole number of seconds", "write a number without a unit, for example 30"
		v, ok = hardInt(n)
	}
	if !ok {
		c.wrong(p, s, path, want, cure)
		return
	}
	switch {
	case c.strict && v < 0 && s.min >= 0 && s.kind != kHard:
		c.wrong(p, s, path, "a number that is not negative", "write one, or null for the default")
	case v < s.min && s.kind == kHard:
		c.add(Warning, p.at(), path, fmt.Sprintf("%d is below the minimum of %d seconds", v, s.min), fmt.Sprintf("it is raised to %d", s.min))
	case v < s.min && s.max < s.min:
		c.add(Warning, p.at(), path, fmt.Sprintf("%d is below the minimum of %d", v, s.min), "raise it")
	case v < s.min || s.max >= s.min && v > s.max:
		c.add(Warning, p.at(), path, fmt.Sprintf("%d is outside the range %d to %d", v, s.min, s.max), "choose a value in the range")
	}
}

func unitName(u string) string {
	if u == "s" {
		return "seconds"
	}
	return "bytes"
}

func exampleUnit(u string) string {
	if u == "s" {
		return "s or 5min"
	}
	return "0kB or 1MB"
}

// hardInt is Python's int(): integers, floats cut off, decimal text.
func hardInt(n *node) (int64, bool) {
	if n == nil {
		return 0, false
	}
	switch n.kind {
	case intNode, stringNode:
		return parseDecimal(n.s)
	case floatNode:
		if n.f != n.f || n.f > maxInt31 || n.f < -maxInt31 {
			return 0, false
		}
		return int64(n.f), true
	}
	return 0, false
}

func (c *checker) checkEnum(p *pair, s *spec, path string) {
	words := strings.Fields(s.enum)
	text := p.value.str()
	fold := s.fold || s.kind == kBoolOrEnum
	if s.kind == kBoolOrEnum {
		if _, ok := parseBoolText(text); ok {
			return
		}
	}
	for _, w := range words {
		if w == text || fold && strings.EqualFold(w, text) {
			return
		}
	}
	list := "one of " + strings.Join(words, ", ")
	if !p.value.isScalar() {
		c.wrong(p, s, path, list, "write one of these words")
		return
	}
	cure := "write one of these words"
	if near := nearestFold(text, words); near != "" {
		cure = fmt.Sprintf("did you mean %q?", near)
	}
	c.wrong(p, s, path, list, cure)
}

func nearestFold(text string, words []string) string {
	for _, w := range words {
		if strings.EqualFold(w, text) {
			return w
		}
	}
	return nearest(text, words)
}

// loopback are the addresses other members cannot use.
var loopback = []string{"127.0.0.1", "0.0.0.0", "*", "::1", "localhost"}

func (c *checker) checkHostPort(p *pair, s *spec, path string) {
	if !c.needScalar(p, s, path, "an address host:port") {
		return
	}
	text := p.value.str()
	host, port, err := SplitHostPort(text, 5432)
	if err != nil || port < 1 || port > 65535 {
		c.add(Error, p.at(), path, fmt.Sprintf("%q is not an address with a port from 1 to 65535", shorten(text)), "write host:port, for example 192.0.2.1:5432")
		return
	}
	isListen := strings.HasSuffix(path, "listen")
	if host == "" && !isListen {
		c.add(Error, p.at(), path, fmt.Sprintf("%q has no host", text), "write host:port, for example 192.0.2.1:5432")
		return
	}
	if strings.HasPrefix(path, "restapi.") && !strings.Contains(text, ":") {
		c.add(Error, p.at(), path, fmt.Sprintf("%q has no port", text), "write host:port, for example "+text+":8008")
		return
	}
	if !isListen && slices.Contains(loopback, host) {
		c.add(Warning, p.at(), path, host+" is no address that other members can reach", "write the address of this host in the cluster's network")
	}
}

func (c *checker) checkList(p *pair, s *spec, path string) {
	n := p.value
	if !n.isList() {
		c.wrong(p, s, path, "a list", "put each entry on its own line below, starting with \"- \"")
		return
	}
	for i, it := range n.items {
		if it.isScalar() {
			continue
		}
		cure := "write one text per entry; quote it if it contains \": \""
		if it.isNull() {
			cure = "remove the empty \"-\""
		}
		c.add(Error, it, fmt.Sprintf("%s[%d]", path, i), "needs text but holds "+it.describe(), cure)
	}
}

func (c *checker) checkScalarMap(p *pair, s *spec, path string) {
	n := p.value
	if !n.isMap() {
		c.wrong(p, s, path, "a map (name: value lines)", "write \"name: value\" lines below it, indented")
		return
	}
	for i := range n.pairs {
		q := &n.pairs[i]
		if q.value.isScalar() || q.value.isNull() {
			continue
		}
		c.misplaced(q, path)
	}
}

// misplaced reports a list or map among scalar settings: usually a key of the
// section around, one level too deep.
func (c *checker) misplaced(q *pair, path string) {
	sub := joinPath(path, q.key)
	outer := path[:max(0, strings.LastIndexByte(path, '.'))]
	what := "a list"
	if q.value.isMap() {
		what = "a section"
	}
	homes := c.spec.homes(q.key, outer)
	if s := c.specAt(outer); s.kid(q.key) != nil {
		homes = []string{outer}
	}
	if q.value.isMap() && q.value.get("command") != nil {
		home := outer
		if !strings.HasSuffix(home, "postgresql") {
			home = joinPath(home, "postgresql")
		}
		homes = []string{home}
		what = "the section of a replica creation method"
	}
	if len(homes) > 0 {
		msg, cure := belongs(q.key, homes)
		c.add(Error, q.at(), sub, fmt.Sprintf("%s is %s, not a setting of %s; %s", q.key, what, lastPart(path), msg), cure)
		return
	}
	c.add(Error, q.at(), sub, "needs one value but holds "+q.value.describe(), "write the value after the colon, in quotes if it is long")
}

// specAt finds the schema of a dotted path, nil when it is not listed.
func (c *checker) specAt(path string) *spec {
	s := c.spec
	if path == "" {
		return s
	}
	for _, p := range strings.Split(path, ".") {
		s = s.kid(p)
	}
	return s
}

// checkOptions accepts initdb's and pg_basebackup's two forms: a list of flags
// and one-pair maps, or a map.
func (c *checker) checkOptions(p *pair, s *spec, path string) {
	n := p.value
	if n.isMap() {
		for i := range n.pairs {
			q := &n.pairs[i]
			if !q.value.isScalar() && !q.value.isNull() {
				c.add(Error, q.at(), joinPath(path, q.key), "needs one value but holds "+q.value.describe(), "write the value after the colon")
			}
		}
		return
	}
	if !n.isList() {
		c.wrong(p, s, path, "a list of options", "write one option per line: \"- data-checksums\" or \"- encoding: UTF8\"")
		return
	}
	for i, it := range n.items {
		ok := it.isScalar() || it.isMap() && len(it.pairs) == 1 && it.pairs[0].value.isScalar()
		if !ok {
			c.add(Error, it, fmt.Sprintf("%s[%d]", path, i), "needs a flag or one name: value pair but holds "+it.describe(),
				"write \"- data-checksums\" or \"- encoding: UTF8\", one option per line")
		}
	}
}
