package etcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/pgha/pgha/internal/etcdserver"
	"github.com/pgha/pgha/internal/etcdserver/etcdtest"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
)

// certificate writes a self-signed certificate for 127.0.0.1 that serves as
// CA, server and client certificate at once.
func certificate(t *testing.T) (files etcdserver.TLS, config *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	dir := t.TempDir()
	files = etcdserver.TLS{CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"), TrustedCAFile: filepath.Join(dir, "cert"), ClientCertAuth: true}
	if err := errors.Join(os.WriteFile(files.CertFile, certPEM, 0o600), os.WriteFile(files.KeyFile, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return files, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	files, config := certificate(t)
	c := etcdtest.Start(t, etcdtest.Options{TLS: files})
	s := open(t, base, func(cfg *etcd.Config) { cfg.TLS = config; cfg.UseProxies = false }, c.URLs()...)
	takeLead(t, s)
	if got, err := s.Snapshot(within(t, 20*time.Second)); err != nil || got.LeaderName() != "a" {
		t.Fatalf("%+v, %v", got, err)
	}
	stranger := open(t, base, nil, c.URLs()...) // does not know the CA
	if err := stranger.KeepAlive(within(t, 2*time.Second)); !errors.Is(err, dcs.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("unknown CA: %v", err)
	}
}

// enableAuth adds root and a user whose role covers one prefix.
func enableAuth(t *testing.T, m *etcdtest.Member, user, password, prefix string) pb.AuthClient {
	t.Helper()
	auth := pb.NewAuthClient(raw(t, m))
	ctx := within(t, 20*time.Second)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "root"}))
	must(auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "ha"}))
	must(auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "ha", Perm: &authpb.Permission{
		PermType: authpb.READWRITE, Key: []byte(prefix), RangeEnd: []byte(dcs.PrefixEnd(prefix)),
	}}))
	for name, role := range map[string]string{"root": "root", user: "ha"} {
		must(auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: name, Password: password}))
		must(auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: name, Role: role}))
	}
	must(auth.AuthEnable(ctx, &pb.AuthEnableRequest{}))
	return auth
}

// Not parallel: the members of all tests in this process count requests
// together.
func TestPassword(t *testing.T) {
	const secret = "canary-7f3a"
	c := etcdtest.Start(t, etcdtest.Options{})
	as := func(user, password string) func(*etcd.Config) {
		return func(cfg *etcd.Config) { cfg.Username, cfg.Password = user, password }
	}
	early := open(t, base, as("ha", secret), c.URLs()...) // before auth is on
	if err := early.KeepAlive(within(t, 20*time.Second)); err != nil {
		t.Fatalf("credentials without authentication: %v", err)
	}
	enableAuth(t, c.Members[0], "ha", secret, base+"/")
	if err := early.Put(within(t, 20*time.Second), dcs.Write{Key: dcs.KeyConfig, Value: []byte("{}")}); err != nil {
		t.Fatalf("after authentication was turned on: %v", err)
	}

	s := open(t, base, as("ha", secret), c.URLs()...)
	epoch := takeLead(t, s)
	before := started(t, c.URLs()[0])
	renew(t, s, epoch, 10, 5*time.Second)
	after := started(t, c.URLs()[0])
	// One each per round; a stall of the test machine may repeat one of them.
	for _, method := range []string{"LeaseKeepAlive", "Txn"} {
		if n := after[method] - before[method]; n < 10 || n > 12 {
			t.Errorf("%d requests %s in 10 rounds", n, method)
		}
	}
	if n := after["Authenticate"] - before["Authenticate"]; n != 0 {
		t.Errorf("%d authentications in 10 rounds", n)
	}
	if _, err := s.Snapshot(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}

	wrong := open(t, base, as("ha", "not-"+secret), c.URLs()...)
	err := wrong.KeepAlive(within(t, 20*time.Second))
	if !errors.Is(err, dcs.ErrRejected) || strings.Contains(err.Error(), secret) {
		t.Fatalf("wrong password: %v", err)
	}
	wrong.SetCredentials("ha", secret)
	if err := wrong.KeepAlive(within(t, 20*time.Second)); err != nil {
		t.Fatalf("after the password was mended: %v", err)
	}
	outside := open(t, "/service/other", as("ha", secret), c.URLs()...)
	if _, err := outside.Read(within(t, 20*time.Second)); !errors.Is(err, dcs.ErrRejected) {
		t.Fatalf("outside of the role: %v", err)
	}
	nobody := open(t, base, nil, c.URLs()...)
	if _, err := nobody.Read(within(t, 20*time.Second)); !errors.Is(err, dcs.ErrRejected) {
		t.Fatalf("without credentials: %v", err)
	}

	// A restart of etcd forgets all tokens.
	c.Members[0].Stop()
	c.Members[0].Restart(t)
	if err := s.KeepAlive(within(t, 20*time.Second)); err != nil && !errors.Is(err, dcs.ErrLeaseLost) {
		t.Fatalf("with a forgotten token: %v", err)
	}
	if _, err := s.Snapshot(within(t, 20*time.Second)); err != nil {
		t.Fatalf("watch with a forgotten token: %v", err)
	}

	cfg := etcd.Config{Endpoints: []string{"http://h:1"}, Username: "u", Password: secret}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %v", cfg, cfg, cfg, cfg.LogValue()), fmt.Sprintf("%v %+v", s, s)} {
		if strings.Contains(text, secret) {
			t.Errorf("password in %s", text)
		}
	}
}

// started counts the requests a member has got, by method.
func started(t *testing.T, url string) map[string]int {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, line := range strings.Split(string(body), "\n") {
		if !strings.HasPrefix(line, "grpc_server_started_total{") {
			continue
		}
		_, rest, _ := strings.Cut(line, `grpc_method="`)
		method, _, _ := strings.Cut(rest, `"`)
		var n int
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n); err == nil {
			counts[method] += n
		}
	}
	if counts["Range"] == 0 {
		t.Fatal("no request counters in /metrics")
	}
	return counts
}

func TestProbeV2(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{})
	hole := newProxy(t, c.Members[0].Addr())
	hole.freeze()
	answer := func(path, body string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"errorCode":100,"message":"Key not found","cause":"/service","index":5}`)
				return
			}
			fmt.Fprint(w, body)
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	const keys = `{"action":"get","node":{"key":"/service/batman","dir":true,"nodes":[{"key":"/service/batman/leader","value":"x"}]}}`
	v2 := answer("/v2/keys"+base+"/", keys)
	tests := []struct {
		name      string
		endpoints []string
		want      bool
	}{
		{"no v2 at all", c.URLs(), false},
		{"another scope", []string{answer("/v2/keys/service/robin/", keys)}, false},
		{"empty directory", []string{answer("/v2/keys"+base+"/", `{"action":"get","node":{"key":"/service/batman","dir":true}}`)}, false},
		{"a web page", []string{answer("/v2/keys"+base+"/", `<html>`)}, false},
		{"black hole", []string{hole.url()}, false},
		{"nobody there", []string{"http://127.0.0.1:1"}, false},
		{"keys of the scope", []string{"http://127.0.0.1:1", v2}, true},
	}
	for _, test := range tests {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		found, where := etcd.ProbeV2(ctx, test.endpoints, nil, base)
		cancel()
		if found != test.want || found && where != v2 {
			t.Errorf("%s: %v %s", test.name, found, where)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, cfg := range map[string]etcd.Config{
		"no endpoint": {Base: base},
		"bad scheme":  {Base: base, Endpoints: []string{"ftp://u:pass@h"}},
		"no host":     {Base: base, Endpoints: []string{"http://u:pass@:1"}},
		"bad base":    {Base: "service/", Endpoints: []string{"h"}},
	} {
		if s, err := etcd.Open(context.Background(), cfg); err == nil {
			s.Close()
			t.Errorf("%s was accepted", name)
		} else if strings.Contains(err.Error(), "pass") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
