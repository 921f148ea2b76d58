package ha

import (
	"strconv"
	"strings"
)

// SyncNames is a value of synchronous_standby_names. The zero value names nobody.
type SyncNames struct {
	Any   bool // any Count of Names, instead of the first Count
	Count int
	Names nameSet
}

// nobodyYet is the name of no member. A server told to wait for it acknowledges
// nothing: strict mode, and nobody there who could be waited for.
const nobodyYet = "__patroni_strict_sync_replica_placeholder__"

// String renders the value as Patroni does (wire contract §4.3).
func (s SyncNames) String() string {
	if len(s.Names) == 0 {
		return ""
	}
	quoted := make([]string, len(s.Names))
	for i, n := range s.Names {
		quoted[i] = quoteSyncName(n)
	}
	list := strings.Join(quoted, ",")
	switch {
	case s.Any:
		return "ANY " + strconv.Itoa(s.Count) + " (" + list + ")"
	case len(quoted) == 1 && s.Count == 1:
		return list
	}
	return strconv.Itoa(s.Count) + " (" + list + ")"
}

func quoteSyncName(name string) string {
	plain := name != "" && !strings.EqualFold(name, "any") && !strings.EqualFold(name, "first")
	for i := range len(name) {
		plain = plain && (isLetter(name[i]) || i > 0 && (isDigit(name[i]) || name[i] == '$'))
	}
	if plain {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

func isLetter(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

// ParseSyncNames reads a value by the server's grammar. Text that the server
// would not take, and "*", name nobody in particular: the zero value.
func ParseSyncNames(text string) SyncNames {
	p := syncParser{rest: text}
	s, ok := p.value()
	if !ok {
		return SyncNames{}
	}
	return s
}

// members are the names of real members.
func (s SyncNames) members() nameSet { return s.Names.minus(nameSet{nobodyYet}) }

func (s SyncNames) equal(t SyncNames) bool {
	return s.Any == t.Any && s.Count == t.Count && s.Names.equal(t.Names)
}

type syncParser struct{ rest string }

// token returns the next word, quoted name or sign; a number and a word have
// sign 0. The end is "".
func (p *syncParser) token() (text string, sign byte, ok bool) {
	p.rest = strings.TrimLeft(p.rest, " \t\n\r\f\v")
	if p.rest == "" {
		return "", 0, true
	}
	switch c := p.rest[0]; c {
	case '(', ')', ',', '*':
		p.rest = p.rest[1:]
		return string(c), c, true
	case '"':
		return p.quoted()
	}
	n := 0
	for n < len(p.rest) && (isLetter(p.rest[n]) || isDigit(p.rest[n]) || p.rest[n] == '$' || p.rest[n] >= 0x80) {
		n++
	}
	text, p.rest = p.rest[:n], p.rest[n:]
	return text, 0, n > 0
}

func (p *syncParser) quoted() (text string, sign byte, ok bool) {
	for i := 1; i < len(p.rest); i++ {
		if p.rest[i] != '"' {
			continue
		}
		if i+1 < len(p.rest) && p.rest[i+1] == '"' {
			i++
			continue
		}
		text, p.rest = strings.ReplaceAll(p.rest[1:i], `""`, `"`), p.rest[i+1:]
		return text, '"', text != ""
	}
	return "", 0, false
}

func (p *syncParser) value() (SyncNames, bool) {
	text, sign, ok := p.token()
	if !ok || text == "" {
		return SyncNames{}, ok
	}
	s := SyncNames{Count: 1}
	if sign == 0 && (strings.EqualFold(text, "any") || strings.EqualFold(text, "first")) {
		s.Any = strings.EqualFold(text, "any")
		if text, sign, ok = p.token(); !ok || sign != 0 {
			return s, false
		}
	}
	if n, err := strconv.Atoi(text); err == nil && sign == 0 {
		open, paren, ok := p.token()
		switch {
		case ok && paren == '(':
			s.Count = n
			names, ok := p.names(')')
			s.Names = names
			return s, ok && n > 0 && p.done()
		case open != "" || !ok || s.Any:
			return s, false
		}
		s.Names = newNameSet(text)
		return s, true
	}
	p.rest = unread(text, sign) + p.rest
	names, ok := p.names(0)
	s.Names = names
	return s, ok
}

func unread(text string, sign byte) string {
	if sign == '"' {
		return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
	}
	return text + " "
}

// names reads a list up to the sign end, 0 for the end of the text. A list with
// "*" in it names nobody in particular.
func (p *syncParser) names(end byte) (nameSet, bool) {
	var names []string
	all := false
	for {
		text, sign, ok := p.token()
		if !ok || text == "" || sign != 0 && sign != '"' && sign != '*' {
			return nil, false
		}
		all = all || sign == '*'
		names = append(names, text)
		text, sign, ok = p.token()
		switch {
		case !ok:
			return nil, false
		case sign == ',':
			continue
		case end == 0 && text != "" || end != 0 && sign != end:
			return nil, false
		case all:
			return nil, true
		}
		return newNameSet(names...), true
	}
}

func (p *syncParser) done() bool { return strings.TrimSpace(p.rest) == "" }
