package restapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"github.com/pgha/pgha/internal/plain"
)

// Bounds of open connections (safety E-3). One address can never take all of
// them, so a flood from one place leaves room for the load balancer's checks.
const (
	maxConns           = 1024
	maxConnsPerAddress = 256
	// maxReads and maxChanges bound the requests under way that are not health
	// checks: documents and metrics, and those that change something.
	maxReads   = 64
	maxChanges = 16
)

// socket is where a Server listens. It can move to another address while it is
// served from.
type socket struct {
	mu      sync.Mutex
	address string // as configured
	l       net.Listener
}

// listener is the one in use; nil: none yet.
func (s *socket) listener() net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.l
}

func (s *socket) open(ctx context.Context, address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := listen(ctx, address)
	if err != nil {
		return fmt.Errorf("restapi.listen %q: %w; is another agent running, or the address of another host?", address, plain.Connection(err))
	}
	s.address, s.l = address, l
	return nil
}

// move listens on address instead. One that overlaps the old one (another host,
// the same port) cannot be had beside it: the old one is let go first then, and
// taken again if the new one is not to be had either. Whoever serves waits for the
// outcome in listener.
func (s *socket) move(address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l == nil || s.address == address {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	old := s.l
	l, err := listen(ctx, address)
	if errors.Is(err, syscall.EADDRINUSE) {
		_ = old.Close()
		if l, err = listen(ctx, address); err != nil {
			if back, again := listen(ctx, s.address); again == nil {
				s.l = back
			}
		}
	}
	if err != nil {
		return fmt.Errorf("restapi.listen %q: %w", address, plain.Connection(err))
	}
	_ = old.Close()
	s.address, s.l = address, l
	return nil
}

func (s *socket) close() {
	if l := s.listener(); l != nil {
		_ = l.Close()
	}
}

// tlsListener speaks TLS while the rules in force have certificates.
type tlsListener struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l *tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if conf := l.server.rules.Load().tls; conf != nil {
		return tls.Server(conn, conf), nil
	}
	return conn, nil
}

// listen opens a TCP socket with bounds. An empty host or * means every address, of
// both families where the system can.
func listen(ctx context.Context, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host == "*" {
		host = ""
	}
	// Of several hosts only one can be served by one socket.
	host, _, _ = strings.Cut(host, ",")
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	return newCappedListener(l, maxConns, maxConnsPerAddress), nil
}

// cappedListener closes connections beyond its bounds right after accepting
// them: a client over the limit learns at once, the others do not wait.
type cappedListener struct {
	net.Listener
	total, each int

	mu     sync.Mutex
	open   int
	byAddr map[netip.Addr]int
}

func newCappedListener(l net.Listener, total, each int) *cappedListener {
	return &cappedListener{Listener: l, total: total, each: each, byAddr: map[netip.Addr]int{}}
}

// Accept returns the next connection within the bounds.
func (l *cappedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := addrOf(conn)
		if l.take(addr) {
			return &cappedConn{Conn: conn, release: sync.OnceFunc(func() { l.give(addr) })}, nil
		}
		_ = conn.Close()
	}
}

func (l *cappedListener) take(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.total || l.byAddr[a] >= l.each {
		return false
	}
	l.open++
	l.byAddr[a]++
	return true
}

func (l *cappedListener) give(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.byAddr[a]--; l.byAddr[a] == 0 {
		delete(l.byAddr, a)
	}
}

func addrOf(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// cappedConn gives its place back when closed.
type cappedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *cappedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
