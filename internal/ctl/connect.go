package ctl

import (
	"context"

	"github.com/pgha/pgha/internal/version"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
	"github.com/pgha/pgha/pkg/restapi"
)

// openEtcd prepares the connection to one cluster's keys. It does not wait:
// whether etcd answers shows in the first request.
func openEtcd(ctx context.Context, local *config.Local, scope string) (clusterStore, error) {
	e := local.Etcd
	tlsConfig, err := etcd.LoadTLS(e.CACert, e.Cert, e.Key)
	if err != nil {
		return nil, err
	}
	return etcd.Open(ctx, etcd.Config{
		Endpoints:    e.Endpoints(),
		SRV:          e.SRV,
		SRVSuffix:    e.SRVSuffix,
		UseProxies:   e.UseProxies,
		Username:     e.Username,
		Password:     e.Password.Reveal(),
		TLS:          tlsConfig,
		Base:         dcs.Base(local.Namespace, scope),
		RetryTimeout: dcsTimeout,
	})
}

// newRESTClient prepares the client of the members' REST API (wire contract
// §1.5).
func newRESTClient(local *config.Local, insecure bool) (memberAPI, error) {
	ctl := local.Ctl
	tlsConfig, err := restapi.ClientTLS(ctl, ctl.Insecure || insecure)
	if err != nil {
		return nil, err
	}
	return restapi.NewClient(restapi.ClientOptions{
		Username:    ctl.Username,
		Password:    ctl.Password,
		TLS:         tlsConfig,
		UserAgent:   "Patroni/" + version.Patroni + " pghactl/" + version.Version(),
		DialTimeout: memberTimeout,
	}), nil
}
