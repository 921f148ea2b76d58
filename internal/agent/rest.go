package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/ha/loop"
	"github.com/pgha/pgha/pkg/restapi"
)

// board shows the node to the outside: it implements restapi.Agent from the
// published view and the store.
type board struct {
	*desk
	*journal
	view    atomic.Pointer[ha.View]
	store   dcs.Store
	sampler *restapi.Sampler
	peers   *peers
	now     func() ha.Instant
	wake    func()
	reload  func()
	// promises are what leaders were told that live by the failsafe mode.
	promises *loop.Promises
	seen     *seenFile
	freezes  freezes
	// position reads the server's WAL position, past every cache.
	position func(ctx context.Context) (ha.Sample, error)
	// refused tells which parameters of the server it would not start with.
	refused func(ctx context.Context, given map[string]string) map[string]string
	// published is told of each new view; it must not block.
	published func()
	// remote asks what a standby cluster follows.
	remote func(ctx context.Context) *restapi.RemoteDocument

	mu      sync.Mutex
	changed chan struct{}
	cluster *dcs.Cluster
}

func newBoard(first *ha.View) *board {
	b := &board{
		promises: &loop.Promises{}, changed: make(chan struct{}), published: func() {},
		refused: func(context.Context, map[string]string) map[string]string { return nil },
	}
	b.view.Store(first)
	return b
}

// publish replaces the view; it is the loop's Publish.
func (b *board) publish(v *ha.View) {
	b.view.Store(v)
	if b.seen != nil { // nil in tests of the board alone
		b.seen.saw(v.Seen)
	}
	defer b.published()
	defer b.freezes.published()
	if b.desk != nil {
		b.restarts.noted(v.Restart)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v.Cluster != b.cluster {
		b.cluster = v.Cluster
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// View implements restapi.Agent.
func (b *board) View() *ha.View { return b.view.Load() }

// Now implements restapi.Agent.
func (b *board) Now() ha.Instant { return b.now() }

// Remote implements restapi.Agent.
func (b *board) Remote(ctx context.Context) *restapi.RemoteDocument { return b.remote(ctx) }

// Sample implements restapi.Agent.
func (b *board) Sample(ctx context.Context, age time.Duration) (ha.Sample, bool) {
	return b.sampler.Sample(ctx, age)
}

// ClusterChanged implements restapi.Agent.
func (b *board) ClusterChanged() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// requestTimeout bounds requests to etcd on behalf of a REST client.
func (b *board) requestTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, max(b.View().LoopWait, 5*time.Second))
}

// ReadCluster implements restapi.Agent.
func (b *board) ReadCluster(ctx context.Context) (*dcs.Cluster, error) {
	ctx, cancel := b.requestTimeout(ctx)
	defer cancel()
	return b.store.Read(ctx)
}

// put writes a key for a REST client and wakes the loop, which does not hear of
// this process's own writes otherwise.
func (b *board) put(ctx context.Context, w dcs.Write) error {
	ctx, cancel := b.requestTimeout(ctx)
	defer cancel()
	defer b.wake()
	return b.store.Put(ctx, w)
}

// PutConfig implements restapi.Agent.
func (b *board) PutConfig(ctx context.Context, value []byte, revision *int64) error {
	return b.put(ctx, dcs.Write{Key: dcs.KeyConfig, Value: value, Revision: revision})
}

// PutFailover implements restapi.Agent.
func (b *board) PutFailover(ctx context.Context, f dcs.Failover, revision *int64) error {
	return b.put(ctx, dcs.Write{Key: dcs.KeyFailover, Value: f.Encode(), Revision: revision})
}

// AskMembers implements restapi.Agent.
func (b *board) AskMembers(ctx context.Context, members []dcs.Member) map[string]ha.Peer {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	out := b.peers.AskPatiently(ctx, members)
	for _, mem := range members {
		if _, ok := out[mem.Name]; !ok {
			out[mem.Name] = ha.Peer{}
		}
	}
	return out
}

// Failsafe implements restapi.Agent.
func (b *board) Failsafe(leader string, ttl time.Duration) bool {
	defer b.wake()
	return b.promises.Accept(leader, b.now().Add(ttl))
}

// Reload implements restapi.Agent.
func (b *board) Reload() { b.reload() }

// AcceptDCS implements restapi.Agent.
func (b *board) AcceptDCS(by string) *restapi.Refusal {
	defer b.wake()
	return b.seen.accept(b.View(), by)
}
