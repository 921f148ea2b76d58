package postgres

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

// Objects in the schema public have no say in what a superuser's connection asks
// (scar 113), and files in the data directory follow its mode (scar 111). The
// numbers are those of docs/scenarios.md.
func TestScarsOfAServer(t *testing.T) {
	ctx := testContext(t)
	n := primaryNode(t, "n")
	n.sql("CREATE FUNCTION public.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true'",
		"ALTER ROLE CURRENT_USER SET search_path = public, pg_catalog")
	n.CloseConnections()
	if st, err := n.Status(ctx); err != nil || st.InRecovery {
		t.Errorf("a function in public was believed: in recovery %v, %v", st.InRecovery, err)
	}

	for mode, want := range map[fs.FileMode]fs.FileMode{0o750: 0o640, 0o700: 0o600} {
		must(t, os.Chmod(n.cfg.DataDir, mode))
		c := n.config()
		c.PGHBA = append([]string{"# " + mode.String()}, c.PGHBA...)
		n.SetConfig(c)
		if _, err := n.Reload(ctx); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(filepath.Join(n.cfg.DataDir, "pg_hba.conf"))
		must(t, err)
		if fi.Mode().Perm() != want {
			t.Errorf("data directory %v: pg_hba.conf %v", mode, fi.Mode())
		}
	}
}

// archive_command may be any shell command (scar 86), and what waits for it is
// archived before pg_rewind may remove it (scar 87).
func TestArchiveCommandIsAShellCommand(t *testing.T) {
	dir := t.TempDir()
	status := filepath.Join(dir, "pg_wal", "archive_status")
	must(t, os.MkdirAll(status, 0o700))
	const segment = "000000010000000000000004"
	must(t, os.WriteFile(filepath.Join(dir, "pg_wal", segment), []byte("wal"), 0o600))
	must(t, os.WriteFile(filepath.Join(status, segment+".ready"), nil, 0o600))
	s, err := New(Options{Name: "n", Scope: "demo", Config: config.Postgres{DataDir: dir}, Process: &ExecLauncher{}, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	names, err := s.readySegments()
	if err != nil || !slices.Equal(names, []string{segment}) {
		t.Fatalf("%v %v", names, err)
	}
	must(t, s.archiveSegment(testContext(t), "test ! -f kept-%f && cp %p kept-%f || exit 3", segment))
	if kept, err := os.ReadFile(filepath.Join(dir, "kept-"+segment)); err != nil || string(kept) != "wal" {
		t.Errorf("%q %v", kept, err)
	}
	if _, err := os.Stat(filepath.Join(status, segment+".done")); err != nil {
		t.Error(err)
	}
	must(t, os.WriteFile(filepath.Join(status, segment+".ready"), nil, 0o600))
	if err := s.archiveSegment(testContext(t), "test ! -f kept-%f && cp %p kept-%f || exit 3", segment); err == nil {
		t.Error("a command that failed counts as done")
	}
}

// Options that are the driver's own do not slip in, in no form (scar 102).
func TestOptionsOfOurOwn(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler), cfg: config.Postgres{BinDir: "/none", BaseBackup: []config.Option{
		{Name: "pgdata", Value: "/elsewhere"}, {Name: "--host", Value: "evil"}, {Name: "wal-method", Value: "none"}, {Name: "gzip", Flag: true},
		{Name: "max-rate", Value: "100M"}, {Name: "checkpoint", Value: "spread"}}}}
	if got := s.baseBackupOptions(testContext(t)); !slices.Equal(got, []string{"--max-rate=100M", "--checkpoint=spread"}) {
		t.Errorf("%q", got)
	}
}
