package ha

import (
	"slices"
	"strings"
)

// nameSet is a sorted set of standby names. Names compare without case, as
// PostgreSQL compares application_name with synchronous_standby_names.
type nameSet []string

func newNameSet(names ...string) nameSet {
	s := slices.Clone(names)
	slices.Sort(s)
	out := s[:0]
	for _, n := range s {
		if n != "" && !nameSet(out).has(n) {
			out = append(out, n)
		}
	}
	return nameSet(out)
}

func (s nameSet) has(name string) bool {
	return slices.ContainsFunc(s, func(n string) bool { return strings.EqualFold(n, name) })
}

func (s nameSet) filter(keep func(string) bool) nameSet {
	var out nameSet
	for _, n := range s {
		if keep(n) {
			out = append(out, n)
		}
	}
	return out
}

func (s nameSet) plus(t nameSet) nameSet {
	if t.within(s) {
		return s
	}
	return newNameSet(append(slices.Clone(s), t...)...)
}

func (s nameSet) minus(t nameSet) nameSet { return s.filter(func(n string) bool { return !t.has(n) }) }
func (s nameSet) and(t nameSet) nameSet   { return s.filter(t.has) }

func (s nameSet) within(t nameSet) bool {
	return !slices.ContainsFunc(s, func(n string) bool { return !t.has(n) })
}

func (s nameSet) equal(t nameSet) bool { return len(s) == len(t) && s.within(t) }
