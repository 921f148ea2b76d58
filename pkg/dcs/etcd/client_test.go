package etcd_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pgha/pgha/internal/etcdserver/etcdtest"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
)

// sick is an etcd in trouble, as it is for moments only in a real one: it
// grants leases and serves reads, and answers all else that it is unavailable.
type sick struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedWatchServer
	noReads, noGrants, keeps          atomic.Bool
	reads, writes, keepalives, events atomic.Int64
}

func startSick(t *testing.T) (*sick, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e, srv := &sick{}, grpc.NewServer()
	pb.RegisterKVServer(srv, e)
	pb.RegisterLeaseServer(srv, e)
	pb.RegisterWatchServer(srv, e)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	return e, "http://" + ln.Addr().String()
}

func (e *sick) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	e.reads.Add(1)
	if e.noReads.Load() {
		return nil, rpctypes.ErrGRPCTimeout
	}
	return &pb.RangeResponse{Header: &pb.ResponseHeader{ClusterId: 1, Revision: 1}}, nil
}

func (e *sick) Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
	e.writes.Add(1)
	return nil, rpctypes.ErrGRPCTimeout
}

func (e *sick) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if e.noGrants.Load() {
		return nil, rpctypes.ErrGRPCTimeout
	}
	return &pb.LeaseGrantResponse{Header: &pb.ResponseHeader{ClusterId: 1}, ID: 1, TTL: r.TTL}, nil
}

func (e *sick) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	e.keepalives.Add(1)
	if e.keeps.Load() {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		return stream.Send(&pb.LeaseKeepAliveResponse{Header: &pb.ResponseHeader{ClusterId: 1}, ID: r.ID, TTL: 30})
	}
	return status.Error(codes.Unavailable, "no healthy upstream") // as a proxy says it
}

func (e *sick) Watch(stream pb.Watch_WatchServer) error {
	e.events.Add(1)
	_, _ = stream.Recv()
	return rpctypes.ErrGRPCLeaderChanged
}

// What etcd refuses is not sent again behind our back: clientv3 would repeat a
// keepalive without pause, a read every 25 ms, and a watch at once.
func TestNothingIsRepeatedUnasked(t *testing.T) {
	t.Parallel()
	e, url := startSick(t)
	s := open(t, base, nil, url)
	if err := s.KeepAlive(within(t, 20*time.Second)); err != nil { // grants
		t.Fatal(err)
	}
	err := s.KeepAlive(within(t, 500*time.Millisecond))
	if !errors.Is(err, dcs.ErrUnknown) {
		t.Errorf("keepalive: %v", err)
	}
	// Our own passes pause 50, 100, 200, 400 ms.
	if n := e.keepalives.Load(); n < 2 || n > 6 {
		t.Errorf("%d keepalives in half a second", n)
	}

	err = s.Put(within(t, 20*time.Second), dcs.Write{Key: dcs.KeyFailover, Value: []byte(`{}`)})
	if n := e.writes.Load(); !errors.Is(err, dcs.ErrUnknown) || n != 1 {
		t.Errorf("write of unknown outcome: %v, sent %d times", err, n)
	}

	ctx := within(t, 20*time.Second)
	for e.events.Load() < 3 && ctx.Err() == nil {
		step()
	}
	// Each loss of the watch costs a complete read.
	if watches, reads := e.events.Load(), e.reads.Load(); watches < 3 || watches > reads {
		t.Errorf("%d watches after %d reads", watches, reads)
	}
}

// While etcd grants no lease, a change of ttl costs every other round and no more.
func TestChangedTTLKeepsTheLease(t *testing.T) {
	t.Parallel()
	e, url := startSick(t)
	e.keeps.Store(true)
	s := open(t, base, nil, url)
	if err := s.KeepAlive(within(t, 20*time.Second)); err != nil { // grants
		t.Fatal(err)
	}
	e.noGrants.Store(true)
	s.SetTTL(40 * time.Second)
	for range 2 {
		if err := s.KeepAlive(within(t, 300*time.Millisecond)); err == nil {
			t.Error("a lease was granted")
		}
		if err := s.KeepAlive(within(t, 20*time.Second)); err != nil || s.TTL() != 30*time.Second {
			t.Errorf("the old lease: %v, ttl %s", err, s.TTL())
		}
	}
	e.noGrants.Store(false)
	if err := s.KeepAlive(within(t, 20*time.Second)); err != nil || s.TTL() != 40*time.Second {
		t.Errorf("the new lease: %v, ttl %s", err, s.TTL())
	}
}

func TestReadIsNotRepeatedUnasked(t *testing.T) {
	t.Parallel()
	e, url := startSick(t)
	e.noReads.Store(true)
	s := open(t, base, nil, url)
	if _, err := s.Read(within(t, 500*time.Millisecond)); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
	if n := e.reads.Load(); n < 4 || n > 14 { // with those of the watch
		t.Errorf("%d reads in half a second", n)
	}
}

// An endpoint that refuses connections costs no waiting.
func TestRefusedConnectionIsLeftAtOnce(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{})
	s := open(t, base, nil, "http://127.0.0.1:1", c.URLs()[0])
	start := time.Now()
	if err := s.KeepAlive(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 700*time.Millisecond {
		t.Errorf("first request took %v", took)
	}
}

// While nothing happens the watch stays, kept alive by progress requests. Not
// parallel: the members of all tests in this process count requests together.
func TestIdleWatchStays(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	s := open(t, base, func(cfg *etcd.Config) { cfg.RetryTimeout = time.Second }, c.URLs()...)
	if _, err := s.Snapshot(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	before := started(t, c.URLs()[0])
	select {
	case <-s.Changed():
		t.Error("woken by nothing")
	case <-within(t, 3*time.Second).Done():
	}
	after := started(t, c.URLs()[0])
	if reads := after["Range"] - before["Range"]; reads != 0 {
		t.Errorf("%d reads of an idle store", reads)
	}
}
