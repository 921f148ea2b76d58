package ha

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

func TestServerDown(t *testing.T) { // G4, R1-R11, S11, 5.x
	dead := func(o *Observation) { down(o, "in production") }
	member := func(o *Observation) { replica(o); down(o, "shut down in recovery") }
	ex := func(o *Observation) { replica(o); down(o, "in production"); o.PG.StandbySignal = false }
	runTable(t, []row{
		{name: "R2 crashed primary starts in place", change: dead, action: Start{}, reason: StartAsPrimary, check: wants(Start{Primary: true})},
		{name: "R2 not before the leash is armed", change: func(o *Observation) { dead(o); o.Leash.Armed = 0 }, action: ArmLeash{}, reason: LeaderArming},
		{name: "R7 lock mine, but it was a standby: read-only", change: func(o *Observation) { dead(o); o.PG.StandbySignal = true }, action: Start{}, reason: StartReadOnly, check: wants(Start{})},
		{name: "R7 lock mine, archive recovery", change: func(o *Observation) { down(o, "in archive recovery") }, action: Start{}, reason: StartReadOnly},
		{name: "R2 not without a watchdog that is required", change: func(o *Observation) { dead(o); o.Leash.Armed = 0; unwatched(o) }, action: Release{}, reason: LeaderUnwatched},
		{name: "R2 synchronous mode was switched off: nobody may elect by what is left of it (S5)", change: func(o *Observation) {
			dead(o)
			o.DCS.Cluster.Sync = &dcs.Sync{Leader: "n1", Standbys: []string{"n2"}, ModRevision: 9}
		}, action: WriteSync{}, reason: SyncPublishes, check: wants(WriteSync{Sync: dcs.Sync{ModRevision: 9}})},
		{name: "R2 with a watchdog that is not required", change: func(o *Observation) { dead(o); unwatched(o); o.Settings.WatchdogRequired = false }, action: Start{}, reason: StartAsPrimary},
		{name: "R1 start timeout 0: asks", change: func(o *Observation) { dead(o); o.Settings.PrimaryStartTimeout = 0 }, action: AskPeers{}, reason: CrashAskPeers},
		{name: "R1 start timeout 0: all are asked again when one was not", change: func(o *Observation) {
			dead(o)
			o.Settings.PrimaryStartTimeout = 0
			answered(o, standbyPeer(1000), standbyPeer(1000))
			delete(o.Peers.Answers, "n3")
		}, action: AskPeers{}, reason: CrashAskPeers, check: func(t *testing.T, d Decision) {
			if a := d.Action.(AskPeers); len(a.Await) != 2 {
				t.Errorf("asks %d members: the answer of the other would be lost, and it asked next", len(a.Await))
			}
		}},
		{name: "R1 start timeout 0: fails over", change: func(o *Observation) {
			dead(o)
			o.Settings.PrimaryStartTimeout = 0
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, action: Release{}, reason: CrashFailover, check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "R1 start timeout 0, nobody can: starts", change: func(o *Observation) {
			dead(o)
			o.Settings.PrimaryStartTimeout = 0
			answered(o, Peer{}, Peer{})
		}, action: Start{}, reason: StartAsPrimary},
		{name: "S11 the start failed: release", change: func(o *Observation) { dead(o); ended(o, OpStartPrimary, "bad setting") }, action: Release{}, reason: StartFailedRelease},
		{name: "1.21 stopped to hand over: release", change: func(o *Observation) {
			down(o, "shut down")
			o.Memory.Demoting = true
			ended(o, OpStop, "")
			o.Op.ShutdownLSN = 4242
		}, action: Release{}, reason: HandOverStops, check: wants(Release{Epoch: myEpoch, Clean: true, Optime: 4242})},
		{name: "1.21 a release that may arrive yet: nothing but releasing again", change: func(o *Observation) {
			dead(o)
			did(o, Release{Epoch: myEpoch, Clean: true}, ResultUnknown)
		}, action: Release{}, reason: HandOverStops},
		{name: "1.21 also for a standby with the lock", change: func(o *Observation) { standbyLeaderToBe(o); o.Memory.Releasing = myEpoch }, action: Release{}, reason: HandOverStops},
		{name: "1.21 also when the lease lapsed meanwhile", change: func(o *Observation) { dead(o); lost(o); o.Memory.Releasing = myEpoch }, action: Release{}, reason: HandOverStops},
		{name: "1.21 released: others go first", change: func(o *Observation) {
			leaderless(o)
			down(o, "shut down")
			o.Memory.YieldUntil = plus(sec)
		}, reason: HandOverYield},
		{name: "R11 starts as a replica of the leader", change: member, action: Start{}, reason: StartAsStandby,
			check: wants(Start{Upstream: Upstream{Member: "n2", ConnURL: "postgres://n2:5432/postgres", Checkpointed: true}})},
		{name: "1.14 of the member it replicates from", change: func(o *Observation) { member(o); o.Settings.ReplicateFrom = "n3" }, action: Start{}, reason: StartAsStandby,
			check: wants(Start{Upstream: Upstream{Member: "n3", ConnURL: "postgres://n3:5432/postgres", Checkpointed: true}})},
		{name: "G4 one attempt per period", change: func(o *Observation) { member(o); o.Memory.FailedStart = plus(-sec) }, reason: StartRetryLater},
		{name: "B.6 an armed leash is told first", change: func(o *Observation) { member(o); o.Leash.Armed = 50 }, action: DisarmLeash{}, reason: SecondaryDisarms, check: wants(DisarmLeash{Epoch: 50})},
		{name: "B.3 my own last beat is marked as released", change: func(o *Observation) {
			leaderless(o)
			down(o, "in production")
			o.DCS.Cluster.Status.Beat.Holder = "h1"
		}, action: PublishReleased{}, reason: TakeBackFinished},
		{name: "R5 leaderless and unclean: crash recovery", change: func(o *Observation) { leaderless(o); down(o, "in production"); o.PG.StandbySignal = false }, action: CrashRecovery{}, reason: CrashRecoveryRunning},
		{name: "R5 once", change: func(o *Observation) {
			leaderless(o)
			down(o, "in production")
			o.Memory.Recovered = true
		}, action: Start{}, reason: StartReadOnly, check: wants(Start{})},
		{name: "R4 not with a backup label", change: func(o *Observation) {
			leaderless(o)
			down(o, "in production")
			o.PG.Control.HasBackupLabel = true
		}, action: Start{}, reason: StartReadOnly},
		{name: "G4 leaderless: one attempt per period", change: func(o *Observation) {
			leaderless(o)
			down(o, "shut down in recovery")
			o.Memory.FailedStart = plus(-sec)
		}, reason: StartRetryLater},
		{name: "R8 an unclean ex-primary recovers before the comparison", change: func(o *Observation) { ex(o); o.Memory.armRewind() }, action: CrashRecovery{}, reason: CrashRecoveryRunning},
		{name: "R8/5.2 then compares", change: func(o *Observation) { ex(o); o.Memory.armRewind(); ended(o, OpCrashRecovery, "") }, action: CheckDivergence{}, reason: DivergenceChecking},
		{name: "5.2 not diverged: starts", change: func(o *Observation) {
			ex(o)
			o.Memory.armRewind()
			ended(o, OpCheckDivergence, "")
			o.Op.Divergence = DivergenceNone
		}, action: Start{}, reason: StartAsStandby},
		{name: "5.2 diverged: rewinds", change: func(o *Observation) {
			ex(o)
			o.PG.Control.State = "shut down"
			o.Memory.armRewind()
			ended(o, OpCheckDivergence, "")
			o.Op.Divergence = DivergenceFound
		}, action: Rewind{}, reason: RewindRunning},
		{name: "5.2 unknown: starts, and asks again later", change: func(o *Observation) {
			ex(o)
			o.PG.Control.State = "shut down"
			o.Memory.armRewind()
			ended(o, OpCheckDivergence, "cannot connect")
		}, action: Start{}, reason: StartAsStandby},
		{name: "S13/5.4.3 waits for the leader's checkpoint", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind = RewindNeed
			no := false
			mem(o, "n2").CheckpointAfterPromote = &no
		}, reason: RewindWaitsForLeader},
		{name: "5.2 the leader is not running yet", change: func(o *Observation) { ex(o); o.Memory.Rewind = RewindNeed; mem(o, "n2").Role = "replica" }, reason: SecondaryNoUpstream},
		{name: "5.2 dirty standby recovers before the rewind", change: func(o *Observation) {
			ex(o)
			o.PG.Control.State, o.Memory.Rewind = "in archive recovery", RewindNeed
		}, action: CrashRecovery{}, reason: CrashRecoveryRunning},
		{name: "5.4.5 a failed rewind is repeated once per period", change: func(o *Observation) {
			ex(o)
			o.PG.Control.State, o.Memory.Rewind = "shut down", RewindNeed
			ended(o, OpRewind, "leader went away")
		}, reason: RewindRunning},
		{name: "5.4.6 damaged, wiping allowed: copies", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind, o.Settings.WipeOnRewindFailure = RewindNeed, true
			ended(o, OpRewind, "damaged")
			o.Op.Damaged = true
		}, action: Clone{}, reason: ReinitDiverged},
		{name: "S9 damaged, but the leader does not run: nothing is wiped", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind, o.Settings.WipeOnRewindFailure = RewindFailed, true
			mem(o, "n2").Role = "replica"
		}, reason: SecondaryNoUpstream},
		{name: "5.4.6 damaged, wiping not allowed: just starts", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind = RewindNeed
			ended(o, OpRewind, "damaged")
			o.Op.Damaged = true
		}, action: Start{}, reason: StartAsStandby},
		{name: "5.2 rewind impossible, wiping allowed: copies", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind, o.PG.CanRewind, o.Settings.WipeOnDivergence = RewindNeed, false, true
		}, action: Clone{}, reason: ReinitDiverged},
		{name: "5.1 nothing could be done: just starts", change: func(o *Observation) {
			ex(o)
			o.Memory.Rewind, o.PG.CanRewind = RewindNeed, false
		}, action: Start{}, reason: StartAsStandby},
	})
}

func TestFollow(t *testing.T) { // H8, table F
	runTable(t, []row{
		{name: "H8 a streaming standby has nothing to do", change: replica, reason: SecondaryNoAction},
		{name: "F4b a primary under another's lock stops", change: func(o *Observation) { lost(o); o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 110} }, action: Stop{}, reason: DemoteNoLock,
			check: wants(Stop{Mode: StopImmediate})},
		{name: "F4b a standby that may still be promoted stops, too", change: func(o *Observation) { replica(o); o.Memory.Promoting = true }, action: Stop{}, reason: DemoteNoLock, check: wants(Stop{Mode: StopImmediate})},
		{name: "F4b also when it does not answer", change: func(o *Observation) {
			lost(o)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 110}
			o.PG.Known, o.PG.Process = false, ProcessUnsure
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "B.6 a standby disarms the leash", change: func(o *Observation) { replica(o); o.Leash.Armed = 50 }, action: DisarmLeash{}, reason: SecondaryDisarms},
		{name: "S19 a standby that does not answer is left", change: func(o *Observation) { replica(o); o.PG.Known = false }, reason: SecondaryNoAction},
		{name: "F8 new leader: re-points", change: func(o *Observation) { replica(o); upstream(o, "n3") }, action: Follow{}, reason: SecondaryFollows},
		{name: "F8 a failed re-pointing is not repeated at once", change: func(o *Observation) {
			replica(o)
			upstream(o, "n3")
			did(o, Follow{Upstream: Upstream{Member: "n2", ConnURL: "postgres://n2:5432/postgres", Checkpointed: true}}, ResultFailed)
		}, reason: SecondaryFollows},
		{name: "1.14 replicatefrom", change: func(o *Observation) { replica(o); o.Settings.ReplicateFrom = "n3" }, action: Follow{}, reason: SecondaryFollows,
			check: wants(Follow{Upstream: Upstream{Member: "n3", ConnURL: "postgres://n3:5432/postgres", Checkpointed: true}})},
		{name: "1.14 replicatefrom of an absent member", change: func(o *Observation) { replica(o); o.Settings.ReplicateFrom = "n7" }, reason: SecondaryNoAction},
		{name: "H8 leader not running yet", change: func(o *Observation) { replica(o); mem(o, "n2").Role = "replica" }, reason: SecondaryNoUpstream},
		{name: "F5 a new leadership is compared with", change: func(o *Observation) {
			replica(o)
			o.Memory.LastEpoch, o.Memory.RewindFor, o.PG.Row.ReplicationState = 80, 80, ""
		}, action: CheckDivergence{}, reason: DivergenceChecking},
		{name: "F5 streaming on the leader's timeline is proof enough", change: func(o *Observation) { replica(o); o.Memory.LastEpoch = 80 }, reason: SecondaryNoAction,
			check: func(t *testing.T, d Decision) {
				if d.Memory.Rewind != RewindIdle {
					t.Errorf("rewind state %d", d.Memory.Rewind)
				}
			}},
		{name: "F10 leader's timeline is newer and nothing streams", change: func(o *Observation) {
			replica(o)
			mem(o, "n2").Timeline, o.PG.Row.ReplicationState = 2, ""
		}, action: CheckDivergence{}, reason: DivergenceChecking},
		{name: "F10 but it is not compared all the time", change: func(o *Observation) {
			replica(o)
			mem(o, "n2").Timeline, o.PG.Row.ReplicationState = 2, ""
			o.Memory.armRewind()
			ended(o, OpCheckDivergence, "")
			o.Op.Divergence = DivergenceNone
		}, reason: SecondaryNoAction},
		{name: "F5 diverged while running: stops for the rewind", change: func(o *Observation) { replica(o); o.Memory.Rewind = RewindNeed }, action: Stop{}, reason: StopForRewind},
		{name: "4.2 a standby keeps slots for the others", change: func(o *Observation) {
			replica(o)
			o.Settings.UseSlots, o.Settings.MemberSlotsTTL = true, time.Hour
			o.PG.Slots = physical(map[string]wal.LSN{})
		}, action: SyncSlots{}, reason: SecondarySlots},
		{name: "S4b after pause the WAL is compared again", change: func(o *Observation) {
			replica(o)
			o.Memory.WasPaused, o.Memory.Rewind, o.PG.Row.ReplicationState = true, RewindFailed, ""
		}, action: CheckDivergence{}, reason: DivergenceChecking},
	})
}

// TestOutdatedMemberKey (S13): what the leader's key says of its checkpoint counts
// only if it was written after the promotion that its beat tells of.
func TestOutdatedMemberKey(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *dcs.Beat, key *dcs.Member)
		want   bool
	}{
		"up to date":                     {func(*dcs.Beat, *dcs.Member) {}, false},
		"of a timeline before":           {func(b *dcs.Beat, _ *dcs.Member) { b.Timeline = 2 }, true},
		"a promotion is announced":       {func(b *dcs.Beat, _ *dcs.Member) { b.Timeline, b.Next = 1, 2 }, true},
		"written since that was claimed": {func(b *dcs.Beat, key *dcs.Member) { b.Timeline, b.Next, key.ModRevision = 1, 2, 95 }, false},
	} {
		o := base()
		replica(o)
		c.change(o.DCS.Cluster.Status.Beat, mem(o, "n2"))
		if got := o.outdated(mem(o, "n2")); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
