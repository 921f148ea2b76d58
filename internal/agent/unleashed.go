package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/pgha/pgha/internal/leash"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/ha/loop"
	"github.com/pgha/pgha/pkg/postgres"
)

// guardian is the parent of postgres: the keeper of a leash, or nobody.
type guardian interface {
	postgres.Launcher
	loop.Leash
	// attach takes over what an earlier run of the agent left behind.
	attach(ctx context.Context) error
	// takeOver makes a server that somebody else started on the data directory ours.
	takeOver(ctx context.Context)
	// holds asks whether a leadership is in force now; nil: it is.
	holds(ctx context.Context) error
	// retell passes changed settings on.
	retell(ctx context.Context)
	close(ctx context.Context)
}

var (
	_ guardian = (*keeper)(nil)
	_ guardian = (*unleashed)(nil)
)

// unleashed starts postgres as a child of the agent (pgha.leash: off). Nothing
// stops the server in time when the agent hangs or dies.
type unleashed struct {
	postgres.ExecLauncher
	dataDir, runDir string
	log             *slog.Logger
}

// leashOff is said at each start, as loud as a log can be.
const leashOff = "pgha.leash is off: nothing stops PostgreSQL in time when this agent hangs, is killed or is cut off from etcd, and two primaries can then take writes at once. " +
	"Switch the leash on wherever it can run"

func newUnleashed(dataDir, runDir string, wake func(), log *slog.Logger) *unleashed {
	u := &unleashed{dataDir: dataDir, runDir: runDir, log: log}
	u.Ended = wake
	return u
}

// attach implements guardian. A leash that lives goes on counting, and there
// would be nobody to renew its deadline.
func (u *unleashed) attach(ctx context.Context) error {
	u.log.Error(leashOff)
	c, err := leash.Attach(ctx, u.runDir)
	switch {
	case err == nil:
		_ = c.Close() // it goes on as it was
		return fmt.Errorf("pgha.leash is off, but a leash of an earlier run still guards the server of %s; start the agent with the leash on, stop it in good order, then switch the leash off", u.dataDir)
	case !errors.Is(err, leash.ErrNoLeash):
		return err
	}
	return u.Adopt(u.dataDir)
}

func (u *unleashed) retell(context.Context) {}

// holds implements guardian: without a leash only the loop knows.
func (u *unleashed) holds(context.Context) error { return nil }

// takeOver implements guardian.
func (u *unleashed) takeOver(context.Context) {
	if _, up := u.Running(); up {
		return
	}
	if err := u.Adopt(u.dataDir); err != nil {
		u.log.Warn("take over the running server: " + err.Error())
	}
}

// close implements guardian: the server goes on without us.
func (u *unleashed) close(context.Context) {}

// Status implements loop.Leash.
func (u *unleashed) Status() ha.Leash { return ha.Leash{} }

// Arm implements loop.Leash.
func (u *unleashed) Arm(context.Context, int64, ha.Instant, uint64) error { return nil }

// Extend implements loop.Leash.
func (u *unleashed) Extend(int64, ha.Instant) {}

// Disarm implements loop.Leash.
func (u *unleashed) Disarm(context.Context, int64) error { return nil }

// Suspend implements loop.Leash.
func (u *unleashed) Suspend(context.Context) error { return nil }
