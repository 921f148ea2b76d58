package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
}

func newAuthority(t *testing.T, until time.Time) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem")}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: testNow.AddDate(-2, 0, 0), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, key := sign(t, tpl, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key = key
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func sign(t *testing.T, tpl *x509.Certificate, by *authority) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := tpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// serve is a TLS endpoint with a certificate of these dates and this address.
func (a *authority) serve(t *testing.T, from, until time.Time, ip string) (addr string) {
	t.Helper()
	der, key := sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: until, IPAddresses: []net.IP{net.ParseIP(ip)}}, a)
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	accept(t, ln)
	return ln.Addr().String()
}

// accept reads what clients say until they leave.
func accept(t *testing.T, ln net.Listener) {
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }()
		}
	}()
}

// TestCertificates makes handshakes with endpoints that each have one fault.
func TestCertificates(t *testing.T) {
	before, later := testNow.AddDate(0, -1, 0), testNow.AddDate(1, 0, 0)
	ca, other, old := newAuthority(t, later), newAuthority(t, later), newAuthority(t, testNow.AddDate(0, 0, -1))
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plain.Close() })
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = c.Close()
		}
	}()
	for _, tc := range []struct {
		name, url string
		ca        *authority
		severity  Severity // "": nothing is found
		seen      string
	}{
		{"good", "https://" + ca.serve(t, before, later, "127.0.0.1"), ca, "", ""},
		{"expired", "https://" + ca.serve(t, before, testNow.AddDate(0, 0, -3), "127.0.0.1"), ca, Error, "has expired on 2026-11-19"},
		{"expires soon", "https://" + ca.serve(t, before, testNow.AddDate(0, 0, 3), "127.0.0.1"), ca, Warning, "expires on 2026-11-25"},
		{"not valid yet", "https://" + ca.serve(t, testNow.AddDate(0, 0, 1), later, "127.0.0.1"), ca, Error, "not valid before 2026-11-23"},
		{"unknown authority", "https://" + ca.serve(t, before, later, "127.0.0.1"), other, Error, "not trusted here: x509: certificate signed by unknown authority"},
		{"authority has expired", "https://" + old.serve(t, before, later, "127.0.0.1"), old, Error, "its authority has expired"},
		{"another's name", "https://" + ca.serve(t, before, later, "192.0.2.7"), ca, Error, "is another's: x509: certificate is valid for 192.0.2.7, not 127.0.0.1"},
		{"no TLS", "https://" + plain.Addr().String(), ca, Error, "there is no TLS handshake: tls: first record does not look like a TLS handshake"},
		{"http", "http://" + plain.Addr().String(), ca, "", ""},
		{"nobody", "https://127.0.0.1:1", ca, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := healthy()
			f.Config.Local.Ctl = config.Ctl{CACert: tc.ca.file}
			f.Config.Local.Etcd = config.Etcd{}
			f.Members = []Member{{Member: dcs.Member{Name: "n2", APIURL: tc.url + "/patroni"}}}
			f.Etcd = nil
			f.askCertificates(t.Context())
			checkFinding(t, certificates(f), "n2", tc.severity, tc.seen)

			// The same endpoint as etcd's, whose certificate is always verified.
			f.Members, f.Certificates, f.Config.PGHA.VerifyPeers = nil, nil, false
			scheme, hostPort, _ := strings.Cut(tc.url, "://")
			f.Config.Local.Etcd = config.Etcd{Kind: "etcd3", Protocol: scheme, Hosts: []string{hostPort}, CACert: tc.ca.file}
			f.askCertificates(t.Context())
			checkFinding(t, certificates(f), inEtcd, tc.severity, tc.seen)
		})
	}
}

// TestCertificatesNobodyVerifies: while no member verifies another, a bad one is
// worth a warning.
func TestCertificatesNobodyVerifies(t *testing.T) {
	f := healthy()
	f.Config.PGHA.VerifyPeers = false
	f.Certificates = []Certificate{{Where: "n2", From: testNow.AddDate(0, -1, 0), Until: testNow.AddDate(1, 0, 0), Name: "wrong"}}
	checkFinding(t, certificates(f), "n2", Warning, "is another's: wrong")
}

func checkFinding(t *testing.T, found []Finding, where string, severity Severity, seen string) {
	t.Helper()
	if severity == "" {
		if len(found) != 0 {
			t.Errorf("found %+v", found)
		}
		return
	}
	if len(found) != 1 || found[0].Severity != severity || found[0].Where != where || !strings.Contains(found[0].Seen, seen) || found[0].Cure == "" {
		t.Errorf("found %+v, want %s at %s: %s", found, severity, where, seen)
	}
}
