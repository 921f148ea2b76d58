package restapi

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
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

// listen opens a TCP socket. An empty host or * means every address, of both
// families where the system can.
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
	return lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
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
