package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

func TestLogPattern(t *testing.T) {
	for _, c := range []struct {
		name    string
		match   []string
		differs []string
	}{
		{"postgresql-%Y-%m-%d_%H%M%S.log", []string{"postgresql-2026-01-31_235959.log", "postgresql-2026-01-31_235959.csv", "postgresql-2026-01-31_235959.json"},
			[]string{"postgresql-2026-01-31.log", "postgresql-x.log", "apostgresql-2026-01-31_235959.log", "postgresql-2026-01-31_235959.log.gz", "postgresql-2026-01-31_235959"}},
		{"postgresql-%a.log", []string{"postgresql-Mon.log", "postgresql-Sun.csv"}, []string{"postgresql-Mo.log", "postgresql-.log", "postgresql-precious.log"}},
		{"pg.%B%%", []string{"pg.May%", "pg.May%.csv"}, []string{"pg.May", "pgxMay%"}},
		{"server_log.%s", []string{"server_log.1700000000", "server_log.1700000000.json"}, []string{"server_log.", "server_log.conf"}},
		{"a+b.log", []string{"a+b.log"}, []string{"aab.log", "a+bxlog"}},
	} {
		p, err := logPattern(c.name)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, f := range c.match {
			if !p.MatchString(f) {
				t.Errorf("%s does not match %s", c.name, f)
			}
		}
		for _, f := range c.differs {
			if p.MatchString(f) {
				t.Errorf("%s matches %s", c.name, f)
			}
		}
	}
	for _, bad := range []string{"x%", "x%Q", "x%Ey"} {
		if _, err := logPattern(bad); err == nil {
			t.Errorf("%s was understood", bad)
		}
	}
}

func TestOldLogsAreRemoved(t *testing.T) {
	data := t.TempDir()
	dir := filepath.Join(data, "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	file := func(name string, age time.Duration) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	const day = 24 * time.Hour
	file("postgresql-Mon.log", 10*day)
	file("postgresql-Tue.csv", 9*day)
	file("postgresql-Wed.log", 8*day)
	file("postgresql-Thu.log", 6*day)
	file("notes.txt", 100*day)
	outside := filepath.Join(data, "postgresql-Fri.log")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Chtimes(outside, now.Add(-99*day), now.Add(-99*day))
	if err := os.Symlink(outside, filepath.Join(dir, "postgresql-Fri.log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "postgresql-Sat.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := &config.Postgres{DataDir: data, Parameters: map[string]string{"log_filename": "postgresql-%a.log"}}
	removed, err := removeOldLogs(p, 7*day, now)
	slices.Sort(removed)
	if want := []string{"postgresql-Mon.log", "postgresql-Tue.csv", "postgresql-Wed.log"}; err != nil || !slices.Equal(removed, want) {
		t.Fatalf("removed %v, %v; want %v", removed, err, want)
	}
	if removed, err = removeOldLogs(p, day, now); err != nil || len(removed) != 0 {
		t.Fatalf("the newest was removed: %v, %v", removed, err)
	}
	for _, name := range []string{"postgresql-Thu.log", "postgresql-Fri.log", "postgresql-Sat.log", "notes.txt"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error("the target of a link was removed")
	}
	p.DataDir = filepath.Join(data, "none")
	if removed, err := removeOldLogs(p, day, now); err != nil || len(removed) != 0 {
		t.Errorf("without a directory: %v, %v", removed, err)
	}
}
