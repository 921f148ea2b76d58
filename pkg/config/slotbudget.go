package config

// SlotBudgets is how much WAL replication slots may keep, in bytes. It is what
// warnings are about; what PostgreSQL does is max_slot_wal_keep_size's.
type SlotBudgets struct {
	Default int64            // pgha.slot_wal_budget; 0: not set
	Named   map[string]int64 // pgha.slot_wal_budgets, by slot
}

// Of is the budget of a slot: its own, the one for all, max_slot_wal_keep_size
// (limit, in bytes), or half of the volume that pg_wal lies on; 0: unknown.
func (b SlotBudgets) Of(name string, limit, volume int64) int64 {
	for _, n := range []int64{b.Named[name], b.Default, limit, volume / 2} {
		if n > 0 {
			return n
		}
	}
	return 0
}

func decodeSlotBudgets(n *node) SlotBudgets {
	b := SlotBudgets{Default: max(n.intAt(0, "B", "slot_wal_budget"), 0)}
	if named := n.get("slot_wal_budgets"); named.isMap() && len(named.pairs) > 0 {
		b.Named = make(map[string]int64, len(named.pairs))
		for _, p := range named.pairs {
			if v, ok := parseIntText(p.value.str(), "B"); ok && v > 0 {
				b.Named[p.key] = v
			}
		}
	}
	return b
}

func (c *checker) checkSizes(p *pair, s *spec, path string) {
	if !p.value.isMap() {
		c.wrong(p, s, path, "a map of sizes", "write \"slot_name: 10GB\" lines below it")
		return
	}
	for i := range p.value.pairs {
		q := &p.value.pairs[i]
		if v, ok := parseIntText(q.value.str(), "B"); !ok || v <= 0 || !slotName.MatchString(q.key) {
			c.add(slotSeverity(path), q.at(), joinPath(path, q.key), "needs the name of a slot and a size but holds "+q.value.describe(), "write for example to_warehouse: 10GB")
		}
	}
}
