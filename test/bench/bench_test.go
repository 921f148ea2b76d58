//go:build e2e

package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

var (
	docFlag    = flag.String("bench.doc", "", "file that the table is written to (default: none)")
	roundsFlag = flag.Int("bench.rounds", 3, "how often each fault is made")
)

// idle is how long the processor time of a cluster without work is counted.
const idle = 30 * time.Second

func TestBench(t *testing.T) {
	program := os.Getenv("PGHA_PATRONI")
	if program == "" {
		program = "/usr/bin/patroni"
	}
	version, err := exec.CommandContext(t.Context(), program, "--version").Output()
	if err != nil {
		t.Fatalf("Patroni is not there (%v): run 'scripts/deps.sh patroni'", err)
	}
	var out results
	for _, peer := range []struct{ name, program, ctl string }{
		{theirs, program, filepath.Join(filepath.Dir(program), "patronictl")},
		{ours, "", ""},
	} {
		ok := t.Run(peer.name, func(t *testing.T) {
			s := newSubject(t, peer.name, peer.program, &out)
			s.start()
			s.write()
			s.switchovers()
			s.restarts()
			s.failovers()
			s.maintenance()
			s.powerCuts()
			s.quiet()
			s.resources()
			s.requests()
			s.hung()
			s.list(peer.ctl)
		})
		if !ok {
			return
		}
	}
	table := out.table(ours, theirs)
	t.Log("\n" + table)
	if *docFlag != "" {
		if err := os.WriteFile(*docFlag, document(string(version), *roundsFlag, table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *subject) start() {
	s.Helper()
	s.must(s.StartEtcd(s.ctx))
	began := lab.Boottime()
	for _, n := range s.Nodes {
		s.must(s.StartAgent(n))
	}
	s.leader(nil)
	s.took("three nodes started together: first leader", lab.Boottime()-began)
	s.streaming()
	s.took("three nodes started together: all stream", lab.Boottime()-began)
}

func (s *subject) rounds(do func()) {
	for range *roundsFlag {
		do()
		s.streaming()
	}
}

func (s *subject) switchovers() {
	s.rounds(func() {
		old := s.leader(nil)
		began := lab.Boottime()
		s.must(s.Switchover(s.ctx, old, nil))
		s.leader(lab.Except(old))
		s.took("switchover: gap", s.gap(began))
		s.streaming()
		s.took("switchover: all stream again", lab.Boottime()-began)
	})
}

func (s *subject) restarts() {
	s.rounds(func() {
		n := s.leader(nil)
		old, err := s.Pid(n, lab.Postmaster)
		s.must(err)
		began := lab.Boottime()
		s.must(s.Kill(n, lab.Postmaster))
		s.replaced(n, old)
		s.took("kill -9 of the postmaster, restart in place: gap", s.gap(began))
	})
}

func (s *subject) failovers() {
	s.must(s.Patch(s.ctx, map[string]any{"primary_start_timeout": 0, "master_start_timeout": 0}))
	s.rounds(func() {
		old := s.leader(nil)
		began := lab.Boottime()
		s.must(s.Kill(old, lab.Postmaster))
		s.leader(lab.Except(old))
		s.took("kill -9 of the postmaster, failover (primary_start_timeout 0): gap", s.gap(began))
	})
	s.must(s.Patch(s.ctx, map[string]any{"primary_start_timeout": 300, "master_start_timeout": nil}))
}

func (s *subject) maintenance() {
	s.rounds(func() {
		old := s.leader(nil)
		began := lab.Boottime()
		_, err := s.StopAgent(s.ctx, old)
		s.must(err)
		s.leader(lab.Except(old))
		s.took("SIGTERM to the agent of the primary: gap", s.gap(began))
		began = lab.Boottime()
		s.must(s.StartAgent(old))
		s.streaming()
		s.took("agent of the former primary started: streaming", lab.Boottime()-began)
	})
}

func (s *subject) powerCuts() {
	s.rounds(func() {
		old := s.leader(nil)
		began := lab.Boottime()
		s.must(s.PowerOff(old))
		s.leader(lab.Except(old))
		s.took("power-off of the primary's host: gap", s.gap(began))
		s.must(s.PowerOn(old))
		began = lab.Boottime()
		s.must(s.StartAgent(old))
		s.streaming()
		s.took("the host is back: streaming", lab.Boottime()-began)
	})
}

// resources tells what the agent (and ours' leash) of the primary's host takes.
func (s *subject) resources() {
	s.Helper()
	n := s.leader(nil)
	targets := []lab.Target{lab.Agent}
	if s.peer == ours {
		targets = append(targets, lab.Leash)
	}
	var pids []int
	var rss, pss float64
	for _, target := range targets {
		pid, err := s.Pid(n, target)
		s.must(err)
		m, err := memoryOf(pid)
		s.must(err)
		pids, rss, pss = append(pids, pid), rss+m.rss, pss+m.pss
	}
	s.add(measure{"memory of the agent (with the leash): RSS", megabytes}, rss)
	s.add(measure{"memory of the agent (with the leash): PSS", megabytes}, pss)
	before, err := processorTime(pids)
	s.must(err)
	select {
	case <-time.After(idle): // what is measured is the time without work
	case <-s.ctx.Done():
	}
	after, err := processorTime(pids)
	s.must(err)
	s.took(fmt.Sprintf("processor time in a minute without work, loop_wait %s", loopWait), time.Duration(float64(after-before)*float64(time.Minute)/float64(idle)))
}

func (s *subject) requests() {
	s.Helper()
	n := s.leader(nil)
	for _, path := range []string{"/primary", "/replica", "/health", "/patroni", "/metrics", "/cluster"} {
		f := s.flood(n, path)
		s.add(measure{fmt.Sprintf("GET %s, %d connections", path, connections), perSecond}, f.rate)
		s.took(fmt.Sprintf("GET %s: p99", path), f.p99)
		if f.failed > 0 {
			s.Logf("%s: GET %s: %d requests failed", s.peer, path, f.failed)
			if s.peer == ours {
				s.Errorf("GET %s: %d requests failed", path, f.failed)
			}
		}
	}
}

// hung asks while the postmaster of the primary does not run.
func (s *subject) hung() {
	s.Helper()
	n := s.leader(nil)
	s.must(s.Signal(n, lab.Postmaster, syscall.SIGSTOP))
	f := s.flood(n, "/health")
	s.must(s.Signal(n, lab.Postmaster, syscall.SIGCONT))
	s.took("GET /health while the postmaster hangs: p99", f.p99)
	s.streaming()
}

// list runs the command that operators run most.
func (s *subject) list(patronictl string) {
	s.Helper()
	program := filepath.Join(s.Options().BinDir, "pghactl")
	if patronictl != "" {
		program = patronictl
	}
	for range 20 {
		cmd := exec.CommandContext(s.ctx, program, "-c", s.Nodes[0].Config, "list")
		began := lab.Boottime()
		s.must(s.StartClient(cmd))
		s.must(cmd.Wait())
		s.took("list, the whole process", lab.Boottime()-began)
	}
}
