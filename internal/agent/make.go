package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// progressFunc receives how far an operation is; total 0: unknown.
type progressFunc = func(method string, done, total int64)

// metered passes progress on to the loop, and to the log now and then.
func (n *node) metered(what, operation string, progress progressFunc) progressFunc {
	m := newMeter(what, operation, n.log, time.Now)
	return func(method string, done, total int64) {
		progress(method, done, total)
		m.report(method, done, total)
	}
}

// writeBackupConfig keeps pgbackrest.conf as the configuration says, before
// anything starts that may archive or restore. Its lack stops nothing else.
func (n *node) writeBackupConfig() {
	if !n.config().PGHA.Backup.Enabled {
		return
	}
	if err := n.srv.WriteBackupConfig(); err != nil {
		n.log.Warn("write pgbackrest.conf: " + err.Error())
	}
}

// bootstrap makes a new cluster the configured way and leaves its server
// running; post_bootstrap comes later.
func (n *node) bootstrap(ctx context.Context, a ha.Bootstrap, progress progressFunc) error {
	b := n.config().Bootstrap
	switch {
	case a.From.Remote:
		return n.bootstrapStandby(ctx, a, progress)
	case b.Custom != nil:
		return n.srv.CustomBootstrap(ctx, *b.Custom, b.PGHBA)
	case b.Native:
		return n.srv.BootstrapFromRepository(ctx, postgres.RepositoryBootstrapOf(b), n.metered("restoring the new cluster", "bootstrap", progress))
	}
	if err := n.srv.Initdb(ctx, postgres.InitdbOptions{Flags: b.InitDB, HBA: b.PGHBA}); err != nil {
		return err
	}
	res, err := n.srv.Start(ctx, postgres.StartOptions{Role: postgres.RolePrimary, Bootstrap: true})
	if err == nil && res != postgres.Started {
		err = errors.New("the new server did not accept connections in time")
	}
	return err
}

func (n *node) postBootstrap(ctx context.Context) error {
	o, err := postgres.PostBootstrapOf(n.config().Bootstrap)
	if err != nil {
		return err
	}
	return n.srv.PostBootstrap(ctx, o)
}

// clone makes this node's copy, by the methods in turn (the repair ladder).
func (n *node) clone(ctx context.Context, a ha.Clone, progress progressFunc) error {
	up := n.upstreamOf(a.From)
	if up == nil && a.From.ConnURL != "" {
		return fmt.Errorf("copy %s: its address %q cannot be read", a.From.Member, a.From.ConnURL)
	}
	c := n.cluster()
	spec := postgres.CloneSpec{Upstream: up, FromLeader: a.FromLeader, Progress: n.metered("creating replica", "clone", progress)}
	switch {
	case a.From.Remote:
		spec = n.remoteSpec(a.From, progress)
	case up != nil:
		up.SlotName = ""
		spec.Leader = n.leaderBeside(c, a.From.Member)
		spec.LeaderInRecovery = n.config().Dynamic.StandbyCluster != nil
	}
	spec.Wipe = a.Wipe
	if c != nil && c.Initialize != nil {
		spec.SystemID = c.Initialize.SystemID
	}
	return n.srv.Clone(ctx, spec)
}

// leaderBeside is the cluster's leader, when it is not the member from.
func (n *node) leaderBeside(c *dcs.Cluster, from string) *postgres.Upstream {
	if c == nil || c.LeaderName() == "" || c.LeaderName() == from {
		return nil
	}
	m := c.Member(c.LeaderName())
	if m == nil {
		return nil
	}
	leader := n.upstreamOf(ha.Upstream{Member: m.Name, ConnURL: m.ConnURL})
	if leader != nil {
		leader.SlotName = ""
	}
	return leader
}

// restore carries out an order to set the cluster back.
func (n *node) restore(ctx context.Context, a ha.Restore, progress progressFunc) (ha.Operation, error) {
	o := a.Order
	if err := n.keeper.holds(ctx); err != nil { // the host may have stood still since this was decided
		return ha.Operation{Interrupted: true}, fmt.Errorf("%w; nothing was changed", err)
	}
	defer func() { // its server came and went as the order demands
		n.mu.Lock()
		n.crashed = false
		n.mu.Unlock()
	}()
	tl, err := n.srv.RestoreInPlace(ctx, postgres.RestoreOrder{
		ID: o.ID, Stanza: o.Stanza, Set: o.Set, SystemID: o.SystemID, Force: o.Force, Target: recoveryTarget(o.Target),
	}, n.metered("restoring", "restore", progress))
	if err == nil {
		n.setUpstream(ha.Upstream{})
		n.srv.SaveConfBackups()
	}
	return ha.Operation{Timeline: tl, Interrupted: errors.Is(err, postgres.ErrRecoveryKilled)}, err
}
