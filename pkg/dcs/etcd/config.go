package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config says how to reach etcd and which cluster to keep there.
type Config struct {
	// Endpoints are URLs or host:port (then http, port 2379 by default).
	Endpoints []string
	// SRV is a domain to discover endpoints by; it is used when not empty and
	// asked again together with the member list. SRVSuffix is appended to the
	// service label (wire contract §1.6).
	SRV, SRVSuffix string
	// UseProxies takes the endpoints as they are, without asking for members.
	UseProxies bool
	// Username and Password authenticate when both are set.
	Username, Password string
	// TLS is used for https endpoints. Nil: the system's roots.
	TLS *tls.Config
	// Base is the path of the cluster, from dcs.Base.
	Base string
	// TTL to ask for, 30 s by default; SetTTL changes it.
	TTL time.Duration
	// RetryTimeout bounds background requests and the silence of a watch.
	// 10 s by default.
	RetryTimeout time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// String leaves the password out.
func (c Config) String() string {
	return fmt.Sprintf("etcd %s base %s user %q", strings.Join(c.Endpoints, ","), c.Base, c.Username)
}

// GoString leaves the password out.
func (c Config) GoString() string { return c.String() }

// LogValue leaves the password out.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

const (
	defaultTTL          = 30 * time.Second
	defaultRetryTimeout = 10 * time.Second
	defaultPort         = "2379"
)

func (c *Config) complete() error {
	if c.TTL <= 0 {
		c.TTL = defaultTTL
	}
	if c.RetryTimeout <= 0 {
		c.RetryTimeout = defaultRetryTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if !strings.HasPrefix(c.Base, "/") || strings.HasSuffix(c.Base, "/") {
		return fmt.Errorf("open etcd store: base %q must start with a slash and not end with one", c.Base)
	}
	if len(c.Endpoints) == 0 && c.SRV == "" {
		return errors.New("open etcd store: no endpoints: set one of host, hosts, url, proxy, srv")
	}
	endpoints := make([]string, 0, len(c.Endpoints))
	for _, text := range c.Endpoints {
		ep, err := normalise(text)
		if err != nil {
			return fmt.Errorf("open etcd store: %w", err)
		}
		endpoints = appendNew(endpoints, ep)
	}
	c.Endpoints = endpoints
	return nil
}

// normalise turns host, host:port or a URL into scheme://host:port; user
// information and path are dropped.
func normalise(text string) (string, error) {
	raw := strings.TrimSpace(text)
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	// The text is not quoted: it may carry a password.
	if err != nil || u.Hostname() == "" {
		return "", errors.New("endpoint is not host:port or a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("endpoint %s: scheme %q is not http or https", u.Host, u.Scheme)
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port), nil
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// Open starts a store. It does not wait for etcd: whether it can be reached,
// and whether it accepts the credentials, shows in the first call.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open etcd store: %w", err)
	}
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := newStore(cfg)
	s.start()
	return s, nil
}
