package leash

import (
	"errors"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

const (
	at    = int64(1_000_000)
	lmax  = int64(10_000)
	quiet = int64(1_000)
)

// armed is a leash that holds epoch 5 until at+500.
func armed(change ...func(*State)) State {
	s := State{Lmax: lmax, Quiet: quiet, Armed: true, Epoch: 5, Highest: 5, Deadline: at + 500}
	for _, f := range change {
		f(&s)
	}
	return s
}

// free is a leash that holds nothing and knows epochs up to 5.
func free(change ...func(*State)) State {
	return armed(append([]func(*State){func(s *State) { s.Armed, s.Epoch, s.Deadline = false, 0, 0 }}, change...)...)
}

func phase(p Phase) func(*State) { return func(s *State) { s.Phase = p } }
func writable(s *State)          { s.Writable = true }
func suspended(s *State)         { s.Suspended, s.Reason, s.Armed = true, "pause", false }
func latched(s *State)           { s.Latched, s.Armed = 5, false }

var (
	sigquit = []Action{SendSignal{syscall.SIGQUIT}}
	kill    = []Action{BeginSweep{}}
)

func TestStepRules(t *testing.T) {
	with := func(s State, change func(*State)) State { change(&s); return s }
	same := func(s *State) {}
	hold := func(e, d int64) func(*State) {
		return func(s *State) { s.Armed, s.Epoch, s.Highest, s.Deadline = true, e, max(s.Highest, e), d }
	}
	for _, c := range []struct {
		name   string
		from   State
		ext    Extension
		in     Input
		code   string // of the refusal
		change func(*State)
		acts   []Action
	}{
		// arm
		{name: "arm: a newer epoch", from: free(), in: Arm{6, at + 100}, change: hold(6, at+100)},
		{name: "arm: up to Lmax", from: free(), in: Arm{6, at + lmax}, change: hold(6, at+lmax)},
		{name: "arm: beyond Lmax", from: free(), in: Arm{6, at + lmax + 1}, code: CodeDeadline},
		{name: "arm: deadline passed", from: free(), in: Arm{6, at}, code: CodeDeadline},
		{name: "arm: an epoch armed before", from: free(), in: Arm{5, at + 100}, code: CodeEpoch},
		{name: "arm: an older epoch", from: free(), in: Arm{4, at + 100}, code: CodeEpoch},
		{name: "arm: not an epoch", from: State{Lmax: lmax}, in: Arm{0, at + 100}, code: CodeEpoch},
		{name: "arm: a latched epoch", from: free(latched), in: Arm{5, at + 100}, code: CodeLatched},
		{name: "arm: after a latch, a newer one", from: free(latched), in: Arm{6, at + 100}, change: hold(6, at+100)},
		{name: "arm: the armed epoch, later", from: armed(), in: Arm{5, at + 900}, change: hold(5, at+900)},
		{name: "arm: the armed epoch, earlier, keeps the deadline", from: armed(), in: Arm{5, at + 100}, change: same},
		{name: "arm: the armed epoch, too far", from: armed(), in: Arm{5, at + lmax + 1}, code: CodeDeadline},
		{name: "arm: a new epoch over an armed one", from: armed(), in: Arm{6, at + 100}, change: hold(6, at+100)},
		{name: "arm: suspended", from: free(suspended), in: Arm{6, at + 100}, code: CodeSuspended},
		{name: "arm: while fencing", from: free(phase(Fencing), func(s *State) { s.KillAt = at + 9 }), in: Arm{6, at + 100}, code: CodeBusy},
		{name: "arm: while sweeping", from: free(phase(Sweeping)), in: Arm{6, at + 100}, code: CodeBusy},
		{name: "arm: a running standby may write from then on", from: free(phase(Running)), in: Arm{6, at + 100},
			change: func(s *State) { hold(6, at+100)(s); s.Writable = true }},

		// extend
		{name: "extend: forward", from: armed(), ext: Extension{5, at + 900}, in: Tick{}, change: hold(5, at+900)},
		{name: "extend: backward", from: armed(), ext: Extension{5, at + 400}, in: Tick{}, change: same},
		{name: "extend: another epoch", from: armed(), ext: Extension{6, at + 900}, in: Tick{}, change: same},
		{name: "extend: beyond Lmax", from: armed(), ext: Extension{5, at + lmax + 1}, in: Tick{}, change: same},
		{name: "extend: seen just in time", from: armed(func(s *State) { s.Deadline = at }, phase(Running)),
			ext: Extension{5, at + 1}, in: Tick{}, change: hold(5, at+1)},
		{name: "extend: after the latch", from: armed(latched), ext: Extension{5, at + 900}, in: Tick{}, change: same},
		{name: "extend: suspended", from: armed(suspended), ext: Extension{5, at + 900}, in: Tick{}, change: same},

		// deadline
		{name: "deadline: not yet", from: armed(phase(Running), func(s *State) { s.Deadline = at + 1 }), in: Tick{}, change: same},
		{name: "deadline: kills and latches", from: armed(phase(Running), writable, func(s *State) { s.Deadline = at }), in: Tick{},
			change: func(s *State) { s.Armed, s.Latched, s.Phase, s.KillAt, s.Mark = false, 5, Fencing, at+quiet, true }, acts: sigquit},
		{name: "deadline: a late leash sweeps at once", from: armed(phase(Running), func(s *State) { s.Deadline = at - quiet }), in: Tick{},
			change: func(s *State) { s.Armed, s.Latched, s.Phase, s.KillAt, s.Mark = false, 5, Sweeping, at, true },
			acts:   append(append([]Action{}, sigquit...), kill...)},
		{name: "deadline: without a server it latches", from: armed(func(s *State) { s.Deadline = at }), in: Tick{},
			change: func(s *State) { s.Armed, s.Latched = false, 5 }},
		{name: "deadline: during a sweep it latches", from: armed(phase(Sweeping), func(s *State) { s.Deadline = at }), in: Tick{},
			change: func(s *State) { s.Armed, s.Latched, s.Mark = false, 5, true }},
		{name: "deadline: before the request that came with it", from: armed(func(s *State) { s.Deadline = at }), in: Arm{5, at + 100},
			change: func(s *State) { s.Armed, s.Latched = false, 5 }, code: CodeLatched},
		{name: "suspended: nothing is killed", from: armed(phase(Running), suspended, func(s *State) { s.Deadline = at - 1 }), in: Tick{}, change: same},
		{name: "quiet time over", from: free(phase(Fencing), func(s *State) { s.KillAt = at }), in: Tick{},
			change: func(s *State) { s.Phase = Sweeping }, acts: kill},
		{name: "quiet time not over", from: free(phase(Fencing), func(s *State) { s.KillAt = at + 1 }), in: Tick{}, change: same},

		// disarm
		{name: "disarm: server dead", from: armed(), in: Disarm{Epoch: 5}, change: func(s *State) { s.Armed = false }},
		{name: "disarm: another epoch", from: armed(), in: Disarm{Epoch: 4}, code: CodeEpoch},
		{name: "disarm: not armed", from: free(), in: Disarm{Epoch: 5}, change: same},
		{name: "disarm: started as standby after the arm", from: armed(phase(Running)), in: Disarm{Epoch: 5, StandbySignal: true},
			change: func(s *State) { s.Armed = false }},
		{name: "disarm: may have been promoted", from: armed(phase(Running), writable), in: Disarm{Epoch: 5, StandbySignal: true}, code: CodeWritable},
		{name: "disarm: shown to be in recovery", from: armed(phase(Running), writable), in: Disarm{Epoch: 5, StandbySignal: true, InRecovery: true},
			change: func(s *State) { s.Armed, s.Writable = false, false }},
		{name: "disarm: no standby.signal", from: armed(phase(Running)), in: Disarm{Epoch: 5, InRecovery: true}, code: CodeWritable},

		// start
		{name: "start: a standby", from: free(), in: Start{StandbySignal: true}, change: phase(Running)},
		{name: "start: a primary, armed", from: armed(), in: Start{Writable: true},
			change: func(s *State) { s.Phase, s.Writable = Running, true }},
		{name: "start: a primary, not armed", from: free(), in: Start{Writable: true}, code: CodeNotArmed},
		{name: "start: a primary, latched", from: free(latched), in: Start{Writable: true}, code: CodeNotArmed},
		{name: "start: a primary, in pause", from: free(suspended), in: Start{Writable: true},
			change: func(s *State) { s.Phase, s.Writable = Running, true }},
		{name: "start: a standby was meant", from: armed(), in: Start{}, code: CodeWritable},
		{name: "start: bootstrap with its marker", from: free(), in: Start{Writable: true, Bootstrap: true, Marker: MarkerBootstrap},
			change: func(s *State) { s.Phase, s.Writable = Running, true }},
		{name: "start: bootstrap without marker", from: free(), in: Start{Writable: true, Bootstrap: true}, code: CodeNotArmed},
		{name: "start: bootstrap not named", from: armed(), in: Start{Writable: true, Marker: MarkerBootstrap}, code: CodeInProgress},
		{name: "start: half a clone", from: armed(), in: Start{Writable: true, Bootstrap: true, Marker: "clone"}, code: CodeInProgress},
		{name: "start: half a clone as standby", from: free(), in: Start{StandbySignal: true, Marker: "clone"}, code: CodeInProgress},
		{name: "start: obstacle", from: armed(), in: Start{Writable: true, Obstacle: "x"}, code: CodeDataDir},
		{name: "start: one runs", from: armed(phase(Running)), in: Start{Writable: true}, code: CodeServerRuns},
		{name: "start: orphans are left", from: armed(phase(Sweeping)), in: Start{Writable: true}, code: CodeServerRuns},
		{name: "start failed", from: armed(phase(Running), writable), in: StartFailed{},
			change: func(s *State) { s.Phase, s.Writable = NoServer, false }},

		// adopt
		{name: "adopt: a primary", from: free(), in: Adopt{}, change: func(s *State) { s.Phase, s.Writable = Running, true }},
		{name: "adopt: a standby", from: free(), in: Adopt{StandbySignal: true}, change: phase(Running)},
		{name: "adopt: a standby, armed", from: armed(), in: Adopt{StandbySignal: true},
			change: func(s *State) { s.Phase, s.Writable = Running, true }},
		{name: "adopt: obstacle", from: free(), in: Adopt{Obstacle: "x"}, code: CodeDataDir},
		{name: "adopt: one runs", from: free(phase(Running)), in: Adopt{}, code: CodeServerRuns},

		// suspend and resume
		{name: "suspend", from: armed(phase(Running)), in: Suspend{"pause"}, change: suspended},
		{name: "suspend: while fencing", from: free(phase(Fencing), func(s *State) { s.KillAt = at + 9 }), in: Suspend{"pause"}, code: CodeBusy},
		{name: "resume: the epoch set aside", from: armed(suspended, phase(Running), writable), in: Resume{5, at + 300},
			change: func(s *State) { s.Suspended, s.Reason = false, ""; hold(5, at+300)(s) }},
		{name: "resume: a newer epoch", from: armed(suspended), in: Resume{7, at + 300},
			change: func(s *State) { s.Suspended, s.Reason = false, ""; hold(7, at+300)(s) }},
		{name: "resume: an older epoch", from: armed(suspended), in: Resume{4, at + 300}, code: CodeEpoch},
		{name: "resume: a latched epoch", from: armed(latched, suspended), in: Resume{5, at + 300}, code: CodeLatched},
		{name: "resume: an epoch given up before", from: free(suspended), in: Resume{5, at + 300}, code: CodeEpoch},
		{name: "resume: deadline passed", from: armed(suspended), in: Resume{5, at}, code: CodeDeadline},
		{name: "resume: too far", from: armed(suspended), in: Resume{5, at + lmax + 1}, code: CodeDeadline},
		{name: "resume: not suspended", from: armed(), in: Resume{5, at + 300}, code: CodeNotSuspended},
		{name: "resume: a standby needs no deadline", from: armed(suspended, phase(Running)), in: Resume{},
			change: func(s *State) { s.Suspended, s.Reason = false, "" }},
		{name: "resume: a primary needs one", from: armed(suspended, phase(Running), writable), in: Resume{}, code: CodeWritable},

		// the rest
		{name: "signal", from: free(phase(Running)), in: Signal{syscall.SIGINT}, change: same, acts: []Action{SendSignal{syscall.SIGINT}}},
		{name: "signal: no server", from: free(), in: Signal{syscall.SIGINT}, code: CodeNoServer},
		{name: "signal: one that is not for it", from: free(phase(Running)), in: Signal{syscall.SIGKILL}, code: CodeInvalid},
		{name: "fence: no latch, no mark", from: armed(phase(Running)), in: Fence{},
			change: func(s *State) { s.Phase, s.KillAt = Fencing, at+quiet }, acts: sigquit},
		{name: "fence: no server", from: armed(), in: Fence{}, code: CodeNoServer},
		{name: "fence: under way", from: free(phase(Sweeping)), in: Fence{}, change: same},
		{name: "sweep: a running server", from: armed(phase(Running)), in: Sweep{}, change: phase(Sweeping), acts: kill},
		{name: "sweep: orphans", from: free(), in: Sweep{}, change: phase(Sweeping), acts: kill},
		{name: "sweep: obstacle", from: free(), in: Sweep{"x"}, code: CodeDataDir},
		{name: "exit: orphans first", from: armed(phase(Running), writable), in: Exited{}, change: phase(Sweeping), acts: kill},
		{name: "exit: while fencing", from: free(phase(Fencing), func(s *State) { s.KillAt = at + 9 }), in: Exited{}, change: phase(Sweeping), acts: kill},
		{name: "swept", from: free(phase(Sweeping), writable), in: Swept{}, change: func(s *State) { s.Phase, s.Writable = NoServer, false }},
		{name: "swept: after the deadline", from: free(phase(Sweeping), func(s *State) { s.Mark = true }), in: Swept{},
			change: func(s *State) { s.Phase, s.Mark = NoServer, false }, acts: []Action{MarkStandby{}}},
		{name: "swept: not sweeping", from: free(phase(Running)), in: Swept{}, change: same},
		{name: "configure", from: armed(), in: Configure{20, 10}, change: func(s *State) { s.Lmax, s.Quiet = 20, 10 }},
		{name: "configure: nonsense", from: armed(), in: Configure{0, 0}, code: CodeInvalid},
		{name: "configure: beyond any lease", from: armed(), in: Configure{LmaxLimit + 1, 0}, code: CodeInvalid},
		{name: "counted", from: armed(), in: Counted{9}, change: func(s *State) { s.Etcd = 9 }},
		{name: "forget", from: free(latched), in: Forget{}, change: func(s *State) { s.Highest, s.Latched = 0, 0 }},
		{name: "forget: armed", from: armed(), in: Forget{}, code: CodeArmed},
		{name: "forget: a primary runs", from: free(phase(Running), writable), in: Forget{}, code: CodeWritable},
		{name: "quit", from: free(), in: Quit{}, change: same, acts: []Action{Leave{}}},
		{name: "quit: armed", from: armed(), in: Quit{}, change: func(s *State) { s.Armed = false }, acts: []Action{Leave{}}},
		{name: "quit: a server runs", from: free(phase(Running)), in: Quit{}, code: CodeServerRuns},
		{name: "quit: orphans are left", from: free(phase(Sweeping)), in: Quit{}, code: CodeServerRuns},
		{name: "unknown", from: free(), in: nil, code: CodeInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := c.from
			if c.change != nil {
				want = with(c.from, c.change)
			}
			got, acts, err := Step(c.from, c.ext, c.in, at)
			if got != want {
				t.Errorf("state\n got %+v\nwant %+v", got, want)
			}
			if !reflect.DeepEqual(acts, c.acts) {
				t.Errorf("actions %v, want %v", acts, c.acts)
			}
			if code := codeOf(err); code != c.code {
				t.Errorf("refusal %q (%v), want %q", code, err, c.code)
			}
		})
	}
}

func codeOf(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func TestWake(t *testing.T) {
	killAt := func(k int64) func(*State) { return func(s *State) { s.KillAt = k } }
	for name, c := range map[string]struct {
		s    State
		want int64
	}{
		"nothing":          {free(), 0},
		"armed":            {armed(phase(Running)), at + 500},
		"suspended":        {armed(suspended, phase(Running)), 0},
		"fencing":          {free(phase(Fencing), killAt(at+7)), at + 7},
		"fencing, armed":   {armed(phase(Fencing), killAt(at+900)), at + 500},
		"fencing, earlier": {armed(phase(Fencing), killAt(at+7)), at + 7},
	} {
		if got := c.s.Wake(); got != c.want {
			t.Errorf("%s: wake at %d, want %d", name, got, c.want)
		}
	}
}

// TestDeadlineLaw drives random sequences and checks after each step what no
// sequence may break.
func TestDeadlineLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := at
		s := State{Lmax: lmax, Quiet: quiet}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, 2_000).Draw(t, "wait")
			ext := Extension{rapid.Int64Range(0, 6).Draw(t, "ext epoch"), now + rapid.Int64Range(-3_000, 2*lmax).Draw(t, "ext")}
			in := randomInput(t, now)
			next, acts, _ := Step(s, ext, in, now)
			checkLaw(t, s, next, ext, in, acts, now)
			s = next
		}
	})
}

func randomInput(t *rapid.T, now int64) Input {
	epoch := rapid.Int64Range(0, 6).Draw(t, "epoch")
	deadline := now + rapid.Int64Range(-100, 2*lmax).Draw(t, "deadline")
	yes := func(label string) bool { return rapid.Bool().Draw(t, label) }
	return rapid.SampledFrom([]Input{
		Tick{}, Tick{}, Tick{}, Arm{epoch, deadline}, Arm{epoch, deadline},
		Disarm{Epoch: epoch, StandbySignal: yes("signal"), InRecovery: yes("recovery")},
		Start{Writable: yes("writable"), StandbySignal: yes("signal"), Bootstrap: yes("bootstrap"),
			Marker: rapid.SampledFrom([]string{"", "clone", MarkerBootstrap}).Draw(t, "marker")},
		StartFailed{}, Adopt{StandbySignal: yes("signal")}, Suspend{"pause"}, Resume{epoch, deadline},
		Signal{syscall.SIGINT}, Fence{}, Sweep{}, Exited{}, Swept{}, Quit{},
	}).Draw(t, "input")
}

func checkLaw(t *rapid.T, s, n State, ext Extension, in Input, acts []Action, now int64) {
	fail := func(what string) {
		t.Fatalf("%s\n from %+v\n to   %+v\n ext %+v input %#v now %d", what, s, n, ext, in, now)
	}
	if n.Armed && (n.Deadline <= now || n.Deadline > now+n.Lmax) && n.Deadline != s.Deadline {
		fail("a deadline was set that is over or beyond Lmax")
	}
	if n.Armed && n.Deadline <= now {
		fail("armed beyond the deadline")
	}
	if n.Armed && n.Epoch <= n.Latched {
		fail("a latched epoch is armed")
	}
	if n.Latched < s.Latched || n.Highest < s.Highest {
		fail("an epoch was forgotten")
	}
	if s.Armed && n.Armed && s.Epoch == n.Epoch && n.Deadline < s.Deadline {
		fail("the deadline of an epoch moved back")
	}
	if s.Armed && n.Armed && s.Epoch == n.Epoch && n.Deadline != s.Deadline {
		if a, ok := in.(Arm); ext.Epoch != s.Epoch && (!ok || a.Epoch != s.Epoch) {
			fail("the deadline moved for another epoch")
		}
	}
	if n.Armed && n.Suspended {
		fail("armed and suspended")
	}
	if slices.Contains(acts, Action(Leave{})) && (n.Armed || n.Phase != NoServer) {
		fail("left while armed, or with a server")
	}
	latchedNow := n.Latched > s.Latched
	if latchedNow && s.Phase == Running && (len(acts) == 0 || acts[0] != Action(SendSignal{syscall.SIGQUIT})) {
		fail("a latch without a kill")
	}
	if s.Armed && s.Phase == Running && !n.Armed && n.Phase == Running && !n.Suspended {
		if _, ok := in.(Disarm); !ok || n.Writable {
			fail("a server was let go without a proof")
		}
	}
	if s.Phase == NoServer && n.Phase == Running && n.Writable && !n.Armed && !n.Suspended {
		st, start := in.(Start)
		if _, adopted := in.(Adopt); !adopted && (!start || !st.Bootstrap || st.Marker != MarkerBootstrap) {
			fail("a writable server was started unarmed")
		}
	}
}
