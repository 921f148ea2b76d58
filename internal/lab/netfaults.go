package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrNoIptables is returned by faults that need iptables.
var ErrNoIptables = errors.New("no iptables here (scripts/deps.sh chaos installs it)")

// Direction of a one-way loss, seen from the node.
type Direction int

// The two directions.
const (
	Outgoing Direction = iota // what the node sends is lost
	Incoming                  // what is sent to it is lost
)

// IsolateOneWay loses, silently, one direction between a node and part of the
// network (not FromAll).
func (l *Lab) IsolateOneWay(n *Node, c Cut, d Direction) error {
	if l.wires == nil {
		return ErrNoNamespaces
	}
	return l.eachPeer(n, c, directed(d, l.wires.cutOneWay))
}

// HealOneWay undoes IsolateOneWay.
func (l *Lab) HealOneWay(n *Node, c Cut, d Direction) error {
	if l.wires == nil {
		return ErrNoNamespaces
	}
	return l.eachPeer(n, c, directed(d, l.wires.mendOneWay))
}

func directed(d Direction, act func(from, to string) error) func(node, peer string) error {
	if d == Outgoing {
		return act
	}
	return func(node, peer string) error { return act(peer, node) }
}

// Lose drops a share of the packets between a node and every etcd member, in both
// directions; KeepAll undoes it.
func (l *Lab) Lose(n *Node, percent int) error {
	for _, m := range l.etcd {
		share := []string{"-m", "statistic", "--mode", "random", "--probability", strconv.FormatFloat(float64(percent)/100, 'f', 2, 64), "-j", "DROP"}
		if err := l.iptables(n, append([]string{"-A", "INPUT", "-s", m.host.addr}, share...)...); err != nil {
			return err
		}
		if err := l.iptables(n, append([]string{"-A", "OUTPUT", "-d", m.host.addr}, share...)...); err != nil {
			return err
		}
	}
	return nil
}

// KeepAll undoes Lose.
func (l *Lab) KeepAll(n *Node) error { return l.iptables(n, "-F") }

func (l *Lab) iptables(n *Node, args ...string) error {
	if l.wires == nil {
		return ErrNoNamespaces
	}
	path, err := exec.LookPath("iptables")
	if err != nil {
		return ErrNoIptables
	}
	return l.inNode(n, path, append([]string{"-w"}, args...)...)
}

// inNode runs a command of the rig's on a node's network.
func (l *Lab) inNode(n *Node, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := n.host.ns.do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s %s on %s: %w: %s", name, strings.Join(args, " "), n.Name, err, strings.TrimSpace(out.String()))
	}
	return nil
}

// Slow is a delay between a node and etcd, in force until End.
type Slow struct {
	lab       *Lab
	node      *Node
	listeners []net.Listener
	wg        sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// Delay leads what a node says to etcd through proxies that hold every piece for d,
// each way. Connections that exist are reset.
func (l *Lab) Delay(n *Node, d time.Duration) (*Slow, error) {
	if l.wires == nil {
		return nil, ErrNoNamespaces
	}
	s := &Slow{lab: l, node: n}
	for _, m := range l.etcd {
		var ln net.Listener
		err := l.wires.hub.do(func() (err error) {
			ln, err = net.Listen("tcp", net.JoinHostPort(switchAddr, "0"))
			return err
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for a slow connection: %w", err), s.End())
		}
		s.listeners = append(s.listeners, ln)
		s.wg.Go(func() { s.serve(ln, m.client, d) })
		host, port, err := net.SplitHostPort(m.client)
		if err == nil {
			err = l.iptables(n, "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", host, "--dport", port, "-j", "DNAT", "--to", ln.Addr().String())
		}
		if err != nil {
			return nil, errors.Join(err, s.End())
		}
	}
	return s, l.resetEtcd(n)
}

// resetEtcd breaks the connections a node has to etcd, with a reset, so that the
// next ones go where NAT now says.
func (l *Lab) resetEtcd(n *Node) error {
	rule := []string{"OUTPUT", "-p", "tcp", "--dport", "2379", "-m", "state", "--state", "ESTABLISHED", "-j", "REJECT", "--reject-with", "tcp-reset"}
	if err := l.iptables(n, append([]string{"-I"}, rule...)...); err != nil {
		return err
	}
	// Every connection says something within a heartbeat or a renewal.
	pauseFor(resetTime)
	return l.iptables(n, append([]string{"-D"}, rule...)...)
}

// resetTime is how long resets are sent.
const resetTime = 300 * time.Millisecond

func pauseFor(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

func (s *Slow) serve(ln net.Listener, to string, d time.Duration) {
	for {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			var out net.Conn
			err := s.lab.wires.hub.do(func() (err error) {
				out, err = net.DialTimeout("tcp", to, connectTimeout)
				return err
			})
			if err != nil {
				_ = in.Close()
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, in, out)
			s.mu.Unlock()
			s.wg.Go(func() { holdBack(in, out, d) })
			holdBack(out, in, d)
		})
	}
}

// holdBack copies from one connection to the other, each piece d later.
func holdBack(from, to net.Conn, d time.Duration) {
	type piece struct {
		due  time.Duration
		data []byte
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer close(pieces)
		for {
			buf := make([]byte, 16<<10)
			n, err := from.Read(buf)
			if n > 0 {
				pieces <- piece{Boottime() + d, buf[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() { _ = to.Close() }()
	for p := range pieces {
		if wait := p.due - Boottime(); wait > 0 {
			pauseFor(wait)
		}
		if _, err := to.Write(p.data); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			_ = from.Close()
		}
	}
}

// End undoes Delay.
func (s *Slow) End() error {
	err := s.lab.iptables(s.node, "-t", "nat", "-F")
	for _, ln := range s.listeners {
		_ = ln.Close()
	}
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}
