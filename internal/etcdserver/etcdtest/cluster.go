// Package etcdtest starts real etcd members inside a test.
package etcdtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/etcdserver"
)

// Cluster is a running etcd cluster whose members can be stopped and started.
type Cluster struct {
	Members []*Member
}

// Member is one of them.
type Member struct {
	Server *etcdserver.Server // nil while stopped
	cfg    etcdserver.Config
}

// Options of Start.
type Options struct {
	Size int            // 1 by default
	TLS  etcdserver.TLS // for clients
	// Heartbeat is 50 ms by default: less makes elections of their own on a
	// busy machine. The election timeout is ten times that, and etcd's shortest
	// lease fifteen times, rounded up to seconds.
	Heartbeat time.Duration
}

// Start runs a cluster until the test ends. It is fast and not durable.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Size == 0 {
		o.Size = 1
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 50 * time.Millisecond
	}
	ports := Ports(t, 2*o.Size)
	scheme := "http"
	if o.TLS.CertFile != "" {
		scheme = "https"
	}
	dir := t.TempDir()
	var peers []string
	c := &Cluster{}
	for i := range o.Size {
		peer := fmt.Sprintf("http://127.0.0.1:%d", ports[2*i])
		name := fmt.Sprintf("etcd%d", i)
		peers = append(peers, name+"="+peer)
		c.Members = append(c.Members, &Member{cfg: etcdserver.Config{
			Name: name, DataDir: filepath.Join(dir, name),
			ListenPeer:   []string{peer},
			ListenClient: []string{fmt.Sprintf("%s://127.0.0.1:%d", scheme, ports[2*i+1])},
			Heartbeat:    o.Heartbeat, ElectionTimeout: 10 * o.Heartbeat,
			ClientTLS: o.TLS, Fast: true, LogLevel: "panic",
		}})
	}
	t.Cleanup(c.stop) // also when one of them does not start
	for _, m := range c.Members {
		m.cfg.InitialCluster = strings.Join(peers, ",")
		m.start(t)
	}
	for _, m := range c.Members {
		m.wait(t)
	}
	return c
}

func (c *Cluster) stop() {
	for _, m := range c.Members {
		m.Stop()
	}
}

// URLs returns the client URLs of all members.
func (c *Cluster) URLs() []string {
	var urls []string
	for _, m := range c.Members {
		urls = append(urls, m.URL())
	}
	return urls
}

// URL is the member's client URL.
func (m *Member) URL() string { return m.cfg.ListenClient[0] }

// Addr is the member's client address.
func (m *Member) Addr() string {
	_, addr, _ := strings.Cut(m.URL(), "://")
	return addr
}

func (m *Member) start(t testing.TB) {
	t.Helper()
	s, err := etcdserver.Start(context.Background(), m.cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Server = s
}

func (m *Member) wait(t testing.TB) {
	t.Helper()
	select {
	case <-m.Server.Ready():
	case <-time.After(60 * time.Second):
		t.Fatalf("etcd member %s is not ready", m.cfg.Name)
	}
}

// Stop ends the member; its data stays.
func (m *Member) Stop() {
	if m.Server != nil {
		m.Server.Close()
		m.Server = nil
	}
}

// Restart starts a stopped member again and waits until it serves.
func (m *Member) Restart(t testing.TB) {
	t.Helper()
	m.start(t)
	m.wait(t)
}

// The range lies below the ephemeral ports, so that nobody is given the port
// of a stopped member by chance.
const firstPort, lastPort = 21000, 21999

// nextPort keeps the tests of one process, and mostly those of others, from
// being given the same port between the look and the listen.
var nextPort atomic.Int64

func init() { nextPort.Store(rand.Int64N(lastPort - firstPort + 1)) }

// Ports returns n free TCP ports.
func Ports(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	const size = lastPort - firstPort + 1
	for tries := 0; len(ports) < n && tries < size; tries++ {
		at := firstPort + int(nextPort.Add(1)%size)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", at))
		if err != nil {
			continue
		}
		_ = l.Close()
		ports = append(ports, at)
	}
	if len(ports) < n {
		t.Fatalf("found %d of %d free ports", len(ports), n)
	}
	return ports
}
