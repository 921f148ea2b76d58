package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
)

const (
	which    = "Which member do you want to reinitialize [pg-db-01, pg-db-03]? []: "
	replaced = "All data of member pg-db-01 on host 192.0.2.1 will be replaced by a new copy\n"
	sureInit = "Are you sure you want to reinitialize members pg-db-01? [y/N]: "
	success  = "Success: reinitialize for member pg-db-01\n"
	offer    = "Do you want to cancel it and reinitialize anyway? [y/N]: "
	busy     = "Failed: reinitialize for member pg-db-01, status code=503, (restart already in progress)\n"
)

// TestReinit: the questions and answers in patronictl's words.
func TestReinit(t *testing.T) {
	const calm, forced = `POST /reinitialize {"force":false,"from_leader":false}`, `POST /reinitialize {"force":true,"from_leader":false}`
	inProgress := answer{503, "restart already in progress"}
	for _, tc := range []struct {
		name     string
		args     string
		typed    string
		answers  []answer
		code     int
		out      string
		err      string
		requests []string
	}{
		{"chosen at the prompt", "", "pg-db-01\ny\n", []answer{{200, "reinitialize started"}}, 0, which + replaced + sureInit + success, "", []string{calm}},
		{"named", "pg-db-01 nobody pg-db-02", "y\n", []answer{{200, ""}}, 0, replaced + sureInit + success, "", []string{calm}},
		{"from the leader", "pg-db-01 --from-leader --force", "", []answer{{200, ""}}, 0, replaced + success, "", []string{`POST /reinitialize {"force":true,"from_leader":true}`}},
		{"declined", "pg-db-01", "n\n", nil, 1, replaced + sureInit, "Error: Aborted reinitialize\n", nil},
		{"no more input", "pg-db-01", "", nil, 1, replaced + sureInit, "Aborted!\n", nil},
		{"the leader at the prompt", "", "pg-db-02\n", nil, 1, which, "Error: pg-db-02 is not a member of cluster\n", nil},
		{"the leader named", "pg-db-02", "", nil, 1, "", "Error: No replica among provided members\n", nil},
		{"nobody with force", "--force", "", nil, 0, "", "", nil},
		{"refused", "pg-db-01", "y\n", []answer{{503, "I am the leader, can not reinitialize"}}, 0,
			replaced + sureInit + "Failed: reinitialize for member pg-db-01, status code=503, (I am the leader, can not reinitialize)\n", "", []string{calm}},
		{"busy, ended", "pg-db-01", "y\ny\n", []answer{inProgress, {200, ""}}, 0, replaced + sureInit + busy + offer + success, "", []string{calm, forced}},
		{"busy, left alone", "pg-db-01", "y\nn\n", []answer{inProgress}, 0, replaced + sureInit + busy + offer, "", []string{calm}},
		{"busy even with force", "pg-db-01 --force", "", []answer{inProgress}, 0, replaced + busy, "", []string{forced}},
		{"cancelled", "pg-db-01 --cancel", "", []answer{{200, "ok"}}, 0, "Success: cancel reinitialize for member pg-db-01\n", "", []string{"DELETE /reinitialize "}},
		{"nothing to cancel", "pg-db-01 --cancel", "", []answer{{404, "no copy is under way"}}, 0,
			"Failed: cancel reinitialize for member pg-db-01, status code=404, (no copy is under way)\n", "", []string{"DELETE /reinitialize "}},
		{"Patroni cannot cancel", "pg-db-01 --cancel", "", []answer{{501, patroniPage}}, 1, "",
			"Error: member pg-db-01 runs Patroni, or a pgha without backups, and cannot do this; ask for it when a member of ours leads\n", []string{"DELETE /reinitialize "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			member := newFakeMember(t, append(tc.answers, answer{500, "asked too often"})...)
			app := following(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-01": member})})
			app.answer(tc.typed)
			code := app.run(append([]string{"reinit", "pg-ha-cluster"}, strings.Fields(tc.args)...)...)
			if out := afterTable(app.out.String()); code != tc.code || out != tc.out || app.err.String() != tc.err {
				t.Errorf("exit %d, want %d\ngot  %q %q\nwant %q %q", code, tc.code, out, app.err.String(), tc.out, tc.err)
			}
			if !slices.Equal(member.requests, tc.requests) {
				t.Errorf("requests %q, want %q", member.requests, tc.requests)
			}
		})
	}
}

// TestReinitUnreachable: the command ends with the member that does not answer.
func TestReinitUnreachable(t *testing.T) {
	gone, never := newFakeMember(t, answer{}), newFakeMember(t, answer{200, ""})
	gone.Close()
	app := following(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-01": gone, "pg-db-03": never})})
	code := app.run("reinit", "pg-ha-cluster", "pg-db-01", "pg-db-03", "--force")
	if code != 1 || !strings.HasPrefix(app.err.String(), "Error: member pg-db-01 does not answer: ") || len(never.requests) > 0 {
		t.Errorf("exit %d, stderr %q, requests %q", code, app.err.String(), never.requests)
	}
	if code := following(t, &fakeCluster{}).run("reinit"); code != 2 {
		t.Errorf("without a cluster: exit %d", code)
	}
	app = following(t, &fakeCluster{cluster: &dcs.Cluster{}})
	if code := app.run("reinit", "wrong", "--force"); code != 1 || app.err.String() != "Error: wrong cluster doesn't have any members\n" {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

func life(state, started string) answer {
	return answer{200, fmt.Sprintf(`{"state":%q,"postmaster_start_time":%q}`, state, started)}
}

// TestReinitWait follows the member until its new server runs; the old one,
// which runs on for a moment after the order, does not count.
func TestReinitWait(t *testing.T) {
	member := newFakeMember(t, life("running", "old"), answer{200, "ok"},
		life("running", "old"), life("creating replica", ""), life("creating replica", ""), life("starting", ""), life("running", "new"))
	c := asking(t, map[string]*fakeMember{"pg-db-01": member})
	fake := &fakeCluster{cluster: c}
	fake.onRead = func(n int) {
		c.Member("pg-db-01").Progress = nil
		if n == 4 {
			c.Member("pg-db-01").Progress = &dcs.Progress{Operation: "clone", Method: "basebackup", Done: 1 << 30, Total: 4 << 30, Rate: 1 << 20}
		}
	}
	app := following(t, fake)
	code := app.run("reinit", "pg-ha-cluster", "pg-db-01", "--force", "--wait")
	want := replaced + success + "Waiting for reinitialize to complete on: pg-db-01\n" +
		"pg-db-01: running\nReinitialize is completed on: pg-db-01\n"
	if got := afterTable(app.out.String()); code != 0 || got != want {
		t.Errorf("exit %d, got\n%s\nwant\n%s", code, got, want)
	}
	if len(member.requests) != 7 || member.requests[0] != "GET /patroni " {
		t.Errorf("requests %q", member.requests)
	}
	p := &dcs.Progress{Operation: "clone", Method: "basebackup", Done: 1 << 30, Total: 4 << 30, Rate: 1 << 20}
	if got := copyText(memberLife{}, p); got != "clone (basebackup) [#####---------------] 25% 1.0 GB of 4.0 GB, 1.0 MB/s, 51m12s left" {
		t.Errorf("got %q", got)
	}
}

// TestReinitCancelledElsewhere: a copy that was ended is not waited for for ever.
func TestReinitCancelledElsewhere(t *testing.T) {
	member := newFakeMember(t, life("running", "old"), answer{200, "ok"}, life("creating replica", ""), life("stopped", ""))
	app := following(t, &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-01": member})})
	code := app.run("reinit", "pg-ha-cluster", "pg-db-01", "--force", "--wait")
	if code != 1 || !strings.HasSuffix(app.out.String(), "Reinitialize ended without a copy on: pg-db-01 (stopped)\n") ||
		app.err.String() != "Error: no new copy on pg-db-01: it was cancelled or it failed, see the member's log\n" {
		t.Errorf("exit %d, stderr %q, output\n%s", code, app.err.String(), app.out.String())
	}
}

func TestInterruptDuringReinit(t *testing.T) {
	member := newFakeMember(t, life("running", "old"), answer{200, "ok"}, life("creating replica", ""))
	ctx, cancel := context.WithCancel(t.Context())
	fake := &fakeCluster{cluster: asking(t, map[string]*fakeMember{"pg-db-01": member})}
	fake.onRead = func(n int) {
		if n == 3 {
			cancel()
		}
	}
	app := following(t, fake)
	app.ctx = ctx
	code := app.run("reinit", "pg-ha-cluster", "pg-db-01", "--force", "--wait")
	want := "The copy goes on: \"pghactl list pg-ha-cluster -e\" shows it, \"pghactl reinit pg-ha-cluster pg-db-01 --cancel\" ends it\n"
	if code != 1 || app.err.String() != want {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}
