package etcd

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/pkg/dcs"
)

// RemoveCluster deletes every key of the cluster, if its leadership still is
// the one of epoch (0: nobody leads). ErrConflict: it is not; nothing was
// deleted.
func (s *Store) RemoveCluster(ctx context.Context, epoch int64) error {
	c := change{
		request: request{op: "remove cluster"},
		when:    []clientv3.Cmp{createdAt(s.path(dcs.KeyLeader), epoch)},
	}
	_, _, err := s.send(ctx, c, []clientv3.Op{clientv3.OpDelete(s.cfg.Base+"/", clientv3.WithPrefix())}, nil)
	return err
}
