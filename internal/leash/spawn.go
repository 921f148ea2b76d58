package leash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// SpawnOptions say which leash to start, if none lives.
type SpawnOptions struct {
	Binary  string        // path of pgha-leash
	RunDir  string        // made with mode 0700 if it is missing; on a tmpfs
	Quiet   time.Duration // q of safety B.1; 0: one second
	Lmax    time.Duration // clamp of deadlines
	LogFile string        // appended to; empty: stderr of this process

	Watchdog WatchdogOptions // the zero value: off
}

const (
	defaultQuiet = time.Second
	retryDelay   = 20 * time.Millisecond
)

// Spawn attaches to the leash of o.RunDir, and starts one if there is none. A
// living leash is told o.Quiet, o.Lmax and o.Watchdog. It ends when ctx ends.
func Spawn(ctx context.Context, o SpawnOptions) (*Client, error) {
	if o.Quiet == 0 {
		o.Quiet = defaultQuiet
	}
	for {
		c, err := Attach(ctx, o.RunDir)
		if err == nil {
			if err = c.Configure(ctx, o.Quiet, o.Lmax); err == nil {
				err = c.SetWatchdog(ctx, o.Watchdog)
			}
			if err == nil {
				return c, nil
			}
			return nil, errors.Join(err, c.Close())
		}
		if !errors.Is(err, ErrNoLeash) && !errors.Is(err, ErrLost) {
			return nil, err
		}
		held, err := launch(ctx, o)
		if err != nil {
			return nil, err
		}
		if !held {
			continue
		}
		// Another one holds the lock and is coming up or going down.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("start leash: %w", ctx.Err())
		case <-time.After(retryDelay):
		}
	}
}

// launch runs the binary, which returns when its daemon listens, or when
// another leash holds the run directory.
func launch(ctx context.Context, o SpawnOptions) (held bool, err error) {
	args := []string{"-run-dir", o.RunDir, "-quiet", o.Quiet.String(), "-lmax", o.Lmax.String()}
	if o.LogFile != "" {
		args = append(args, "-log-file", o.LogFile)
	}
	cmd := exec.CommandContext(ctx, o.Binary, args...)
	cmd.Stderr = os.Stderr // a file, not a pipe: the daemon inherits it
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitLocked {
		return true, nil
	}
	if err != nil {
		if line := strings.TrimSpace(string(out)); line != "" {
			return false, fmt.Errorf("start leash: %s", line)
		}
		return false, fmt.Errorf("start leash %s: %w", o.Binary, err)
	}
	return false, nil
}
