package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/pgha/pgha/internal/pyjson"
)

// maxDepth bounds nesting in YAML and JSON documents, so that hostile input
// cannot exhaust the stack.
const maxDepth = 200

var errTooDeep = errors.New("nested too deeply")

// parseJSON reads one JSON value, keeping key order and exact integers.
func parseJSON(raw []byte, file string) (*node, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	n, err := jsonValue(d, file, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the end of the document")
	}
	return n, nil
}

// parseJSONObject reads one JSON object.
func parseJSONObject(raw []byte, file string) (*node, error) {
	n, err := parseJSON(raw, file)
	if err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	if !n.isMap() {
		return nil, fmt.Errorf("not a JSON object but %s", n.describe())
	}
	return n, nil
}

func jsonValue(d *json.Decoder, file string, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch v := t.(type) {
	case nil:
		return &node{file: file}, nil
	case bool:
		return &node{kind: boolNode, b: v, file: file}, nil
	case string:
		return &node{kind: stringNode, s: v, text: v, file: file}, nil
	case json.Number:
		return jsonNumber(string(v), file), nil
	case json.Delim:
		if v == '[' {
			return jsonList(d, file, depth)
		}
		return jsonMap(d, file, depth)
	}
	return nil, fmt.Errorf("unexpected token %v", t)
}

func jsonNumber(s, file string) *node {
	n := &node{file: file, text: s}
	if !strings.ContainsAny(s, ".eE") {
		n.kind, n.s = intNode, s
		if s == "-0" {
			n.s = "0"
		}
		return n
	}
	// Out of range gives an infinity, like Python.
	n.kind = floatNode
	n.f, _ = strconv.ParseFloat(s, 64)
	return n
}

func jsonList(d *json.Decoder, file string, depth int) (*node, error) {
	n := &node{kind: listNode, file: file}
	for d.More() {
		it, err := jsonValue(d, file, depth+1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, it)
	}
	_, err := d.Token()
	return n, err
}

func jsonMap(d *json.Decoder, file string, depth int) (*node, error) {
	n := &node{kind: mapNode, file: file}
	seen := map[string]int{}
	for d.More() {
		kt, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, ok := kt.(string)
		if !ok {
			return nil, fmt.Errorf("object key %v is not a string", kt)
		}
		v, err := jsonValue(d, file, depth+1)
		if err != nil {
			return nil, err
		}
		if at, dup := seen[key]; dup {
			n.pairs[at].value = v
			continue
		}
		seen[key] = len(n.pairs)
		n.pairs = append(n.pairs, pair{key: key, value: v})
	}
	_, err := d.Token()
	return n, err
}

// json gives the compact form Patroni writes: no blanks, source key order,
// ASCII only.
func (n *node) json() []byte { return n.appendJSON(nil) }

func (n *node) appendJSON(dst []byte) []byte {
	if n == nil {
		return append(dst, "null"...)
	}
	switch n.kind {
	case boolNode:
		return strconv.AppendBool(dst, n.b)
	case intNode:
		return append(dst, n.s...)
	case floatNode:
		// Python would write infinities and NaN, which JSON lacks; as strings
		// they survive.
		if math.IsInf(n.f, 0) || math.IsNaN(n.f) {
			return pyjson.AppendString(dst, pyjson.Repr(n.f))
		}
		return pyjson.AppendFloat(dst, n.f)
	case stringNode:
		return pyjson.AppendString(dst, n.s)
	case listNode:
		dst = append(dst, '[')
		for i, it := range n.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = it.appendJSON(dst)
		}
		return append(dst, ']')
	case mapNode:
		dst = append(dst, '{')
		for i, p := range n.pairs {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(pyjson.AppendString(dst, p.key), ':')
			dst = p.value.appendJSON(dst)
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}
