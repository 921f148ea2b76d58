package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/leash"
	"github.com/pgha/pgha/internal/watchdog"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// The test binary is the leash, too.
const leashPartEnv = "PGHA_AGENT_TEST_LEASH"

func init() {
	if os.Getenv(leashPartEnv) != "" {
		runtime.LockOSThread()
		os.Exit(leash.Main(os.Args[1:], os.Stdout))
	}
}

// dogRig is a keeper with a real leash, no server, and a device that is a pipe.
type dogRig struct {
	*testing.T
	*keeper
	ctx   context.Context
	fd    int
	text  string
	wakes chan struct{}
}

func newDogRig(t *testing.T, mode leash.WatchdogMode) *dogRig {
	t.Helper()
	dir, err := os.MkdirTemp("", "dog-") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	dog := filepath.Join(dir, "dog")
	if err := unix.Mkfifo(dog, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &dogRig{T: t, wakes: make(chan struct{}, 1)}
	if r.fd, err = unix.Open(dog, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(leashPartEnv, "1")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	r.ctx = ctx
	o := leash.SpawnOptions{Binary: self, RunDir: filepath.Join(dir, "run"), Quiet: 100 * time.Millisecond, Lmax: time.Minute,
		LogFile: filepath.Join(dir, "log"), Watchdog: leash.WatchdogOptions{Mode: mode, Driver: watchdog.DriverTesting, Device: dog,
			Timeout: time.Second, Longest: time.Second, Tail: time.Second}}
	wake := func() {
		select {
		case r.wakes <- struct{}{}:
		default:
		}
	}
	r.keeper = newKeeper(filepath.Join(dir, "data"), func() leash.SpawnOptions { return o }, wake, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		r.keeper.close(ctx)
		cancel()
		_ = unix.Close(r.fd)
		_ = os.RemoveAll(dir)
	})
	return r
}

func (r *dogRig) read() string {
	var buf [4 << 10]byte
	if n, err := unix.Read(r.fd, buf[:]); err == nil && n > 0 {
		r.text += string(buf[:n])
	}
	return r.text
}

func (r *dogRig) until(what string, ok func() bool) {
	r.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-r.ctx.Done():
			r.Fatalf("%s: never; the device got %q", what, r.read())
		case <-tick.C:
		}
	}
}

func in(d time.Duration) ha.Instant { return now().Add(d) }

// TestFencedAndAlive: a leash that acted at the deadline leaves the device on,
// and a living agent, who hears that nothing is left, switches it off in time.
func TestFencedAndAlive(t *testing.T) {
	r := newDogRig(t, leash.WatchdogRequired)
	if err := r.Arm(r.ctx, 1, in(20*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	if fault := r.Status().Watchdog; fault != "" {
		t.Errorf("fault %q", fault)
	}
	r.until("keepalives", func() bool { return strings.HasSuffix(r.read(), "11") })
	d := in(1500 * time.Millisecond) // a shorter deadline comes with a newer epoch only
	if err := r.Arm(r.ctx, 2, d, 1); err != nil {
		t.Fatal(err)
	}
	r.until("switched off", func() bool {
		off := strings.HasSuffix(r.read(), "V")
		if off && now() < d {
			t.Fatal("switched off before the deadline")
		}
		return off
	})
	if !r.Status().Suspended && r.Status().Armed != 0 {
		t.Errorf("still armed: %+v", r.Status())
	}
}

// TestLostWatchdogIsHeardOf: a device that takes no keepalive any more wakes the
// loop, and is a fault of a node that must have it.
func TestLostWatchdogIsHeardOf(t *testing.T) {
	r := newDogRig(t, leash.WatchdogRequired)
	if err := r.Arm(r.ctx, 1, in(50*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	r.until("keepalives", func() bool { return strings.HasSuffix(r.read(), "11") })
	if err := unix.Close(r.fd); err != nil {
		t.Fatal(err)
	}
	r.fd = -1
	select {
	case <-r.wakes:
	case <-r.ctx.Done():
		t.Fatal("nobody was woken")
	}
	if fault := r.Status().Watchdog; !strings.Contains(fault, "keepalive to watchdog") {
		t.Errorf("fault %q", fault)
	}
	if err := r.Disarm(r.ctx, 1); err != nil {
		t.Fatal(err)
	}
}

// TestBrokenConnection: when the connection breaks and the leash lives, its
// server is not touched.
func TestBrokenConnection(t *testing.T) {
	r := newDogRig(t, leash.WatchdogOff)
	global := filepath.Join(r.dataDir, "global")
	if err := os.MkdirAll(global, 0o700); err != nil {
		t.Fatal(err)
	}
	control := make([]byte, 8192)
	control[0] = 1 // a system identifier
	if err := os.WriteFile(filepath.Join(global, "pg_control"), control, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Arm(r.ctx, 1, in(50*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	// To the leash a server is what it was told to start.
	if err := r.Start(r.ctx, postgres.LaunchSpec{Path: "/bin/sleep", Args: []string{"600"}, DataDir: r.dataDir, Writable: true}); err != nil {
		t.Fatal(err)
	}
	pid, up := r.Running()
	if !up {
		t.Fatal("no server")
	}
	r.mu.Lock()
	broken := r.client
	r.mu.Unlock()
	_ = broken.Close()
	r.until("another connection, to the leash that is armed", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.client != nil && r.client != broken && r.status.Armed
	})
	if now, up := r.Running(); !up || now != pid || unix.Kill(pid, 0) != nil {
		t.Errorf("server %d, now %d (running: %v)", pid, now, up)
	}
	if err := r.Sweep(r.ctx); err != nil {
		t.Error(err)
	}
}
