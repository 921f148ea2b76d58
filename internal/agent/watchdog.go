package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgha/pgha/internal/leash"
	"github.com/pgha/pgha/internal/watchdog"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
)

// Words of watchdog.mode, as the configuration decodes them.
const (
	watchdogAutomatic = "automatic"
	watchdogRequired  = "required"
)

// watchdogOptions is what the leash is to do about the kernel watchdog. The
// timeout follows from the lease alone (safety B.1); watchdog.safety_margin is
// about Patroni's timing and has no part in it.
func watchdogOptions(e *config.Effective, t ha.Timing) leash.WatchdogOptions {
	w := &e.Local.Watchdog
	o := leash.WatchdogOptions{Driver: w.Driver, Device: w.Device}
	switch {
	case e.PGHA.Leash == "off":
	case w.Mode == watchdogAutomatic:
		o.Mode = leash.WatchdogAutomatic
	case w.Mode == watchdogRequired:
		o.Mode = leash.WatchdogRequired
	}
	o.Timeout, o.Longest, o.Tail = t.Watchdog()
	return o
}

// watchdogNeedsLeash refuses what can never work.
func watchdogNeedsLeash(e *config.Effective) error {
	if e.Local.Watchdog.Mode == watchdogRequired && e.PGHA.Leash == "off" {
		return errors.New("watchdog.mode is required, but pgha.leash is off, and the watchdog is in the hands of the leash; switch the leash on, or set watchdog.mode to automatic or off")
	}
	return nil
}

// sayWatchdog says, at the start and after a change, what will not be had.
func (a *agent) sayWatchdog() {
	e := a.config.Load()
	w := &e.Local.Watchdog
	if w.Mode == watchdogAutomatic && w.Present && e.PGHA.Leash == "off" {
		a.log.Info("the kernel watchdog is not used: pgha.leash is off, and the watchdog is in the hands of the leash")
		return
	}
	if w.Mode != watchdogRequired && (w.Mode != watchdogAutomatic || !w.Present) {
		return
	}
	if err := watchdog.Check(w.Driver, w.Device); err != nil {
		if w.Mode == watchdogRequired {
			a.log.Error("this node cannot become primary, because watchdog.mode is required: " + err.Error())
		} else {
			a.log.Warn("the kernel watchdog will not be in force: " + err.Error())
		}
	}
	if d := e.Dynamic; !marginFits(w.SafetyMargin, d.TTL, d.LoopWait) {
		a.log.Warn(fmt.Sprintf("watchdog.safety_margin %d leaves less than loop_wait of a ttl of %v; a Patroni member with this setting cannot use its watchdog (this one can)",
			w.SafetyMargin, d.TTL))
	}
}

// marginFits is Patroni's own condition (ha-behaviour 8.2): slack >= 0.
func marginFits(margin int, ttl, loopWait time.Duration) bool {
	timeout := ttl - time.Duration(margin)*time.Second
	if margin == -1 {
		timeout = (ttl / 2).Truncate(time.Second)
	}
	return timeout >= loopWait
}

// tellWatchdog gives the leash the settings in force, if they are news. A device
// that is open keeps its own until this node is demoted or paused.
func (k *keeper) tellWatchdog(ctx context.Context) error {
	o := k.spawn().Watchdog
	k.mu.Lock()
	c, news := k.client, k.told != o
	open := k.status.Watchdog != nil && k.status.Watchdog.Open
	k.mu.Unlock()
	if c == nil || !news {
		return nil
	}
	if err := k.tellWatchdogTo(ctx, c, o); err != nil {
		return err
	}
	if open {
		k.log.Info("the watchdog goes on with its mode, device and timeout of before; new ones are in force when this node is demoted or paused and leads again")
	}
	return k.refresh(ctx)
}

func (k *keeper) tellWatchdogTo(ctx context.Context, c *leash.Client, o leash.WatchdogOptions) error {
	if err := c.SetWatchdog(ctx, o); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.told = o
	return nil
}

// letGo switches off a device that a fence left counting, once the leash knows
// that the server is gone: this host has nothing left that a reset would stop.
func (k *keeper) letGo(ctx context.Context, c *leash.Client) {
	k.mu.Lock()
	st, w := k.status, k.status.Watchdog
	mine := k.client == c && c != nil
	k.mu.Unlock()
	if !mine || w == nil || !w.Open || st.Armed || st.Server != nil {
		return
	}
	if err := c.Disarm(ctx, st.Epoch); err != nil {
		k.log.Warn("switch off the watchdog: " + err.Error())
	}
}

// watchdogMemory is how long an attempt that failed counts against this node.
const watchdogMemory = time.Minute

// watchdogFault is why the watchdog that is required is not in force, or would
// not be; "" if it is not required. The lock is held.
func (k *keeper) watchdogFault() string {
	o := k.spawn().Watchdog
	if o.Mode != leash.WatchdogRequired {
		return ""
	}
	w := k.status.Watchdog
	switch {
	case k.client != nil && k.status.PID != 0 && w == nil:
		return "the leash that runs is of an earlier version, which knows no watchdog; stop PostgreSQL and the agent here once, so that a new one is started"
	case w != nil && k.status.Armed && !w.InForce:
		if k.told.Mode != leash.WatchdogRequired {
			return "" // it was not told yet
		}
		return w.Why
	case w != nil && k.status.Armed:
		return ""
	case w != nil && w.Failed != 0 && time.Duration(leash.Now()-w.Failed) < watchdogMemory:
		return w.Why
	}
	if err := watchdog.Check(o.Driver, o.Device); err != nil {
		return err.Error()
	}
	return ""
}
