package ctl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/dcs"
)

// Bounds of the questions about backups: reading a repository far away and
// testing it take a while.
const (
	repositoryTimeout = time.Minute
	checkTimeout      = 2 * time.Minute
)

// request is one question or order for a member.
type request struct {
	method, path string
	body         any
	limit        time.Duration
}

// reply is a member's answer, with any status.
type reply struct {
	member string
	status int
	text   string
}

// ok tells whether the member did what it was asked.
func (r reply) ok() bool { return r.status/100 == 2 }

// decode reads the document of a good answer into out.
func (r reply) decode(out any) error {
	if err := json.Unmarshal([]byte(r.text), out); err != nil {
		return fmt.Errorf("member %s gave an answer that cannot be read: %w", r.member, err)
	}
	return nil
}

// refused is the error for an answer that is not ok.
func (r reply) refused() error {
	if r.isPatroni() {
		return fmt.Errorf("member %s runs Patroni, or a pgha without backups, and cannot do this; ask for it when a member of ours leads", r.member)
	}
	text := plain.OneLine(r.text)
	if text == "" {
		text = http.StatusText(r.status)
	}
	cure := ""
	switch r.status {
	case http.StatusUnauthorized:
		cure = "; set ctl.authentication to what restapi.authentication is there"
	case http.StatusForbidden:
		cure = "; set ctl.certfile and ctl.keyfile, or ask from an address that its restapi.allowlist has"
	}
	return fmt.Errorf("member %s: %s (status %d)%s", r.member, text, r.status, cure)
}

// isPatroni recognises Patroni's answers to what it does not know: its status
// document for GET, an HTML page with status 501 for the rest (wire contract
// §5.1).
func (r reply) isPatroni() bool {
	if r.status == http.StatusNotImplemented {
		return true
	}
	var doc struct {
		Patroni map[string]any `json:"patroni"`
	}
	return json.Unmarshal([]byte(r.text), &doc) == nil && doc.Patroni != nil
}

// askOne puts a request to one member. An error means that it did not answer.
func (a *App) askOne(ctx context.Context, s *session, m *dcs.Member, q request) (reply, error) {
	if m.APIURL == "" {
		return reply{}, fmt.Errorf("member %s publishes no REST API", m.Name)
	}
	api, err := s.memberAPI()
	if err != nil {
		return reply{}, err
	}
	limit := q.limit
	if limit == 0 {
		limit = memberTimeout
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	status, text, err := api.Send(within, q.method, m.APIURL, q.path, q.body)
	switch {
	case ctx.Err() != nil:
		return reply{}, errAborted
	case err != nil:
		return reply{}, fmt.Errorf("member %s does not answer: %w; %s", m.Name, shortURLError(err), cureOf(err))
	}
	return reply{m.Name, status, text}, nil
}

// cureOf says what to look at when a member's REST API cannot be asked.
func cureOf(err error) string {
	var certificate *tls.CertificateVerificationError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return "its certificate must hold the name or address of its restapi.connect_address (subjectAltName); or pass -k"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew its certificate and reload it, see to the clocks, or pass -k"
	case errors.As(err, &certificate):
		return "set ctl.cacert to the authority that signed it, or pass -k"
	case errors.As(err, &record), strings.Contains(err.Error(), "remote error: tls"):
		return "check the certificates of the sections restapi there and ctl here"
	case errors.Is(err, context.DeadlineExceeded):
		return "it may have had its effect: look before you try again"
	}
	return "check that its agent runs, and that its restapi.connect_address is right"
}

// askAny puts a request to the members in the order given until one does it.
// When none does, the error is that of the first that answered, or else of the
// first.
func (a *App) askAny(ctx context.Context, s *session, members []*dcs.Member, q request) (reply, error) {
	var refusal, silence error
	for _, m := range members {
		r, err := a.askOne(ctx, s, m, q)
		switch {
		case ctx.Err() != nil:
			return reply{}, errAborted
		case err != nil && silence == nil:
			silence = err
		case err != nil:
		case r.ok():
			return r, nil
		case refusal == nil:
			refusal = r.refused()
		}
		if err == nil && r.status < http.StatusInternalServerError {
			break // it understood and says no: nobody else would say yes
		}
	}
	switch {
	case refusal != nil:
		return reply{}, refusal
	case silence != nil:
		return reply{}, silence
	}
	return reply{}, fmt.Errorf("no member can be asked")
}

// leaderFirst lists the members, the leader before the others. names come
// before it.
func leaderFirst(c *dcs.Cluster, names ...string) []*dcs.Member {
	var out []*dcs.Member
	seen := map[string]bool{}
	add := func(m *dcs.Member) {
		if m != nil && !seen[m.Name] {
			seen[m.Name] = true
			out = append(out, m)
		}
	}
	for _, name := range append(names, c.LeaderName()) {
		add(c.Member(name))
	}
	for i := range c.Members {
		add(&c.Members[i])
	}
	return out
}

// readMembers reads a cluster that has members.
func (s *session) readMembers(ctx context.Context, name string) (*dcs.Cluster, error) {
	c, err := s.read(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(c.Members) == 0 {
		return nil, refuse("%s cluster doesn't have any members", name)
	}
	return c, nil
}

// look reads a cluster while something is followed.
func (s *session) look(ctx context.Context, name string) (*dcs.Cluster, error) {
	c, err := s.read(ctx, name)
	if err != nil {
		return nil, unseenError{err}
	}
	return c, nil
}

// joined lists names in a sentence.
func joined(names []string) string { return strings.Join(names, ", ") }
