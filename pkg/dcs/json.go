package dcs

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/pgha/pgha/internal/pyjson"
)

// pair is one entry of a JSON object whose order matters.
type pair struct {
	name string
	raw  json.RawMessage
}

var errNotObject = errors.New("not a JSON object")

// object is a JSON object split into its entries, in the order of the text. Of
// equal names the last one counts, as in Python.
type object []pair

// parseObject splits text. What it returns shares the memory of text.
func parseObject(text []byte) (object, error) {
	if !json.Valid(text) {
		var raw json.RawMessage
		return nil, fmt.Errorf("parse JSON: %w", json.Unmarshal(text, &raw))
	}
	// Known to be valid, so that plain cuts are enough: every agent does this
	// for every key that changes.
	at := skipSpace(text, 0)
	if text[at] != '{' {
		return nil, errNotObject
	}
	var o object
	for at = skipSpace(text, at+1); text[at] != '}'; at = skipSpace(text, at) {
		if text[at] == ',' {
			at = skipSpace(text, at+1)
		}
		end := stringEnd(text, at)
		name := str(text[at:end])
		at = skipSpace(text, end)  // the colon
		at = skipSpace(text, at+1) // the value
		end = valueEnd(text, at)
		o = append(o, pair{name, json.RawMessage(text[at:end:end])})
		at = end
	}
	return o.lastOfEqual(), nil
}

// lastOfEqual merges entries of one name: the first one's place, the last one's value.
func (o object) lastOfEqual() object {
	if len(o) <= 32 && !o.repeats() {
		return o
	}
	at := make(map[string]int, len(o))
	out := o[:0]
	for _, p := range o {
		if i, seen := at[p.name]; seen {
			out[i].raw = p.raw
			continue
		}
		at[p.name] = len(out)
		out = append(out, p)
	}
	return out
}

func (o object) repeats() bool {
	for i := range o {
		if raw := o[:i].get(o[i].name); raw != nil {
			return true
		}
	}
	return false
}

// get returns the value of name, nil without one.
func (o object) get(name string) json.RawMessage {
	for i := range o {
		if o[i].name == name {
			return o[i].raw
		}
	}
	return nil
}

func skipSpace(text []byte, at int) int {
	for text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r' {
		at++
	}
	return at
}

// stringEnd returns the index after the string that begins at at.
func stringEnd(text []byte, at int) int {
	for at++; text[at] != '"'; at++ {
		if text[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// valueEnd returns the index after the value that begins at at, inside an object.
func valueEnd(text []byte, at int) int {
	for depth := 0; ; at++ {
		switch text[at] {
		case '"':
			at = stringEnd(text, at) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return at
			}
			depth--
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return at
			}
		}
	}
}

func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || string(raw) == "null"
}

// str reads a JSON string; anything else is "".
func str(raw json.RawMessage) string {
	if plain(raw) {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// plain tells whether raw is a string of ASCII without escapes.
func plain(raw json.RawMessage) bool {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return false
	}
	for _, c := range raw[1 : len(raw)-1] {
		if c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// integer reads a JSON integer in 0..limit. A string of digits counts too.
func integer(raw json.RawMessage, limit uint64) (uint64, error) {
	text := string(raw)
	if len(raw) > 0 && raw[0] == '"' {
		text = str(raw)
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > limit {
		return 0, fmt.Errorf("%s is not an integer from 0 to %d", clip(text), limit)
	}
	return n, nil
}

// clip shortens a value that goes into a message.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}

// usual is a size that most values fit in.
const usual = 384

// writer builds one compact JSON object field by field.
type writer struct{ buf []byte }

func (w *writer) name(name string) {
	if len(w.buf) == 0 {
		if w.buf == nil {
			w.buf = make([]byte, 0, usual)
		}
		w.buf = append(w.buf, '{')
	} else {
		w.buf = append(w.buf, ',')
	}
	w.buf = append(pyjson.AppendString(w.buf, name), ':')
}

func (w *writer) str(name, value string) {
	w.name(name)
	w.buf = pyjson.AppendString(w.buf, value)
}

func (w *writer) strIf(name, value string) {
	if value != "" {
		w.str(name, value)
	}
}

func (w *writer) uint(name string, value uint64) {
	w.name(name)
	w.buf = strconv.AppendUint(w.buf, value, 10)
}

func (w *writer) uintIf(name string, value uint64) {
	if value != 0 {
		w.uint(name, value)
	}
}

func (w *writer) trueIf(name string, value bool) {
	if value {
		w.name(name)
		w.buf = append(w.buf, "true"...)
	}
}

func (w *writer) rawIf(name string, raw json.RawMessage) {
	if !isNull(raw) {
		w.name(name)
		w.buf = pyjson.AppendRaw(w.buf, raw, pyjson.Compact)
	}
}

func (w *writer) end() []byte {
	if len(w.buf) == 0 {
		return []byte("{}")
	}
	return append(w.buf, '}')
}

// cleanText reports whether a bare value (member name, identifier) is text
// that can be shown and compared: UTF-8 without control characters.
func cleanText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}
