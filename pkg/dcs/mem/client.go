package mem

import (
	"slices"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/internal/view"
)

// Op names one request a client makes. Renew makes two, unless it has to grant
// a lease first.
type Op string

// The requests a Hook sees.
const (
	OpGrant            Op = "grant"
	OpKeepAlive        Op = "keepalive"
	OpClaim            Op = "claim"
	OpRenew            Op = "renew" // the guarded transaction of Renew
	OpRelease          Op = "release"
	OpPutMember        Op = "put member"
	OpPut              Op = "put"
	OpLock             Op = "lock"
	OpUnlock           Op = "unlock"
	OpDeleteInitialize Op = "delete initialize"
	OpRead             Op = "read"
)

// Fault is what a Hook does to one request.
type Fault int

const (
	// None lets the request through.
	None Fault = iota
	// Unavailable fails it before it has any effect: dcs.ErrUnavailable.
	Unavailable
	// AnswerLost lets it have its effect and loses the answer: dcs.ErrUnknown.
	AnswerLost
	// RequestLost loses it on the way; the client cannot tell this from
	// AnswerLost: dcs.ErrUnknown. Reads report dcs.ErrUnavailable.
	RequestLost
	// Rejected answers a definite no: dcs.ErrRejected.
	Rejected
)

// maxQueue bounds undelivered events; beyond it the watch is cut, as etcd's
// compaction does to a slow watcher.
const maxQueue = 10000

// Client is one process's store. It implements dcs.Store.
type Client struct {
	srv  *Server
	base string
	name string
	view *view.View

	// All below is guarded by srv.mu.
	hook        func(Op) Fault
	partitioned bool
	auto        bool
	watching    bool // false: the next delivery reads everything anew
	queue       []batch
	staleAfter  time.Duration
	contact     int64 // last instant the watch was alive
	want        time.Duration
	asked       time.Duration // of the present lease
	granted     time.Duration
	lease       int64
	leaderEpoch int64             // of the last claim or renewal that put the key ...
	leaderLease int64             // ... and the lease it hangs on
	begun, done int64             // the newest round that began, and that wrote /status
	locks       map[dcs.Key]int64 // create revisions of the locks this client holds
	closed      bool
}

type batch struct {
	events []view.Event
	rev    int64
}

var _ dcs.Store = (*Client)(nil)

// defaultTTL is Patroni's ttl.
const defaultTTL = 30 * time.Second

// Store returns a new client for the cluster at base. name is for messages
// only. Events are delivered at once until SetAutoDeliver(false).
func (s *Server) Store(base, name string) *Client {
	c := &Client{srv: s, base: base, name: name, view: view.NewShared(base, &s.memo), auto: true, want: defaultTTL, locks: map[dcs.Key]int64{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, c)
	c.deliver(-1)
	return c
}

// SetHook installs the fault hook, nil for none. It is called with the
// server's lock held and must not call the server or a client.
func (c *Client) SetHook(hook func(Op) Fault) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.hook = hook
}

// SetAutoDeliver chooses between delivery of events at once (true) and by
// Deliver only.
func (c *Client) SetAutoDeliver(on bool) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.auto = on
	if on {
		c.deliver(-1)
	}
}

// SetStaleAfter sets how long Snapshot goes on serving the old view after the
// watch lost contact; 0, the default, is not at all.
func (c *Client) SetStaleAfter(d time.Duration) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.staleAfter = d
}

// SetPartitioned cuts the client off, requests and watch alike, or heals it.
// After healing, what was missed is read anew: at once with automatic
// delivery, at the next Deliver otherwise.
func (c *Client) SetPartitioned(cut bool) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	if cut == c.partitioned {
		return
	}
	c.srv.tick()
	c.partitioned = cut
	if cut {
		c.contact = c.srv.now()
		c.watching, c.queue = false, nil
		return
	}
	if c.auto {
		c.deliver(-1)
	}
}

// CutWatch breaks the watch stream; requests go on working. The view is not
// whole until the next delivery (automatic delivery mends it at once).
func (c *Client) CutWatch() {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.cut()
}

func (c *Client) cut() {
	c.watching, c.queue = false, nil
	c.contact = c.srv.now()
	c.view.Lost()
	if c.auto {
		c.deliver(-1)
	}
}

// Pending counts the batches of events (one per revision) not yet delivered.
func (c *Client) Pending() int {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	return len(c.queue)
}

// Deliver brings the view up to date, or reads everything anew after the
// watch was cut.
func (c *Client) Deliver() { c.DeliverN(-1) }

// DeliverN delivers at most n batches, all of them when n is negative.
func (c *Client) DeliverN(n int) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.srv.tick()
	c.deliver(n)
}

func (c *Client) deliver(n int) {
	if c.partitioned || c.srv.down || c.closed {
		return
	}
	c.contact = c.srv.now()
	if !c.watching {
		// A stale read (E4) is of no lasting harm here: the watch goes on from
		// its revision, and brings what it lacked at once.
		frozen := c.srv.frozen
		c.srv.frozen = nil
		kvs, rev, id := c.srv.read(c.base)
		c.srv.frozen = frozen
		c.view.Reset(kvs, rev, id, c.view.Newest())
		c.watching, c.queue = true, nil
		return
	}
	if n < 0 || n > len(c.queue) {
		n = len(c.queue)
	}
	for _, b := range c.queue[:n] {
		c.view.Apply(b.events, b.rev)
	}
	c.queue = slices.Delete(c.queue, 0, n)
}

// foreign tells whether e is of another cluster.
func (c *Client) foreign(e view.Event) bool {
	return len(e.KV.Key) <= len(c.base) || e.KV.Key[len(c.base)] != '/' || e.KV.Key[:len(c.base)] != c.base
}

func (c *Client) enqueue(events []view.Event, rev int64) {
	if !c.watching || c.closed {
		return
	}
	b := batch{events: events, rev: rev}
	if slices.ContainsFunc(events, c.foreign) {
		b.events = slices.DeleteFunc(slices.Clone(events), c.foreign)
	}
	if len(b.events) == 0 {
		return
	}
	if c.queue = append(c.queue, b); len(c.queue) > maxQueue {
		c.cut()
		return
	}
	if c.auto {
		c.deliver(-1)
	}
}

// Lease returns the present lease id, 0 without one.
func (c *Client) Lease() int64 {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	return c.lease
}

// Close implements dcs.Store.
func (c *Client) Close() error {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.closed = true
	for i, other := range c.srv.clients {
		if other == c {
			c.srv.clients = append(c.srv.clients[:i:i], c.srv.clients[i+1:]...)
			break
		}
	}
	return nil
}
