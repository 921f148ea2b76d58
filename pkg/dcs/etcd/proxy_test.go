package etcd_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// proxy forwards TCP to one etcd member and can be cut like a network: frozen,
// it accepts connections and bytes and passes nothing on, in one direction or
// both, as if every packet were dropped.
type proxy struct {
	target string
	ln     net.Listener
	wg     sync.WaitGroup

	mu      sync.Mutex
	up      bool // requests pass
	down    bool // answers pass
	changed chan struct{}
	conns   map[net.Conn]bool
	closed  bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: target, ln: ln, up: true, down: true, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.wg.Add(1)
	go p.accept()
	t.Cleanup(p.close)
	return p
}

func (p *proxy) url() string { return "http://" + p.ln.Addr().String() }

// pass opens or freezes the two directions.
func (p *proxy) pass(up, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up, p.down = up, down
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *proxy) freeze() { p.pass(false, false) }

func (p *proxy) thaw() { p.pass(true, true) }

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	close(p.changed)
	p.changed = make(chan struct{})
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.ln.Close()
	p.wg.Wait()
}

func (p *proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) accept() {
	defer p.wg.Done()
	for {
		in, err := p.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			in.Close()
			continue
		}
		if !p.track(in) || !p.track(out) {
			in.Close()
			out.Close() // etcd waits two minutes for an idle new connection when it stops
			return
		}
		p.wg.Add(2)
		go p.pump(out, in, func() bool { return p.up })
		go p.pump(in, out, func() bool { return p.down })
	}
}

// wait blocks until the direction is open; false when the proxy is closed.
func (p *proxy) wait(open func() bool) bool {
	for {
		p.mu.Lock()
		ok, closed, changed := open(), p.closed, p.changed
		p.mu.Unlock()
		if closed || ok {
			return !closed
		}
		<-changed
	}
}

func (p *proxy) pump(to, from net.Conn, open func() bool) {
	defer p.wg.Done()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !p.wait(open) {
			return
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				from.Close()
			}
			return
		}
	}
}
