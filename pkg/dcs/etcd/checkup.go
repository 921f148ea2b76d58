package etcd

import (
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Checkup is what can be found out about etcd's health from outside.
type Checkup struct {
	Endpoints []EndpointCheckup
	// Reads are how long linearizable reads of one key took, sorted.
	Reads []time.Duration
	// ShortestLease is what etcd granted when it was asked for a second.
	ShortestLease time.Duration
}

// EndpointCheckup is what one member of etcd says of itself.
type EndpointCheckup struct {
	URL     string
	Version string
	Leader  bool
	Learner bool
	Alarms  []string // for example "alarm:NOSPACE"
	Error   string   // it does not answer
}

// checkupReads is how many reads are timed.
const checkupReads = 5

// Checkup asks every endpoint for its state, times some reads, and asks for a
// lease of a second, which is given back. It leaves nothing behind.
func (s *Store) Checkup(ctx context.Context) (Checkup, error) {
	var out Checkup
	if _, _, err := s.readAll(ctx, "read cluster"); err != nil { // finds the endpoints, and what refuses us
		return out, err
	}
	eps, err := s.pool.order(ctx)
	if err != nil {
		return out, err
	}
	for _, ep := range eps {
		out.Endpoints = append(out.Endpoints, s.checkEndpoint(ctx, ep))
	}
	slices.SortFunc(out.Endpoints, func(a, b EndpointCheckup) int {
		if a.URL < b.URL {
			return -1
		}
		return 1
	})
	read := request{op: "time a read", repeatable: true, read: true}
	for range checkupReads {
		began := time.Now()
		err := s.call(ctx, read, func(ctx context.Context, ep *endpoint) error {
			_, err := ep.client.Get(ctx, s.path("leader"), clientv3.WithKeysOnly())
			return err
		})
		if err != nil {
			return out, err
		}
		out.Reads = append(out.Reads, time.Since(began))
	}
	slices.Sort(out.Reads)
	err = s.call(ctx, request{op: "ask for a short lease", repeatable: true}, func(ctx context.Context, ep *endpoint) error {
		lease, err := ep.client.Grant(ctx, 1)
		if err != nil {
			return err
		}
		out.ShortestLease = time.Duration(lease.TTL) * time.Second
		_, err = ep.client.Revoke(ctx, lease.ID)
		return err
	})
	return out, err
}

// endpointTime bounds the question to one member.
const endpointTime = 2 * time.Second

func (s *Store) checkEndpoint(ctx context.Context, ep *endpoint) EndpointCheckup {
	out := EndpointCheckup{URL: ep.url}
	var st *clientv3.StatusResponse
	_, err := s.try(ctx, ep, endpointTime, func(ctx context.Context, ep *endpoint) (err error) {
		st, err = ep.client.Status(ctx, ep.url)
		return err
	})
	if err != nil {
		out.Error = fmt.Sprint(reason(err))
		return out
	}
	out.Version, out.Learner, out.Alarms = st.Version, st.IsLearner, st.Errors
	out.Leader = st.Leader == st.Header.GetMemberId()
	return out
}
