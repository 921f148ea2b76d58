package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Do implements loop.Worker: one long action, from its beginning to its end.
func (n *node) Do(ctx context.Context, a ha.Action, progress func(method string, done, total int64)) (ha.Operation, error) {
	if err := n.acquire(ctx); err != nil {
		return ha.Operation{}, err
	}
	defer n.release()
	defer n.forgetDisk()
	n.srv.SetConfig(n.config().Postgres)
	n.writeBackupConfig()
	var res ha.Operation
	var err error
	switch a := a.(type) {
	case ha.Bootstrap:
		err = n.bootstrap(ctx, a, progress)
	case ha.PostBootstrap:
		err = n.postBootstrap(ctx)
	case ha.Clone:
		err = n.clone(ctx, a, progress)
	case ha.Restore:
		res, err = n.restore(ctx, a, progress)
	case ha.Rewind:
		res, err = n.rewind(ctx, a)
	case ha.CrashRecovery:
		err = n.srv.SingleUserRecovery(ctx)
	case ha.Start:
		err = n.start(ctx, a)
	case ha.Stop:
		res, err = n.halt(ctx, a)
	case ha.Restart:
		err = n.restart(ctx, a)
	case ha.Promote:
		res, err = n.promote(ctx, a)
	case ha.CopySlots:
		err = n.copySlots(ctx, a)
	case ha.CheckDivergence:
		res, err = n.compare(ctx, a)
	case ha.CheckRemote:
		res, err = n.checkRemote(ctx, a)
	default:
		err = fmt.Errorf("%T is not a long action", a)
	}
	if err != nil {
		n.log.Warn(err.Error())
	}
	return res, err
}

// promote asks the operator's pre_promote first.
func (n *node) promote(ctx context.Context, a ha.Promote) (ha.Operation, error) {
	if n.now() >= a.Until {
		return ha.Operation{}, errors.New("promote: not begun, because the leadership that it was decided under has ended; was this agent stopped meanwhile?")
	}
	if names := n.unready.names(); len(names) > 0 {
		n.log.Warn("logical slots that the primary was not seen to keep rows of catalogs for: their consumers may fail", "slots", strings.Join(names, ", "))
	}
	if err := n.srv.PrePromote(ctx); err != nil {
		return ha.Operation{Refused: ctx.Err() == nil}, err
	}
	err := n.srv.Promote(ctx, a.From, a.Timeline)
	if err == nil && len(n.config().Postgres.ByRole) > 0 {
		n.apply(false) // what the files say of a primary may be another thing
	}
	return ha.Operation{}, err
}

// callback implements the loop's Callback.
func (n *node) callback(c ha.Callback) {
	n.mu.Lock()
	n.told = c.Role
	n.mu.Unlock()
	n.srv.Callback(c.Event, c.Role)
}

func (n *node) rewind(ctx context.Context, a ha.Rewind) (ha.Operation, error) {
	up := n.upstreamOf(a.From)
	if up == nil {
		return ha.Operation{}, fmt.Errorf("rewind from %s: its address %q cannot be read", a.From.Member, a.From.ConnURL)
	}
	if err := n.readyToRewind(ctx, a, up); err != nil {
		return ha.Operation{}, fmt.Errorf("rewind from %s: %w", a.From.Member, err)
	}
	res, err := n.srv.Rewind(ctx, *up)
	if err == nil && res != postgres.RewindDone {
		err = fmt.Errorf("rewind from %s: %s", a.From.Member, res)
	}
	return ha.Operation{Damaged: res == postgres.RewindFailed || res == postgres.RewindDamaged}, err
}

func (n *node) startOptions(a ha.Start) postgres.StartOptions {
	o := postgres.StartOptions{Role: postgres.RoleStandby, Upstream: n.upstreamOf(a.Upstream)}
	if a.Primary {
		o.Role, o.Upstream = postgres.RolePrimary, nil
	}
	return o
}

func (n *node) start(ctx context.Context, a ha.Start) error {
	n.mu.Lock()
	n.crashed, n.stopping = false, false
	n.mu.Unlock()
	_, err := n.srv.Start(ctx, n.startOptions(a))
	if err == nil {
		n.setUpstream(a.Upstream)
		n.srv.SaveConfBackups()
	}
	return err
}

// expectStop notes that the end of the server is wanted, and that nothing it
// says from now on counts.
func (n *node) expectStop() {
	n.mu.Lock()
	n.stopping, n.shutdown = true, ha.ShutdownWAL{}
	n.mu.Unlock()
}

// checkpointLimit bounds the checkpoint before a stop; clients go on working.
const checkpointLimit = 5 * time.Minute

// checkpointFirst shortens the stop that follows.
func (n *node) checkpointFirst(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkpointLimit)
	defer cancel()
	if err := n.srv.Checkpoint(ctx); err != nil {
		n.log.Warn("checkpoint before the stop: " + err.Error())
	}
}

func (n *node) halt(ctx context.Context, a ha.Stop) (ha.Operation, error) {
	if a.Checkpoint {
		n.checkpointFirst(ctx)
	}
	n.expectStop()
	if err := n.stopServer(ctx, a); err != nil {
		n.mu.Lock()
		n.stopping = false
		n.mu.Unlock()
		return ha.Operation{}, err
	}
	if a.Mode != ha.StopFast {
		return ha.Operation{}, nil // there is no shutdown checkpoint
	}
	if a.Archive {
		n.srv.ArchiveLast(ctx)
	}
	_, at, err := n.srv.ShutdownCheckpoint(ctx)
	if err != nil {
		n.log.Warn("read the shutdown checkpoint: " + err.Error()) // the position published last remains
	}
	return ha.Operation{ShutdownLSN: at}, nil
}

func (n *node) stopServer(ctx context.Context, a ha.Stop) error {
	switch a.Mode {
	case ha.StopKill:
		return n.srv.Kill(ctx)
	case ha.StopImmediate:
		return n.srv.StopNow(ctx)
	case ha.StopFast:
	}
	if a.Escalate <= 0 {
		return n.srv.Stop(ctx, postgres.StopFast, false)
	}
	return n.srv.Shutdown(ctx, postgres.Shutdown{Limit: a.Escalate, Written: n.written})
}

// written notes that the server that is being stopped has ended its WAL.
func (n *node) written(checkpoint, publish wal.LSN) {
	n.mu.Lock()
	n.shutdown = ha.ShutdownWAL{Checkpoint: checkpoint, Publish: publish}
	n.mu.Unlock()
	n.wake()
}

// compareLimit bounds the questions of a divergence check.
const compareLimit = 10 * time.Second

func (n *node) compare(ctx context.Context, a ha.CheckDivergence) (ha.Operation, error) {
	up := n.upstreamOf(a.Leader)
	if up == nil {
		return ha.Operation{}, fmt.Errorf("compare with %s: its address %q cannot be read", a.Leader.Member, a.Leader.ConnURL)
	}
	ctx, cancel := context.WithTimeout(ctx, compareLimit)
	defer cancel()
	d, err := n.srv.CheckDivergence(ctx, *up)
	switch d {
	case postgres.RewindNotNeeded:
		return ha.Operation{Divergence: ha.DivergenceNone}, nil
	case postgres.RewindNeeded:
		n.log.Info("the local WAL is not part of the leader's history: pg_rewind is needed", "leader", a.Leader.Member)
		return ha.Operation{Divergence: ha.DivergenceFound}, nil
	case postgres.DivergenceUnknown:
	}
	if err == nil {
		err = errors.New("no answer")
	}
	return ha.Operation{}, errors.New(strings.TrimSpace("compare with " + a.Leader.Member + ": " + err.Error()))
}
