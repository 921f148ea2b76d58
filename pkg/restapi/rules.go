package restapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// compatVersion is the Patroni release whose contract is served.
const compatVersion = "4.1.4"

// rules are the settings in force, prepared for use; immutable.
type rules struct {
	settings Settings
	headers  http.Header
	server   string // Server header
	// restricted: an allowlist is configured (or members only).
	restricted bool
	allowed    []netip.Prefix
	unresolved []string // allowlist entries that mean no address
	auth       bool
	user, pass [sha256.Size]byte
	needCert   bool
	tls        *tls.Config // nil: plain HTTP
}

// newRules prepares settings. Names of the allowlist are resolved here, once
// per (re)load; one that does not resolve admits nobody.
func newRules(s Settings, log *slog.Logger) (*rules, error) {
	r := &rules{
		settings:   s,
		headers:    http.Header{},
		restricted: len(s.Allowlist) > 0 || s.AllowlistIncludeMembers,
		auth:       s.AuthConfigured(),
		user:       sha256.Sum256([]byte(s.Username)),
		pass:       sha256.Sum256([]byte(s.Password.Reveal())),
		needCert:   s.TLS() && (s.VerifyClient == "optional" || s.VerifyClient == "required"),
	}
	r.server = serverName(s.ServerTokens)
	if err := addHeaders(r.headers, "http_extra_headers", s.HTTPExtraHeaders); err != nil {
		return nil, err
	}
	if s.TLS() {
		if err := addHeaders(r.headers, "https_extra_headers", s.HTTPSExtraHeaders); err != nil {
			return nil, err
		}
		conf, err := serverTLS(s, log)
		if err != nil {
			return nil, err
		}
		r.tls = conf
	}
	for _, entry := range s.Allowlist {
		found := resolve(context.Background(), entry)
		if len(found) == 0 {
			r.unresolved = append(r.unresolved, entry)
		}
		r.allowed = append(r.allowed, found...)
	}
	return r, nil
}

// serverName is the Server header (wire contract §1.4). "original" names the
// server's own software.
func serverName(tokens string) string {
	switch strings.ToLower(tokens) {
	case "minimal":
		return "Patroni/" + compatVersion
	case "productonly":
		return "Patroni"
	}
	return "pgha"
}

func addHeaders(h http.Header, section string, options []config.Option) error {
	for _, o := range options {
		if !validHeader(o.Name, o.Value) {
			return fmt.Errorf("restapi.%s: %q is no usable header; use letters, digits and - in the name and one line of text as value", section, o.Name)
		}
		h.Set(o.Name, o.Value)
	}
	return nil
}

func validHeader(name, value string) bool {
	if name == "" || strings.ContainsAny(value, "\r\n\x00") {
		return false
	}
	for _, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", c) {
			return false
		}
	}
	return true
}

const resolveTimeout = 2 * time.Second

// resolve turns an allowlist entry (address, network or host name) into
// networks; nil when it means none.
func resolve(ctx context.Context, entry string) []netip.Prefix {
	if p, err := netip.ParsePrefix(entry); err == nil {
		return []netip.Prefix{p.Masked()}
	}
	if a, err := netip.ParseAddr(entry); err == nil {
		a = a.Unmap()
		return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", entry)
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range addrs {
		a = a.Unmap()
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// checkStrict applies pgha.restapi_strict (safety E-1).
func checkStrict(s Settings) error {
	if !s.Strict || s.TLS() && (s.AuthConfigured() || s.VerifyClient == "required") {
		return nil
	}
	host, _, err := net.SplitHostPort(s.Listen)
	if err == nil {
		if a, err := netip.ParseAddr(host); err == nil && a.IsLoopback() || host == "localhost" {
			return nil
		}
	}
	return fmt.Errorf("restapi.listen %q: pgha.restapi_strict demands TLS and authentication here; set restapi.certfile and restapi.authentication, or listen on 127.0.0.1", s.Listen)
}

// open tells whether anybody who can connect may change the cluster.
func (r *rules) open() bool { return !r.auth && !r.needCert && !r.restricted }

// guard lets h answer only requests that may change something (wire contract
// §5.2): source address, client certificate, Basic auth, in this order. Before
// all of them, requests a browser sends on behalf of a foreign site are refused
// (safety E-4).
func (s *Server) guard(h http.HandlerFunc) http.HandlerFunc {
	crossSite := http.NewCrossOriginProtection()
	return func(w http.ResponseWriter, req *http.Request) {
		r := s.rules.Load()
		switch {
		case crossSite.Check(req) != nil, r.rebound(req):
			s.text(w, http.StatusForbidden, "cross-site requests are refused")
		case !s.allowedSource(req, r):
			s.text(w, http.StatusForbidden, "Access is denied")
		case r.needCert && (req.TLS == nil || len(req.TLS.VerifiedChains) == 0):
			s.text(w, http.StatusForbidden, "client certificate required")
		case s.authenticated(w, req, r):
			h(w, req)
		}
	}
}

// rebound tells whether a browser was led here by a name that is not ours: a site
// that points its own name at our address is of the same origin then. Programs
// send no Origin, and may call us what they like.
func (r *rules) rebound(req *http.Request) bool {
	if req.Header.Get("Origin") == "" {
		return false
	}
	host := hostname(req.Host)
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return false
	}
	return !strings.EqualFold(host, hostname(r.settings.ConnectAddress)) && !strings.EqualFold(host, hostname(r.settings.Listen))
}

// hostname is the host of host:port, or of a host alone.
func hostname(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

// allowedSource tells whether the request's address is on the allowlist or, if
// configured, a member's.
func (s *Server) allowedSource(req *http.Request, r *rules) bool {
	failsafe := segment(req) == "/failsafe" // members ask for it when nobody can say who they are
	if !r.restricted || failsafe && len(r.allowed)+len(r.unresolved) == 0 {
		return true
	}
	from, ok := remote(req)
	if !ok {
		return false
	}
	if contains(r.allowed, from) {
		return true
	}
	if !r.settings.AllowlistIncludeMembers || failsafe {
		return false
	}
	c := s.agent.View().Cluster
	return c != nil && slices.ContainsFunc(c.Members, func(m dcs.Member) bool {
		u, err := url.Parse(m.APIURL)
		return err == nil && u.Hostname() != "" && contains(resolve(req.Context(), u.Hostname()), from)
	})
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// remote is the address the request came from.
func remote(req *http.Request) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	return ap.Addr().Unmap().WithZone(""), true
}

// authenticated checks Basic auth and answers 401 itself. Both sides are hashed
// first and both halves always compared, so that time tells nothing (safety
// E-2).
func (s *Server) authenticated(w http.ResponseWriter, req *http.Request, r *rules) bool {
	if !r.auth {
		return true
	}
	from, _ := remote(req)
	if !s.throttle.allow(from) {
		w.Header().Set("Retry-After", "1")
		s.text(w, http.StatusTooManyRequests, "too many failed authentications from this address")
		return false
	}
	user, pass, given := req.BasicAuth()
	u, p := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(pass))
	same := subtle.ConstantTimeCompare(u[:], r.user[:]) & subtle.ConstantTimeCompare(p[:], r.pass[:])
	if given && same == 1 {
		return true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="Patroni"`)
	if req.Header.Get("Authorization") == "" {
		s.text(w, http.StatusUnauthorized, "no auth header received")
		return false
	}
	s.throttle.failed(from)
	s.text(w, http.StatusUnauthorized, "not authenticated")
	return false
}

// throttle slows down guessing: an address has a few failures at once and then
// one a second.
type throttle struct {
	mu    sync.Mutex
	byIP  map[netip.Addr]*bucket
	clock func() time.Time
}

type bucket struct {
	failures float64 // decays by one a second
	at       time.Time
}

const (
	maxFailures  = 10
	maxAddresses = 4096
)

func newThrottle() *throttle {
	return &throttle{byIP: map[netip.Addr]*bucket{}, clock: time.Now}
}

// level is the present number of failures of a; the caller holds mu.
func (t *throttle) level(a netip.Addr) float64 {
	b := t.byIP[a]
	if b == nil {
		return 0
	}
	return max(0, b.failures-t.clock().Sub(b.at).Seconds())
}

func (t *throttle) allow(a netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.level(a) < maxFailures
}

func (t *throttle) failed(a netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	level := t.level(a)
	if len(t.byIP) >= maxAddresses {
		for k := range t.byIP {
			if t.level(k) == 0 {
				delete(t.byIP, k)
			}
		}
		if len(t.byIP) >= maxAddresses {
			clear(t.byIP) // bounded memory matters more than a few extra guesses
		}
	}
	t.byIP[a] = &bucket{failures: level + 1, at: t.clock()}
}
