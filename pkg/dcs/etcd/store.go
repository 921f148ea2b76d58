package etcd

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/internal/view"
)

// Store implements dcs.Store. Use Open.
type Store struct {
	cfg  Config
	log  *slog.Logger
	pool *pool
	auth *tokens
	view *view.View
	seen terms

	cancel context.CancelFunc
	wg     sync.WaitGroup

	watchMu    sync.Mutex
	generation int       // counts the losses of the view
	watchAt    *endpoint // nil without a stream
	watchStop  context.CancelCauseFunc

	granting chan struct{} // holds one token: one grant at a time

	mu    sync.Mutex
	want  time.Duration
	lease leaseState
	locks map[dcs.Key]heldLock
}

// leaseState is what the store knows about its lease and its leader key.
type leaseState struct {
	id      int64
	asked   time.Duration
	granted time.Duration
	// postponed: the last round got no lease with the wanted TTL, so that the next
	// one keeps the one it has. Otherwise a change of ttl could end a leadership.
	postponed bool

	leaderEpoch int64 // of the last successful claim or renewal,
	leaderLease int64 // and the lease the key hangs on since
}

var _ dcs.Store = (*Store)(nil)

func newStore(cfg Config) *Store {
	auth := newTokens(cfg.Username, cfg.Password)
	return &Store{
		cfg:      cfg,
		log:      cfg.Logger,
		pool:     newPool(cfg.Endpoints, func(url string) (*clientv3.Client, error) { return newClient(&cfg, auth.current, url) }),
		auth:     auth,
		view:     view.New(cfg.Base),
		granting: make(chan struct{}, 1),
		want:     cfg.TTL,
	}
}

func (s *Store) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	if err := s.pool.set(s.cfg.Endpoints); err != nil {
		s.log.Error("etcd endpoint refused", "error", err)
	}
	s.wg.Add(2)
	go func() { defer s.wg.Done(); s.discover(ctx) }()
	go func() { defer s.wg.Done(); s.watchLoop(ctx) }()
}

// Close implements dcs.Store.
func (s *Store) Close() error {
	s.cancel()
	s.pool.close()
	s.wg.Wait()
	s.view.Lost()
	return nil
}

// SetCredentials replaces user and password; both empty turn authentication
// off.
func (s *Store) SetCredentials(user, password string) { s.auth.set(user, password) }

// String names the store without its secrets.
func (s *Store) String() string { return s.cfg.String() }

// Snapshot implements dcs.Store.
func (s *Store) Snapshot(ctx context.Context) (*dcs.Cluster, error) {
	c, err := s.view.Wait(ctx)
	if err != nil {
		return nil, fail("read cluster", dcs.ErrUnavailable, err)
	}
	return c, nil
}

// Changed implements dcs.Store.
func (s *Store) Changed() <-chan struct{} { return s.view.Changed() }

// Read implements dcs.Store.
func (s *Store) Read(ctx context.Context) (*dcs.Cluster, error) {
	kvs, header, err := s.readAll(ctx, "read cluster")
	if err != nil {
		return nil, err
	}
	c := dcs.Decode(s.cfg.Base, kvs)
	c.ID, c.Revision = header.GetClusterId(), header.GetRevision()
	return c, nil
}

// readAll reads every key of the cluster, linearizable.
func (s *Store) readAll(ctx context.Context, op string) ([]dcs.KV, *pb.ResponseHeader, error) {
	var resp *clientv3.GetResponse
	err := s.call(ctx, request{op: op, repeatable: true, read: true}, func(ctx context.Context, ep *endpoint) (err error) {
		if resp, err = ep.client.Get(ctx, s.cfg.Base+"/", clientv3.WithPrefix()); err != nil {
			return err
		}
		return s.seen.confirmed(resp.Header, time.Now())
	})
	if err != nil {
		return nil, nil, err
	}
	kvs := make([]dcs.KV, 0, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		kvs = append(kvs, toKV(kv))
	}
	return kvs, resp.Header, nil
}

var errStaleNode = errors.New("this etcd member is behind: its raft term is lower than one seen before")

// terms remembers the highest raft term per cluster: a member that answers
// with a lower one is cut off from the others (wire contract §4.4).
type terms struct {
	mu      sync.Mutex
	cluster uint64
	term    uint64
	low     time.Time // since when nobody answered with a term as high; zero: now
}

// lowPatience is how long linearizable reads must show nothing but lower terms
// until they are believed. A member that is cut off cannot answer one at all; an
// etcd restored from a snapshot under its old id answers nothing else.
const lowPatience = 500 * time.Millisecond

// confirmed checks the header of a linearizable read.
func (t *terms) confirmed(h *pb.ResponseHeader, now time.Time) error {
	err := t.check(h)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.low = time.Time{}
	case t.low.IsZero():
		t.low = now
	case now.Sub(t.low) >= lowPatience:
		t.term, t.low = h.GetRaftTerm(), time.Time{}
		return nil
	}
	return err
}

func (t *terms) check(h *pb.ResponseHeader) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.GetClusterId() != t.cluster {
		t.cluster, t.term = h.GetClusterId(), h.GetRaftTerm()
		return nil
	}
	if h.GetRaftTerm() < t.term {
		return errStaleNode
	}
	t.term = h.GetRaftTerm()
	return nil
}
