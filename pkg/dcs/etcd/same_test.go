package etcd_test

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/pgha/pgha/internal/etcdserver/etcdtest"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/dcstest"
	"github.com/pgha/pgha/pkg/dcs/mem"
)

// TestSameAsInMemory: the etcd of the simulator and the real one answer the
// same to random operations.
func TestSameAsInMemory(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	conn := raw(t, c.Members[0])
	lists := uint64(6)
	if testing.Short() {
		lists = 2
	}
	const ttl = 2 * time.Minute
	for seed := range lists {
		base := dcs.Base("service", fmt.Sprintf("same%d", seed))
		real := dcstest.Fixture{
			Open: func(t testing.TB) dcs.Store { return open(t, base, nil, c.URLs()...) },
			Put:  func(t testing.TB, key dcs.Key, value string) { rawPut(t, conn, key.Path(base), value) },
			Delete: func(t testing.TB, key dcs.Key) {
				_, err := pb.NewKVClient(conn).DeleteRange(within(t, 5*time.Second), &pb.DeleteRangeRequest{Key: []byte(key.Path(base))})
				if err != nil {
					t.Fatal(err)
				}
			},
			TTL: ttl,
		}
		srv := mem.NewServer(mem.Options{})
		model := dcstest.Fixture{
			Open: func(testing.TB) dcs.Store { return srv.Store(base, "x") },
			Put: func(t testing.TB, key dcs.Key, value string) {
				if _, err := srv.Put(key.Path(base), []byte(value), 0); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(_ testing.TB, key dcs.Key) { srv.Delete(key.Path(base)) },
			TTL:    ttl,
		}
		dcstest.Same(t, seed, 80, model, real)
	}
}
