package agent

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres"
)

func TestAlarms(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	base := func() *alarmFacts {
		return &alarmFacts{
			now: now, backup: &config.Backup{Enabled: true, MaxAge: 26 * time.Hour, ArchiveMaxLag: 10 * time.Minute}, known: true,
			repo: lookResult{at: now, repo: &postgres.Repository{Backups: []postgres.BackupSet{{Label: "1F", Type: "full", Stop: now.Add(-25 * time.Hour)}}}},
			disk: diskSpace{total: 1000, free: 500},
		}
	}
	away := fmt.Errorf("%w: no route to the endpoint; look at pgha.backup.repo.s3_endpoint", postgres.ErrRepository)
	for _, c := range []struct {
		name   string
		change func(*alarmFacts)
		want   string // key: part of the text; "" none
	}{
		{"all is well", func(*alarmFacts) {}, ""},
		{"backup too old", func(f *alarmFacts) { f.backup.MaxAge = 24 * time.Hour }, "age: the newest backup is 25h0m0s old"},
		{"no limit", func(f *alarmFacts) { f.backup.MaxAge, f.repo.repo = 0, nil }, ""},
		{"no backup", func(f *alarmFacts) { f.repo.repo = nil }, "age: there is no backup"},
		{"only a damaged one is new", func(f *alarmFacts) { f.repo.repo.Backups[0].Damaged = true }, "age: there is no backup"},
		{"not asked yet", func(f *alarmFacts) { f.repo = lookResult{} }, ""},
		{"no stanza yet", func(f *alarmFacts) {
			f.backup.MaxAge, f.repo = 0, lookResult{at: now, err: postgres.ErrNoStanza}
		}, ""},
		{"no stanza any more", func(f *alarmFacts) { f.repo.err = postgres.ErrNoStanza }, "repository: the repository cannot be read"},
		{"stanza cannot be made", func(f *alarmFacts) { f.stanza = "wrong key; look at s3_key_file" }, "stanza: the stanza cannot be made: wrong key"},
		{"repository away", func(f *alarmFacts) { f.repo.err = away }, "repository: the repository cannot be read: " + away.Error()},
		{"WAL waits", func(f *alarmFacts) { f.archive.OldestReady, f.archive.ReadyFiles = 11*time.Minute, 5 }, "lag: 5 WAL segments wait to be archived, the oldest for 11m0s"},
		{"archiving fails", func(f *alarmFacts) {
			f.archive = postgres.ArchiveState{Failing: true, LastFailed: "000000010000000000000007", LastFailTime: now}
		}, "archiving: archiving fails, at 000000010000000000000007 since 2026-01-31T12:00:00Z"},
		{"the server is down", func(f *alarmFacts) { f.known = false; f.archive.Failing = true }, ""},
		{"disk almost full", func(f *alarmFacts) { f.disk.free = 150 }, "disk: the file system of pg_wal is 85 % full"},
		{"disk at the limit", func(f *alarmFacts) { f.disk.free = 200 }, ""},
		{"disk fills up", func(f *alarmFacts) { f.disk.full = 59 * time.Minute }, "filling: pg_wal grows: its file system is full in about 59m0s"},
		{"disk fills up slowly", func(f *alarmFacts) { f.disk.full = 2 * time.Hour }, ""},
	} {
		f := base()
		c.change(f)
		var got []string
		for _, a := range alarmsOf(f) {
			got = append(got, a.key+": "+a.text)
		}
		text := strings.Join(got, "\n")
		if c.want == "" && text != "" || !strings.HasPrefix(text, c.want) || strings.Contains(text, "\n") {
			t.Errorf("%s: got %q, want %q", c.name, text, c.want)
		}
	}
	f := base()
	f.repo.err, f.archive.Failing = away, true
	if all := alarmsOf(f); len(all) != 2 || !strings.Contains(all[1].text, "no route") {
		t.Errorf("the reason is not in %v", all)
	}
}

func TestAlarmsAreLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	log, flush := logTo(t, &out)
	lines := func() int { flush(); n := strings.Count(out.String(), "\n"); out.Reset(); return n }
	var b bell
	own, shared := alarm{key: "lag", text: "5 wait"}, alarm{key: "age", text: "old", shared: true}
	for i, c := range []struct {
		list   []alarm
		leader bool
		want   int
	}{
		{[]alarm{own}, false, 1},
		{[]alarm{{key: "lag", text: "6 wait"}}, false, 0}, // the same alarm
		{[]alarm{own, shared}, false, 0},                  // the leader's to say
		{[]alarm{own, shared}, true, 1},
		{nil, true, 2},
		{nil, true, 0},
		{[]alarm{own}, true, 1}, // it begins anew
	} {
		b.ring(log, c.list, c.leader)
		if got := lines(); got != c.want {
			t.Errorf("step %d: %d lines, want %d", i, got, c.want)
		}
	}
}

func TestTrend(t *testing.T) {
	var tr trend
	at := time.Unix(0, 0)
	if d := tr.untilFull(at, 1000, 600); d != 0 {
		t.Errorf("one point tells nothing, got %s", d)
	}
	if d := tr.untilFull(at.Add(30*time.Second), 2000, 600); d != 0 {
		t.Errorf("half a minute tells nothing, got %s", d)
	}
	if d := tr.untilFull(at.Add(time.Minute), 1060, 600); d != 10*time.Minute {
		t.Errorf("at a byte a second 600 last 10 minutes, not %s", d)
	}
	if d := tr.untilFull(at.Add(2*time.Minute), 900, 600); d != 0 {
		t.Errorf("it shrinks: %s", d)
	}
	if tr.untilFull(at.Add(time.Hour), 900, 600); len(tr.points) > 2 {
		t.Errorf("%d points are kept", len(tr.points))
	}
}

func TestProgressLine(t *testing.T) {
	var out bytes.Buffer
	log, flush := logTo(t, &out)
	at := time.Unix(0, 0)
	m := newMeter("creating replica", "clone", log, func() time.Time { return at })
	m.report("pgbackrest", 0, 3<<30)
	at = at.Add(4 * time.Second)
	m.report("pgbackrest", 1<<30, 3<<30)
	if flush(); out.Len() > 0 {
		t.Errorf("too early: %s", out.String())
	}
	at = at.Add(4 * time.Second)
	m.report("pgbackrest", 2<<30, 3<<30)
	flush()
	if want := "creating replica: pgbackrest, 2.0 GiB of 3.0 GiB (66 %), 256.0 MiB/s, 4s left"; !strings.Contains(out.String(), want) {
		t.Errorf("got %s, want %s", out.String(), want)
	}
	m.report("basebackup", 0, 0) // the next method begins anew
	at = at.Add(5 * time.Second)
	m.report("basebackup", 512, 0)
	flush()
	if want := "creating replica: basebackup, 512 B, 102 B/s"; !strings.Contains(out.String(), want) {
		t.Errorf("got %s, want %s", out.String(), want)
	}
	if p := m.progress(); p.Method != "basebackup" || p.Done != 512 || p.Rate != 102 || p.Operation != "clone" {
		t.Errorf("got %+v", p)
	}
}
