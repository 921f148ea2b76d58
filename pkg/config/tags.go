package config

// booleanTags are left out of the published form when false.
var booleanTags = map[string]string{
	"clonefrom": "", "nofailover": "failover_priority", "noloadbalance": "", "nosync": "sync_priority", "nostream": "",
}

// decodeTags gives the published form (wire contract §1.9): false booleans are
// left out, except nofailover and nosync beside their priority twin.
func decodeTags(n *node) Tags {
	if !n.isMap() {
		return nil
	}
	var out Tags
	for _, p := range n.pairs {
		twin, builtin := booleanTags[p.key]
		if builtin && !p.value.truthy() && (twin == "" || n.get(twin) == nil) {
			continue
		}
		out = append(out, Tag{Name: p.key, Value: p.value.plain()})
	}
	return out
}

// Get gives a tag's value and whether it is published.
func (t Tags) Get(name string) (any, bool) {
	for _, tag := range t {
		if tag.Name == name {
			return tag.Value, true
		}
	}
	return nil, false
}

// Bool tells whether a tag is set to a true word.
func (t Tags) Bool(name string) bool {
	v, _ := t.Get(name)
	b, _ := ParseBool(v)
	return b
}

// NoFailover tells whether the member must never be promoted: the tag
// nofailover when present, else failover_priority <= 0.
func (t Tags) NoFailover() bool {
	if v, ok := t.Get("nofailover"); ok {
		if b, ok := ParseBool(v); ok {
			return b
		}
	}
	return t.priority("failover_priority") <= 0
}

// NoSync tells whether the member must never be synchronous.
func (t Tags) NoSync() bool {
	if v, ok := t.Get("nosync"); ok {
		if b, ok := ParseBool(v); ok {
			return b
		}
	}
	return t.priority("sync_priority") <= 0
}

// FailoverPriority is the candidate's rank among equal positions: 0 with
// nofailover, 1 by default.
func (t Tags) FailoverPriority() int {
	if t.NoFailover() {
		return 0
	}
	return max(1, t.priority("failover_priority"))
}

// SyncPriority is the rank as synchronous standby: 0 with nosync, 1 by default.
func (t Tags) SyncPriority() int {
	if t.NoSync() {
		return 0
	}
	return max(1, t.priority("sync_priority"))
}

func (t Tags) priority(name string) int {
	if v, ok := t.Get(name); ok {
		if i, ok := ParseInt(v, ""); ok {
			return int(i)
		}
	}
	return 1
}

// MarshalJSON writes the tags as a compact object in file order.
func (t Tags) MarshalJSON() ([]byte, error) {
	n := newMap()
	for _, tag := range t {
		n.pairs = append(n.pairs, pair{key: tag.Name, value: fromPlain(tag.Value)})
	}
	return n.json(), nil
}
