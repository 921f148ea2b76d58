package etcd

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// endpoint is one etcd server as we reach it. Its client knows no other, so
// that clientv3 has nothing to balance.
type endpoint struct {
	url    string
	client *clientv3.Client

	// Guarded by pool.mu.
	failed   time.Time // last failure
	answered time.Time // last success
}

// pool holds the endpoints. The preferred one is the one that answered last.
type pool struct {
	dial       func(url string) (*clientv3.Client, error)
	configured []string

	mu      sync.Mutex
	eps     []*endpoint
	retired []*endpoint // to be closed at the next change
	first   *endpoint
	ready   chan struct{} // closed when eps is not empty
	closed  bool
}

func newPool(configured []string, dial func(url string) (*clientv3.Client, error)) *pool {
	return &pool{dial: dial, configured: configured, ready: make(chan struct{})}
}

// set replaces the endpoints by urls; known ones keep their connections.
func (p *pool) set(urls []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(urls) == 0 {
		return nil
	}
	closeAll(p.retired)
	p.retired = nil
	next := make([]*endpoint, 0, len(urls))
	for _, url := range urls {
		ep, err := p.known(url)
		if err != nil {
			return err
		}
		next = append(next, ep)
	}
	for _, ep := range p.eps {
		if !slices.Contains(next, ep) {
			p.retired = append(p.retired, ep)
		}
	}
	if len(p.eps) == 0 {
		close(p.ready)
	}
	p.eps = next
	if !slices.Contains(next, p.first) {
		p.first = next[0]
	}
	return nil
}

// known returns the endpoint of url, a new one if there is none yet.
func (p *pool) known(url string) (*endpoint, error) {
	for _, ep := range p.eps {
		if ep.url == url {
			return ep, nil
		}
	}
	client, err := p.dial(url)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	return &endpoint{url: url, client: client}, nil
}

// revive adds the configured endpoints again: none of those etcd told us
// answers (wire contract §4.4).
func (p *pool) revive() {
	p.mu.Lock()
	urls := make([]string, 0, len(p.eps)+len(p.configured))
	for _, ep := range p.eps {
		urls = append(urls, ep.url)
	}
	before := len(urls)
	for _, url := range p.configured {
		urls = appendNew(urls, url)
	}
	p.mu.Unlock()
	if len(urls) > before {
		_ = p.set(urls) // urls were accepted before
	}
}

// order lists the endpoints to try: the preferred one, then the rest, those
// that failed longest ago first.
func (p *pool) order(ctx context.Context) ([]*endpoint, error) {
	select {
	case <-p.ready:
	default:
		select {
		case <-p.ready:
		case <-ctx.Done():
			return nil, fmt.Errorf("no endpoint known yet: %w", ctx.Err())
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	list := []*endpoint{p.first}
	for _, ep := range p.eps {
		if ep != p.first {
			list = append(list, ep)
		}
	}
	slices.SortStableFunc(list[1:], func(a, b *endpoint) int { return a.failed.Compare(b.failed) })
	return list, nil
}

func (p *pool) good(ep *endpoint, now time.Time) (switched bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ep.answered = now
	if p.first == ep || !slices.Contains(p.eps, ep) {
		return false
	}
	p.first = ep
	return true
}

func (p *pool) bad(ep *endpoint, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ep.failed = now
}

// fresh tells whether ep answered within the last second.
func (p *pool) fresh(ep *endpoint, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Sub(ep.answered) < time.Second && ep.answered.After(ep.failed)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	if len(p.eps) == 0 {
		close(p.ready)
	}
	closeAll(p.eps)
	closeAll(p.retired)
}

func closeAll(eps []*endpoint) {
	for _, ep := range eps {
		_ = ep.client.Close() // only says that it is closed
	}
}
