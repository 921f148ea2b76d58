package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
)

// upgrade is the agent's way to replace itself by the program that stands at its
// path now (SIGUSR2), with the same process id. PostgreSQL, the leash and the
// lease go on meanwhile; the new program takes them over as after a crash.
type upgrade struct {
	path string // of the program, as it was at the start
	end  context.CancelCauseFunc
}

// errUpgrade ends the loop, and nothing else.
var errUpgrade = errors.New("the agent replaces itself")

// newUpgrade remembers the path: once a package has replaced the file, the
// kernel's link to it names a deleted one.
func newUpgrade() *upgrade {
	path, err := os.Executable()
	if err != nil {
		path = os.Args[0]
	}
	return &upgrade{path: path}
}

// upgradeCheck bounds the look at the new program.
const upgradeCheck = 5 * time.Second

// ready refuses a program that would not come up: this one then goes on.
func (u *upgrade) ready(ctx context.Context, o *Options) error {
	ctx, cancel := context.WithTimeout(ctx, upgradeCheck)
	defer cancel()
	if out, err := exec.CommandContext(ctx, u.path, "--version").CombinedOutput(); err != nil {
		return fmt.Errorf("%s --version: %w: %s", u.path, err, plain.OneLine(string(out)))
	}
	local, problems, err := config.Load(o.ConfigPath, o.Environ)
	if err != nil {
		return err
	}
	for _, p := range append(problems, local.Missing()...) {
		if p.Severity == config.Error {
			return errors.New(p.String())
		}
	}
	return nil
}

// replace becomes the new program. It returns only if it could not.
func (u *upgrade) replace(environ []string) error {
	// Until the new program listens to them, signals must not end it.
	signal.Ignore(syscall.SIGUSR2, syscall.SIGHUP)
	if err := syscall.Exec(u.path, os.Args, environ); err != nil {
		return fmt.Errorf("replace the agent by %s: %w", u.path, err)
	}
	return nil
}

// upgradeWhenIdle ends the loop for an upgrade once nothing runs that would have
// to be begun anew: a copy, a restore, a backup. Those end by an event.
func (a *agent) upgradeWhenIdle(ctx context.Context) {
	if err := a.upgrade.ready(ctx, &a.Options); err != nil {
		a.log.Error("the agent is not replaced: " + err.Error())
		return
	}
	said := false
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		busy := ""
		if op := a.runner.Poll(); op.Running {
			busy = op.Kind.String()
		} else if a.backups.busy() {
			busy = "a backup"
		}
		if busy == "" {
			a.log.Info("replacing the agent by " + a.upgrade.path)
			a.upgrade.end(errUpgrade)
			return
		}
		if !said {
			said = true
			a.log.Info("the agent is replaced when this is over: " + busy)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
