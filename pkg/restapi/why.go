package restapi

import (
	"math"
	"net/http"
	"time"

	"github.com/pgha/pgha/internal/version"
	"github.com/pgha/pgha/pkg/ha"
)

// WhyDocument is the answer to GET /why: what this member is about, and what
// keeps it from being promoted.
type WhyDocument struct {
	Member string `json:"member"`
	Scope  string `json:"scope"`
	State  string `json:"state"`
	Role   string `json:"role"`
	// Leading: it leads now. Leader is who holds the key in etcd, as far as it
	// knows; EtcdSeconds is how old that knowledge is, -1: it has none.
	Leading     bool    `json:"leading"`
	Leader      string  `json:"leader"`
	EtcdSeconds float64 `json:"etcd_seconds"`
	// LeaseSeconds is what is left of its leadership before it would step down.
	LeaseSeconds float64 `json:"lease_seconds,omitempty"`
	Paused       bool    `json:"paused"`
	// Doing is the sentence of its last decision, Reason the code of it.
	Doing     string  `json:"doing"`
	Reason    string  `json:"reason"`
	TurnedAgo float64 `json:"turned_seconds"` // since its loop last turned
	// Quarantine is why it does not trust what etcd holds, "" if it does.
	Quarantine string        `json:"quarantine,omitempty"`
	Obstacles  []WhyObstacle `json:"obstacles"`

	// For pghactl doctor: the release of pgha, the calendar here, and whether
	// PostgreSQL is on the leash.
	PGHA  string    `json:"pgha"`
	Clock time.Time `json:"clock"`
	Leash string    `json:"leash"` // "on", "suspended", "absent" or "off"
}

// WhyObstacle is one thing that keeps a member from being promoted.
type WhyObstacle struct {
	Code string `json:"code"`
	Text string `json:"text"`
	// SecondsLeft is when it ends by itself; absent when nobody knows.
	SecondsLeft float64 `json:"seconds_left,omitempty"`
}

func (s *Server) getWhy(w http.ResponseWriter, _ *http.Request) {
	s.document(w, http.StatusOK, whyOf(s.agent.View(), s.agent.Now(), time.Now()))
}

func whyOf(v *ha.View, now ha.Instant, clock time.Time) WhyDocument {
	d := WhyDocument{
		Member: v.Name, Scope: v.Scope, State: v.State, Role: v.Role, Leading: v.IsLeader(now), Leader: v.Cluster.LeaderName(),
		EtcdSeconds: -1, Quarantine: v.Quarantine, Paused: v.Paused, Doing: v.Reason, Reason: v.Code, Obstacles: []WhyObstacle{},
		PGHA: version.Version(), Clock: clock.UTC().Truncate(time.Millisecond), Leash: v.Leash,
	}
	if v.ClusterAt != 0 {
		d.EtcdSeconds = since(v.ClusterAt, now)
	}
	if v.Turned != 0 {
		d.TurnedAgo = since(v.Turned, now)
	}
	if d.Leading && !v.Paused {
		d.LeaseSeconds = since(now, v.AnswerUntil)
	}
	for _, o := range v.Obstacles {
		if o.Until != 0 && o.Until <= now {
			continue // over, and the loop has not turned since
		}
		ob := WhyObstacle{Code: o.Code, Text: o.Text}
		if o.Until != 0 {
			ob.SecondsLeft = since(now, o.Until)
		}
		d.Obstacles = append(d.Obstacles, ob)
	}
	return d
}

// since is the time from one instant to another in seconds, to the millisecond.
func since(from, to ha.Instant) float64 {
	return math.Round(max(to.Sub(from), 0).Seconds()*1000) / 1000
}
