package restapi

import (
	"bufio"
	"bytes"
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
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
)

// start serves on a free port of 127.0.0.1 until the test ends.
func start(t testing.TB, a Agent, set Settings) *Server {
	t.Helper()
	set.Listen = "127.0.0.1:0"
	s := newServer(t, a, set)
	run(t, s)
	return s
}

func run(t testing.TB, s *Server) {
	t.Helper()
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// talk opens a connection and sends raw text.
func talk(t *testing.T, s *Server, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestHTTP10 is what HAProxy's httpchk sends by default: no Host, no keep-alive.
func TestHTTP10(t *testing.T) {
	s := start(t, newAgent(t, "healthy-async", "pg-db-02"), Settings{})
	for text, want := range map[string]string{
		"OPTIONS / HTTP/1.0\r\n\r\n":       "HTTP/1.0 200 OK",
		"OPTIONS * HTTP/1.0\r\n\r\n":       "HTTP/1.0 503 Service Unavailable",
		"HEAD /replica HTTP/1.0\r\n\r\n":   "HTTP/1.0 503 Service Unavailable",
		"GET /primary HTTP/1.0\r\n\r\n":    "HTTP/1.0 200 OK",
		"GET /liveness HTTP/1.0\r\n\r\n":   "HTTP/1.0 200 OK",
		"DELETE /restart HTTP/1.0\r\n\r\n": "HTTP/1.0 404 Not Found",
	} {
		raw, err := io.ReadAll(talk(t, s, text)) // ends because the server closes
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		head, body, _ := strings.Cut(string(raw), "\r\n\r\n")
		line, headers, _ := strings.Cut(head, "\r\n")
		if line != want {
			t.Errorf("%q: %q, want %q", text, line, want)
		}
		if !strings.Contains(headers, "Date: ") {
			t.Errorf("%q: no Date in %q", text, headers)
		}
		bareAnswer := !strings.HasPrefix(text, "GET /primary") && !strings.HasPrefix(text, "DELETE")
		if bareAnswer && (body != "" || strings.Contains(headers, "Content-Type") || strings.Contains(headers, "Server")) {
			t.Errorf("%q: more than the status line: %q", text, raw)
		}
		if strings.HasPrefix(text, "GET /primary") && !strings.Contains(headers, fmt.Sprintf("Content-Length: %d", len(body))) {
			t.Errorf("%q: Content-Length in %q does not fit a body of %d", text, headers, len(body))
		}
	}
}

func TestKeepAlive(t *testing.T) {
	s := start(t, newAgent(t, "healthy-async", "pg-db-02"), Settings{})
	c := talk(t, s, "")
	r := bufio.NewReader(c)
	for range 3 {
		_, _ = io.WriteString(c, "GET /primary HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 200 || resp.Close {
			t.Errorf("status %d, close %v", resp.StatusCode, resp.Close)
		}
	}
}

// TestSlowClients: headers and bodies that never end are cut off.
func TestSlowClients(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	s := newServer(t, a, Settings{RestAPI: config.RestAPI{Listen: "127.0.0.1:0"}})
	s.http.ReadHeaderTimeout, s.http.ReadTimeout = 100*time.Millisecond, 200*time.Millisecond
	run(t, s)
	for _, text := range []string{
		"GET /primary HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"PATCH /config HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
	} {
		c := talk(t, s, text)
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: the connection stayed open", text)
		}
	}
	if a.count() != 0 {
		t.Errorf("wrote %v", a.writes)
	}
	long := talk(t, s, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: "+strings.Repeat("x", 40<<10)+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(long), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("long header: %v %v", resp, err)
	}
	// The limits of a real server are set.
	real := newServer(t, a, Settings{}).http
	if real.ReadHeaderTimeout == 0 || real.ReadTimeout == 0 || real.WriteTimeout == 0 || real.IdleTimeout == 0 || real.MaxHeaderBytes != 16<<10 {
		t.Errorf("limits: %+v", real)
	}
}

// TestConnectionCap: one address cannot take every connection.
func TestConnectionCap(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newCappedListener(inner, 3, 2)
	accepted := make(chan net.Conn, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	dial := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
		c, err := d.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	refused := func(c net.Conn) bool {
		_, err := c.Read(make([]byte, 1))
		return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	}
	dial("127.0.0.1")
	first := <-accepted
	dial("127.0.0.1")
	second := <-accepted
	if !refused(dial("127.0.0.1")) {
		t.Error("third connection of one address was taken")
	}
	dial("127.0.0.2")
	third := <-accepted
	if !refused(dial("127.0.0.3")) {
		t.Error("fourth connection in all was taken")
	}
	_ = first.Close()
	_ = first.Close() // closing twice gives one place back
	dial("127.0.0.3")
	fourth := <-accepted
	if !refused(dial("127.0.0.4")) {
		t.Error("a place was given back twice")
	}
	for _, c := range []net.Conn{second, third, fourth} {
		_ = c.Close()
	}
	if l.open != 0 || len(l.byAddr) != 0 {
		t.Errorf("%d open, %v", l.open, l.byAddr)
	}
}

func TestPortInUse(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	first := start(t, a, Settings{})
	s := newServer(t, a, Settings{RestAPI: config.RestAPI{Listen: first.Addr().String()}})
	err := s.Listen(t.Context())
	if err == nil || !strings.Contains(err.Error(), "restapi.listen") || !strings.Contains(err.Error(), "in use") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

// TestBusy: costly requests have a bounded number of places, health checks need
// none.
func TestBusy(t *testing.T) {
	s := newServer(t, newAgent(t, "healthy-async", "pg-db-02"), Settings{})
	for range maxReads {
		s.reads <- struct{}{}
	}
	for range maxChanges {
		s.changes <- struct{}{}
	}
	for target, want := range map[string]int{"/cluster": 503, "/metrics": 503, "/config": 503, "/primary": 200, "/patroni": 200, "/liveness": 200} {
		if got := ask(s.Handler(), "GET", target, ""); got.Code != want {
			t.Errorf("GET %s: %d, want %d", target, got.Code, want)
		}
	}
	if got := ask(s.Handler(), "POST", "/reload", ""); got.Code != 503 {
		t.Errorf("POST /reload: %d", got.Code)
	}
}

// pki holds the files of a small certificate authority.
type pki struct {
	dir, ca, server, client string // server and client: certificate and key in one file
	caCert                  *x509.Certificate
	caKey                   *ecdsa.PrivateKey
	serial                  int64
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	p := &pki{dir: t.TempDir()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	p.caCert, _ = x509.ParseCertificate(der)
	p.caKey, p.serial = key, 1
	p.ca = p.write(t, "ca.pem", &pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.server = p.issue(t, "server.pem", "server")
	p.client = p.issue(t, "client.pem", "client")
	return p
}

func (p *pki) write(t testing.TB, name string, blocks ...*pem.Block) string {
	t.Helper()
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(b)...)
	}
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// issue writes a new certificate for 127.0.0.1 with its key.
func (p *pki) issue(t testing.TB, file, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.serial++
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(p.serial), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.caCert, &key.PublicKey, p.caKey)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return p.write(t, file, &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: pk})
}

func tlsClient(t *testing.T, c config.Ctl, insecure bool) *Client {
	t.Helper()
	conf, err := ClientTLS(c, insecure)
	if err != nil {
		t.Fatal(err)
	}
	client := NewClient(ClientOptions{TLS: conf})
	t.Cleanup(client.Close)
	return client
}

func TestTLS(t *testing.T) {
	p := newPKI(t)
	a := newAgent(t, "healthy-async", "pg-db-02")
	s := start(t, a, Settings{RestAPI: config.RestAPI{CertFile: p.server, CAFile: p.ca, VerifyClient: "optional"}})
	url := "https://" + s.Addr().String()

	plain := tlsClient(t, config.Ctl{CACert: p.ca}, false)
	if status, _, err := plain.Get(t.Context(), url+"/primary"); err != nil || status != 200 {
		t.Errorf("GET: %d %v", status, err)
	}
	if status, _, err := plain.Post(t.Context(), url+"/patroni", "/reload", nil); err != nil || status != 403 {
		t.Errorf("POST without certificate: %d %v", status, err)
	}
	known := tlsClient(t, config.Ctl{CACert: p.ca, CertFile: p.client}, false)
	if status, _, err := known.Post(t.Context(), url+"/patroni", "/reload", nil); err != nil || status != 202 {
		t.Errorf("POST with certificate: %d %v", status, err)
	}
	stranger := newPKI(t)
	if _, _, err := tlsClient(t, config.Ctl{CACert: stranger.ca}, false).Get(t.Context(), url); err == nil {
		t.Error("a server of another authority was trusted")
	}
	if status, _, err := tlsClient(t, config.Ctl{CACert: stranger.ca}, true).Get(t.Context(), url+"/primary"); err != nil || status != 200 {
		t.Errorf("insecure, no client certificate: %d %v", status, err)
	}
	if _, _, err := tlsClient(t, config.Ctl{CACert: stranger.ca, CertFile: p.client}, true).Get(t.Context(), url); err == nil {
		t.Error("with a client certificate the chain must be verified even when insecure")
	}
	if conn, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 accepted")
	}
}

// TestSilentTLSClients: whoever connects and says nothing holds up nobody else
// (scar 130 of docs/scenarios.md).
func TestSilentTLSClients(t *testing.T) {
	p := newPKI(t)
	s := start(t, newAgent(t, "healthy-async", "pg-db-02"), Settings{RestAPI: config.RestAPI{CertFile: p.server, CAFile: p.ca}})
	for range 5 {
		talk(t, s, "")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if status, _, err := tlsClient(t, config.Ctl{CACert: p.ca}, false).Get(ctx, "https://"+s.Addr().String()+"/primary"); err != nil || status != 200 {
		t.Errorf("beside silent clients: %d %v", status, err)
	}
}

func TestTLSRequiredAndReload(t *testing.T) {
	p := newPKI(t)
	a := newAgent(t, "healthy-async", "pg-db-02")
	s := start(t, a, Settings{RestAPI: config.RestAPI{CertFile: p.server, CAFile: p.ca, VerifyClient: "required"}})
	url := "https://" + s.Addr().String() + "/primary"
	if _, _, err := tlsClient(t, config.Ctl{CACert: p.ca}, false).Get(t.Context(), url); err == nil {
		t.Error("required: a client without certificate got an answer")
	}
	serial := func() string {
		conf, err := ClientTLS(config.Ctl{CACert: p.ca, CertFile: p.client}, false)
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.Dial("tcp", s.Addr().String(), conf)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	p.issue(t, "server.pem", "server")
	if serial() != before {
		t.Error("the new file was used without a reload")
	}
	if err := s.Reconfigure(s.rules.Load().settings); err != nil {
		t.Fatal(err)
	}
	after := serial()
	if after == before {
		t.Error("the reload changed nothing")
	}
	if err := os.WriteFile(p.server, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reconfigure(s.rules.Load().settings); err == nil {
		t.Error("a broken file was loaded")
	}
	if serial() != after {
		t.Error("a broken file replaced the good certificate")
	}
}

// TestEncryptedKey reads keys as OpenSSL writes them.
func TestEncryptedKey(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	p := newPKI(t)
	for name, args := range map[string][]string{
		"pkcs8 aes-256":         {"pkcs8", "-topk8", "-v2", "aes-256-cbc"},
		"pkcs8 aes-128 sha1":    {"pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"},
		"traditional, DEK-Info": {"ec", "-aes256"},
	} {
		t.Run(name, func(t *testing.T) {
			key := filepath.Join(t.TempDir(), "key.pem")
			args = append(args, "-in", p.server, "-out", key, "-passout", "pass:opensesame")
			if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if _, err := loadPair("restapi", p.server, key, "opensesame"); err != nil {
				t.Error(err)
			}
			_, err := loadPair("restapi", p.server, key, "wrong")
			if err == nil || strings.Contains(err.Error(), "wrong") {
				t.Errorf("wrong password: %v", err)
			}
		})
	}
}

func TestCipherSuites(t *testing.T) {
	ids, unknown := cipherSuites("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:HIGH:!aNULL")
	if len(ids) != 2 || ids[0] != tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 || ids[1] != tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 {
		t.Errorf("ids %v", ids)
	}
	if strings.Join(unknown, " ") != "HIGH !aNULL" {
		t.Errorf("unknown %q", unknown)
	}
}

// brokenAgent has a defect in it.
type brokenAgent struct{ *fakeAgent }

func (brokenAgent) Sample(context.Context, time.Duration) (ha.Sample, bool) { panic("defect") }

// TestPanic: a defect costs one answer, not the node.
func TestPanic(t *testing.T) {
	var log bytes.Buffer
	s, err := New(Options{
		Agent:  brokenAgent{newAgent(t, "healthy-async", "pg-db-02")},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(s.Handler(), "GET", "/primary", ""); got.Code != 500 || !strings.Contains(log.String(), "defect") {
		t.Errorf("%d, log %q", got.Code, log.String())
	}
	if got := ask(s.Handler(), "HEAD", "/primary", ""); got.Code != 200 {
		t.Errorf("afterwards: %d", got.Code)
	}
}

// TestOpenIsReported: an API without any protection says so at start and in the
// metrics; secrets are in neither.
func TestOpenIsReported(t *testing.T) {
	p := newPKI(t)
	for _, c := range []struct {
		rest config.RestAPI
		open string
	}{
		{config.RestAPI{}, "1"}, {config.RestAPI{CertFile: p.server}, "1"},
		{config.RestAPI{Username: "u", Password: "canary"}, "0"}, {config.RestAPI{Allowlist: []string{"127.0.0.1"}}, "0"},
		{config.RestAPI{CertFile: p.server, CAFile: p.ca, VerifyClient: "optional"}, "0"},
	} {
		var log bytes.Buffer
		s, err := New(Options{
			Agent: newAgent(t, "healthy-async", "pg-db-02"), Settings: Settings{RestAPI: c.rest}, Metrics: exporter(),
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		text := ask(s.Handler(), "GET", "/metrics", "").Body.String()
		if got := parseMetrics(text)["pgha_restapi_open"][1]; got != c.open || strings.Contains(log.String(), "everybody") != (c.open == "1") {
			t.Errorf("%+v: open %s, log %q", c.rest, got, log.String())
		}
		if end := parseMetrics(text)["pgha_restapi_certificate_expiry_seconds"][1]; (end == "0") != (c.rest.CertFile == "") {
			t.Errorf("%+v: certificate ends %s", c.rest, end)
		}
		if strings.Contains(log.String()+text, "canary") {
			t.Error("the password is in the log or the metrics")
		}
	}
}

// TestServeEnds: Serve returns when its context ends, also with a connection
// open.
func TestServeEnds(t *testing.T) {
	s := newServer(t, newAgent(t, "healthy-async", "pg-db-02"), Settings{RestAPI: config.RestAPI{Listen: "127.0.0.1:0"}})
	if err := s.Serve(t.Context()); err == nil {
		t.Error("Serve without Listen")
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	talk(t, s, "GET /primary HTTP/1.1\r\nHost: x\r\n\r\nGET ")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
