//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// In pause PostgreSQL is left alone: the leash is suspended, so that even an
// agent that hangs past its deadline costs nothing; on resume it is armed again.
func TestPauseSuspendsTheLeash(t *testing.T) {
	r := begin(t)
	server, err := r.Pid(r.leader, lab.Postmaster)
	r.must(err)
	says := func(offset int64, words string) {
		r.Helper()
		r.eventually("the log of "+r.leader.Name+" says "+words, func() bool {
			log, _ := r.AgentLog(r.leader, offset)
			return strings.Contains(log, words)
		})
	}
	_, offset := r.AgentLog(r.leader, 0)
	r.patch(object{"pause": true})
	says(offset, "suspend the cluster is paused") // the leash itself: the agent says so before it asks

	began := lab.Boottime()
	r.must(r.Signal(r.leader, lab.Agent, syscall.SIGSTOP))
	r.acked(began + ttl + retryTimeout)
	r.must(r.Signal(r.leader, lab.Agent, syscall.SIGCONT))
	if now, err := r.Pid(r.leader, lab.Postmaster); err != nil || now != server {
		t.Errorf("server was touched in pause: postmaster %d, now %d (%v)", server, now, err)
	}

	// Its lease has lapsed meanwhile; in pause only a running primary takes the lock.
	r.eventually("it has the lock again", func() bool {
		leaders := r.Leaders(r.ctx)
		return len(leaders) == 1 && leaders[0] == r.leader
	})
	_, offset = r.AgentLog(r.leader, 0)
	r.patch(object{"pause": nil})
	says(offset, "resume epoch")
	// Armed again: a hung agent has its deadline.
	r.must(r.Signal(r.leader, lab.Agent, syscall.SIGSTOP))
	next := r.newLeader(r.leader)
	t.Logf("paused for %s with a hung agent: untouched; resumed, hung again: %s leads", ttl+retryTimeout, next.Name)
	r.must(r.Signal(r.leader, lab.Agent, syscall.SIGCONT))
	r.streaming(lab.Boottime())
	r.finish(bounded)
}

// Scenarios 49 and 50: in pause a dead server stays down until somebody asks for
// it, and a switchover to a candidate works, after which the old leader streams.
func TestPauseAndOperators(t *testing.T) {
	r := begin(t)
	standby := r.replica()
	r.patch(object{"pause": true})
	r.eventually("pause", func() bool { return r.field(standby, "pause") == true && r.field(r.leader, "pause") == true })
	_, offset := r.AgentLog(standby, 0)
	r.must(r.Signal(standby, lab.Postmaster, syscall.SIGKILL))
	r.eventually("the server of "+standby.Name+" is left down", func() bool {
		log, _ := r.AgentLog(standby, offset)
		return strings.Contains(log, "PAUSE: the server is left as it is: the server is down")
	})
	if _, err := r.Pid(standby, lab.Postmaster); err == nil {
		t.Error("a server that died in pause was started")
	}
	r.send(standby, "POST", "/restart", nil, 200, "restarted successfully")
	r.streaming(lab.Boottime())

	// An operator restarts the primary by hand: it leads on, and the leash, whose
	// child it is not, guards it from the end of the pause.
	_, offset = r.AgentLog(r.leader, 0)
	out, err := r.AsServer(r.ctx, r.leader, filepath.Join(r.Options().PGBin, "pg_ctl"), "-D", r.leader.DataDir, "-l", filepath.Join(r.leader.Dir, "by-hand.log"), "-m", "fast", "-w", "restart")
	if err != nil {
		t.Fatalf("pg_ctl restart: %v\n%s", err, out)
	}
	r.eventually("the server started by hand is taken over", func() bool {
		log, _ := r.AgentLog(r.leader, offset)
		return strings.Contains(log, "adopted postmaster")
	})
	r.eventually("it leads again", func() bool {
		leaders := r.Leaders(r.ctx)
		return len(leaders) == 1 && leaders[0] == r.leader
	})
	r.eventually("the standby follows it again", func() bool { return r.streamsFrom(r.leader, standby) })

	began := lab.Boottime()
	r.send(r.leader, "POST", "/switchover", object{"leader": r.leader.Name}, 400, "only to a specific candidate in a paused state")
	r.send(r.leader, "POST", "/switchover", object{"leader": r.leader.Name, "candidate": standby.Name}, 200, "Successfully switched over")
	if next := r.newLeader(r.leader); next != standby {
		t.Errorf("%s leads", next.Name)
	}
	t.Logf("switchover in pause: gap %d ms, all streaming after %d ms", r.gap(began).Milliseconds(), r.streaming(began).Milliseconds())
	r.patch(object{"pause": nil})
	r.finish(bounded)
}
