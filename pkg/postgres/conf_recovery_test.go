package postgres

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

// TestArchiveDefaults: ours where nobody chose another way.
func TestArchiveDefaults(t *testing.T) {
	for _, c := range []struct {
		name                   string
		change                 func(*config.Postgres)
		base                   string // postgresql.base.conf
		mode, command, restore string // expected; "ours" for a command of ours
	}{
		{"nothing set", nil, "", "on", "ours", "ours"},
		{"no backups", func(c *config.Postgres) { c.Backup.Enabled = false }, "", "", "", ""},
		{"archive: false", func(c *config.Postgres) { c.Backup.Archive = false }, "", "", "", ""},
		{"own command", func(c *config.Postgres) { c.Parameters["archive_command"] = "x %p" }, "", "", "x %p", "ours"},
		{"own command, in other letters", func(c *config.Postgres) { c.Parameters["Archive_Command"] = "x %p" }, "", "", "x %p", "ours"},
		{"own library", func(c *config.Postgres) { c.Parameters["archive_library"] = "x" }, "", "", "", "ours"},
		{"switched off", func(c *config.Postgres) { c.Parameters["archive_mode"] = "off" }, "", "off", "", "ours"},
		{"always", func(c *config.Postgres) { c.Parameters["archive_mode"] = "always" }, "", "always", "ours", "ours"},
		{"own restore_command", func(c *config.Postgres) { c.Parameters["restore_command"] = "y" }, "", "on", "ours", "y"},
		{"in recovery_conf", func(c *config.Postgres) { c.RecoveryConf = map[string]string{"restore_command": "z"} }, "", "on", "ours", "z"},
		{"in the included file", nil, "archive_command = 'x'\n  Restore_Command='y'\n#archive_mode=on\n", "", "", ""},
		{"commented out", nil, "#archive_command = 'x'\n", "on", "ours", "ours"},
	} {
		dir := t.TempDir()
		cfg := config.Postgres{DataDir: dir, RunDir: dir, Parameters: map[string]string{},
			Backup: config.Backup{Enabled: true, Archive: true, Stanza: "demo", Command: "pgbackrest"}}
		if c.change != nil {
			c.change(&cfg)
		}
		must(t, os.WriteFile(filepath.Join(dir, "postgresql.base.conf"), []byte(c.base), 0o600))
		s, err := New(Options{Name: "n", Scope: "demo", Config: cfg, Process: &ExecLauncher{}})
		must(t, err)
		all, _ := s.wanted(cfg, 15)
		recovery := s.recoverySettings(nil, 15)
		for name, x := range map[string][2]string{
			"archive_mode": {all["archive_mode"], c.mode}, "archive_command": {all["archive_command"], c.command},
			"restore_command": {recovery["restore_command"], c.restore},
		} {
			ours := strings.Contains(x[0], "pgbackrest") && strings.Contains(x[0], "--stanza=demo")
			if x[0] != x[1] && !(x[1] == "ours" && ours) {
				t.Errorf("%s: %s is %q, want %q", c.name, name, x[0], x[1])
			}
		}
	}
}

func TestReplayTitle(t *testing.T) {
	for title, want := range map[string]string{
		"postgres: demo: startup recovering 0000000100000000000000A3":     "0000000100000000000000A3",
		"postgres: startup waiting for 000000010000000000000004":          "000000010000000000000004",
		"postgres: startup process   recovering 000000010000000000000004": "000000010000000000000004",
		"postgres: demo: walwriter":                                       "",
	} {
		got := ""
		if m := replayTitle.FindStringSubmatch(title); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%q: %q", title, got)
		}
	}
}
