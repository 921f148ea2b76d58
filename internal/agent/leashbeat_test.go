package agent

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/leash"
)

// TestHungLeashIsKilled: the deadline of a leash that does not look any more could
// pass unnoticed; in pause, or with nothing to guard, it is left alone.
func TestHungLeashIsKilled(t *testing.T) {
	r := newDogRig(t, leash.WatchdogOff)
	if r.needed() {
		t.Error("a leash that guards nothing is expected to beat")
	}
	if err := r.Arm(r.ctx, 1, in(50*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	if err := r.Suspend(r.ctx); err != nil {
		t.Fatal(err)
	}
	if r.needed() {
		t.Error("a suspended leash is expected to beat")
	}
	if err := r.Arm(r.ctx, 1, in(50*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	if !r.needed() {
		t.Fatal("an armed leash is not expected to beat")
	}
	r.mu.Lock()
	pid := r.status.PID
	r.mu.Unlock()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.until("connection to the hung leash ends", func() bool { return !r.Status().Attached })
}
