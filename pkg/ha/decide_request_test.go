package ha

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// TestScheduledSwitchover: S12. A scheduled request is carried out by the leader
// it names, once, in its window, and only while that still leads.
func TestScheduledSwitchover(t *testing.T) {
	good := func(o *Observation) { answered(o, standbyPeer(1000), standbyPeer(1000)) }
	at := func(o *Observation, leader, candidate string, in time.Duration) *dcs.Failover {
		f := failover(o, leader, candidate)
		f.ScheduledAt = o.Wall.Add(in)
		return f
	}
	because := func(want string) func(*testing.T, Decision) {
		return func(t *testing.T, d Decision) {
			t.Helper()
			if d.Detail != want {
				t.Errorf("because %q, want %q", d.Detail, want)
			}
		}
	}
	const changed = "the leadership changed before its time had come"
	runTable(t, []row{
		{name: "nearly due: the loop comes back on time", change: func(o *Observation) { at(o, "n1", "n2", sec) }, reason: LeaderNoAction, check: func(t *testing.T, d Decision) {
			if d.Wait != sec {
				t.Errorf("waits %v", d.Wait)
			}
		}},
		{name: "due", change: func(o *Observation) { good(o); at(o, "n1", "n2", 0) }, action: Stop{}, reason: HandOver, check: func(t *testing.T, d Decision) {
			if !d.Memory.Demoting || d.Memory.HandedOver != 128 {
				t.Errorf("%+v", d.Memory)
			}
		}},
		{name: "late", change: func(o *Observation) { good(o); at(o, "n1", "", -15*sec) }, action: Stop{}, reason: HandOver},
		{name: "too late", change: func(o *Observation) { good(o); at(o, "n1", "", -15*sec-1) }, action: CleanFailover{}, reason: FailoverCleaned, check: because("its time has passed")},
		{name: "not twice", change: func(o *Observation) { good(o); at(o, "n1", "n2", -sec); o.Memory.HandedOver = 128 }, action: CleanFailover{}, reason: FailoverCleaned, check: because("I have handed over for it before")},
		{name: "the next one is another", change: func(o *Observation) { good(o); at(o, "n1", "n2", -sec); o.Memory.HandedOver = 127 }, action: Stop{}, reason: HandOver},
		{name: "an immediate one not twice either", change: func(o *Observation) { good(o); failover(o, "n1", "n2"); o.Memory.HandedOver = 128 }, action: CleanFailover{}, reason: FailoverCleaned, check: because("I have handed over for it before")},
		{name: "the leader changed meanwhile", change: func(o *Observation) { at(o, "n3", "n2", time.Hour) }, action: CleanFailover{}, reason: FailoverCleaned, check: because(changed)},
		{name: "the candidate leads already", change: func(o *Observation) { at(o, "", "n1", time.Hour) }, action: CleanFailover{}, reason: FailoverCleaned, check: because(changed)},
		{name: "1.23.17 in pause it is kept", change: func(o *Observation) { paused3(o); at(o, "n3", "n2", -time.Hour) }, reason: PausedNoAction},
		{name: "a replica does nothing about it", change: func(o *Observation) { replica(o); at(o, "n2", "n1", 0) }, reason: SecondaryNoAction},
		{name: "nobody that /failsafe names can take over", change: func(o *Observation) {
			good(o)
			at(o, "n1", "n2", 0)
			o.Settings.Failsafe = true
			o.DCS.Cluster.Failsafe = &dcs.Failsafe{Members: map[string]string{"n1": "http://n1:8008/patroni"}}
		}, action: CleanFailover{}, reason: FailoverCleaned, check: because("no good candidate has been found (n2: not in /failsafe)")},
		{name: "the candidates are asked, and one that is slow to tell its position again", change: func(o *Observation) { at(o, "n1", "n2", 0) }, action: AskPeers{}, reason: SwitchoverAsks,
			check: func(t *testing.T, d Decision) {
				if a, _ := d.Action.(AskPeers); !a.Patient {
					t.Errorf("%+v", a)
				}
			}},
		{name: "what they answered before the request was made does not count: they were down", change: func(o *Observation) {
			answered(o, Peer{}, Peer{})
			at(o, "n1", "n2", 0)
			o.Peers.AskedAt = noon.Add(-sec)
		}, action: AskPeers{}, reason: SwitchoverAsks},
		{name: "nobody can take over at its time", change: func(o *Observation) { answered(o, Peer{}, Peer{}); at(o, "n1", "n2", 0) }, action: CleanFailover{}, reason: FailoverCleaned, check: because("no good candidate has been found (n2: not reachable)")},
		{name: "each is told what speaks against it", change: func(o *Observation) {
			good(o)
			at(o, "n1", "", 0)
			failed := o.Peers.Answers["n3"]
			failed.WatchdogFailed, failed.Position = true, 0
			o.Peers.Answers = map[string]Peer{"n2": o.Peers.Answers["n2"], "n3": failed}
			o.PG.Row.Position = o.Peers.Answers["n2"].Position + wal.LSN(o.maxLag()) + 1
		}, action: CleanFailover{}, reason: FailoverCleaned,
			check: because("no good candidate has been found (n2: 1048577 bytes of WAL behind, more than maximum_lag_on_failover, n3: not watchdog capable)")},
	})
}

// TestScheduledSwitchoverInTheRace: whom it names is preferred after the leader
// handed over for it, and only then.
func TestScheduledSwitchoverInTheRace(t *testing.T) {
	released := func(o *Observation) { // later than the request was written
		o.DCS.Cluster.Status.Beat.Released, o.DCS.Cluster.Status.ModRevision = true, 129
	}
	at := func(o *Observation, candidate string, in time.Duration) {
		failover(o, "n2", candidate).ScheduledAt = o.Wall.Add(in)
	}
	runTable(t, []row{
		{name: "handed over at its time: left to the candidate", change: func(o *Observation) { leaderless(o); released(o); at(o, "n3", -sec) }, reason: ElectionRefused},
		{name: "by a clock that is ahead of mine", change: func(o *Observation) { leaderless(o); released(o); at(o, "n3", 9*sec) }, reason: ElectionRefused},
		{name: "S12 the leader stopped before its time: the race is open", change: func(o *Observation) { leaderless(o); released(o); at(o, "n3", time.Hour) }, action: Claim{}, reason: ElectionWins},
		{name: "S12 the leader died at its time: the race is open", change: func(o *Observation) { leaderless(o); at(o, "n3", -sec) }, action: Claim{}, reason: ElectionWins},
		{name: "asked for after the leader had gone: the race is open", change: func(o *Observation) {
			leaderless(o)
			released(o)
			at(o, "n3", -sec)
			o.DCS.Cluster.Failover.ModRevision = 130
		}, action: Claim{}, reason: ElectionWins},
		{name: "S12 and the lag limit holds", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.Status.Optime = 1001 + 1<<20
			at(o, "n1", -sec)
		}, reason: ElectionRefused},
		{name: "a Patroni leader tells nothing of its end", change: func(o *Observation) {
			leaderless(o)
			o.DCS.Cluster.Status.Beat = nil
			at(o, "n3", -sec)
		}, reason: ElectionRefused},
	})
}
