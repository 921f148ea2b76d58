package agent

import (
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

func TestRestartRequests(t *testing.T) {
	var r restarts
	first := r.ask(ha.RestartRequest{Role: "replica"})
	if first == nil || r.newest().Now.Role != "replica" {
		t.Fatalf("not filed: %+v", r.newest())
	}
	if r.ask(ha.RestartRequest{}) != nil {
		t.Error("two at once")
	}
	ended := func(end <-chan string) bool { return len(end) == 1 }
	serial := r.newest().Now.Serial
	r.noted(ha.RestartState{})
	r.noted(ha.RestartState{Now: serial, Runs: true})
	if ended(first) || r.ask(ha.RestartRequest{}) != nil {
		t.Error("it ended while it runs")
	}
	r.noted(ha.RestartState{Now: serial, Failure: "no"})
	r.noted(ha.RestartState{Now: serial, Failure: "no"})
	if !ended(first) || <-first != "no" {
		t.Error("the outcome did not come")
	}
	second := r.ask(ha.RestartRequest{})
	r.noted(ha.RestartState{Now: serial, Failure: "no"}) // of the first one
	if second == nil || ended(second) {
		t.Error("the second has the outcome of the first")
	}
}

func TestScheduledRestartRequests(t *testing.T) {
	var r restarts
	at := time.Now().Add(time.Hour)
	if r.cancel() || !r.schedule(ha.RestartRequest{At: at}) || r.schedule(ha.RestartRequest{At: at}) {
		t.Fatal("there is one at most, and none to begin with")
	}
	if !r.newest().Scheduled.At.Equal(at) || r.newest().Now.Serial != 0 {
		t.Errorf("%+v", r.newest())
	}
	if !r.cancel() || r.cancel() || r.newest().Scheduled.Serial != 0 {
		t.Errorf("not dropped: %+v", r.newest())
	}
	if !r.schedule(ha.RestartRequest{At: at}) {
		t.Fatal("no second one after the first was dropped")
	}
	serial := r.newest().Scheduled.Serial
	r.noted(ha.RestartState{Scheduled: serial}) // taken up
	if r.cancel() || !r.schedule(ha.RestartRequest{At: at}) || r.newest().Scheduled.Serial == serial {
		t.Error("one that was taken up is in the way")
	}
}
