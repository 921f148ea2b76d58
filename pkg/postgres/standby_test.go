package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// TestStandbyClusterSettings: its commands are for every member, its delay for
// the one that follows the remote; which needs a database in its DSN (scar 92), and
// the primary among several hosts where the slot is.
func TestStandbyClusterSettings(t *testing.T) {
	dir := t.TempDir()
	s, err := New(Options{Name: "n", Scope: "demo", Process: &ExecLauncher{}, Config: config.Postgres{
		DataDir: dir, Parameters: map[string]string{"restore_command": "mine"},
		Standby: &config.StandbyCluster{RestoreCommand: "theirs", ArchiveCleanupCommand: "clean", RecoveryMinApplyDelay: "5min"},
	}})
	must(t, err)
	member := s.recoverySettings(&Upstream{Name: "m", Host: "a", Port: "5432", SlotName: "n"}, 15)
	remote := s.recoverySettings(&Upstream{Remote: true, Host: "a,b", Port: "5432", SlotName: "far"}, 15)
	archive := s.recoverySettings(&Upstream{Remote: true, Port: "5432", SlotName: "far"}, 15)
	for _, r := range []settings{member, remote, archive} {
		if r["restore_command"] != "theirs" || r["archive_cleanup_command"] != "clean" {
			t.Errorf("commands %q, %q", r["restore_command"], r["archive_cleanup_command"])
		}
	}
	if member["recovery_min_apply_delay"] != "" || remote["recovery_min_apply_delay"] != "5min" {
		t.Errorf("delays %q, %q", member["recovery_min_apply_delay"], remote["recovery_min_apply_delay"])
	}
	if c := member["primary_conninfo"]; strings.Contains(c, "target_session_attrs") {
		t.Error(c)
	}
	if c := remote["primary_conninfo"]; !strings.Contains(c, "dbname=postgres ") || !strings.Contains(c, "host=a,b ") || !strings.Contains(c, "target_session_attrs=read-write") || remote["primary_slot_name"] != "far" {
		t.Errorf("%s, slot %s", c, remote["primary_slot_name"])
	}
	if archive["primary_conninfo"] != "" || archive["primary_slot_name"] != "" {
		t.Errorf("an archive is connected to: %s", archive["primary_conninfo"])
	}
}

// TestSameHistory: what was said of a switch does not matter, where it was does.
func TestSameHistory(t *testing.T) {
	ours := wal.History{{Timeline: 1, LSN: 100, Reason: "x"}, {Timeline: 2, LSN: 200}}
	for _, c := range []struct {
		other wal.History
		want  bool
	}{
		{wal.History{{Timeline: 1, LSN: 100}, {Timeline: 2, LSN: 200, Reason: "y"}}, true},
		{wal.History{{Timeline: 1, LSN: 100}, {Timeline: 2, LSN: 201}}, false},
		{wal.History{{Timeline: 1, LSN: 100}, {Timeline: 3, LSN: 200}}, false},
		{wal.History{{Timeline: 1, LSN: 100}}, false},
	} {
		if got := sameHistory(ours, c.other); got != c.want {
			t.Errorf("%v: %v", c.other, got)
		}
	}
}

func TestNewestSet(t *testing.T) {
	repo := Repository{Backups: []BackupSet{{Label: "a", SystemID: "1"}, {Label: "b", SystemID: "1"}, {Label: "c", SystemID: "1", Damaged: true}, {Label: "d", SystemID: "2"}}}
	for system, want := range map[string]string{"": "d", "1": "b", "2": "d"} {
		if set, err := newestSet(repo, system); err != nil || set.Label != want {
			t.Errorf("of %q: %q, %v", system, set.Label, err)
		}
	}
	if _, err := newestSet(repo, "3"); !errors.Is(err, ErrForeignRepository) {
		t.Error(err)
	}
	if _, err := newestSet(Repository{}, ""); !errors.Is(err, ErrNoBackup) {
		t.Error(err)
	}
	cfg := config.Postgres{DataDir: t.TempDir(), Methods: map[string]*config.CustomMethod{
		"pgbackrest": {Name: "pgbackrest", Native: true}, "own": {Name: "own", NoLeader: true}}}
	s, err := New(Options{Name: "n", Process: &ExecLauncher{}, Config: cfg})
	must(t, err)
	methods := []string{"basebackup", "pgbackrest", "own"}
	for archive, want := range map[bool]int{true: 2, false: 1} {
		if got := s.rungs(CloneSpec{Archive: archive, Methods: methods}); len(got) != want {
			t.Errorf("archive %v: %d ways, want %d", archive, len(got), want)
		}
	}
}
