package ha

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// asked: an operator waits for a restart.
func asked(o *Observation, change ...func(*RestartRequest)) {
	o.Restart.Now = RestartRequest{Serial: 4}
	for _, c := range change {
		c(&o.Restart.Now)
	}
}

// planned: a restart is scheduled in from now.
func planned(o *Observation, in time.Duration) *RestartRequest {
	o.PG.PostmasterStartTime = "2026-11-22 08:03:59+00:00"
	o.Restart.Scheduled = RestartRequest{Serial: 5, At: o.Wall.Add(in), PostmasterStart: o.PG.PostmasterStartTime, Document: []byte(`{"schedule":"x"}`)}
	return &o.Restart.Scheduled
}

// refused: whoever asked is told why, and the request is never looked at again.
func refused(words string) func(*testing.T, Decision) {
	return func(t *testing.T, d Decision) {
		t.Helper()
		r := d.Memory.Restart
		if r.Now != 4 || r.Runs || !strings.Contains(r.Failure, words) {
			t.Errorf("%+v, want a refusal with %q", r, words)
		}
	}
}

func begun(t *testing.T, d Decision) {
	t.Helper()
	if r := d.Memory.Restart; r.Now != 4 || !r.Runs || r.Failure != "" {
		t.Errorf("%+v, want the request taken up", r)
	}
}

func TestRestart(t *testing.T) { // 1.19
	primary := Restart{Primary: true, Timeout: 300 * sec}
	standby := Restart{Upstream: Upstream{Member: "n2", ConnURL: "postgres://n2:5432/postgres"}, Timeout: 300 * sec}
	runTable(t, []row{
		{name: "leader", change: func(o *Observation) { asked(o) }, action: Restart{}, reason: RestartRuns, check: func(t *testing.T, d Decision) {
			begun(t, d)
			wants(primary)(t, d)
		}},
		{name: "replica, on its present upstream", change: func(o *Observation) { replica(o); asked(o) }, action: Restart{}, reason: RestartRuns, check: wants(standby)},
		{name: "replica of an agent that has not pointed it anywhere", change: func(o *Observation) {
			replica(o)
			o.PG.Upstream, o.PG.UpstreamURL = "", ""
			asked(o)
		}, action: Restart{}, reason: RestartRuns, check: func(t *testing.T, d Decision) {
			if a := d.Action.(Restart); a.Upstream.Member != "n2" || a.Primary {
				t.Errorf("%+v", a)
			}
		}},
		{name: "replica without a leader", change: func(o *Observation) { leaderless(o); asked(o) }, action: Restart{}, reason: RestartRuns, check: wants(standby)},
		{name: "with a timeout", change: func(o *Observation) { asked(o, func(r *RestartRequest) { r.Timeout = 7 * sec }) }, action: Restart{}, reason: RestartRuns,
			check: wants(Restart{Primary: true, Timeout: 7 * sec})},
		{name: "a request is taken up once", change: func(o *Observation) { asked(o); o.Memory.Restart.Now = 4 }, reason: LeaderNoAction},
		{name: "a round that is due comes first", change: func(o *Observation) { asked(o); o.Now = plus(5 * sec) }, action: Renew{}, reason: LeaseRenewal, check: func(t *testing.T, d Decision) {
			if d.Memory.Restart.Now != 0 {
				t.Error("the request is lost")
			}
		}},
		{name: "and the leash has to know the deadline", change: func(o *Observation) { asked(o); o.Leash.Armed = 0 }, action: ArmLeash{}, reason: LeaderArming},
		{name: "scenario 45/48: another role", change: func(o *Observation) { asked(o, func(r *RestartRequest) { r.Role = "replica" }) }, reason: LeaderNoAction, check: refused("conditions are not satisfied")},
		{name: "the right role", change: func(o *Observation) {
			replica(o)
			asked(o, func(r *RestartRequest) { r.Role = "replica" })
		}, action: Restart{}, reason: RestartRuns},
		{name: "the server is new enough", change: func(o *Observation) {
			o.PG.ServerVersion = 150020
			asked(o, func(r *RestartRequest) { r.Version = 150020 })
		}, reason: LeaderNoAction, check: refused("conditions")},
		{name: "the server is older", change: func(o *Observation) {
			o.PG.ServerVersion = 150019
			asked(o, func(r *RestartRequest) { r.Version = 150020 })
		}, action: Restart{}, reason: RestartRuns},
		{name: "nothing is pending", change: func(o *Observation) { asked(o, func(r *RestartRequest) { r.Pending = true }) }, reason: LeaderNoAction, check: refused("conditions")},
		{name: "something is", change: func(o *Observation) {
			o.PG.PendingRestart = map[string]PendingRestart{"max_connections": {}}
			asked(o, func(r *RestartRequest) { r.Pending = true })
		}, action: Restart{}, reason: RestartRuns},
		{name: "busy", change: func(o *Observation) { replica(o); runs(o, OpRewind); asked(o) }, reason: OperationRuns, check: refused("running pg_rewind already in progress")},
		{name: "handing over", change: func(o *Observation) { o.Memory.Demoting = true; runs(o, OpStop); asked(o) }, reason: OperationRuns, check: refused("already in progress")},
		{name: "to be made anew", change: func(o *Observation) {
			replica(o)
			o.Reinit = Reinit{Serial: 1}
			mem(o, "n2").State = "starting"
			asked(o)
		}, reason: SecondaryNoUpstream, check: refused("reinitialize already in progress")},
		{name: "a restore is ordered", change: func(o *Observation) {
			replica(o)
			o.DCS.Cluster.Restore = &dcs.Restore{ID: "r", Member: "n2", State: dcs.RestoreRequested}
			asked(o)
		}, reason: SecondaryNoAction, check: refused("restore already in progress")},
		{name: "etcd silent", change: func(o *Observation) { silent(o); asked(o) }, reason: OfflineWaiting, check: refused("etcd does not answer")},
		{name: "no directory", change: func(o *Observation) { replica(o); down(o, ""); o.PG.DataDir = DataDirEmpty; asked(o) }, action: Clone{}, reason: CloneRuns, check: refused("data directory")},
		{name: "down: comes up anyway", change: func(o *Observation) { replica(o); down(o, "shut down in recovery"); asked(o) }, action: Start{}, reason: StartAsStandby, check: refused("the server is down")},
		{name: "a primary without the lock", change: func(o *Observation) { lost(o); o.DCS.Cluster.Leader.Name = "n2"; asked(o) }, action: Stop{}, reason: DemoteNoLock, check: refused("leader key")},
		{name: "1.23.18 in pause, leader", change: func(o *Observation) { paused3(o); asked(o) }, action: Restart{}, reason: RestartRuns, check: wants(primary)},
		{name: "1.23.18/scenario 49 in pause, replica that is down", change: func(o *Observation) { replica(o); paused3(o); down(o, "shut down in recovery"); asked(o) }, action: Restart{}, reason: RestartRuns, check: wants(standby)},
		{name: "in pause, a primary that is down and whose key is free", change: func(o *Observation) {
			paused3(o)
			down(o, "shut down")
			lost(o)
			o.DCS.Cluster.Leader = nil
			asked(o)
		}, action: Restart{}, reason: RestartRuns, check: wants(primary)},
		{name: "in pause, a primary that is down beside a leader", change: func(o *Observation) {
			paused3(o)
			down(o, "shut down")
			lost(o)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 110}
			asked(o)
		}, reason: PausedLeaves, check: refused("leader key")},
	})
}

func TestRestartOperation(t *testing.T) { // A2, A4, A6, B2; scenario 75
	runTable(t, []row{
		{name: "A2 the leader keeps the lock", change: func(o *Observation) { runs(o, OpRestart) }, reason: OperationRuns},
		{name: "A2 and renews it", change: func(o *Observation) { runs(o, OpRestart); o.Now = plus(5 * sec) }, action: Renew{}, reason: LeaseRenewal},
		{name: "A4 lock lost: the restart ends", change: func(o *Observation) { lost(o); runs(o, OpRestart) }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "A4 so it does when its time is over", change: func(o *Observation) {
			silent(o)
			o.Now = o.Memory.Lease.StopAt()
			o.Memory.Lease.Attempt = o.Now
			runs(o, OpRestart)
		}, action: CancelOperation{}, reason: OperationCancelled},
		{name: "1.23.14 not in pause", change: func(o *Observation) { paused3(o); lost(o); runs(o, OpRestart) }, reason: OperationRuns},
		{name: "A6 a replica goes on", change: func(o *Observation) { replica(o); runs(o, OpRestart) }, reason: OperationRuns},
		{name: "SIGTERM ends it", change: func(o *Observation) { runs(o, OpRestart); o.Stopping = true }, action: CancelOperation{}, reason: OperationCancelled},
		{name: "75 a leader that does not come up gives the lock away", change: func(o *Observation) {
			down(o, "shut down")
			o.Memory.Restart = RestartMemory{Now: 4, Runs: true}
			o.Restart.Now.Serial = 4
			ended(o, OpRestart, "no")
		}, action: Release{}, reason: StartFailedRelease, check: refused("restart failed: no")},
		{name: "75 a replica is started again by and by", change: func(o *Observation) { replica(o); down(o, "shut down in recovery"); ended(o, OpRestart, "no") }, reason: StartRetryLater},
		{name: "B2 a primary that is still starting when its timeout is over", change: func(o *Observation) {
			o.PG.Process, o.PG.Known = ProcessStarting, false
			answered(o, standbyPeer(1000), standbyPeer(1000))
			ended(o, OpRestart, "postgres is still starting")
		}, action: Stop{}, reason: StartTimeout, check: wants(Stop{Mode: StopImmediate})},
		{name: "B3 nobody could take over", change: func(o *Observation) {
			o.PG.Process, o.PG.Known = ProcessStarting, false
			answered(o, Peer{}, Peer{})
			ended(o, OpRestart, "postgres is still starting")
		}, reason: StartingUp},
		{name: "done", change: func(o *Observation) {
			o.Memory.Restart = RestartMemory{Now: 4, Runs: true}
			o.Restart.Now.Serial = 4
			ended(o, OpRestart, "")
		}, reason: LeaderNoAction, check: func(t *testing.T, d Decision) {
			if r := d.Memory.Restart; r != (RestartMemory{Now: 4}) {
				t.Errorf("%+v", r)
			}
		}},
		{name: "the end of a scheduled one answers nobody", change: func(o *Observation) {
			o.Memory.Restart.Now, o.Restart.Now.Serial = 4, 4
			o.Memory.Restart.Failure = "restart conditions are not satisfied"
			ended(o, OpRestart, "no")
		}, reason: LeaderNoAction, check: refused("conditions")},
	})
}

func TestScheduledRestart(t *testing.T) { // 1.18
	dropped := func(words string) func(*testing.T, Decision) {
		return func(t *testing.T, d Decision) {
			t.Helper()
			if d.Memory.Restart.Scheduled != 5 || !strings.Contains(d.Detail, words) {
				t.Errorf("%+v, %q; want it dropped because %q", d.Memory.Restart, d.Detail, words)
			}
		}
	}
	kept := func(t *testing.T, d Decision) {
		t.Helper()
		if d.Memory.Restart.Scheduled == 5 {
			t.Error("the request is gone")
		}
	}
	runTable(t, []row{
		{name: "not due", change: func(o *Observation) { planned(o, time.Hour) }, reason: LeaderNoAction, check: kept},
		{name: "nearly due: the loop comes back on time", change: func(o *Observation) { planned(o, sec) }, reason: LeaderNoAction, check: func(t *testing.T, d Decision) {
			kept(t, d)
			if d.Wait != sec {
				t.Errorf("waits %v", d.Wait)
			}
		}},
		{name: "due", change: func(o *Observation) { planned(o, 0) }, action: Restart{}, reason: RestartScheduled, check: func(t *testing.T, d Decision) {
			if d.Memory.Restart != (RestartMemory{Scheduled: 5}) {
				t.Errorf("%+v", d.Memory.Restart)
			}
		}},
		{name: "S12 once", change: func(o *Observation) { planned(o, 0); o.Memory.Restart.Scheduled = 5 }, reason: LeaderNoAction},
		{name: "late", change: func(o *Observation) { planned(o, -15*sec) }, action: Restart{}, reason: RestartScheduled},
		{name: "S12 too late", change: func(o *Observation) { planned(o, -15*sec-time.Millisecond) }, reason: RestartDropped, check: dropped("passed")},
		{name: "S12 the tolerance is whole seconds", change: func(o *Observation) { o.Settings.LoopWait = 3 * sec; planned(o, -4*sec-time.Millisecond) }, reason: RestartDropped, check: dropped("passed")},
		{name: "S12 restarted since", change: func(o *Observation) { planned(o, time.Hour); o.PG.PostmasterStartTime = "2026-11-22 09:00:00+00:00" }, reason: RestartDropped, check: dropped("restarted at 2026-11-22 09:00:00+00:00")},
		{name: "scenario 48: the conditions do not hold, and it does not happen later", change: func(o *Observation) { planned(o, 0).Role = "replica" }, reason: RestartDropped, check: dropped("conditions")},
		{name: "1.23.17 in pause it waits, however late", change: func(o *Observation) { paused3(o); planned(o, -time.Hour) }, reason: PausedNoAction, check: kept},
		{name: "without a leader it waits", change: func(o *Observation) { leaderless(o); o.Peers.AskedAt = 0; planned(o, 0) }, action: AskPeers{}, reason: ElectionAsks, check: kept},
		{name: "during an operation it waits", change: func(o *Observation) { replica(o); runs(o, OpCheckDivergence); planned(o, 0) }, reason: OperationRuns, check: kept},
		{name: "replica", change: func(o *Observation) { replica(o); planned(o, -sec) }, action: Restart{}, reason: RestartScheduled},
	})
}

// TestScheduledRestartPublished compares with a recorded member key.
func TestScheduledRestartPublished(t *testing.T) {
	o := base()
	r := planned(o, time.Hour)
	r.Document = []byte(`{"schedule":"2026-11-22T09:04:19+00:00","restart_pending":true}`)
	r.PostmasterStart = "2026-11-22 08:03:59.253403+00:00"
	m, err := dcs.DecodeMember("pg-db-02", []byte(golden(t, "pending-restart.json")["members/pg-db-02"]))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(MemberDocument(o).ScheduledRestart); got != string(m.ScheduledRestart) || got == "" {
		t.Errorf("got %s, recorded %s", got, m.ScheduledRestart)
	}
	o.Memory.Restart.Scheduled = r.Serial
	if got := MemberDocument(o).ScheduledRestart; got != nil {
		t.Errorf("a request that was taken up is still published: %s", got)
	}
	d := Decision{Memory: Memory{Restart: RestartMemory{Now: 3, Runs: true, Failure: "x"}}}
	if v := NewView(o, &d); v.Restart != (RestartState{Now: 3, Runs: true, Failure: "x"}) || string(v.ScheduledRestart) != string(r.Document) {
		t.Errorf("view %+v %s", v.Restart, v.ScheduledRestart)
	}
}

func TestRestartStates(t *testing.T) {
	o := base()
	runs(o, OpRestart)
	down(o, "shut down")
	if o.State() != "restarting" || o.Role() != "primary" {
		t.Errorf("%s %s", o.State(), o.Role())
	}
	o = base()
	down(o, "shut down")
	ended(o, OpRestart, "no")
	d := decide(o)
	o.Memory = d.Memory
	if o.State() != "restart failed" {
		t.Errorf("%s", o.State())
	}
}
