package lab

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Boottime reads CLOCK_BOOTTIME: one clock for everything on this machine, the
// same the agents' deadlines use.
func Boottime() time.Duration {
	var ts unix.Timespec
	// The clock exists on every Linux since 2.6.39: the call cannot fail.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// pollPeriod is how often the rig looks when it waits for something.
const pollPeriod = 20 * time.Millisecond

// Poll calls done until it says true or the context ends; in the second case it
// returns the context's error.
func Poll(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(pollPeriod)
	defer tick.Stop()
	for {
		if done() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
