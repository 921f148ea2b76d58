package mem

import (
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/internal/view"
)

// Options of a Server. Zero values take the defaults named below.
type Options struct {
	// Now is the server's clock in nanoseconds. Default: a clock that stands
	// still, so that leases never expire by themselves.
	Now func() int64
	// ScanEvery is how often leases are looked through: 500 ms, as in etcd.
	ScanEvery time.Duration
	// MinTTL is the smallest TTL granted; a smaller request gets this (E1).
	MinTTL time.Duration
	// ID is the cluster id, 1 by default.
	ID uint64
}

// Server is the etcd cluster. The zero value is not usable; see NewServer.
type Server struct {
	now   func() int64
	every int64
	min   time.Duration

	mu       sync.Mutex
	id       uint64
	rev      int64
	kvs      map[string]dcs.KV
	leases   map[int64]*lease
	lastID   int64
	scanned  int64
	clients  []*Client
	down     bool
	frozen   *state // what reads answer while frozen (E4)
	falseKA  bool
	requests int
	memo     dcs.Memo // of all clients
}

type lease struct {
	ttl     time.Duration // as granted
	expires int64
}

// state is the key space at one revision.
type state struct {
	id  uint64
	rev int64
	kvs map[string]dcs.KV
}

// NewServer returns an empty server at revision 1, as etcd starts.
func NewServer(o Options) *Server {
	if o.Now == nil {
		o.Now = func() int64 { return 0 }
	}
	if o.ScanEvery <= 0 {
		o.ScanEvery = 500 * time.Millisecond
	}
	if o.ID == 0 {
		o.ID = 1
	}
	s := &Server{
		now: o.Now, every: int64(o.ScanEvery), min: o.MinTTL, id: o.ID, rev: 1,
		kvs: map[string]dcs.KV{}, leases: map[int64]*lease{}, lastID: 1000,
	}
	s.scanned = s.slot(o.Now())
	return s
}

func (s *Server) slot(t int64) int64 { return t - t%s.every }

// Tick expires leases that are due. Every request does the same first.
func (s *Server) Tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
}

func (s *Server) tick() {
	now := s.now()
	if now-s.scanned < s.every {
		return
	}
	s.scanned = s.slot(now)
	if s.down {
		return
	}
	for _, id := range s.leaseIDs() {
		if s.leases[id].expires <= s.scanned {
			s.revoke(id)
		}
	}
}

func (s *Server) leaseIDs() []int64 {
	ids := make([]int64, 0, len(s.leases))
	for id := range s.leases {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// NextExpiry returns the instant of the scan at which the next lease goes, so
// that a simulator can put an event there; ok is false without leases.
func (s *Server) NextExpiry() (at int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		due := s.slot(l.expires + s.every - 1)
		if least := s.scanned + s.every; due < least {
			due = least
		}
		if !ok || due < at {
			at, ok = due, true
		}
	}
	return at, ok
}

// revoke ends a lease: its keys go in one revision.
func (s *Server) revoke(id int64) {
	delete(s.leases, id)
	var gone []string
	for _, kv := range s.kvs {
		if kv.LeaseID == id {
			gone = append(gone, kv.Key)
		}
	}
	s.commit(nil, gone)
}

func (s *Server) grant(ttl time.Duration) (id int64, granted time.Duration) {
	granted = (ttl + time.Second - 1) / time.Second * time.Second
	if granted < s.min {
		granted = s.min
	}
	s.lastID++
	s.leases[s.lastID] = &lease{ttl: granted, expires: s.now() + int64(granted)}
	return s.lastID, granted
}

// commit writes and deletes in one revision and tells the watchers. Nothing
// to do is no revision.
func (s *Server) commit(puts []dcs.KV, deletes []string) int64 {
	var events []view.Event
	rev := s.rev + 1
	sort.Strings(deletes)
	for _, key := range deletes {
		if _, ok := s.kvs[key]; !ok {
			continue
		}
		delete(s.kvs, key)
		events = append(events, view.Event{KV: dcs.KV{Key: key, ModRevision: rev}, Deleted: true})
	}
	for _, kv := range puts {
		kv.ModRevision, kv.CreateRevision = rev, rev
		kv.Value = append([]byte(nil), kv.Value...)
		if old, ok := s.kvs[kv.Key]; ok {
			kv.CreateRevision = old.CreateRevision
		}
		s.kvs[kv.Key] = kv
		events = append(events, view.Event{KV: kv})
	}
	if len(events) == 0 {
		return s.rev
	}
	s.rev = rev
	for _, c := range s.clients {
		c.enqueue(events, rev)
	}
	return rev
}

// read is a linearizable read of everything under base, unless reads are
// frozen.
func (s *Server) read(base string) ([]dcs.KV, int64, uint64) {
	st := state{id: s.id, rev: s.rev, kvs: s.kvs}
	if s.frozen != nil {
		st = *s.frozen
	}
	var kvs []dcs.KV
	for key, kv := range st.kvs {
		if strings.HasPrefix(key, base+"/") {
			kvs = append(kvs, kv)
		}
	}
	sort.Slice(kvs, func(i, j int) bool { return kvs[i].Key < kvs[j].Key })
	return kvs, st.rev, st.id
}
