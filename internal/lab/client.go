package lab

import "os/exec"

// ClientAddr is the address of clients on the cluster's network.
func (l *Lab) ClientAddr() string {
	if l.wires == nil {
		return "127.0.0.1"
	}
	return switchAddr
}

// StartClient starts a program as a client on the cluster's network. The caller
// ends it and waits for it.
func (l *Lab) StartClient(cmd *exec.Cmd) error {
	if l.wires == nil {
		return cmd.Start()
	}
	return l.wires.hub.do(cmd.Start)
}
