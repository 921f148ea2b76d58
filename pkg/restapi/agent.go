package restapi

import (
	"context"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// Agent is what the server needs of the process around it. All methods may be
// called from several goroutines.
type Agent interface {
	Backups
	Events
	Restarts
	Remotes
	// View is the newest published state; never nil. A View is immutable, so
	// the same pointer means the same content.
	View() *ha.View
	// Now is the clock the View's instants belong to.
	Now() ha.Instant
	// Sample gives the newest WAL position this node has. The second result
	// tells whether it was at most age old when it was asked for; otherwise
	// it is the last one had (At zero: none ever). Usually Sampler.Sample.
	Sample(ctx context.Context, age time.Duration) (ha.Sample, bool)
	// ClusterChanged returns a channel that is closed when a View with another
	// cluster snapshot is published. Take the channel before reading View, so
	// that no change is missed.
	ClusterChanged() <-chan struct{}

	// ReadCluster reads the cluster from etcd, past every cache.
	ReadCluster(ctx context.Context) (*dcs.Cluster, error)
	// RefusedParameters says which parameters of the server the document next
	// sets to another value than old, and to one that PostgreSQL would not start
	// with; nothing, where that cannot be found out.
	RefusedParameters(ctx context.Context, old, next []byte) []config.Problem
	// PutConfig writes /config. A revision that is not nil must be the key's
	// present one, else errors.Is(err, dcs.ErrConflict).
	PutConfig(ctx context.Context, value []byte, revision *int64) error
	// PutFailover writes /failover, under the same rule (0: absent).
	PutFailover(ctx context.Context, f dcs.Failover, revision *int64) error
	// AskMembers asks these members for their status, all at once; the answer
	// has an entry for each, Reachable false for those that are silent.
	AskMembers(ctx context.Context, members []dcs.Member) map[string]ha.Peer
	// Failsafe promises the leader that asks not to race for at least ttl from
	// now, unless this node leads or is about to: then it returns false.
	Failsafe(leader string, ttl time.Duration) bool
	// Freeze ends this standby's WAL receiver and returns the last leadership it
	// knew of, not below epoch, with a position read afterwards. It waits until
	// this member sees no leader, or ctx ends.
	Freeze(ctx context.Context, epoch int64) (promise int64, s ha.Sample, no *Refusal)
	// Reload asks for a reload of the local configuration; it does not wait.
	Reload()
	// AcceptDCS takes the word of an operator that what etcd holds is right,
	// which ends a quarantine.
	AcceptDCS(by string) *Refusal
}

// Settings are the configured properties of the server (wire contract §1.4).
type Settings struct {
	config.RestAPI
	// Strict refuses a listen address other than loopback without TLS and
	// authentication (pgha.restapi_strict).
	Strict bool
}
