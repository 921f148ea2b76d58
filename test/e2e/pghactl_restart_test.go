//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// A setting that needs a restart: edit-config, the mark in the list, restart
// --pending of replicas and leader, no failover.
func TestPghactlPendingRestart(t *testing.T) {
	r := begin(t)
	scope := r.Options().Scope
	before := strings.Fields(r.sql("show max_connections"))[1]
	after := "133"
	if before == after {
		after = "134"
	}
	pending := func(want int) {
		r.Helper()
		r.eventually(fmt.Sprintf("%d pending restarts", want), func() bool {
			n := 0
			for _, m := range r.members() {
				if m["Pending restart"] == "*" && m["Pending restart reason"] == "max_connections: "+before+"->"+after {
					n++
				}
			}
			return n == want
		})
	}
	r.pghactl([]string{"edit-config", "-p", "max_connections=" + after, "--force"}, "\n+    max_connections: "+after+"\n", "Configuration changed\n")
	r.pghactl([]string{"show-config"}, "    max_connections: "+after+"\n")
	pending(len(r.Nodes))
	r.pghactl([]string{"restart", scope, "-r", "replica", "--pending", "--force"}, "Success: restart on member ")
	pending(1)
	r.pghactl([]string{"restart", scope, r.leader.Name, "--pending", "--force"}, "Success: restart on member "+r.leader.Name+"\n")
	pending(0)
	if got := strings.Fields(r.sql("show max_connections"))[1]; got != after {
		t.Errorf("max_connections is %s, want %s", got, after)
	}
	if out := r.pghactl([]string{"restart", scope, "--pending", "--force"}); strings.Contains(out, "Success") || strings.Contains(out, "Failed") {
		t.Errorf("restarted with nothing pending:\n%s", out)
	}
	r.sameLeader()
	r.finish(none)
	cluster.broken = true // that stays so: the next row gets a cluster of its own
}

// What is scheduled shows, and can be discarded.
func TestPghactlScheduled(t *testing.T) {
	r := begin(t)
	scope, later := r.Options().Scope, time.Now().Add(2*time.Hour).UTC().Format("2006-01-02T15:04:05+00:00")
	var replica *lab.Node
	for _, n := range r.Nodes {
		if n != r.leader {
			replica = n
		}
	}
	shows := func(column any) func() bool {
		return func() bool { return r.members()[replica.Name]["Scheduled restart"] == column }
	}
	r.pghactl([]string{"restart", scope, replica.Name, "--scheduled", later, "--force"}, "Success: restart scheduled on member "+replica.Name+"\n")
	r.eventually("the restart shows", shows(later))
	r.pghactl([]string{"flush", scope, replica.Name, "restart", "--force"}, "Success: flush scheduled restart for member "+replica.Name+"\n")
	r.eventually("the restart is gone", shows(nil))

	r.pghactl([]string{"switchover", "--candidate", replica.Name, "--scheduled", later, "--force"}, " Switchover scheduled at: "+later+"\n", "to: "+replica.Name+"\n")
	r.pghactl([]string{"list"}, " Switchover scheduled at: "+later+"\n")
	r.pghactl([]string{"flush", scope, "switchover"}, "Success: ")
	if out := r.pghactl([]string{"list"}); strings.Contains(out, "scheduled at") {
		t.Errorf("still scheduled:\n%s", out)
	}
	r.pghactl([]string{"flush", scope, "switchover"}, "No pending scheduled switchover\n")

	// One that comes true.
	started := r.sql("select pg_postmaster_start_time()", "-m", replica.Name)
	_, from := r.AgentLog(replica, 0)
	schedule := func() {
		soon := time.Now().Add(10 * time.Second).UTC().Format("2006-01-02T15:04:05+00:00")
		r.pghactl([]string{"restart", scope, replica.Name, "--scheduled", soon, "--force"}, "Success: restart scheduled on member ")
	}
	schedule()
	r.eventually("it is restarted", func() bool {
		if r.slept(replica, &from) {
			schedule()
		}
		now := r.query("select pg_postmaster_start_time()", "-m", replica.Name)
		return now != started && !strings.Contains(now, "ERROR") && !noServer.MatchString(now)
	})
	r.sameLeader()
	r.finish(none)
}
