package restapi

import (
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/ha"
)

// routes builds the router. Only the first segment of the path selects a
// handler (wire contract §5.1); what none claims is a health check for GET, HEAD
// and OPTIONS, and not supported for every other method.
func (s *Server) routes(export Exporter) http.Handler {
	r := chi.NewRouter()
	r.Use(s.survive, firstSegment)
	r.Get("/liveness", s.liveness)
	r.Get("/readiness", s.readiness)
	r.Get("/patroni", s.patroni)
	r.Get("/cluster", limited(s.reads, s.getCluster))
	r.Get("/history", limited(s.reads, s.getHistory))
	r.Get("/config", limited(s.reads, s.getConfig))
	r.Get("/failsafe", limited(s.reads, s.getFailsafe))
	r.Get("/explain", limited(s.reads, s.guard(s.explain)))
	if export != nil {
		r.Method(http.MethodGet, "/metrics", limited(s.reads, s.metricsHandler(export)))
	}

	r.Patch("/config", s.unsafe(s.patchConfig))
	r.Put("/config", s.unsafe(s.putConfig))
	r.Post("/reload", s.unsafe(s.reload))
	r.Post("/switchover", s.unsafe(s.switchover))
	r.Post("/failover", s.unsafe(s.failover))
	r.Delete("/switchover", s.unsafe(s.deleteSwitchover))
	r.Post("/restart", s.unsafe(s.restart))
	r.Delete("/restart", s.unsafe(s.deleteRestart))
	r.Post("/failsafe", s.unsafe(s.postFailsafe))
	r.Post("/freeze", s.unsafe(s.postFreeze))
	r.Post("/reinitialize", s.unsafe(s.reinitialize))
	r.Delete("/reinitialize", s.unsafe(s.cancelReinitialize))
	r.Post("/accept_dcs", s.unsafe(s.acceptDCS))
	s.backupRoutes(r)
	s.eventRoutes(r)
	r.Post("/sigterm", s.unsafe(s.sigterm))
	r.Post("/citus", s.unsafe(s.event))
	r.Post("/mpp", s.unsafe(s.event))
	r.NotFound(s.fallback)
	r.MethodNotAllowed(s.fallback)
	return r
}

// survive turns a defect in a handler into a 500 and a line in the log; the
// node goes on.
func (s *Server) survive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("request handler panicked", "method", req.Method, "path", req.URL.Path, "panic", p, "stack", string(debug.Stack()))
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, req)
	})
}

// firstSegment makes chi route by the first path segment alone.
func firstSegment(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		chi.RouteContext(req.Context()).RoutePath = segment(req)
		next.ServeHTTP(w, req)
	})
}

// segment is the first segment of the path, by which handlers are selected.
func segment(req *http.Request) string {
	name, _, _ := strings.Cut(strings.TrimLeft(req.URL.EscapedPath(), "/"), "/")
	return "/" + name
}

// limited answers 503 when too many requests of the costly kind are under way;
// health checks never wait for a place and never lack one.
func limited(places chan struct{}, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			h(w, req)
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
		}
	}
}

// unsafe is what every request that may change something passes: access rules,
// a place, a bounded body.
func (s *Server) unsafe(h http.HandlerFunc) http.HandlerFunc {
	return limited(s.changes, s.guard(func(w http.ResponseWriter, req *http.Request) {
		req.Body = http.MaxBytesReader(w, req.Body, maxBodyBytes)
		s.journalled(h)(w, req)
	}))
}

// fallback answers what no route claims.
func (s *Server) fallback(w http.ResponseWriter, req *http.Request) {
	switch req.Method {
	case http.MethodGet:
		s.health(w, req)
	case http.MethodHead, http.MethodOptions:
		view, now := s.agent.View(), s.agent.Now()
		bare(w, Evaluate(req.URL.EscapedPath(), queryOf(req), s.facts(view, now, func() ha.Sample {
			sample, _ := s.sample(req)
			return sample
		})))
	default:
		errorPage(w, http.StatusNotImplemented, "Unsupported method ('"+req.Method+"')")
	}
}

// facts joins what the health rules need.
func (s *Server) facts(v *ha.View, now ha.Instant, sample func() ha.Sample) Facts {
	d := s.derived.of(v)
	standby := d.standbyCluster && !(v.IsLeader(now) && outOfRecovery(v))
	return Facts{View: v, Now: now, Mode: d.mode, StandbyCluster: standby, Sample: sample}
}

// queryOf parses the query; nil without one, which is the common case.
func queryOf(req *http.Request) url.Values {
	if req.URL.RawQuery == "" {
		return nil
	}
	return req.URL.Query()
}

// health answers GET: the status code of the check, the status document as body.
func (s *Server) health(w http.ResponseWriter, req *http.Request) {
	sample, fresh := s.sample(req)
	// The clock is read after the sample was waited for: an answer must not
	// outlive the deadline by that wait.
	view, now := s.agent.View(), s.agent.Now()
	check := Evaluate(req.URL.EscapedPath(), queryOf(req), s.facts(view, now, func() ha.Sample { return sample }))
	s.json(w, check, status{s.derived.of(view), now, sample, fresh, nil}.document())
}

// patroni answers GET /patroni, always 200.
func (s *Server) patroni(w http.ResponseWriter, req *http.Request) {
	sample, fresh := s.sample(req)
	view, now := s.agent.View(), s.agent.Now()
	s.json(w, http.StatusOK, status{s.derived.of(view), now, sample, fresh, nil}.document())
}

// noCache is what a member asks with that elects by the answer (RFC 9111): what it is
// told must be from after the question, and may decide who leads.
const noCache = "no-cache"

// sample asks for a position if PostgreSQL is in a state to give one.
func (s *Server) sample(req *http.Request) (ha.Sample, bool) {
	if !queryable(s.agent.View()) {
		return ha.Sample{}, false
	}
	age := SampleMaxAge
	if req.Header.Get("Cache-Control") == noCache {
		age = 0
	}
	return s.agent.Sample(req.Context(), age)
}

func (s *Server) liveness(w http.ResponseWriter, _ *http.Request) {
	bare(w, Liveness(s.facts(s.agent.View(), s.agent.Now(), nil)))
}

func (s *Server) readiness(w http.ResponseWriter, req *http.Request) {
	sample, _ := s.sample(req)
	bare(w, Readiness(queryOf(req), s.facts(s.agent.View(), s.agent.Now(), func() ha.Sample { return sample })))
}

// getCluster, getHistory and getConfig answer from the watched snapshot. A
// snapshot older than the lease time is no answer (wire contract §5.1: a
// drop-in says 503).
func (s *Server) getCluster(w http.ResponseWriter, _ *http.Request) {
	if v := s.validView(w); v != nil {
		s.json(w, http.StatusOK, s.derived.of(v).cluster())
	}
}

func (s *Server) getHistory(w http.ResponseWriter, _ *http.Request) {
	if v := s.validView(w); v != nil {
		s.json(w, http.StatusOK, historyDocument(v.Cluster.History))
	}
}

func (s *Server) getConfig(w http.ResponseWriter, _ *http.Request) {
	v := s.validView(w)
	switch {
	case v == nil:
	case v.Cluster.Config == nil:
		errorPage(w, http.StatusBadGateway, "")
	default:
		s.json(w, http.StatusOK, pyjson.AppendRaw(nil, v.Cluster.Config.Raw, pyjson.Spaced))
	}
}

// getFailsafe answers with the map last read, however old: it is asked for when
// etcd is away.
func (s *Server) getFailsafe(w http.ResponseWriter, _ *http.Request) {
	c := s.agent.View().Cluster
	if c == nil || c.Failsafe == nil {
		errorPage(w, http.StatusBadGateway, "")
		return
	}
	s.json(w, http.StatusOK, failsafeDocument(c.Failsafe))
}

func (s *Server) validView(w http.ResponseWriter) *ha.View {
	v := s.agent.View()
	if !v.ClusterValid(s.agent.Now()) {
		s.text(w, http.StatusServiceUnavailable, "no current view of the cluster: etcd does not answer")
		return nil
	}
	return v
}

func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	s.agent.Reload()
	s.text(w, http.StatusAccepted, "reload scheduled")
}

// sigterm answers POST /sigterm, which Patroni's own tests alone have a use for.
func (s *Server) sigterm(w http.ResponseWriter, _ *http.Request) {
	s.text(w, http.StatusAccepted, "no effect; stop the service to stop the agent")
}

// event answers POST /citus and /mpp: there are no groups of clusters here, so
// that an event of another group concerns nobody.
func (s *Server) event(w http.ResponseWriter, req *http.Request) {
	if _, _, ok := body(w, req); ok {
		s.text(w, http.StatusOK, "OK")
	}
}
