package ctl

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

func TestWhy(t *testing.T) {
	says := func(d restapi.WhyDocument) *fakeMember { return newFakeMember(t, answer{200, encoded(t, d)}) }
	leader := restapi.WhyDocument{Member: "pg-db-02", State: "running", Role: "primary", Leading: true, Leader: "pg-db-02", LeaseSeconds: 21.04, Doing: "no action. I am (pg-db-02), the leader with the lock"}
	ready := restapi.WhyDocument{Member: "pg-db-01", State: "running", Role: "replica", Leader: "pg-db-02", Doing: "no action"}
	barred := restapi.WhyDocument{Member: "pg-db-03", State: "running", Role: "replica", Leader: "pg-db-02", Obstacles: []restapi.WhyObstacle{
		{Code: "nofailover", Text: "the tag nofailover is set"}, {Code: "hold_off", Text: "the last leader may still act", SecondsLeft: 4.25}}}
	apis := map[string]*fakeMember{"pg-db-01": says(ready), "pg-db-02": says(leader), "pg-db-03": says(barred)}
	broken := newFakeMember(t, answer{500, "out of order"})

	leaderless := func(c *dcs.Cluster) {
		c.Leader = nil
		c.Status.Beat = &dcs.Beat{TTL: 30000}
	}
	for name, tc := range map[string]struct {
		args   string
		apis   map[string]*fakeMember
		change func(c *dcs.Cluster)
		code   int
		want   []string
		not    string
	}{
		"healthy": {"", apis, nil, 0, []string{
			"The leader of cluster pg-ha-cluster is pg-db-02.\n",
			"pg-db-01 (replica, running) may be promoted if pg-db-02 goes.\n  it says: no action\n",
			"pg-db-02 (primary, running) is the leader; its lease has 21.0 s left before it would step down.\n",
			"pg-db-03 (replica, running) may not be promoted:\n  - the tag nofailover is set\n  - the last leader may still act (4.2 s left)\n"}, "cannot tell"},
		"one member":             {"pg-db-03", apis, nil, 0, []string{"pg-db-03 (replica, running) may not be promoted:\n"}, "pg-db-01"},
		"cluster and one member": {"pg-ha-cluster pg-db-03", apis, nil, 0, []string{"pg-db-03 (replica, running) may not be promoted:\n"}, "pg-db-01"},
		"nobody leads": {"pg-ha-cluster", apis, leaderless, 0, []string{
			"Cluster pg-ha-cluster has no leader: nobody holds the leader key.\n  - the last leader did not release its lock in good order: the others wait until its lease of 30s has run out for certain\n"}, ""},
		"nobody leads, and it is paused": {"", apis, func(c *dcs.Cluster) { leaderless(c); paused(c) }, 0, []string{"  - the cluster is paused: nobody is promoted by itself"}, ""},
		"nobody is there":                {"", apis, func(c *dcs.Cluster) { leaderless(c); c.Members = nil }, 0, []string{"  - no member's key is in etcd"}, ""},
		"a restore comes first": {"", apis, func(c *dcs.Cluster) {
			leaderless(c)
			c.Restore = &dcs.Restore{State: dcs.RestoreRequested, Member: "pg-db-01", By: "alice"}
		}, 0, []string{"  - pg-db-01 is to restore the cluster first, as ordered by alice"}, ""},
		"silent, and concluded from etcd": {"pg-db-03", map[string]*fakeMember{"pg-db-03": broken}, func(c *dcs.Cluster) {
			m := c.Member("pg-db-03")
			m.Tags = dcs.Tags{{Name: "nofailover", Value: true}}
			m.XLogLocation, m.Timeline, m.State = 1, 1, "starting"
			c.Status.Optime = 5 << 20
			c.History = &dcs.History{Lines: []dcs.HistoryLine{{Timeline: 7}}}
		}, 0, []string{"pg-db-03 cannot tell itself: member pg-db-03: out of order (status 500). From etcd:\n",
			"  - the tag nofailover is set\n", "  - PostgreSQL is not running: starting\n", "  - its timeline 1 is older than the cluster's 8\n", "  - it was 5242879 bytes behind"}, ""},
		"Patroni": {"pg-db-03", map[string]*fakeMember{"pg-db-03": newFakeMember(t, answer{200, patroniStatus})}, nil, 0,
			[]string{"pg-db-03 cannot tell itself: it runs Patroni, or a pgha of before, and does not say. From etcd:\npg-db-03 (replica, running) may not be promoted"}, ""},
		"a member of yesterday": {"pg-db-09", apis, func(c *dcs.Cluster) { withRing(c, happened("pg-db-09", 1, 60, "x")) }, 0,
			[]string{"pg-db-09 cannot tell itself", "  - its key is gone from etcd"}, ""},
		"nobody of that name": {"nobody", apis, nil, 1, []string{"nobody is no member of cluster pg-ha-cluster"}, ""},
		"nobody of that name among events": {"nobody", apis, func(c *dcs.Cluster) { withRing(c, happened("pg-db-09", 1, 60, "x")) }, 1,
			[]string{"nobody is no member of cluster pg-ha-cluster"}, ""},
		"a bad format":    {"-f xml", apis, nil, 2, []string{"choose from pretty"}, ""},
		"a table is none": {"-f tsv", apis, nil, 2, []string{"--format must be pretty or json"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := asking(t, tc.apis)
			if tc.change != nil {
				tc.change(c)
			}
			app := newTestApp(t, &fakeCluster{cluster: c})
			code := app.run(append([]string{"why"}, strings.Fields(tc.args)...)...)
			got := app.out.String() + app.err.String()
			if code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("got\n%s\nwithout\n%s", got, want)
				}
			}
			if tc.not != "" && strings.Contains(got, tc.not) {
				t.Errorf("got\n%s\nwith %s", got, tc.not)
			}
		})
	}

	app := newTestApp(t, &fakeCluster{cluster: asking(t, apis)})
	var r whyReport
	if code := app.run("why", "-f", "json"); code != 0 || json.Unmarshal(app.out.Bytes(), &r) != nil || len(r.Members) != 3 || r.Members[2].Obstacles[0].Code != "nofailover" || r.Members[0].Source != "member" {
		t.Errorf("json: %d %s", code, app.out.String())
	}
}

// TestWhyWithoutEtcd: nothing is concluded from what could not be read; the member
// of this host is asked, and without its answer it is an error.
func TestWhyWithoutEtcd(t *testing.T) {
	run := func(address string, args ...string) (int, string, string) {
		app := newTestApp(t, &fakeCluster{err: dcs.ErrUnavailable})
		app.Environ = append(app.Environ, "PATRONI_NAME=me", "PATRONI_RESTAPI_LISTEN="+address, "PATRONI_RESTAPI_CONNECT_ADDRESS="+address)
		code := app.run(append([]string{"why"}, args...)...)
		return code, app.out.String(), app.err.String()
	}
	member := newFakeMember(t, answer{200, encoded(t, restapi.WhyDocument{Member: "me", State: "running", Role: "replica", Doing: "etcd is not accessible"})})
	address := strings.TrimPrefix(member.URL, "http://")
	if code, out, said := run(address); code != 0 || !strings.HasPrefix(out, "me (replica, running)") || !strings.Contains(said, "asking the member of this host alone") {
		t.Errorf("exit %d, %s%s", code, out, said)
	}
	for _, args := range [][]string{nil, {"--format", "json"}} {
		if code, out, said := run("127.0.0.1:1", args...); code != 1 || out != "" || !strings.Contains(said, "cannot read cluster pg-ha-cluster in etcd") || strings.Count(said, "\n") != 1 {
			t.Errorf("%v: exit %d, %s%s", args, code, out, said)
		}
	}
	if code, out, said := run(address, "pg-ha-cluster", "another"); code != 1 || out != "" || !strings.Contains(said, "cannot read cluster") {
		t.Errorf("exit %d, %s%s", code, out, said)
	}
}
