package restapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Patroni's JSON is Python's: ", " and ": " between the parts, everything
// outside ASCII escaped, keys in the order they were set (wire contract §5).

// pyObject is a JSON object whose order matters.
type pyObject []pyField

type pyField struct {
	Name  string
	Value any
}

func (o *pyObject) set(name string, value any) { *o = append(*o, pyField{name, value}) }

// setIf sets the field to true if it is so, and leaves it out otherwise.
func (o *pyObject) setIf(name string, is bool) {
	if is {
		o.set(name, true)
	}
}

// appendPy appends the Python form of v: nil, bool, strings, numbers,
// json.Number, json.RawMessage, pyObject, []any, map[string]any (sorted).
// Other types appear as null.
func appendPy(dst []byte, v any) []byte {
	switch x := v.(type) {
	case bool:
		return strconv.AppendBool(dst, x)
	case string:
		return appendPyString(dst, x)
	case *string:
		if x == nil {
			return append(dst, "null"...)
		}
		return appendPyString(dst, *x)
	case int:
		return strconv.AppendInt(dst, int64(x), 10)
	case int64:
		return strconv.AppendInt(dst, x, 10)
	case uint64:
		return strconv.AppendUint(dst, x, 10)
	case float64:
		return appendPyFloat(dst, x)
	case json.Number:
		return appendPyNumber(dst, x)
	case json.RawMessage:
		return appendPyRaw(dst, x)
	case pyObject:
		return appendPyObject(dst, x)
	case []any:
		dst = append(dst, '[')
		for i, e := range x {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendPy(dst, e)
		}
		return append(dst, ']')
	case map[string]any:
		return appendPyMap(dst, x)
	}
	return append(dst, "null"...)
}

func appendPyObject(dst []byte, o pyObject) []byte {
	dst = append(dst, '{')
	for i, f := range o {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendPyString(dst, f.Name)
		dst = append(dst, ": "...)
		dst = appendPy(dst, f.Value)
	}
	return append(dst, '}')
}

func appendPyMap(dst []byte, m map[string]any) []byte {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	o := make(pyObject, 0, len(m))
	for _, n := range names {
		o.set(n, m[n])
	}
	return appendPyObject(dst, o)
}

func appendPyString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s { // invalid UTF-8 appears as U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r >= 0x20 && r < utf8.RuneSelf:
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
		default:
			units := []rune{r}
			if r > 0xffff {
				hi, lo := utf16.EncodeRune(r)
				units = []rune{hi, lo}
			}
			for _, u := range units {
				dst = append(dst, '\\', 'u', hex[u>>12&15], hex[u>>8&15], hex[u>>4&15], hex[u&15])
			}
		}
	}
	return append(dst, '"')
}

// appendPyFloat prints like Python's repr: the shortest text that reads back,
// always recognisable as a float, with an exponent below 1e-4 and from 1e16.
func appendPyFloat(dst []byte, f float64) []byte {
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
	text := strconv.FormatFloat(f, 'f', -1, 64)
	dst = append(dst, text...)
	if !strings.Contains(text, ".") {
		dst = append(dst, ".0"...)
	}
	return dst
}

// appendPyNumber keeps integers of any size as they are and normalises floats.
func appendPyNumber(dst []byte, n json.Number) []byte {
	if !strings.ContainsAny(string(n), ".eE") {
		return append(dst, n...)
	}
	f, err := n.Float64()
	if err != nil && !math.IsInf(f, 0) {
		return append(dst, n...)
	}
	return appendPyFloat(dst, f)
}

// appendPyRaw re-formats JSON text, keeping the order of keys. Text that is no
// JSON appears as null.
func appendPyRaw(dst []byte, raw []byte) []byte {
	v, err := decodeOrdered(raw)
	if err != nil {
		return append(dst, "null"...)
	}
	return appendPy(dst, v)
}

// maxDepth bounds the nesting of documents we take (safety E-3).
const maxDepth = 64

var errJSON = errors.New("no valid JSON")

// decodeOrdered decodes one JSON value: objects as pyObject in source order (of
// a repeated key the last value counts, at the first place), numbers as
// json.Number.
func decodeOrdered(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	v, err := decodeValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if dec.InputOffset() != int64(len(bytes.TrimRight(raw, " \t\r\n"))) {
		return nil, fmt.Errorf("%w: more text after the value", errJSON)
	}
	return v, nil
}

func decodeValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: nested deeper than %d", errJSON, maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errJSON, err)
	}
	switch tok {
	case json.Delim('{'):
		return decodeObject(dec, depth)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			e, err := decodeValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
		_, err = dec.Token()
		return list, wrapJSON(err)
	}
	return tok, nil
}

func decodeObject(dec *json.Decoder, depth int) (any, error) {
	o := pyObject{}
	at := map[string]int{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, wrapJSON(err)
		}
		name, ok := key.(string)
		if !ok {
			return nil, errJSON
		}
		v, err := decodeValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		if i, dup := at[name]; dup {
			o[i].Value = v
			continue
		}
		at[name] = len(o)
		o.set(name, v)
	}
	_, err := dec.Token()
	return o, wrapJSON(err)
}

func wrapJSON(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errJSON, err)
}

// pyText is Python's str() of a JSON value, as far as tags need it.
func pyText(v any) string {
	switch x := v.(type) {
	case bool:
		if x {
			return "True"
		}
		return "False"
	case string:
		return x
	}
	return string(appendPy(nil, v))
}
