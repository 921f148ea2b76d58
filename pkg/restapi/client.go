package restapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// maxAnswer bounds what the client reads of an answer, in bytes.
const maxAnswer = 4 << 20

// ClientOptions configure a Client.
type ClientOptions struct {
	// Username and Password are sent as Basic auth when either is set (wire
	// contract §1.5: ctl.authentication, else restapi.authentication).
	Username string
	Password config.Secret
	// TLS is used for https URLs; see ClientTLS. Nil: Go's defaults.
	TLS *tls.Config
	// UserAgent should start with "Patroni/<version>".
	UserAgent string
	// DialTimeout bounds a connection attempt; zero means 2 s. The whole
	// request is bounded by its context only.
	DialTimeout time.Duration
}

// Client calls the REST API of members, ours or Patroni's. It is safe for
// concurrent use and keeps connections for reuse.
type Client struct {
	caller atomic.Pointer[caller]
}

// caller is what ClientOptions make of a Client; immutable.
type caller struct {
	http      *http.Client
	username  string
	password  config.Secret
	userAgent string
}

// NewClient makes a Client.
func NewClient(o ClientOptions) *Client {
	c := &Client{}
	c.caller.Store(newCaller(o))
	return c
}

// Reconfigure puts other options in force for the next request.
func (c *Client) Reconfigure(o ClientOptions) {
	c.caller.Swap(newCaller(o)).http.CloseIdleConnections()
}

func newCaller(o ClientOptions) *caller {
	if o.DialTimeout == 0 {
		o.DialTimeout = 2 * time.Second
	}
	dialer := &net.Dialer{Timeout: o.DialTimeout}
	return &caller{
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:                 nil, // members are asked directly, whatever the environment says
				DialContext:           dialer.DialContext,
				TLSClientConfig:       o.TLS,
				TLSHandshakeTimeout:   o.DialTimeout,
				MaxIdleConnsPerHost:   2,
				IdleConnTimeout:       45 * time.Second, // below the server's idle timeout
				DisableCompression:    true,
				ExpectContinueTimeout: time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		username:  o.Username,
		password:  o.Password,
		userAgent: o.UserAgent,
	}
}

// Close drops the idle connections.
func (c *Client) Close() { c.caller.Load().http.CloseIdleConnections() }

// Get fetches a URL as it is. Any HTTP answer is a nil error.
func (c *Client) Get(ctx context.Context, url string) (status int, body string, err error) {
	return c.do(ctx, http.MethodGet, url, nil)
}

// Post sends body as JSON to path of the member that publishes memberAPIURL
// (whose own path, normally /patroni, is replaced). Any HTTP answer is a nil
// error. A nil body sends none.
func (c *Client) Post(ctx context.Context, memberAPIURL, path string, body any) (status int, text string, err error) {
	return c.Send(ctx, http.MethodPost, memberAPIURL, path, body)
}

// Send is Post with any method.
func (c *Client) Send(ctx context.Context, method, memberAPIURL, path string, body any) (status int, text string, err error) {
	u, err := url.Parse(memberAPIURL)
	if err != nil {
		return 0, "", fmt.Errorf("%s %s: %w", method, path, err)
	}
	u.Path, u.RawPath, u.RawQuery = path, "", ""
	var payload []byte
	if body != nil {
		if payload, err = json.Marshal(body); err != nil {
			return 0, "", fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return c.do(ctx, method, u.String(), payload)
}

// SwitchoverRequest is the body of POST /switchover and /failover (wire
// contract §5.8).
type SwitchoverRequest struct {
	Leader      string `json:"leader,omitempty"`
	Candidate   string `json:"candidate,omitempty"`
	ScheduledAt string `json:"scheduled_at,omitempty"` // ISO 8601 with offset
}

// Switchover asks the member for a switchover, and for a failover when the
// request names no leader. It takes as long as the switchover does.
func (c *Client) Switchover(ctx context.Context, memberAPIURL string, r SwitchoverRequest) (status int, text string, err error) {
	path := "/switchover"
	if r.Leader == "" {
		path = "/failover"
	}
	return c.Post(ctx, memberAPIURL, path, r)
}

func (c *Client) do(ctx context.Context, method, url string, payload []byte) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(payload))
	if err != nil {
		return 0, "", fmt.Errorf("%s: %w", method, err)
	}
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Cache-Control", noCache)
	by := c.caller.Load()
	if by.userAgent != "" {
		req.Header.Set("User-Agent", by.userAgent)
	}
	if by.username != "" || by.password.IsSet() {
		req.SetBasicAuth(by.username, by.password.Reveal())
	}
	resp, err := by.http.Do(req)
	if err != nil {
		return 0, "", err // names method and URL; no header is in it
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, "", fmt.Errorf("%s %s: read answer: %w", method, req.URL.Redacted(), err)
	}
	if len(text) > maxAnswer {
		return 0, "", fmt.Errorf("%s %s: answer is larger than %d bytes", method, req.URL.Redacted(), maxAnswer)
	}
	return resp.StatusCode, string(text), nil
}

// FailsafeRequest is the body of POST /failsafe (wire contract §5.7).
type FailsafeRequest struct {
	Name    string             `json:"name"`
	ConnURL string             `json:"conn_url"`
	APIURL  string             `json:"api_url"`
	Slots   map[string]wal.LSN `json:"slots,omitempty"`
	// PGHA is what only our members understand; Patroni's ignore it.
	PGHA FailsafeTTL `json:"pgha"`
}

// FailsafeTTL says for how long the leader counts on the promise.
type FailsafeTTL struct {
	TTL int64 `json:"ttl"` // milliseconds
}

// Failsafe asks the member that publishes apiURL to let this leader be. Nil
// means that it promised to.
func (c *Client) Failsafe(ctx context.Context, apiURL string, r FailsafeRequest) error {
	status, text, err := c.Post(ctx, apiURL, "/failsafe", r)
	switch {
	case err != nil:
		return fmt.Errorf("ask member: %w", err)
	case status != http.StatusOK || text != failsafeAccepted:
		return fmt.Errorf("ask member: it answers %d %q", status, plain.OneLine(text[:min(len(text), 80)]))
	}
	return nil
}

// MemberStatus asks a member for its status document at the api_url it
// publishes (ha-behaviour 2.3): no retry, the status code does not count. An
// error means the member counts as not reachable; the Peer is then zero.
func (c *Client) MemberStatus(ctx context.Context, apiURL string) (ha.Peer, error) {
	if apiURL == "" {
		return ha.Peer{}, fmt.Errorf("ask member: it publishes no api_url")
	}
	_, body, err := c.do(ctx, http.MethodGet, apiURL, nil)
	if err != nil {
		return ha.Peer{}, fmt.Errorf("ask member: %w", err)
	}
	p, err := ParsePeer([]byte(body))
	if err != nil {
		return ha.Peer{}, fmt.Errorf("ask member: %s: %w", strings.TrimSpace(apiURL), err)
	}
	return p, nil
}

// AskMembers asks all these members at once. The answer has an entry for each;
// Reachable is false for those that did not answer usefully before ctx ended.
func (c *Client) AskMembers(ctx context.Context, members []dcs.Member) map[string]ha.Peer {
	answers := make([]ha.Peer, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { answers[i], _ = c.MemberStatus(ctx, m.APIURL) })
	}
	wg.Wait()
	out := make(map[string]ha.Peer, len(members))
	for i, m := range members {
		out[m.Name] = answers[i]
	}
	return out
}
