package mem

import (
	"errors"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// Put writes a key the way a foreign client does: full path, no guard, no
// lease when lease is 0. It returns the revision.
func (s *Server) Put(key string, value []byte, lease int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	if lease != 0 && s.leases[lease] == nil {
		return 0, errors.New("requested lease not found")
	}
	return s.commit([]dcs.KV{{Key: key, Value: value, LeaseID: lease}}, nil), nil
}

// Delete removes keys, as etcdctl del would.
func (s *Server) Delete(keys ...string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	return s.commit(nil, keys)
}

// Get returns a key as stored.
func (s *Server) Get(key string) (dcs.KV, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	kv, ok := s.kvs[key]
	return kv, ok
}

// List returns all keys under base, sorted: the truth, past every fault.
func (s *Server) List(base string) []dcs.KV {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	frozen := s.frozen
	s.frozen = nil
	kvs, _, _ := s.read(base)
	s.frozen = frozen
	return kvs
}

// Revision returns the newest revision.
func (s *Server) Revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rev
}

// Requests counts the requests that reached the server through clients.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// GrantLease gives a foreign client a lease.
func (s *Server) GrantLease(ttl time.Duration) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ := s.grant(ttl)
	return id
}

// KeepLease renews a foreign client's lease.
func (s *Server) KeepLease(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	return s.renew(id)
}

func (s *Server) renew(id int64) bool {
	l := s.leases[id]
	if l != nil {
		l.expires = s.now() + int64(l.ttl)
	}
	return l != nil
}

// SetDown stops (or restarts) the whole cluster: every request fails, no lease
// expires. Coming back elects a leader, which extends all leases (E1).
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	if s.down && !down {
		s.extendAll(0)
	}
	if down && !s.down {
		for _, c := range s.clients {
			c.contact = s.now()
		}
	}
	s.down = down
}

// ChangeLeader elects another etcd leader: every lease gets its whole TTL
// again, plus extra (E1).
func (s *Server) ChangeLeader(extra time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	s.extendAll(extra)
}

func (s *Server) extendAll(extra time.Duration) {
	for _, l := range s.leases {
		l.expires = s.now() + int64(l.ttl+extra)
	}
}

// SetFalseKeepAlive makes keepalives answer success without renewing
// anything, also for leases that do not exist any more (E2).
func (s *Server) SetFalseKeepAlive(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.falseKA = on
}

// Revoke ends a lease before its time (E3). It reports whether it existed.
func (s *Server) Revoke(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	_, ok := s.leases[id]
	if ok {
		s.revoke(id)
	}
	return ok
}

// FreezeReads makes every read answer with the present state until
// ThawReads, while transactions go on (E4: stale linearizable reads).
func (s *Server) FreezeReads() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	st := s.copyState()
	s.frozen = &st
}

// ThawReads ends FreezeReads.
func (s *Server) ThawReads() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = nil
}

func (s *Server) copyState() state {
	kvs := make(map[string]dcs.KV, len(s.kvs))
	for key, kv := range s.kvs {
		kvs[key] = kv
	}
	return state{id: s.id, rev: s.rev, kvs: kvs}
}

// Backup is a saved key space, see Server.Backup.
type Backup struct {
	state  state
	leases map[int64]lease
}

// Backup saves keys, revisions and leases.
func (s *Server) Backup() Backup {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	b := Backup{state: s.copyState(), leases: map[int64]lease{}}
	for id, l := range s.leases {
		b.leases[id] = *l
	}
	return b
}

// Restore puts everything back to b under the cluster id newID (E5): keys and
// revisions go backwards, leases start their TTL again, watches are cut.
func (s *Server) Restore(b Backup, newID uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id, s.rev, s.kvs = newID, b.state.rev, make(map[string]dcs.KV, len(b.state.kvs))
	for key, kv := range b.state.kvs {
		s.kvs[key] = kv
	}
	s.leases = make(map[int64]*lease, len(b.leases))
	for id, l := range b.leases {
		s.leases[id] = &lease{ttl: l.ttl, expires: s.now() + int64(l.ttl)}
	}
	s.frozen = nil
	for _, c := range s.clients {
		c.cut()
	}
}
