package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
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
func (n *node) json() []byte {
	var b bytes.Buffer
	n.writeJSON(&b)
	return b.Bytes()
}

func (n *node) writeJSON(b *bytes.Buffer) {
	if n == nil {
		b.WriteString("null")
		return
	}
	switch n.kind {
	case nullNode:
		b.WriteString("null")
	case boolNode:
		b.WriteString(strconv.FormatBool(n.b))
	case intNode:
		b.WriteString(n.s)
	case floatNode:
		writeJSONFloat(b, n.f)
	case stringNode:
		writeJSONString(b, n.s)
	case listNode:
		b.WriteByte('[')
		for i, it := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			it.writeJSON(b)
		}
		b.WriteByte(']')
	case mapNode:
		b.WriteByte('{')
		for i, p := range n.pairs {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSONString(b, p.key)
			b.WriteByte(':')
			p.value.writeJSON(b)
		}
		b.WriteByte('}')
	}
}

// writeJSONFloat writes a float; infinities and NaN, which JSON lacks, become
// strings (Python would write invalid JSON).
func writeJSONFloat(b *bytes.Buffer, f float64) {
	s := pyFloat(f)
	if strings.ContainsAny(s, "ni") {
		s = `"` + s + `"`
	}
	b.WriteString(s)
}

func writeJSONString(b *bytes.Buffer, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r >= 0x20 && r < 0x7f:
			b.WriteRune(r)
		case r >= 0x10000:
			hi, lo := utf16.EncodeRune(r)
			b.WriteString(`\u` + hexDigits(hi, 4) + `\u` + hexDigits(lo, 4))
		default:
			b.WriteString(`\u` + hexDigits(r, 4))
		}
	}
	b.WriteByte('"')
}
