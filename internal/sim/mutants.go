package sim

import (
	"context"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/ha/loop"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Mutant is a guard removed, by a wrapper around what the loop works with: the
// production code stays as it is. A simulator that does not catch it is broken.
type Mutant struct {
	ID, What string
	Catches  []string // invariants, any of which may tell
	// Faults are the kinds to play; none: as the seed chooses.
	Faults []string
}

func environment(id string) []string {
	for _, m := range Mutants {
		if m.ID == id {
			return m.Faults
		}
	}
	return nil
}

// Mutants are those of safety C.8 that can be made from outside.
var Mutants = []Mutant{
	{"M1", "the deadline counts from the answer, not from the send", []string{"S7"}, nil},
	{"M2", "a keepalive alone extends the deadline", []string{"S7", "S1", "S8"}, []string{"etcd loses", "false keepalive", "early revoke"}},
	{"M3", "no hold-off", []string{"S1", "S14"}, []string{"early revoke", "agent hang", "cut etcd"}},
	{"M4", "claim without the compare of /status", []string{"S1", "S14"}, []string{"slow watch", "early revoke", "switchover"}},
	{"M10", "/history is written without the epoch", []string{"S10"}, []string{"switchover"}},
	{"M11", "promotion before the leash confirmed", []string{"S6", "S8", "S1"}, nil},
	{"M12", "the leash kills late", []string{"S8", "S1"}, []string{"agent hang", "agent crash"}},
	{"M13", "the leash never kills", []string{"S8", "S1"}, []string{"agent hang", "agent crash"}},
	{"M15", "the timelines of /history are ignored", []string{"S2"}, []string{"failover", "cut all", "agent crash"}},
	{"M16", "rewind before the checkpoint of the new primary", []string{"S13"}, []string{"server crash", "power", "agent crash"}},
	{"M17", "a directory with a marker is taken for a whole one", []string{"S9"}, []string{"trap", "power"}},
	{"M18", "clocks run 20% apart", []string{"S1", "S14"}, []string{"agent hang", "agent crash"}},
	{"M22", "members other than the order's do not see a restore order: they race", []string{"R2"}, []string{"restore", "trap", "agent crash"}},
	{"M23", "every member takes a restore order for its own", []string{"R2"}, []string{"restore", "trap", "agent crash"}},
	{"M24", "a directory with half a restore in it is taken for a whole one", []string{"S9", "R3", "R1"}, []string{"restore", "trap", "power"}},
	{"M25", "the leash is not needed for a restore", []string{"R3", "S8", "S6"}, []string{"restore", "trap", "power"}},
	{"M19", "a majority of the members of /failsafe is enough", []string{"S7", "S1", "S8"}, []string{"etcd down", "cut peers", "agent crash"}},
	{"M28", "one answer is enough for a failsafe round", []string{"S7", "S1", "S8"}, []string{"etcd down", "cut peers", "agent crash"}},
	{"M29", "a promise to a leader is forgotten at once", []string{"S1", "S14", "S8", "S7"}, []string{"cut etcd", "cut peers"}},
	{"M21", "role endpoints answer from the status of the last turn", []string{"S14"}, []string{"cut etcd", "agent hang"}},
}

// failsafeMutant: those that need the mode on.
func failsafeMutant(id string) bool { return id == "M19" || id == "M28" || id == "M29" }

func (w *world) mutateStore(n *node, s *store) dcs.Store {
	switch w.Mutant {
	case "M2", "M3", "M4", "M10", "M15", "M16", "M22", "M23":
		return &mutantStore{Store: s, n: n, id: w.Mutant}
	}
	return s
}

type mutantStore struct {
	dcs.Store
	n  *node
	id string
}

func (s *mutantStore) Snapshot(ctx context.Context) (*dcs.Cluster, error) {
	c, err := s.Store.Snapshot(ctx)
	return s.alter(c), err
}

func (s *mutantStore) Read(ctx context.Context) (*dcs.Cluster, error) {
	c, err := s.Store.Read(ctx)
	return s.alter(c), err
}

func (s *mutantStore) alter(c *dcs.Cluster) *dcs.Cluster {
	if c == nil {
		return nil
	}
	out := *c
	switch s.id {
	case "M3":
		if c.Leader == nil && c.Status != nil && c.Status.Beat != nil && c.Status.Beat.Holder != "holder-"+s.n.name {
			st, beat := *c.Status, *c.Status.Beat
			beat.Released = true
			st.Beat = &beat
			out.Status = &st
		}
	case "M22":
		if c.Restore != nil && c.Restore.Member != s.n.name {
			out.Restore = nil
		}
	case "M23":
		if c.Restore != nil {
			r := *c.Restore
			r.Member = s.n.name
			out.Restore = &r
		}
	case "M15":
		out.History = nil
	case "M16":
		out.Members = append([]dcs.Member(nil), c.Members...)
		for i := range out.Members {
			out.Members[i].CheckpointAfterPromote = nil
		}
	}
	return &out
}

func (s *mutantStore) Renew(ctx context.Context, r dcs.Renewal) error {
	err := s.Store.Renew(ctx, r)
	if s.id == "M2" && err != nil && !s.n.w.ghost.down && !s.n.w.ghost.cut[s.n.name] {
		return nil
	}
	return err
}

func (s *mutantStore) Claim(ctx context.Context, c dcs.Claim) (int64, error) {
	if s.id == "M4" {
		if kv, ok := s.n.w.srv.Get(base + "/status"); ok {
			c.StatusRevision = kv.ModRevision
		}
	}
	return s.Store.Claim(ctx, c)
}

func (s *mutantStore) Put(ctx context.Context, w dcs.Write) error {
	if s.id == "M10" {
		w.Epoch = 0
	}
	return s.Store.Put(ctx, w)
}

func (w *world) mutateLeash(n *node, l *leash) loop.Leash {
	switch w.Mutant {
	case "M12":
		l.late = 4 * sec
	case "M13":
		l.late = 1 << 50
	case "M1", "M11", "M25":
		return &mutantLeash{Leash: l, n: n, id: w.Mutant}
	}
	return l
}

type mutantLeash struct {
	loop.Leash
	n  *node
	id string
}

func (l *mutantLeash) Extend(epoch int64, deadline ha.Instant) {
	if l.id == "M1" {
		deadline = deadline.Add(2_000_000)
	}
	l.Leash.Extend(epoch, deadline)
}

func (l *mutantLeash) Arm(ctx context.Context, epoch int64, deadline ha.Instant) error {
	if l.id == "M11" {
		l.n.leash.highest = epoch
		return nil
	}
	return l.Leash.Arm(ctx, epoch, deadline)
}

func (l *mutantLeash) Status() ha.Leash {
	s := l.Leash.Status()
	if l.id == "M11" {
		s.Armed = s.Highest
	}
	if e := l.n.loop.Memory().Lease.Epoch; l.id == "M25" && e != 0 && l.n.w.order().Open() {
		s.Armed, s.Highest = e, e
	}
	return s
}

func (w *world) mutateServer(n *node, s *server) loop.Node {
	if w.Mutant == "M18" {
		n.ppm = -int64(n.name[1]%2) * 200_000
	}
	if w.Mutant == "M17" || w.Mutant == "M24" {
		return mutantServer{s}
	}
	return s
}

type mutantServer struct{ *server }

func (s mutantServer) Facts(ctx context.Context) ha.Postgres {
	pg := s.server.Facts(ctx)
	if pg.DataDir == ha.DataDirHalfMade && (s.n.w.Mutant != "M24" || s.restoring) {
		pg.DataDir, pg.SystemID = ha.DataDirPresent, systemID
		pg.Control = ha.Control{State: "in archive recovery", Timeline: wal.Timeline(1)}
		pg.StandbySignal = true
	}
	return pg
}
