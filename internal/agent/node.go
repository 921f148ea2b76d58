package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// node is the local server, as facts for the loop and as a worker for its long
// actions. Facts are gathered by a goroutine of its own, so that a hung disk or
// server cannot hold the loop: what does not come in time is unknown.
type node struct {
	name   string
	srv    *postgres.Server
	keeper guardian
	config func() *config.Effective
	now    func() ha.Instant
	wake   func()
	log    *slog.Logger
	// cluster is the newest snapshot of the cluster, nil before the first.
	cluster func() *dcs.Cluster
	health  health
	slots   slotWork
	unready unready

	// turn is held by whatever changes the directory, the files or the process.
	turn chan struct{}
	// group are the goroutines to wait for at the end, ended by stop.
	group sync.WaitGroup
	ctx   context.Context
	stop  context.CancelFunc

	mu     sync.Mutex
	facts  ha.Postgres
	looked bool          // facts were gathered at least once
	flight chan struct{} // closed when the gathering under way is done
	// flightSerial is the serial of disk when that gathering began, factsSerial when
	// that of facts did.
	flightSerial, factsSerial int
	pid                       int            // of the server the next fields belong to
	ready                     bool           // it has accepted a connection
	stopping                  bool           // it was asked to stop
	shutdown                  ha.ShutdownWAL // of that stop, while the server is still there
	crashed                   bool           // the last one ended without being asked to
	since                     ha.Instant
	upstream                  ha.Upstream // as last applied by this agent
	frozen                    int         // pid of the server whose WAL receiver was ended for good
	pending                   map[string]ha.PendingRestart
	flagged                   bool   // the server said that it has parameters that wait for a restart
	told                      string // the role that callbacks were told last
	// checkpoint: 0 unknown, 1 under way, 2 done on the present timeline.
	checkpoint int
	disk       diskFacts
}

func newNode(name string, srv *postgres.Server, k guardian, cfg func() *config.Effective, now func() ha.Instant, wake func(), log *slog.Logger) *node {
	n := &node{name: name, srv: srv, keeper: k, config: cfg, now: now, wake: wake, log: log, turn: make(chan struct{}, 1), cluster: func() *dcs.Cluster { return nil }}
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n
}

func (n *node) close() {
	n.stop()
	n.group.Wait()
	n.srv.Close()
}

// acquire takes the turn, or gives up when ctx ends.
func (n *node) acquire(ctx context.Context) error {
	select {
	case n.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("another operation on the server is under way: %w", ctx.Err())
	}
}

func (n *node) release() { <-n.turn }

// background runs do beside the loop; close waits for it.
func (n *node) background(do func(ctx context.Context)) {
	n.group.Add(1)
	go func() {
		defer n.group.Done()
		do(n.ctx)
	}()
}

// Follow implements loop.Node.
func (n *node) Follow(ctx context.Context, up ha.Upstream) error {
	if err := n.acquire(ctx); err != nil {
		return err
	}
	defer n.release()
	res, err := n.srv.Follow(ctx, n.upstreamOf(up))
	if err != nil {
		return err
	}
	n.setUpstream(up)
	if res == postgres.FollowRestartNeeded {
		n.restartStandby(up)
	}
	return nil
}

// restartStandby is how PostgreSQL 12 learns of another upstream.
func (n *node) restartStandby(up ha.Upstream) {
	n.background(func(ctx context.Context) {
		if n.acquire(ctx) != nil {
			return
		}
		defer n.release()
		n.expectStop()
		if _, err := n.srv.Restart(ctx, n.startOptions(ha.Start{Upstream: up})); err != nil {
			n.log.Warn("restart to follow " + up.Member + ": " + err.Error())
		}
		n.wake()
	})
}

func (n *node) setUpstream(up ha.Upstream) {
	n.mu.Lock()
	n.upstream, n.frozen = up, 0
	n.mu.Unlock()
}

// upstreamOf turns a member into a server to connect to; nil for nobody.
func (n *node) upstreamOf(up ha.Upstream) *postgres.Upstream {
	switch sc := n.config().Dynamic.StandbyCluster; {
	case up.ConnURL == "" || up.Remote && sc == nil:
		return nil
	case up.Remote:
		return remote(sc)
	}
	u, err := url.Parse(up.ConnURL)
	if err != nil {
		return nil
	}
	out := &postgres.Upstream{Name: up.Member, Host: u.Hostname(), Port: u.Port()}
	if out.Port == "" {
		out.Port = "5432"
	}
	if len(u.Path) > 1 {
		out.Database = u.Path[1:]
	}
	if n.config().Dynamic.UseSlots {
		out.SlotName = dcs.SlotName(n.name)
	}
	return out
}

// SetSyncNames implements loop.Node.
func (n *node) SetSyncNames(ctx context.Context, names *string) error {
	return n.srv.SetSyncStandbyNames(ctx, names)
}

// ResumeReplay implements loop.Node.
func (n *node) ResumeReplay(ctx context.Context) error { return n.srv.ResumeReplay(ctx) }

// MoveAside implements loop.Node.
func (n *node) MoveAside(ctx context.Context) error {
	if err := n.acquire(ctx); err != nil {
		return err
	}
	defer n.release()
	n.forgetDisk()
	return n.srv.MoveAside()
}

// FinishBootstrap implements loop.Node.
func (n *node) FinishBootstrap(ctx context.Context) error {
	if err := n.acquire(ctx); err != nil {
		return err
	}
	defer n.release()
	n.forgetDisk()
	return n.srv.Finish()
}

// apply writes the configuration files and lets the server read them; without
// force only if one of them changed.
func (n *node) apply(force bool) {
	n.background(func(ctx context.Context) {
		if n.acquire(ctx) != nil {
			return
		}
		defer n.release()
		n.srv.SetConfig(n.config().Postgres)
		n.writeBackupConfig()
		n.forgetDisk()
		if _, up := n.keeper.Running(); !up {
			return
		}
		changed, pending, err := n.srv.Apply(ctx, force)
		if err != nil {
			n.log.Warn("apply configuration: " + err.Error())
			return
		}
		if changed {
			n.reloaded()
			n.log.Info("configuration changed; the server was told to read it")
		}
		n.setPending(pending)
		n.wake()
	})
}

// askPending finds out what waits for a restart: after each start, and when the
// server says that there is something, or nothing, that nobody told us of.
func (n *node) askPending(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pending, err := n.srv.Pending(ctx)
	if err != nil {
		n.log.Debug(err.Error())
		return
	}
	n.setPending(pending)
	n.wake()
}

// reloaded tells the callback of a reload which role the server has.
func (n *node) reloaded() {
	n.mu.Lock()
	f, told := n.facts, n.told
	n.mu.Unlock()
	switch {
	case !f.Known: // not yet up, or being made
	case f.Row.InRecovery && told == "standby_leader":
		n.callback(ha.Callback{Event: postgres.OnReload, Role: told})
	case f.Row.InRecovery:
		n.callback(ha.Callback{Event: postgres.OnReload, Role: "replica"})
	default:
		n.callback(ha.Callback{Event: postgres.OnReload, Role: "primary"})
	}
}

func (n *node) setPending(pending map[string]postgres.Pending) {
	out := make(map[string]ha.PendingRestart, len(pending))
	for name, p := range pending {
		out[name] = ha.PendingRestart{Old: p.OldValue, New: p.NewValue}
	}
	n.mu.Lock()
	n.pending = out
	n.mu.Unlock()
}
