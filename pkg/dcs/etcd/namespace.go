package etcd

import (
	"context"
	"strings"

	"github.com/pgha/pgha/pkg/dcs"
)

// ReadClusters reads all clusters below a base that is a namespace, in one
// linearizable read. What holds none of a cluster's keys is left out.
func (s *Store) ReadClusters(ctx context.Context) (map[string]*dcs.Cluster, error) {
	kvs, header, err := s.readAll(ctx, "read clusters")
	if err != nil {
		return nil, err
	}
	keys := map[string][]dcs.KV{}
	known := map[string]bool{}
	for _, kv := range kvs {
		scope, key, _ := strings.Cut(strings.TrimPrefix(kv.Key, s.cfg.Base+"/"), "/")
		keys[scope] = append(keys[scope], kv)
		known[scope] = known[scope] || ofCluster(dcs.Key(key))
	}
	clusters := make(map[string]*dcs.Cluster, len(known))
	for scope := range known {
		if !known[scope] {
			continue
		}
		c := dcs.Decode(s.cfg.Base+"/"+scope, keys[scope])
		c.ID, c.Revision = header.GetClusterId(), header.GetRevision()
		clusters[scope] = c
	}
	return clusters, nil
}

// ofCluster tells whether a key is one of those a cluster has.
func ofCluster(key dcs.Key) bool {
	switch key {
	case dcs.KeyLeader, dcs.KeyInitialize, dcs.KeyConfig, dcs.KeyFailover, dcs.KeySync, dcs.KeyHistory, dcs.KeyStatus, dcs.KeyFailsafe:
		return true
	}
	return strings.HasPrefix(string(key), string(dcs.KeyMembers))
}
