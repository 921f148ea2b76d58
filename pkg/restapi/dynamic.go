package restapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// etcdTimeout bounds one read or write of etcd for a request; it leaves time to
// answer.
const etcdTimeout = 5 * time.Second

// echoTimeout bounds the wait for our own write to appear in the View.
const echoTimeout = 500 * time.Millisecond

// patchConfig merges the body into /config: 200 with the new document, 422 for
// values that would break the cluster, 409 when somebody else was faster.
func (s *Server) patchConfig(w http.ResponseWriter, req *http.Request) {
	patch, _, ok := body(w, req)
	if !ok {
		return
	}
	c, err := s.readCluster(req.Context())
	if err != nil || c.Config == nil {
		errorPage(w, http.StatusServiceUnavailable, "")
		return
	}
	old := c.Config.Raw
	next, changed, err := config.PatchDynamic(old, patch)
	if err != nil {
		s.text(w, http.StatusUnprocessableEntity, plain.OneLine(err.Error()))
		return
	}
	if bad := s.newProblems(req.Context(), old, next); bad != "" {
		s.text(w, http.StatusUnprocessableEntity, bad)
		return
	}
	if changed {
		if err := s.putConfigKey(req.Context(), next, &c.Config.ModRevision); err != nil {
			s.log.Warn("write /config", "error", err)
			errorPage(w, http.StatusConflict, "")
			return
		}
		s.awaitConfig(req.Context(), next)
	}
	s.json(w, http.StatusOK, pyjson.AppendRaw(nil, next, pyjson.Spaced))
}

// putConfig replaces /config.
func (s *Server) putConfig(w http.ResponseWriter, req *http.Request) {
	raw, _, ok := body(w, req)
	if !ok {
		return
	}
	next, err := compact(raw)
	if err != nil {
		errorPage(w, http.StatusBadRequest, "")
		return
	}
	if bad := s.newProblems(req.Context(), nil, next); bad != "" {
		s.text(w, http.StatusUnprocessableEntity, bad)
		return
	}
	c, err := s.readCluster(req.Context())
	if err != nil {
		s.unreadable(w, err)
		return
	}
	if c.Config == nil || !bytes.Equal(c.Config.Raw, next) {
		if err := s.putConfigKey(req.Context(), next, nil); err != nil {
			s.log.Warn("write /config", "error", err)
			errorPage(w, http.StatusBadGateway, "")
			return
		}
		s.awaitConfig(req.Context(), next)
	}
	s.json(w, http.StatusOK, pyjson.AppendRaw(nil, next, pyjson.Spaced))
}

func (s *Server) readCluster(ctx context.Context) (*dcs.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	return s.agent.ReadCluster(ctx)
}

func (s *Server) putConfigKey(ctx context.Context, doc []byte, revision *int64) error {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	return s.agent.PutConfig(ctx, doc, revision)
}

func (s *Server) putFailoverKey(ctx context.Context, f dcs.Failover, revision *int64) error {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	return s.agent.PutFailover(ctx, f, revision)
}

// newProblems says why next may not be stored, "" if it may.
func (s *Server) newProblems(ctx context.Context, old, next []byte) string {
	problems := config.NewErrors(old, next)
	if len(problems) == 0 {
		problems = s.agent.RefusedParameters(ctx, old, next)
	}
	var bad []string
	for _, p := range problems {
		bad = append(bad, p.String())
	}
	return plain.OneLine(strings.Join(bad, "; "))
}

// unreadable answers when a fresh read of the cluster was needed and did not
// come. Patroni closes the connection; a status code is kinder.
func (s *Server) unreadable(w http.ResponseWriter, err error) {
	s.log.Warn("read cluster for a request", "error", err)
	s.text(w, http.StatusServiceUnavailable, "etcd does not answer, try again later")
}

// awaitConfig waits a moment until GET /config on this node shows what was
// written, so that a client reads its own write.
func (s *Server) awaitConfig(ctx context.Context, doc []byte) {
	ctx, cancel := context.WithTimeout(ctx, echoTimeout)
	defer cancel()
	s.await(ctx, func(v *ha.View) bool {
		return v.Cluster != nil && v.Cluster.Config != nil && bytes.Equal(v.Cluster.Config.Raw, doc)
	})
}

// await waits until the View satisfies done, and tells whether it did before ctx
// ended. Each change of the cluster wakes it; nothing is polled.
func (s *Server) await(ctx context.Context, done func(*ha.View) bool) bool {
	for {
		changed := s.agent.ClusterChanged()
		if done(s.agent.View()) {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// deleteSwitchover removes a scheduled switchover.
func (s *Server) deleteSwitchover(w http.ResponseWriter, req *http.Request) {
	c, err := s.readCluster(req.Context())
	if err != nil {
		s.unreadable(w, err)
		return
	}
	if c.Failover == nil || c.Failover.ScheduledAt.IsZero() {
		s.text(w, http.StatusNotFound, "no switchover is scheduled")
		return
	}
	if err := s.putFailoverKey(req.Context(), dcs.Failover{}, &c.Failover.ModRevision); err != nil {
		if !errors.Is(err, dcs.ErrConflict) {
			s.log.Warn("write /failover", "error", err)
		}
		errorPage(w, http.StatusConflict, "")
		return
	}
	s.text(w, http.StatusOK, "scheduled switchover deleted")
}
