package dcs

import (
	"bytes"
	"slices"
	"strings"
)

// Memo decodes successive states of one cluster and reads again only the keys
// that changed: most changes touch one. The zero value is ready to use; it is
// not for concurrent use. Snapshots share the values of unchanged keys, which
// is safe because snapshots are immutable.
type Memo struct {
	base  string
	known map[string]memoEntry // by full path
	// Most changes are of no member: the last list is used again.
	members []Member
	made    []*Member // of these
}

type memoEntry struct {
	kv    KV
	value any
	err   error
}

// same tells whether e was made of kv. The bytes are compared too, because an
// etcd that was restored from a backup uses its revisions a second time.
func (e *memoEntry) same(kv *KV) bool {
	return e.kv.ModRevision == kv.ModRevision && e.kv.CreateRevision == kv.CreateRevision && e.kv.LeaseID == kv.LeaseID && bytes.Equal(e.kv.Value, kv.Value)
}

// Decode is the function Decode with a memory.
func (m *Memo) Decode(base string, kvs []KV) *Cluster {
	if m.known == nil || m.base != base {
		m.base, m.known = base, map[string]memoEntry{}
	}
	c := &Cluster{}
	var optime *Status
	var few [8]*Member
	members := few[:0]
	for i := range kvs {
		kv := &kvs[i]
		key, ok := relative(base, kv.Key)
		if !ok {
			continue
		}
		e, known := m.known[kv.Key]
		if !known || !e.same(kv) {
			e = memoEntry{kv: *kv}
			e.value, e.err = decodeKey(key, kv)
			m.known[kv.Key] = e
		}
		if mem, ok := e.value.(*Member); ok {
			members = append(members, mem)
			if e.err != nil {
				c.invalid(key, kv.ModRevision, e.err)
			}
			continue
		}
		c.add(key, kv, e.value, e.err, &optime)
	}
	c.Members = m.list(members)
	c.finish(optime)
	m.forget(kvs)
	return c
}

// list returns the members by name.
func (m *Memo) list(of []*Member) []Member {
	slices.SortFunc(of, func(a, b *Member) int { return strings.Compare(a.Name, b.Name) })
	if !slices.Equal(of, m.made) {
		m.made, m.members = append(m.made[:0:0], of...), nil
		for _, mem := range of {
			m.members = append(m.members, *mem)
		}
	}
	return m.members
}

// forget drops keys that are gone.
func (m *Memo) forget(kvs []KV) {
	if len(m.known) <= len(kvs) {
		return
	}
	present := make(map[string]bool, len(kvs))
	for i := range kvs {
		present[kvs[i].Key] = true
	}
	for key := range m.known {
		if !present[key] {
			delete(m.known, key)
		}
	}
}
