package ha

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

func TestRaceBackoff(t *testing.T) { // ha-behaviour 2.6, scenario 38
	since := plus(-3 * sec)
	// backoff: the leader key went three seconds ago, and primary_race_backoff is 30 s.
	backoff := func(o *Observation, moved Instant) {
		leaderless(o)
		o.Settings.RaceBackoff = 30 * sec
		o.Memory.Leaderless = since
		o.Memory.Backoff = Backoff{Since: since, At: 1000, Moved: moved}
	}
	waits := func(want time.Duration) func(*testing.T, Decision) {
		return func(t *testing.T, d Decision) {
			if d.Wait != want {
				t.Errorf("waits %v, want %v", d.Wait, want)
			}
		}
	}
	runTable(t, []row{
		{name: "off: no wait", change: func(o *Observation) { backoff(o, 0); o.Settings.RaceBackoff = 0 }, action: Claim{}, reason: ElectionWins},
		{name: "one loop_wait to see whether WAL arrives", change: func(o *Observation) { backoff(o, 0) }, reason: ElectionBacksOff, check: waits(7 * sec)},
		{name: "none has arrived: races", change: func(o *Observation) {
			backoff(o, 0)
			o.Memory.Leaderless, o.Memory.Backoff.Since = plus(-10*sec), plus(-10*sec)
		},
			action: Claim{}, reason: ElectionWins},
		{name: "it arrives: waits another one", change: func(o *Observation) {
			backoff(o, 0)
			o.Memory.Leaderless, o.Memory.Backoff.Since = plus(-10*sec), plus(-10*sec)
			o.PG.Row.Position = 1001
		}, reason: ElectionBacksOff, check: waits(10 * sec)},
		{name: "it arrived, and the receiver is gone: races", change: func(o *Observation) {
			backoff(o, plus(-sec))
			o.Memory.Leaderless, o.Memory.Backoff.Since = plus(-10*sec), plus(-10*sec)
			o.PG.Row.ReplicationState = ""
		}, action: Claim{}, reason: ElectionWins},
		{name: "it arrives still: not for longer than was asked for", change: func(o *Observation) {
			backoff(o, plus(-sec))
			o.Memory.Leaderless, o.Memory.Backoff.Since = plus(-28*sec), plus(-28*sec)
		}, reason: ElectionBacksOff, check: waits(2 * sec)},
		{name: "the time is over", change: func(o *Observation) {
			backoff(o, plus(-sec))
			o.Memory.Leaderless, o.Memory.Backoff.Since = plus(-30*sec), plus(-30*sec)
		}, action: Claim{}, reason: ElectionWins},
		{name: "a leader that left in good order is not waited for", change: func(o *Observation) { backoff(o, 0); o.DCS.Cluster.Status.Beat.Released = true },
			action: Claim{}, reason: ElectionWins},
		{name: "a request is not kept waiting", change: func(o *Observation) { backoff(o, 0); failover(o, "", "n1") }, action: Claim{}, reason: ElectionWins},
		{name: "a leader of Patroni's has no beat", change: func(o *Observation) { backoff(o, 0); o.DCS.Cluster.Status.Beat = nil }, reason: ElectionBacksOff, check: waits(7 * sec)},
		{name: "the hold-off is longer", change: func(o *Observation) { backoff(o, 0); o.Memory.SeenAt = plus(-20 * sec) }, reason: ElectionHoldOff, check: waits(10 * sec)},
		{name: "another time without a leader begins anew", change: func(o *Observation) {
			backoff(o, 0)
			o.Memory.Backoff = Backoff{Since: plus(-100 * sec), At: 900, Moved: plus(-90 * sec)}
			o.DCS.Cluster.Status = &dcs.Status{Optime: 1000}
		}, reason: ElectionBacksOff, check: waits(7 * sec)},
	})
}
