package dcs

import (
	"bytes"
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

// object splits a JSON object into its entries, in the order of the text. Of
// equal names the last one counts, as in Python.
func object(text []byte) ([]pair, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if tok, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("parse JSON: %w", err)
	} else if tok != json.Delim('{') {
		return nil, errNotObject
	}
	var pairs []pair
	at := map[string]int{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("parse JSON: %w", err)
		}
		name, ok := tok.(string)
		if !ok {
			return nil, errNotObject
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fmt.Errorf("parse JSON: %w", err)
		}
		if i, seen := at[name]; seen {
			pairs[i].raw = raw
			continue
		}
		at[name] = len(pairs)
		pairs = append(pairs, pair{name, raw})
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("parse JSON: %w", err)
	}
	if dec.More() {
		return nil, errors.New("parse JSON: text after the object")
	}
	return pairs, nil
}

// fields is object as a map, for values whose order does not matter.
func fields(text []byte) (map[string]json.RawMessage, error) {
	pairs, err := object(text)
	if err != nil {
		return nil, err
	}
	m := make(map[string]json.RawMessage, len(pairs))
	for _, p := range pairs {
		m[p.name] = p.raw
	}
	return m, nil
}

func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || string(raw) == "null"
}

// str reads a JSON string; anything else is "".
func str(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
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

// writer builds one compact JSON object field by field.
type writer struct{ buf []byte }

func (w *writer) name(name string) {
	if len(w.buf) == 0 {
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
