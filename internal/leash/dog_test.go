package leash

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const (
	second  = int64(time.Second)
	dogTail = 2 * second
	dogWant = 5 * second
	dogMost = 9 * second
	dogLmax = 60 * second
	far     = at + 26*second // a deadline after a round
)

// guard is a leash with the watchdog in mode; changes as for armed and free.
func guard(mode WatchdogMode, change ...func(*State)) State {
	s := State{Lmax: dogLmax, Quiet: quiet, Highest: 5}
	s.Watchdog = Watchdog{Mode: mode, Want: dogWant, Longest: dogMost, Tail: dogTail}
	for _, f := range change {
		f(&s)
	}
	return s
}

func holding(s *State) { s.Armed, s.Epoch, s.Deadline = true, 5, far }
func holds6(s *State)  { s.Armed, s.Epoch, s.Highest, s.Deadline = true, 6, 6, far }

// open: the countdown began ago before now.
func open(ago int64) func(*State) {
	return func(s *State) {
		s.Watchdog.Open, s.Watchdog.Timeout, s.Watchdog.Pinged = true, dogWant, at-ago
	}
}

func shut(s *State) {
	w := &s.Watchdog
	w.Open, w.Timeout, w.Pinged, w.Fresh, w.Release, w.Fault = false, 0, 0, false, false, ""
}

func fault(why string, when int64) func(*State) {
	return func(s *State) { s.Watchdog.Fault, s.Watchdog.FaultAt = why, when }
}

func fresh(s *State)           { s.Watchdog.Fresh = true }
func let(s *State)             { s.Watchdog.Release = true }
func due(d int64) func(*State) { return func(s *State) { s.Deadline = d } }

func all(change ...func(*State)) func(*State) {
	return func(s *State) {
		for _, f := range change {
			f(s)
		}
	}
}

func TestWatchdogRules(t *testing.T) {
	var (
		opens  = []Action{OpenWatchdog{}}
		pings  = []Action{PingWatchdog{}}
		closes = []Action{CloseWatchdog{}}
		pinged = func(s *State) { s.Watchdog.Pinged = at }
		same   = func(*State) {}
		unheld = func(s *State) { s.Armed = false }
	)
	for _, c := range []struct {
		name   string
		from   State
		in     Input
		code   string
		change func(*State)
		acts   []Action
	}{
		// opening
		{name: "first arm opens", from: guard(WatchdogAutomatic), in: Prepare{Epoch: 6, Deadline: far}, change: same, acts: opens},
		{name: "resume opens", from: guard(WatchdogAutomatic, suspended), in: Prepare{Resume: true, Epoch: 6, Deadline: far}, change: same, acts: opens},
		{name: "off: nothing is opened", from: guard(WatchdogOff), in: Prepare{Epoch: 6, Deadline: far}, change: same},
		{name: "open already", from: guard(WatchdogAutomatic, holding, open(0)), in: Prepare{Epoch: 6, Deadline: far}, change: same},
		{name: "an arm that will be refused opens nothing", from: guard(WatchdogRequired), in: Prepare{Epoch: 5, Deadline: far}, change: same},
		{name: "nor one in pause", from: guard(WatchdogRequired, suspended), in: Prepare{Epoch: 6, Deadline: far}, change: same},
		{name: "nor a resume without a deadline", from: guard(WatchdogRequired, suspended), in: Prepare{Resume: true}, change: same},
		{name: "the longest countdown just fits", from: guard(WatchdogAutomatic), in: Prepare{Epoch: 6, Deadline: at + dogMost - dogTail}, change: same, acts: opens},
		{name: "it would end past the hard limit", from: guard(WatchdogAutomatic), in: Prepare{Epoch: 6, Deadline: at + dogMost - dogTail - 1},
			change: fault("only 8.999999999s are left of this leadership, too little to begin with", at)},
		{name: "opened for an arm", from: guard(WatchdogAutomatic, fault("x", 1)), in: Opened{dogWant},
			change: all(open(0), fresh, fault("", 1))},
		{name: "opened while armed", from: guard(WatchdogAutomatic, holding), in: Opened{dogWant}, change: open(0)},
		{name: "not opened", from: guard(WatchdogAutomatic), in: NotOpened{"x"}, change: fault("x", at)},

		// arming
		{name: "required and open", from: guard(WatchdogRequired, open(0), fresh), in: Arm{6, far},
			change: all(holds6, func(s *State) { s.Watchdog.Fresh = false })},
		{name: "required and not open", from: guard(WatchdogRequired), in: Arm{6, far}, code: CodeWatchdog, change: same},
		{name: "required, and it failed", from: guard(WatchdogRequired, fault("x", at)), in: Arm{6, far}, code: CodeWatchdog, change: same},
		{name: "required, and it takes no keepalive", from: guard(WatchdogRequired, holding, open(0), fault("x", at)), in: Arm{6, far}, code: CodeWatchdog, change: same},
		{name: "required, resume", from: guard(WatchdogRequired, suspended), in: Resume{6, far}, code: CodeWatchdog, change: same},
		{name: "automatic, and it failed", from: guard(WatchdogAutomatic, fault("x", at)), in: Arm{6, far}, change: holds6},
		{name: "opened for an arm that is refused", from: guard(WatchdogAutomatic, open(0), fresh), in: Arm{5, far}, code: CodeEpoch,
			change: shut, acts: closes},
		{name: "a refused arm leaves an older opening alone", from: guard(WatchdogAutomatic, latched, open(0)), in: Arm{5, far}, code: CodeLatched, change: same},

		// keepalives
		{name: "due", from: guard(WatchdogAutomatic, holding, open(second)), in: Tick{}, change: pinged, acts: pings},
		{name: "not due", from: guard(WatchdogAutomatic, holding, open(second/8)), in: Tick{}, change: same},
		{name: "up to the hard limit", from: guard(WatchdogAutomatic, holding, open(second), due(at+dogWant-dogTail)), in: Tick{}, change: pinged, acts: pings},
		{name: "not past it", from: guard(WatchdogAutomatic, holding, open(second), due(at+dogWant-dogTail-1)), in: Tick{}, change: same},
		{name: "not unless armed", from: guard(WatchdogAutomatic, latched, open(second)), in: Tick{}, change: same},
		{name: "not taken", from: guard(WatchdogAutomatic, holding, open(0)), in: Pinged{"x"}, change: fault("x", at)},
		{name: "taken again", from: guard(WatchdogAutomatic, holding, open(0), fault("x", 1)), in: Pinged{}, change: fault("", at)},
		{name: "at a fault it goes on trying", from: guard(WatchdogAutomatic, holding, open(second), fault("x", 1)), in: Tick{}, change: pinged, acts: pings},

		// switching off
		{name: "disarm", from: guard(WatchdogAutomatic, holding, open(0)), in: Disarm{Epoch: 5}, change: all(unheld, shut), acts: closes},
		{name: "disarm, refused", from: guard(WatchdogAutomatic, holding, open(0), phase(Running), writable), in: Disarm{Epoch: 5}, code: CodeWritable, change: same},
		{name: "disarm during a sweep proves nothing yet", from: guard(WatchdogAutomatic, holding, open(0), phase(Sweeping)), in: Disarm{Epoch: 5},
			change: all(unheld, let)},
		{name: "the end of that sweep does", from: guard(WatchdogAutomatic, open(0), let, phase(Sweeping)), in: Swept{}, change: all(shut, phase(NoServer)), acts: closes},
		{name: "the end of another does not", from: guard(WatchdogAutomatic, latched, open(0), phase(Sweeping)), in: Swept{}, change: phase(NoServer)},
		{name: "disarm after a fence, the server being gone", from: guard(WatchdogAutomatic, latched, open(0)), in: Disarm{Epoch: 5}, change: shut, acts: closes},
		{name: "suspend", from: guard(WatchdogAutomatic, holding, open(0), phase(Running), writable), in: Suspend{"pause"},
			change: all(suspended, shut), acts: closes},
		{name: "quit", from: guard(WatchdogAutomatic, latched, open(0)), in: Quit{}, change: shut, acts: []Action{CloseWatchdog{}, Leave{}}},
		{name: "quit while armed", from: guard(WatchdogAutomatic, holding, open(0)), in: Quit{}, change: all(unheld, shut), acts: []Action{CloseWatchdog{}, Leave{}}},
		{name: "quit, refused", from: guard(WatchdogAutomatic, holding, open(0), phase(Running)), in: Quit{}, code: CodeServerRuns, change: same},
		{name: "the deadline leaves it open", from: guard(WatchdogAutomatic, holding, open(second), due(at)), in: Tick{}, change: all(unheld, func(s *State) { s.Latched = 5 })},
		{name: "fence leaves it open", from: guard(WatchdogAutomatic, holding, open(0), phase(Running)), in: Fence{},
			change: func(s *State) { s.Phase, s.KillAt = Fencing, at+quiet }, acts: sigquit},

		// settings
		{name: "settings", from: guard(WatchdogOff), in: SetWatchdog{WatchdogRequired, dogWant, dogMost, dogTail}, change: func(s *State) { s.Watchdog.Mode = WatchdogRequired }},
		{name: "settings, armed", from: guard(WatchdogOff, holding), in: SetWatchdog{WatchdogAutomatic, dogWant, dogMost, dogTail},
			change: func(s *State) { s.Watchdog.Mode = WatchdogAutomatic }, acts: opens},
		{name: "switched off while armed: at the next disarm", from: guard(WatchdogAutomatic, holding, open(0)), in: SetWatchdog{},
			change: func(s *State) { s.Watchdog.Mode, s.Watchdog.Want, s.Watchdog.Longest, s.Watchdog.Tail = 0, 0, 0, 0 }},
		{name: "unknown mode", from: guard(WatchdogOff), in: SetWatchdog{3, dogWant, dogMost, dogTail}, code: CodeInvalid, change: same},
		{name: "no timeout", from: guard(WatchdogOff), in: SetWatchdog{WatchdogAutomatic, 0, dogMost, dogTail}, code: CodeInvalid, change: same},
		{name: "longest below the timeout", from: guard(WatchdogOff), in: SetWatchdog{WatchdogAutomatic, dogWant, dogWant - 1, dogTail}, code: CodeInvalid, change: same},
		{name: "limit before the deadline", from: guard(WatchdogOff), in: SetWatchdog{WatchdogAutomatic, dogWant, dogMost, -1}, code: CodeInvalid, change: same},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := c.from
			c.change(&want)
			got, acts, err := Step(c.from, Extension{}, c.in, at)
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

// TestWatchdogLaw: whatever happens, in whatever order, and whatever the device
// does, no keepalive lets it wait past the hard limit, it is switched off only
// with a proof, and mode required arms nothing without it.
func TestWatchdogLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := at
		s := guard(WatchdogMode(rapid.IntRange(0, 2).Draw(t, "mode")))
		var did dogCount
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, 3*second).Draw(t, "wait")
			ext := Extension{rapid.Int64Range(0, 6).Draw(t, "ext epoch"), now + rapid.Int64Range(-second, 2*dogLmax).Draw(t, "ext")}
			in := randomDogInput(t, now)
			for in != nil { // an opening has an outcome, as the shell sees to
				next, acts, err := Step(s, ext, in, now)
				checkDog(t, s, next, in, acts, err, now)
				in = did.follow(t, acts)
				s = next
			}
		}
	})
}

type dogCount struct{ device bool }

// follow plays the shell: what became of an opening.
func (c *dogCount) follow(t *rapid.T, acts []Action) Input {
	var next Input
	for _, a := range acts {
		switch a.(type) {
		case OpenWatchdog:
			if c.device {
				t.Fatal("the device was opened twice")
			}
			if next = Input(NotOpened{"x"}); rapid.Bool().Draw(t, "opens") {
				c.device = true
				next = Opened{rapid.Int64Range(1, 9).Draw(t, "timeout") * second}
			}
		case CloseWatchdog:
			if !c.device {
				t.Fatal("a device was switched off that is not open")
			}
			c.device = false
		case PingWatchdog:
			if !c.device {
				t.Fatal("a keepalive without a device")
			}
		}
	}
	return next
}

func randomDogInput(t *rapid.T, now int64) Input {
	epoch := rapid.Int64Range(0, 6).Draw(t, "dog epoch")
	deadline := now + rapid.Int64Range(-second, 40*second).Draw(t, "dog deadline")
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 0, 1:
		return Prepare{Epoch: epoch, Deadline: deadline}
	case 2:
		return Arm{epoch, deadline}
	case 3:
		return Prepare{Resume: true, Epoch: epoch, Deadline: deadline}
	case 4:
		return SetWatchdog{WatchdogMode(rapid.IntRange(0, 2).Draw(t, "new mode")), dogWant, dogMost, rapid.Int64Range(0, dogTail).Draw(t, "tail")}
	case 5:
		return Pinged{rapid.SampledFrom([]string{"", "x"}).Draw(t, "ping")}
	default:
		return randomInput(t, now)
	}
}

func checkDog(t *rapid.T, s, n State, in Input, acts []Action, err error, now int64) {
	fail := func(what string) {
		t.Fatalf("%s\n from %+v\n to   %+v\n input %#v (%v) now %d", what, s, n, in, err, now)
	}
	for _, a := range acts {
		switch a.(type) {
		case PingWatchdog:
			if !n.Armed || n.Suspended || now+n.Watchdog.Timeout > n.Deadline+n.Watchdog.Tail {
				fail("a keepalive past the hard limit, or without a deadline")
			}
		case CloseWatchdog:
			if n.Armed || n.Watchdog.Open {
				fail("switched off while armed")
			}
			if !provenOff(s, n, in, err) {
				fail("switched off without a proof")
			}
		}
	}
	if !s.Armed && n.Armed && n.Watchdog.Mode == WatchdogRequired && !n.Watchdog.inForce() {
		fail("armed without the watchdog that is required")
	}
	if n.Watchdog.Fresh && !n.Watchdog.Open || n.Watchdog.Release && n.Armed {
		fail("a mark was left over")
	}
	if _, ok := in.(Arm); ok && err != nil && !n.Armed && n.Watchdog.Fresh {
		fail("a refused arm left the device on")
	}
}

// provenOff: the only ways of a device to be switched off.
func provenOff(s, n State, in Input, err error) bool {
	switch in.(type) {
	case Disarm:
		return err == nil && (n.Phase == NoServer || n.Phase == Running && !n.Writable)
	case Suspend, Quit:
		return err == nil
	case Swept:
		return s.Watchdog.Release && n.Phase == NoServer
	case Arm, Resume:
		return err != nil && s.Watchdog.Fresh
	}
	return false
}
