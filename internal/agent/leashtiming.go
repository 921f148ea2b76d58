package agent

import (
	"context"
	"errors"

	"github.com/pgha/pgha/internal/leash"
	"github.com/pgha/pgha/pkg/ha"
)

// retellLeash passes changed settings or a changed timing on, off the loop's path.
func (a *agent) retellLeash() {
	a.node.background(func(ctx context.Context) {
		a.keeper.retell(ctx)
		a.wake()
	})
}

// tell gives the leash the timing and the watchdog's settings in force.
func (k *keeper) tell(ctx context.Context) error {
	k.mu.Lock()
	c := k.client
	k.mu.Unlock()
	if c == nil {
		return nil
	}
	o := k.spawn()
	return errors.Join(c.Configure(ctx, o.Quiet, o.Lmax), k.tellWatchdog(ctx))
}

// retell is tell, and then the extension that waits for it.
func (k *keeper) retell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leashTimeout)
	defer cancel()
	if err := k.tell(ctx); err != nil {
		k.log.Warn("tell the leash of changed settings: " + err.Error())
		return
	}
	k.mu.Lock()
	c, due := k.client, k.due
	k.due = leash.Extension{}
	k.mu.Unlock()
	if c == nil || due.Epoch == 0 {
		return
	}
	if err := c.Extend(due.Epoch, due.Deadline); err != nil {
		k.log.Warn(err.Error())
	}
}

// Extend implements loop.Leash. A ttl that was raised moves the deadline further
// than the leash allows until it has been told: then both happen beside the loop,
// at once, because the deadline in force is that of the shorter ttl.
func (k *keeper) Extend(epoch int64, deadline ha.Instant) {
	k.mu.Lock()
	c := k.client
	k.mu.Unlock()
	if c == nil {
		return
	}
	err := c.Extend(epoch, int64(deadline))
	switch {
	case errors.Is(err, leash.ErrDeadline) && deadline > now():
		k.mu.Lock()
		k.due = leash.Extension{Epoch: epoch, Deadline: int64(deadline)}
		k.mu.Unlock()
		k.group.Go(func() { k.retell(context.Background()) })
	case err != nil:
		k.log.Warn(err.Error())
		k.wake()
	}
}
