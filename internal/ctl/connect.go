package ctl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

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
	tlsConfig, err := etcdTLS(e)
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

// etcdTLS reads the files of the etcd3 section; nil when it names none.
func etcdTLS(e config.Etcd) (*tls.Config, error) {
	if e.CACert == "" && e.Cert == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.CACert != "" {
		pool, err := readPool(e.CACert)
		if err != nil {
			return nil, fmt.Errorf("etcd3.cacert: %w", err)
		}
		cfg.RootCAs = pool
	}
	if e.Cert != "" {
		key := e.Key
		if key == "" {
			key = e.Cert
		}
		pair, err := tls.LoadX509KeyPair(e.Cert, key)
		if err != nil {
			return nil, fmt.Errorf("etcd3.cert and etcd3.key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

func readPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + path)
	}
	return pool, nil
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
