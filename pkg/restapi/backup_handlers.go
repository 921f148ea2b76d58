package restapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/pgha/pgha/internal/plain"
)

// How long these requests may take beyond others.
const (
	checkTimeout   = 75 * time.Second // an archived segment is waited for
	restoreTimeout = 45 * time.Second // the repository and all members are asked
)

// backupKinds are the types of backups.
var backupKinds = []string{"full", "diff", "incr"}

// backupRoutes adds the endpoints of backups and restores, which are ours.
func (s *Server) backupRoutes(r chi.Router) {
	r.Get("/backup", limited(s.reads, s.getBackup))
	r.Post("/backup", s.unsafe(s.requestBackup))
	r.Delete("/backup", s.unsafe(s.cancelBackup))
	r.Post("/backup_check", s.unsafe(s.checkBackup))
	r.Get("/restore", limited(s.reads, s.getRestore))
	r.Post("/restore", s.unsafe(s.restore))
	r.Delete("/restore", s.unsafe(s.cancelRestore))
}

// refuse answers with a refusal, on one line.
func (s *Server) refuse(w http.ResponseWriter, no *Refusal) {
	s.text(w, no.Status, plain.OneLine(no.Text))
}

// document answers with a value of this API as JSON.
func (s *Server) document(w http.ResponseWriter, code int, value any) {
	text, err := json.Marshal(value)
	if err != nil { // numbers that JSON lacks; a defect
		s.log.Error("render an answer", "error", err)
		s.text(w, http.StatusInternalServerError, "internal error")
		return
	}
	s.json(w, code, text)
}

// by names whoever sent a request: user, if there are users, and address.
func (s *Server) by(req *http.Request) string {
	from := req.RemoteAddr
	if a, ok := remote(req); ok {
		from = a.String()
	}
	user, _, given := req.BasicAuth()
	if !given || !s.rules.Load().auth {
		return from
	}
	return user + "@" + from
}

func (s *Server) getBackup(w http.ResponseWriter, req *http.Request) {
	doc, no := s.agent.Backup(req.Context())
	if no != nil {
		s.refuse(w, no)
		return
	}
	s.document(w, http.StatusOK, doc)
}

func (s *Server) requestBackup(w http.ResponseWriter, req *http.Request) {
	var r struct {
		Type string `json:"type"`
	}
	if !s.strictBody(w, req, &r, false) {
		return
	}
	if !slices.Contains(backupKinds, r.Type) {
		s.text(w, http.StatusBadRequest, "type must be one of "+strings.Join(backupKinds, ", "))
		return
	}
	by := s.by(req)
	s.log.Info("backup requested", "type", r.Type, "by", by)
	if no := s.agent.RequestBackup(req.Context(), r.Type, by); no != nil {
		s.refuse(w, no)
		return
	}
	s.text(w, http.StatusAccepted, r.Type+" backup requested")
}

func (s *Server) cancelBackup(w http.ResponseWriter, req *http.Request) {
	by := s.by(req)
	s.log.Info("end of a backup requested", "by", by)
	if no := s.agent.CancelBackup(req.Context(), by); no != nil {
		s.refuse(w, no)
		return
	}
	s.text(w, http.StatusOK, "backup cancelled")
}

func (s *Server) checkBackup(w http.ResponseWriter, req *http.Request) {
	if !s.strictBody(w, req, &struct{}{}, true) {
		return
	}
	s.mayTake(w, checkTimeout)
	res, no := s.agent.CheckBackup(req.Context())
	if no != nil {
		s.refuse(w, no)
		return
	}
	s.document(w, http.StatusOK, res)
}

func (s *Server) restore(w http.ResponseWriter, req *http.Request) {
	var r RestoreRequest
	if !s.strictBody(w, req, &r, false) {
		return
	}
	by := s.by(req)
	s.log.Info("restore requested", "type", r.Type, "target", r.Value, "set", r.Set, "dry", r.Dry, "by", by)
	s.mayTake(w, restoreTimeout)
	plan, no := s.agent.Restore(req.Context(), r, by)
	if no != nil {
		s.refuse(w, no)
		return
	}
	if r.Dry {
		s.document(w, http.StatusOK, plan)
		return
	}
	s.document(w, http.StatusAccepted, plan)
}

func (s *Server) getRestore(w http.ResponseWriter, _ *http.Request) {
	st := s.agent.RestoreState()
	if st == nil {
		s.text(w, http.StatusNotFound, "no restore was ordered")
		return
	}
	s.document(w, http.StatusOK, st)
}

func (s *Server) cancelRestore(w http.ResponseWriter, req *http.Request) {
	by := s.by(req)
	s.log.Info("end of the restore requested", "by", by)
	if no := s.agent.CancelRestore(req.Context(), by); no != nil {
		s.refuse(w, no)
		return
	}
	s.text(w, http.StatusOK, "restore cancelled")
}
