package config

import (
	"math"
	"strconv"
	"strings"
	"unicode"
)

// printed is Python's str() of the value: what Patroni compares by and what it
// hands to scripts.
func (n *node) printed() string {
	if n != nil && n.kind == stringNode {
		return n.s
	}
	return n.repr()
}

// repr is Python's repr() of the value.
func (n *node) repr() string {
	if n == nil {
		return "None"
	}
	switch n.kind {
	case boolNode:
		if n.b {
			return "True"
		}
		return "False"
	case intNode:
		return n.s
	case floatNode:
		return pyFloat(n.f)
	case stringNode:
		return pyQuote(n.s)
	case listNode:
		parts := make([]string, len(n.items))
		for i, it := range n.items {
			parts[i] = it.repr()
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case mapNode:
		parts := make([]string, len(n.pairs))
		for i, p := range n.pairs {
			parts[i] = pyQuote(p.key) + ": " + p.value.repr()
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "None"
}

// pyFloat is Python's repr of a float: shortest digits, exponent outside
// 1e-4..1e16, always a dot or an exponent.
func pyFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// pyQuote is Python's repr of a string.
func pyQuote(s string) string {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.WriteByte(q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			b.WriteString(`\x` + hexDigits(r, 2))
		case r < 0x10000:
			b.WriteString(`\u` + hexDigits(r, 4))
		default:
			b.WriteString(`\U` + hexDigits(r, 8))
		}
	}
	b.WriteByte(q)
	return b.String()
}

// hexDigits is r in hexadecimal, zero-padded to width.
func hexDigits(r rune, width int) string {
	s := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", max(0, width-len(s))) + s
}
