package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/postgres/wal"
	"github.com/pgha/pgha/pkg/restapi"
)

// Restore implements restapi.Backups: it plans a restore of the cluster and,
// unless the request is dry, writes the order to etcd. The loop of the member
// named in it carries it out.
func (d *desk) Restore(ctx context.Context, r restapi.RestoreRequest, by string) (*restapi.RestorePlan, *restapi.Refusal) {
	cfg, no := d.enabled()
	if no != nil {
		return nil, no
	}
	target, err := targetOf(r)
	if err != nil {
		return nil, refusal(http.StatusUnprocessableEntity, err.Error())
	}
	c, err := d.readCluster(ctx)
	if err != nil {
		return nil, unreadable()
	}
	v := d.view()
	if v.Role == "standby_leader" {
		return nil, refusal(http.StatusPreconditionFailed, "this is a standby cluster, whose data come from elsewhere; promote it first (pghactl promote-cluster)")
	}
	dir := d.dir()
	half := dir.State == postgres.DirInProgress && dir.Kind == postgres.KindRestore
	if no := clusterRefusal(d.me, c, v.Paused, v.IsLeader(d.now()), half); no != nil {
		return nil, no
	}
	systemID := v.SystemID
	if c.Initialize != nil && c.Initialize.SystemID != "" {
		systemID = c.Initialize.SystemID
	}
	repo, no := d.readRepository(ctx)
	if no != nil {
		return nil, no
	}
	if err := sameCluster(repo, systemID); err != nil {
		return nil, refusal(http.StatusPreconditionFailed, err.Error())
	}
	pick := choice{target: target, set: r.Set, now: time.Now(), position: d.position(ctx, c), timeline: presentTimeline(v, c)}
	if c.History != nil {
		pick.history = c.History.Lines
	}
	set, err := pick.choose(repo)
	if err != nil {
		return nil, refusal(http.StatusUnprocessableEntity, err.Error())
	}
	others, strangers := d.otherMembers(ctx, c)
	if len(strangers) > 0 {
		return nil, refusal(http.StatusPreconditionFailed, "these members do not answer as members of pgha, and would go on with the present data: "+
			strings.Join(strangers, ", ")+"; stop them, and wait until pghactl list does not show them any more")
	}
	archive, _, _ := d.watch.newest()
	order := &dcs.Restore{
		ID: newID(), State: dcs.RestoreRequested, Member: d.me, Stanza: cfg.Stanza, Set: set.Label, Target: target,
		SystemID: systemID, Force: r.Force, Requested: time.Now(), By: by,
	}
	plan := &restapi.RestorePlan{
		Cluster: v.Scope, SystemID: systemID, Member: d.me, DataDir: d.config().Postgres.DataDir, Timeline: int64(pick.timeline),
		Position: pick.position.String(), Target: recoveryTarget(target).String(), Backup: entryOf(set),
		Others: others, Warnings: pick.warnings(set, c, archive),
	}
	if r.Dry {
		return plan, nil
	}
	if no := d.putOrder(ctx, c, order); no != nil {
		return nil, no
	}
	plan.ID = order.ID
	d.log.Warn("a restore of the cluster was ordered", "id", order.ID, "target", plan.Target, "set", order.Set, "by", by)
	return plan, nil
}

// readRepository is what the repository holds now, for a decision that counts.
func (d *desk) readRepository(ctx context.Context) (*postgres.Repository, *restapi.Refusal) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	l, err := d.repo.anew(ctx)
	if err == nil {
		err = l.err
	}
	if err == nil && l.repo == nil {
		err = postgres.ErrNoStanza
	}
	if err != nil {
		return nil, refusal(http.StatusServiceUnavailable, "the repository cannot be read: "+err.Error())
	}
	return l.repo, nil
}

// position is the newest one known of the cluster. What the loop saw last may be
// older than what the operator has just looked up.
func (d *desk) position(ctx context.Context, c *dcs.Cluster) wal.LSN {
	if d.present != nil {
		ctx, cancel := context.WithTimeout(ctx, memberPatience)
		defer cancel()
		if st, err := d.present(ctx); err == nil && !st.InRecovery {
			return max(st.WriteLSN, st.FlushLSN)
		}
	}
	v := d.view()
	at := wal.LSN(0)
	if v.Known && !v.Row.InRecovery {
		at = v.Row.Position
	}
	if c.Status != nil {
		at = max(at, c.Status.Optime)
	}
	return at
}

func presentTimeline(v *ha.View, c *dcs.Cluster) wal.Timeline {
	if v.Known {
		return v.Row.Timeline
	}
	newest := wal.Timeline(0)
	for i := range c.Members {
		newest = max(newest, c.Members[i].Timeline)
	}
	return newest
}

// otherMembers asks the other members who they are. Members of Patroni know
// nothing of an order and are named in strangers, like those that are silent.
func (d *desk) otherMembers(ctx context.Context, c *dcs.Cluster) (others, strangers []string) {
	ctx, cancel := context.WithTimeout(ctx, memberPatience)
	defer cancel()
	others = []string{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range c.Members {
		m := &c.Members[i]
		if m.Name == d.me {
			continue
		}
		others = append(others, m.Name)
		group.Go(func() {
			if why := d.stranger(ctx, m); why != "" {
				mu.Lock()
				defer mu.Unlock()
				strangers = append(strangers, address(m)+": "+why)
			}
		})
	}
	group.Wait()
	slices.Sort(strangers)
	return others, strangers
}

// stranger says why a member does not count as one of pgha; "" if it does.
func (d *desk) stranger(ctx context.Context, m *dcs.Member) string {
	_, no, err := d.peers.client.Backup(ctx, m.APIURL)
	switch {
	case err != nil && ctx.Err() != nil, err != nil && strings.Contains(err.Error(), "dial"):
		return "no answer"
	case err != nil:
		return "not pgha, or too old"
	case no != nil && no.Status == http.StatusNotFound && strings.Contains(no.Text, "pgha.backup"):
		return "" // one of ours without a repository: it copies from the leader
	case no != nil:
		return "not pgha, or too old"
	}
	return ""
}

// putOrder writes an order in the place of the one that was read.
func (d *desk) putOrder(ctx context.Context, c *dcs.Cluster, order *dcs.Restore) *restapi.Refusal {
	revision := c.ModRevision(dcs.KeyRestore)
	ctx, cancel := d.etcdTime(ctx)
	defer cancel()
	defer d.wake() // the loop does not hear of this process's own writes
	err := d.store.Put(ctx, dcs.Write{Key: dcs.KeyRestore, Value: order.Encode(), Revision: &revision})
	switch {
	case errors.Is(err, dcs.ErrConflict):
		return refusal(http.StatusConflict, "somebody else changed the order at the same time; look at it and try again")
	case err != nil:
		d.log.Warn("write the restore order: " + err.Error())
		return unreadable()
	}
	return nil
}

// newID is a random name for an order.
func newID() string {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // does not fail on Linux
	return hex.EncodeToString(raw[:])
}

// RestoreState implements restapi.Backups.
func (d *desk) RestoreState() *restapi.RestoreStatus {
	v := d.view()
	if v.Cluster == nil || v.Cluster.Restore == nil {
		return nil
	}
	r := v.Cluster.Restore
	st := &restapi.RestoreStatus{
		ID: r.ID, State: string(r.State), Member: r.Member, Target: recoveryTarget(r.Target).String(), Set: r.Set,
		Started: r.Requested, Ended: r.Ended, Timeline: int64(r.Timeline), Error: r.Error,
	}
	if !r.Open() {
		return st
	}
	progress := v.Progress
	if r.Member != d.me {
		progress = nil
		if m := v.Cluster.Member(r.Member); m != nil {
			progress = m.Progress
		}
	}
	if progress != nil && progress.Operation == "restore" {
		st.State, st.Progress = "running", restapi.ProgressOf(progress)
	}
	return st
}

// CancelRestore implements restapi.Backups. The member that carries the order
// out sees that it is open no more, and ends what runs.
func (d *desk) CancelRestore(ctx context.Context, by string) *restapi.Refusal {
	c, err := d.readCluster(ctx)
	if err != nil {
		return unreadable()
	}
	if !c.Restore.Open() {
		return refusal(http.StatusNotFound, "no restore is under way")
	}
	next := *c.Restore
	next.State, next.Ended, next.Error = dcs.RestoreFailed, time.Now(), "cancelled by "+by
	if no := d.putOrder(ctx, c, &next); no != nil {
		return no
	}
	d.log.Warn(fmt.Sprintf("the restore %s was cancelled by %s", next.ID, by))
	return nil
}
