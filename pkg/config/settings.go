package config

import "gopkg.in/yaml.v3"

// Setting is one key with its value, or with the keys below it.
type Setting struct {
	Key     string
	Value   any       // a bool, int64, float64, string, nil or a list of such; nil with Section
	Section []Setting // not nil for a section
}

// Environment is the part of the configuration that PATRONI_* variables give.
func Environment(environ []string) []Setting {
	tree, _ := environTree(environ)
	return tree.settings()
}

func (n *node) settings() []Setting {
	out := make([]Setting, 0, len(n.pairs))
	for _, p := range n.pairs {
		s := Setting{Key: p.key}
		if p.value.isMap() {
			s.Section = p.value.settings()
		} else {
			s.Value = p.value.plain()
		}
		out = append(out, s)
	}
	return out
}

// YAML is the local configuration with the environment merged into it, as a
// file. Passwords are in it.
func (l *Local) YAML() ([]byte, error) {
	return yaml.Marshal(l.root.yaml())
}

// yaml gives n as what yaml.v3 writes.
func (n *node) yaml() *yaml.Node {
	out := new(yaml.Node)
	switch {
	case n.isMap():
		out.Kind = yaml.MappingNode
		for _, p := range n.pairs {
			key := new(yaml.Node)
			key.SetString(p.key)
			out.Content = append(out.Content, key, p.value.yaml())
		}
	case n.isList():
		out.Kind = yaml.SequenceNode
		for _, it := range n.items {
			out.Content = append(out.Content, it.yaml())
		}
	default:
		_ = out.Encode(n.plain()) // scalars always can be
	}
	return out
}
