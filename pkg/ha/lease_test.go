package ha

import (
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestTiming: the worked numbers of safety B.1.
func TestTiming(t *testing.T) {
	for _, c := range []struct {
		ttl, wait, retry   time.Duration
		budget, stop, real time.Duration // L, S, W'
		least              time.Duration // an etcd silence shorter than this never demotes
	}{
		{30 * sec, 10 * sec, 10 * sec, 26900 * time.Millisecond, 5 * sec, 10 * sec, 11900 * time.Millisecond},
		{120 * sec, 10 * sec, 10 * sec, 116700 * time.Millisecond, 5 * sec, 10 * sec, 101700 * time.Millisecond},
		{20 * sec, sec, 3 * sec, 16900 * time.Millisecond, 5 * sec, sec, 10900 * time.Millisecond},
		{8 * sec, sec, 2 * sec, 6200 * time.Millisecond, 2 * sec, sec, 3200 * time.Millisecond},
		{5 * sec, sec, sec, 3800 * time.Millisecond, sec, sec, 1800 * time.Millisecond},
	} {
		got, err := NewTiming(c.ttl, c.wait, c.retry)
		if err != nil || got.Budget != c.budget || got.Stop != c.stop || got.Period != c.real {
			t.Errorf("%v/%v/%v: L %v S %v W' %v, error %v; want %v %v %v", c.ttl, c.wait, c.retry, got.Budget, got.Stop, got.Period, err, c.budget, c.stop, c.real)
		}
		if silence := got.Budget - got.Stop - got.Period; silence != c.least {
			t.Errorf("%v/%v/%v: bears a silence of %v, want %v", c.ttl, c.wait, c.retry, silence, c.least)
		}
	}
}

func TestTimingShrinks(t *testing.T) {
	// 20/10/5 needs W' = T/3; 20/4/8 needs S below its default.
	got, err := NewTiming(20*sec, 10*sec, 5*sec)
	if err != nil || got.Period != 20*sec/3 || got.Stop != 5*sec {
		t.Errorf("20/10/5: %+v, %v", got, err)
	}
	if got, err = NewTiming(20*sec, 4*sec, 8*sec); err != nil || got.Stop >= 5*sec || got.Stop < 4800*time.Millisecond {
		t.Errorf("20/4/8: S %v, %v", got.Stop, err)
	}
	got, err = NewTiming(20*sec, 10*sec, 10*sec)
	if err == nil || !strings.Contains(err.Error(), "ttl 20s") {
		t.Errorf("20/10/10 is accepted: %v", err)
	}
	if got.RetryTimeout >= 10*sec || got.Stop < sec {
		t.Errorf("20/10/10: R %v, S %v", got.RetryTimeout, got.Stop)
	}
}

// TestTimingPatroni: every configuration that Patroni accepts passes.
func TestTimingPatroni(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ttl := rapid.IntRange(20, 600).Draw(t, "ttl")
		retry := rapid.IntRange(3, (ttl-1)/2).Draw(t, "retry_timeout")
		wait := rapid.IntRange(1, ttl-2*retry).Draw(t, "loop_wait")
		tm, err := NewTiming(time.Duration(ttl)*sec, time.Duration(wait)*sec, time.Duration(retry)*sec)
		if err != nil {
			t.Fatalf("%d/%d/%d: %v", ttl, wait, retry, err)
		}
		if tm.Budget-tm.Stop < tm.Period+tm.RetryTimeout || tm.Stop < sec {
			t.Fatalf("%d/%d/%d: %+v", ttl, wait, retry, tm)
		}
	})
}

// TestIntervalsDisjoint is the inequality of safety B.2 in exact arithmetic:
// whatever W and R are and however the two clocks run within their bound, the
// holder's last acknowledgement precedes the candidate's first claim.
func TestIntervalsDisjoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.IntRange(5000, 600_000).Draw(t, "ttl ms")) * time.Millisecond
		wait := time.Duration(rapid.IntRange(1, 60).Draw(t, "loop_wait")) * sec
		retry := time.Duration(rapid.IntRange(1, 60).Draw(t, "retry_timeout")) * sec
		tm, _ := NewTiming(ttl, wait, retry)
		// Rates in parts per million of real time; hosts differ by at most rho.
		holder := big.NewRat(rapid.Int64Range(1_000_000-rhoPPM, 1_000_000).Draw(t, "holder"), 1_000_000)
		cand := new(big.Rat).Add(holder, big.NewRat(rapid.Int64Range(0, rhoPPM).Draw(t, "faster"), 1_000_000))
		sent := big.NewRat(rapid.Int64Range(0, 1e12).Draw(t, "sent"), 1)
		delay := big.NewRat(rapid.Int64Range(0, 1e10).Draw(t, "commit after"), 1)

		local := new(big.Rat).SetInt64(int64(tm.Budget + tm.Kill))
		lastAck := new(big.Rat).Add(sent, local.Quo(local, holder))
		hold := new(big.Rat).SetInt64(int64(ttl))
		claim := new(big.Rat).Add(new(big.Rat).Add(sent, delay), hold.Quo(hold, cand))
		if lastAck.Cmp(claim) >= 0 {
			t.Fatalf("%v/%v/%v: last ack %s, first claim %s", ttl, wait, retry, lastAck.FloatString(0), claim.FloatString(0))
		}
	})
}

// TestDeadlineLaw (S7): over any sequence of rounds with any timings, the
// deadline is that of some successful send, moves only forward, and every node
// that waits what the last beat announced outwaits it by the inequality of safety
// B.2: the deadline, K and the margin are less than the wait, whatever the clocks.
func TestDeadlineLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		timing := func() Timing {
			ttl := time.Duration(rapid.OneOf(rapid.IntRange(5000, 120_000), rapid.SampledFrom([]int{5000, 7000, 7999, 8000, 19_000, 19_999, 20_000})).Draw(t, "ttl ms")) * time.Millisecond
			tm, _ := NewTiming(ttl, sec, sec)
			return tm
		}
		now := Instant(1000 * sec)
		tm := timing()
		l := Claimed(10, now, tm)
		legal := map[Instant]bool{now.Add(tm.Budget): true}
		for range rapid.IntRange(1, 30).Draw(t, "rounds") {
			now = now.Add(time.Duration(rapid.IntRange(1, 20_000).Draw(t, "pause")) * time.Millisecond)
			if !l.Held(now) {
				break
			}
			before := l
			tm = timing()
			switch rapid.IntRange(0, 4).Draw(t, "outcome") {
			case 0: // failed
				l.Attempt = now
				if l.Deadline != before.Deadline {
					t.Fatal("a failed round moved the deadline")
				}
				continue
			case 1: // rule (d)
				l = l.Reclaimed(l.Epoch+1, now, tm)
				legal[now.Add(tm.Budget)] = true
			case 2: // the failsafe mode, whose members wait the new TTL, or what they promised before
				l = l.Agree(now, tm)
				legal[now.Add(tm.Budget)] = true
			default:
				l = l.Extended(now, tm, l.Beat+1)
				legal[now.Add(tm.Budget)] = true
			}
			if !legal[l.Deadline] || l.Deadline < before.Deadline {
				t.Fatalf("deadline %v from %v", l.Deadline, before.Deadline)
			}
			kill := max(before.Timing.Kill, tm.Kill) // the leash is told of a new timing beside the round
			act := l.Deadline.Sub(now) + kill + tm.Margin
			if act*1_000_000 > l.Promise*(1_000_000-2*rhoPPM) {
				t.Fatalf("announced %v, but the deadline, K and the margin take %v", l.Promise, act)
			}
		}
	})
}

func TestAnnounceShrinks(t *testing.T) {
	long, _ := NewTiming(30*sec, sec, sec)
	short, _ := NewTiming(5*sec, sec, sec)
	l := Claimed(1, noon, long)
	l = l.Extended(plus(sec), short, 1)
	if l.Promise != 30*sec || l.Deadline != noon.Add(long.Budget) {
		t.Errorf("right after ttl went down: promise %v, deadline in %v", l.Promise, l.Deadline.Sub(noon))
	}
	at := noon.Add(long.Budget - short.Budget)
	if l = l.Extended(at, short, 2); l.Promise != 5*sec || l.Deadline != at.Add(short.Budget) {
		t.Errorf("once the old deadline is matched: promise %v, deadline in %v", l.Promise, l.Deadline.Sub(at))
	}
}

// TestAnnounceAtTheBorder: with a ttl of 20 s K and the margin are larger than just
// below, so that a deadline of before may be the later one.
func TestAnnounceAtTheBorder(t *testing.T) {
	below, _ := NewTiming(19_999*time.Millisecond, sec, sec)
	above, _ := NewTiming(20*sec, sec, sec)
	l := Claimed(1, noon, below).Extended(plus(100*time.Millisecond), above, 1)
	if act := below.Budget - 100*time.Millisecond + above.Kill + above.Margin; l.Promise*998/1000 < act {
		t.Errorf("announced %v, to be outwaited: %v", l.Promise, act)
	}
}

func TestNextLook(t *testing.T) {
	tm, _ := NewTiming(30*sec, 10*sec, 10*sec)
	l := Claimed(1, noon, tm)
	for _, c := range []struct {
		at, want time.Duration
	}{{0, 10 * sec}, {9 * sec, sec}, {10 * sec, time.Millisecond}, {25 * sec, time.Millisecond}} {
		if got := l.NextLook(plus(c.at), 10*sec); got != c.want {
			t.Errorf("at +%v: %v, want %v", c.at, got, c.want)
		}
	}
	l.Attempt = plus(5 * sec)
	if got := l.NextLook(plus(5*sec), 10*sec); got != sec {
		t.Errorf("after a failed round: %v, want 1s", got)
	}
	if (Lease{}).NextLook(noon, 7*sec) != 7*sec || (Lease{}).Due(noon) {
		t.Error("no lease, no rounds")
	}
}

func TestIsLeader(t *testing.T) { // S14
	o := base()
	d := decide(o)
	v := NewView(o, &d)
	until := o.Memory.Lease.StopAt()
	if !v.IsLeader(until-1) || v.IsLeader(until) {
		t.Error("the answer must end at the stop instant, however old the view is")
	}
	v.Paused, v.Turned = true, until.Add(time.Hour)
	if !v.IsLeader(v.Turned.Add(v.Period)) {
		t.Error("in pause the deadline does not count")
	}
	if v.IsLeader(v.Turned.Add(3 * v.Period)) {
		t.Error("a loop that stands still does not know that the pause goes on")
	}
	if (*View)(nil).IsLeader(0) {
		t.Error("no view, no leader")
	}
	for name, change := range map[string]func(*Observation){
		"in recovery":  standbyLeaderToBe,
		"without lock": replica,
		"server down":  func(o *Observation) { down(o, "shut down") },
	} {
		o := base()
		change(o)
		d := decide(o)
		if NewView(o, &d).IsLeader(noon) {
			t.Errorf("%s: answers as the leader", name)
		}
	}
	v.MarkSeen(noon, o.Wall)
	if !v.ClusterValid(plus(29*sec)) || v.ClusterValid(plus(30*sec)) {
		t.Error("a view of the cluster is good for one ttl")
	}
}

// TestWatchdogTiming: the values of safety B.1, and its rule for every timing
// that may be configured.
func TestWatchdogTiming(t *testing.T) {
	for _, c := range []struct{ ttl, wait, retry, want, longest, tail time.Duration }{
		{30 * sec, 10 * sec, 10 * sec, 5 * sec, 9 * sec, 2100 * time.Millisecond},
		{8 * sec, sec, 2 * sec, 4 * sec, 4 * sec, 1300 * time.Millisecond},
		{5 * sec, sec, sec, 2 * sec, 2 * sec, 900 * time.Millisecond},
	} {
		timing, _ := NewTiming(c.ttl, c.wait, c.retry)
		if want, longest, tail := timing.Watchdog(); want != c.want || longest != c.longest || tail != c.tail {
			t.Errorf("%v: %v, %v, %v; want %v, %v, %v", c.ttl, want, longest, tail, c.want, c.longest, c.tail)
		}
	}
	for ttl := 5 * sec; ttl <= 60*sec; ttl += sec {
		for wait := sec; wait <= 15*sec; wait += sec {
			for retry := sec; retry <= 15*sec; retry += sec {
				timing, err := NewTiming(ttl, wait, retry)
				want, longest, tail := timing.Watchdog()
				if err == nil && longest > ttl-timing.Margin-timing.Period-retry {
					t.Fatalf("%v/%v/%v: a device of %v resets a primary after one failed round", ttl, wait, retry, longest)
				}
				if want < sec || want > 5*sec || want > longest || timing.Budget+tail != ttl-timing.Margin {
					t.Fatalf("%v/%v/%v: %v, %v, %v", ttl, wait, retry, want, longest, tail)
				}
			}
		}
	}
}

// TestClockStep: no decision about a leadership looks at the wall clock, which an
// operator or NTP may set to anything.
func TestClockStep(t *testing.T) {
	for name, change := range map[string]func(o *Observation){
		"the leader": func(*Observation) {}, "a replica": replica, "nobody leads": leaderless, "about to promote": standbyLeaderToBe,
		"the lease runs out": func(o *Observation) { o.Now = o.Memory.Lease.StopAt() },
	} {
		var want Decision
		for i, step := range []time.Duration{0, time.Hour, -time.Hour, -30 * 365 * 24 * time.Hour} {
			o := base()
			change(o)
			o.Wall = o.Wall.Add(step)
			got := decide(o)
			if i == 0 {
				want = got
			} else if !reflect.DeepEqual(got, want) {
				t.Errorf("%s, the clock stepped by %v: %s, want %s", name, step, got.Text("n1"), want.Text("n1"))
			}
		}
	}
}
