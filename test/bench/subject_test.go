//go:build e2e

package bench

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// Patroni's shortest ttl and retry_timeout; docs/benchmarks.md names them, too.
const (
	ttl          = 20 * time.Second
	loopWait     = 1 * time.Second
	retryTimeout = 3 * time.Second
)

const (
	// writePeriod bounds how exactly a gap is known.
	writePeriod = 5 * time.Millisecond
	// patience is how long anything may take before the run is given up.
	patience = 90 * time.Second
)

// Names of the peers, as the table has them.
const (
	ours   = "pgha"
	theirs = "Patroni"
)

func TestMain(m *testing.M) {
	lab.BeInit()
	os.Exit(m.Run())
}

// subject is a cluster of three that is measured.
type subject struct {
	*testing.T
	*lab.Lab
	ctx  context.Context
	peer string
	load *lab.Load
	out  *results
}

// newSubject makes the cluster of a peer. Nothing runs yet.
func newSubject(t *testing.T, peer, program string, out *results) *subject {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	s := &subject{T: t, ctx: ctx, peer: peer, out: out}
	dir, err := os.MkdirTemp("", "pgha-bench-")
	s.must(err)
	s.must(os.Chmod(dir, 0o755))
	bin, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	s.must(err)
	s.Lab, err = lab.New(lab.Options{
		Dir: dir, Etcd: 3, BinDir: bin, Network: lab.Namespaces, Patroni: program,
		TTL: ttl, LoopWait: loopWait, RetryTimeout: retryTimeout,
	})
	s.must(err)
	t.Cleanup(s.end)
	return s
}

func (s *subject) end() {
	s.quiet()
	if s.Failed() {
		var b strings.Builder
		s.DumpLogs(&b, 40)
		s.Log("\n" + b.String())
	}
	if err := s.Close(); err != nil {
		s.Error(err)
	}
	_ = os.RemoveAll(s.Options().Dir)
}

func (s *subject) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *subject) add(m measure, value float64) {
	s.out.add(s.peer, m, value)
	s.Logf("%s: %s: %s", s.peer, m.name, m.text(value))
}

func (s *subject) took(name string, d time.Duration) {
	s.add(measure{name, milliseconds}, float64(d.Microseconds())/1000)
}

// write puts the cluster under load.
func (s *subject) write() {
	s.Helper()
	s.must(s.PrepareLoad(s.ctx, s.leader(nil)))
	s.load = s.NewLoad()
	s.load.Writer(s.ctx, writePeriod)
	s.gap(lab.Boottime())
}

// quiet ends the load.
func (s *subject) quiet() {
	if s.load != nil {
		s.load.Stop()
		s.load = nil
	}
}

// gap waits until writes are acknowledged again and gives the longest time
// without one since began.
func (s *subject) gap(began time.Duration) time.Duration {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	op, err := s.load.WaitAck(ctx, lab.Boottime())
	s.must(err)
	gap, _ := lab.LongestGap(s.load.History(), began, op.Return)
	return gap
}

func (s *subject) leader(ok func(*lab.Node) bool) *lab.Node {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	n, err := s.WaitLeader(ctx, ok)
	s.must(err)
	return n
}

func (s *subject) streaming() {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	_, err := s.WaitStreaming(ctx)
	s.must(err)
}

// replaced waits until the postmaster is another one, and writes go on.
func (s *subject) replaced(n *lab.Node, old int) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	s.must(s.WaitReplaced(ctx, n, lab.Postmaster, old))
}
