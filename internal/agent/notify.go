package agent

import (
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells systemd how the service is doing (sd_notify(3)). The zero
// value, without a socket, tells nobody.
type notifier struct {
	socket   string
	watchdog time.Duration // how often WATCHDOG=1 is due; 0: not asked for
	fed      time.Time
	ready    bool
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

// turned reports a finished turn of the loop: READY at the first, the watchdog
// from then on, and what the node is doing whenever that changes.
func (n *notifier) turned(status string, changed bool) {
	if !n.ready {
		n.ready = true
		n.send("READY=1\nSTATUS=" + status)
		return
	}
	if changed {
		n.send("STATUS=" + status)
	}
	if now := time.Now(); n.watchdog > 0 && now.Sub(n.fed) >= n.watchdog {
		n.fed = now
		n.send("WATCHDOG=1")
	}
}

// monotonicMicros is CLOCK_MONOTONIC, as notify-reload wants it.
func monotonicMicros() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return strconv.FormatInt(ts.Nano()/1000, 10)
}
