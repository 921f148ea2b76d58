package agent

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

// standbyCluster is what decisions need of the section standby_cluster. The URL
// tells one remote from another, and is never connected to.
func standbyCluster(sc *config.StandbyCluster) ha.StandbyCluster {
	if sc == nil {
		return ha.StandbyCluster{}
	}
	up := ha.Upstream{Member: "an archive", Remote: true, Host: sc.Host != "" || sc.Port != 0, Checkpointed: true}
	if up.Host {
		r := remote(sc)
		up.Member = r.Host + ":" + r.Port
	}
	up.ConnURL = "remote://" + up.Member + "/?" + url.Values{"slot": {sc.PrimarySlotName}}.Encode()
	return ha.StandbyCluster{On: true, Remote: up}
}

// remote is the server that a standby cluster follows.
func remote(sc *config.StandbyCluster) *postgres.Upstream {
	up := &postgres.Upstream{Remote: true, Host: sc.Host, Port: "5432", SlotName: sc.PrimarySlotName}
	if sc.Port != 0 {
		up.Port = strconv.Itoa(sc.Port)
	}
	if up.Host == "" && sc.Port != 0 {
		up.Host = "localhost" // as libpq has it where there is no socket
	}
	return up
}

// checkRemote finds out whether the remote is of this cluster.
func (n *node) checkRemote(ctx context.Context, a ha.CheckRemote) (ha.Operation, error) {
	up := n.upstreamOf(a.Remote)
	if up == nil || up.Host == "" {
		return ha.Operation{}, errors.New("standby_cluster names no host")
	}
	ctx, cancel := context.WithTimeout(ctx, compareLimit)
	defer cancel()
	err := n.srv.CheckSystem(ctx, *up)
	return ha.Operation{Foreign: errors.Is(err, postgres.ErrForeignSystem)}, err
}

// bootstrapStandby makes the first copy of a standby cluster and leaves its server
// running.
func (n *node) bootstrapStandby(ctx context.Context, a ha.Bootstrap, progress progressFunc) error {
	if err := n.srv.Clone(ctx, n.remoteSpec(a.From, progress)); err != nil {
		return err
	}
	return n.start(ctx, ha.Start{Upstream: a.From})
}

// remoteSpec is how the remote is copied: by standby_cluster's own methods.
func (n *node) remoteSpec(from ha.Upstream, progress progressFunc) postgres.CloneSpec {
	spec := postgres.CloneSpec{Methods: []string{"basebackup"}, Progress: n.metered("creating replica", "clone", progress)}
	if sc := n.config().Dynamic.StandbyCluster; sc != nil && len(sc.CreateReplicaMethods) > 0 {
		spec.Methods = sc.CreateReplicaMethods
	}
	if up := n.upstreamOf(from); up != nil && up.Host != "" {
		up.SlotName = ""
		spec.Upstream = up
	}
	spec.Archive = spec.Upstream == nil
	return spec
}

// readyToRewind asks the source whether it has finished its checkpoint after a
// promotion: nobody publishes that of a remote, which is made to; and a leader may
// have been promoted once more since the decision (S13).
func (n *node) readyToRewind(ctx context.Context, a ha.Rewind, up *postgres.Upstream) error {
	ask := n.srv.LeaderOnTimeline
	if a.From.Remote {
		ask = n.srv.LeaderCheckpointed
	}
	done, err := ask(ctx, *up)
	if err == nil && !done {
		err = fmt.Errorf("%s has not finished the checkpoint after its promotion", a.From.Member)
	}
	return err
}

// remoteAnswer asks the remote where its WAL ends, for an operator who is about to
// promote this cluster.
func (n *node) remoteAnswer(ctx context.Context) *restapi.RemoteDocument {
	sc := n.config().Dynamic.StandbyCluster
	if sc == nil {
		return nil
	}
	d := &restapi.RemoteDocument{Remote: standbyCluster(sc).Remote.Member}
	fail := func(err error) *restapi.RemoteDocument {
		d.Error = err.Error()
		return d
	}
	if sc.Host == "" && sc.Port == 0 {
		return fail(errors.New("standby_cluster names no host"))
	}
	ctx, cancel := context.WithTimeout(ctx, compareLimit)
	defer cancel()
	there, err := n.srv.RemoteState(ctx, *remote(sc))
	if err != nil {
		return fail(err)
	}
	here, err := n.srv.Status(ctx)
	if err != nil {
		return fail(err)
	}
	received := row(&here).Position
	d.InRecovery, d.Timeline, d.LSN, d.Received = there.InRecovery, uint32(there.Timeline), there.XLogPos.String(), received.String()
	d.Missing = there.XLogPos.Sub(received)
	return d
}
