package leash

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/watchdog"
)

// pipe is the reading end of the testing driver's device.
type pipe struct {
	*rig
	path string
	fd   int
	all  string
}

// watchdog makes a device of the testing driver and tells the rig to use it.
// The limit is the deadline itself, the timeout one second.
func (r *rig) watchdog(mode WatchdogMode) *pipe {
	r.Helper()
	p := &pipe{rig: r, path: filepath.Join(r.base, "dog"), fd: -1}
	r.must(unix.Mkfifo(p.path, 0o600))
	var err error
	p.fd, err = unix.Open(p.path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	r.must(err)
	r.Cleanup(func() { _ = unix.Close(p.fd) })
	r.options.Watchdog = WatchdogOptions{Mode: mode, Driver: watchdog.DriverTesting, Device: p.path,
		Timeout: time.Second, Longest: 2 * time.Second}
	return p
}

// text is everything that came so far.
func (p *pipe) text() string {
	var buf [4 << 10]byte
	for {
		n, err := unix.Read(p.fd, buf[:])
		if err != nil || n <= 0 {
			return p.all
		}
		p.all += string(buf[:n])
	}
}

func (p *pipe) pings() int { return strings.Count(p.text(), "1") - 1 } // one belongs to the timeout

func (p *pipe) want(what string, ok func() bool) {
	p.Helper()
	if !p.eventually(10*time.Second, ok) {
		p.Fatalf("%s: the device got %q, leash says %+v", what, p.text(), *p.status().Watchdog)
	}
}

func (r *rig) status() Status {
	r.Helper()
	st, err := r.agent.Status(r.ctx)
	r.must(err)
	return st
}

// TestWatchdog: opened with the first arm, fed while the deadline moves, left
// alone by a fence, and switched off when the agent disarms after it.
func TestWatchdog(t *testing.T) {
	r := newRig(t)
	dog := r.watchdog(WatchdogRequired)
	r.spawn()
	if st := r.status(); st.Watchdog == nil || st.Watchdog.Open || dog.text() != "" {
		t.Fatalf("before the first arm: %+v, the device got %q", st.Watchdog, dog.text())
	}
	r.must(r.agent.Arm(r.ctx, 1, in(20*time.Second)))
	if !strings.HasPrefix(dog.text(), "Ctimeout=1\n") {
		t.Fatalf("the device got %q", dog.text())
	}
	r.start(true)
	if w := *r.status().Watchdog; !w.InForce || w.Timeout != time.Second || w.Why != "" || w.Mode != "required" {
		t.Errorf("status %+v", w)
	}
	before := dog.pings()
	dog.want("keepalives", func() bool { return dog.pings() >= before+3 })
	if len(r.status().Degraded) > 0 {
		t.Errorf("degraded: %v", r.status().Degraded)
	}

	d := in(2500 * time.Millisecond)
	r.must(r.agent.Arm(r.ctx, 2, d))
	before, last := dog.pings(), int64(0)
	r.eventually(10*time.Second, func() bool {
		if n := dog.pings(); n > before {
			before, last = n, Now()
		}
		return Now() > d
	})
	// A reader that is late sees a keepalive after it was sent.
	if limit := d - int64(time.Second) + int64(slack); last > limit || last == 0 {
		t.Errorf("the last keepalive came %v before the deadline, want at least the timeout of 1 s", time.Duration(d-last))
	}
	r.event(ServerExited, 10*time.Second)
	r.gone()
	st := r.status()
	if strings.Contains(dog.text(), "V") || !st.Watchdog.Open || st.Watchdog.InForce || dog.pings() != before {
		t.Errorf("after the fence: %+v, the device got %q", st.Watchdog, dog.text())
	}
	r.must(r.agent.Disarm(r.ctx, 2))
	dog.want("disarm", func() bool { return strings.HasSuffix(dog.text(), "1V") })
	if r.status().Watchdog.Open {
		t.Error("open after the disarm")
	}
}

// TestWatchdogSwitchedOff: in pause, opened again on resume, and when the leash
// leaves; a second arm opens no second time.
func TestWatchdogSwitchedOff(t *testing.T) {
	r := newRig(t)
	dog := r.watchdog(WatchdogAutomatic)
	r.primary(in(20 * time.Second))
	r.must(r.agent.Arm(r.ctx, 2, in(20*time.Second)))
	r.must(r.agent.Suspend(r.ctx, "pause"))
	dog.want("pause", func() bool { return strings.HasSuffix(dog.text(), "V") })
	r.must(r.agent.Resume(r.ctx, 3, in(20*time.Second)))
	dog.want("resume", func() bool { return strings.Count(dog.text(), "Ctimeout=1\n") == 2 && r.status().Watchdog.InForce })
	r.must(r.agent.Sweep(r.ctx, r.data))
	if strings.Count(dog.text(), "V") != 1 {
		t.Errorf("a crash switched it off: %q", dog.text())
	}
	r.must(r.agent.Quit(r.ctx))
	dog.want("leave", func() bool { return strings.Count(dog.all+dog.text(), "V") >= 2 })
}

// TestQuitWhileArmed: the leash after it holds nothing that the watchdog does not guard.
func TestQuitWhileArmed(t *testing.T) {
	r := newRig(t)
	dog := r.watchdog(WatchdogRequired)
	r.spawn()
	r.must(r.agent.Arm(r.ctx, 5, in(20*time.Second)))
	dog.want("arm", func() bool { return r.status().Watchdog.InForce })
	r.must(r.agent.Quit(r.ctx))
	dog.want("leave", func() bool { return strings.HasSuffix(dog.text(), "V") })
	r.spawn()
	if st := r.status(); st.Armed || st.HighestArmed != 5 {
		t.Errorf("armed %t, highest epoch %d; want an epoch 5 that is over", st.Armed, st.HighestArmed)
	}
	r.refused(r.agent.Arm(r.ctx, 5, in(20*time.Second)), CodeEpoch)
}

// TestWatchdogRefusals: what mode required refuses, automatic reports.
func TestWatchdogRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(r *rig, dog *pipe)
		want   string
	}{
		{"no permission", func(r *rig, dog *pipe) { r.must(os.Chmod(dog.path, 0o400)) }, "cannot be written by uid"},
		{"nobody reads", func(_ *rig, dog *pipe) { _ = unix.Close(dog.fd); dog.fd = -1 }, "nobody reads the pipe"},
		{"no device", func(r *rig, dog *pipe) { r.must(os.Remove(dog.path)) }, "does not exist"},
		{"not a device", func(r *rig, _ *pipe) { r.options.Watchdog.Driver = watchdog.DriverLinux }, "is not a watchdog device"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			dog := r.watchdog(WatchdogRequired)
			c.change(r, dog)
			r.spawn()
			err := r.agent.Arm(r.ctx, 1, in(20*time.Second))
			r.refused(err, CodeWatchdog)
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("refused with %q, want one line with %q", err, c.want)
			}
			if st := r.status(); st.Armed || st.HighestArmed != 0 {
				t.Errorf("armed after all: %+v", st)
			}
			r.options.Watchdog.Mode = WatchdogAutomatic
			r.must(r.agent.SetWatchdog(r.ctx, r.options.Watchdog))
			r.must(r.agent.Arm(r.ctx, 1, in(20*time.Second)))
			st := r.status()
			if w := st.Watchdog; w.InForce || !strings.Contains(w.Why, c.want) || w.Failed == 0 {
				t.Errorf("status %+v", w)
			}
			if !slices.ContainsFunc(st.Degraded, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("degraded %q", st.Degraded)
			}
		})
	}
}

// TestWatchdogBlocked: a device that takes nothing holds up neither an answer
// nor the deadline.
func TestWatchdogBlocked(t *testing.T) {
	r := newRig(t)
	dog := r.watchdog(WatchdogAutomatic)
	r.primary(in(20 * time.Second))
	w, err := unix.Open(dog.path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	r.must(err)
	defer unix.Close(w)
	for err == nil {
		_, err = unix.Write(w, make([]byte, 512))
	}
	for err = nil; err == nil; {
		_, err = unix.Write(w, []byte{0})
	}
	dog.want0("a fault is reported", func() bool { w := r.status().Watchdog; return w.Open && !w.InForce && w.Failed != 0 })
	d := in(2 * time.Second)
	r.must(r.agent.Arm(r.ctx, 2, d))
	e := r.event(ServerExited, 10*time.Second)
	if late := time.Duration(e.Exit.Gone - d); late > time.Second {
		t.Errorf("gone %v after the deadline", late)
	}
}

// want0 is want without reading what is in the pipe.
func (p *pipe) want0(what string, ok func() bool) {
	p.Helper()
	if !p.eventually(10*time.Second, ok) {
		p.Fatalf("%s: leash says %+v", what, *p.status().Watchdog)
	}
}

// TestWatchdogOldAgent: an agent of before sends no settings; what a newer one
// asked for stays, and its own requests work as ever.
func TestWatchdogOldAgent(t *testing.T) {
	r := newRig(t)
	dog := r.watchdog(WatchdogAutomatic)
	r.spawn()
	r.must(r.agent.Configure(r.ctx, testQuiet, testLmax))
	r.must(r.agent.Arm(r.ctx, 1, in(20*time.Second)))
	dog.want("open", func() bool { return r.status().Watchdog.InForce })
	_, err := r.agent.call(r.ctx, request{Op: opWatchdog})
	r.refused(err, CodeInvalid)
	r.must(r.agent.Disarm(r.ctx, 1))
}

// TestWatchdogOldLeash: a leash of before knows no watchdog and is not asked.
func TestWatchdogOldLeash(t *testing.T) {
	dir := t.TempDir()
	rec, err := openRecord(filepath.Join(dir, recordName), true)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.close()
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	rec.reset(boot)
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 16)
	go func() {
		defer close(asked)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		oldLeash(conn, asked)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := Spawn(ctx, SpawnOptions{RunDir: dir, Lmax: testLmax, Watchdog: WatchdogOptions{Mode: WatchdogRequired,
		Driver: watchdog.DriverTesting, Device: "/nowhere", Timeout: time.Second, Longest: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := c.Status(ctx); err != nil || st.Watchdog != nil {
		t.Errorf("status %+v, %v", st.Watchdog, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	var ops []string
	for op := range asked {
		ops = append(ops, op)
	}
	if want := []string{opHello, opStatus, opConfigure, opStatus, opStatus}; !slices.Equal(ops, want) {
		t.Errorf("asked %v, want %v", ops, want)
	}
}

// oldLeash answers everything as the first version did.
func oldLeash(conn net.Conn, asked chan<- string) {
	in := bufio.NewReader(conn)
	for {
		var head [headerSize]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.LittleEndian.Uint32(head[:]))
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		var r struct {
			ID uint64 `json:"id"`
			Op string `json:"op"`
		}
		if json.Unmarshal(body, &r) != nil {
			return
		}
		asked <- r.Op
		frame, err := encode(map[string]any{"id": r.ID, "status": map[string]any{"protocol": 1, "pid": 1}})
		if err != nil {
			return
		}
		if _, err := conn.Write(frame); err != nil {
			return
		}
	}
}
