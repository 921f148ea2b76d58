package pyjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// maxDepth bounds the nesting of documents we take (safety E-3).
const maxDepth = 64

// errJSON is what every error of Decode wraps.
var errJSON = errors.New("no valid JSON")

// Decode reads one JSON value: nil, bool, string, json.Number, []any, or an
// Object in the order of the text. Of a repeated key the last value counts, at
// the first place, as in Python. Nesting deeper than 64 is refused.
func Decode(raw []byte) (any, error) {
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
		return nil, wrap(err)
	}
	switch tok {
	case json.Delim('{'):
		return decodeObject(dec, depth)
	case json.Delim('['):
		return decodeList(dec, depth)
	}
	return tok, nil
}

func decodeList(dec *json.Decoder, depth int) (any, error) {
	list := []any{}
	for dec.More() {
		v, err := decodeValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := dec.Token()
	return list, wrap(err)
}

func decodeObject(dec *json.Decoder, depth int) (any, error) {
	o := Object{}
	at := map[string]int{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, wrap(err)
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
		o.Set(name, v)
	}
	_, err := dec.Token()
	return o, wrap(err)
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errJSON, err)
}
