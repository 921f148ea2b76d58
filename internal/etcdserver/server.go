// Package etcdserver runs one embedded etcd member: for cmd/pgha-etcd, for the
// demo, and for tests.
package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/crypto/bcrypt"
)

// TLS names the files of one listener's certificates. All empty: plain HTTP.
type TLS struct {
	CertFile, KeyFile, TrustedCAFile string
	ClientCertAuth                   bool
}

// Config describes the member. Zero values take the defaults named below.
type Config struct {
	Name    string // "default"
	DataDir string // Name + ".etcd"

	ListenClient    []string // http://127.0.0.1:2379
	AdvertiseClient []string // as ListenClient
	ListenPeer      []string // http://127.0.0.1:2380
	AdvertisePeer   []string // as ListenPeer

	InitialCluster string // name=url of all members; this one alone by default
	ClusterState   string // "new" or "existing"; "new"
	ClusterToken   string // "etcd-cluster"

	// Heartbeat is 100 ms and ElectionTimeout 1 s by default. etcd grants no
	// lease shorter than 1.5 times the election timeout.
	Heartbeat       time.Duration
	ElectionTimeout time.Duration

	ClientTLS, PeerTLS TLS

	// Compaction is how much history is kept, 1 h by default: heartbeats
	// write a revision every few seconds, and uncompacted history fills the
	// space quota in the end.
	Compaction time.Duration
	// LogLevel is "warn" by default.
	LogLevel string
	// Fast gives durability and slow password hashes away: tests only.
	Fast bool
}

func (c *Config) complete() {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	list := func(l *[]string, v ...string) {
		if len(*l) == 0 {
			*l = v
		}
	}
	def(&c.Name, embed.DefaultName)
	def(&c.DataDir, c.Name+".etcd")
	list(&c.ListenClient, embed.DefaultListenClientURLs)
	list(&c.AdvertiseClient, c.ListenClient...)
	list(&c.ListenPeer, embed.DefaultListenPeerURLs)
	list(&c.AdvertisePeer, c.ListenPeer...)
	def(&c.ClusterState, embed.ClusterStateFlagNew)
	def(&c.ClusterToken, "etcd-cluster")
	def(&c.LogLevel, "warn")
	if c.InitialCluster == "" {
		var own []string
		for _, u := range c.AdvertisePeer {
			own = append(own, c.Name+"="+u)
		}
		c.InitialCluster = strings.Join(own, ",")
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = 100 * time.Millisecond
	}
	if c.ElectionTimeout <= 0 {
		c.ElectionTimeout = 10 * c.Heartbeat
	}
	if c.Compaction <= 0 {
		c.Compaction = time.Hour
	}
}

func (c *Config) embed() (*embed.Config, error) {
	c.complete()
	e := embed.NewConfig()
	e.Name, e.Dir = c.Name, c.DataDir
	var err error
	urls := func(flag string, list []string) []url.URL {
		parsed, perr := parseURLs(flag, list)
		err = errors.Join(err, perr)
		return parsed
	}
	e.ListenClientUrls = urls("listen-client-urls", c.ListenClient)
	e.AdvertiseClientUrls = urls("advertise-client-urls", c.AdvertiseClient)
	e.ListenPeerUrls = urls("listen-peer-urls", c.ListenPeer)
	e.AdvertisePeerUrls = urls("initial-advertise-peer-urls", c.AdvertisePeer)
	if err != nil {
		return nil, err
	}
	e.InitialCluster, e.ClusterState, e.InitialClusterToken = c.InitialCluster, c.ClusterState, c.ClusterToken
	e.TickMs = uint(c.Heartbeat.Milliseconds())
	e.ElectionMs = uint(c.ElectionTimeout.Milliseconds())
	e.ClientTLSInfo, e.PeerTLSInfo = c.ClientTLS.info(), c.PeerTLS.info()
	e.AutoCompactionMode = embed.CompactorModePeriodic
	e.AutoCompactionRetention = c.Compaction.String()
	e.LogLevel, e.LogOutputs = c.LogLevel, []string{embed.StdErrLogOutput}
	e.EnableGRPCGateway = true // Patroni members speak through it
	if c.Fast {
		e.UnsafeNoFsync, e.BcryptCost = true, uint(bcrypt.MinCost)
	}
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("etcd settings: %w", err)
	}
	return e, nil
}

func (t TLS) info() transport.TLSInfo {
	return transport.TLSInfo{
		CertFile: t.CertFile, KeyFile: t.KeyFile, TrustedCAFile: t.TrustedCAFile, ClientCertAuth: t.ClientCertAuth,
	}
}

func parseURLs(flag string, list []string) ([]url.URL, error) {
	var urls []url.URL
	for _, text := range list {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Host == "" || u.Scheme == "" {
			return nil, fmt.Errorf("%s: %q is not a URL like http://10.0.0.1:2379", flag, text)
		}
		urls = append(urls, *u)
	}
	return urls, nil
}

// Server is a running member.
type Server struct{ etcd *embed.Etcd }

// Start starts the member and returns once its listeners are open; it may
// take until a quorum of members runs before Ready.
func Start(_ context.Context, c Config) (*Server, error) {
	cfg, err := c.embed()
	if err != nil {
		return nil, fmt.Errorf("start etcd member: %w", err)
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("start etcd member %s: %w", c.Name, err)
	}
	return &Server{etcd: e}, nil
}

// Ready is closed when the member has joined its cluster and serves clients.
func (s *Server) Ready() <-chan struct{} { return s.etcd.Server.ReadyNotify() }

// Err delivers the error that ended the member.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// ClientURLs are the addresses clients may use.
func (s *Server) ClientURLs() []string {
	cfg := s.etcd.Config()
	urls := make([]string, 0, len(cfg.AdvertiseClientUrls))
	for _, u := range cfg.AdvertiseClientUrls {
		urls = append(urls, u.String())
	}
	return urls
}

// Leader tells whether this member leads the etcd cluster.
func (s *Server) Leader() bool { return s.etcd.Server.Leader() == s.etcd.Server.MemberID() }

// Close stops the member and waits for it.
func (s *Server) Close() { s.etcd.Close() }

// Run runs the member until ctx ends or it fails; ready is called when it
// serves.
func Run(ctx context.Context, c Config, ready func()) error {
	s, err := Start(ctx, c)
	if err != nil {
		return err
	}
	defer s.Close()
	joined := s.Ready()
	for {
		select {
		case <-joined:
			joined = nil
			ready()
		case err := <-s.Err():
			return fmt.Errorf("etcd member ended: %w", err)
		case <-ctx.Done():
			return nil
		}
	}
}
