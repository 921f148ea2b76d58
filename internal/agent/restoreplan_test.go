package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

// planRepo holds full backups of three days on timeline 1, of which the last was
// given up by a restore, and one on timeline 2.
func planRepo() *postgres.Repository {
	day := func(d, h int) time.Time { return time.Date(2026, 1, d, h, 0, 0, 0, time.UTC) }
	return &postgres.Repository{Stanza: "main", SystemID: "7", Backups: []postgres.BackupSet{
		{Label: "A", Type: "full", Start: day(1, 0), Stop: day(1, 1), StopLSN: 0x1000, Timeline: 1},
		{Label: "B", Type: "incr", Prior: "A", Start: day(2, 0), Stop: day(2, 1), StopLSN: 0x2000, Timeline: 1},
		{Label: "C", Type: "full", Start: day(3, 0), Stop: day(3, 1), StopLSN: 0x3000, Timeline: 1}, // after the branch at 0x2800
		{Label: "D", Type: "full", Start: day(4, 0), Stop: day(4, 1), StopLSN: 0x4000, Timeline: 2},
		{Label: "E", Type: "full", Start: day(5, 0), Stop: day(5, 1), StopLSN: 0x5000, Timeline: 2, Damaged: true},
	}}
}

func TestChooseBackupSet(t *testing.T) {
	for _, c := range []struct {
		name             string
		kind, value, set string
		timeline         string
		want             string // label, or "!" and part of the error
		change           func(*postgres.Repository)
	}{
		{"latest", "latest", "", "", "", "D", nil},
		{"immediate", "immediate", "", "", "", "D", nil},
		{"name", "name", "before_drop", "", "", "D", nil},
		{"xid", "xid", "4711", "", "", "D", nil},
		{"latest from a damaged set by name", "latest", "", "E", "", "E", nil},
		{"time after all", "time", "2026-01-05 12:00:00+00", "", "", "D", nil},
		{"time on the second timeline", "time", "2026-01-04 01:00:01+00", "", "", "D", nil},
		{"time at the very end of a backup", "time", "2026-01-04 01:00:00+00", "", "", "B", nil},
		{"time in another zone", "time", "2026-01-02 03:30:00+02", "", "", "B", nil},
		{"time before the newest on the branch that was given up", "time", "2026-01-03 12:00:00+00", "", "", "B", nil},
		{"the same on that very timeline", "time", "2026-01-03 12:00:00+00", "", "1", "C", nil},
		{"a set by name", "time", "2026-01-05 12:00:00+00", "A", "", "A", nil},
		{"a set after the target", "time", "2026-01-02 00:30:00+00", "B", "", "!ends at 2026-01-02 01:00:00Z", nil},
		{"an unknown set", "latest", "", "Z", "", `!there is no backup "Z"`, nil},
		{"time before the oldest", "time", "2026-01-01 01:00:00+00", "", "", "!before the end of the oldest backup (A", nil},
		{"time in the future", "time", "2026-01-06 12:00:01+00", "", "", "!lies in the future", nil},
		{"lsn", "lsn", "0/2FFF", "", "", "B", nil},
		{"lsn at the end of a backup", "lsn", "0/2000", "", "", "B", nil},
		{"lsn before all", "lsn", "0/FFF", "", "", "!no backup ends before the target", nil},
		{"lsn in the future", "lsn", "0/6001", "", "", "!lies in the future", nil},
		{"no backup at all", "latest", "", "", "", "!there is no backup in the stanza", func(r *postgres.Repository) { r.Backups = nil }},
		{"only a damaged one", "latest", "", "", "", "!no undamaged backup", func(r *postgres.Repository) { r.Backups = r.Backups[4:] }},
		{"older than the history still tells", "latest", "", "", "", "old", func(r *postgres.Repository) {
			r.Backups = []postgres.BackupSet{{Label: "old", Timeline: 1, StopLSN: 0x9000}}
		}},
	} {
		pick := choice{
			target: dcs.RestoreTarget{Type: c.kind, Value: c.value, Timeline: c.timeline}, set: c.set,
			now: time.Date(2026, 1, 6, 12, 0, 0, 0, time.UTC), position: 0x6000, timeline: 2,
			history: []dcs.HistoryLine{{Timeline: 1, LSN: 0x2800}},
		}
		repo := planRepo()
		if c.change != nil {
			c.change(repo)
		}
		if c.name == "older than the history still tells" {
			pick.timeline, pick.history = 9, []dcs.HistoryLine{{Timeline: 8, LSN: 0x2800}}
		}
		set, err := pick.choose(repo)
		if part, fails := strings.CutPrefix(c.want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want an error with %q", c.name, err, part)
			}
			continue
		}
		if err != nil || set.Label != c.want {
			t.Errorf("%s: %+v, %v; want %s", c.name, set, err, c.want)
		}
	}
}

func TestRestoreTargets(t *testing.T) {
	for _, c := range []struct {
		r    restapi.RestoreRequest
		want string // part of the error, "" none
	}{
		{restapi.RestoreRequest{Type: "latest"}, ""},
		{restapi.RestoreRequest{Type: "time", Value: " 2026-01-01 00:00:00+00 "}, ""},
		{restapi.RestoreRequest{Type: "lsn", Value: "0/3000000", Exclusive: true}, ""},
		{restapi.RestoreRequest{}, "type is missing"},
		{restapi.RestoreRequest{Type: "yesterday"}, "yesterday"},
		{restapi.RestoreRequest{Type: "time", Value: "2026-01-01 00:00:00"}, "zone"},
		{restapi.RestoreRequest{Type: "lsn", Value: "3000000"}, "lsn"},
		{restapi.RestoreRequest{Type: "xid", Value: "x"}, "xid"},
		{restapi.RestoreRequest{Type: "latest", Value: "x"}, "no value"},
		{restapi.RestoreRequest{Type: "latest", Timeline: "newest"}, "timeline"},
	} {
		_, err := targetOf(c.r)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.r, err, c.want)
		}
	}
}
