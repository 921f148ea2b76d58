package restapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

// fakeRestarts records what it is asked for.
type fakeRestarts struct {
	restarts  []ha.RestartRequest
	refusal   *Refusal
	scheduled bool
}

func (f *fakeRestarts) Restart(_ context.Context, r ha.RestartRequest) *Refusal {
	f.restarts = append(f.restarts, r)
	return f.refusal
}

func (f *fakeRestarts) ScheduleRestart(r ha.RestartRequest) *Refusal {
	if f.scheduled {
		return &Refusal{http.StatusConflict, "Another restart is already scheduled"}
	}
	f.restarts, f.scheduled = append(f.restarts, r), true
	return nil
}

func (f *fakeRestarts) CancelScheduledRestart() bool {
	was := f.scheduled
	f.scheduled = false
	return was
}

func TestRestart(t *testing.T) {
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	when := at.Format("2006-01-02T15:04:05+00:00")
	pause := func(a *fakeAgent) { setConfig(a, `{"pause":true}`) }
	for _, c := range []struct {
		name, body string
		change     func(*fakeAgent)
		code       int
		text       string
		want       *ha.RestartRequest // nil: nothing is asked for
	}{
		{"no body", "", nil, 200, "restarted successfully", &ha.RestartRequest{Document: []byte("{}")}},
		{"no conditions", "{}", nil, 200, "restarted successfully", &ha.RestartRequest{Document: []byte("{}")}},
		{"all conditions", `{"role":"replica","postgres_version":"15.20","timeout":"2min","restart_pending":null}`, nil, 200, "restarted successfully",
			&ha.RestartRequest{Role: "replica", Version: 150020, Timeout: 2 * time.Minute, Pending: true, Document: []byte(`{"role":"replica","postgres_version":"15.20","timeout":120,"restart_pending":null}`)}},
		{"an old version", `{"postgres_version":"9.6.24"}`, nil, 200, "restarted successfully", &ha.RestartRequest{Version: 90624, Document: []byte(`{"postgres_version":"9.6.24"}`)}},
		{"a number of seconds", `{"timeout":7}`, nil, 200, "restarted successfully", &ha.RestartRequest{Timeout: 7 * time.Second, Document: []byte(`{"timeout":7}`)}},
		{"in pause", "{}", pause, 200, "restarted successfully", &ha.RestartRequest{Document: []byte("{}")}},
		{"refused", "{}", func(a *fakeAgent) { a.refusal = &Refusal{503, "restart\nconditions are not satisfied"} }, 503, "restart conditions are not satisfied", &ha.RestartRequest{Document: []byte("{}")}},
		{"scheduled", `{"schedule":"` + when + `","restart_pending":true}`, nil, 202, "Restart scheduled",
			&ha.RestartRequest{At: at, Pending: true, Document: []byte(`{"schedule":"` + when + `","restart_pending":true}`)}},
		{"another one is scheduled", `{"schedule":"` + when + `"}`, func(a *fakeAgent) { a.scheduled = true }, 409, "Another restart is already scheduled", nil},
		{"scheduled in pause", `{"schedule":"` + when + `"}`, pause, 500, "Can't schedule restart in the paused state", nil},
		{"in the past", `{"schedule":"2001-01-01T00:00+00:00"}`, nil, 422, "Cannot schedule restart in the past", nil},
		{"no time", `{"schedule":7}`, nil, 422, "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601", nil},
		{"no zone", `{"schedule":"2100-01-01T00:00"}`, nil, 400, "Timezone information is mandatory for the scheduled restart", nil},
		{"role", `{"role":"master"}`, nil, 400, "PostgreSQL role should be either primary, standby_leader, or replica", nil},
		{"role of another kind", `{"role":["primary"]}`, nil, 400, "PostgreSQL role should be either primary, standby_leader, or replica", nil},
		{"version", `{"postgres_version":"x"}`, nil, 400, "Invalid PostgreSQL version: x", nil},
		{"half a version", `{"postgres_version":"9.6"}`, nil, 400, "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 9.6", nil},
		{"a version without end", `{"postgres_version":"15.1.2.3"}`, nil, 400, "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 15.1.2.3", nil},
		{"timeout", `{"timeout":-1}`, nil, 400, "Timeout should be a positive number of seconds", nil},
		{"timeout zero", `{"timeout":0}`, nil, 400, "Timeout should be a positive number of seconds", nil},
		{"timeout of another kind", `{"timeout":{}}`, nil, 400, "Timeout should be a positive number of seconds", nil},
		{"timeout beyond reason", `{"timeout":9223372036854775807}`, nil, 400, "Timeout should be a positive number of seconds", nil},
		{"unknown", `{"unknown":1}`, nil, 400, "Unknown filter for the scheduled restart: unknown", nil},
		{"the first that is wrong", `{"timeout":-1,"role":"x"}`, nil, 400, "Timeout should be a positive number of seconds", nil},
		{"no object", `[]`, nil, 400, "", nil},
		{"no JSON", `{`, nil, 400, "", nil},
		{"etcd silent", "{}", func(a *fakeAgent) { a.readErr = errors.New("silence") }, 503, "etcd does not answer, try again later", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, "healthy-async", "pg-db-02")
			if c.change != nil {
				c.change(a)
			}
			got := ask(newServer(t, a, Settings{}).Handler(), http.MethodPost, "/restart", c.body)
			if got.Code != c.code || got.Body.String() != c.text && !(c.text == "" && strings.HasPrefix(got.Body.String(), "<!DOCTYPE HTML>")) {
				t.Errorf("%d %q\nwant %d %q", got.Code, got.Body, c.code, c.text)
			}
			switch {
			case c.want == nil && len(a.restarts) != 0:
				t.Errorf("asked for %+v", a.restarts)
			case c.want != nil && (len(a.restarts) != 1 || !sameRestart(a.restarts[0], *c.want)):
				t.Errorf("asked for %+v\nwant %+v", a.restarts, *c.want)
			}
		})
	}
}

func sameRestart(a, b ha.RestartRequest) bool {
	same := slices.Equal(a.Document, b.Document) && a.At.Equal(b.At)
	return same && a.Role == b.Role && a.Version == b.Version && a.Pending == b.Pending && a.Timeout == b.Timeout
}

func TestDeleteRestart(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	a.scheduled = true
	h := newServer(t, a, Settings{}).Handler()
	if got := ask(h, http.MethodDelete, "/restart", ""); got.Code != 200 || got.Body.String() != "scheduled restart deleted" {
		t.Errorf("%d %q", got.Code, got.Body)
	}
	if got := ask(h, http.MethodDelete, "/restart", ""); got.Code != 404 || got.Body.String() != "no restarts are scheduled" {
		t.Errorf("again: %d %q", got.Code, got.Body)
	}
}

// TestScheduledRestartShown: the status document has the request as it was sent.
func TestScheduledRestartShown(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	a.update(func(v *ha.View) {
		v.ScheduledRestart = []byte(`{"schedule":"2100-01-01T00:00:00+00:00","restart_pending":true}`)
	})
	got := ask(newServer(t, a, Settings{}).Handler(), http.MethodGet, "/patroni", "").Body.String()
	const want = `"name": "pg-db-02"}, "scheduled_restart": {"schedule": "2100-01-01T00:00:00+00:00", "restart_pending": true}}`
	if !strings.HasSuffix(got, want) {
		t.Errorf("got %s\nwant it to end in %s", got, want)
	}
}
