package restapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/internal/pyjson"
)

// reinitialize answers POST /reinitialize (wire contract §5.7). A malformed body
// is answered 400 and nothing is started.
func (s *Server) reinitialize(w http.ResponseWriter, req *http.Request) {
	force, fromLeader, ok := s.readReinit(w, req)
	if !ok {
		return
	}
	s.log.Info("reinitialize requested", "force", force, "from_leader", fromLeader, "from", req.RemoteAddr)
	if no := s.agent.Reinitialize(req.Context(), force, fromLeader); no != nil {
		s.refuse(w, no)
		return
	}
	s.text(w, http.StatusOK, "reinitialize started")
}

// cancelReinitialize answers DELETE /reinitialize, which Patroni does not have.
func (s *Server) cancelReinitialize(w http.ResponseWriter, req *http.Request) {
	s.log.Info("end of a copy requested", "from", req.RemoteAddr)
	if no := s.agent.CancelReinitialize(); no != nil {
		s.refuse(w, no)
		return
	}
	s.text(w, http.StatusOK, "reinitialize cancelled")
}

// readReinit takes the two fields of the body; it answers itself when it
// returns false.
func (s *Server) readReinit(w http.ResponseWriter, req *http.Request) (force, fromLeader, ok bool) {
	if req.ContentLength == 0 {
		return false, false, true
	}
	_, fields, ok := object(w, req)
	if !ok {
		return false, false, false
	}
	for _, f := range fields {
		var into *bool
		switch f.Name {
		case "force":
			into = &force
		case "from_leader", "from-leader": // the documentation writes a dash
			into = &fromLeader
		default:
			s.text(w, http.StatusBadRequest, fmt.Sprintf("unknown field %q; force and from_leader are known", plain.OneLine(f.Name)))
			return false, false, false
		}
		value, known := truth(f)
		if !known {
			s.text(w, http.StatusBadRequest, f.Name+" must be true or false")
			return false, false, false
		}
		*into = value
	}
	return force, fromLeader, true
}

// truth reads a boolean; the words Patroni takes for one do, too.
func truth(f pyjson.Field) (value, known bool) {
	switch v := f.Value.(type) {
	case nil:
		return false, true
	case bool:
		return v, true
	case string:
		switch strings.ToLower(v) {
		case "on", "true", "yes", "1":
			return true, true
		case "off", "false", "no", "0":
			return false, true
		}
	}
	return false, false
}
