package config

import (
	"math/big"
	"strconv"
)

// nodeKind is the type of a value as Patroni sees it after PyYAML or JSON.
type nodeKind int

const (
	nullNode nodeKind = iota
	boolNode
	intNode
	floatNode
	stringNode
	listNode
	mapNode
)

// node is one value of a configuration document: ordered like the source, with
// the place it came from. Both YAML and JSON documents become nodes, so that
// everything after parsing is written once.
type node struct {
	kind  nodeKind
	b     bool
	f     float64
	s     string // stringNode: the text; intNode: its decimal digits
	text  string // scalar as written, before YAML gave it a type
	pairs []pair
	items []*node

	file      string
	line, col int
}

// pair is one entry of a map.
type pair struct {
	key       string
	line, col int // of the key
	value     *node
}

func newMap() *node             { return &node{kind: mapNode} }
func newString(s string) *node  { return &node{kind: stringNode, s: s, text: s} }
func newBool(b bool) *node      { return &node{kind: boolNode, b: b} }
func newInt(i int64) *node      { return &node{kind: intNode, s: strconv.FormatInt(i, 10)} }
func newList(xs ...*node) *node { return &node{kind: listNode, items: xs} }

func (n *node) isNull() bool { return n == nil || n.kind == nullNode }
func (n *node) isMap() bool  { return n != nil && n.kind == mapNode }
func (n *node) isList() bool { return n != nil && n.kind == listNode }

// isScalar tells whether n is a bool, number or string.
func (n *node) isScalar() bool {
	return n != nil && n.kind >= boolNode && n.kind <= stringNode
}

// truthy is Python's bool(n).
func (n *node) truthy() bool {
	if n == nil {
		return false
	}
	switch n.kind {
	case boolNode:
		return n.b
	case intNode:
		return n.s != "0"
	case floatNode:
		return n.f != 0
	case stringNode:
		return n.s != ""
	case listNode:
		return len(n.items) > 0
	case mapNode:
		return len(n.pairs) > 0
	}
	return false
}

// get follows keys through maps; nil when anything on the way is missing.
func (n *node) get(keys ...string) *node {
	for _, k := range keys {
		p := n.pair(k)
		if p == nil {
			return nil
		}
		n = p.value
	}
	return n
}

// pair finds the entry of key in a map, nil when there is none.
func (n *node) pair(key string) *pair {
	if !n.isMap() {
		return nil
	}
	for i := range n.pairs {
		if n.pairs[i].key == key {
			return &n.pairs[i]
		}
	}
	return nil
}

// set replaces the value of key in place, or appends it.
func (n *node) set(key string, v *node) {
	if p := n.pair(key); p != nil {
		p.value, p.line, p.col = v, v.line, v.col
		return
	}
	n.pairs = append(n.pairs, pair{key: key, line: v.line, col: v.col, value: v})
}

// remove deletes key and tells whether it was there.
func (n *node) remove(key string) bool {
	for i := range n.pairs {
		if n.pairs[i].key == key {
			n.pairs = append(n.pairs[:i:i], n.pairs[i+1:]...)
			return true
		}
	}
	return false
}

// clone copies the tree, so that merging never touches a shared document.
func (n *node) clone() *node {
	if n == nil {
		return nil
	}
	c := *n
	c.pairs = make([]pair, len(n.pairs))
	for i, p := range n.pairs {
		p.value = p.value.clone()
		c.pairs[i] = p
	}
	c.items = make([]*node, len(n.items))
	for i, it := range n.items {
		c.items[i] = it.clone()
	}
	return &c
}

// plain gives n as the ordinary Go value encoding/json would produce, with
// int64 for integers that fit.
func (n *node) plain() any {
	if n == nil {
		return nil
	}
	switch n.kind {
	case boolNode:
		return n.b
	case intNode:
		if i, err := strconv.ParseInt(n.s, 10, 64); err == nil {
			return i
		}
		f, _ := new(big.Float).SetString(n.s)
		if f == nil {
			return n.s
		}
		v, _ := f.Float64()
		return v
	case floatNode:
		return n.f
	case stringNode:
		return n.s
	case listNode:
		out := make([]any, len(n.items))
		for i, it := range n.items {
			out[i] = it.plain()
		}
		return out
	case mapNode:
		out := make(map[string]any, len(n.pairs))
		for _, p := range n.pairs {
			out[p.key] = p.value.plain()
		}
		return out
	}
	return nil
}

// str is the printed form of a scalar, "" for anything else.
func (n *node) str() string {
	if !n.isScalar() {
		return ""
	}
	return n.printed()
}

// strAt is the string under keys, or def when it is missing or empty.
func (n *node) strAt(def string, keys ...string) string {
	if s := n.get(keys...).str(); s != "" {
		return s
	}
	return def
}

// boolAt is the boolean word under keys (parse_bool), or def.
func (n *node) boolAt(def bool, keys ...string) bool {
	if v, ok := parseBoolText(n.get(keys...).str()); ok {
		return v
	}
	return def
}

// intAt is the integer under keys (parse_int with base unit), or def.
func (n *node) intAt(def int64, unit string, keys ...string) int64 {
	if v, ok := parseIntText(n.get(keys...).str(), unit); ok {
		return v
	}
	return def
}

// strings gives the scalars of a list; a single scalar counts as a list of one.
func (n *node) strings() []string {
	if n.isScalar() {
		return []string{n.str()}
	}
	if !n.isList() {
		return nil
	}
	out := make([]string, 0, len(n.items))
	for _, it := range n.items {
		if it.isScalar() {
			out = append(out, it.str())
		}
	}
	return out
}
