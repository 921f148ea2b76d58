// Package view merges the watched events of a cluster's keys with the writes
// of the store that owns the view, and hands out decoded snapshots. Both
// stores use it, so what the simulator exercises is what production runs.
package view

import (
	"context"
	"sync"

	"github.com/pgha/pgha/pkg/dcs"
)

// Event is one change of one key. For a deletion KV holds the key, and
// ModRevision the revision of the deletion.
type Event struct {
	KV      dcs.KV
	Deleted bool
}

// View is the state of the keys under one base. It is whole between Reset and
// Lost; only a whole view may be acted on.
type View struct {
	base    string
	events  string // the one key that is no part of a view
	changed chan struct{}

	mu       sync.Mutex
	id       uint64
	rev      int64 // every event up to here has been applied
	kvs      map[string]dcs.KV
	gone     map[string]int64 // keys deleted by own writes beyond rev
	ready    chan struct{}    // closed while whole
	whole    bool
	cached   *dcs.Cluster
	scratch  []dcs.KV
	memo     *dcs.Memo          // decoded values of keys that did not change
	inflight map[string]int     // own writes under way, per key
	held     map[string][]int64 // revisions seen while a write was under way
}

// New returns an empty view that is not whole yet.
func New(base string) *View { return NewShared(base, &dcs.Memo{}) }

// NewShared is New with a memory for decoded values that several views of one
// cluster use; whoever shares it calls Cluster from one goroutine at a time.
func NewShared(base string, memo *dcs.Memo) *View {
	return &View{
		memo:     memo,
		base:     base,
		events:   dcs.KeyEvents.Path(base),
		changed:  make(chan struct{}, 1),
		kvs:      map[string]dcs.KV{},
		gone:     map[string]int64{},
		ready:    make(chan struct{}),
		inflight: map[string]int{},
		held:     map[string][]int64{},
	}
}

// Changed is readable after a change that was not made through Begin and End,
// and after Lost.
func (v *View) Changed() <-chan struct{} { return v.changed }

func (v *View) wake() {
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// Newest is the newest revision that is known, own writes included. Nothing that is
// read from now on is older, unless etcd goes back.
func (v *View) Newest() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	top := v.rev
	for _, kv := range v.kvs {
		top = max(top, kv.ModRevision)
	}
	for _, rev := range v.gone {
		top = max(top, rev)
	}
	return top
}

// Reset replaces the content by a range read at revision rev. Own writes that
// are newer than the read stay; since is what Newest told before the read.
func (v *View) Reset(kvs []dcs.KV, rev int64, id uint64, since int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	// A restored etcd begins anew: nothing known before counts (safety E5).
	// Before the first read only own writes are known, and they may be newer.
	same := (id == v.id || v.id == 0) && rev >= v.rev && rev >= since
	next := make(map[string]dcs.KV, len(kvs))
	for _, kv := range kvs {
		if kv.Key != v.events && (!same || v.gone[kv.Key] <= kv.ModRevision) {
			next[kv.Key] = kv
		}
	}
	if same {
		for key, kv := range v.kvs {
			if kv.ModRevision > rev {
				next[key] = kv
			}
		}
	}
	foreign := v.differs(next)
	v.kvs, v.rev, v.id = next, rev, id
	if same {
		v.dropTombstones()
	} else {
		clear(v.gone)
	}
	v.cached = nil
	if !v.whole {
		v.whole = true
		close(v.ready)
	}
	if foreign {
		v.wake()
	}
}

func (v *View) differs(next map[string]dcs.KV) bool {
	if len(next) != len(v.kvs) {
		return true
	}
	for key, kv := range next {
		if v.kvs[key].ModRevision != kv.ModRevision {
			return true
		}
	}
	return false
}

func (v *View) dropTombstones() {
	for key, rev := range v.gone {
		if rev <= v.rev {
			delete(v.gone, key)
		}
	}
}

// Apply merges watched events; afterwards the view is complete up to rev.
func (v *View) Apply(events []Event, rev int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	foreign := false
	for _, e := range events {
		if !v.merge(e) {
			continue
		}
		key := e.KV.Key
		if v.inflight[key] > 0 {
			v.held[key] = append(v.held[key], e.KV.ModRevision)
			continue
		}
		foreign = true
	}
	if rev > v.rev {
		v.rev = rev
		v.cached = nil
		v.dropTombstones()
	}
	if foreign {
		v.wake()
	}
}

// merge applies one event unless a newer state of the key is known.
func (v *View) merge(e Event) bool {
	key := e.KV.Key
	if key == v.events {
		return false
	}
	old, had := v.kvs[key]
	if had && old.ModRevision >= e.KV.ModRevision || v.gone[key] >= e.KV.ModRevision {
		return false
	}
	v.cached = nil
	if !e.Deleted {
		v.kvs[key] = e.KV
		delete(v.gone, key)
		return true
	}
	delete(v.kvs, key)
	v.gone[key] = e.KV.ModRevision
	return had
}

// Lost says that the watch is cut: the view is not whole until the next Reset.
func (v *View) Lost() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.whole {
		return
	}
	v.whole = false
	v.ready = make(chan struct{})
	v.wake()
}

// Begin announces an own write of keys. Events of these keys do not wake
// until End tells whether they were ours.
func (v *View) Begin(keys ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, key := range keys {
		v.inflight[key]++
	}
}

// End finishes the write announced by Begin with the same keys. rev is its
// revision, 0 when nothing is known to have been written. A put keeps the
// create revision of the key if KV carries none.
func (v *View) End(keys []string, rev int64, events ...Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range events {
		e.KV.ModRevision = rev
		if e.KV.CreateRevision == 0 {
			e.KV.CreateRevision = rev
			if old, ok := v.kvs[e.KV.Key]; ok {
				e.KV.CreateRevision = old.CreateRevision
			}
		}
		v.merge(e)
	}
	foreign := false
	for _, key := range keys {
		for _, seen := range v.held[key] {
			foreign = foreign || seen != rev
		}
		if v.inflight[key]--; v.inflight[key] <= 0 {
			delete(v.inflight, key)
			delete(v.held, key)
		}
	}
	if foreign {
		v.wake()
	}
}

// Cluster returns the decoded snapshot; ok is false while the view is not
// whole, and the snapshot is then what was last known.
func (v *View) Cluster() (c *dcs.Cluster, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cached == nil {
		v.scratch = v.scratch[:0]
		for _, kv := range v.kvs {
			v.scratch = append(v.scratch, kv)
		}
		c := v.memo.Decode(v.base, v.scratch)
		c.ID, c.Revision = v.id, v.rev
		v.cached = c
	}
	return v.cached, v.whole
}

// Wait returns the snapshot as soon as the view is whole, or ctx's error.
func (v *View) Wait(ctx context.Context) (*dcs.Cluster, error) {
	for {
		if c, ok := v.Cluster(); ok {
			return c, nil
		}
		v.mu.Lock()
		ready := v.ready
		v.mu.Unlock()
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Lease returns the lease that holds key, 0 without one.
func (v *View) Lease(key string) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.kvs[key].LeaseID
}

// ModRevision returns the revision of the last known write of key, 0 without one.
func (v *View) ModRevision(key string) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.kvs[key].ModRevision
}
