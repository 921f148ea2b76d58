package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/leash"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// keeper holds the connection to the leash. To the driver it is the launcher of
// postgres, to the loop the guardian of the deadline.
type keeper struct {
	spawn   func() leash.SpawnOptions // with the timing in force
	dataDir string
	log     *slog.Logger
	wake    func()

	mu      sync.Mutex
	client  *leash.Client
	status  leash.Status
	told    leash.WatchdogOptions // what the leash was told last
	due     leash.Extension       // what it would not take before it knew the timing in force
	foreign string                // why a server that runs could not be taken over
	exited  chan struct{}         // of the current server; closed when there is none
	group   sync.WaitGroup
	closed  bool
}

func newKeeper(dataDir string, spawn func() leash.SpawnOptions, wake func(), log *slog.Logger) *keeper {
	k := &keeper{spawn: spawn, dataDir: dataDir, wake: wake, log: log, exited: make(chan struct{})}
	close(k.exited)
	return k
}

// attach connects to a leash that lives, or starts one for a server that runs
// without: one that Patroni started, or whose leash was lost.
func (k *keeper) attach(ctx context.Context) error {
	c, err := leash.Attach(ctx, k.spawn().RunDir)
	switch {
	case err == nil:
		k.adopt(c)
	case !errors.Is(err, leash.ErrNoLeash):
		return err
	case postmasterAlive(k.dataDir):
		if _, err := k.ensure(ctx); err != nil {
			return err
		}
	default:
		return nil
	}
	if err := k.tell(ctx); err != nil { // it may be armed by an agent of before
		k.log.Warn(err.Error())
	}
	if err := k.refresh(ctx); err != nil {
		return err
	}
	k.letGo(ctx, c)
	if _, ok := k.Running(); ok || !postmasterAlive(k.dataDir) {
		return nil
	}
	k.mu.Lock()
	c = k.client
	k.mu.Unlock()
	if _, err := c.Adopt(ctx, k.dataDir, ""); err != nil {
		return fmt.Errorf("adopt the running server of %s: %w", k.dataDir, err)
	}
	return k.refresh(ctx)
}

// postmasterAlive tells whether postmaster.pid names a live process. Who it
// really is, the leash finds out before it adopts it.
func postmasterAlive(dataDir string) bool {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 || unix.Kill(pid, 0) != nil {
		return false
	}
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	dir, err := os.Stat(dataDir)
	return err == nil && os.SameFile(cwd, dir)
}

// takeOver implements guardian. An operator may have started the server by hand,
// in pause above all: it is no child of the leash, which must guard it all the same
// once this node leads or has to stop.
func (k *keeper) takeOver(ctx context.Context) {
	k.mu.Lock()
	mine := k.status.Server != nil || k.closed
	k.mu.Unlock()
	if mine || !postmasterAlive(k.dataDir) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leashTimeout)
	defer cancel()
	err := k.with(ctx, func(c *leash.Client) error {
		_, err := c.Adopt(ctx, k.dataDir, "")
		return err
	})
	if refused := (*leash.Refusal)(nil); errors.As(err, &refused) && refused.Code == leash.CodeServerRuns {
		return // our own, just started
	}
	k.mu.Lock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	said := k.foreign == text
	k.foreign = text
	k.mu.Unlock()
	switch {
	case err == nil:
		k.log.Info("took over a server that was not started by this agent")
	case !said: // it is tried again at each look
		k.log.Warn("take over the running server: " + text)
	}
}

// ensure returns the connection, starting a leash if none lives.
func (k *keeper) ensure(ctx context.Context) (*leash.Client, error) {
	k.mu.Lock()
	c := k.client
	k.mu.Unlock()
	if c != nil {
		return c, nil
	}
	o := k.spawn()
	c, err := leash.Spawn(ctx, o)
	if err != nil {
		return nil, err
	}
	k.adopt(c)
	k.mu.Lock()
	k.told = o.Watchdog
	k.mu.Unlock()
	return c, nil
}

// adopt makes c the connection and listens to its events.
func (k *keeper) adopt(c *leash.Client) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.client = c
	ended := make(chan struct{})
	k.group.Go(func() {
		for e := range c.Events() {
			k.event(c, e)
		}
		close(ended)
		k.lost(c)
	})
	k.group.Go(func() { k.watchBeat(c, ended) })
}

func (k *keeper) event(c *leash.Client, e leash.Event) {
	switch e.Kind {
	case leash.ServerExited:
		k.mu.Lock()
		k.status.Server, k.status.LastExit = nil, e.Exit
		k.gone()
		k.mu.Unlock()
		if e.Exit != nil && e.Exit.Orphans > 0 {
			k.log.Warn("postgres processes outlived the postmaster and were killed", "processes", e.Exit.Orphans)
		}
	case leash.DeadlinePassed:
		k.log.Error("the leash stopped postgres: the deadline of my leadership passed without a renewal", "epoch", e.Epoch)
	case leash.LeashLost:
	}
	ctx, cancel := context.WithTimeout(context.Background(), leashTimeout)
	defer cancel()
	if st, err := c.Status(ctx); err == nil {
		k.mu.Lock()
		if k.client == c {
			k.take(st)
		}
		k.mu.Unlock()
	}
	k.letGo(ctx, c)
	k.wake()
}

// leashTimeout bounds a question to the leash, which answers from memory.
const leashTimeout = 2 * time.Second

// lost handles the end of the connection: most likely the leash is dead, and the
// kernel has told the server to stop. Nothing is called stopped before a new
// leash has made sure.
func (k *keeper) lost(c *leash.Client) {
	k.mu.Lock()
	if k.client != c || k.closed {
		k.mu.Unlock()
		return
	}
	k.client = nil
	had := k.status.Server != nil
	k.status.Armed, k.status.Suspended = false, false
	k.mu.Unlock()
	k.log.Error("the connection to the leash is gone")
	if had {
		k.sweepLost()
	}
	k.wake()
}

func (k *keeper) sweepLost() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := k.ensure(ctx)
	if err == nil && k.lives(ctx, c) {
		return
	}
	if err == nil {
		if postmasterAlive(k.dataDir) { // it has SIGQUIT, but may be slow
			_, _ = c.Adopt(ctx, k.dataDir, "") // gone in between is fine: the sweep below decides
		}
		err = c.Sweep(ctx, k.dataDir)
	}
	if err != nil {
		k.log.Error("cannot make sure that postgres has stopped after the leash was lost: " + err.Error())
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.Server = nil
	k.gone()
}

// lives tells whether c leads to the leash of before, whose server runs on: it
// was only the connection that broke, for instance when this process was stopped
// in the middle of a write.
func (k *keeper) lives(ctx context.Context, c *leash.Client) bool {
	st, err := c.Status(ctx)
	if err != nil || st.Server == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client == c {
		k.take(st)
	}
	return true
}

// gone closes the exit channel once. The lock is held.
func (k *keeper) gone() {
	select {
	case <-k.exited:
	default:
		close(k.exited)
	}
}

// take keeps a status; the lock is held.
func (k *keeper) take(st leash.Status) {
	k.status = st
	if st.Server == nil {
		k.gone()
		return
	}
	select {
	case <-k.exited:
		k.exited = make(chan struct{})
	default:
	}
}

func (k *keeper) refresh(ctx context.Context) error {
	k.mu.Lock()
	c := k.client
	k.mu.Unlock()
	if c == nil {
		return nil
	}
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client == c {
		k.take(st)
	}
	return nil
}

// with does something through the connection and learns its effect.
func (k *keeper) with(ctx context.Context, do func(*leash.Client) error) error {
	c, err := k.ensure(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(c), k.refresh(ctx))
}

// Start implements postgres.Launcher.
func (k *keeper) Start(ctx context.Context, s postgres.LaunchSpec) error {
	return k.with(ctx, func(c *leash.Client) error {
		_, err := c.Start(ctx, leash.StartRequest{
			Path: s.Path, Args: s.Args, Env: s.Env, DataDir: s.DataDir, LogPath: s.LogPath,
			Writable: s.Writable, Bootstrap: s.Bootstrap,
		})
		return err
	})
}

// Signal implements postgres.Launcher.
func (k *keeper) Signal(ctx context.Context, sig unix.Signal) error {
	return k.with(ctx, func(c *leash.Client) error { return c.Signal(ctx, sig) })
}

// Sweep implements postgres.Launcher.
func (k *keeper) Sweep(ctx context.Context) error {
	return k.with(ctx, func(c *leash.Client) error { return c.Sweep(ctx, k.dataDir) })
}

// Running implements postgres.Launcher.
func (k *keeper) Running() (int, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.status.Server == nil {
		return 0, false
	}
	return k.status.Server.PID, true
}

// Exited implements postgres.Launcher.
func (k *keeper) Exited() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.exited
}

// Status implements loop.Leash.
func (k *keeper) Status() ha.Leash {
	k.mu.Lock()
	defer k.mu.Unlock()
	st := &k.status
	out := ha.Leash{
		Attached: k.client != nil, Suspended: st.Suspended,
		Highest: max(st.HighestArmed, st.HighestLatched), Etcd: st.Etcd,
	}
	out.Watchdog = k.watchdogFault()
	if st.Armed || st.Suspended {
		out.Armed, out.Deadline = st.Epoch, ha.Instant(st.Deadline)
	}
	return out
}

// holds implements guardian.
func (k *keeper) holds(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leashTimeout)
	defer cancel()
	if err := k.refresh(ctx); err != nil {
		return err
	}
	if l := k.Status(); l.Armed == 0 || l.Suspended || now() >= l.Deadline {
		return errors.New("the leash holds no leadership any more")
	}
	return nil
}

// Arm implements loop.Leash; it also ends a suspension.
func (k *keeper) Arm(ctx context.Context, epoch int64, deadline ha.Instant, etcd uint64) error {
	k.mu.Lock()
	suspended := k.status.Suspended
	k.mu.Unlock()
	return k.with(ctx, func(c *leash.Client) error {
		o := k.spawn()
		if err := c.Configure(ctx, o.Quiet, o.Lmax); err != nil {
			return err
		}
		if err := k.tellWatchdogTo(ctx, c, o.Watchdog); err != nil {
			return err
		}
		c.OfEtcd(etcd)
		if suspended {
			return c.Resume(ctx, epoch, int64(deadline))
		}
		err := c.Arm(ctx, epoch, int64(deadline))
		if refused := (*leash.Refusal)(nil); errors.As(err, &refused) && refused.Code == leash.CodeSuspended {
			return c.Resume(ctx, epoch, int64(deadline)) // the answer to the suspension was not heard
		}
		return err
	})
}

// Disarm implements loop.Leash.
func (k *keeper) Disarm(ctx context.Context, epoch int64) error {
	k.mu.Lock()
	suspended := k.status.Suspended
	k.mu.Unlock()
	return k.with(ctx, func(c *leash.Client) error {
		if suspended { // set aside in pause: ending that, unarmed, is the way out of it
			return c.Resume(ctx, 0, 0)
		}
		return c.Disarm(ctx, epoch)
	})
}

// Suspend implements loop.Leash.
func (k *keeper) Suspend(ctx context.Context) error {
	return k.with(ctx, func(c *leash.Client) error { return c.Suspend(ctx, "the cluster is paused") })
}

// close detaches; a leash without a server is told to leave.
func (k *keeper) close(ctx context.Context) {
	k.mu.Lock()
	c := k.client
	k.closed = true
	idle := k.status.Server == nil
	k.mu.Unlock()
	if c != nil {
		if idle {
			if err := c.Quit(ctx); err != nil {
				k.log.Debug(err.Error())
			}
		}
		_ = c.Close() // nothing is left to lose
	}
	k.group.Wait()
}
