package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
	"github.com/pgha/pgha/pkg/postgres"
)

func (a *agent) openStore(ctx context.Context) error {
	l := a.config.Load().Local
	base := dcs.Base(l.Namespace, l.Scope)
	tlsConfig, err := etcd.LoadTLS(l.Etcd.CACert, l.Etcd.Cert, l.Etcd.Key)
	if err != nil {
		return err
	}
	s := settings(a.config.Load())
	a.store, err = etcd.Open(ctx, etcd.Config{
		Endpoints: l.Etcd.Endpoints(), SRV: l.Etcd.SRV, SRVSuffix: l.Etcd.SRVSuffix, UseProxies: l.Etcd.UseProxies,
		Username: l.Etcd.Username, Password: l.Etcd.Password.Reveal(), TLS: tlsConfig,
		Base: base, TTL: s.TTL, RetryTimeout: s.RetryTimeout, Logger: a.log,
	})
	return err
}

// refuseV2 ends the start where a Patroni runs this cluster through etcd's
// protocol v2: neither would see the other's keys, and there would be two
// leaders. It is asked once etcd answers, so that silence is no reassurance.
func (a *agent) refuseV2(ctx context.Context) error {
	l := a.config.Load().Local
	if l.Etcd.Kind != "etcd" {
		return nil
	}
	tlsConfig, err := etcd.LoadTLS(l.Etcd.CACert, l.Etcd.Cert, l.Etcd.Key)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	base := dcs.Base(l.Namespace, l.Scope)
	if found, endpoint := etcd.ProbeV2(ctx, l.Etcd.Endpoints(), tlsConfig, base); found {
		return fmt.Errorf("%s holds keys of %s written through etcd's protocol v2, which protocol v3 cannot see: a Patroni configured with \"etcd:\" runs this cluster; first change etcd: to etcd3: on all its members and restart them, then start pgha", endpoint, base)
	}
	return nil
}

// firstLook waits for etcd: before it was heard of, nothing local is touched.
// No cluster and no error means that the agent was asked to end meanwhile.
func (a *agent) firstLook(ctx context.Context) (*dcs.Cluster, error) {
	for {
		look, cancel := context.WithTimeout(ctx, 5*time.Second)
		c, err := a.store.Read(look)
		cancel()
		switch {
		case err == nil:
			a.configure(ctx, c)
			return c, nil
		case errors.Is(err, dcs.ErrRejected):
			return nil, fmt.Errorf("%w; check the username, the password and the role of this cluster in etcd", err)
		}
		a.log.Warn("waiting for etcd: " + err.Error())
		a.notify.waits("waiting for etcd: "+err.Error(), 30*time.Second)
		select {
		case <-a.Stop:
			return nil, nil //nolint:nilnil // an orderly end before there was anything
		case <-ctx.Done():
			return nil, nil //nolint:nilnil // likewise
		case <-time.After(time.Second):
		}
	}
}

// leaveLimit bounds the stop of the server when etcd was never heard of.
const leaveLimit = 4 * time.Minute

// leave ends an agent that was asked to stop while it waited for etcd. A server
// that an earlier run of it left behind is stopped, too: "stop" stops. Where the
// last known configuration says pause, it is left alone.
func (a *agent) leave(ctx context.Context, srv *postgres.Server) error {
	if a.config.Load().Dynamic.Pause {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveLimit)
	defer cancel()
	if err := a.keeper.attach(ctx); err != nil {
		return err
	}
	defer a.keeper.close(ctx)
	defer srv.Close()
	if _, up := a.keeper.Running(); !up {
		return nil
	}
	a.log.Info("stopping the server because the agent was asked to end")
	return srv.Stop(ctx, postgres.StopFast, false)
}
