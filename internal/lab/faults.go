package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgha/pgha/internal/leash"
)

// Target is a process (or all of them) on a node.
type Target string

// What a fault can hit. The last two are pgBackRest at its work, not the processes
// that archive or fetch WAL.
const (
	Agent      Target = "agent"
	Leash      Target = "leash"
	Postmaster Target = "postmaster"
	Everything Target = "everything"
	InitDB     Target = "initdb"
	BackupRun  Target = "pgbackrest backup"
	RestoreRun Target = "pgbackrest restore"
)

// ErrNoNamespaces is returned by network faults in a Loopback lab.
var ErrNoNamespaces = errors.New("network faults need a lab in namespaces")

// errNotRunning tells that the process aimed at is not there.
var errNotRunning = errors.New("not running")

// Pid finds a process of a node.
func (l *Lab) Pid(n *Node, target Target) (int, error) {
	if target == Agent {
		if pid, _, _ := n.host.running(); pid != 0 {
			return pid, nil
		}
		return 0, fmt.Errorf("find agent of %s: %w", n.Name, errNotRunning)
	}
	if target == BackupRun || target == RestoreRun {
		if pids := l.toolPids(n, target); len(pids) > 0 {
			return pids[0], nil
		}
		return 0, fmt.Errorf("find %s on %s: %w", target, n.Name, errNotRunning)
	}
	want := map[Target]string{Leash: "pgha-leash", Postmaster: "postgres", InitDB: "initdb"}[target]
	server, _ := postmasterPid(n.DataDir)
	for _, p := range n.host.tree() {
		if p.comm == want && (target != Postmaster || p.pid == server) {
			return p.pid, nil
		}
	}
	return 0, fmt.Errorf("find %s of %s: %w", target, n.Name, errNotRunning)
}

func postmasterPid(dataDir string) (int, error) {
	doc, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(doc), "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}

// WaitReplaced waits until a process of a node runs that is not old.
func (l *Lab) WaitReplaced(ctx context.Context, n *Node, target Target, old int) error {
	err := Poll(ctx, func() bool {
		pid, err := l.Pid(n, target)
		return err == nil && pid != old
	})
	if err != nil {
		return fmt.Errorf("wait for a new %s on %s: %w", target, n.Name, err)
	}
	return nil
}

// Signal sends a signal to a process of a node; Everything means every process
// there but the rig's own init.
func (l *Lab) Signal(n *Node, target Target, sig syscall.Signal) error {
	if target == Everything {
		for _, p := range n.host.tree() {
			_ = syscall.Kill(p.pid, sig)
		}
		return nil
	}
	if target == BackupRun || target == RestoreRun {
		return l.signalTool(n, target, sig)
	}
	pid, err := l.Pid(n, target)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return fmt.Errorf("signal %s of %s: %w", target, n.Name, err)
	}
	return nil
}

// Kill sends SIGKILL to one process of a node, or kills all of them at once.
func (l *Lab) Kill(n *Node, target Target) error {
	if target == Everything {
		return n.host.order(order{Do: "killall"})
	}
	return l.Signal(n, target, syscall.SIGKILL)
}

// PowerOff cuts a node's network, where there is one, and kills every process
// on it at once: peers get no farewell.
func (l *Lab) PowerOff(n *Node) error {
	if l.wires != nil {
		if err := l.wires.unplug(n.Name); err != nil {
			return err
		}
	}
	return l.Kill(n, Everything)
}

// PowerOn undoes PowerOff: network back, agent started as at boot.
func (l *Lab) PowerOn(n *Node) error {
	if err := l.PlugIn(n); err != nil {
		return err
	}
	return l.StartAgent(n)
}

// PlugIn gives a node that was powered off its network back, and no more.
func (l *Lab) PlugIn(n *Node) error {
	if l.wires == nil {
		return nil
	}
	return l.wires.plug(n.Name)
}

// StopAgent sends SIGTERM to the agent and waits until it has ended; the agent
// then has handed over and stopped PostgreSQL. It returns how the agent ended.
func (l *Lab) StopAgent(ctx context.Context, n *Node) (status string, err error) {
	if err := l.Signal(n, Agent, syscall.SIGTERM); err != nil {
		return "", err
	}
	if err := n.host.waitEnded(ctx); err != nil {
		return "", err
	}
	_, status, _ = n.host.running()
	return status, nil
}

// WaitAgentEnd waits until the agent of a node has ended by itself.
func (l *Lab) WaitAgentEnd(ctx context.Context, n *Node) (status string, err error) {
	if err := n.host.waitEnded(ctx); err != nil {
		return "", err
	}
	_, status, _ = n.host.running()
	return status, nil
}

// SignalSenders sends a signal to the WAL senders of a node's server. Stopped
// (SIGSTOP), they keep from the replicas what the primary goes on writing.
func (l *Lab) SignalSenders(n *Node, sig syscall.Signal) error {
	return l.signalTitled(n, "walsender", sig)
}

// SignalReceiver sends a signal to the WAL receiver of a node's server.
func (l *Lab) SignalReceiver(n *Node, sig syscall.Signal) error {
	return l.signalTitled(n, "walreceiver", sig)
}

// SignalCheckpointer sends a signal to the checkpointer of a node's server.
func (l *Lab) SignalCheckpointer(n *Node, sig syscall.Signal) error {
	return l.signalTitled(n, "checkpointer", sig)
}

func (l *Lab) signalTitled(n *Node, word string, sig syscall.Signal) error {
	hit := 0
	for _, p := range n.host.tree() {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
		if err == nil && strings.HasPrefix(string(title), "postgres: ") && strings.Contains(string(title), word) {
			if err := syscall.Kill(p.pid, sig); err == nil {
				hit++
			}
		}
	}
	if hit == 0 {
		return fmt.Errorf("signal %s of %s: %w", word, n.Name, errNotRunning)
	}
	return nil
}

// Deadline gives the instant until which the leash of a node lets its server run,
// the last one it was told; 0 when it never was.
func (l *Lab) Deadline(n *Node) (time.Duration, error) {
	e, err := leash.LastExtension(filepath.Join(n.Dir, "run"))
	return time.Duration(e.Deadline), err
}

// SignalBackend sends a signal to one backend of a node's server that serves a
// client on the network.
func (l *Lab) SignalBackend(n *Node, sig syscall.Signal) error {
	for _, p := range n.host.tree() {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
		if err == nil && strings.HasPrefix(string(title), "postgres: ") && strings.Contains(string(title), " "+switchAddr+"(") {
			if err := syscall.Kill(p.pid, sig); err == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("signal a backend of %s: %w", n.Name, errNotRunning)
}

// Pids lists what runs on a node.
func (l *Lab) Pids(n *Node) []int {
	var out []int
	for _, p := range n.host.tree() {
		out = append(out, p.pid)
	}
	return out
}

// AgentLog gives what the node's agent has logged from an offset on, and the
// offset of its end.
func (l *Lab) AgentLog(n *Node, from int64) (text string, end int64) {
	doc, err := os.ReadFile(n.AgentLog)
	if err != nil || from > int64(len(doc)) {
		return "", from
	}
	return string(doc[from:]), int64(len(doc))
}

// AsServer runs a command on the node's host as the servers' account and
// returns its output.
func (l *Lab) AsServer(ctx context.Context, n *Node, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = n.Dir
	cmd.Env = l.environ()
	if l.account.change {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: uint32(l.account.uid), Gid: uint32(l.account.gid)},
		}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := n.host.ns.do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return out.String(), fmt.Errorf("run %s on %s: %w: %s", filepath.Base(name), n.Name, err, &out)
	}
	return out.String(), nil
}

// ServerRuns tells whether any PostgreSQL process lives on the node.
func (l *Lab) ServerRuns(n *Node) bool {
	for _, p := range n.host.tree() {
		if p.comm == "postgres" {
			return true
		}
	}
	return false
}

// Cut is the scope of a network cut.
type Cut int

// What a node is cut off from.
const (
	FromAll   Cut = iota // its cable is out; programs on the node still reach its PostgreSQL
	FromEtcd             // every etcd member, while clients and peers reach it
	FromPeers            // the other database nodes only
)

// Isolate loses, silently, everything between a node and part of the network.
func (l *Lab) Isolate(n *Node, c Cut) error {
	if l.wires == nil {
		return ErrNoNamespaces
	}
	if c == FromAll {
		return l.wires.unplug(n.Name)
	}
	return l.eachPeer(n, c, l.wires.cut)
}

// Heal undoes Isolate.
func (l *Lab) Heal(n *Node, c Cut) error {
	if l.wires == nil {
		return ErrNoNamespaces
	}
	if c == FromAll {
		return l.wires.plug(n.Name)
	}
	return l.eachPeer(n, c, l.wires.mend)
}

func (l *Lab) eachPeer(n *Node, c Cut, act func(a, b string) error) error {
	for _, h := range l.hosts() {
		isEtcd := l.Node(h.name) == nil
		if h == n.host || isEtcd != (c == FromEtcd) {
			continue
		}
		if err := act(n.Name, h.name); err != nil {
			return err
		}
	}
	return nil
}
