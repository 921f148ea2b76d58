package config

import (
	"strings"

	"github.com/pgha/pgha/internal/pyjson"
)

// printed is Python's str() of the value: what Patroni compares by and what it
// hands to scripts.
func (n *node) printed() string {
	if n != nil && n.kind == stringNode {
		return n.s
	}
	return n.repr()
}

// repr is Python's repr() of the value.
func (n *node) repr() string {
	if n == nil {
		return "None"
	}
	switch n.kind {
	case boolNode:
		if n.b {
			return "True"
		}
		return "False"
	case intNode:
		return n.s
	case floatNode:
		return pyjson.Repr(n.f)
	case stringNode:
		return pyjson.Quote(n.s)
	case listNode:
		parts := make([]string, len(n.items))
		for i, it := range n.items {
			parts[i] = it.repr()
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case mapNode:
		parts := make([]string, len(n.pairs))
		for i, p := range n.pairs {
			parts[i] = pyjson.Quote(p.key) + ": " + p.value.repr()
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "None"
}
