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

// TestRemoveCluster: all keys of the cluster go, those of one whose name begins
// alike stay, and a leadership nobody has seen saves them all.
func TestRemoveCluster(t *testing.T) {
	server := etcdtest.Start(t, etcdtest.Options{})
	conn := raw(t, server.Members[0])
	keys := func(prefix string) int64 {
		resp, err := pb.NewKVClient(conn).Range(within(t, 5*time.Second),
			&pb.RangeRequest{Key: []byte(prefix), RangeEnd: []byte(dcs.PrefixEnd(prefix)), CountOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Count
	}
	for _, key := range []string{"/service/demo/leader", "/service/demo/members/a", "/service/demo/pgha/backup", "/service/demo2/config"} {
		rawPut(t, conn, key, "x")
	}
	store := open(t, "/service/demo", nil, server.URLs()...)
	c, err := store.Read(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.RemoveCluster(within(t, 5*time.Second), 0); !errors.Is(err, dcs.ErrConflict) || keys("/service/demo/") != 3 {
		t.Errorf("somebody leads: %v, %d keys", err, keys("/service/demo/"))
	}
	if err := store.RemoveCluster(within(t, 5*time.Second), c.Leader.Epoch); err != nil {
		t.Error(err)
	}
	if keys("/service/demo/") != 0 || keys("/service/demo2/") != 1 {
		t.Errorf("%d keys left, %d of the other", keys("/service/demo/"), keys("/service/demo2/"))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := store.RemoveCluster(ended, 0); err == nil {
		t.Error("removed under an ended context")
	}
}

// TestReadClusters: every cluster of the namespace, and nothing else.
func TestReadClusters(t *testing.T) {
	server := etcdtest.Start(t, etcdtest.Options{})
	conn := raw(t, server.Members[0])
	for key, value := range map[string]string{
		"/db/one/leader": "a", "/db/one/members/a": `{"state":"running"}`, "/db/one/pgha/backup": "{}",
		"/db/two/config": `{"ttl":30}`, "/db/stray": "x", "/db/stray/key": "x", "/dbother/three/leader": "x",
	} {
		rawPut(t, conn, key, value)
	}
	clusters, err := open(t, "/db", nil, server.URLs()...).ReadClusters(within(t, 5*time.Second))
	if err != nil || len(clusters) != 2 {
		t.Fatalf("%v, %v", clusters, err)
	}
	if one := clusters["one"]; one.LeaderName() != "a" || one.Member("a") == nil || one.Backup == nil || clusters["two"].Config == nil {
		t.Errorf("one %+v, two %+v", clusters["one"], clusters["two"])
	}
}
