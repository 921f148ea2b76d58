package loop

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/mem"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// TestProgress: how far a copy is shows in the member key, not more often than
// every two seconds however fast it goes.
func TestProgress(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.standby(t)
		r.worker.end = make(chan error)
		r.node.facts = ha.Postgres{DataDir: ha.DataDirEmpty}
		r.step(t)
		synctest.Wait()
		writes, begun := r.store.counts[mem.OpPutMember], time.Now()
		for time.Since(begun) < 20*time.Second {
			r.worker.progress("basebackup", int64(time.Since(begun))/1000, 20e6)
			wait, _ := r.step(t)
			if wait > ha.ProgressPeriod {
				t.Fatalf("does not look for %s", wait)
			}
			time.Sleep(wait / 4)
		}
		writes = r.store.counts[mem.OpPutMember] - writes
		if writes < 8 || writes > 11 {
			t.Errorf("%d writes in 20 s", writes)
		}
		c, err := r.client.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m := c.Member("n1")
		if p := m.Progress; p == nil || p.Operation != "clone" || p.Method != "basebackup" || p.Total != 20e6 || p.Done < 17e6 || p.Rate < 9e5 || p.Rate > 11e5 || p.Started.IsZero() {
			t.Errorf("published %+v", p)
		}
		if m.State != "creating replica" || m.Role != "uninitialized" {
			t.Errorf("%s %s", m.State, m.Role)
		}
		r.worker.end <- nil
		<-r.runner.Done()
		r.standby(t)
		r.node.facts.DataDir, r.node.facts.SystemID, r.node.facts.Process, r.node.facts.Known = ha.DataDirPresent, sysID, ha.ProcessRunning, true
		r.step(t)
		if c, err = r.client.Read(t.Context()); err != nil || c.Member("n1").Progress != nil {
			t.Errorf("after the end: %v %+v", err, c.Member("n1").Progress)
		}
	})
}

// TestRestore: an order is carried out by the leader, which keeps its lock, and
// its end is written with the timeline.
func TestRestore(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.step(t)
		epoch := r.Memory().Lease.Epoch
		r.worker.end = make(chan error)
		order := dcs.Restore{ID: "a1", State: dcs.RestoreRequested, Member: "n1", Set: "20261122-010001F",
			Target: dcs.RestoreTarget{Type: "latest"}, SystemID: sysID, Requested: time.Now()}
		r.put("pgha/restore", string(order.Encode()))
		r.step(t)
		synctest.Wait()
		if op := r.runner.Poll(); op.Kind != ha.OpRestore || !op.Running {
			t.Fatalf("runs %+v", op)
		}
		f := &r.node.facts
		f.DataDir, f.Process, f.Known = ha.DataDirHalfMade, ha.ProcessDown, false
		for begun := time.Now(); time.Since(begun) < 10*time.Minute; {
			wait, _ := r.step(t)
			time.Sleep(wait)
			if r.Memory().Lease.Epoch != epoch || r.leash.status.Deadline != r.Memory().Lease.Deadline {
				t.Fatalf("the lease is not kept: %+v", r.Memory().Lease)
			}
			if v := r.views[len(r.views)-1]; v.IsLeader(r.Now()) || v.Role != "primary" || v.State != "stopped" {
				t.Fatalf("answers as %s %s %v", v.State, v.Role, v.Leading)
			}
		}
		f.DataDir, f.Process, f.Known, f.Row = ha.DataDirPresent, ha.ProcessRunning, true, ha.Row{Timeline: 4, Position: 600}
		f.HistoryLocal = wal.History{{Timeline: 1, LSN: 500}}
		r.worker.end <- nil
		<-r.runner.Done()
		for range 4 { // the position has to get into /status first
			wait, _ := r.step(t)
			time.Sleep(wait)
		}
		c, err := r.client.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if o := c.Restore; o.State != dcs.RestoreDone || o.Timeline != 4 || o.Ended.IsZero() || o.ID != "a1" || o.Set != order.Set {
			t.Errorf("order %+v", o)
		}
		if c.Leader.Epoch != epoch || c.Status.Optime != 600 || len(c.History.Lines) != 1 {
			t.Errorf("leader %+v, status %+v, history %+v", c.Leader, c.Status, c.History)
		}
		puts := r.store.counts[mem.OpPut]
		for range 5 {
			wait, _ := r.step(t)
			time.Sleep(wait)
		}
		if n := r.store.counts[mem.OpPut] - puts; n != 0 {
			t.Errorf("%d more writes at rest", n) // /history that leaves out timelines is not written for ever
		}
	})
}

// TestRestoreTakenBack: an order that an operator takes back is cut short.
func TestRestoreTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.step(t)
		r.worker.end = make(chan error)
		order := dcs.Restore{ID: "a1", State: dcs.RestoreRequested, Member: "n1", Target: dcs.RestoreTarget{Type: "latest"}, Requested: time.Now()}
		r.put("pgha/restore", string(order.Encode()))
		r.step(t)
		synctest.Wait()
		order.State, order.Error, order.Ended = dcs.RestoreFailed, "cancelled by admin", time.Now()
		r.put("pgha/restore", string(order.Encode()))
		r.step(t)
		<-r.runner.Done()
		r.step(t)
		c, err := r.client.Read(t.Context())
		if err != nil || c.Restore.Error != "cancelled by admin" || c.LeaderName() != "n1" {
			t.Errorf("%v %+v", err, c.Restore)
		}
	})
}
