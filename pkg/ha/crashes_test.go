package ha

import "testing"

// crashing: the leader's server is dead again; its crashes before this one were
// so long ago.
func crashing(ago ...Instant) func(*Observation) {
	return func(o *Observation) {
		down(o, "in production")
		o.Memory.Crashes.Epoch = myEpoch
		for i, s := range ago {
			o.Memory.Crashes.At[i] = noon - s*Instant(sec)
		}
	}
}

func TestCrashLoop(t *testing.T) { // L7
	with := func(change func(*Observation), n2, n3 Peer) func(*Observation) {
		return func(o *Observation) { change(o); answered(o, n2, n3) }
	}
	good := standbyPeer(1000)
	runTable(t, []row{
		{name: "R2 the first crash: starts in place", change: with(crashing(), good, good), action: Start{}, reason: StartAsPrimary},
		{name: "R2 the second, too", change: with(crashing(5), good, good), action: Start{}, reason: StartAsPrimary},
		{name: "the third within the window looks for somebody", change: crashing(5, 110), action: AskPeers{}, reason: CrashAskPeers},
		{name: "and hands over", change: with(crashing(5, 110), Peer{}, good), action: Release{}, reason: CrashLoop, check: wants(Release{Epoch: myEpoch, Clean: true})},
		{name: "not when the others lie back", change: with(crashing(5, 121), good, good), action: Start{}, reason: StartAsPrimary},
		{name: "not when they were in another leadership", change: func(o *Observation) {
			with(crashing(5, 10), good, good)(o)
			o.Memory.Crashes.Epoch = 7
		}, action: Start{}, reason: StartAsPrimary},
		{name: "a short primary_start_timeout is the window", change: func(o *Observation) {
			with(crashing(5, 50), good, good)(o)
			o.Settings.PrimaryStartTimeout = 40 * sec
		}, action: Start{}, reason: StartAsPrimary},
		{name: "with a short loop_wait slow recoveries count still", change: func(o *Observation) {
			crashing(8, 16)(o)
			o.Settings.LoopWait = sec
		}, action: AskPeers{}, reason: CrashAskPeers},
		{name: "and not for ever", change: func(o *Observation) {
			with(crashing(8, 25), good, good)(o)
			o.Settings.LoopWait = sec
		}, action: Start{}, reason: StartAsPrimary},
		{name: "nobody can take over: once per period", change: with(crashing(1, 2), Peer{}, Peer{}), reason: CrashLoopWaits},
		{name: "and then again", change: func(o *Observation) {
			with(crashing(10, 20, 30), Peer{}, Peer{})(o)
			o.PG.Since = plus(-10 * sec)
			o.Memory.CrashedPrimary = plus(-10 * sec)
		}, action: Start{}, reason: StartAsPrimary},
		{name: "one that died before it was seen to be back counts, too", change: func(o *Observation) {
			with(crashing(5, 10), good, good)(o)
			o.PG.Since, o.Memory.CrashedPrimary = plus(-sec), plus(-10*sec)
		}, action: Release{}, reason: CrashLoop},
		{name: "somebody comes back meanwhile", change: func(o *Observation) {
			with(crashing(4, 5, 6), good, Peer{})(o)
			o.PG.Since = plus(-4 * sec)
			o.Memory.CrashedPrimary = plus(-4 * sec)
		}, action: Release{}, reason: CrashLoop},
	})

	// One crash is counted once, however long it takes to come back.
	o := base()
	for i := range 3 {
		down(o, "in production")
		for range 4 {
			answered(o, Peer{}, Peer{})
			d := decide(o)
			o.Memory = d.Memory
		}
		if got := o.Memory.Crashes.At; got[min(i+1, crashBudget)] != 0 && i < crashBudget || got[i] == 0 {
			t.Fatalf("after crash %d: %v", i+1, got)
		}
		o.PG.Process, o.PG.Known, o.PG.Row = ProcessRunning, true, Row{Timeline: 1, Position: 1000}
		o.Memory = decide(o).Memory
	}
	if !o.crashLoop() {
		t.Error("three crashes in no time are no loop")
	}
}
