package restapi

import (
	"encoding/json"
	"net/http"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
)

// explain is GET /explain (ours): every setting in force, where it comes from,
// and what waits for a restart. It shows paths and addresses, so it is under the
// access rules of requests that change something.
func (s *Server) explain(w http.ResponseWriter, _ *http.Request) {
	if s.explained == nil {
		errorPage(w, http.StatusNotFound, "not supported")
		return
	}
	pending := map[string]config.PendingValue{}
	for name, p := range s.agent.View().PendingRestart {
		pending[name] = config.PendingValue{Old: p.Old, New: p.New}
	}
	text, err := json.Marshal(s.explained().Explain(pending))
	if err != nil { // infinities in a YAML file
		errorPage(w, http.StatusInternalServerError, err.Error())
		return
	}
	s.json(w, http.StatusOK, pyjson.AppendRaw(nil, text, pyjson.Spaced))
}
