package postgres

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

type noLauncher struct{ Launcher }

func toolServer(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := New(Options{Config: config.Postgres{DataDir: dir}, Process: noLauncher{}, Name: "a", StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A worker that outlives its killed parent is ended before run returns.
func TestRunEndsOrphansOfAKilledTool(t *testing.T) {
	s := toolServer(t, t.TempDir()+"/data")
	_, err := s.run(context.Background(), command{path: "/bin/sh", args: []string{"-c", "setsid sleep 60 >/dev/null 2>&1 & kill -9 $$"}})
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the tool was not killed: %v", err)
	}
	if left := marked(func(m string) bool { return strings.Contains(m, s.life) }); len(left) != 0 {
		t.Errorf("processes %v of the run are still there", left)
	}
}

// What an agent before this one has left behind on the same directory is ended by
// Begin; another directory's, and our own, are let alone.
func TestBeginEndsLeftovers(t *testing.T) {
	dir := t.TempDir()
	before, s := toolServer(t, dir+"/data"), toolServer(t, dir+"/data")
	other := toolServer(t, dir+"/other")
	gone := make(chan error, 1)
	start := func(of *Server) *exec.Cmd {
		cmd := exec.Command("sleep", "60")
		cmd.Env = []string{of.markOf()}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	orphan, own, foreign := start(before), start(s), start(other)
	defer func() {
		for _, c := range []*exec.Cmd{own, foreign} {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}()
	go func() { gone <- orphan.Wait() }()
	if err := s.Begin(KindClone, false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the leftover of an earlier agent still runs")
	}
	for _, c := range []*exec.Cmd{own, foreign} {
		if err := c.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("process %d was ended, too: %v", c.Process.Pid, err)
		}
	}
}
