package lab

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// Beside is a program of somebody else's that runs on a node's host.
type Beside struct {
	cmd *exec.Cmd
	out strings.Builder
}

// RunBeside starts a program on a node's network, as the rig's own account. It
// outlives the node's power: stop it before the lab is closed.
func (l *Lab) RunBeside(n *Node, name string, args ...string) (*Beside, error) {
	b := &Beside{cmd: exec.Command(name, args...)}
	b.cmd.Stdout, b.cmd.Stderr = &b.out, &b.out
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.host.ns.do(b.cmd.Start); err != nil {
		return nil, fmt.Errorf("run %s on %s: %w", name, n.Name, err)
	}
	return b, nil
}

// Stop ends the program and returns what it has printed.
func (b *Beside) Stop() string {
	_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
	_ = b.cmd.Wait() // it was killed
	return b.out.String()
}
