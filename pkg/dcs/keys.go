package dcs

import (
	"fmt"
	"strconv"
	"strings"
)

// keyOptime is where Patroni before 2.1 kept the leader's position; it is read
// only while /status is missing (wire contract §4.1).
const keyOptime Key = "optime/leader"

// Base returns the path all keys of a cluster live under, without a slash at
// the end: "/namespace/scope", runs of slashes collapsed (wire contract §4.1).
// An empty namespace means "/service".
func Base(namespace, scope string) string {
	if strings.Trim(namespace, "/") == "" {
		namespace = "service"
	}
	var b strings.Builder
	for _, part := range strings.Split(namespace+"/"+scope, "/") {
		if part != "" {
			b.WriteByte('/')
			b.WriteString(part)
		}
	}
	return b.String()
}

// MemberKey names the key of the member called name.
func MemberKey(name string) Key { return KeyMembers + Key(name) }

// Path returns the full etcd key of k under base.
func (k Key) Path(base string) string { return base + "/" + string(k) }

// PrefixEnd returns the first key after all keys that start with prefix: the
// range_end of a prefix read. Empty means "to the end of the key space".
func PrefixEnd(prefix string) string {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return string(end[:i+1])
		}
	}
	return ""
}

// memberOf returns the member name in k; ok only for keys with exactly one
// slash, as Patroni counts them.
func memberOf(k Key) (name string, ok bool) {
	name, ok = strings.CutPrefix(string(k), string(KeyMembers))
	return name, ok && name != "" && !strings.Contains(name, "/")
}

// maxSlotName is PostgreSQL's limit of identifiers: NAMEDATALEN - 1.
const maxSlotName = 63

// SlotName returns the replication slot name that belongs to a member name
// (wire contract §3.2).
func SlotName(member string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(member) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			b.WriteRune(r)
		case r == '-' || r == '.':
			b.WriteByte('_')
		default:
			fmt.Fprintf(&b, "u%04d", r)
		}
	}
	s := b.String()
	if len(s) > maxSlotName {
		s = s[:maxSlotName]
	}
	return s
}

// InitializeValid reports whether id looks like a system identifier: at least
// ten decimal digits that fit 64 bits (wire contract §4.5).
func InitializeValid(id string) bool {
	if len(id) < 10 || id[0] == '+' {
		return false
	}
	_, err := strconv.ParseUint(id, 10, 64)
	return err == nil
}
