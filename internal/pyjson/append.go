package pyjson

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Style is a form of json.dumps.
type Style uint8

const (
	// Spaced is the default of json.dumps, a blank after commas and colons:
	// what the REST API and the command line show. Numbers are normalised as
	// they are by a Python program that reads and prints them, which makes
	// those beyond the range of a float Infinity.
	Spaced Style = iota
	// Compact has no blanks: what is stored in etcd. Since that is read again,
	// by strict parsers too, the text of a json.Number is kept, and floats that
	// JSON lacks are null, where Python would write a document that only
	// Python reads.
	Compact
)

func (s Style) comma(dst []byte) []byte {
	if s == Compact {
		return append(dst, ',')
	}
	return append(dst, ", "...)
}

func (s Style) colon(dst []byte) []byte {
	if s == Compact {
		return append(dst, ':')
	}
	return append(dst, ": "...)
}

// Object is a JSON object whose order matters.
type Object []Field

// Field is one entry of an Object.
type Field struct {
	Name  string
	Value any
}

// Set adds a field at the end; the name must be new.
func (o *Object) Set(name string, value any) { *o = append(*o, Field{name, value}) }

// SetIf adds the field as true if it is so, and leaves it out otherwise.
func (o *Object) SetIf(name string, is bool) {
	if is {
		o.Set(name, true)
	}
}

// Sorted is a map as an Object, in the order of the names.
func Sorted[V any](m map[string]V) Object {
	o := make(Object, 0, len(m))
	for name, v := range m {
		o = append(o, Field{name, v})
	}
	slices.SortFunc(o, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return o
}

// Append appends v: nil, bool, string, *string, integers, float64, json.Number,
// json.RawMessage (null if it is no JSON), Object, []any and map[string]any
// (sorted). Other types are written as their text, so that an odd value from a
// YAML file never fails.
func Append(dst []byte, v any, style Style) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case string:
		return AppendString(dst, v)
	case *string:
		if v == nil {
			return append(dst, "null"...)
		}
		return AppendString(dst, *v)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case uint64:
		return strconv.AppendUint(dst, v, 10)
	case float64:
		if style == Compact && (math.IsNaN(v) || math.IsInf(v, 0)) {
			return append(dst, "null"...)
		}
		return AppendFloat(dst, v)
	case json.Number:
		return appendNumber(dst, v, style)
	case json.RawMessage:
		return AppendRaw(dst, v, style)
	case Object:
		return appendObject(dst, v, style)
	case []any:
		return appendList(dst, v, style)
	case map[string]any:
		return appendObject(dst, Sorted(v), style)
	}
	return AppendString(dst, fmt.Sprint(v))
}

func appendObject(dst []byte, o Object, style Style) []byte {
	dst = append(dst, '{')
	for i, f := range o {
		if i > 0 {
			dst = style.comma(dst)
		}
		dst = style.colon(AppendString(dst, f.Name))
		dst = Append(dst, f.Value, style)
	}
	return append(dst, '}')
}

func appendList(dst []byte, list []any, style Style) []byte {
	dst = append(dst, '[')
	for i, v := range list {
		if i > 0 {
			dst = style.comma(dst)
		}
		dst = Append(dst, v, style)
	}
	return append(dst, ']')
}

// AppendRaw writes JSON text again in the given style, keeping the order of
// keys. Text that is no JSON becomes null.
func AppendRaw(dst, raw []byte, style Style) []byte {
	v, err := Decode(raw)
	if err != nil {
		return append(dst, "null"...)
	}
	return Append(dst, v, style)
}

const hexDigits = "0123456789abcdef"

// AppendString appends s in quotes. Everything outside printable ASCII is
// escaped, in UTF-16 units; what is no UTF-8 appears as U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r >= ' ' && r <= '~':
			dst = append(dst, byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r == '\b':
			dst = append(dst, '\\', 'b')
		case r == '\f':
			dst = append(dst, '\\', 'f')
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			dst = appendUnit(appendUnit(dst, hi), lo)
		default:
			dst = appendUnit(dst, r)
		}
	}
	return append(dst, '"')
}

func appendUnit(dst []byte, u rune) []byte {
	return append(dst, '\\', 'u', hexDigits[u>>12&15], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}

// AppendFloat appends f like Python's repr: the shortest text that reads back,
// always recognisable as a float, with an exponent below 1e-4 and from 1e16.
// What JSON lacks becomes NaN, Infinity or -Infinity.
func AppendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	if f == math.Trunc(f) {
		return strconv.AppendFloat(dst, f, 'f', 1, 64)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// appendNumber writes integers of any size as they are. A Number that is none
// becomes a string.
func appendNumber(dst []byte, n json.Number, style Style) []byte {
	switch {
	case !isNumber(string(n)):
		return AppendString(dst, string(n))
	case style == Compact:
		return append(dst, n...)
	case isFloat(n):
		f, _ := n.Float64() // out of range gives an infinity, like Python
		return AppendFloat(dst, f)
	case n == "-0":
		return append(dst, '0') // an integer, which has no sign at zero
	}
	return append(dst, n...)
}

func isFloat(n json.Number) bool { return strings.ContainsAny(string(n), ".eE") }

func isNumber(s string) bool {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	return s != "" && (s[0] == '-' || digit(s[0])) && digit(s[len(s)-1]) && json.Valid([]byte(s))
}
