package pyjson

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode"
)

// Text is Python's str() of a decoded value: what Patroni compares by and what
// it hands to scripts. A string is itself, other values are their Repr.
func Text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return Repr(v)
}

// Repr is Python's repr() of a decoded value.
func Repr(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return Quote(v)
	case float64:
		return reprFloat(v)
	case json.Number:
		if isFloat(v) {
			f, _ := v.Float64() // out of range gives an infinity, like Python
			return reprFloat(f)
		}
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = Repr(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		return Repr(Sorted(v))
	case Object:
		parts := make([]string, len(v))
		for i, f := range v {
			parts[i] = Quote(f.Name) + ": " + Repr(f.Value)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return string(Append(nil, v, Spaced))
}

func reprFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	return string(AppendFloat(nil, f))
}

// Quote is Python's repr() of a string.
func Quote(s string) string {
	q := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.WriteRune(q)
	for _, r := range s {
		switch {
		case r == q || r == '\\':
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
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteRune(q)
	return b.String()
}
