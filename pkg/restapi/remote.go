package restapi

import (
	"context"
	"net/http"
)

// RemoteDocument is the answer to GET /remote: what the server that this standby
// cluster follows says of itself now. Only the leader is asked.
type RemoteDocument struct {
	Remote string `json:"remote"` // host:port, or "an archive"
	// Error is why it could not be asked; the rest is empty then.
	Error      string `json:"error,omitempty"`
	InRecovery bool   `json:"in_recovery"`
	Timeline   uint32 `json:"timeline,omitempty"`
	// LSN is where its WAL ends, Received how much of it is here.
	LSN      string `json:"lsn,omitempty"`
	Received string `json:"received,omitempty"`
	// Missing is what is not here yet, in bytes.
	Missing uint64 `json:"missing"`
}

// Remotes is what the server needs of the process around it for standby clusters.
type Remotes interface {
	// Remote asks the remote of a standby cluster; nil: this is none.
	Remote(ctx context.Context) *RemoteDocument
}

func (s *Server) getRemote(w http.ResponseWriter, req *http.Request) {
	d := s.agent.Remote(req.Context())
	if d == nil {
		s.text(w, http.StatusNotFound, "this is no standby cluster")
		return
	}
	s.document(w, http.StatusOK, d)
}
