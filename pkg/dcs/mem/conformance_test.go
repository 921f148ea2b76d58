package mem_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/dcstest"
	"github.com/pgha/pgha/pkg/dcs/mem"
)

func TestConformance(t *testing.T) {
	dcstest.Run(t, func(*testing.T) dcstest.Fixture {
		const ttl = 3 * time.Second
		base := dcs.Base("service", "batman")
		var now atomic.Int64
		srv := mem.NewServer(mem.Options{Now: now.Load})
		return dcstest.Fixture{
			Open: func(testing.TB) dcs.Store {
				c := srv.Store(base, "x")
				c.SetTTL(ttl)
				return c
			},
			Put: func(t testing.TB, key dcs.Key, value string) {
				if _, err := srv.Put(key.Path(base), []byte(value), 0); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(_ testing.TB, key dcs.Key) { srv.Delete(key.Path(base)) },
			Step:   func() { now.Add(int64(100 * time.Millisecond)); srv.Tick() },
			TTL:    ttl,
		}
	})
}
