package etcd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/internal/etcdserver/etcdtest"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

func TestJudge(t *testing.T) {
	tests := []struct {
		err  error
		sent bool
		want verdict
	}{
		{nil, true, done},
		{rpctypes.ErrGRPCLeaseNotFound, true, leaseLost},
		{rpctypes.ErrGRPCNoLeader, true, noEffect},
		{rpctypes.ErrGRPCNoSpace, true, noEffect},
		{rpctypes.ErrGRPCRequestTooManyRequests, true, noEffect},
		{rpctypes.ErrGRPCTimeout, true, unknown},
		{rpctypes.ErrGRPCTimeoutDueToLeaderFail, true, unknown},
		{rpctypes.ErrGRPCLeaderChanged, true, unknown},
		{rpctypes.ErrGRPCStopped, true, unknown},
		{rpctypes.ErrGRPCInvalidAuthToken, true, reauth},
		{rpctypes.ErrGRPCPermissionDenied, true, reauth},
		{rpctypes.ErrGRPCAuthFailed, true, rejected},
		{rpctypes.ErrGRPCRequestTooLarge, true, rejected},
		{status.Error(codes.Unknown, "not a primary lessor"), true, unknown},
		{status.Error(codes.Unavailable, "connection refused"), false, noEffect},
		{status.Error(codes.DeadlineExceeded, "late"), true, unknown},
		{status.Error(codes.DeadlineExceeded, "late"), false, noEffect},
		{errStaleNode, true, noEffect},
	}
	for _, test := range tests {
		if got := judge(test.err, test.sent); got != test.want {
			t.Errorf("%v, sent %v: %d, want %d", test.err, test.sent, got, test.want)
		}
	}
}

// What gRPC says of a connection that failed is cut down to the address and why.
func TestReason(t *testing.T) {
	for said, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 192.0.2.4:2379: connect: connection refused"`:                                         "192.0.2.4:2379: connection refused",
		`connection error: desc = "transport: Error while dialing: dial tcp 192.0.2.4:2379: i/o timeout"`:                                                         "192.0.2.4:2379: no answer in time",
		`connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"`: "authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority",
		`connection error: desc = "error reading server preface: raw-read tcp 127.0.0.1:50400->127.0.0.1:2379: use of closed network connection"`:                 "no answer in time",
		`connection error: desc = "error reading server preface: EOF"`:                                                                                            "the connection was closed without an answer",
		"etcdserver: no leader": "etcdserver: no leader",
	} {
		if got := reason(status.Error(codes.Unavailable, said)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAttemptTimeout(t *testing.T) {
	tests := []struct {
		remaining  time.Duration
		left, pass int
		fresh      bool
		want       time.Duration
	}{
		{10 * time.Second, 3, 0, false, time.Second},
		{10 * time.Second, 3, 1, false, 2 * time.Second},
		{time.Second, 3, 0, false, time.Second / 3},
		{time.Second, 3, 0, true, time.Second / 2},
		{9 * time.Second, 1, 0, false, 3 * time.Second},
		{time.Millisecond, 5, 0, false, leastLimit},
	}
	for _, test := range tests {
		got := attemptTimeout(test.remaining, test.left, test.pass, test.fresh)
		if d := got - test.want; d < -time.Millisecond || d > time.Millisecond {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

func TestTermGoesBackwards(t *testing.T) {
	var seen terms
	h := func(cluster, term uint64) error {
		return seen.check(&pb.ResponseHeader{ClusterId: cluster, RaftTerm: term})
	}
	if h(1, 5) != nil || h(1, 6) != nil || h(1, 6) != nil {
		t.Error("rising terms refused")
	}
	if err := h(1, 5); !errors.Is(err, errStaleNode) {
		t.Errorf("lower term: %v", err)
	}
	if h(2, 1) != nil {
		t.Error("another cluster refused")
	}
}

// A whole etcd that was restored under its old id answers with lower terms, and
// nothing else: that is believed after a while, and only of linearizable reads.
func TestTermOfARestoredEtcd(t *testing.T) {
	var seen terms
	at := time.Now()
	h := func(term uint64, after time.Duration) error {
		return seen.confirmed(&pb.ResponseHeader{ClusterId: 1, RaftTerm: term}, at.Add(after))
	}
	if h(6, 0) != nil || h(5, time.Second) == nil || h(6, time.Second) != nil || h(5, 2*time.Second) == nil || h(5, 2*time.Second+lowPatience-1) == nil {
		t.Error("a member that is behind was believed while others answered")
	}
	if h(5, 2*time.Second+lowPatience) != nil || h(5, 3*time.Second) != nil || h(4, 3*time.Second) == nil {
		t.Error("a restored etcd is not believed")
	}
	if seen.check(&pb.ResponseHeader{ClusterId: 1, RaftTerm: 4}) == nil {
		t.Error("a keepalive's lower term was believed")
	}
}

// alone is a store at an etcd of one member, and the time for a test.
func alone(t *testing.T) (*Store, context.Context) {
	t.Helper()
	c := etcdtest.Start(t, etcdtest.Options{})
	s, err := Open(context.Background(), Config{Endpoints: c.URLs(), Base: "/service/x", UseProxies: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return s, ctx
}

// A watch whose revision is compacted ends with an error, so that everything
// is read anew, instead of staying silent.
func TestCompactedWatchEnds(t *testing.T) {
	t.Parallel()
	s, ctx := alone(t)
	if err := s.KeepAlive(ctx); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.PutMember(ctx, "a", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	eps, err := s.pool.order(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eps[0].client.Compact(ctx, 3); err != nil {
		t.Fatal(err)
	}
	watchCtx, f := track(ctx)
	defer f.stop(nil)
	err = s.follow(watchCtx, f.stop, eps[0], 1)
	if err == nil || !strings.Contains(err.Error(), "compacted") {
		t.Fatalf("watch from a compacted revision: %v", err)
	}
}

// clientv3 would try a keepalive again without pause until the context ends.
func TestKeepAliveOnceIsOneAttempt(t *testing.T) {
	t.Parallel()
	client, err := newClient(&Config{}, newTokens("", "").current, "http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	limit, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ctx, f := track(limit)
	_, err = client.KeepAliveOnce(ctx, 1)
	if codeOf(err) != codes.Unavailable || limit.Err() != nil || f.sent.Load() {
		t.Errorf("refused connection: %v, sent %v", err, f.sent.Load())
	}
}

// holding gives up on the transactions that it holds, as a client whose etcd member
// is cut off from the others does; they may reach etcd later.
type holding struct {
	clientv3.KV
	on   bool
	held []func() error
}

type heldTxn struct {
	clientv3.Txn
	kv  *holding
	ctx context.Context
}

func (h *holding) Txn(ctx context.Context) clientv3.Txn {
	return &heldTxn{Txn: h.KV.Txn(context.WithoutCancel(ctx)), kv: h, ctx: ctx}
}

func (t *heldTxn) If(when ...clientv3.Cmp) clientv3.Txn { t.Txn = t.Txn.If(when...); return t }
func (t *heldTxn) Then(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(ops...); return t }
func (t *heldTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(ops...); return t }

func (t *heldTxn) Commit() (*clientv3.TxnResponse, error) {
	if !t.kv.on {
		return t.Txn.Commit()
	}
	t.kv.held = append(t.kv.held, func() error { _, err := t.Txn.Commit(); return err })
	<-t.ctx.Done()
	return nil, status.FromContextError(t.ctx.Err()).Err()
}

// A round that was given up may reach etcd after a later one, which may have promised
// a longer wait to everybody else; and what was promised stands.
func TestLateRound(t *testing.T) {
	t.Parallel()
	s, ctx := alone(t)
	epoch, err := s.Claim(ctx, dcs.Claim{Name: "a", Status: []byte(`{"optime":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	eps, err := s.pool.order(ctx)
	if err != nil {
		t.Fatal(err)
	}
	kv := &holding{KV: eps[0].client.KV}
	eps[0].client.KV = kv
	round := func(ctx context.Context, optime string) error {
		return s.Renew(ctx, dcs.Renewal{Name: "a", Epoch: epoch, Status: []byte(`{"optime":` + optime + `}`)})
	}
	giveUp := func(optime string) {
		t.Helper()
		kv.on = true
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if err := round(short, optime); err == nil || len(kv.held) == 0 {
			t.Fatalf("%d held, %v", len(kv.held), err)
		}
		kv.on = false
	}
	arrive := func() {
		t.Helper()
		for _, late := range kv.held {
			if err := late(); err != nil {
				t.Fatal(err)
			}
		}
		kv.held = nil
	}
	optime := func(want wal.LSN) {
		t.Helper()
		if c, err := s.Read(ctx); err != nil || c.Status == nil || c.Status.Optime != want {
			t.Fatalf("/status %+v, %v, want %d", c.Status, err, want)
		}
	}

	giveUp("2")
	if err := round(ctx, "3"); err != nil {
		t.Fatal(err)
	}
	arrive()
	optime(3)
	// One that arrives before the next is no obstacle to it, though nobody knew of it.
	giveUp("4")
	arrive()
	optime(4)
	if err := round(ctx, "5"); err != nil {
		t.Fatal(err)
	}
	optime(5)
}
