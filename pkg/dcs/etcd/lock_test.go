package etcd_test

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/pgha/pgha/internal/etcdserver/etcdtest"
	"github.com/pgha/pgha/pkg/dcs"
)

// When the answer to the creation of a lock is lost, its store must still be
// able to use it and to give it back: with a lease that is kept alive, it would
// shut out everybody for ever.
func TestLockWithLostAnswer(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	p := newProxy(t, c.Members[0].Addr())
	conn := raw(t, c.Members[0])
	stored := func() bool {
		t.Helper()
		r, err := pb.NewKVClient(conn).Range(within(t, 5*time.Second), &pb.RangeRequest{Key: []byte(dcs.KeyBackupLock.Path(base))})
		if err != nil {
			t.Fatal(err)
		}
		return len(r.Kvs) > 0
	}
	s := open(t, base, nil, p.url())
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	long := func() context.Context { return within(t, 20*time.Second) }
	lostLock := func(value string) {
		t.Helper()
		s.SetTTL(60 * time.Second)
		ok(s.KeepAlive(long()))
		p.pass(true, false)
		if err := s.Lock(within(t, time.Second), dcs.KeyBackupLock, []byte(value)); !errors.Is(err, dcs.ErrUnknown) {
			t.Fatalf("answer lost: %v", err)
		}
		if !stored() {
			t.Fatal("the request did not get through")
		}
		p.thaw()
	}
	lostLock(`{"member":"a"}`)
	ok(s.Unlock(long(), dcs.KeyBackupLock))
	if stored() {
		t.Fatal("not unlocked")
	}
	lostLock(`{"member":"a","type":"full"}`)
	ok(s.Lock(long(), dcs.KeyBackupLock, []byte(`{"member":"a","type":"diff"}`)))
	ok(s.Lock(long(), dcs.KeyBackupLock, []byte(`{"member":"a","type":"incr"}`)))
	snap, err := s.Snapshot(long())
	ok(err)
	if l := snap.BackupLock; l == nil || l.Type != "incr" {
		t.Fatalf("snapshot: %+v", l)
	}
	ok(s.Unlock(long(), dcs.KeyBackupLock))
	if stored() {
		t.Fatal("not unlocked")
	}
}
