package restapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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

	rules   atomic.Pointer[rules]
	handler http.Handler
	http    *http.Server
	socket  socket
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
	r, err := s.prepare(o.Settings)
	if err != nil {
		return nil, err
	}
	s.rules.Store(r)
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

// prepare makes rules of settings and says what is odd about them.
func (s *Server) prepare(settings Settings) (*rules, error) {
	if err := checkStrict(settings); err != nil {
		return nil, err
	}
	r, err := newRules(settings, s.log)
	if err != nil {
		return nil, err
	}
	if len(r.unresolved) > 0 {
		s.log.Warn("restapi.allowlist: these entries are no address and do not resolve, they admit nobody; mend them and reload",
			"entries", strings.Join(r.unresolved, " "))
	}
	if r.open() {
		s.log.Warn("restapi: everybody who can connect may change the cluster; set restapi.authentication, verify_client or allowlist")
	}
	return r, nil
}

// Reconfigure puts settings in force: certificate files are read again, another
// address is listened on (wire contract §1.4). On an error nothing was applied.
// Connections that are open stay as they are, requests on them meet the new rules.
func (s *Server) Reconfigure(settings Settings) error {
	r, err := s.prepare(settings)
	if err != nil {
		return err
	}
	if err := s.socket.move(settings.Listen); err != nil {
		return err
	}
	if old := s.rules.Swap(r); old.settings.TLS() != settings.TLS() {
		s.http.SetKeepAlivesEnabled(false) // closes those that are idle
		s.http.SetKeepAlivesEnabled(true)
	}
	return nil
}

// Listen opens the socket, so that a port in use is known before anything else
// starts. Requests wait until Serve is called.
func (s *Server) Listen(ctx context.Context) error {
	return s.socket.open(ctx, s.rules.Load().settings.Listen)
}

// Addr is the address listened on; nil before Listen.
func (s *Server) Addr() net.Addr {
	if l := s.socket.listener(); l != nil {
		return l.Addr()
	}
	return nil
}

// Serve answers requests until ctx ends or Shutdown is called, then returns
// nil. When ctx ends, requests under way are cut off; for a gentle end call
// Shutdown first.
func (s *Server) Serve(ctx context.Context) error {
	l := s.socket.listener()
	if l == nil {
		return errors.New("restapi: Serve before Listen")
	}
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() })
	defer stop()
	for {
		err := s.http.Serve(&tlsListener{l, s})
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		moved := s.socket.listener()
		if moved == l {
			return fmt.Errorf("serve restapi: %w", err)
		}
		l = moved
	}
}

// Shutdown closes the socket and waits for requests under way until ctx ends,
// then cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
		return fmt.Errorf("shut down restapi: %w", err)
	}
	s.socket.close() // Listen without Serve
	return nil
}
