package ctl

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/pgha/pgha/pkg/dcs"
)

// pythonJSON prints v as Python's json.dumps does by default: a blank after
// commas and colons, everything outside ASCII escaped. Scripts compare such
// output byte by byte.
func pythonJSON(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return jsonString(v)
	case json.Number:
		return v.String()
	case dcs.Tags:
		parts := make([]string, len(v))
		for i, tag := range v {
			parts[i] = jsonString(tag.Name) + ": " + pythonJSON(tag.Value)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case map[string]any:
		return pythonJSON(sortedTags(v))
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = pythonJSON(item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v) // bool and integers
}

// sortedTags gives a map the ordered form used here, keys sorted.
func sortedTags(m map[string]any) dcs.Tags {
	tags := make(dcs.Tags, 0, len(m))
	for name, value := range m {
		tags = append(tags, dcs.Tag{Name: name, Value: value})
	}
	slices.SortFunc(tags, func(a, b dcs.Tag) int { return strings.Compare(a.Name, b.Name) })
	return tags
}

func jsonString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString("\\" + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\f':
			b.WriteString(`\f`)
		case r == '\b':
			b.WriteString(`\b`)
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		default:
			b.WriteString(escapeUnicode(r))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// escapeUnicode writes \uXXXX, twice for characters beyond the basic plane.
func escapeUnicode(r rune) string {
	if hi, lo := utf16.EncodeRune(r); hi != '\uFFFD' {
		return escapeUnicode(hi) + escapeUnicode(lo)
	}
	hex := strconv.FormatInt(int64(r), 16)
	return `\u` + strings.Repeat("0", max(0, 4-len(hex))) + hex
}
