//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// A member tagged nostream lives by the archive alone: it asks the leader for
// nothing, has no slot there, and streams again when the tag goes.
func TestNoStream(t *testing.T) {
	onlyLong(t)
	t.Parallel() // a cluster of its own
	s := startSite(t, nil)
	s.backup("full")
	n := s.standby()
	reload := func(more ...map[string]any) {
		s.must(s.WriteConfig(n, more...))
		s.must(s.Signal(n, lab.Agent, syscall.SIGHUP))
	}
	state := func() string {
		var c struct {
			Members []struct{ Name, State string } `json:"members"`
		}
		if _, err := s.Get(s.ctx, s.leader, "/cluster", &c); err != nil {
			return err.Error()
		}
		for _, m := range c.Members {
			if m.Name == n.Name {
				return m.State
			}
		}
		return "not listed"
	}
	slots := func() string {
		return s.value(s.leader, fmt.Sprintf("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '%s'", strings.ReplaceAll(n.Name, "-", "_")))
	}

	s.must(s.Patch(s.ctx, object{"member_slots_ttl": "5s"}))
	reload(object{"tags": object{"nostream": true}})
	s.await("the standby to stream no more", func() bool {
		got, err := s.ask(n, "SELECT count(*) FROM pg_stat_wal_receiver")
		return err == nil && got == "0" && s.value(s.leader, "SELECT count(*) FROM pg_stat_replication") == "0"
	})
	s.await("the state in archive recovery", func() bool { return state() == "in archive recovery" })
	s.await("the end of its slot", func() bool { return slots() == "0" })
	s.rows("by the archive", 500)
	s.value(s.leader, "SELECT pg_switch_wal()")
	s.sameEverywhere(s.content(s.leader))
	if got := s.value(s.leader, "SELECT count(*) FROM pg_stat_replication"); got != "0" {
		t.Errorf("%s standbys stream", got)
	}

	reload()
	t.Logf("without the tag: streaming after %.1f s", s.whole().Seconds())
	s.await("its slot", func() bool { return slots() == "1" })
	s.rows("by the stream", 500)
	s.sameEverywhere(s.content(s.leader))
}

// A copy is made from a member tagged clonefrom, which spares the leader.
func TestCloneFrom(t *testing.T) {
	onlyLong(t)
	r := begin(t)
	var standbys []*lab.Node
	for _, n := range r.Nodes {
		if n != r.leader {
			standbys = append(standbys, n)
		}
	}
	source, n := standbys[0], standbys[1]
	r.retag(source, object{"clonefrom": true})
	t.Cleanup(func() { r.retag(source, nil) })
	r.eventually("the tag in the member's key", func() bool {
		out, err := r.Ctl(r.ctx, r.leader, "list", "-f", "json")
		return err == nil && strings.Contains(out, "clonefrom")
	})
	old, err := r.Pid(n, lab.Postmaster)
	r.must(err)
	_, offset := r.AgentLog(n, 0)
	_, err = r.Ctl(r.ctx, r.leader, "reinit", r.Options().Scope, n.Name, "--force")
	r.must(err)
	r.eventually("the old server to end", func() bool {
		now, err := r.Pid(n, lab.Postmaster)
		return err != nil || now != old
	})
	r.streaming(lab.Boottime())
	log, _ := r.AgentLog(n, offset)
	if !strings.Contains(log, "bootstrap from "+source.Name) {
		t.Errorf("%s was not copied from %s:\n%s", n.Name, source.Name, log)
	}
	r.finish(none)
}
