package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
)

// EtcdLeader gives the index of the etcd member that leads.
func (l *Lab) EtcdLeader(ctx context.Context) (int, error) {
	found := -1
	err := Poll(ctx, func() bool {
		for i, m := range l.etcd {
			var status struct {
				Header struct {
					Member string `json:"member_id"`
				} `json:"header"`
				Leader string `json:"leader"`
			}
			code, err := l.do(ctx, restTimeout, http.MethodPost, m.client, "/v3/maintenance/status", struct{}{}, &status)
			if err == nil && code == http.StatusOK && status.Leader != "" && status.Leader == status.Header.Member {
				found = i
			}
		}
		return found >= 0
	})
	if err != nil {
		return 0, fmt.Errorf("find the leader of etcd: %w", err)
	}
	return found, nil
}

// SignalEtcd sends a signal to one etcd member.
func (l *Lab) SignalEtcd(i int, sig syscall.Signal) error {
	h := l.etcd[i].host
	pid, _, _ := h.running()
	if pid == 0 {
		return fmt.Errorf("signal %s: %w", h.name, errNotRunning)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return fmt.Errorf("signal %s: %w", h.name, err)
	}
	return nil
}

// SaveEtcd stops etcd, copies what its members have on disk, and starts it again: a
// backup of their file systems. It takes a second, which nobody should notice.
func (l *Lab) SaveEtcd(ctx context.Context) error {
	return l.withoutEtcd(ctx, func(data, saved string) error {
		return errors.Join(os.RemoveAll(saved), l.copyTree(data, saved))
	})
}

// RestoreEtcd puts back what SaveEtcd saved, on all members. For those who ask, the
// cluster is the same; what happened since has not.
func (l *Lab) RestoreEtcd(ctx context.Context) error {
	return l.withoutEtcd(ctx, func(data, saved string) error {
		return errors.Join(os.RemoveAll(data), l.copyTree(saved, data))
	})
}

func (l *Lab) withoutEtcd(ctx context.Context, do func(data, saved string) error) error {
	for i := range l.etcd {
		if err := l.StopEtcdMember(i); err != nil {
			return err
		}
	}
	for _, m := range l.etcd {
		if err := do(filepath.Join(m.host.dir, "data"), filepath.Join(m.host.dir, "saved")); err != nil {
			return fmt.Errorf("copy data of %s: %w", m.host.name, err)
		}
	}
	return l.StartEtcd(ctx)
}

func (l *Lab) copyTree(from, to string) error { return command("cp", "-a", from, to) }

// Dial connects as a client on the cluster's network, for the clients of others.
func (l *Lab) Dial(ctx context.Context, address string) (net.Conn, error) {
	return l.dialClient()(ctx, "tcp", address)
}
