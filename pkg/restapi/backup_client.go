package restapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// fetch sends a request and decodes a JSON answer into into when the status is
// one of success. Any other answer is a *Refusal; err is for no answer at all.
func (c *Client) fetch(ctx context.Context, method, memberAPIURL, path string, body, into any) (*Refusal, error) {
	status, text, err := c.Send(ctx, method, memberAPIURL, path, body)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK && status != http.StatusAccepted {
		return &Refusal{Status: status, Text: strings.TrimSpace(text)}, nil
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return nil, fmt.Errorf("%s %s: the answer is not what a pgha member sends: %w", method, path, err)
	}
	return nil, nil //nolint:nilnil // neither refused nor failed
}

// order sends a request that is answered with one line.
func (c *Client) order(ctx context.Context, method, memberAPIURL, path string, body any) (status int, text string, err error) {
	status, text, err = c.Send(ctx, method, memberAPIURL, path, body)
	return status, strings.TrimSpace(text), err
}

// Backup fetches GET /backup of a member. A member without pgha.backup, or of
// another program, refuses.
func (c *Client) Backup(ctx context.Context, memberAPIURL string) (*BackupDocument, *Refusal, error) {
	var doc BackupDocument
	no, err := c.fetch(ctx, http.MethodGet, memberAPIURL, "/backup", nil, &doc)
	if no != nil || err != nil {
		return nil, no, err
	}
	if doc.Member == "" {
		return nil, nil, fmt.Errorf("GET /backup: the member at %s is not of pgha, or too old", memberAPIURL)
	}
	return &doc, nil, nil
}

// RequestBackup asks for one backup: "full", "diff" or "incr". 202: accepted.
func (c *Client) RequestBackup(ctx context.Context, memberAPIURL, kind string) (status int, text string, err error) {
	return c.order(ctx, http.MethodPost, memberAPIURL, "/backup", map[string]string{"type": kind})
}

// CancelBackup ends the backup that the member makes, or takes a request back.
func (c *Client) CancelBackup(ctx context.Context, memberAPIURL string) (status int, text string, err error) {
	return c.order(ctx, http.MethodDelete, memberAPIURL, "/backup", nil)
}

// CheckBackup has the member test repository and archiving; it takes up to a
// minute.
func (c *Client) CheckBackup(ctx context.Context, memberAPIURL string) (*BackupCheck, *Refusal, error) {
	var res BackupCheck
	no, err := c.fetch(ctx, http.MethodPost, memberAPIURL, "/backup_check", nil, &res)
	if no != nil || err != nil {
		return nil, no, err
	}
	return &res, nil, nil
}

// Restore plans (r.Dry) or orders a point-in-time recovery at the leader.
func (c *Client) Restore(ctx context.Context, memberAPIURL string, r RestoreRequest) (*RestorePlan, *Refusal, error) {
	var plan RestorePlan
	no, err := c.fetch(ctx, http.MethodPost, memberAPIURL, "/restore", r, &plan)
	if no != nil || err != nil {
		return nil, no, err
	}
	return &plan, nil, nil
}

// RestoreState fetches the newest order; a Refusal with status 404 means none.
func (c *Client) RestoreState(ctx context.Context, memberAPIURL string) (*RestoreStatus, *Refusal, error) {
	var st RestoreStatus
	no, err := c.fetch(ctx, http.MethodGet, memberAPIURL, "/restore", nil, &st)
	if no != nil || err != nil {
		return nil, no, err
	}
	return &st, nil, nil
}

// CancelRestore takes the open order back.
func (c *Client) CancelRestore(ctx context.Context, memberAPIURL string) (status int, text string, err error) {
	return c.order(ctx, http.MethodDelete, memberAPIURL, "/restore", nil)
}

// Reinitialize asks the member to make its copy anew (wire contract §5.7).
func (c *Client) Reinitialize(ctx context.Context, memberAPIURL string, force, fromLeader bool) (status int, text string, err error) {
	return c.order(ctx, http.MethodPost, memberAPIURL, "/reinitialize", map[string]bool{"force": force, "from_leader": fromLeader})
}

// CancelReinitialize stops a copy the member makes; 404: it makes none.
func (c *Client) CancelReinitialize(ctx context.Context, memberAPIURL string) (status int, text string, err error) {
	return c.order(ctx, http.MethodDelete, memberAPIURL, "/reinitialize", nil)
}
