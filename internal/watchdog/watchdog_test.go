package watchdog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func fifo(t *testing.T) (path string, read func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "dog")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return path, func() string {
		buf := make([]byte, 256<<10)
		n, _ := unix.Read(fd, buf)
		return string(buf[:max(n, 0)])
	}
}

func options(driver, path string) Options {
	return Options{Driver: driver, Path: path, Timeout: 5 * time.Second, Longest: 9 * time.Second}
}

// TestTesting: the bytes of wire contract §1.10.
func TestTesting(t *testing.T) {
	path, read := fifo(t)
	d, err := Open(options(DriverTesting, path))
	if err != nil {
		t.Fatal(err)
	}
	if d.Timeout() != 5*time.Second {
		t.Errorf("timeout %v", d.Timeout())
	}
	for range 2 {
		if err := d.Ping(); err != nil {
			t.Error(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if got, want := read(), "Ctimeout=5\n11V"; got != want {
		t.Errorf("the pipe got %q, want %q", got, want)
	}
}

// TestNothingWaits: neither a pipe without a reader nor a full one holds anybody up.
func TestNothingWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dog")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options(DriverTesting, path)); !errors.Is(err, unix.ENXIO) {
		t.Errorf("no reader: %v", err)
	}
	full, _ := fifo(t)
	d, err := Open(options(DriverTesting, full))
	if err != nil {
		t.Fatal(err)
	}
	for range 1 << 20 {
		if err = d.Ping(); err != nil {
			break
		}
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("full pipe: %v", err)
	}
	if err := d.Close(); !errors.Is(err, unix.EAGAIN) || !strings.Contains(err.Error(), "may reset this host") {
		t.Errorf("close of a full pipe: %v", err)
	}
}

// TestCheck: one line says what is wrong, and where.
func TestCheck(t *testing.T) {
	path, _ := fifo(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ driver, path, want string }{
		{DriverTesting, path, ""},
		{DriverLinux, path, "is not a watchdog device"},
		{DriverTesting, plain, "is not a named pipe"},
		{DriverLinux, plain + ".none", "does not exist"},
		{"magic", path, `driver "magic" is not known`},
	} {
		err := Check(c.driver, c.path)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s %s: %v, want %q", c.driver, c.path, err, c.want)
		}
		if _, openErr := Open(options(c.driver, c.path)); (openErr == nil) != (c.want == "") {
			t.Errorf("open %s %s: %v", c.driver, c.path, openErr)
		}
	}
}

func TestOpenRefusesTimeouts(t *testing.T) {
	path, read := fifo(t)
	for _, o := range []Options{
		{Driver: DriverTesting, Path: path},
		{Driver: DriverTesting, Path: path, Timeout: 1500 * time.Millisecond, Longest: 9 * time.Second},
		{Driver: DriverTesting, Path: path, Timeout: 5 * time.Second, Longest: 4 * time.Second},
	} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v was opened", o)
		}
	}
	if got := read(); got != "" {
		t.Errorf("the pipe got %q", got)
	}
}

// TestSetUp: the rules around the kernel's answers.
func TestSetUp(t *testing.T) {
	const all = unix.WDIOF_MAGICCLOSE | unix.WDIOF_SETTIMEOUT | unix.WDIOF_CARDRESET
	bad := errors.New("it does not")
	for _, c := range []struct {
		name    string
		options uint32
		fails   string // which question
		has     int    // timeout the device insists on, 0: takes what it is told
		boot    int
		want    string // what the device got; errors have an end of their own
		err     string
		timeout time.Duration
		reset   LastReset
		caveat  bool
	}{
		{name: "usual", options: all, want: "V", timeout: 5 * time.Second, reset: ResetOther},
		{name: "it reset the host", options: all, boot: unix.WDIOF_CARDRESET, want: "V", timeout: 5 * time.Second, reset: ResetWatchdog},
		{name: "cannot tell", options: all &^ unix.WDIOF_CARDRESET, boot: unix.WDIOF_CARDRESET, want: "V", timeout: 5 * time.Second},
		{name: "boot status fails", options: all, fails: "boot", want: "V", timeout: 5 * time.Second},
		{name: "no magic close", options: all &^ unix.WDIOF_MAGICCLOSE, want: "1", timeout: 5 * time.Second, reset: ResetOther, caveat: true},
		{name: "rounds up", options: all, has: 8, want: "V", timeout: 8 * time.Second, reset: ResetOther},
		{name: "too long", options: all, has: 10, want: "V", err: "keeps a timeout of 10s"},
		{name: "fixed timeout that fits", options: unix.WDIOF_MAGICCLOSE, has: 3, want: "V", timeout: 3 * time.Second},
		{name: "fixed timeout that does not", options: unix.WDIOF_MAGICCLOSE, has: 60, want: "V", err: "keeps a timeout of 1m0s"},
		{name: "no support", fails: "support", want: "1", err: "what it supports"},
		{name: "set fails", options: all, fails: "set", want: "V", err: "set timeout"},
		{name: "read back fails", options: all, fails: "get", want: "V", err: "read timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, read := fifo(t)
			fd, err := open(path)
			if err != nil {
				t.Fatal(err)
			}
			set := c.has
			fail := func(what string) error {
				if c.fails == what {
					return bad
				}
				return nil
			}
			k := ioctls{
				support:    func(int) (uint32, error) { return c.options, fail("support") },
				bootStatus: func(int) (int, error) { return c.boot, fail("boot") },
				setTimeout: func(_, s int) error {
					if c.has == 0 {
						set = s
					}
					return fail("set")
				},
				getTimeout: func(int) (int, error) { return set, fail("get") },
			}
			d, err := setUp(&linuxDevice{fd: fd, path: path}, k, options(DriverLinux, path))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want %q", err, c.err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				if d.Timeout() != c.timeout || d.LastReset() != c.reset || (d.Caveat() != "") != c.caveat {
					t.Errorf("timeout %v, reset %q, caveat %q", d.Timeout(), d.LastReset(), d.Caveat())
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
			if got := read(); got != c.want {
				t.Errorf("the device got %q, want %q", got, c.want)
			}
		})
	}
}

func TestNowayout(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Stat("/dev/null", &st); err != nil { // any character device
		t.Fatal(err)
	}
	sys := t.TempDir()
	dir := fmt.Sprintf("%s/dev/char/%d:%d", sys, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"1\n": true, "0\n": false} {
		if err := os.WriteFile(dir+"/nowayout", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := nowayout(sys, "/dev/null"); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if nowayout(t.TempDir(), "/dev/null") {
		t.Error("a kernel that says nothing")
	}
}
