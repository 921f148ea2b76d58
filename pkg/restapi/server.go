package restapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/restapi/metric"
)

// Limits of one server (safety E-3).
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 10 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10
	maxBodyBytes      = 1 << 20
)

// ErrNewListener is returned by Reconfigure when the change needs another
// listener: the caller makes a new Server.
var ErrNewListener = errors.New("the change needs a new listener")

// Options configure a Server. All but Metrics and Config are required.
type Options struct {
	Agent    Agent
	Settings Settings
	// Metrics makes what serves /metrics out of labels and of what reads the
	// metrics; see package prom. Nil: there is no such request.
	Metrics Exporter
	Logger  *slog.Logger
	// Config is the configuration in force, for GET /explain; nil: there is no such request.
	Config func() *config.Effective
}

// Exporter makes a handler that serves the metrics read gives, with these labels.
type Exporter = func(labels map[string]string, read func() []metric.Metric) http.Handler

// Server is the REST API of one node.
type Server struct {
	agent    Agent
	log      *slog.Logger
	derived  derivedCache
	reads    chan struct{} // places for answers that cost more than a role check
	changes  chan struct{} // places for requests that change something
	follows  chan struct{} // places for requests that wait for an event
	ending   chan struct{} // closed when the server shuts down
	throttle *throttle
	// explained is the configuration in force.
	explained func() *config.Effective

	rules    atomic.Pointer[rules]
	tls      atomic.Pointer[tls.Config] // nil: plain HTTP
	handler  http.Handler
	http     *http.Server
	listener net.Listener
}

// New makes a Server; it reads the certificates but opens no socket.
func New(o Options) (*Server, error) {
	if o.Agent == nil || o.Logger == nil {
		return nil, errors.New("restapi: Options need an Agent and a Logger")
	}
	s := &Server{
		agent:    o.Agent,
		log:      o.Logger.With("component", "restapi"),
		reads:    make(chan struct{}, maxReads),
		changes:  make(chan struct{}, maxChanges),
		follows:  make(chan struct{}, maxFollows),
		ending:   make(chan struct{}),
		throttle: newThrottle(),

		explained: o.Config,
	}
	if err := s.apply(o.Settings); err != nil {
		return nil, err
	}
	s.handler = s.routes(o.Metrics)
	s.http = &http.Server{
		Handler:                      s.handler,
		ReadHeaderTimeout:            readHeaderTimeout,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true, // OPTIONS * is a health check like any other
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(sync.OnceFunc(func() { close(s.ending) }))
	return s, nil
}

// Handler is the API without a socket, for tests and embedding.
func (s *Server) Handler() http.Handler { return s.handler }

// apply makes settings the ones in force.
func (s *Server) apply(settings Settings) error {
	if err := checkStrict(settings); err != nil {
		return err
	}
	r, err := newRules(settings)
	if err != nil {
		return err
	}
	if settings.TLS() {
		conf, err := serverTLS(settings, s.log)
		if err != nil {
			return err
		}
		s.tls.Store(conf)
	}
	if len(r.unresolved) > 0 {
		s.log.Warn("restapi.allowlist: these entries are no address and do not resolve, they admit nobody; mend them and reload",
			"entries", strings.Join(r.unresolved, " "))
	}
	if r.open() {
		s.log.Warn("restapi: everybody who can connect may change the cluster; set restapi.authentication, verify_client or allowlist")
	}
	s.rules.Store(r)
	return nil
}

// Reconfigure puts new settings in force for the next request. ErrNewListener:
// listen address or http/https changed, nothing was applied. Any other error:
// the new settings are unusable and the old ones stay.
func (s *Server) Reconfigure(settings Settings) error {
	old := s.rules.Load().settings
	if old.Listen != settings.Listen || old.TLS() != settings.TLS() {
		return fmt.Errorf("reconfigure restapi: %w", ErrNewListener)
	}
	return s.apply(settings)
}

// ReloadTLS reads the certificate files again. On error the loaded ones stay in
// use. Without TLS it does nothing.
func (s *Server) ReloadTLS() error {
	settings := s.rules.Load().settings
	if !settings.TLS() {
		return nil
	}
	conf, err := serverTLS(settings, s.log)
	if err != nil {
		return err
	}
	s.tls.Store(conf)
	return nil
}

// Listen opens the socket, so that a port in use is known before anything else
// starts. Requests wait until Serve is called.
func (s *Server) Listen(ctx context.Context) error {
	settings := s.rules.Load().settings
	l, err := listen(ctx, settings.Listen)
	if err != nil {
		return fmt.Errorf("restapi.listen %q: %w; is another agent running, or the address of another host?", settings.Listen, plain.Connection(err))
	}
	l = newCappedListener(l, maxConns, maxConnsPerAddress)
	if settings.TLS() {
		l = tls.NewListener(l, &tls.Config{
			MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return s.tls.Load(), nil
			},
		})
	}
	s.listener = l
	return nil
}

// Addr is the address listened on; nil before Listen.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Serve answers requests until ctx ends or Shutdown is called, then returns
// nil. When ctx ends, requests under way are cut off; for a gentle end call
// Shutdown first.
func (s *Server) Serve(ctx context.Context) error {
	if s.listener == nil {
		return errors.New("restapi: Serve before Listen")
	}
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() })
	defer stop()
	err := s.http.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve restapi: %w", err)
}

// Shutdown closes the socket and waits for requests under way until ctx ends,
// then cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
		return fmt.Errorf("shut down restapi: %w", err)
	}
	if s.listener != nil {
		_ = s.listener.Close() // Listen without Serve
	}
	return nil
}
