package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ExecLauncher runs the server as a direct child, without any deadline. It
// takes the place of the leash in tests; in production nothing would stop the
// server when the agent dies.
type ExecLauncher struct {
	mu     sync.Mutex
	cmd    *exec.Cmd
	dir    string
	exited chan struct{}
}

var _ Launcher = (*ExecLauncher)(nil)

// Start implements Launcher.
func (l *ExecLauncher) Start(_ context.Context, spec LaunchSpec) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cmd != nil {
		return ErrRunning
	}
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env, cmd.Dir = spec.Env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if spec.LogPath != "" {
		f, err := os.OpenFile(spec.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("open server log: %w", err)
		}
		defer f.Close()
		cmd.Stdout, cmd.Stderr = f, f
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.cmd, l.dir, l.exited = cmd, spec.DataDir, make(chan struct{})
	go l.wait(cmd, spec.DataDir, l.exited)
	return nil
}

// wait owns one server: it ends when the postmaster and all orphans are gone.
func (l *ExecLauncher) wait(cmd *exec.Cmd, dir string, exited chan struct{}) {
	_ = cmd.Wait() // the exit status is of no interest
	b := backoff{next: time.Millisecond, max: 50 * time.Millisecond}
	for len(serverProcesses(dir)) > 0 {
		_ = b.wait(context.Background(), nil)
	}
	l.mu.Lock()
	l.cmd = nil
	l.mu.Unlock()
	close(exited)
}

// Signal implements Launcher.
func (l *ExecLauncher) Signal(_ context.Context, sig unix.Signal) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cmd == nil {
		return ErrNotRunning
	}
	return l.cmd.Process.Signal(sig)
}

// Sweep implements Launcher: the postmaster is stopped first, so that it forks
// no more, then everything is killed (safety P5).
func (l *ExecLauncher) Sweep(ctx context.Context) error {
	l.mu.Lock()
	cmd, dir, exited := l.cmd, l.dir, l.exited
	l.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(unix.SIGSTOP)
	for _, pid := range serverProcesses(dir) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-exited:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Running implements Launcher.
func (l *ExecLauncher) Running() (pid int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cmd == nil {
		return 0, false
	}
	return l.cmd.Process.Pid, true
}

// Exited implements Launcher.
func (l *ExecLauncher) Exited() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.exited == nil {
		l.exited = make(chan struct{})
		close(l.exited)
	}
	return l.exited
}

// serverProcesses lists the live processes that work in dir, as every process
// of a server does.
func serverProcesses(dir string) []int {
	want, err := os.Stat(dir)
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A zombie has no working directory any more.
		cwd, err := os.Stat(filepath.Join("/proc", e.Name(), "cwd"))
		if err == nil && os.SameFile(cwd, want) {
			pids = append(pids, pid)
		}
	}
	return pids
}
