package ctl

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pgha/pgha/internal/pyjson"
)

// yamlBlock prints v as Patroni's safe_dump in block style does: keys sorted,
// lists not indented below their key, strings folded beyond 200 characters.
// Those in double quotes, and those of several lines, are not folded.
func yamlBlock(v any) string {
	var b strings.Builder
	writeBlock(&b, v, 0, false)
	return b.String()
}

// yamlFlow prints v on one line: {clonefrom: true, zone: a}.
func yamlFlow(v any) string { return flowAt(v, 0) }

// flowAt prints v inside a collection whose strings continue at indent.
func flowAt(v any, indent int) string {
	switch v := v.(type) {
	case pyjson.Object:
		parts := make([]string, len(v))
		for i, field := range byName(v) {
			parts[i] = yamlScalar(field.Name, true, indent+4) + ": " + flowAt(field.Value, indent+2)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case map[string]any:
		return flowAt(pyjson.Sorted(v), indent)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = flowAt(item, indent+2)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return yamlScalar(v, true, indent+2)
}

// writeBlock writes v whose lines are indented by indent; inline means that
// the first line already has its indentation (it follows "- ").
func writeBlock(b *strings.Builder, v any, indent int, inline bool) {
	switch v := v.(type) {
	case map[string]any:
		writeBlock(b, pyjson.Sorted(v), indent, inline)
	case pyjson.Object:
		writeMapping(b, v, indent, inline)
	case []any:
		writeSequence(b, v, indent, inline)
	default:
		written := b.String()
		column := utf8.RuneCountInString(written[strings.LastIndexByte(written, '\n')+1:])
		b.WriteString(folded(yamlScalar(v, false, indent), column, indent) + "\n")
	}
}

// yamlWidth is the column after which a string is folded at the next blank.
const yamlWidth = 200

// folded breaks a scalar that begins in column; the lines it goes on in are
// indented.
func folded(text string, column, indent int) string {
	if len(text) <= yamlWidth-column || strings.HasPrefix(text, `"`) || strings.Contains(text, "\n") {
		return text
	}
	var b strings.Builder
	runes := []rune(text)
	first, last := 1, len(runes)-2
	if runes[0] == '\'' {
		first, last = 2, len(runes)-3
	}
	for i, r := range runes {
		alone := r == ' ' && i >= first && i <= last && runes[i-1] != ' ' && runes[i+1] != ' '
		if alone && column > yamlWidth {
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
			continue
		}
		b.WriteRune(r)
		column++
	}
	return b.String()
}

func writeMapping(b *strings.Builder, o pyjson.Object, indent int, inline bool) {
	if len(o) == 0 {
		b.WriteString("{}\n")
		return
	}
	for i, field := range byName(o) {
		if i > 0 || !inline {
			b.WriteString(strings.Repeat(" ", indent))
		}
		b.WriteString(yamlScalar(field.Name, false, indent+2) + ":")
		switch {
		case isEmptyCollection(field.Value) || isScalar(field.Value):
			b.WriteByte(' ')
			writeBlock(b, field.Value, indent+2, true)
		case isSequence(field.Value):
			b.WriteByte('\n')
			writeBlock(b, field.Value, indent, false)
		default:
			b.WriteByte('\n')
			writeBlock(b, field.Value, indent+2, false)
		}
	}
}

func writeSequence(b *strings.Builder, items []any, indent int, inline bool) {
	if len(items) == 0 {
		b.WriteString("[]\n")
		return
	}
	for i, item := range items {
		if i > 0 || !inline {
			b.WriteString(strings.Repeat(" ", indent))
		}
		b.WriteString("- ")
		writeBlock(b, item, indent+2, true)
	}
}

func byName(o pyjson.Object) pyjson.Object {
	sorted := slices.Clone(o)
	slices.SortStableFunc(sorted, func(a, b pyjson.Field) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}

func isSequence(v any) bool {
	_, ok := v.([]any)
	return ok
}

func isScalar(v any) bool {
	switch v.(type) {
	case pyjson.Object, map[string]any, []any:
		return false
	}
	return true
}

func isEmptyCollection(v any) bool {
	switch v := v.(type) {
	case pyjson.Object:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// yamlScalar prints one value; strings get the mildest quoting that reads back
// as the same string under YAML 1.1.
func yamlScalar(v any, flow bool, indent int) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case json.Number:
		return yamlNumber(v)
	case string:
		return yamlString(v, flow, indent)
	}
	return fmt.Sprint(v)
}

// yamlNumber prints a float as Python reads and writes it; an exponent gets a
// point before it, without which YAML 1.1 would take it for a string.
func yamlNumber(n json.Number) string {
	text := string(pyjson.Append(nil, n, pyjson.Spaced))
	if strings.Contains(text, "e") && !strings.Contains(text, ".") {
		return strings.Replace(text, "e", ".0e", 1)
	}
	switch text {
	case "Infinity":
		return ".inf"
	case "-Infinity":
		return "-.inf"
	}
	return text
}

func yamlString(s string, flow bool, indent int) string {
	switch {
	case needsDouble(s):
		return doubleQuoted(s)
	case needsQuotes(s, flow):
		// Inside single quotes n line breaks are written as n+1.
		quoted := strings.ReplaceAll(s, "'", "''")
		return "'" + lineBreaks.ReplaceAllString(quoted, "\n$0"+strings.Repeat(" ", indent)) + "'"
	}
	return s
}

var lineBreaks = regexp.MustCompile(`\n+`)

// needsDouble: characters that do not print, and blanks before a line break or
// after one, survive in double quotes only.
func needsDouble(s string) bool {
	return strings.Contains(s, " \n") || strings.Contains(s, "\n ") ||
		strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && !yamlPrintable(r) })
}

func yamlPrintable(r rune) bool {
	special := r == 0x2028 || r == 0x2029 || r == 0xfeff || r == utf8.RuneError
	return r >= ' ' && r <= '~' || r >= 0xa0 && !special
}

func doubleQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		i := strings.IndexRune("\x00\a\b\t\n\v\f\r\x1b\"\\", r)
		switch {
		case i >= 0:
			b.WriteString(`\` + "0abtnvfre\"\\"[i:i+1])
		case yamlPrintable(r) && r <= 0xffff:
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02X`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// notString matches plain scalars YAML 1.1 takes for something else than a
// string: booleans, null, numbers, dates, merge and value keys.
var notString = regexp.MustCompile(`^(?:` +
	`yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF` +
	`|~|null|Null|NULL|<<|=` +
	`|[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+` +
	`|[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?` +
	`|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)` +
	`|\d{4}-\d\d-\d\d|\d{4}-\d\d?-\d\d?(?:[Tt]|[ \t]+)\d\d?:\d\d:\d\d(?:\.\d*)?(?:[ \t]*(?:Z|[-+]\d\d?(?::\d\d)?))?` +
	`)$`)

// needsQuotes tells whether s as a plain scalar would read back differently.
func needsQuotes(s string, flow bool) bool {
	switch {
	case s == "" || notString.MatchString(s):
		return true
	case strings.HasPrefix(s, "---") || strings.HasPrefix(s, "..."):
		return true
	case strings.Trim(s, " \n") != s || strings.Contains(s, "\n"):
		return true
	case strings.ContainsAny(s[:1], "#,[]{}&*!|>'\"%@`"):
		return true
	case strings.ContainsAny(s[:1], "-?:") && (len(s) == 1 || s[1] == ' '):
		return true
	case strings.Contains(s, ": ") || strings.HasSuffix(s, ":") || strings.Contains(s, " #"):
		return true
	}
	return flow && strings.ContainsAny(s, ",?[]{}:")
}
