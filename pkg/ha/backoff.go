package ha

import (
	"time"

	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Backoff is what a standby has seen of its WAL since the leader key went.
type Backoff struct {
	Since Instant // Memory.Leaderless of that time
	At    wal.LSN // the position last seen
	Moved Instant // when it was last found to have grown, 0 never
}

// raceBackoff is how long this standby stays out of the race yet because of
// primary_race_backoff (ha-behaviour 2.6): a primary whose agent lost the key may
// still write, and its WAL still arrives here. One loop_wait serves to see that.
// A leader that left in good order, or on request, is not waited for.
func (o *Observation) raceBackoff() time.Duration {
	m, s := &o.Memory, &o.Settings
	if m.Backoff.Since != m.Leaderless {
		m.Backoff = Backoff{Since: m.Leaderless, At: o.PG.Row.Position}
	}
	b := &m.Backoff
	if o.PG.Row.Position > b.At {
		b.At, b.Moved = o.PG.Row.Position, o.Now
	}
	left := m.Leaderless.Add(s.RaceBackoff).Sub(o.Now)
	st := o.DCS.Cluster.Status
	if s.RaceBackoff <= 0 || s.Standby.On || left <= 0 || !o.PG.Row.InRecovery || o.raceRequest() != nil || st != nil && st.Beat != nil && st.Beat.Released {
		return 0
	}
	look := s.LoopWait - o.Now.Sub(max(b.Moved, b.Since))
	if b.Moved != 0 && o.PG.Row.ReplicationState != "streaming" {
		look = s.LoopWait - o.Now.Sub(b.Since)
	}
	return max(min(left, look), 0)
}
