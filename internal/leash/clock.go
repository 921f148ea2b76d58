package leash

import "golang.org/x/sys/unix"

// Now is CLOCK_BOOTTIME in nanoseconds. Unlike Go's monotonic clock it counts
// the time a machine spends suspended, so a deadline passes during a suspend.
// All deadlines of the agent and the leash are on this clock.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// The clock exists since Linux 2.6.39; without it no deadline means
		// anything, and a wrong answer would be worse than none.
		panic("leash: CLOCK_BOOTTIME: " + err.Error())
	}
	return ts.Nano()
}
