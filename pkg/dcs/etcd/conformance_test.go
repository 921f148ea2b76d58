package etcd_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pgha/pgha/internal/etcdserver/etcdtest"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/dcstest"
	"github.com/pgha/pgha/pkg/dcs/etcd"
)

const ttl = 3 * time.Second

// raw is a plain connection to one member, for what a foreign client does.
func raw(t testing.TB, m *etcdtest.Member) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+m.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func rawPut(t testing.TB, conn *grpc.ClientConn, key, value string) {
	t.Helper()
	_, err := pb.NewKVClient(conn).Put(within(t, 5*time.Second), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, base string, change func(*etcd.Config), endpoints ...string) *etcd.Store {
	t.Helper()
	cfg := etcd.Config{Endpoints: endpoints, Base: base, TTL: ttl, RetryTimeout: 2 * time.Second, UseProxies: true}
	if change != nil {
		change(&cfg)
	}
	s, err := etcd.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// step waits a moment of real time: the suite waits for events with it.
func step() {
	timer := time.NewTimer(20 * time.Millisecond)
	<-timer.C
}

func TestConformance(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	conn := raw(t, c.Members[0])
	var scope atomic.Int64
	dcstest.Run(t, func(t *testing.T) dcstest.Fixture {
		t.Parallel()
		base := dcs.Base("service", fmt.Sprintf("scope%d", scope.Add(1)))
		return dcstest.Fixture{
			Open: func(t testing.TB) dcs.Store { return open(t, base, nil, c.URLs()...) },
			Put:  func(t testing.TB, key dcs.Key, value string) { rawPut(t, conn, key.Path(base), value) },
			Delete: func(t testing.TB, key dcs.Key) {
				_, err := pb.NewKVClient(conn).DeleteRange(within(t, 5*time.Second), &pb.DeleteRangeRequest{Key: []byte(key.Path(base))})
				if err != nil {
					t.Fatal(err)
				}
			},
			Step: step,
			TTL:  ttl,
		}
	})
}
