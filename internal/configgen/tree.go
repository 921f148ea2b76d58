package configgen

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/pgha/pgha/pkg/config"
)

// fixme stands for what the operator has to fill in.
const fixme = "#FIXME"

// section is an ordered YAML map.
type section []entry

type entry struct {
	key   string
	value any // section, []string, or a scalar
}

// node turns a value into what yaml.v3 writes.
func node(v any) (*yaml.Node, error) {
	switch v := v.(type) {
	case section:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, e := range v {
			key, err := node(e.key)
			if err != nil {
				return nil, err
			}
			value, err := node(e.value)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, key, value)
		}
		return n, nil
	default:
		n := new(yaml.Node)
		if err := n.Encode(v); err != nil {
			return nil, fmt.Errorf("write YAML: %w", err)
		}
		return n, nil
	}
}

// render writes the document.
func (s section) render() ([]byte, error) {
	n, err := node(s)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return b.Bytes(), nil
}

// set replaces or appends a key.
func (s *section) set(key string, value any) {
	for i := range *s {
		if (*s)[i].key == key {
			(*s)[i].value = value
			return
		}
	}
	*s = append(*s, entry{key, value})
}

// overlay lays what the environment sets over the document.
func (s *section) overlay(top []config.Setting) {
	for _, e := range top {
		if e.Section == nil {
			s.set(e.Key, e.Value)
			continue
		}
		var sub section
		for _, have := range *s {
			if inner, ok := have.value.(section); ok && have.key == e.Key {
				sub = inner
			}
		}
		sub.overlay(e.Section)
		s.set(e.Key, sub)
	}
}

// ordered puts the sections where a reader expects them.
func (s section) ordered() section {
	var out section
	done := map[string]bool{}
	for _, key := range []string{"scope", "namespace", "name", "log", "restapi", "ctl", "etcd", "etcd3", "bootstrap", "postgresql", "watchdog", "tags"} {
		for _, e := range s {
			if e.key == key {
				out = append(out, e)
				done[key] = true
			}
		}
	}
	for _, e := range s {
		if !done[e.key] {
			out = append(out, e)
		}
	}
	return out
}
