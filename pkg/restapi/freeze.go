package restapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/ha"
)

// freezeTime is how long POST /freeze waits for the WAL receiver's end. A
// candidate waits for its answers a little longer.
const freezeTime = 1200 * time.Millisecond

// FreezeRequest is the body of POST /freeze: a candidate asks this voter to
// stream from no leadership up to Epoch any more. Patroni has no such request.
type FreezeRequest struct {
	Epoch int64 `json:"epoch"`
}

// postFreeze answers a candidate with the status document, of a position that was
// read after the WAL receiver had ended; "promise" among the fields of ours is
// the last leadership that this member knew of.
func (s *Server) postFreeze(w http.ResponseWriter, req *http.Request) {
	if !s.fromMember(req) {
		s.text(w, http.StatusForbidden, "only members may ask this; set restapi.authentication to admit others")
		return
	}
	raw, _, ok := object(w, req)
	if !ok {
		return
	}
	var body FreezeRequest
	if err := json.Unmarshal(raw, &body); err != nil || body.Epoch < 0 {
		s.text(w, http.StatusBadRequest, "\"epoch\" must be the create revision of the last leader key")
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), freezeTime)
	defer cancel()
	promise, sample, no := s.agent.Freeze(ctx, body.Epoch)
	if no != nil {
		s.refuse(w, no)
		return
	}
	doc := status{s.derived.of(s.agent.View()), s.agent.Now(), sample, true, &promise}
	s.json(w, http.StatusOK, doc.render())
}

// fromMember: without credentials or client certificates nobody but the members'
// own hosts may stop a standby from streaming.
func (s *Server) fromMember(req *http.Request) bool {
	r := s.rules.Load()
	if r.auth || r.needCert {
		return true
	}
	from, ok := remote(req)
	if !ok {
		return false
	}
	c := s.agent.View().Cluster
	if c == nil {
		return false
	}
	hosts := make([]string, 0, len(c.Members)+4)
	for i := range c.Members {
		hosts = append(hosts, c.Members[i].APIURL)
	}
	if c.Failsafe != nil { // keys vanish with etcd, too
		for _, apiURL := range c.Failsafe.Members {
			hosts = append(hosts, apiURL)
		}
	}
	return slices.ContainsFunc(hosts, func(apiURL string) bool {
		u, err := url.Parse(apiURL)
		return err == nil && u.Hostname() != "" && contains(resolve(req.Context(), u.Hostname()), from)
	})
}

// AskFrozen has the voter that publishes apiURL freeze for the leadership epoch,
// and returns its status. One that does not know the question is asked the old
// way; of one that does, and does not freeze, the Peer says so.
func (c *Client) AskFrozen(ctx context.Context, apiURL string, epoch int64) (ha.Peer, error) {
	if apiURL == "" {
		return ha.Peer{}, fmt.Errorf("ask member: it publishes no api_url")
	}
	status, text, err := c.Post(ctx, apiURL, "/freeze", FreezeRequest{Epoch: epoch})
	if err != nil {
		return ha.Peer{}, fmt.Errorf("ask member: %w", err)
	}
	if status == http.StatusOK {
		p, err := ParsePeer([]byte(text))
		if err != nil {
			return ha.Peer{}, fmt.Errorf("ask member: %s: %w", strings.TrimSpace(apiURL), err)
		}
		p.Frozen = p.InRecovery && p.Promise >= epoch
		return p, nil
	}
	p, err := c.MemberStatus(ctx, apiURL)
	p.Unaware = err == nil && (status == http.StatusNotImplemented || status == http.StatusNotFound || status == http.StatusMethodNotAllowed)
	if err == nil && !p.Unaware {
		err = fmt.Errorf("ask member: it does not freeze: %d %q", status, plain.OneLine(text[:min(len(text), 120)]))
	}
	return p, err
}
