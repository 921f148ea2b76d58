package ha

import (
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// TestObstacles: each fact fires its obstacle alone, and without it there is none.
func TestObstacles(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(o *Observation)
		want   string // codes
	}{
		"a leader":          {func(*Observation) {}, ""},
		"a healthy standby": {replica, ""},
		"nobody leads":      {leaderless, ""},
		"asked to end":      {func(o *Observation) { replica(o); o.Stopping = true }, "stopping"},
		"etcd is away":      {func(o *Observation) { replica(o); o.DCS.Fresh = false }, "etcd"},
		"paused":            {func(o *Observation) { replica(o); o.Settings.Pause = true }, "paused"},
		"nofailover":        {func(o *Observation) { replica(o); o.Settings.NoFailover = true }, "nofailover"},
		"a copy is made":    {func(o *Observation) { replica(o); runs(o, OpClone); o.PG.DataDir = DataDirHalfMade; down(o, "") }, "operation data_directory"},
		"nothing there":     {func(o *Observation) { replica(o); o.PG.DataDir = DataDirEmpty; down(o, "") }, "data_directory"},
		"not readable":      {func(o *Observation) { replica(o); o.PG.DataDir = DataDirUnreadable; down(o, "") }, "data_directory"},
		"starting":          {func(o *Observation) { replica(o); down(o, ""); o.PG.Process = ProcessStarting }, "server"},
		"down":              {func(o *Observation) { replica(o); down(o, "shut down") }, "server"},
		"silent":            {func(o *Observation) { replica(o); o.PG.Known = false }, "server"},
		"replay paused":     {func(o *Observation) { replica(o); o.PG.Row.ReplayPaused = true }, "replay_paused"},
		"diverged":          {func(o *Observation) { replica(o); o.Memory.Rewind = RewindNeed }, "rewind"},
		"rewind failed":     {func(o *Observation) { replica(o); o.Memory.Rewind = RewindFailed }, "rewind"},
		"copy held":         {func(o *Observation) { replica(o); o.Memory.Reinit.Held = true }, "reinit"},
		"watchdog":          {func(o *Observation) { replica(o); unwatched(o) }, "watchdog"},
		"leash":             {func(o *Observation) { replica(o); o.Leash.Attached = false }, "leash"},
		"foreign":           {func(o *Observation) { replica(o); o.PG.SystemID = "7000000000000000001" }, "foreign"},
		"no initialize":     {func(o *Observation) { replica(o); o.DCS.Cluster.Initialize = nil }, "initialize"},
		"restore elsewhere": {func(o *Observation) {
			replica(o)
			o.DCS.Cluster.Restore = &dcs.Restore{ID: "x", State: dcs.RestoreRequested, Member: "n2"}
		}, "restore"},
		"not in /failsafe": {func(o *Observation) {
			replica(o)
			o.Settings.Failsafe = true
			o.DCS.Cluster.Failsafe = &dcs.Failsafe{Members: map[string]string{"n2": "u"}}
		}, "failsafe"},
		"promised": {func(o *Observation) { replica(o); o.Promise = Promise{Leader: "n2", Until: plus(5 * sec)} }, "promise"},
		"timeline": {func(o *Observation) {
			replica(o)
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 4}}}
		}, "timeline"},
		"lag":               {func(o *Observation) { replica(o); o.DCS.Cluster.Status.Optime = 1000 + 1<<20 + 1 }, "lag"},
		"lag at the border": {func(o *Observation) { replica(o); o.DCS.Cluster.Status.Optime = 1000 + 1<<20 }, ""},
		"not streaming":     {func(o *Observation) { replica(o); o.PG.Row.ReplicationState = "" }, "not_streaming"},
		"another is asked":  {func(o *Observation) { replica(o); failover(o, "n2", "n3") }, "request"},
		"this one is asked": {func(o *Observation) { replica(o); failover(o, "n2", "n1") }, ""},
		"quarantine":        {func(o *Observation) { replica(o); o.Memory.Quarantine.Why = "its cluster is another" }, "quarantine"},
		"no synchronous standby": {func(o *Observation) {
			replica(o)
			o.Settings.Sync.Mode = config.SyncOn
			o.DCS.Cluster.Sync = &dcs.Sync{Leader: "n2", Standbys: []string{"n3"}}
		}, "sync"},
		"hold-off": {func(o *Observation) { leaderless(o); o.Memory.SeenAt = plus(-sec) }, "hold_off"},
		"yields":   {func(o *Observation) { leaderless(o); o.Memory.YieldUntil = plus(sec) }, "yield"},
		"more WAL elsewhere": {func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.Status.Beat.Released = true
			o.DCS.Cluster.Status.Optime = 1001
		}, "more_wal"},
		"somebody is ahead": {func(o *Observation) { leaderless(o); answered(o, Peer{}, standbyPeer(2000)) }, "race"},
	} {
		t.Run(name, func(t *testing.T) {
			o := base()
			tc.change(o)
			var codes []string
			for _, ob := range obstacles(o) {
				codes = append(codes, ob.Code)
				if ob.Text == "" || strings.Contains(ob.Text, "\n") {
					t.Errorf("%s has the text %q", ob.Code, ob.Text)
				}
				ends := strings.Contains("promise hold_off yield more_wal", ob.Code)
				if ends != (ob.Until > o.Now) {
					t.Errorf("%s ends at %d", ob.Code, ob.Until)
				}
			}
			if got := strings.Join(codes, " "); got != tc.want {
				t.Errorf("obstacles %q, want %q", got, tc.want)
			}
		})
	}
}

// TestObstaclesFitTheElection: a node without an obstacle is one that takes the
// free key.
func TestObstaclesFitTheElection(t *testing.T) {
	o := base()
	leaderless(o)
	if d := decide(o); d.Reason != ElectionWins || len(obstacles(o)) != 0 {
		t.Errorf("%s, and %v", d.Reason, obstacles(o))
	}
	for _, spoil := range []func(*Observation){
		func(o *Observation) { o.Settings.NoFailover = true },
		func(o *Observation) { o.DCS.Cluster.Status.Optime = 1 << 40 },
		func(o *Observation) { o.Memory.SeenAt = plus(-sec) },
		func(o *Observation) { answered(o, Peer{}, standbyPeer(2000)) },
		unwatched,
	} {
		o := base()
		leaderless(o)
		spoil(o)
		if d := decide(o); d.Reason == ElectionWins || len(obstacles(o)) == 0 {
			t.Errorf("%s, and %v", d.Reason, obstacles(o))
		}
	}
}
