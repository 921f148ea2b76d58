package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	netnsDir    = "/run/netns"
	netnsPrefix = "pgha-"
	switchAddr  = "192.0.2.254" // of the rig itself, as a client
	// nowhere is a hardware address nobody has: frames sent to it are lost on
	// the wire, as if the cable to that one peer were cut.
	nowhere = "02:00:00:00:00:00"
)

// namespace is an open network namespace. A nil namespace is the rig's own.
type namespace struct {
	name string
	file *os.File
}

// do runs f on a thread inside the namespace. Sockets made and processes
// started by f belong to it.
func (n *namespace) do(f func() error) error {
	if n == nil {
		return f()
	}
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() { _ = own.Close() }()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", n.name, err)
	}
	result := f()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		// The thread stays locked and dies with its goroutine: better than a
		// stray thread in a foreign network.
		return fmt.Errorf("leave network namespace %s: %w", n.name, err)
	}
	runtime.UnlockOSThread()
	return result
}

// dial connects from inside the namespace. The address must hold an IP, so that
// no resolver goroutine leaves the thread.
func (n *namespace) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	var d net.Dialer
	err = n.do(func() error {
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// wires is the network of a Namespaces lab: a bridge in a namespace of its own
// and one namespace per host.
type wires struct {
	prefix string
	hub    *namespace // holds the bridge; the rig's clients live here
	hosts  map[string]*namespace
	addrs  map[string]string
}

// newWires builds the network for hosts (name to address).
func newWires(addrs map[string]string) (*wires, error) {
	removeStaleNamespaces()
	suffix := make([]byte, 3)
	if _, err := rand.Read(suffix); err != nil {
		return nil, err
	}
	// The pid tells a later rig whether the owner of a left-over lives.
	w := &wires{
		prefix: fmt.Sprintf("%s%s-%d-", netnsPrefix, hex.EncodeToString(suffix), os.Getpid()),
		hosts:  map[string]*namespace{},
		addrs:  addrs,
	}
	if err := w.build(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *wires) build() error {
	var err error
	hub := w.prefix + "hub"
	if w.hub, err = addNamespace(hub); err != nil {
		return err
	}
	err = ip(hub, "link set lo up", "link add br0 type bridge forward_delay 0",
		"addr add "+switchAddr+"/24 dev br0", "link set br0 up")
	if err != nil {
		return err
	}
	for name, addr := range w.addrs {
		ns, err := addNamespace(w.prefix + name)
		if err != nil {
			return err
		}
		w.hosts[name] = ns
		err = ip(hub, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", name, ns.name),
			fmt.Sprintf("link set %s master br0 up", name))
		if err == nil {
			err = ip(ns.name, "link set lo up", "addr add "+addr+"/24 dev eth0", "link set eth0 up")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unplug takes the host off the bridge: everything it sends is lost, silently.
func (w *wires) unplug(host string) error { return ip(w.hub.name, "link set "+host+" nomaster") }

// plug connects the host to the bridge.
func (w *wires) plug(host string) error { return ip(w.hub.name, "link set "+host+" master br0") }

// cut loses everything between two hosts, in both directions.
func (w *wires) cut(a, b string) error {
	if err := w.cutOneWay(a, b); err != nil {
		return err
	}
	return w.cutOneWay(b, a)
}

// cutOneWay loses what one host sends to another.
func (w *wires) cutOneWay(from, to string) error {
	return ip(w.hosts[from].name, w.neighbour(to, "replace", " lladdr "+nowhere+" nud permanent"))
}

// mend undoes cut.
func (w *wires) mend(a, b string) error {
	if err := w.mendOneWay(a, b); err != nil {
		return err
	}
	return w.mendOneWay(b, a)
}

// mendOneWay undoes cutOneWay.
func (w *wires) mendOneWay(from, to string) error {
	return ip(w.hosts[from].name, w.neighbour(to, "del", ""))
}

func (w *wires) neighbour(peer, verb, how string) string {
	return fmt.Sprintf("neigh %s %s%s dev eth0", verb, w.addrs[peer], how)
}

func (w *wires) close() {
	for _, ns := range w.hosts {
		ns.remove()
	}
	if w.hub != nil {
		w.hub.remove()
	}
}

func addNamespace(name string) (*namespace, error) {
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("add network namespace: %w: %s", err, strings.TrimSpace(string(out)))
	}
	f, err := os.Open(filepath.Join(netnsDir, name))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return &namespace{name: name, file: f}, nil
}

func (n *namespace) remove() {
	_ = n.file.Close()
	_ = exec.Command("ip", "netns", "del", n.name).Run()
}

// ip runs a batch of ip commands inside a namespace.
func ip(ns string, lines ...string) error {
	cmd := exec.Command("ip", "-n", ns, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -n %s (%s): %w: %s", ns, strings.Join(lines, "; "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// removeStaleNamespaces deletes namespaces of rigs that were killed.
func removeStaleNamespaces() {
	entries, _ := os.ReadDir(netnsDir)
	for _, e := range entries {
		if pid, ok := ownerOf(e.Name()); ok && unix.Kill(pid, 0) == unix.ESRCH {
			_ = exec.Command("ip", "netns", "del", e.Name()).Run()
		}
	}
}

// ownerOf reads the rig's pid from a namespace's name, pgha-RANDOM-PID-HOST.
func ownerOf(name string) (int, bool) {
	parts := strings.SplitN(name, "-", 4)
	if len(parts) != 4 || parts[0]+"-" != netnsPrefix {
		return 0, false
	}
	pid, err := strconv.Atoi(parts[2])
	return pid, err == nil && pid > 0
}
