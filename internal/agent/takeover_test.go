package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/leash"
)

// TestTakeOver: a server that an operator started by hand while the agent runs is
// guarded from then on, and stops when a server of our own would.
func TestTakeOver(t *testing.T) {
	r := newDogRig(t, leash.WatchdogOff)
	global := filepath.Join(r.dataDir, "global")
	if err := os.MkdirAll(global, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(r.dataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	control := make([]byte, 8192)
	control[0] = 1 // a system identifier
	if err := os.WriteFile(filepath.Join(global, "pg_control"), control, 0o600); err != nil {
		t.Fatal(err)
	}
	r.takeOver(r.ctx)
	if _, up := r.Running(); up {
		t.Fatal("took over a server where there is none")
	}
	// To the leash a postmaster is a program of that name in that directory.
	program, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "postgres")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(path, "600")
	server.Dir = r.dataDir
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = server.Wait() // killed
		close(ended)
	}()
	pidFile := fmt.Sprintf("%d\n%s\n%d\n5432\n\n\n", server.Process.Pid, r.dataDir, time.Now().Unix())
	if err := os.WriteFile(filepath.Join(r.dataDir, "postmaster.pid"), []byte(pidFile), 0o600); err != nil {
		t.Fatal(err)
	}
	r.takeOver(r.ctx)
	if pid, up := r.Running(); !up || pid != server.Process.Pid {
		t.Fatalf("the server is %d (running: %v), want %d; not taken over: %s", pid, up, server.Process.Pid, r.foreign)
	}
	r.takeOver(r.ctx) // once is enough
	if err := r.Arm(r.ctx, 1, in(300*time.Millisecond), 1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-r.ctx.Done():
		t.Error("it outlived the deadline")
	}
}
