package restapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/pgha/pgha/internal/plain"
)

// failsafeAccepted is the body by which a leader knows that a member agrees.
const failsafeAccepted = "Accepted"

// maxPromise bounds what a leader may ask for: a promise holds up the failover.
const maxPromise = time.Hour

// postFailsafe answers a leader that etcd does not answer (wire contract §4.6,
// §5.7). Fields that it does not know are let pass, as by Patroni.
func (s *Server) postFailsafe(w http.ResponseWriter, req *http.Request) {
	v := s.agent.View()
	if !failsafeMode(v.Config) {
		errorPage(w, http.StatusBadGateway, "")
		return
	}
	raw, _, ok := object(w, req)
	if !ok {
		return
	}
	var body FailsafeRequest
	if err := json.Unmarshal(raw, &body); err != nil {
		s.text(w, http.StatusBadRequest, "this is no request of a leader: "+plain.OneLine(err.Error()))
		return
	}
	for _, field := range [][2]string{{"name", body.Name}, {"conn_url", body.ConnURL}, {"api_url", body.APIURL}} {
		if field[1] == "" {
			s.text(w, http.StatusBadRequest, field[0]+" is missing or empty")
			return
		}
	}
	ttl := max(v.TTL, time.Duration(body.PGHA.TTL)*time.Millisecond)
	switch {
	case v.State == stateRunning && v.Role == rolePrimary:
		s.text(w, http.StatusInternalServerError, "Running as a leader")
	case body.PGHA.TTL < 0 || ttl <= 0 || ttl > maxPromise:
		s.text(w, http.StatusBadRequest, "pgha.ttl is no time that can be promised, in milliseconds")
	case !s.agent.Failsafe(body.Name, ttl):
		s.text(w, http.StatusInternalServerError, "Running as a leader")
	default:
		if v.Known && v.Row.Position != 0 {
			w.Header().Set("Lsn", strconv.FormatUint(uint64(v.Row.Position), 10))
		}
		s.text(w, http.StatusOK, failsafeAccepted)
	}
}
