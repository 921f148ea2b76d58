package ha

import (
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// TestScars: what once went wrong with Patroni in production, as far as no other
// table has it; the numbers are those of docs/scenarios.md.
func TestScars(t *testing.T) {
	tagged := func(name string, value any) dcs.Tags { return dcs.Tags{{Name: name, Value: value}} }
	names := func(want string) func(*testing.T, Decision) {
		return func(t *testing.T, d Decision) {
			if a := d.Action.(SetSyncNames); a.Names == nil || *a.Names != want {
				t.Errorf("names %v, want %s", a.Names, want)
			}
		}
	}
	runTable(t, []row{
		{name: "scar 52: what streams under my own name is no standby of mine", change: func(o *Observation) {
			*o = *inSyncMode(config.SyncOn)
			o.PG.Row.Replication = []Replication{streamer("n1", 1000), streamer("n3", 1000)}
		}, action: SetSyncNames{}, reason: SyncSetsNames, check: names("n3")},
		{name: "scar 60: a nofailover standby does synchronous duty only where nobody else can", change: func(o *Observation) {
			*o = *inSyncMode(config.SyncOn)
			mem(o, "n2").Tags = tagged("nofailover", true)
		}, action: SetSyncNames{}, reason: SyncSetsNames, check: names("n3")},
		{name: "scar 60: and there it does", change: func(o *Observation) {
			*o = *inSyncMode(config.SyncOn)
			mem(o, "n2").Tags = tagged("nofailover", true)
			o.PG.Row.Replication = []Replication{streamer("n2", 1000)}
		}, action: SetSyncNames{}, reason: SyncSetsNames, check: names("n2")},
		{name: "scar 61: a row without positions is skipped", change: func(o *Observation) {
			*o = *inSyncMode(config.SyncOn)
			o.PG.Row.Replication = []Replication{streamer("n2", 0), streamer("n3", 1000)}
		}, action: SetSyncNames{}, reason: SyncSetsNames, check: names("n3")},
		{name: "scar 62: synchronous mode, and /sync is gone", change: func(o *Observation) {
			leaderless(o)
			o.Settings.Sync = SyncSettings{Mode: config.SyncOn, Count: 1, MaxLag: -1}
			o.DCS.Cluster.Sync = nil
		}, action: Claim{}, reason: ElectionWins},
		{name: "scar 72/scenario 72: nosync in quorum mode is no voter", change: func(o *Observation) {
			*o = *inSyncMode(config.SyncQuorum)
			mem(o, "n2").Tags = tagged("nosync", true)
		}, action: SetSyncNames{}, reason: SyncSetsNames, check: names("ANY 1 (n3)")},
		{name: "scar 100: in pause, without a leader, a nofailover replica is not touched", change: func(o *Observation) {
			leaderless(o)
			paused3(o)
			o.Settings.NoFailover = true
		}, reason: PausedNoAction},
		{name: "scar 110: in pause a server that died stays down", change: func(o *Observation) { replica(o); paused3(o); down(o, "in production") }, reason: PausedLeaves},
		{name: "scar 124: in pause an empty directory is not bootstrapped", change: func(o *Observation) {
			lost(o)
			paused3(o)
			down(o, "")
			o.PG.DataDir, o.Leash.Armed = DataDirEmpty, 0
			o.DCS.Cluster.Leader, o.DCS.Cluster.Initialize, o.DCS.Cluster.Status = nil, nil, nil
		}, reason: PausedLeaves},
		{name: "scar 124: nor copied", change: func(o *Observation) {
			replica(o)
			paused3(o)
			down(o, "")
			o.PG.DataDir = DataDirEmpty
		}, reason: PausedLeaves},
	})
}
