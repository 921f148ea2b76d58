package ha

import (
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// onDuty: n1 is the synchronous standby of n2, and is to be stopped.
func onDuty(change func(o *Observation)) func(o *Observation) {
	return func(o *Observation) {
		replica(o)
		o.Settings.Sync = SyncSettings{Mode: config.SyncOn, Count: 1}
		o.DCS.Cluster.Sync = &dcs.Sync{Leader: "n2", Standbys: []string{"n1"}, ModRevision: 30}
		o.Settings.Tags = dcs.Tags{{Name: "sync_priority", Value: int64(2)}, {Name: "zone", Value: "a"}}
		change(o)
	}
}

func TestRelievedOfSyncDuty(t *testing.T) { // 3.7
	restart := func(o *Observation) { o.Restart.Now = RestartRequest{Serial: 1} }
	term := func(o *Observation) { o.Stopping = true }
	and := func(all ...func(o *Observation)) func(o *Observation) {
		return onDuty(func(o *Observation) {
			for _, do := range all {
				do(o)
			}
		})
	}
	runTable(t, []row{
		{name: "a restart waits", change: and(restart), reason: SyncLeaves, check: func(t *testing.T, d Decision) {
			if d.Memory.LeavesSync != noon || d.Memory.Restart.Now != 0 || d.Wait != 10*sec {
				t.Errorf("since %v, request %d, wait %v", d.Memory.LeavesSync, d.Memory.Restart.Now, d.Wait)
			}
			o := base()
			onDuty(restart)(o)
			o.Memory = d.Memory
			mem := MemberDocument(o)
			if !mem.NoSync() || mem.SyncPriority() != 0 || mem.Tags.String("zone") != "a" {
				t.Errorf("publishes %+v", mem.Tags)
			}
		}},
		{name: "so does the end of the agent", change: and(term), reason: SyncLeaves},
		{name: "and a restart whose time has come", change: and(func(o *Observation) {
			o.Restart.Scheduled = RestartRequest{Serial: 1, At: o.Wall, Document: []byte("{}")}
		}), reason: SyncLeaves},
		{name: "not for ever", change: and(restart, func(o *Observation) { o.Memory.LeavesSync = plus(-20 * sec) }), action: Restart{}, reason: RestartRuns},
		{name: "relieved", change: and(restart, func(o *Observation) {
			o.Memory.LeavesSync, o.DCS.Cluster.Sync.Standbys = plus(-sec), []string{"n3"}
		}), action: Restart{}, reason: RestartRuns},
		{name: "it publishes so until the server is back", change: and(func(o *Observation) {
			o.Memory.LeavesSync = plus(-sec)
			runs(o, OpRestart)
		}), reason: OperationRuns, check: func(t *testing.T, d Decision) {
			if d.Memory.LeavesSync == 0 {
				t.Error("not any more")
			}
		}},
		{name: "and no longer", change: and(func(o *Observation) { o.Memory.LeavesSync = plus(-sec) }), reason: SecondaryNoAction, check: func(t *testing.T, d Decision) {
			if d.Memory.LeavesSync != 0 {
				t.Error("it still does")
			}
		}},
		{name: "no duty by configuration", change: and(restart, func(o *Observation) { o.Settings.Tags = dcs.Tags{{Name: "nosync", Value: true}} }),
			action: Restart{}, reason: RestartRuns},
		{name: "a name that another leader wrote is nobody's duty", change: and(term, func(o *Observation) { o.DCS.Cluster.Sync.Leader = "n3" }),
			action: Stop{}, reason: StoppingServer},
		{name: "without synchronous mode", change: and(term, func(o *Observation) { o.Settings.Sync.Mode = config.SyncOff }), action: Stop{}, reason: StoppingServer},
		{name: "etcd is silent: it goes without", change: and(term, func(o *Observation) { o.DCS.Fresh = false }), action: Stop{}, reason: StoppingServer},
	})
}
