package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// toolPids finds the processes of pgBackRest that do one thing on a node, the
// first one first and its workers ("restore:local") after it.
func (l *Lab) toolPids(n *Node, target Target) []int {
	name, word, _ := strings.Cut(string(target), " ")
	var out []int
	for _, p := range n.host.tree() {
		if p.comm != name {
			continue
		}
		switch found, worker := toolWord(p.pid); {
		case found != word:
		case worker:
			out = append(out, p.pid)
		default:
			out = slices.Insert(out, 0, p.pid)
		}
	}
	return out
}

// toolWord reads from pgBackRest's command line what it does, and whether it is
// a worker of another one: "restore:local". The command stands behind the options,
// or before them.
func toolWord(pid int) (word string, worker bool) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "", false // ended meanwhile
	}
	for _, arg := range bytes.Split(line, []byte{0})[1:] {
		if text := string(arg); text != "" && !strings.HasPrefix(text, "-") {
			word, _, worker = strings.Cut(text, ":")
			return word, worker
		}
	}
	return "", false
}

// signalTool sends a signal to all of them at once.
func (l *Lab) signalTool(n *Node, target Target, sig syscall.Signal) error {
	pids := l.toolPids(n, target)
	if len(pids) == 0 {
		return fmt.Errorf("signal %s on %s: %w", target, n.Name, errNotRunning)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig) // it may have ended meanwhile
	}
	return nil
}

// WaitProcess waits until a process is there, and gives its pid.
func (l *Lab) WaitProcess(ctx context.Context, n *Node, target Target) (pid int, err error) {
	err = Poll(ctx, func() bool {
		pid, err = l.Pid(n, target)
		return err == nil
	})
	if err != nil {
		return 0, fmt.Errorf("wait for %s on %s: %w", target, n.Name, err)
	}
	return pid, nil
}

// WaitNoProcess waits until no such process is there.
func (l *Lab) WaitNoProcess(ctx context.Context, n *Node, target Target) error {
	err := Poll(ctx, func() bool {
		_, err := l.Pid(n, target)
		return err != nil
	})
	if err != nil {
		return fmt.Errorf("wait for the end of %s on %s: %w", target, n.Name, err)
	}
	return nil
}

// Ctl runs pghactl on a node with that node's configuration and returns what it
// printed, standard error included.
func (l *Lab) Ctl(ctx context.Context, n *Node, args ...string) (string, error) {
	return l.AsServer(ctx, n, filepath.Join(l.bin, "pghactl"), append([]string{"-c", n.Config}, args...)...)
}

// Bin is the directory of the pgha programs, as the nodes see it.
func (l *Lab) Bin() string { return l.bin }

// OwnDir makes a directory of the servers' account.
func (l *Lab) OwnDir(path string) error { return l.makeOwnDir(path) }

// WriteOwnFile writes a file of the servers' account.
func (l *Lab) WriteOwnFile(path string, content []byte, mode os.FileMode) error {
	if err := os.WriteFile(path, content, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	// A file that was there keeps its mode otherwise.
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return l.give(path)
}
