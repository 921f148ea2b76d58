//go:build e2e

package e2e

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// A data directory of another cluster: the agent refuses it, in words, and
// leaves it as it is.
func TestForeignDataDirectory(t *testing.T) {
	r := begin(t)
	ctx, cancel := context.WithTimeout(r.ctx, settle)
	defer cancel()
	victim := r.stopStandby(ctx)
	own := victim.DataDir + ".own"
	r.must(os.Rename(victim.DataDir, own))
	_, err := r.AsServer(ctx, victim, filepath.Join(r.Options().PGBin, "initdb"), "-N", "-D", victim.DataDir)
	r.must(err)
	identity := r.controlData(ctx, victim)

	_, offset := r.AgentLog(victim, 0)
	r.must(r.StartAgent(victim))
	status, err := r.WaitAgentEnd(ctx, victim)
	r.must(err)
	log, _ := r.AgentLog(victim, offset)
	if status != "exit status 1" {
		t.Errorf("agent ended with %q, want exit status 1", status)
	}
	if !strings.Contains(strings.ToLower(log), "system id") {
		t.Errorf("agent does not say why it refuses:\n%s", log)
	}
	if now := r.controlData(ctx, victim); now != identity {
		t.Errorf("foreign data directory was changed:\n%s\nnow\n%s", identity, now)
	}
	t.Logf("agent said: %s", lastLine(log))

	r.must(os.RemoveAll(victim.DataDir))
	r.must(os.Rename(own, victim.DataDir))
	r.must(r.StartAgent(victim))
	r.streaming(lab.Boottime())
	r.sameLeader()
	r.finish(none)
}

// Scenario 7: a second agent under the name of a member that runs refuses to
// start, and says why.
func TestDuplicateName(t *testing.T) {
	r := begin(t)
	n := r.replica()
	text, err := os.ReadFile(n.Config)
	r.must(err)
	host, _, err := net.SplitHostPort(n.REST)
	r.must(err)
	twin := filepath.Join(n.Dir, "twin")
	r.must(r.WriteOwnFile(twin+".yml", []byte(strings.NewReplacer(n.REST, host+":28019", n.Addr, host+":28018", n.DataDir, twin, filepath.Join(n.Dir, "run"), twin+"-run").Replace(string(text))), 0o600))
	ctx, cancel := context.WithTimeout(r.ctx, settle)
	defer cancel()
	out, err := r.AsServer(ctx, n, filepath.Join(r.Bin(), "pgha-agent"), twin+".yml")
	if want := "a member called " + n.Name + " is running already"; err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(out, want) {
		t.Errorf("the twin ended with %v and does not say %q:\n%s", err, want, out)
	}
	if _, err := os.Stat(twin); err == nil {
		t.Error("the twin made a data directory")
	}
	r.sameLeader()
	r.finish(none)
}

// A server that somebody else started on the member's data directory (Patroni,
// or an operator) is taken over as it runs.
func TestRunningServerIsAdopted(t *testing.T) {
	r := begin(t)
	ctx, cancel := context.WithTimeout(r.ctx, settle)
	defer cancel()
	n := r.stopStandby(ctx)
	_, err := r.AsServer(ctx, n, filepath.Join(r.Options().PGBin, "pg_ctl"), "-D", n.DataDir, "-l", filepath.Join(n.Dir, "by-hand.log"), "-w", "start")
	r.must(err)
	pidFile := func() string {
		text, err := os.ReadFile(filepath.Join(n.DataDir, "postmaster.pid"))
		r.must(err)
		pid, _, _ := strings.Cut(string(text), "\n")
		return pid
	}
	byHand := pidFile()
	began := lab.Boottime()
	_, offset := r.AgentLog(n, 0)
	r.must(r.StartAgent(n))
	t.Logf("server started by hand: taken over, streaming after %d ms", r.streaming(began).Milliseconds())
	if now := pidFile(); now != byHand {
		t.Errorf("the server was started anew: postmaster %s, now %s", byHand, now)
	}
	if log, _ := r.AgentLog(n, offset); !strings.Contains(log, "adopted postmaster "+byHand) {
		t.Errorf("the leash does not say that it adopted it:\n%s", log)
	}
	// Stopping the agent stops an adopted server, too; the next one is the leash's own.
	_, err = r.StopAgent(ctx, n)
	r.must(err)
	if _, err := os.Stat(filepath.Join(n.DataDir, "postmaster.pid")); err == nil {
		t.Error("the adopted server still runs after its agent was stopped")
	}
	r.must(r.StartAgent(n))
	r.streaming(lab.Boottime())
	r.sameLeader()
	r.finish(none)
}

// stopStandby stops the agent of a node that is not the leader.
func (r *row) stopStandby(ctx context.Context) *lab.Node {
	r.Helper()
	n := r.Nodes[0]
	if n == r.leader {
		n = r.Nodes[1]
	}
	_, err := r.StopAgent(ctx, n)
	r.must(err)
	return n
}

func (r *row) controlData(ctx context.Context, n *lab.Node) string {
	r.Helper()
	out, err := r.AsServer(ctx, n, filepath.Join(r.Options().PGBin, "pg_controldata"), n.DataDir)
	r.must(err)
	return out
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
