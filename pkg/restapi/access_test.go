package restapi

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
)

// unsafeRequests is every protected request.
var unsafeRequests = [][2]string{
	{"PATCH", "/config"}, {"PUT", "/config"}, {"POST", "/reload"}, {"POST", "/restart"}, {"POST", "/reinitialize"},
	{"POST", "/failover"}, {"POST", "/switchover"}, {"POST", "/failsafe"}, {"POST", "/freeze"}, {"POST", "/sigterm"}, {"POST", "/citus"},
	{"POST", "/mpp"}, {"DELETE", "/restart"}, {"DELETE", "/switchover"},
	{"DELETE", "/reinitialize"}, {"POST", "/backup"}, {"DELETE", "/backup"}, {"POST", "/backup_check"},
	{"POST", "/restore"}, {"DELETE", "/restore"}, {"POST", "/accept_dcs"},
}

func withAuth() Settings {
	return Settings{RestAPI: config.RestAPI{Username: "admin", Password: "s3cret"}}
}

func TestBasicAuth(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	for _, r := range unsafeRequests {
		s := newServer(t, a, withAuth()) // a new throttle each time
		for name, c := range map[string]struct {
			user, pass string
			text       string
		}{
			"none":           {"", "", "no auth header received"},
			"wrong password": {"admin", "secret", "not authenticated"},
			"wrong user":     {"root", "s3cret", "not authenticated"},
			"longer":         {"admin", "s3cret2", "not authenticated"},
		} {
			got := ask(s.Handler(), r[0], r[1], `{"ttl":40}`, func(req *http.Request) {
				if c.user != "" {
					req.SetBasicAuth(c.user, c.pass)
				}
			})
			if got.Code != 401 || got.Body.String() != c.text || got.Header().Get("WWW-Authenticate") != `Basic realm="Patroni"` {
				t.Errorf("%s %s, %s: %d %q %v", r[0], r[1], name, got.Code, got.Body, got.Header())
			}
		}
	}
	if a.count() != 0 || len(a.asked) != 0 {
		t.Fatalf("changed %v, %d reloads, asked %v", a.writes, a.reloads, a.asked)
	}
	s := newServer(t, a, withAuth())
	got := ask(s.Handler(), "POST", "/reload", "", func(r *http.Request) { r.SetBasicAuth("admin", "s3cret") })
	if got.Code != 202 || a.reloads != 1 {
		t.Errorf("right password: %d", got.Code)
	}
	for _, path := range []string{"/primary", "/config", "/cluster", "/metrics", "/patroni"} {
		if got := ask(s.Handler(), "GET", path, ""); got.Code != 200 {
			t.Errorf("GET %s needs no password, got %d", path, got.Code)
		}
	}
}

func TestAuthThrottle(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	s := newServer(t, a, withAuth())
	now := time.Now()
	s.throttle.clock = func() time.Time { return now }
	try := func(pass, from string) int {
		return ask(s.Handler(), "POST", "/reload", "", func(r *http.Request) {
			r.SetBasicAuth("admin", pass)
			r.RemoteAddr = from
		}).Code
	}
	for i := range maxFailures {
		if got := try("guess", "192.0.2.66:1000"); got != 401 {
			t.Fatalf("guess %d: %d", i, got)
		}
	}
	if got := try("s3cret", "192.0.2.66:1001"); got != 429 {
		t.Errorf("after %d failures: %d", maxFailures, got)
	}
	if got := try("s3cret", "192.0.2.1:1000"); got != 202 {
		t.Errorf("another address: %d", got)
	}
	now = now.Add(1100 * time.Millisecond)
	if got := try("s3cret", "192.0.2.66:1001"); got != 202 {
		t.Errorf("a second later: %d", got)
	}
	for i := range 3 * maxAddresses {
		s.throttle.failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if n := len(s.throttle.byIP); n > maxAddresses {
		t.Errorf("%d addresses remembered", n)
	}
}

func TestAllowlist(t *testing.T) {
	from := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
	for _, c := range []struct {
		name     string
		settings config.RestAPI
		addr     string
		want     int
	}{
		{"no list", config.RestAPI{}, "203.0.113.9:1", 202},
		{"address on it", config.RestAPI{Allowlist: []string{"203.0.113.9"}}, "203.0.113.9:1", 202},
		{"address not on it", config.RestAPI{Allowlist: []string{"203.0.113.9"}}, "203.0.113.8:1", 403},
		{"network", config.RestAPI{Allowlist: []string{"203.0.113.0/24"}}, "203.0.113.8:1", 202},
		{"v4 as v6", config.RestAPI{Allowlist: []string{"203.0.113.9"}}, "[::ffff:203.0.113.9]:1", 202},
		{"v6", config.RestAPI{Allowlist: []string{"2001:db8::/32"}}, "[2001:db8::1]:1", 202},
		{"host name", config.RestAPI{Allowlist: []string{"localhost"}}, "127.0.0.1:1", 202},
		{"member", config.RestAPI{AllowlistIncludeMembers: true}, "192.0.2.3:1", 202},
		{"no member", config.RestAPI{AllowlistIncludeMembers: true}, "192.0.2.4:1", 403},
		{"member, but only the list counts", config.RestAPI{Allowlist: []string{"203.0.113.9"}}, "192.0.2.3:1", 403},
		{"no address at all", config.RestAPI{Allowlist: []string{"0.0.0.0/0", "::/0"}}, "@", 403},
	} {
		a := newAgent(t, "healthy-async", "pg-db-02")
		h := newServer(t, a, Settings{RestAPI: c.settings}).Handler()
		if got := ask(h, "POST", "/reload", "", from(c.addr)); got.Code != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, got.Code, got.Body, c.want)
		}
		if got := ask(h, "GET", "/patroni", "", from(c.addr)); got.Code != 200 {
			t.Errorf("%s: GET is open to everybody, got %d", c.name, got.Code)
		}
	}
}

func TestClientCertificateRule(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	pki := newPKI(t)
	set := Settings{RestAPI: config.RestAPI{CertFile: pki.server, CAFile: pki.ca, VerifyClient: "optional"}}
	h := newServer(t, a, set)
	plain := ask(h.Handler(), "POST", "/reload", "", func(r *http.Request) { r.TLS = &tls.ConnectionState{} })
	if plain.Code != 403 || plain.Body.String() != "client certificate required" {
		t.Errorf("without certificate: %d %q", plain.Code, plain.Body)
	}
	good := ask(h.Handler(), "POST", "/reload", "", func(r *http.Request) {
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{}}}
	})
	if good.Code != 202 {
		t.Errorf("with certificate: %d %q", good.Code, good.Body)
	}
}

func TestCrossSite(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	// httptest's requests are to example.com.
	h := newServer(t, a, Settings{RestAPI: config.RestAPI{ConnectAddress: "Example.com:8008", Listen: "0.0.0.0:8008"}}).Handler()
	for _, c := range []struct {
		header, value string
		want          int
	}{
		{"Origin", "http://evil.example", 403}, {"Origin", "null", 403}, {"Sec-Fetch-Site", "cross-site", 403},
		{"Sec-Fetch-Site", "same-origin", 202}, {"Origin", "http://example.com", 202}, {"X-Nothing", "x", 202},
	} {
		got := ask(h, "POST", "/reload", "", func(r *http.Request) { r.Header.Set(c.header, c.value) })
		if got.Code != c.want {
			t.Errorf("%s: %s gives %d, want %d", c.header, c.value, got.Code, c.want)
		}
		if got := ask(h, "GET", "/primary", "", func(r *http.Request) { r.Header.Set(c.header, c.value) }); got.Code != 200 {
			t.Errorf("GET with %s: %s gives %d", c.header, c.value, got.Code)
		}
	}
}

// TestRebinding: a foreign name that was pointed at our address is of the same
// origin for a browser, and no name of ours.
func TestRebinding(t *testing.T) {
	for _, c := range []struct {
		host, origin string
		want         int
	}{
		{"evil.example:8008", "http://evil.example:8008", 403}, {"evil.example", "http://evil.example", 403},
		{"evil.example:8008", "", 202}, // no browser
		{"pg1.example:8008", "http://pg1.example:8008", 202}, {"listen.example:8008", "http://listen.example:8008", 202},
		{"192.0.2.1:8008", "http://192.0.2.1:8008", 202}, {"[2001:db8::1]:8008", "http://[2001:db8::1]:8008", 202}, {"localhost:8008", "http://localhost:8008", 202},
	} {
		a := newAgent(t, "healthy-async", "pg-db-02")
		h := newServer(t, a, Settings{RestAPI: config.RestAPI{ConnectAddress: "pg1.example:8008", Listen: "listen.example:8008"}}).Handler()
		got := ask(h, "POST", "/reload", "", func(r *http.Request) {
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
		})
		if got.Code != c.want || (a.reloads == 1) != (c.want == 202) {
			t.Errorf("Host %s, Origin %s: %d, want %d", c.host, c.origin, got.Code, c.want)
		}
	}
}

func TestExtraHeaders(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	pki := newPKI(t)
	both := config.RestAPI{
		HTTPExtraHeaders:  []config.Option{{Name: "x-one", Value: "http"}, {Name: "X-Two", Value: "2"}},
		HTTPSExtraHeaders: []config.Option{{Name: "X-One", Value: "https"}},
	}
	overTLS := both
	overTLS.CertFile = pki.server
	for _, c := range []struct {
		settings     config.RestAPI
		method, path string
		one, two     string
		server       string
	}{
		{both, "GET", "/primary", "http", "2", "pgha"},
		{both, "GET", "/metrics", "http", "2", "pgha"},
		{both, "POST", "/reload", "http", "2", "pgha"},
		{both, "HEAD", "/primary", "", "", ""}, // status only
		{both, "GET", "/liveness", "", "", ""}, // status only
		{both, "PUT", "/nothing", "", "", ""},  // error page
		{overTLS, "GET", "/primary", "https", "2", "pgha"},
		{config.RestAPI{ServerTokens: "Minimal"}, "GET", "/primary", "", "", "Patroni/4.1.4"},
		{config.RestAPI{ServerTokens: "productonly"}, "GET", "/primary", "", "", "Patroni"},
	} {
		got := ask(newServer(t, a, Settings{RestAPI: c.settings}).Handler(), c.method, c.path, "").Header()
		if got.Get("X-One") != c.one || got.Get("X-Two") != c.two || got.Get("Server") != c.server {
			t.Errorf("%s %s: %v", c.method, c.path, got)
		}
	}
	bad := Settings{RestAPI: config.RestAPI{HTTPExtraHeaders: []config.Option{{Name: "a b", Value: "x"}}}}
	if _, err := New(Options{Agent: a, Settings: bad, Logger: quiet()}); err == nil {
		t.Error("a header name with a blank was accepted")
	}
}

func TestStrict(t *testing.T) {
	pki := newPKI(t)
	for _, c := range []struct {
		rest config.RestAPI
		ok   bool
	}{
		{config.RestAPI{Listen: "127.0.0.1:8008"}, true}, {config.RestAPI{Listen: "[::1]:8008"}, true}, {config.RestAPI{Listen: "localhost:8008"}, true},
		{config.RestAPI{Listen: "0.0.0.0:8008"}, false}, {config.RestAPI{Listen: ":8008"}, false},
		{config.RestAPI{Listen: "0.0.0.0:8008", Username: "u", Password: "p"}, false},
		{config.RestAPI{Listen: "0.0.0.0:8008", CertFile: pki.server}, false},
		{config.RestAPI{Listen: "0.0.0.0:8008", CertFile: pki.server, Username: "u", Password: "p"}, true},
		{config.RestAPI{Listen: "0.0.0.0:8008", CertFile: pki.server, CAFile: pki.ca, VerifyClient: "required"}, true},
	} {
		_, err := New(Options{Agent: newAgent(t, "healthy-async", "pg-db-02"), Settings: Settings{RestAPI: c.rest, Strict: true}, Logger: quiet()})
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.rest, err)
		}
	}
}

// TestReconfigure: new rules hold for the next request, bad ones change nothing.
func TestReconfigure(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	s := newServer(t, a, Settings{})
	if err := s.Reconfigure(withAuth()); err != nil {
		t.Fatal(err)
	}
	if got := ask(s.Handler(), "POST", "/reload", ""); got.Code != 401 {
		t.Errorf("after the reload: %d", got.Code)
	}
	bad := withAuth()
	bad.Password, bad.HTTPExtraHeaders = "", []config.Option{{Name: "a b"}}
	if err := s.Reconfigure(bad); err == nil {
		t.Error("bad headers accepted")
	}
	if got := ask(s.Handler(), "POST", "/reload", "", func(r *http.Request) { r.SetBasicAuth("admin", "s3cret") }); got.Code != 202 {
		t.Errorf("the old password should still hold: %d", got.Code)
	}
}

// TestReconfigureSocket: another address is listened on and TLS begins and ends
// without another server; what cannot be had changes nothing.
func TestReconfigureSocket(t *testing.T) {
	p := newPKI(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := free.Addr().String()
	_, port, _ := net.SplitHostPort(listen)
	_ = free.Close()
	s := newServer(t, newAgent(t, "healthy-async", "pg-db-02"), Settings{RestAPI: config.RestAPI{Listen: listen}})
	run(t, s)
	answers := func(what, url string) {
		t.Helper()
		if status, _, err := tlsClient(t, config.Ctl{CACert: p.ca}, false).Get(t.Context(), url+"/primary"); err != nil || status != 200 {
			t.Errorf("%s: %d, %v", what, status, err)
		}
	}
	reconfigure := func(rest config.RestAPI, ok bool) {
		t.Helper()
		if err := s.Reconfigure(Settings{RestAPI: rest}); (err == nil) != ok {
			t.Errorf("%+v: %v", rest, err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	reconfigure(config.RestAPI{Listen: taken.Addr().String()}, false)
	reconfigure(config.RestAPI{Listen: listen, CertFile: p.server + ".gone"}, false)
	answers("after what could not be had", "http://127.0.0.1:"+port)
	reconfigure(config.RestAPI{Listen: listen, CertFile: p.server}, true)
	answers("with certificates", "https://127.0.0.1:"+port)
	reconfigure(config.RestAPI{Listen: "0.0.0.0:" + port, CertFile: p.server}, true)
	answers("an address that overlaps the old one", "https://127.0.0.1:"+port)
	reconfigure(config.RestAPI{Listen: "127.0.0.1:0"}, true)
	if s.Addr().String() == "127.0.0.1:"+port {
		t.Fatal("still at the old address")
	}
	answers("another address, without certificates", "http://"+s.Addr().String())
	if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
		_ = conn.Close()
		t.Error("the old address is served, too")
	}
}

// FuzzRouter: whatever comes in, the status is one we know, and nothing changes
// without the password.
func FuzzRouter(f *testing.F) {
	for _, r := range unsafeRequests {
		f.Add(r[0], r[1], `{"ttl":40}`, "")
	}
	f.Add("GET", "/replica?lag=1MB&tag_x=%zz", "", "Basic YWRtaW46eA==")
	f.Add("HEAD", "//primary/../config", "{", "Basic")
	f.Add("OPTIONS", "*", "", "")
	f.Add("POST", "/switchover", `{"leader":"pg-db-02","candidate":null,"scheduled_at":"2100-01-01"}`, "x")
	f.Add("POST", "/restore", `{"type":"time","value":"2026-01-01 00:00:00+00"}`, "x")
	f.Add("DELETE", "/reinitialize", "", "Basic YWRtaW46cw==")
	allowed := map[int]bool{200: true, 202: true, 400: true, 401: true, 403: true, 404: true, 411: true, 412: true, 413: true, 422: true, 429: true, 501: true, 502: true, 503: true}
	f.Fuzz(func(t *testing.T, method, target, body, auth string) {
		req, err := http.NewRequest(method, target, nil)
		if err != nil {
			return
		}
		a := newAgent(t, "healthy-async", "pg-db-02")
		before := a.View()
		h := newServer(t, a, withAuth()).Handler()
		set := func(r *http.Request) {
			r.Method, r.URL = req.Method, req.URL
			r.Header.Set("Authorization", auth)
		}
		got := ask(h, "GET", "/", body, set)
		if !allowed[got.Code] {
			t.Errorf("%s %q: status %d", method, target, got.Code)
		}
		if _, pass, ok := basicAuth(auth); (!ok || pass != "s3cret") && (a.count() != 0 || len(a.asked) != 0 || a.View() != before) {
			t.Errorf("%s %q changed %v without the password", method, target, a.writes)
		}
	})
}

func basicAuth(header string) (user, pass string, ok bool) {
	return (&http.Request{Header: http.Header{"Authorization": {header}}}).BasicAuth()
}

// TestUnknownMethods: the answer old clients look for.
func TestUnknownMethods(t *testing.T) {
	h := newServer(t, newAgent(t, "healthy-async", "pg-db-02"), Settings{}).Handler()
	for _, r := range [][2]string{{"PUT", "/patroni"}, {"POST", "/"}, {"DELETE", "/config"}, {"BREW", "/primary"}, {"TRACE", "/"}} {
		got := ask(h, r[0], r[1], "")
		if got.Code != 501 || got.Header().Get("Connection") != "close" {
			t.Errorf("%s %s: %d", r[0], r[1], got.Code)
		}
	}
}

// GET /explain shows paths and addresses: it is under the access rules, and
// shows no secret.
func TestExplain(t *testing.T) {
	local, _, err := config.Parse([]byte("scope: s\nname: n\netcd3: {host: h, username: u, password: hunter22}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, "healthy-async", "pg-db-02")
	a.view.PendingRestart = map[string]ha.PendingRestart{"max_connections": {Old: "100", New: "200"}}
	s, err := New(Options{Agent: a, Settings: withAuth(), Logger: quiet(), Config: func() *config.Effective { return config.EffectiveOf(local, nil) }})
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(s.Handler(), "GET", "/explain", ""); got.Code != 401 {
		t.Errorf("without a password: %d", got.Code)
	}
	got := ask(s.Handler(), "GET", "/explain", "", func(r *http.Request) { r.SetBasicAuth("admin", "s3cret") })
	body := got.Body.String()
	if got.Code != 200 || strings.Contains(body, "hunter22") ||
		!strings.Contains(body, `{"key": "etcd3.host", "value": "h", "source": "file", "origin": "configuration:3"}`) ||
		!strings.Contains(body, `"pending_restart": {"old_value": "100", "new_value": "200"}`) {
		t.Errorf("%d %s", got.Code, body)
	}
}
