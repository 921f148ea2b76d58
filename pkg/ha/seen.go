package ha

import (
	"fmt"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Seen is the newest of this cluster's keys that this member ever saw (safety
// S11). The agent keeps it on disk, so that it outlives restarts; the zero value
// is that of a member which has seen nothing.
type Seen struct {
	ClusterID uint64       `json:"cluster_id"` // etcd's
	Revision  int64        `json:"revision"`
	Epoch     int64        `json:"epoch"`    // of the newest leadership
	Timeline  wal.Timeline `json:"timeline"` // that /history led to
	SystemID  string       `json:"system_id"`
	// Count is how often the count of epochs began anew, because etcd's
	// revisions did: an epoch means nothing without it.
	Count int64 `json:"count"`
	// Stale is the revision up to which requests and orders are from before that,
	// and void.
	Stale int64 `json:"stale"`
	// Given is the highest number that a timeline of the data of system GivenOf may
	// have, in any etcd: what one forgot, a promotion must not give again.
	Given   wal.Timeline `json:"given,omitempty"`
	GivenOf string       `json:"given_of,omitempty"`
	// TTL is that of the newest beat, in milliseconds.
	TTL int64 `json:"ttl,omitempty"`
	// Doubt is a quarantine that is certain: an agent that restarts goes on with it,
	// though the revisions may have caught up by then.
	Doubt Doubt `json:"doubt,omitzero"`
}

// Doubt is what an agent keeps of a quarantine; see the fields of Quarantine.
type Doubt struct {
	Why      string `json:"why"`
	Etcd     uint64 `json:"cluster_id"`
	Revision int64  `json:"revision"`
	Status   int64  `json:"status"`
}

// Regressed says in what c is behind s, "" if in nothing. An etcd whose revision
// was raised by hand is told by the newest epoch, by /history and by /initialize.
// Where a restore was ordered, /history may lead anywhere, and counts for nothing.
func (s Seen) Regressed(c *dcs.Cluster) string {
	tl := clusterTimeline(c)
	switch {
	case s.ClusterID == 0:
		return ""
	case c.ID != s.ClusterID:
		return fmt.Sprintf("etcd is another cluster than before: its id was %x and is %x", s.ClusterID, c.ID)
	case c.Revision < s.Revision:
		return fmt.Sprintf("etcd's revision was %d and is %d", s.Revision, c.Revision)
	case c.Leader != nil && c.Leader.Epoch < s.Epoch:
		return fmt.Sprintf("/leader was made at revision %d and is of revision %d", s.Epoch, c.Leader.Epoch)
	case s.SystemID != "" && c.Initialize == nil && c.Invalid[dcs.KeyInitialize] == "":
		return "/initialize is gone; it was " + s.SystemID
	case s.Timeline > 1 && tl < s.Timeline && c.Restore == nil && c.Invalid[dcs.KeyHistory] == "":
		return fmt.Sprintf("/history led to timeline %d and leads to %d", s.Timeline, max(tl, 1))
	}
	return ""
}

// with returns s after c was seen, which is not behind it.
func (s Seen) with(c *dcs.Cluster) Seen {
	s.ClusterID, s.Revision = c.ID, c.Revision
	if c.Leader != nil {
		s.Epoch = c.Leader.Epoch
	}
	if i := c.Initialize; i != nil && dcs.InitializeValid(i.SystemID) {
		s.SystemID = i.SystemID
		if s.GivenOf != i.SystemID {
			s.Given, s.GivenOf = 0, i.SystemID
		}
		s.Given = max(s.Given, givenTimeline(c))
	}
	if c.Status != nil && c.Status.Beat != nil {
		s.TTL = c.Status.Beat.TTL
	}
	s.Timeline = max(s.Timeline, clusterTimeline(c))
	return s
}

// anew returns what is known after c was accepted as the truth, whatever was
// seen before but the numbers of timelines. Requests in keys up to the revision
// stale are from before.
func (s Seen) anew(c *dcs.Cluster, stale int64) Seen {
	return Seen{Count: s.Count + 1, Stale: stale, Given: s.Given, GivenOf: s.GivenOf}.with(c)
}

// countShift puts the count above any revision of etcd's.
const countShift = 48

// Hold is the number under which the leash knows an epoch: the leash counts
// upwards only, and etcd's revisions may begin anew.
func (m *Memory) Hold(epoch int64) int64 { return m.Seen.Count<<countShift | epoch }
