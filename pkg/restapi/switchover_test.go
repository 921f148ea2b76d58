package restapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// goodPeers makes the replicas of the recorded cluster answer well.
func goodPeers(a *fakeAgent) {
	a.peers["pg-db-01"] = ha.Peer{Reachable: true, InRecovery: true}
	a.peers["pg-db-03"] = ha.Peer{Reachable: true, InRecovery: true, NoFailover: true}
}

// setConfig merges JSON fields into the recorded configuration.
func setConfig(a *fakeAgent, raw string) {
	a.update(func(v *ha.View) {
		c := *v.Cluster
		c.Config = &dcs.Config{Raw: json.RawMessage(raw), ModRevision: v.Cluster.Config.ModRevision}
		v.Cluster, v.Config = &c, c.Config.Raw
	})
}

func changeCluster(a *fakeAgent, change func(*dcs.Cluster)) {
	a.update(func(v *ha.View) {
		c := *v.Cluster
		change(&c)
		v.Cluster = &c
	})
}

func TestSwitchoverRefusals(t *testing.T) {
	const soon = `"2100-01-01T00:00:00+00:00"`
	for _, c := range []struct {
		name, path, body string
		change           func(*fakeAgent)
		code             int
		text             string
	}{
		{"1 no candidate", "/failover", `{"leader":"pg-db-02"}`, nil, 400, "Failover could be performed only to a specific candidate"},
		{"2 no leader", "/switchover", `{"candidate":"pg-db-01"}`, nil, 400, "Switchover could be performed only from a specific leader"},
		{"3 scheduled failover", "/failover", `{"candidate":"pg-db-01","scheduled_at":` + soon + `}`, nil, 400, "Failover can't be scheduled"},
		{"4 paused", "/switchover", `{"leader":"pg-db-02","scheduled_at":` + soon + `}`, func(a *fakeAgent) { setConfig(a, `{"pause":true}`) }, 400, "Can't schedule switchover in the paused state"},
		{"6 paused, nobody named", "/switchover", `{"leader":"pg-db-02"}`, func(a *fakeAgent) { setConfig(a, `{"pause":true}`) }, 400, "Switchover is possible only to a specific candidate in a paused state"},
		{"7 onto itself", "/switchover", `{"leader":"x","candidate":"x","scheduled_at":` + soon + `}`, nil, 400, "Switchover target and source are the same"},
		{"8 other leader", "/switchover", `{"leader":"pg-db-01"}`, nil, 412, "leader name does not match"},
		{"8 failover with a leader goes on as switchover", "/failover", `{"leader":"pg-db-01","candidate":"pg-db-03"}`, nil, 412, "leader name does not match"},
		{"8 no lock holder", "/switchover", `{"leader":"pg-db-02"}`, func(a *fakeAgent) { changeCluster(a, func(c *dcs.Cluster) { c.Leader = nil }) }, 412, "leader name does not match"},
		{"9 candidate not synchronous", "/switchover", `{"leader":"pg-db-02","candidate":"pg-db-01"}`, func(a *fakeAgent) { setConfig(a, `{"synchronous_mode":true}`) }, 412, "candidate name does not match with sync_standby"},
		{"10 unknown", "/switchover", `{"leader":"pg-db-02","member":"nobody"}`, nil, 412, "candidate does not exists"},
		{"candidate leads", "/failover", `{"candidate":"pg-db-02"}`, nil, 412, "candidate is the leader already"},
		{"11 nobody synchronous", "/switchover", `{"leader":"pg-db-02"}`, func(a *fakeAgent) { setConfig(a, `{"synchronous_mode":"on"}`) }, 412, "switchover is not possible: can not find sync_standby"},
		{"12 alone", "/switchover", `{"leader":"pg-db-02"}`, func(a *fakeAgent) {
			changeCluster(a, func(c *dcs.Cluster) { c.Members = []dcs.Member{*c.Member("pg-db-02"), {Name: "x"}} })
		}, 412, "switchover is not possible: cluster does not have members except leader"},
		{"13 candidate with nofailover", "/failover", `{"candidate":"pg-db-03"}`, nil, 412, "failover is not possible: no good candidates have been found (pg-db-03: tagged nofailover)"},
		{"13 nobody answers", "/switchover", `{"leader":"pg-db-02"}`, func(a *fakeAgent) { clear(a.peers) }, 412, "switchover is not possible: no good candidates have been found (pg-db-01: not reachable, pg-db-03: tagged nofailover)"},
		{"13 the synchronous one does not answer", "/switchover", `{"leader":"pg-db-02"}`, func(a *fakeAgent) {
			setConfig(a, `{"synchronous_mode":"on"}`)
			changeCluster(a, func(c *dcs.Cluster) {
				c.Sync = &dcs.Sync{Leader: "pg-db-02", Standbys: []string{"pg-db-03"}}
				c.Members[2].Tags = dcs.Tags{}
			})
			a.peers["pg-db-03"] = ha.Peer{}
		}, 412, "switchover is not possible: no good candidates have been found (pg-db-01: no synchronous standby, pg-db-03: not reachable)"},
		{"14 write fails", "/switchover", `{"leader":"pg-db-02"}`, func(a *fakeAgent) { a.putErr = dcs.ErrUnavailable }, 503, "failed to write failover key into DCS"},
		{"etcd silent", "/switchover", `{"leader":"pg-db-02"}`, func(a *fakeAgent) { a.readErr = errors.New("silence") }, 503, "etcd does not answer, try again later"},
		{"field of another kind", "/switchover", `{"leader":["pg-db-02"]}`, nil, 400, "leader must be a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, "healthy-async", "pg-db-02")
			goodPeers(a)
			if c.change != nil {
				c.change(a)
			}
			s := newServer(t, a, Settings{})
			got := ask(s.Handler(), http.MethodPost, c.path, c.body)
			if got.Code != c.code || got.Body.String() != c.text {
				t.Errorf("%d %q\nwant %d %q", got.Code, got.Body, c.code, c.text)
			}
			if a.count() != 0 {
				t.Errorf("wrote %v", a.writes)
			}
		})
	}
}

func TestSwitchoverOutcomes(t *testing.T) {
	moveTo := func(name string) func(*fakeAgent) {
		return func(a *fakeAgent) {
			changeCluster(a, func(c *dcs.Cluster) {
				c.Revision++
				c.Leader = nil
			})
			changeCluster(a, func(c *dcs.Cluster) {
				c.Revision++
				c.Leader = &dcs.Leader{Name: name}
				c.Failover = nil
			})
		}
	}
	dropped := func(a *fakeAgent) {
		changeCluster(a, func(c *dcs.Cluster) {
			c.Revision++
			c.Failover = &dcs.Failover{ModRevision: c.Revision}
		})
	}
	drop := func(a *fakeAgent) {
		a.Record(dcs.Event{At: time.Now().Truncate(time.Millisecond), Reason: ha.FailoverCleaned.Code(), Cause: "dropping a request: nobody is good (a: lags: much)"})
		dropped(a)
	}
	for _, c := range []struct {
		name, path, body string
		after            func(*fakeAgent)
		wait             time.Duration
		wrote            string
		code             int
		text             string
	}{
		{"anybody", "/switchover", `{"leader":"pg-db-02"}`, moveTo("pg-db-01"), 0, "failover pg-db-02>", 200, `Successfully switched over to "pg-db-01"`},
		{"the candidate", "/switchover", `{"leader":"pg-db-02","candidate":"pg-db-01"}`, moveTo("pg-db-01"), 0, "failover pg-db-02>pg-db-01", 200, `Successfully switched over to "pg-db-01"`},
		{"somebody else", "/switchover", `{"leader":"pg-db-02","candidate":"pg-db-01"}`, moveTo("pg-db-03"), 0, "failover pg-db-02>pg-db-01", 200, `Switched over to "pg-db-03" instead of "pg-db-01"`},
		{"failover", "/failover", `{"candidate":"pg-db-01"}`, moveTo("pg-db-01"), 0, "failover >pg-db-01", 200, `Successfully failed over to "pg-db-01"`},
		{"failover to somebody else", "/failover", `{"candidate":"pg-db-01"}`, moveTo("pg-db-03"), 0, "failover >pg-db-01", 200, `Failed over to "pg-db-03" instead of "pg-db-01"`},
		{"dropped", "/switchover", `{"leader":"pg-db-02"}`, drop, 0, "failover pg-db-02>", 503, "Switchover failed: nobody is good (a: lags: much)"},
		{"dropped by another member", "/switchover", `{"leader":"pg-db-02"}`, dropped, 0, "failover pg-db-02>", 503, "Switchover failed"},
		{"nothing happens", "/failover", `{"candidate":"pg-db-01"}`, nil, 20 * time.Second, "failover >pg-db-01", 503, "Failover status unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAgent(t, "healthy-async", "pg-db-02")
				goodPeers(a)
				a.Record(dcs.Event{At: time.Now().Add(-time.Second), Reason: ha.FailoverCleaned.Code(), Cause: "dropping a request: another"})
				if c.after != nil {
					a.onFailover = func(a *fakeAgent) { go c.after(a) }
				}
				s := newServer(t, a, Settings{})
				start := time.Now()
				got := ask(s.Handler(), http.MethodPost, c.path, c.body)
				if d := time.Since(start); d != c.wait {
					t.Errorf("took %v, want %v", d, c.wait)
				}
				if got.Code != c.code || got.Body.String() != c.text {
					t.Errorf("%d %q\nwant %d %q", got.Code, got.Body, c.code, c.text)
				}
				if !slices.Equal(a.writes, []string{c.wrote}) {
					t.Errorf("wrote %q, want %q", a.writes, c.wrote)
				}
			})
		})
	}
}

// TestProgressStaleView: a view from before the request proves nothing.
func TestProgressStaleView(t *testing.T) {
	p := progress{before: "b", from: 10}
	for _, c := range []struct {
		name    string
		cluster *dcs.Cluster
		want    outcome
	}{
		{"no view", nil, outcomeOpen},
		{"older view with another leader", &dcs.Cluster{Revision: 9, Leader: &dcs.Leader{Name: "a"}}, outcomeOpen},
		{"request not in the view yet", &dcs.Cluster{Revision: 10, Leader: &dcs.Leader{Name: "b"}}, outcomeOpen},
		{"leftover of an earlier request", &dcs.Cluster{Revision: 10, Failover: &dcs.Failover{ModRevision: 8}}, outcomeOpen},
		{"request seen, lock free", &dcs.Cluster{Revision: 11, Failover: &dcs.Failover{Leader: "b", ModRevision: 11}}, outcomeOpen},
		{"key deleted afterwards", &dcs.Cluster{Revision: 12, Leader: &dcs.Leader{Name: "b"}}, outcomeDropped},
		{"moved", &dcs.Cluster{Revision: 13, Leader: &dcs.Leader{Name: "a"}}, outcomeMoved},
	} {
		if got := p.look(c.cluster); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestSwitchoverRace: of two requests that read the same state one is written.
func TestSwitchoverRace(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-02")
	goodPeers(a)
	stale := *a.view.Cluster
	changeCluster(a, func(c *dcs.Cluster) {
		c.Revision++
		c.Failover = &dcs.Failover{Candidate: "pg-db-03", ModRevision: c.Revision}
	})
	s := newServer(t, &staleReader{a, &stale}, Settings{})
	got := ask(s.Handler(), http.MethodPost, "/switchover", `{"leader":"pg-db-02"}`)
	if got.Code != http.StatusServiceUnavailable || a.count() != 0 {
		t.Errorf("%d %q, wrote %v; the other request must stay", got.Code, got.Body, a.writes)
	}
}

// TestScheduleSwitchover: who can take over then is not asked now, and nothing
// is waited for.
func TestScheduleSwitchover(t *testing.T) {
	const at = "2100-01-02T03:04:05+02:00"
	for _, c := range []struct {
		name, path, body string
		change           func(*fakeAgent)
		code             int
		text             string
		want             *dcs.Failover
	}{
		{"anybody", "/switchover", `{"leader":"pg-db-02","scheduled_at":"` + at + `"}`, nil, 202, "Switchover scheduled", &dcs.Failover{Leader: "pg-db-02"}},
		{"a candidate", "/switchover", `{"leader":"pg-db-02","candidate":"pg-db-01","scheduled_at":"` + at + `"}`, func(a *fakeAgent) { clear(a.peers) }, 202, "Switchover scheduled",
			&dcs.Failover{Leader: "pg-db-02", Candidate: "pg-db-01"}},
		{"a failover never", "/failover", `{"leader":"pg-db-02","candidate":"pg-db-01","scheduled_at":"` + at + `"}`, nil, 400, "Failover can't be scheduled", nil},
		{"write fails", "/switchover", `{"leader":"pg-db-02","scheduled_at":"` + at + `"}`, func(a *fakeAgent) { a.putErr = dcs.ErrUnknown }, 503, "failed to write failover key into DCS", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, "healthy-async", "pg-db-02")
			goodPeers(a)
			if c.change != nil {
				c.change(a)
			}
			got := ask(newServer(t, a, Settings{}).Handler(), http.MethodPost, c.path, c.body)
			if got.Code != c.code || got.Body.String() != c.text {
				t.Errorf("%d %q, want %d %q", got.Code, got.Body, c.code, c.text)
			}
			f := a.view.Cluster.Failover
			if c.want == nil {
				if a.count() != 0 {
					t.Errorf("wrote %v", a.writes)
				}
				return
			}
			if f == nil || f.Leader != c.want.Leader || f.Candidate != c.want.Candidate || dcs.FormatTime(f.ScheduledAt) != at {
				t.Errorf("wrote %+v, want %+v at %s", f, c.want, at)
			}
			if got := ask(newServer(t, a, Settings{}).Handler(), http.MethodGet, "/cluster", "").Body.String(); !strings.Contains(got, `"scheduled_switchover": {"at": "`+at+`"`) {
				t.Errorf("not shown: %s", got)
			}
		})
	}
}

// TestDeleteSwitchover removes a scheduled request.
func TestDeleteSwitchover(t *testing.T) {
	a := newAgent(t, "pending-restart", "pg-db-01")
	s := newServer(t, a, Settings{})
	if got := ask(s.Handler(), http.MethodDelete, "/switchover", ""); got.Code != 200 || got.Body.String() != "scheduled switchover deleted" {
		t.Errorf("%d %q", got.Code, got.Body)
	}
	if !slices.Equal(a.writes, []string{"failover >"}) {
		t.Errorf("wrote %q", a.writes)
	}
	if got := ask(s.Handler(), http.MethodDelete, "/switchover", ""); got.Code != 404 {
		t.Errorf("again: %d %q", got.Code, got.Body)
	}
	b := newAgent(t, "pending-restart", "pg-db-01")
	b.putErr = dcs.ErrConflict
	if got := ask(newServer(t, b, Settings{}).Handler(), http.MethodDelete, "/switchover", ""); got.Code != 409 {
		t.Errorf("lost race: %d %q", got.Code, got.Body)
	}
}
