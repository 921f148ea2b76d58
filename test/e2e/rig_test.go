//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

// Timings of the cluster under test: the chaos profile of the safety design.
const (
	ttl          = 8 * time.Second
	loopWait     = 1 * time.Second
	retryTimeout = 2 * time.Second

	// inTime bounds the time until a new leader after the loss of one: the lease, and
	// plenty for a slow machine that runs. failover bounds the wait for it.
	inTime   = ttl + 20*time.Second
	failover = inTime + 20*time.Second
	settle   = 2 * time.Minute
	// bootLimit bounds the making of a cluster, rowLimit a whole row.
	bootLimit = 3 * time.Minute
	rowLimit  = 8 * time.Minute

	writerPeriod = 5 * time.Millisecond
	proberPeriod = 20 * time.Millisecond
	rolePeriod   = 50 * time.Millisecond
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "etcdctl" {
		if err := etcdctl(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab.BeInit()
	code := m.Run()
	if err := tearDown(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// cluster is the one cluster all rows share.
var cluster struct {
	sync.Mutex
	lab    *lab.Lab
	broken bool // build a new one for the next row
	failed bool // a row did: its logs stay
	config any  // /config when it was new
}

func tearDown() error {
	if cluster.lab == nil {
		return nil
	}
	dir := cluster.lab.Options().Dir
	err := cluster.lab.Close()
	cluster.lab = nil
	failed := cluster.failed
	cluster.failed = false
	if failed || os.Getenv("PGHA_E2E_KEEP") != "" {
		fmt.Fprintln(os.Stderr, "logs stay in", dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// sharedLab gives the running cluster, built if needed.
func sharedLab(t *testing.T) *lab.Lab {
	t.Helper()
	cluster.Lock()
	defer cluster.Unlock()
	if cluster.lab != nil && !cluster.broken {
		return cluster.lab
	}
	if err := tearDown(); err != nil {
		t.Fatal(err)
	}
	cluster.broken, cluster.failed = true, true // until it stands
	l := newLab(t, func(o *lab.Options) {
		o.DCS = object{"postgresql": object{"use_pg_rewind": true, "use_slots": true, // logical decoding cannot be had without a restart
			"parameters": object{"max_connections": 60, "max_wal_senders": 10, "max_replication_slots": 10, "wal_level": "logical"}}}
	})
	cluster.lab = l
	boot(t, l)
	ctx, cancel := context.WithTimeout(t.Context(), settle)
	defer cancel()
	if err := lab.Poll(ctx, func() bool {
		code, err := l.Get(ctx, l.Nodes[0], "/config", &cluster.config)
		return err == nil && code == http.StatusOK
	}); err != nil {
		t.Fatalf("read /config of the new cluster: %v", err)
	}
	cluster.broken, cluster.failed = false, false
	return l
}

// newLab makes a lab in a new directory, in namespaces where it may. change, if
// given, changes its options.
func newLab(t *testing.T, change func(*lab.Options)) *lab.Lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgha-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	bin := os.Getenv("PGHA_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin")
	}
	if bin, err = filepath.Abs(bin); err != nil {
		t.Fatal(err)
	}
	opts := lab.Options{
		Dir: dir, Etcd: 3, BasePort: 25200, BinDir: bin, PGBin: os.Getenv("PGHA_PGBIN"), // empty: the newest installed
		TTL: ttl, LoopWait: loopWait, RetryTimeout: retryTimeout,
	}
	if os.Geteuid() == 0 && os.Getenv("PGHA_E2E_LOOPBACK") == "" {
		opts.Network = lab.Namespaces
	}
	if change != nil {
		change(&opts)
	}
	l, err := lab.New(opts)
	if err != nil && opts.Network == lab.Namespaces && strings.Contains(err.Error(), "network namespace") {
		t.Logf("no network namespaces here (%v): using loopback", err)
		opts.Network = lab.Loopback
		l, err = lab.New(opts)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// boot starts three empty nodes together and reports how long it took.
func boot(t *testing.T, l *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	fail := func(err error) {
		if err != nil {
			logs(t, l)
			t.Fatal(err)
		}
	}
	fail(l.StartEtcd(ctx))
	began := lab.Boottime()
	for _, n := range l.Nodes {
		fail(l.StartAgent(n))
	}
	leader, err := l.WaitLeader(ctx, nil)
	fail(err)
	first := lab.Boottime() - began
	_, err = l.WaitStreaming(ctx)
	fail(err)
	t.Logf("three nodes started together: first leader (%s) after %d ms, all streaming after %d ms",
		leader.Name, first.Milliseconds(), (lab.Boottime() - began).Milliseconds())
}

func logs(t *testing.T, l *lab.Lab) {
	t.Helper()
	var b strings.Builder
	l.DumpLogs(&b, 40)
	t.Log("\n" + b.String())
}

// row is one fault on the shared cluster, under load.
type row struct {
	*testing.T
	*lab.Lab
	ctx    context.Context
	load   *lab.Load
	roles  *lab.Roles
	stalls *lab.Stalls
	leader *lab.Node // when the row began
	began  time.Duration
}

// begin waits for a healthy cluster and puts it under load.
func begin(t *testing.T) *row {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rowLimit)
	t.Cleanup(cancel)
	r := &row{T: t, Lab: sharedLab(t), ctx: ctx}
	t.Cleanup(r.afterwards)
	r.streaming(0)
	if left := r.leftOver(); left != "" { // that is no fault of this row
		t.Logf("the row before left something behind, so there is a new cluster: %s", left)
		cluster.broken = true
		r.Lab = sharedLab(t)
		r.streaming(0)
	}
	r.leader = r.soleLeader()
	r.underLoad()
	return r
}

// underLoad begins to write, and to watch.
func (r *row) underLoad() {
	r.Helper()
	r.must(r.PrepareLoad(r.ctx, r.leader))
	r.load = r.NewLoad()
	r.load.Writer(r.ctx, writerPeriod)
	r.load.Probers(r.ctx, proberPeriod)
	r.roles = r.WatchRoles(r.ctx, rolePeriod)
	r.stalls = r.WatchMachine(r.ctx)
	r.acked(lab.Boottime())
	r.began = lab.Boottime()
}

// leftOver waits until nothing of an earlier row is to be seen, and says what still is.
func (r *row) leftOver() (what string) {
	ctx, cancel := context.WithTimeout(r.ctx, failover)
	defer cancel()
	_ = lab.Poll(ctx, func() bool {
		what = ""
		for _, n := range r.Nodes {
			if what = r.leftAt(n); what != "" {
				return false
			}
		}
		return true
	})
	return what
}

func (r *row) leftAt(n *lab.Node) string {
	var config any
	if code, err := r.Get(r.ctx, n, "/config", &config); err != nil || code != http.StatusOK {
		return fmt.Sprintf("/config of %s: %d, %v", n.Name, code, err)
	}
	if !reflect.DeepEqual(config, cluster.config) {
		return fmt.Sprintf("/config of %s is %v, and was %v", n.Name, config, cluster.config)
	}
	var status object
	if _, err := r.Get(r.ctx, n, "/patroni", &status); err != nil {
		return fmt.Sprintf("/patroni of %s: %v", n.Name, err)
	}
	own, _ := status["pgha"].(object)
	for name, value := range map[string]any{
		"pause": status["pause"], "tags": status["tags"], "pending_restart": status["pending_restart_reason"],
		"scheduled_restart": status["scheduled_restart"], "quarantine": own["quarantine"], "fault": own["fault"], "operation": own["operation"],
	} {
		if value != nil {
			return fmt.Sprintf("%s of %s is %v", name, n.Name, value)
		}
	}
	return ""
}

// afterwards stops the load; a failed row shows the logs and has the cluster
// rebuilt.
func (r *row) afterwards() {
	if r.load != nil {
		r.load.Stop()
	}
	if r.roles != nil {
		r.roles.Stop()
	}
	if r.stalls != nil {
		r.stalls.Stop()
	}
	if r.Failed() {
		logs(r.T, r.Lab)
		cluster.broken, cluster.failed = true, true
	}
}

func (r *row) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// acked waits for an acknowledged write that was invoked after an instant.
func (r *row) acked(after time.Duration) lab.Op {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, failover)
	defer cancel()
	op, err := r.load.WaitAck(ctx, after)
	r.must(err)
	return op
}

// newLeader waits for a primary other than the one given.
func (r *row) newLeader(old *lab.Node) *lab.Node {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, failover)
	defer cancel()
	began := lab.Boottime()
	n, err := r.WaitLeader(ctx, lab.Except(old))
	r.must(err)
	limit := inTime
	if r.stalls != nil {
		limit += r.stalls.Since(began)
	}
	if took := lab.Boottime() - began; took > limit {
		r.Errorf("%s leads after %s, want %s at most", n.Name, took, limit)
	}
	return n
}

// soleLeader waits until one node alone leads.
func (r *row) soleLeader() *lab.Node {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, failover)
	defer cancel()
	n, err := r.WaitLeader(ctx, nil)
	r.must(err)
	return n
}

// gap is the longest time without an acknowledged write of anybody since an
// instant. It waits for writes to go on first.
func (r *row) gap(since time.Duration) time.Duration {
	r.Helper()
	r.acked(lab.Boottime())
	gap, _ := lab.LongestGap(r.load.History(), since, lab.Boottime())
	return gap
}

// streaming waits until the nodes given (default: all) stream, and tells how
// long after an instant that was.
func (r *row) streaming(since time.Duration, nodes ...*lab.Node) time.Duration {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, settle)
	defer cancel()
	_, err := r.WaitStreaming(ctx, nodes...)
	r.must(err)
	return lab.Boottime() - since
}

// Loss is what asynchronous replication promises for a row.
type loss int

const (
	none    loss = iota // the server itself survived, or stopped in order
	bounded             // at most maximum_lag_on_failover, and what was written since it was last compared
)

// finish waits until all members stream and checks what every row promises.
func (r *row) finish(allowed loss) {
	r.Helper()
	r.streaming(0)
	leader := r.soleLeader()
	ctx, cancel := context.WithTimeout(r.ctx, 2*settle)
	defer cancel()
	r.load.Stop()
	history := r.load.History()
	audit, err := r.Audit(ctx, history, leader)
	r.must(err)
	roles := r.roles.Stop()
	r.Logf("acknowledged %d rows, missing %d (at least %d bytes of WAL)", audit.Acked, audit.Lost(), audit.LostBytes)
	for _, v := range lab.DualPrimaries(history) {
		r.Errorf("two primaries: %s", v)
	}
	for _, v := range lab.DualRoles(roles) {
		r.Errorf("two primaries: %s", v)
	}
	if allowed == none && audit.Lost() > 0 {
		r.Errorf("acknowledged rows missing, and none may be: %v", audit.Missing)
	}
	if limit := r.Options().MaximumLag; audit.LostBytes > uint64(limit) {
		r.Errorf("lost %d bytes of acknowledged WAL, more than maximum_lag_on_failover (%d)", audit.LostBytes, limit)
	}
	if len(roles) == 0 || audit.Acked == 0 {
		r.Errorf("the row proves nothing: %d role answers, %d acknowledged rows", len(roles), audit.Acked)
	}
}

// eventually waits for something to become true.
func (r *row) eventually(what string, done func() bool) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, settle)
	defer cancel()
	if err := lab.Poll(ctx, done); err != nil {
		r.Fatalf("wait for %s: %v", what, err)
	}
}

// sameLeader checks that nobody else was elected.
func (r *row) sameLeader() {
	r.Helper()
	if n := r.soleLeader(); n != r.leader {
		r.Errorf("leader changed from %s to %s without need", r.leader.Name, n.Name)
	}
	seen := map[string]bool{}
	for _, op := range r.load.History() {
		if op.Outcome == lab.OK {
			seen[fmt.Sprintf("%s timeline %d", op.Node, op.Timeline)] = true
		}
	}
	if len(seen) > 1 {
		r.Errorf("writes went to several primaries: %v", seen)
	}
}

// lastAck gives the last acknowledged write of a node.
func (r *row) lastAck(n *lab.Node) time.Duration {
	var last time.Duration
	for _, op := range r.load.History() {
		if op.Outcome == lab.OK && op.Node == n.Name {
			last = max(last, op.Return)
		}
	}
	return last
}
