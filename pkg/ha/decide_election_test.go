package ha

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

func TestElection(t *testing.T) { // table U, 2.1, 2.2, 2.4, B.3
	runTable(t, []row{
		{name: "U1 the healthiest claims", change: leaderless, action: Claim{}, reason: ElectionWins},
		{name: "U1 won: arms before it promotes", change: func(o *Observation) {
			leaderless(o)
			o.Memory.ShutdownLSN = 800
			did(o, Claim{}, ResultOK)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: 131}
			o.DCS.Cluster.Status = &dcs.Status{ModRevision: 131, Beat: &dcs.Beat{Holder: "h1", TTL: 30000}}
		}, action: ArmLeash{}, reason: LeaderArming, check: func(t *testing.T, d Decision) {
			if want := plus(-100 * time.Millisecond).Add(26900 * time.Millisecond); d.Memory.Lease.Deadline != want {
				t.Errorf("deadline %v, want %v", d.Memory.Lease.Deadline, want)
			}
			if d.Memory.ShutdownLSN != 0 {
				t.Error("where the leadership of before ended is taken for the end of this one")
			}
		}},
		{name: "U2 lost: somebody else leads", change: func(o *Observation) {
			leaderless(o)
			did(o, Claim{}, ResultConflict)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n3", Epoch: 131}
			mem(o, "n3").Role = "primary"
		}, action: Follow{}, reason: SecondaryFollows},
		{name: "U2 unknown: looks again before it claims again", change: func(o *Observation) {
			leaderless(o)
			did(o, Claim{}, ResultUnknown)
			o.DCS.Cluster.Leader = &dcs.Leader{Name: "n1", Epoch: 131}
			o.DCS.Cluster.Status = &dcs.Status{ModRevision: 131, Beat: &dcs.Beat{Holder: "h1", TTL: 30000}}
		}, action: TakeBack{}, reason: TakeBackOwn},
		{name: "B.3a released: no hold-off", change: func(o *Observation) {
			leaderless(o)
			o.Memory.SeenAt = noon
			o.DCS.Cluster.Status.Beat.Released = true
		}, action: Claim{}, reason: ElectionWins},
		{name: "B.3b no beat: the lease alone decides", change: func(o *Observation) { leaderless(o); o.Memory.SeenAt = noon; o.DCS.Cluster.Status.Beat = nil }, action: Claim{}, reason: ElectionWins},
		{name: "B.3b a Patroni leader was seen after that beat", change: func(o *Observation) { leaderless(o); o.Memory.SeenAt = noon; o.Memory.LastEpoch = 95 }, action: Claim{}, reason: ElectionWins},
		{name: "B.3c a leadership that was never seen here counts in full", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.Status.Beat.Epoch, o.DCS.Cluster.Status.ModRevision = 95, 121
		}, reason: ElectionHoldOff},
		{name: "B.3c the beat stands still not long enough", change: func(o *Observation) { leaderless(o); o.Memory.SeenAt = plus(-29999 * time.Millisecond) }, reason: ElectionHoldOff,
			check: func(t *testing.T, d Decision) {
				if d.Wait != time.Millisecond {
					t.Errorf("waits %v", d.Wait)
				}
			}},
		{name: "B.3c a new beat starts the wait anew", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Status.ModRevision = 121 }, reason: ElectionHoldOff},
		{name: "B.3c the holder's T counts, not mine", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Status.Beat.TTL = 60000 }, reason: ElectionHoldOff},
		{name: "B.3c a claim's own beat carries no epoch yet", change: func(o *Observation) {
			leaderless(o)
			o.Memory.SeenAt = noon
			o.DCS.Cluster.Status.Beat.Epoch, o.Memory.LastEpoch = 0, 120
		}, reason: ElectionHoldOff},
		{name: "B.3 a writable node does not sit out the hold-off", change: func(o *Observation) { leaderless(o); o.Memory.SeenAt = noon; o.PG.Row.InRecovery = false }, action: Stop{}, reason: DemoteNoLock},
		{name: "S3 what they told before the last leader gave its key back is too old", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.Status.Beat.Released = true
			o.Memory.SeenStatus = 0 // as it is seen for the first time
			o.Peers.AskedAt = plus(-sec / 4)
		}, action: AskPeers{}, reason: ElectionAsks},
		{name: "B.3 peers are asked while the hold-off runs", change: func(o *Observation) { leaderless(o); o.Memory.SeenAt = noon; o.Peers = Peers{} }, action: AskPeers{}, reason: ElectionAsks,
			check: func(t *testing.T, d Decision) {
				a := d.Action.(AskPeers)
				if len(a.Await) != 1 || a.Await[0].Name != "n3" || len(a.Glance) != 1 || a.Glance[0].Name != "n2" {
					t.Errorf("awaits %v, glances at %v", a.Await, a.Glance)
				}
			}},
		{name: "B.3 and again when it ends; who did not answer is not waited for", change: func(o *Observation) {
			leaderless(o)
			o.Peers.AskedAt = plus(-2 * sec)
			o.Peers.Answers["n3"] = Peer{}
		}, action: AskPeers{}, reason: ElectionAsks, check: func(t *testing.T, d Decision) {
			if a := d.Action.(AskPeers); len(a.Await) != 0 || len(a.Glance) != 2 {
				t.Errorf("awaits %v, glances at %v", a.Await, a.Glance)
			}
		}},
		{name: "B.3 but it is waited for the third time: it may be back", change: func(o *Observation) {
			leaderless(o)
			o.Peers.AskedAt = plus(-2 * sec)
			o.Peers.Answers["n3"] = Peer{Glanced: true}
		}, action: AskPeers{}, reason: ElectionAsks, check: func(t *testing.T, d Decision) {
			if a := d.Action.(AskPeers); len(a.Await) != 1 || a.Await[0].Name != "n3" || len(a.Glance) != 1 {
				t.Errorf("awaits %v, glances at %v", a.Await, a.Glance)
			}
		}},
		{name: "B.3 a primary asks no longer than its leash lets it", change: func(o *Observation) {
			leaderless(o)
			o.PG.Row.InRecovery, o.Peers = false, Peers{}
			o.Leash.Armed, o.Leash.Deadline = 50, plus(6*sec)
		}, action: AskPeers{}, reason: ElectionAsks, check: func(t *testing.T, d Decision) {
			if a := d.Action.(AskPeers); a.Timeout != sec {
				t.Errorf("asks for %s", a.Timeout)
			}
		}},
		{name: "B.3 a lone node asks nobody", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.Members, o.Memory.LastMembers, o.Peers = o.DCS.Cluster.Members[:1], nil, Peers{}
		}, action: Claim{}, reason: ElectionWins},
		{name: "S3 who is on a newer timeline is further, however little WAL it has", change: func(o *Observation) { leaderless(o); answered(o, Peer{}, on(2, 400)) }, reason: ElectionRefused},
		{name: "S3 who is on an older one is not, however much", change: func(o *Observation) {
			leaderless(o)
			o.PG.Row.Timeline = 2
			answered(o, Peer{}, on(1, 1400))
		}, action: Claim{}, reason: ElectionWins},
		{name: "S4 too far behind the last leader", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.Status.Beat.Timeline = 1
			o.DCS.Cluster.Status.Optime = 900 + 2<<20
		}, reason: ElectionRefused},
		{name: "S4 who is on the timeline of one that no beat told of is not behind it", change: func(o *Observation) {
			leaderless(o)
			o.PG.Row.Timeline = 2
			answered(o, Peer{}, on(1, 900))
			o.DCS.Cluster.Status.Beat.Timeline = 1
			o.DCS.Cluster.Status.Optime = 900 + 2<<20
		}, action: Claim{}, reason: ElectionWins},
		{name: "1.22 nor does it wait for more WAL of the one before", change: func(o *Observation) {
			leaderless(o)
			o.PG.Row.Timeline = 2
			answered(o, Peer{}, on(1, 900))
			o.DCS.Cluster.Status.Beat.Timeline, o.DCS.Cluster.Status.Beat.Released = 1, true
			o.DCS.Cluster.Status.Optime = o.PG.Row.Position + 1
		}, action: Claim{}, reason: ElectionWins},
		{name: "B.3 my own last beat is marked as released", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Status.Beat.Holder = "h1" }, action: PublishReleased{}, reason: TakeBackFinished},
		{name: "B.6 an armed leash is told first", change: func(o *Observation) { leaderless(o); o.Leash.Armed = 50 }, action: DisarmLeash{}, reason: SecondaryDisarms},
		{name: "S1 a promotion given up may still end", change: func(o *Observation) { leaderless(o); o.Leash.Armed = 50; o.Memory.Promoting = true }, action: Stop{}, reason: DemoteNoLock},
		{name: "S1 so may one of an earlier run of the agent", change: func(o *Observation) { leaderless(o); o.Leash.Armed = 50; o.Memory.Looked = false }, action: Stop{}, reason: DemoteNoLock},
		{name: "S1 a server that is seen as a standby without a leash has none", change: func(o *Observation) { leaderless(o); o.Memory.Looked = false }, action: Claim{}, reason: ElectionWins},
		{name: "S1 one that is down has none", change: func(o *Observation) { leaderless(o); o.Memory.Promoting = true; o.PG.Process = ProcessDown }, check: func(t *testing.T, d Decision) {
			if d.Memory.Promoting {
				t.Error("still promoting")
			}
		}, action: Start{}, reason: StartReadOnly},
		{name: "B.3 garbage in /status holds everybody off", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster = dcs.Decode("/b/demo", []dcs.KV{
				{Key: "/b/demo/status", Value: []byte("{"), ModRevision: 140},
				{Key: "/b/demo/initialize", Value: []byte(sysID), ModRevision: 5},
			})
		}, reason: ElectionHoldOff},
		{name: "1.21 who gave the lock away yields", change: func(o *Observation) { leaderless(o); o.Memory.YieldUntil = plus(sec) }, reason: ElectionYields},
		{name: "2.1.2 no answer from the server", change: func(o *Observation) { leaderless(o); o.PG.Known = false }, reason: ElectionRefused},
		{name: "2.1.4 primary that slept through a failover", change: func(o *Observation) {
			leaderless(o)
			o.PG.Row.InRecovery = false
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "2.1.4 primary after a claim that announced a higher timeline", change: func(o *Observation) {
			leaderless(o)
			o.PG.Row.InRecovery = false
			o.DCS.Cluster.Status.Beat.Next = 2
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "2.1.4 running primary on the newest timeline", change: func(o *Observation) { leaderless(o); o.PG.Row.InRecovery = false }, action: Claim{}, reason: ElectionWins},
		{name: "2.1.8 the watchdog is required and cannot be used", change: func(o *Observation) { leaderless(o); unwatched(o) }, reason: ElectionRefused},
		{name: "2.1.8 the watchdog is not required", change: func(o *Observation) {
			leaderless(o)
			unwatched(o)
			o.Settings.WatchdogRequired = false
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.1.8 before 2.4: no watchdog, although named", change: func(o *Observation) { leaderless(o); unwatched(o); failover(o, "", "n1") }, reason: ElectionRefused},
		{name: "2.1.8 a primary without lock and watchdog stops", change: func(o *Observation) {
			leaderless(o)
			unwatched(o)
			o.PG.Row.InRecovery = false
		}, action: Stop{}, reason: DemoteNoLock},
		{name: "2.1.6 nofailover", change: func(o *Observation) { leaderless(o); o.Settings.NoFailover = true }, reason: ElectionRefused},
		{name: "8.5 pre_promote refused a moment ago", change: func(o *Observation) { leaderless(o); o.Memory.SitOut = o.Now.Add(sec) }, reason: ElectionRefused},
		{name: "2.1.6 before 2.4: nofailover, although named", change: func(o *Observation) { leaderless(o); o.Settings.NoFailover = true; failover(o, "", "n1") }, reason: ElectionRefused},
		{name: "2.1.8 a leash that is away is started when it is armed", change: func(o *Observation) { leaderless(o); o.Leash = Leash{} }, action: Claim{}, reason: ElectionWins},
		{name: "2.2.1 lag limit", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Status.Optime = 1000 + 1<<20 + 1 }, reason: ElectionRefused},
		{name: "2.2.1 lag limit, just within", change: func(o *Observation) { leaderless(o); o.DCS.Cluster.Status.Optime = 1000 + 1<<20 }, action: Claim{}, reason: ElectionWins},
		{name: "2.2.1 lag limit below zero is zero", change: func(o *Observation) {
			leaderless(o)
			o.Settings.MaximumLagOnFailover, o.DCS.Cluster.Status.Optime = -1, 1001
		}, reason: ElectionRefused},
		{name: "2.2.2/S2 old timeline", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}
		}, reason: ElectionRefused},
		{name: "2.2.4 somebody is ahead", change: func(o *Observation) { leaderless(o); o.Peers.Answers["n3"] = standbyPeer(1001) }, reason: ElectionRefused},
		{name: "2.2.4 ahead, but on a timeline that was left", change: func(o *Observation) {
			leaderless(o)
			o.PG.Row.Timeline = 2
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}
			o.Peers.Answers["n3"] = standbyPeer(2000)
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.2.4 the old primary is alive", change: func(o *Observation) { leaderless(o); o.Peers.Answers["n2"] = Peer{Reachable: true} }, reason: ElectionRefused},
		{name: "2.2.4 equal WAL, higher priority elsewhere", change: func(o *Observation) {
			leaderless(o)
			p := standbyPeer(1000)
			p.Priority = 2
			o.Peers.Answers["n3"] = p
		}, reason: ElectionRefused},
		{name: "2.2.4 a former leader's priority is ignored", change: func(o *Observation) {
			leaderless(o)
			p := standbyPeer(1000)
			p.Priority = 2
			o.Peers.Answers["n2"] = p
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.3 ahead, but not allowed to promote", change: func(o *Observation) {
			leaderless(o)
			p := standbyPeer(2000)
			p.NoFailover = true
			o.Peers.Answers["n3"] = p
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.3 ahead, but not watchdog capable", change: func(o *Observation) {
			leaderless(o)
			p := standbyPeer(2000)
			p.WatchdogFailed = true
			o.Peers.Answers["n3"] = p
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.4 candidate is me: no lag check", change: func(o *Observation) {
			leaderless(o)
			failover(o, "", "n1")
			o.DCS.Cluster.Status.Optime = 1 << 30
			o.Peers.Answers["n3"] = standbyPeer(2000)
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.4/S2 candidate is me, but my timeline is old", change: func(o *Observation) {
			leaderless(o)
			failover(o, "", "n1")
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}
		}, reason: ElectionRefused},
		{name: "2.4 candidate is another, and it is well", change: func(o *Observation) { leaderless(o); failover(o, "n2", "n3") }, reason: ElectionRefused},
		{name: "2.4/S2 candidate is another, and its timeline is old: it will not claim", change: func(o *Observation) {
			leaderless(o)
			failover(o, "n2", "n3")
			o.PG.Row.Timeline = 2
			o.DCS.Cluster.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 1}}}
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.4 candidate is another, and it is not", change: func(o *Observation) {
			leaderless(o)
			failover(o, "n2", "n3")
			o.Peers.Answers["n3"] = Peer{}
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.4 switchover away from me", change: func(o *Observation) { leaderless(o); failover(o, "n1", "") }, reason: ElectionRefused},
		{name: "2.4 switchover away from me, nobody else can", change: func(o *Observation) {
			leaderless(o)
			failover(o, "n1", "")
			o.Peers.Answers["n3"] = Peer{}
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.4 switchover away from me, and nobody else is in /failsafe", change: func(o *Observation) {
			leaderless(o)
			failover(o, "n1", "")
			o.Settings.Failsafe = true
			o.DCS.Cluster.Failsafe = &dcs.Failsafe{Members: map[string]string{"n1": "http://n1:8008/patroni"}}
		}, action: Claim{}, reason: ElectionWins},
		{name: "2.4 a scheduled switchover takes nobody that lags", change: func(o *Observation) { scheduledLag(o, "") }, reason: ElectionRefused},
		{name: "2.4 nor its candidate", change: func(o *Observation) { scheduledLag(o, "n1") }, reason: ElectionRefused},
		{name: "U3 refused with a request pending: compares later", change: func(o *Observation) { leaderless(o); failover(o, "n2", "n3") }, reason: ElectionRefused,
			check: func(t *testing.T, d Decision) {
				if d.Memory.Rewind != RewindCheck {
					t.Errorf("rewind state %d", d.Memory.Rewind)
				}
			}},
	})
}

// scheduledLag: a leader died at the time of a switchover, and this node is too
// far behind it.
func scheduledLag(o *Observation, candidate string) {
	leaderless(o)
	o.DCS.Cluster.Status.Beat.Released = true
	o.DCS.Cluster.Status.Optime = o.PG.Row.Position + wal.LSN(o.maxLag()) + 1
	o.Memory.Leaderless = o.Now.Add(-time.Hour)
	failover(o, "n2", candidate).ScheduledAt = o.Wall
	for name := range o.Peers.Answers {
		o.Peers.Answers[name] = Peer{}
	}
}
