package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxNodes bounds the size of a document after its aliases are expanded.
const maxNodes = 50_000

// yamlReader turns yaml.v3's tree into nodes with the types PyYAML gives
// (YAML 1.1: on/off/yes/no are booleans, 0640 is octal), because what Patroni
// would have stored in /config is the contract.
type yamlReader struct {
	file     string
	count    int
	problems []Problem
}

// parseYAML reads one YAML document. An empty document gives a null node.
func parseYAML(data []byte, file string) (*node, []Problem, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return &node{file: file, line: 1}, nil, nil
		}
		return nil, nil, err
	}
	r := &yamlReader{file: file}
	n, err := r.read(&doc, 0)
	if err != nil {
		return nil, nil, err
	}
	var more yaml.Node
	if err := d.Decode(&more); err == nil {
		r.add(&more, Error, "a second document starts here", "keep one document per file: remove the '---' line")
	} else if !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	return n, r.problems, nil
}

func (r *yamlReader) add(y *yaml.Node, sev Severity, msg, cure string) {
	r.problems = append(r.problems, Problem{File: r.file, Line: y.Line, Column: y.Column, Message: msg, Cure: cure, Severity: sev})
}

func (r *yamlReader) read(y *yaml.Node, depth int) (*node, error) {
	r.count++
	if depth > maxDepth || r.count > maxNodes {
		return nil, errTooDeep
	}
	n := &node{file: r.file, line: y.Line, col: y.Column}
	switch y.Kind {
	case yaml.DocumentNode:
		if len(y.Content) == 0 {
			return n, nil
		}
		return r.read(y.Content[0], depth+1)
	case yaml.AliasNode:
		return r.read(y.Alias, depth+1)
	case yaml.SequenceNode:
		n.kind = listNode
		for _, c := range y.Content {
			it, err := r.read(c, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, it)
		}
		return n, nil
	case yaml.MappingNode:
		n.kind = mapNode
		return n, r.readMap(n, y, depth)
	case yaml.ScalarNode:
		r.scalar(n, y)
		return n, nil
	}
	return n, nil
}

func (r *yamlReader) readMap(n *node, y *yaml.Node, depth int) error {
	seen := map[string]int{}
	var merges []func()
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		val, err := r.read(v, depth+1)
		if err != nil {
			return err
		}
		if k.Tag == "!!merge" {
			merges = append(merges, func() { r.merge(n, val, k) })
			continue
		}
		if k.Kind != yaml.ScalarNode {
			r.add(k, Error, "a key must be plain text, not a list or a map", "put braces in quotes")
			continue
		}
		if at, dup := seen[k.Value]; dup {
			r.add(k, Warning, fmt.Sprintf("key %q appears twice (first in line %d), the last one counts", k.Value, n.pairs[at].line), "remove one of them")
			n.pairs[at] = pair{key: k.Value, line: k.Line, col: k.Column, value: val}
			continue
		}
		seen[k.Value] = len(n.pairs)
		n.pairs = append(n.pairs, pair{key: k.Value, line: k.Line, col: k.Column, value: val})
	}
	// Explicit keys win over merged ones wherever the "<<" stands.
	for _, merge := range merges {
		merge()
	}
	return nil
}

// merge applies a "<<" entry: keys of from that n does not hold yet.
func (r *yamlReader) merge(n, from *node, at *yaml.Node) {
	switch {
	case from.isMap():
		for _, p := range from.pairs {
			if n.pair(p.key) == nil {
				n.pairs = append(n.pairs, p)
			}
		}
	case from.isList():
		for _, it := range from.items {
			r.merge(n, it, at)
		}
	default:
		r.add(at, Error, "'<<' needs a map or a list of maps", "refer to an anchored map, for example '<<: *common'")
	}
}

var (
	yamlInt = regexp.MustCompile(`^(?:[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	yamlFlt = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
)

// yamlWords are the plain scalars YAML 1.1 reads as booleans.
var yamlWords = map[string]bool{
	"yes": true, "Yes": true, "YES": true, "no": false, "No": false, "NO": false,
	"true": true, "True": true, "TRUE": true, "false": false, "False": false, "FALSE": false,
	"on": true, "On": true, "ON": true, "off": false, "Off": false, "OFF": false,
}

// scalar gives n the type PyYAML's safe loader would.
func (r *yamlReader) scalar(n *node, y *yaml.Node) {
	n.kind, n.s, n.text = stringNode, y.Value, y.Value
	if y.Style&yaml.TaggedStyle != 0 {
		switch y.ShortTag() {
		case "!!str", "!!binary":
			return
		case "!!int", "!!float", "!!bool", "!!null":
		default:
			r.add(y, Error, fmt.Sprintf("unknown YAML tag %s", y.Tag), "remove the tag")
			return
		}
	} else if y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return
	}
	resolvePlain(n, y.Value)
}

// resolvePlain types an unquoted scalar by YAML 1.1's rules.
func resolvePlain(n *node, v string) {
	switch v {
	case "", "~", "null", "Null", "NULL":
		n.kind, n.s = nullNode, ""
		return
	}
	if b, ok := yamlWords[v]; ok {
		n.kind, n.b, n.s = boolNode, b, ""
		return
	}
	if !strings.ContainsRune("+-.0123456789", rune(v[0])) {
		return
	}
	if yamlInt.MatchString(v) {
		if s, ok := yamlInteger(v); ok {
			n.kind, n.s = intNode, s
		}
		return
	}
	if yamlFlt.MatchString(v) {
		n.kind, n.f, n.s = floatNode, yamlFloat(v), ""
	}
}

// yamlInteger gives the decimal digits of a YAML 1.1 integer: 0b, 0x, leading
// 0 for octal, and base 60 ("1:30" is 90).
func yamlInteger(v string) (string, bool) {
	t := strings.ReplaceAll(v, "_", "")
	sign := ""
	if strings.HasPrefix(t, "-") {
		sign = "-"
	}
	t = strings.TrimLeft(t, "+-")
	z := new(big.Int)
	ok := true
	switch {
	case strings.Contains(t, ":"):
		for _, part := range strings.Split(t, ":") {
			d, good := new(big.Int).SetString(part, 10)
			if !good {
				return "", false
			}
			z.Add(z.Mul(z, big.NewInt(60)), d)
		}
	case strings.HasPrefix(t, "0b"):
		_, ok = z.SetString(t[2:], 2)
	case strings.HasPrefix(t, "0x"):
		_, ok = z.SetString(t[2:], 16)
	case len(t) > 1 && t[0] == '0':
		_, ok = z.SetString(t, 8)
	default:
		_, ok = z.SetString(t, 10)
	}
	if !ok {
		return "", false
	}
	if z.Sign() == 0 {
		sign = ""
	}
	return sign + z.String(), true
}

func yamlFloat(v string) float64 {
	t := strings.ToLower(strings.ReplaceAll(v, "_", ""))
	switch strings.TrimLeft(t, "+-") {
	case ".inf":
		if strings.HasPrefix(t, "-") {
			return math.Inf(-1)
		}
		return math.Inf(1)
	case ".nan":
		return math.NaN()
	}
	if !strings.Contains(t, ":") {
		f, _ := strconv.ParseFloat(t, 64)
		return f
	}
	neg := strings.HasPrefix(t, "-")
	sum := 0.0
	for _, part := range strings.Split(strings.TrimLeft(t, "+-"), ":") {
		f, _ := strconv.ParseFloat(part, 64)
		sum = sum*60 + f
	}
	if neg {
		return -sum
	}
	return sum
}
