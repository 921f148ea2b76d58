package agent

import (
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells systemd how the service is doing (sd_notify(3)). The zero
// value, without a socket, tells nobody.
type notifier struct {
	socket   string
	watchdog time.Duration // how often WATCHDOG=1 is due; 0: not asked for

	mu     sync.Mutex
	fed    time.Time
	ready  bool
	ending bool
}

// newNotifier takes over NOTIFY_SOCKET and removes it from the environment:
// postgres and scripts must not talk to systemd in our name.
func newNotifier() *notifier {
	n := &notifier{socket: os.Getenv("NOTIFY_SOCKET")}
	if us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
		n.watchdog = time.Duration(us) * time.Microsecond / 4
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // cannot fail for these names
	}
	return n
}

// send is best effort: a service manager that does not listen is its own problem.
func (n *notifier) send(state string) {
	if n.socket == "" {
		return
	}
	c, err := net.DialTimeout("unixgram", n.socket, time.Second)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte(state))
}

// status is the message that shows text in "systemctl status": one line.
func status(text string) string {
	return "STATUS=" + strings.ReplaceAll(text, "\n", "; ")
}

// waits says what the start waits for, and that it may go on for another while:
// the start timeout ends a start that hangs, not a wait that is in order.
func (n *notifier) waits(text string, another time.Duration) {
	n.send(status(text) + "\nEXTEND_TIMEOUT_USEC=" + strconv.FormatInt(another.Microseconds(), 10))
}

// turned reports a finished turn of the loop: READY at the first, the watchdog
// from then on, and what the node is doing whenever that changes.
func (n *notifier) turned(text string, changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready {
		n.ready = true
		n.send("READY=1\n" + status(text))
		return
	}
	if changed {
		n.send(status(text))
	}
	if now := time.Now(); n.watchdog > 0 && now.Sub(n.fed) >= n.watchdog {
		n.fed = now
		n.send("WATCHDOG=1")
	}
}

// stopping says once that the way out has begun.
func (n *notifier) stopping() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ending {
		n.ending = true
		n.send("STOPPING=1")
	}
}

// reloading reports a reload; what it returns reports its end. An agent that is
// not ready yet, or no longer, does not become so by a reload.
func (n *notifier) reloading() (done func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready || n.ending {
		return func() {}
	}
	n.send("RELOADING=1\nMONOTONIC_USEC=" + monotonicMicros())
	return func() { n.send("READY=1") }
}

// beat ticks as often as the watchdog is due, for a loop that has nothing to do
// for longer than that; nil without a watchdog.
func (n *notifier) beat() (tick <-chan time.Time, stop func()) {
	if n.watchdog <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(n.watchdog)
	return t.C, t.Stop
}

// monotonicMicros is CLOCK_MONOTONIC, as notify-reload wants it.
func monotonicMicros() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return strconv.FormatInt(ts.Nano()/1000, 10)
}
