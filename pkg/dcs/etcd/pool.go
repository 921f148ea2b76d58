package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
)

// endpoint is one etcd server as we reach it.
type endpoint struct {
	url  string
	conn *grpc.ClientConn

	// Guarded by pool.mu.
	failed   time.Time // last failure
	answered time.Time // last success
}

// pool holds the endpoints. The preferred one is the one that answered last.
type pool struct {
	dial       func(url string) (*grpc.ClientConn, error)
	configured []string

	mu      sync.Mutex
	eps     []*endpoint
	retired []*endpoint // to be closed at the next change
	first   *endpoint
	ready   chan struct{} // closed when eps is not empty
	closed  bool
}

func newPool(cfg *Config) *pool {
	p := &pool{dial: dialer(cfg), configured: cfg.Endpoints, ready: make(chan struct{})}
	return p
}

const (
	// pingTime is how long a connection with an open stream may be silent
	// before it is pinged; etcd refuses pings more often than every 5 s.
	pingTime   = 10 * time.Second
	maxMessage = 64 << 20
)

func dialer(cfg *Config) func(string) (*grpc.ClientConn, error) {
	timeout := min(max(cfg.RetryTimeout/2, time.Second), 5*time.Second)
	opts := []grpc.DialOption{
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithStatsHandler(sentTracer{}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithUserAgent("pgha"),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingTime, Timeout: timeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
	}
	tlsConfig := cfg.TLS
	return func(url string) (*grpc.ClientConn, error) {
		scheme, addr, _ := strings.Cut(url, "://")
		creds := insecure.NewCredentials()
		if scheme == "https" {
			creds = credentials.NewTLS(serverTLS(tlsConfig, addr))
		}
		// passthrough: names are resolved by the Go dialer at each connection
		// attempt, so a dead DNS never touches an established connection.
		return grpc.NewClient("passthrough:///"+addr, append(opts, grpc.WithTransportCredentials(creds))...)
	}
}

func serverTLS(base *tls.Config, addr string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		cfg = base.Clone()
	}
	if cfg.ServerName == "" {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			cfg.ServerName = host
		}
	}
	return cfg
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
		if !contains(next, ep) {
			p.retired = append(p.retired, ep)
		}
	}
	if len(p.eps) == 0 {
		close(p.ready)
	}
	p.eps = next
	if !contains(next, p.first) {
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
	conn, err := p.dial(url)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	return &endpoint{url: url, conn: conn}, nil
}

func contains(eps []*endpoint, ep *endpoint) bool {
	for _, e := range eps {
		if e == ep {
			return true
		}
	}
	return false
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
		if ep == p.first {
			continue
		}
		at := len(list)
		for at > 1 && ep.failed.Before(list[at-1].failed) {
			at--
		}
		list = append(list, nil)
		copy(list[at+1:], list[at:])
		list[at] = ep
	}
	return list, nil
}

func (p *pool) good(ep *endpoint, now time.Time) (switched bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ep.answered = now
	if p.first == ep || !contains(p.eps, ep) {
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
		_ = ep.conn.Close() // only says that it was closed before
	}
}

// sentTracer notes in the context of a call that its request was handed to a
// connection: from then on it may have had its effect.
type sentTracer struct{}

type sentKey struct{}

func withSent(ctx context.Context) (context.Context, *atomic.Bool) {
	sent := new(atomic.Bool)
	return context.WithValue(ctx, sentKey{}, sent), sent
}

func (sentTracer) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (sentTracer) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutHeader); ok {
		if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
			sent.Store(true)
		}
	}
}

func (sentTracer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (sentTracer) HandleConn(context.Context, stats.ConnStats) {}
