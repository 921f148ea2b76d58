//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

type object = map[string]any

// send sends a request and demands an answer with words in it.
func (r *row) send(n *lab.Node, method, path string, in any, status int, words string) {
	r.Helper()
	var code int
	var text string
	r.eventually(method+" "+path+" is judged", func() bool {
		var err error
		code, text, err = r.Send(r.ctx, n, method, path, in)
		r.must(err)
		return code == status || !unanswered(text)
	})
	if code != status || !strings.Contains(text, words) {
		r.Fatalf("%s %s %v on %s: %d %q, want %d %q", method, path, in, n.Name, code, text, status, words)
	}
}

// field reads one field of a member's own status document.
func (r *row) field(n *lab.Node, name string) any {
	var doc object
	if _, err := r.Get(r.ctx, n, "/patroni", &doc); err != nil {
		return nil
	}
	return doc[name]
}

func (r *row) replica() *lab.Node {
	for _, n := range r.Nodes {
		if n != r.leader {
			return n
		}
	}
	return nil
}

// Scenarios 47 and 48: a parameter waits for a restart; conditions that do not
// hold change nothing; a restart of the leader costs the leadership of nobody.
func TestRestart(t *testing.T) {
	r := begin(t)
	standby := r.replica()
	pid := func(n *lab.Node) int {
		p, err := r.Pid(n, lab.Postmaster)
		r.must(err)
		return p
	}
	pending := func(n *lab.Node) bool { return r.pendingRestart(n, "max_files_per_process") }
	parameter := func(value any) object {
		return object{"postgresql": object{"parameters": object{"max_files_per_process": value}}}
	}
	r.send(r.leader, "PATCH", "/config", parameter("many"), 422, `/config: postgresql.parameters.max_files_per_process: PostgreSQL does not start with this value: invalid value for parameter "max_files_per_process": "many"`)
	r.patch(parameter(977))
	r.eventually("the restart is pending everywhere", func() bool { return pending(r.leader) && pending(standby) })
	for _, n := range r.Nodes {
		r.eventually("a copy of /config in the data directory", func() bool {
			text, _ := os.ReadFile(filepath.Join(n.DataDir, "patroni.dynamic.json"))
			return strings.Contains(string(text), `"max_files_per_process":977`)
		})
	}

	before, beforeStandby := pid(r.leader), pid(standby)
	r.send(r.leader, "POST", "/restart", object{"role": "replica"}, 503, "restart conditions are not satisfied")
	r.send(standby, "POST", "/restart", object{"postgres_version": "9.6.1"}, 503, "restart conditions are not satisfied")
	r.send(standby, "POST", "/restart", object{"role": "nonsense"}, 400, "PostgreSQL role should be")
	if pid(r.leader) != before || pid(standby) != beforeStandby {
		t.Fatal("a refused restart restarted a server")
	}
	began := lab.Boottime()
	r.send(r.leader, "POST", "/restart", object{"restart_pending": true, "role": "primary"}, 200, "restarted successfully")
	took := lab.Boottime() - began
	gap := r.gap(began)
	if pid(r.leader) == before {
		t.Error("the server is the old one")
	}
	r.eventually("the flag goes", func() bool { return r.field(r.leader, "state") == "running" && !pending(r.leader) })
	r.send(r.leader, "POST", "/restart", object{"restart_pending": true}, 503, "restart conditions are not satisfied")
	r.send(standby, "POST", "/restart", nil, 200, "restarted successfully")
	if pid(standby) == beforeStandby {
		t.Error("the standby's server is the old one")
	}
	r.eventually("its flag goes", func() bool { return r.field(standby, "state") == "running" && !pending(standby) })
	r.sameLeader()
	t.Logf("restart of the leader: answered after %d ms, gap %d ms", took.Milliseconds(), gap.Milliseconds())
	r.patch(parameter(nil))
	r.eventually("the restart is pending again", func() bool { return pending(r.leader) })
	r.finish(none)
	cluster.broken = true // that stays so: the next row gets a cluster of its own
}

// Scenario 48: a scheduled restart happens at its time and once; there is one at
// most, it is shown, and it can be taken back.
func TestScheduledRestart(t *testing.T) {
	r := begin(t)
	n := r.replica()
	start := r.known(n, "postmaster_start_time")
	in := func(d time.Duration) object {
		return object{"schedule": time.Now().Add(d).Format(time.RFC3339Nano)}
	}
	r.send(n, "DELETE", "/restart", nil, 404, "no restarts are scheduled")
	r.send(n, "POST", "/restart", in(time.Hour), 202, "Restart scheduled")
	r.send(n, "POST", "/restart", in(time.Hour), 409, "Another restart is already scheduled")
	r.eventually("it is shown", func() bool { return r.field(n, "scheduled_restart") != nil })
	r.send(n, "DELETE", "/restart", nil, 200, "scheduled restart deleted")
	r.send(n, "POST", "/restart", in(-time.Hour), 422, "in the past")

	var due time.Time
	_, from := r.AgentLog(n, 0)
	schedule := func() {
		due = time.Now().Add(5 * time.Second)
		r.send(n, "POST", "/restart", object{"schedule": due.Format(time.RFC3339Nano)}, 202, "Restart scheduled")
	}
	schedule()
	var again any
	r.eventually("the restart", func() bool {
		if r.slept(n, &from) {
			schedule()
		}
		again = r.field(n, "postmaster_start_time")
		return again != nil && again != start
	})
	if early := time.Until(due); early > 0 {
		t.Errorf("restarted %s before its time", early)
	}
	r.eventually("it is not shown any more", func() bool { return r.field(n, "scheduled_restart") == nil })
	r.send(n, "DELETE", "/restart", nil, 404, "no restarts are scheduled")
	if now := r.known(n, "postmaster_start_time"); now != again {
		t.Errorf("restarted twice: %v, %v", again, now)
	}
	r.sameLeader()
	r.finish(none)
}

// Scenario 75: a leader that does not come up again after a restart gives the
// leadership away at once.
func TestRestartThatFails(t *testing.T) {
	r := begin(t)
	parameters := func(value any) object {
		return object{"postgresql": object{"parameters": object{"shared_preload_libraries": value}}}
	}
	r.patch(parameters("no_such_library"))
	r.eventually("the restart is pending", func() bool { return r.pendingRestart(r.leader, "shared_preload_libraries") })
	began := lab.Boottime()
	r.send(r.leader, "POST", "/restart", nil, 503, "restart failed")
	next := r.newLeader(r.leader)
	t.Logf("%s did not come up, %s leads: gap %d ms", r.leader.Name, next.Name, r.gap(began).Milliseconds())
	r.patch(parameters(nil))
	r.finish(none)
	cluster.broken = true // PostgreSQL goes on waiting for a restart of those that ran: the next row gets a cluster of its own
}

// A primary that comes up with larger settings than a standby's stops the replay
// there (PostgreSQL 14 and later). The standby is restarted with what it needs,
// as Patroni does it, and nobody has to be woken for it.
func TestSettingThatStopsReplay(t *testing.T) {
	r := begin(t)
	parameter := func(value any) object {
		return object{"postgresql": object{"parameters": object{"max_prepared_transactions": value}}}
	}
	r.patch(parameter(7))
	r.eventually("the restart is pending", func() bool { return r.pendingRestart(r.leader, "max_prepared_transactions") })
	began := lab.Boottime()
	r.send(r.leader, "POST", "/restart", nil, 200, "restarted successfully")
	r.patch(parameter(nil))
	took := r.streaming(began)
	for _, n := range r.Nodes {
		r.eventually(n.Name+" replays", func() bool {
			xlog, _ := r.field(n, "xlog").(object)
			return xlog["paused"] == false || xlog["location"] != nil
		})
	}
	t.Logf("all streaming again after %d ms", took.Milliseconds())
	r.sameLeader()
	r.finish(none)
	cluster.broken = true // members keep unlike settings: the next row gets a cluster of its own
}
