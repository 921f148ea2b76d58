package config

import (
	"fmt"
	"slices"
	"strings"
)

// The types of a slot.
const (
	slotPhysical = "physical"
	slotLogical  = "logical"
)

// decodeSlots reads the permanent slots from the first non-empty of the three
// spellings (wire contract §3.3). Entries that are no slot are left out.
func decodeSlots(root *node) []Slot {
	var src *node
	for _, k := range []string{"permanent_replication_slots", "permanent_slots", "slots"} {
		if n := root.get(k); n.isMap() && n.truthy() {
			src = n
			break
		}
	}
	if src == nil {
		return nil
	}
	var out []Slot
	for _, p := range src.pairs {
		if !slotName.MatchString(p.key) || !p.value.isMap() && !p.value.isNull() {
			continue
		}
		if s := decodeSlot(p.key, p.value); s.fault() == "" {
			out = append(out, s)
		}
	}
	return out
}

func decodeSlot(name string, n *node) Slot {
	s := Slot{Name: name, Type: n.strAt("", "type"), Database: n.strAt("", "database"),
		Plugin: n.strAt("", "plugin"), ClusterType: n.strAt("", "cluster_type")}
	if s.Type == "" {
		s.Type = slotPhysical
		if s.Database != "" && s.Plugin != "" {
			s.Type = slotLogical
		}
	}
	return s
}

// fault says why s can be no slot, "" if it can.
func (s *Slot) fault() string {
	switch {
	case s.Type != slotPhysical && s.Type != slotLogical:
		return fmt.Sprintf("has the type %q", s.Type)
	case s.Type == slotLogical && (s.Database == "" || s.Plugin == ""):
		return "is logical without database or plugin"
	}
	return ""
}

func decodeIgnoreSlots(n *node) []SlotFilter {
	if !n.isList() {
		return nil
	}
	var out []SlotFilter
	for _, it := range n.items {
		if it.isMap() {
			out = append(out, decodeSlotFilter(it))
		}
	}
	return out
}

func decodeSlotFilter(n *node) SlotFilter {
	return SlotFilter{Name: n.strAt("", "name"), Type: n.strAt("", "type"), Database: n.strAt("", "database"), Plugin: n.strAt("", "plugin")}
}

// slotSeverity: a /config that means something else than its author thinks is not
// stored; a file that Patroni takes does not keep an agent from starting.
func slotSeverity(path string) Severity {
	if strings.HasPrefix(path, "bootstrap.") {
		return Warning
	}
	return Error
}

func (c *checker) checkSlots(p *pair, s *spec, path string) {
	if !p.value.isMap() {
		c.wrong(p, s, path, "a map of slots", "write \"slot_name: {type: physical}\" lines below it")
		return
	}
	for i := range p.value.pairs {
		q := &p.value.pairs[i]
		sub := joinPath(path, q.key)
		if !slotName.MatchString(q.key) {
			c.add(slotSeverity(path), q.at(), sub, "is no slot name", "use 1 to 63 characters of a-z, 0-9 and _")
		}
		if !q.value.isMap() {
			if !q.value.isNull() {
				c.add(slotSeverity(path), q.at(), sub, "needs a map but holds "+q.value.describe(), "write for example \"{type: physical}\"")
			}
			continue
		}
		c.checkSlot(q, sub)
	}
}

func (c *checker) checkSlot(q *pair, path string) {
	c.checkSlotKeys(q.value, path, "type", "database", "plugin", "cluster_type")
	s := decodeSlot(q.key, q.value)
	if why := s.fault(); why != "" {
		c.add(slotSeverity(path), q.at(), path, why, "write {type: physical}, or {type: logical, database: NAME, plugin: pgoutput}")
	}
	switch s.ClusterType {
	case "", "primary", "standby":
	default:
		c.add(slotSeverity(path), q.at(), path+".cluster_type", fmt.Sprintf("is %q", s.ClusterType), "write primary or standby, or remove it")
	}
	if s.Type == slotLogical && s.ClusterType == "standby" {
		c.add(Warning, q.at(), path, "a standby cluster has no logical slots", "remove it, or cluster_type")
	}
}

func (c *checker) checkSlotKeys(n *node, path string, known ...string) {
	for i := range n.pairs {
		if key := n.pairs[i].key; key != "lsn" && !slices.Contains(known, key) {
			c.add(slotSeverity(path), n.pairs[i].at(), joinPath(path, key), "is not known", "write one of "+strings.Join(known, ", "))
		}
	}
}

func (c *checker) checkSlotFilters(p *pair, s *spec, path string) {
	if !p.value.isList() {
		c.wrong(p, s, path, "a list of maps", "write entries such as \"- name: slot_a\"")
		return
	}
	for i, it := range p.value.items {
		sub := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case !it.isMap():
			c.add(slotSeverity(path), it, sub, "needs a map but holds "+it.describe(), "write for example \"- name: slot_a\"")
		case decodeSlotFilter(it) == SlotFilter{}:
			c.add(slotSeverity(path), it, sub, "matches every slot", "say which: name, type, database or plugin")
		default:
			c.checkSlotKeys(it, sub, "name", "type", "database", "plugin")
		}
	}
}
