package config

import "regexp"

// checkStandby looks at what the schema cannot express in standby_cluster.
func (c *checker) checkStandby(doc *node, path string) {
	p := doc.pair("standby_cluster")
	if p == nil || !p.value.isMap() || len(p.value.pairs) == 0 {
		return
	}
	at := joinPath(path, "standby_cluster")
	n := p.value
	if decodeStandby(n) == nil {
		c.add(Warning, p.at(), at, "names neither host, port nor restore_command, so this is no standby cluster", "name the host to follow, or remove the section")
	}
	if q := n.pair("primary_slot_name"); q != nil && !q.value.isNull() && !slotName.MatchString(q.value.str()) {
		c.add(Error, q.at(), at+".primary_slot_name", "a slot's name has up to 63 lower-case letters, digits and underscores", "write for example primary_slot_name: standby_cluster")
	}
	if q := n.pair("recovery_min_apply_delay"); q != nil && !q.value.isNull() && !pgDuration.MatchString(q.value.str()) {
		c.add(Error, q.at(), at+".recovery_min_apply_delay", "is no duration that PostgreSQL understands", "write for example 5min, or a number of milliseconds")
	}
}

// pgDuration is how PostgreSQL takes a time; without a unit, milliseconds.
var pgDuration = regexp.MustCompile(`^\s*[0-9]+(\.[0-9]+)?\s*(us|ms|s|min|h|d)?\s*$`)
