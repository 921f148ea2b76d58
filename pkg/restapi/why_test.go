package restapi

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

func TestGetWhy(t *testing.T) {
	a := newAgent(t, "healthy-async", "pg-db-01")
	a.update(func(v *ha.View) {
		v.Reason, v.Code, v.Turned, v.ClusterAt = "no leader; waiting", "election_hold_off", a.now-ha.Instant(time.Second), a.now-ha.Instant(2*time.Second)
		v.Obstacles = []ha.Obstacle{
			{Code: "nofailover", Text: "the tag nofailover is set"},
			{Code: "hold_off", Text: "the last leader may still act", Until: a.now.Add(4200 * time.Millisecond)},
			{Code: "yield", Text: "over", Until: a.now.Add(-time.Millisecond)},
		}
	})
	s := newServer(t, a, Settings{})
	w := ask(s.Handler(), "GET", "/why", "")
	var d WhyDocument
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if d.Member != "pg-db-01" || d.Leader != "pg-db-02" || d.Leading || d.Reason != "election_hold_off" || d.TurnedAgo != 1 || d.EtcdSeconds != 2 {
		t.Errorf("%+v", d)
	}
	if len(d.Obstacles) != 2 || d.Obstacles[0].SecondsLeft != 0 || d.Obstacles[1].SecondsLeft != 4.2 {
		t.Errorf("obstacles %+v", d.Obstacles)
	}
	leader := newAgent(t, "healthy-async", "pg-db-02")
	w = ask(newServer(t, leader, Settings{}).Handler(), "GET", "/why", "")
	d = WhyDocument{}
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || !d.Leading || d.LeaseSeconds <= 0 || d.Obstacles == nil {
		t.Errorf("the leader: %s", w.Body)
	}
}
