package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ExecLauncher runs the server as a direct child, without any deadline: nothing
// stops the server when the agent hangs or dies. It takes the place of the leash
// in tests, and where pgha.leash is off.
type ExecLauncher struct {
	// Ended, when set, is called after a server and all its orphans are gone.
	Ended func()

	mu     sync.Mutex
	pid    int // 0: no server
	pidfd  int
	dir    string
	exited chan struct{}
}

var _ Launcher = (*ExecLauncher)(nil)

// Start implements Launcher.
func (l *ExecLauncher) Start(_ context.Context, spec LaunchSpec) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pid != 0 {
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
	// Nobody reaps it before hold waits for it, so the pid is still its own.
	return l.hold(cmd.Process.Pid, spec.DataDir)
}

// Adopt takes over the server of dir that runs already, if there is one.
func (l *ExecLauncher) Adopt(dir string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil || l.pid != 0 {
		return nil //nolint:nilerr // without a readable pid file nothing runs there
	}
	p, err := parsePidFile(string(text))
	if err != nil || p.PID <= 1 || !slices.Contains(serverProcesses(dir), p.PID) {
		return nil //nolint:nilerr // likewise
	}
	return l.hold(p.PID, dir)
}

// hold watches a live server; the lock is held.
func (l *ExecLauncher) hold(pid int, dir string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("watch server %d: %w", pid, err)
	}
	l.pid, l.pidfd, l.dir, l.exited = pid, fd, dir, make(chan struct{})
	go l.wait(pid, fd, dir, l.exited)
	return nil
}

// wait owns one server: it ends when the postmaster and all orphans are gone.
func (l *ExecLauncher) wait(pid, fd int, dir string, exited chan struct{}) {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, -1); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // no child of ours, if it was adopted
	b := backoff{next: time.Millisecond, max: 50 * time.Millisecond}
	for len(serverProcesses(dir)) > 0 {
		_ = b.wait(context.Background(), nil)
	}
	l.mu.Lock()
	l.pid = 0
	_ = unix.Close(fd)
	l.mu.Unlock()
	close(exited)
	if l.Ended != nil {
		l.Ended()
	}
}

// Signal implements Launcher.
func (l *ExecLauncher) Signal(_ context.Context, sig unix.Signal) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pid == 0 {
		return ErrNotRunning
	}
	return unix.PidfdSendSignal(l.pidfd, sig, nil, 0)
}

// Sweep implements Launcher: the postmaster is stopped first, so that it forks
// no more, then everything is killed (safety P5).
func (l *ExecLauncher) Sweep(ctx context.Context) error {
	l.mu.Lock()
	dir, exited := l.dir, l.exited
	running := l.pid != 0
	l.mu.Unlock()
	if !running {
		return nil
	}
	_ = l.Signal(ctx, unix.SIGSTOP) // it may be gone already
	for _, pid := range serverProcesses(dir) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if err := l.Signal(ctx, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, ErrNotRunning) {
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
	return l.pid, l.pid != 0
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
