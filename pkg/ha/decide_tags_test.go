package ha

import (
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// TestTags: what the tags of a member change (wire contract §1.9).
func TestTags(t *testing.T) {
	tag := func(o *Observation, name string, value any) {
		o.Settings.Tags = append(o.Settings.Tags, dcs.Tag{Name: name, Value: value})
	}
	of := func(o *Observation, who, name string, value any) {
		mem(o, who).Tags = append(mem(o, who).Tags, dcs.Tag{Name: name, Value: value})
	}
	runTable(t, []row{
		{name: "nostream: follows nobody", change: func(o *Observation) { replica(o); tag(o, "nostream", true) }, action: Follow{}, reason: SecondaryFollows, check: wants(Follow{})},
		{name: "nostream: also after a restart of its agent", change: func(o *Observation) {
			replica(o)
			tag(o, "nostream", true)
			o.PG.Upstream, o.PG.UpstreamURL = "", ""
		}, action: Follow{}, reason: SecondaryFollows, check: wants(Follow{})},
		{name: "nostream: then it is left to the archive", change: func(o *Observation) {
			replica(o)
			tag(o, "nostream", true)
			o.PG.Upstream, o.PG.UpstreamURL, o.PG.Row.ReplicationState = "", "", "in archive recovery"
		}, reason: SecondaryNoAction, check: func(t *testing.T, d Decision) {
			if d.Wait < sec {
				t.Errorf("looks again after %v", d.Wait)
			}
		}},
		{name: "nostream: starts on nobody", change: func(o *Observation) { replica(o); tag(o, "nostream", true); down(o, "shut down in recovery") }, action: Start{}, reason: StartAsStandby, check: wants(Start{})},
		{name: "nostream in pause: left as it is", change: func(o *Observation) { replica(o); paused3(o); tag(o, "nostream", true) }, reason: PausedNoAction},
		{name: "nostream: no slot for it", change: func(o *Observation) {
			o.Settings.UseSlots, o.PG.Slots = true, physical(map[string]wal.LSN{"n3": 1})
			of(o, "n2", "nostream", true)
		}, reason: LeaderNoAction},
		{name: "replicatefrom", change: func(o *Observation) { replica(o); o.Settings.ReplicateFrom = "n3" }, action: Follow{}, reason: SecondaryFollows,
			check: wants(Follow{Upstream: Upstream{Member: "n3", ConnURL: "postgres://n3:5432/postgres", Checkpointed: true}})},
		{name: "replicatefrom: somebody who is not there", change: func(o *Observation) { replica(o); o.Settings.ReplicateFrom = "n9" }, reason: SecondaryNoAction},
		{name: "replicatefrom: itself", change: func(o *Observation) { replica(o); o.Settings.ReplicateFrom = "n1" }, reason: SecondaryNoAction},
		{name: "clonefrom: copied from that member", change: func(o *Observation) {
			replica(o)
			down(o, "")
			o.PG.DataDir = DataDirEmpty
			of(o, "n3", "clonefrom", true)
		}, action: Clone{}, reason: CloneRuns, check: func(t *testing.T, d Decision) {
			if a := d.Action.(Clone); a.From.Member != "n3" {
				t.Errorf("copies %s", a.From.Member)
			}
		}},
		{name: "clonefrom: not while it does not run", change: func(o *Observation) {
			replica(o)
			down(o, "")
			o.PG.DataDir = DataDirEmpty
			of(o, "n3", "clonefrom", true)
			mem(o, "n3").State = "starting"
		}, action: Clone{}, reason: CloneRuns, check: func(t *testing.T, d Decision) {
			if a := d.Action.(Clone); a.From.Member != "n2" {
				t.Errorf("copies %s", a.From.Member)
			}
		}},
		{name: "clonefrom: after a copy that failed the others have their turn", change: func(o *Observation) {
			replica(o)
			down(o, "")
			o.PG.DataDir = DataDirEmpty
			of(o, "n3", "clonefrom", true)
			ended(o, OpClone, "broken")
			o.Op.Ended, o.Op.Serial = plus(-60*sec), 3
			o.Memory.FailedOp, o.Memory.OpSeen = o.Op.Ended, 3
		}, action: Clone{}, reason: CloneRuns, check: func(t *testing.T, d Decision) {
			if a := d.Action.(Clone); a.From.Member != "n2" {
				t.Errorf("copies %s", a.From.Member)
			}
		}},
		{name: "a delayed standby is not looked at all the time", change: func(o *Observation) {
			replica(o)
			mem(o, "n2").Timeline, o.PG.Row.Replay = 2, 900
		}, reason: SecondaryNoAction, check: func(t *testing.T, d Decision) {
			if d.Wait < sec {
				t.Errorf("looks again after %v", d.Wait)
			}
		}},
		{name: "one that has just moved to a timeline is", change: func(o *Observation) {
			replica(o)
			mem(o, "n2").Timeline = 2
		}, reason: SecondaryNoAction, check: func(t *testing.T, d Decision) {
			if d.Wait > sec {
				t.Errorf("looks again after %v", d.Wait)
			}
		}},
		{name: "nofailover: no race", change: func(o *Observation) { leaderless(o); o.Settings.NoFailover = true }, reason: ElectionRefused},
		{name: "61 failover_priority 0: nobody to hand over to", change: func(o *Observation) {
			failover(o, "n1", "n2")
			of(o, "n2", "failover_priority", 0)
			answered(o, standbyPeer(1000), standbyPeer(1000))
		}, action: CleanFailover{}, reason: FailoverCleaned},
		{name: "62 failover_priority: the higher goes first", change: func(o *Observation) {
			leaderless(o)
			p := standbyPeer(1000)
			p.Priority = 2
			o.Peers.Answers["n3"] = p
		}, reason: ElectionRefused},
		{name: "62 unless it is behind", change: func(o *Observation) {
			leaderless(o)
			p := standbyPeer(999)
			p.Priority = 2
			o.Peers.Answers["n3"] = p
		}, action: Claim{}, reason: ElectionWins},
		{name: "F6 replay that PostgreSQL paused goes on", change: func(o *Observation) { replica(o); o.PG.ServerVersion, o.PG.Row.ReplayPaused = 150000, true }, action: ResumeReplay{}, reason: SecondaryResumes},
		{name: "F6 not before version 14, where an operator did it", change: func(o *Observation) { replica(o); o.PG.ServerVersion, o.PG.Row.ReplayPaused = 130000, true }, reason: SecondaryNoAction},
		{name: "F6 and not in a tight loop", change: func(o *Observation) {
			replica(o)
			o.PG.ServerVersion, o.PG.Row.ReplayPaused = 150000, true
			did(o, ResumeReplay{}, ResultOK)
		}, reason: SecondaryNoAction},
	})
}
