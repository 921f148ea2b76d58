package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// dog is the watchdog of a node: a FIFO behind the testing driver, and somebody who
// resets the host when the keepalives end.
type dog struct {
	pipe *os.File
	done chan struct{}

	mu      sync.Mutex
	bites   bool          // armed by the rig
	timeout time.Duration // 0 while it is switched off
	fed     time.Duration // CLOCK_BOOTTIME
	bitten  time.Duration // when it last reset the host
}

func dogPath(n *Node) string { return filepath.Join(n.Dir, "watchdog") }

func (l *Lab) startDog(n *Node) error {
	path := dogPath(n)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return fmt.Errorf("make watchdog %s: %w", path, err)
	}
	if err := l.give(path); err != nil {
		return err
	}
	// Open for writing too: it must not end when the leash closes its side.
	pipe, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open watchdog: %w", err)
	}
	d := &dog{pipe: pipe, done: make(chan struct{})}
	n.dog = d
	go d.watch(n)
	return nil
}

// dogPeriod is how often the dog looks.
const dogPeriod = 50 * time.Millisecond

func (d *dog) watch(n *Node) {
	defer close(d.done)
	buf := make([]byte, 4096)
	for {
		_ = d.pipe.SetReadDeadline(time.Now().Add(dogPeriod))
		count, err := d.pipe.Read(buf)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return // closed
		}
		if d.heard(buf[:count], Boottime()) {
			_ = n.host.order(order{Do: "killall"})
		}
	}
}

// heard takes what was written to the device, and tells whether it resets the host.
func (d *dog) heard(words []byte, now time.Duration) (reset bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(words) > 0 {
		d.fed = now
	}
	if _, rest, found := bytes.Cut(words, []byte("Ctimeout=")); found {
		digits, _, _ := bytes.Cut(rest, []byte("\n"))
		if s, err := strconv.Atoi(string(digits)); err == nil {
			d.timeout = time.Duration(s) * time.Second
		}
	}
	if bytes.HasSuffix(words, []byte("V")) {
		d.timeout = 0
	}
	if d.timeout == 0 || !d.bites || now-d.fed <= d.timeout {
		return false
	}
	d.timeout, d.bitten = 0, now
	return true
}

func (d *dog) close() {
	_ = d.pipe.Close()
	<-d.done
}

// Unleash tells whether a node's watchdog resets its host; with Options.Watchdog
// there is one, which only listens at first.
func (l *Lab) Unleash(n *Node, bites bool) {
	n.dog.mu.Lock()
	defer n.dog.mu.Unlock()
	n.dog.bites = bites
}

// Bitten tells when a node's watchdog last reset its host (CLOCK_BOOTTIME), 0 for
// never, and whether it is armed now.
func (l *Lab) Bitten(n *Node) (at time.Duration, armed bool) {
	n.dog.mu.Lock()
	defer n.dog.mu.Unlock()
	return n.dog.bitten, n.dog.timeout > 0
}
