package ctl

import (
	"slices"
	"strings"
	"testing"
)

// TestAccept: every member in quarantine is told, once the name was typed.
func TestAccept(t *testing.T) {
	const ok = `POST /accept_dcs {"cluster":"pg-ha-cluster"}`
	for name, tc := range map[string]struct {
		args, typed string
		quarantined bool
		answer      answer
		code        int
		out, err    string
		requests    []string
	}{
		"typed":     {"", "pg-ha-cluster\n", true, answer{200, "accepted"}, 0, "Success: accept-dcs for member pg-db-01", "", []string{ok}},
		"forced":    {"--force", "", true, answer{200, "accepted"}, 0, " Quarantine: pg-db-01: etcd went back\n If what etcd holds is right: pghactl accept-dcs", "", []string{ok}},
		"mistyped":  {"", "pg-ha\n", true, answer{}, 1, "they may promote", "is not the name", nil},
		"no input":  {"", "", true, answer{}, 1, "", "Aborted!", nil},
		"refused":   {"--force", "", true, answer{409, "nothing to accept"}, 1, "Failed: accept-dcs for member pg-db-01, status code=409", "1 of 1 members", []string{ok}},
		"all right": {"--force", "", false, answer{}, 1, "", "No member of cluster pg-ha-cluster is in quarantine", nil},
	} {
		t.Run(name, func(t *testing.T) {
			member := newFakeMember(t, tc.answer)
			c := asking(t, map[string]*fakeMember{"pg-db-01": member})
			if tc.quarantined {
				c.Member("pg-db-01").Quarantine = "etcd went back"
			}
			app := following(t, &fakeCluster{cluster: c})
			app.answer(tc.typed)
			code := app.run(append([]string{"accept-dcs", "pg-ha-cluster"}, strings.Fields(tc.args)...)...)
			if code != tc.code || !strings.Contains(app.out.String(), tc.out) || !strings.Contains(app.err.String(), tc.err) || !slices.Equal(member.requests, tc.requests) {
				t.Errorf("exit %d, asked %q\n%s%s", code, member.requests, app.out.String(), app.err.String())
			}
		})
	}
}

// TestAcceptNamesWhoIsNotKnown: a member without a position is waited for, but not for ever.
func TestAcceptNamesWhoIsNotKnown(t *testing.T) {
	c := asking(t, map[string]*fakeMember{"pg-db-01": newFakeMember(t, answer{200, "accepted"})})
	c.Member("pg-db-01").Quarantine = "etcd went back"
	c.Member("pg-db-01").XLogLocation = 0x5000060
	c.Member("pg-db-02").XLogLocation, c.Member("pg-db-02").State = 0, "starting"
	app := following(t, &fakeCluster{cluster: c})
	app.run("accept-dcs", "pg-ha-cluster", "--force")
	if out := app.out.String(); !strings.Contains(out, "pg-db-02 does not say how far its WAL goes (starting)") || strings.Contains(out, "pg-db-01 does not say") {
		t.Error(out)
	}
}

// TestListShowsQuarantine: in a column of its own where machines read.
func TestListShowsQuarantine(t *testing.T) {
	c := asking(t, nil)
	c.Member("pg-db-01").Quarantine = "etcd went back"
	app := newTestApp(t, &fakeCluster{cluster: c})
	if code := app.run("list", "-f", "json"); code != 0 || !strings.Contains(app.out.String(), `"Quarantine": "etcd went back"`) {
		t.Errorf("exit %d\n%s", code, app.out.String())
	}
}
