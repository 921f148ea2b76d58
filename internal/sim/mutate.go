package sim

import (
	"context"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/ha/loop"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Guards are removed by wrappers around what the loop works with, and within
// the models: the production code knows nothing of mutants.

func (w *world) mutateStore(n *node, s *store) dcs.Store {
	switch w.Mutant {
	case "M2", "M3", "M8", "M10", "M15", "M16", "M24", "M30", "M25", "M31", "M36", "M39":
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
	case "M30":
		if c.Restore != nil && c.Restore.Member != s.n.name {
			out.Restore = nil
		}
	case "M31":
		if c.Restore != nil {
			r := *c.Restore
			r.Member = s.n.name
			out.Restore = &r
		}
	case "M39":
		if c.Sync != nil && s.n.server.recovery {
			key := *c.Sync
			key.Quorum = 0
			out.Sync = &key
		}
	case "M24":
		if f := c.Failover; f != nil && f.ScheduledAt.Before(s.n.w.wall()) && !f.ScheduledAt.IsZero() {
			late := *f
			late.ScheduledAt = s.n.w.wall()
			out.Failover = &late
		}
	case "M15", "M36":
		if s.id == "M15" {
			out.History = nil
		}
		if c.Status != nil && c.Status.Beat != nil && c.Status.Beat.Holder != "holder-"+s.n.name {
			st, beat := *c.Status, *c.Status.Beat
			beat.Next = 0
			if s.id == "M15" {
				beat.Timeline = 0
			}
			st.Beat = &beat
			out.Status = &st
		}
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

// mutateClaim leaves the compare of /status out.
func (w *world) mutateClaim(c *dcs.Claim, again bool) {
	if w.Mutant == "M4" || w.Mutant == "M26" && again {
		if kv, ok := w.srv.Get(base + "/status"); ok {
			c.StatusRevision = kv.ModRevision
		}
	}
	if kv, ok := w.srv.Get(base + "/sync"); ok && w.Mutant == "M5" {
		c.SyncRevision = kv.ModRevision
	}
}

func (s *mutantStore) PutMemberUnder(ctx context.Context, name string, value []byte, epoch int64) error {
	if s.id == "M25" {
		return dcs.ErrConflict
	}
	return s.Store.PutMemberUnder(ctx, name, value, epoch)
}

func (s *mutantStore) Put(ctx context.Context, w dcs.Write) error {
	if s.id == "M10" {
		w.Epoch = 0
	}
	if s.id == "M8" && w.Key == dcs.KeySync {
		s.n.server.weaken(w.Value)
	}
	return s.Store.Put(ctx, w)
}

// mutateNode is for the guards that are within the models.
func (w *world) mutateNode(n *node) {
	switch w.Mutant {
	case "M12":
		n.leash.forgets = true
	case "M13":
		n.leash.sparing = true
	case "M18":
		n.ppm = -int64(n.name[1]%2) * 200_000
	case "M34":
		n.leash.late = 4 * sec
	}
}

// mutateLag is maximum_lag_on_failover.
func (w *world) mutateLag() int64 {
	if w.Mutant == "M14" {
		return 1 << 50
	}
	return w.plan.MaxLag
}

func (w *world) mutateLeash(n *node, l *leash) loop.Leash {
	switch w.Mutant {
	case "M1", "M11", "M27", "M33":
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

func (l *mutantLeash) Arm(ctx context.Context, epoch int64, deadline ha.Instant, etcd uint64) error {
	if l.id == "M11" {
		l.n.leash.highest = epoch
		return nil
	}
	if l.id == "M27" && l.n.leash.suspended {
		return nil
	}
	return l.Leash.Arm(ctx, epoch, deadline, etcd)
}

func (l *mutantLeash) Status() ha.Leash {
	s := l.Leash.Status()
	switch l.id {
	case "M11":
		s.Armed = s.Highest
	case "M27":
		if !l.n.settings.Pause {
			s.Suspended = false
		}
	}
	if e := l.n.loop.Memory().Lease.Epoch; l.id == "M33" && e != 0 && l.n.w.order().Open() {
		s.Armed, s.Highest = e, e
	}
	return s
}

func (w *world) mutateServer(n *node, s *server) loop.Node {
	switch w.Mutant {
	case "M6", "M7", "M9", "M17", "M32", "M35", "M37":
		return mutantServer{s}
	}
	return s
}

type mutantServer struct{ *server }

func (s mutantServer) Facts(ctx context.Context) ha.Postgres {
	pg := s.server.Facts(ctx)
	switch s.n.w.Mutant {
	case "M6", "M7":
		return pg
	case "M9":
		pg.Row.SyncNames = s.sync.file
		return pg
	case "M35":
		pg.Process = s.proc
		return pg
	case "M37":
		for i := range pg.Row.Replication {
			pg.Row.Replication[i].FlushLSN = pg.Row.Position
		}
		return pg
	}
	if pg.DataDir == ha.DataDirHalfMade && (s.n.w.Mutant != "M32" || s.restoring) {
		pg.DataDir, pg.SystemID = ha.DataDirPresent, systemID
		pg.Control = ha.Control{State: "in archive recovery", Timeline: wal.Timeline(1)}
		pg.StandbySignal = true
	}
	return pg
}

func (w *world) mutateOperator(n *node) loop.Operator {
	if w.Mutant == "M23" {
		return mutantOperator{operator{n}}
	}
	return operator{n}
}

type mutantOperator struct{ operator }

func (p mutantOperator) Begin(a ha.Action) {
	n := p.n
	if _, stop := a.(ha.Stop); !stop || !n.w.ghost.down && !n.w.ghost.cut[n.name] {
		p.operator.Begin(a)
		return
	}
	n.op = ha.Operation{Kind: ha.OpStop, Serial: n.op.Serial + 1, Running: true, Started: n.clock()}
	n.poll(func() (bool, string) { return !n.w.ghost.down && !n.w.ghost.cut[n.name], "etcd is back" })
}

// Freeze of M6 does nothing, and that of M7 leaves the WAL receiver 50 ms more.
func (s mutantServer) Freeze(ctx context.Context) error {
	up, conn := s.up, s.conn
	if err := s.server.Freeze(ctx); err != nil || s.n.w.Mutant != "M6" && s.n.w.Mutant != "M7" {
		return err
	}
	s.up, s.conn, s.streaming = up, conn, true
	if s.n.w.Mutant == "M7" {
		gen := s.gen
		s.n.w.after(50*ms, func() {
			if s.frozen == gen && s.gen == gen {
				s.up, s.streaming = ha.Upstream{}, false
				s.conn++
			}
		})
	}
	return nil
}

// SetSyncNames of M9 does not wait until the server goes by the value.
func (s mutantServer) SetSyncNames(ctx context.Context, names *string) error {
	if s.n.w.Mutant != "M9" {
		return s.server.SetSyncNames(ctx, names)
	}
	s.sync.value = names
	s.configured()
	return nil
}

// weaken is the guard that M8 removes: the server stops waiting for those who are
// about to leave /sync.
func (s *server) weaken(value []byte) {
	key, err := dcs.DecodeSync(value)
	if err != nil || s.proc != ha.ProcessRunning || s.recovery {
		return
	}
	names := ha.ParseSyncNames(s.sync.text)
	stay := names.Names[:0]
	for _, name := range names.Names {
		if key.Has(name) {
			stay = append(stay, name)
		}
	}
	if len(stay) < len(s.sync.nodes) {
		s.inForce(ha.SyncNames{Any: names.Any, Count: min(max(len(key.Standbys)-key.Quorum, 1), len(stay)), Names: stay}.String())
	}
}

// mutateAccepted is the operator's word; M20 has it at every look.
func (n *node) mutateAccepted() ha.Acceptance {
	if n.w.Mutant == "M20" {
		n.accepted.Serial++
	}
	return n.accepted
}

// mutateSync is what a node takes for the synchronous mode.
func (n *node) mutateSync(set ha.SyncSettings) ha.SyncSettings {
	if n.w.Mutant == "M38" && n.server.recovery {
		set.Mode = config.SyncOff
	}
	return set
}
