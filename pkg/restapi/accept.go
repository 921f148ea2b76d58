package restapi

import "net/http"

// acceptRequest is the body of POST /accept_dcs: whoever accepts what etcd holds
// names the cluster, so that no slip does.
type acceptRequest struct {
	Cluster string `json:"cluster"`
}

// acceptDCS ends the quarantine of a member that found etcd behind what it had
// seen before.
func (s *Server) acceptDCS(w http.ResponseWriter, req *http.Request) {
	var r acceptRequest
	if !s.strictBody(w, req, &r, false) {
		return
	}
	v := s.agent.View()
	if r.Cluster != v.Scope {
		s.text(w, http.StatusBadRequest, "\"cluster\" must be the name of the cluster, "+v.Scope)
		return
	}
	if no := s.agent.AcceptDCS(s.by(req)); no != nil {
		s.refuse(w, no)
		return
	}
	s.text(w, http.StatusOK, "accepted; it was: "+v.Quarantine)
}
