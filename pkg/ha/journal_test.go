package ha

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// moment is one turn of a story: what is different from the turn before.
type moment func(o *Observation)

// tell turns through a story and returns its events, one a line. The decisions
// are real.
func tell(t *testing.T, story ...moment) (lines []string, all []dcs.Event) {
	t.Helper()
	o := base()
	var j Journal
	timing, _ := NewTiming(30*sec, 10*sec, 10*sec)
	turn := func() Action {
		d := decide(o)
		var out []dcs.Event
		j, out = j.Next(o, &d)
		all = append(all, out...)
		for _, e := range out {
			lines = append(lines, line(e))
		}
		o.Memory, o.Last = d.Memory, Outcome{}
		if d.Action != nil {
			o.Last = Outcome{Action: d.Action, Result: ResultOK, Sent: o.Now, Epoch: 300, Beat: o.Memory.Lease.Beat + 1, Timing: timing}
		}
		return d.Action
	}
	for i, change := range story {
		if i > 0 {
			o.Now, o.Wall = o.Now.Add(sec), o.Wall.Add(sec)
		}
		change(o)
		for _, renew := turn().(Renew); renew; _, renew = turn().(Renew) {
			continue // rounds are no part of a story
		}
	}
	return lines, all
}

func line(e dcs.Event) string {
	s := string(e.Kind)
	if e.State != "" {
		s += " " + string(e.State)
	}
	s += ": " + e.Text
	if e.Reason != "" {
		s += " [" + e.Reason + "]"
	}
	if e.Error != "" {
		s += " (" + e.Error + ")"
	}
	return s
}

func stay(*Observation) {}

// began and done: the action of the turn before runs as an operation, and ends.
func began(k OpKind) moment {
	return func(o *Observation) {
		o.Op = Operation{Kind: k, Serial: o.Op.Serial + 1, Running: true, Started: o.Now.Add(-sec)}
	}
}

func done(failure string) moment {
	return func(o *Observation) { o.Op.Running, o.Op.Ended, o.Op.Error = false, o.Now, failure }
}

// fresh is a new snapshot with a change.
func fresh(change func(c *dcs.Cluster)) moment {
	return func(o *Observation) {
		c := *o.DCS.Cluster
		c.Members = append([]dcs.Member{}, c.Members...)
		c.Revision++
		change(&c)
		o.DCS.Cluster = &c
	}
}

func all(moments ...moment) moment {
	return func(o *Observation) {
		for _, m := range moments {
			m(o)
		}
	}
}

const (
	startedPrimary = "agent began: the agent started; PostgreSQL runs as a primary"
	startedStandby = "agent began: the agent started; PostgreSQL runs as a standby"
)

func TestJournal(t *testing.T) {
	for name, tc := range map[string]struct {
		story []moment
		want  []string
	}{
		"nothing happens": {[]moment{stay, stay, stay, stay}, []string{startedPrimary}},
		"handed over on request": {
			[]moment{stay,
				func(o *Observation) {
					failover(o, "n1", "n2")
					answered(o, standbyPeer(1000), standbyPeer(1000))
					o.Peers.AskedAt = o.Now
				},
				began(OpStop),
				all(done(""), func(o *Observation) { down(o, "shut down"); o.Op.ShutdownLSN = 1040 }),
				fresh(func(c *dcs.Cluster) { c.Leader, c.Status.Beat.Released = nil, true }), stay},
			[]string{startedPrimary,
				"demote began: begins to stop the primary [hand_over]",
				"demote done: stopped the primary; its WAL ends at 0/410 [hand_over]",
				"leader done: released the leader key [hand_over_stops]"},
		},
		"a request that cannot be fulfilled": {
			[]moment{stay, func(o *Observation) { failover(o, "n9", "n2") }, func(o *Observation) { o.DCS.Cluster.Failover = nil }},
			[]string{startedPrimary, "request failed: dropped the request for a switchover or failover [failover_cleaned]"},
		},
		"elected and promoted": {
			[]moment{leaderless, all(stay, func(o *Observation) {
				o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: 300}
				o.DCS.Cluster.Status.Beat = &dcs.Beat{Epoch: 300, Holder: "h1", TTL: 30000, Next: 2}
			}),
				stay,
				func(o *Observation) { o.Leash.Armed, o.Leash.Highest = 300, 300 },
				began(OpPromote),
				all(done(""), func(o *Observation) { o.PG.Row.InRecovery, o.PG.Row.Timeline = false, 2 })},
			[]string{startedStandby,
				"leader began: took the leader key [election_wins]",
				"promote began: begins to become the primary [leader_promotes]",
				"promote done: is the primary, on timeline 2 [leader_promotes]"},
		},
		"out of the race": {
			[]moment{leaderless, func(o *Observation) { o.Settings.NoFailover = true }, stay, stay},
			[]string{startedStandby, "election failed: does not take part in the race [election_refused]"},
		},
		"etcd is away for a blink": {
			[]moment{stay, func(o *Observation) { o.DCS.Fresh, o.DCS.Error = false, "timeout" }, func(o *Observation) { o.DCS.Fresh = true }},
			[]string{startedPrimary},
		},
		"etcd is away": {
			[]moment{replica, func(o *Observation) { o.DCS.Fresh, o.DCS.Error = false, "timeout" },
				func(o *Observation) { o.Now = o.Now.Add(20 * sec) }, stay, func(o *Observation) { o.DCS.Fresh = true }},
			[]string{startedStandby, "etcd failed: etcd cannot be reached [offline_waiting] (timeout)", "etcd done: etcd can be reached again"},
		},
		"the leadership is lost": {
			[]moment{stay, func(o *Observation) {
				o.DCS.Cluster.Leader = &dcs.Leader{Name: "n2", Epoch: 400}
			}},
			[]string{startedPrimary,
				"leader failed: lost the leadership [demote_no_lock]"},
		},
		"PostgreSQL crashes": {
			[]moment{stay, func(o *Observation) { down(o, "in production"); o.PG.Crashed, o.PG.Since = true, o.Now }, began(OpStartPrimary),
				all(done(""), func(o *Observation) {
					o.PG = base().PG
				})},
			[]string{startedPrimary,
				"crash: PostgreSQL, the primary, ended without being asked to [start_as_primary]",
				"start began: begins to start as a primary [start_as_primary]",
				"start done: started as a primary [start_as_primary]"},
		},
		"paused, configured, resumed": {
			[]moment{stay,
				all(fresh(func(c *dcs.Cluster) {
					c.Config = &dcs.Config{Raw: json.RawMessage(`{"ttl":30,"pause":true}`), ModRevision: 500}
				}), func(o *Observation) { o.Settings.Pause = true }),
				fresh(func(c *dcs.Cluster) {
					c.Config = &dcs.Config{Raw: json.RawMessage(`{"ttl":20,"pause":true,"postgresql":{"parameters":{"primary_conninfo":"password=canary"}}}`), ModRevision: 501}
				}),
				func(o *Observation) { o.Settings.Pause = false }},
			[]string{startedPrimary,
				"pause began: the cluster is paused: PostgreSQL is left alone",
				"config: the dynamic configuration changed: postgresql, ttl",
				"pause done: the pause ended"},
		},
		"another leader vanishes, and this member says so": {
			[]moment{replica, fresh(func(c *dcs.Cluster) { c.Leader, c.Members = nil, []dcs.Member{c.Members[0], c.Members[2]} })},
			[]string{startedStandby, "leader failed: the leader key of n2 is gone", "member done: the member n2 is gone from etcd"},
		},
		"another leader vanishes, and the first member says so": {
			[]moment{func(o *Observation) { replica(o); o.Me.Name = "n3" }, fresh(func(c *dcs.Cluster) { c.Leader = nil })},
			[]string{startedStandby},
		},
		"a copy fails again and again": {
			[]moment{func(o *Observation) { replica(o); down(o, ""); o.PG.DataDir = DataDirEmpty },
				began(OpClone), done("pid 17: no space"), func(o *Observation) { o.Now = o.Now.Add(30 * sec) },
				began(OpClone), done("pid 18: no space"), func(o *Observation) { o.Now = o.Now.Add(30 * sec) },
				began(OpClone), done("pid 19: no space")},
			[]string{"agent began: the agent started; PostgreSQL does not run",
				"clone began: begins to make a copy of n2 [clone_runs]",
				"clone failed: could not make a copy of n2 [clone_runs] (pid 17: no space)",
				"clone failed: could not make a copy of n2 (2 attempts) [clone_runs] (pid 18: no space)"},
		},
		"the required watchdog fails a replica": {
			[]moment{replica, unwatched, stay, func(o *Observation) { o.Leash.Watchdog = "" }},
			[]string{startedStandby, "watchdog failed: the required watchdog is not in force (no device)", "watchdog done: the required watchdog can be used again"},
		},
		"etcd went back": {
			[]moment{replica, func(o *Observation) { o.Memory.Seen.Revision, o.Memory.Seen.ClusterID = 1000, 1 }},
			[]string{startedStandby, "quarantine began: does not trust etcd any more: "},
		},
		"other synchronous standbys": {
			[]moment{stay, fresh(func(c *dcs.Cluster) { c.Sync = &dcs.Sync{Leader: "n1", Standbys: []string{"n2"}} })},
			[]string{startedPrimary, "sync: synchronous standbys: n2"},
		},
		"restarted on request": {
			[]moment{stay, func(o *Observation) { asked(o) }, began(OpRestart), done("")},
			[]string{startedPrimary, "restart began: begins to restart [restart_runs]", "restart done: restarted [restart_runs]"},
		},
		"the leash is gone": {
			[]moment{replica, func(o *Observation) { o.Leash.Attached = false }, stay, func(o *Observation) { o.Leash.Attached = true }},
			[]string{startedStandby, "leash failed: the connection to the leash is lost", "leash done: the leash is attached again"},
		},
		"a restore is ordered and fails": {
			[]moment{stay,
				fresh(func(c *dcs.Cluster) {
					c.Restore = &dcs.Restore{ID: "a", State: dcs.RestoreRequested, Member: "n9", Set: "20260101F", Target: dcs.RestoreTarget{Type: "latest"}, By: "alice"}
				}),
				fresh(func(c *dcs.Cluster) {
					c.Restore = &dcs.Restore{ID: "a", State: dcs.RestoreFailed, Member: "n9", Error: "gone"}
				})},
			[]string{startedPrimary,
				"restore: a restore of the cluster by n9 was ordered: backup 20260101F, to latest",
				"restore failed: the restore order ended (gone)"},
		},
		"a backup of mine, and one of another": {
			[]moment{stay,
				fresh(func(c *dcs.Cluster) {
					c.Backup = &dcs.Backup{Member: "n2", Type: "incr", Started: time.Unix(50, 0), Ended: time.Unix(60, 0)}
				}),
				fresh(func(c *dcs.Cluster) {
					c.Backup = &dcs.Backup{Member: "n1", Type: "full", Started: time.Unix(70, 0), Ended: time.Unix(90, 0), Error: "no space"}
				}),
				fresh(func(c *dcs.Cluster) {
					c.Backup = &dcs.Backup{Member: "n1", Type: "full", Label: "L", Started: time.Unix(100, 0), Ended: time.Unix(120, 0)}
				})},
			[]string{startedPrimary, "backup failed: full backup (no space)", "backup done: full backup L"},
		},
		"asked to end": {
			[]moment{replica, func(o *Observation) { o.Stopping = true }, began(OpStop), all(done(""), func(o *Observation) { down(o, "shut down in recovery") })},
			[]string{startedStandby,
				"agent: the agent was asked to end [stopping_server]",
				"stop began: begins to stop [stopping_server]",
				"stop done: stopped [stopping_server]",
				"agent done: the agent ends [stopped]"},
		},
		"a foreign directory": {
			[]moment{func(o *Observation) { o.PG.SystemID = "7000000000000000001" }},
			[]string{startedPrimary,
				"agent failed: the agent ends [foreign_system] (system ID mismatch, this node belongs to a different cluster: its identifier is 7000000000000000001, the cluster's is 7710903353966102417)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := tell(t, tc.story...)
			if g, w := strings.Join(got, "\n"), strings.Join(tc.want, "\n"); g != w && !(strings.HasSuffix(w, ": ") && strings.HasPrefix(g, w)) {
				t.Errorf("told:\n%s\nwant:\n%s", g, w)
			}
		})
	}
}

// TestJournalPhases: a failover says where its time went.
func TestJournalPhases(t *testing.T) {
	_, events := tell(t, leaderless,
		func(o *Observation) {
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: 300}
			o.DCS.Cluster.Status.Beat = &dcs.Beat{Epoch: 300, Holder: "h1", TTL: 30000, Next: 2}
		},
		func(o *Observation) { o.Leash.Armed, o.Leash.Highest = 300, 300 },
		began(OpPromote),
		all(done(""), func(o *Observation) { o.PG.Row.InRecovery, o.PG.Row.Timeline = false, 2 }))
	var e *dcs.Event
	for i := range events {
		if events[i].Kind == dcs.EventPromote && events[i].State == dcs.EventDone {
			e = &events[i]
		}
	}
	if e == nil {
		t.Fatal(errors.New("no promotion"))
	}
	want := []dcs.EventPhase{{Name: "no leader", Seconds: 3}, {Name: "claim", Seconds: 1}, {Name: "until promotion", Seconds: 1}, {Name: "promotion", Seconds: 2}}
	sum := 0.0
	for i, p := range e.Phases {
		if i >= len(want) || p != want[i] {
			t.Errorf("phases %v, want %v", e.Phases, want)
			break
		}
		sum += p.Seconds
	}
	if e.Seconds != sum {
		t.Errorf("it took %v s, its phases %v s", e.Seconds, sum)
	}
}

// TestJournalNextIsPure: the journal before a turn can be used again.
func TestJournalNextIsPure(t *testing.T) {
	o := base()
	d := decide(o)
	j, first := Journal{}.Next(o, &d)
	o.PG.Crashed, o.PG.Process = true, ProcessDown
	d = decide(o)
	_, once := j.Next(o, &d)
	_, twice := j.Next(o, &d)
	if len(first) == 0 || len(once) == 0 || len(once) != len(twice) {
		t.Errorf("%d, then %d and %d events", len(first), len(once), len(twice))
	}
}

func TestChangedSettings(t *testing.T) {
	doc := func(s string, rev int64) *dcs.Config { return &dcs.Config{Raw: json.RawMessage(s), ModRevision: rev} }
	for _, tc := range []struct{ was, is, want string }{
		{`{"a":1}`, `{"a":1}`, ""},
		{`{"a":1}`, `{"a":2,"pause":true}`, "a"},
		{`{"p":{"x":1,"y":2}}`, `{"p":{"x":1,"y":3,"z":1}}`, "p.y p.z"},
		{`{"p":{"x":1}}`, `{}`, "p"},
		{`{"p":{"x":1}}`, `{"p":null}`, "p"},
	} {
		if got := strings.Join(changedSettings(doc(tc.was, 1), doc(tc.is, 2)), " "); got != tc.want {
			t.Errorf("%s to %s: %q, want %q", tc.was, tc.is, got, tc.want)
		}
	}
}
