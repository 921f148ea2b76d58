package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const enclosedEnv = "PGHA_LAB_ENCLOSED"

// Enclose runs the calling program once more in PID and mount namespaces of its own,
// and gives that run's exit code; in the inner run itself it prepares those
// namespaces and says so. No kill of a rig can then hit anything outside of it, and
// whatever ends the rig ends its processes and mounts too. It needs root, and must
// be called first in main.
func Enclose() (inside bool, code int, err error) {
	if os.Getenv(enclosedEnv) != "" {
		return true, 0, furnish()
	}
	// The inner run dies with the thread that made it.
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		return false, 1, fmt.Errorf("find own executable: %w", err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), enclosedEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		Pdeathsig:  unix.SIGKILL,
	}
	// Ctrl-C reaches both; the inner run takes down its clusters first.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	if err := cmd.Start(); err != nil {
		return false, 1, fmt.Errorf("run in namespaces of its own: %w", err)
	}
	go func() {
		for range signals {
			_ = cmd.Process.Signal(unix.SIGTERM)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return false, exit.ExitCode(), nil
	}
	return false, 0, err
}

// furnish gives the namespaces a process table and a list of network namespaces of
// their own, and keeps mounts inside.
func furnish() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", netnsDir, err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("netns", netnsDir, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount %s: %w", netnsDir, err)
	}
	return nil
}
