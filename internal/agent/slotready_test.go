package agent

import (
	"reflect"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// TestUnready: after each start a logical slot has to be seen to be kept by the
// primary before it counts.
func TestUnready(t *testing.T) {
	var u unready
	st := &postgres.Status{InRecovery: true, StartTime: "1", Slots: []postgres.Slot{
		{Name: "l", Type: "logical", CatalogXmin: 720}, {Name: "p", Type: "physical"}, {Name: "native", Type: "logical", CatalogXmin: 1, Failover: true},
	}}
	at := ha.Instant(time.Hour)
	if !u.note(st, at) || !reflect.DeepEqual(u.names(), []string{"l"}) {
		t.Fatalf("after the start: %v", u.names())
	}
	if u.note(st, at.Add(time.Minute)) {
		t.Error("asked twice at once")
	}
	local := horizons(st.Slots)
	if got := u.judge(nil, "me", local); len(got) != 0 {
		t.Errorf("ready without an answer: %v", got)
	}
	if u.note(st, at.Add(time.Second)) {
		t.Error("asked again too soon")
	}
	if !u.note(st, at.Add(readyPeriod)) {
		t.Error("not asked again")
	}
	if got := u.judge(map[string]uint32{"l": 700, "me": 690}, "me", local); len(got) != 0 {
		t.Errorf("ready while the primary may remove what it needs: %v", got)
	}
	// What counts is the primary's horizon of the first look.
	if got := u.judge(map[string]uint32{"l": 790, "me": 710}, "me", local); !reflect.DeepEqual(got, []string{"l"}) || len(u.names()) != 0 {
		t.Errorf("not ready: %v, %v", got, u.names())
	}
	st.StartTime = "2"
	if u.note(st, at.Add(time.Minute)); len(u.names()) != 1 {
		t.Error("still ready after a restart")
	}
	st.Slots = nil
	if u.note(st, at.Add(2*time.Minute)); len(u.names()) != 0 {
		t.Error("a slot that is gone")
	}
}
