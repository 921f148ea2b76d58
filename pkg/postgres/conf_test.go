package postgres

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

func TestConfFiles(t *testing.T) {
	ctx := testContext(t)
	n := primaryNode(t, "n", func(c *config.Postgres) {
		c.Parameters["no_such_parameter"] = "1"
		c.Parameters["app.setting"] = `it's a \ thing`
		c.Parameters["restore_command"] = "cp /nowhere/%f %p"
	})
	b, err := os.ReadFile(n.confPath())
	must(t, err)
	conf := string(b)
	if lines := strings.Split(conf, "\n"); !strings.HasPrefix(lines[0], "# Do not edit") || !strings.HasPrefix(lines[1], "#") ||
		lines[2] != "include 'postgresql.base.conf'" {
		t.Errorf("head of postgresql.conf: %q", lines[:4])
	}
	for _, want := range []string{
		"\napp.setting = 'it''s a \\\\ thing'\n", "\nmax_connections = '40'\n", "\nwal_level = 'replica'\n",
		"\nhba_file = '" + n.inData("pg_hba.conf") + "'\n", "\ncluster_name = 'testcluster'\n",
	} {
		if !strings.Contains(conf, want) {
			t.Errorf("postgresql.conf lacks %q", want)
		}
	}
	for _, not := range []string{"no_such_parameter", "wal_keep_segments", "restore_command"} {
		if strings.Contains(conf, not) {
			t.Errorf("postgresql.conf of a primary has %s", not)
		}
	}
	if got := n.ask("SELECT current_setting('app.setting')"); got != `it's a \ thing` {
		t.Errorf("the server reads %q", got)
	}
	if got := n.ask("SELECT source FROM pg_settings WHERE name = 'max_connections'"); got != "command line" {
		t.Errorf("max_connections comes from %s", got)
	}
	if got := n.ask("SHOW wal_retrieve_retry_interval"); got != "500ms" {
		t.Errorf("a standby would wait %s before it tries again", got)
	}
	base, err := os.ReadFile(n.inData("postgresql.base.conf"))
	must(t, err)
	must(t, os.WriteFile(n.inData("postgresql.base.conf"), append(base, "wal_retrieve_retry_interval = 3s\n"...), 0o600))
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if got := n.ask("SHOW wal_retrieve_retry_interval"); got != "3s" {
		t.Errorf("the operator's value is not respected: %s", got)
	}
	if !strings.Contains(string(base), "# CONNECTIONS AND AUTHENTICATION") {
		t.Error("the original file was not kept as postgresql.base.conf")
	}

	// Nothing changed: nothing is written, nothing is reloaded.
	changed, pending, err := n.Apply(ctx, false)
	if changed || len(pending) > 0 || err != nil {
		t.Errorf("apply without a change: %v, %v, %v", changed, pending, err)
	}
	// Leftovers that would win over our files.
	n.sql("ALTER SYSTEM SET primary_conninfo = 'host=nowhere'", "ALTER SYSTEM SET work_mem = '5MB'")
	c := n.cfg
	c.Parameters = map[string]string{"unix_socket_directories": filepath.Dir(c.DataDir), "fsync": "off",
		"shared_buffers": "17MB", "log_min_duration_statement": "7s"}
	c.Controlled = append([]config.ControlledGUC(nil), c.Controlled...)
	c.Controlled[0].Value = "50"
	c.PGHBA = append([]string{"# first"}, c.PGHBA...)
	n.SetConfig(c)
	changed, pending, err = n.Apply(ctx, false)
	must(t, err)
	want := map[string]Pending{"max_connections": {OldValue: "40", NewValue: "50"}, "shared_buffers": {OldValue: "16MB", NewValue: "17MB"}}
	if !changed || !maps.Equal(pending, want) {
		t.Errorf("apply: %v, pending %v, want %v", changed, pending, want)
	}
	if got := n.ask("SELECT current_setting('log_min_duration_statement')"); got != "7s" {
		t.Errorf("the reload did not arrive: %s", got)
	}
	auto, err := os.ReadFile(n.inData("postgresql.auto.conf"))
	must(t, err)
	if strings.Contains(string(auto), "primary_conninfo") || !strings.Contains(string(auto), "work_mem = '5MB'") {
		t.Errorf("postgresql.auto.conf: %q", auto)
	}
	hba, err := os.ReadFile(n.inData("pg_hba.conf"))
	must(t, err)
	if !strings.Contains(string(hba), "\n# first\nlocal all") {
		t.Errorf("pg_hba.conf: %q", hba)
	}
	if res, err := n.Restart(ctx, StartOptions{Role: RolePrimary}); res != Started || err != nil {
		t.Fatal(res, err)
	}
	if pending, err := n.Pending(ctx); err != nil || len(pending) > 0 {
		t.Errorf("pending after a restart: %v, %v", pending, err)
	}
	// Synchronous names: taken over, kept across reloads, given back.
	names := `FIRST 1 ("n 2")`
	must(t, n.SetSyncStandbyNames(ctx, &names))
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if st, err := n.Status(ctx); err != nil || st.SyncNames != names {
		t.Errorf("synchronous_standby_names: %q, %v", st.SyncNames, err)
	}
	// An agent that starts anew goes on with what is in force, and takes it for
	// its own only once it has decided.
	n.Server.mu.Lock()
	n.syncNames = nil
	n.Server.mu.Unlock()
	sync := n.config()
	sync.SynchronousMode = config.SyncOn
	n.SetConfig(sync)
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if st, err := n.Status(ctx); err != nil || st.SyncNames != names || n.SyncNamesOwned() {
		t.Errorf("synchronous_standby_names of before: %q, %v, owned %v", st.SyncNames, err, n.SyncNamesOwned())
	}
	sync.SynchronousMode = config.SyncOff
	n.SetConfig(sync)
	must(t, n.SetSyncStandbyNames(ctx, nil))
	if st, err := n.Status(ctx); err != nil || st.SyncNames != "" {
		t.Errorf("synchronous_standby_names given back: %q, %v", st.SyncNames, err)
	}
	fi, err := os.Stat(n.confPath())
	must(t, err)
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("postgresql.conf has mode %v", fi.Mode())
	}
}

func TestRenderSettingsRefuses(t *testing.T) {
	for name, value := range map[string]string{"a": "x\ny", "b": "x\x00", "c": "x\ry", "bad name": "1", "": "1", "1a": "1", "x'y": "1"} {
		if out, err := renderSettings(settings{name: value}); err == nil {
			t.Errorf("renderSettings(%q = %q) = %q, want an error", name, value, out)
		} else if strings.Contains(err.Error(), "x\n") {
			t.Errorf("the error repeats the value: %v", err)
		}
	}
}

func TestRecoverySettings(t *testing.T) {
	n := newNode(t, "me", func(c *config.Postgres) {
		c.RecoveryConf = map[string]string{"restore_command": "get %f %p", "recovery_min_apply_delay": "1h", "recovery_target_time": "now", "primary_conninfo": "evil", "primary_slot_name": "evil", "standby_mode": "on"}
	})
	up := Upstream{Host: "db 1,db2", Port: "5432", SlotName: "me", Database: "postgres"}
	r := n.recoverySettings(&up, 15)
	want := `dbname=postgres user=replicator passfile=` + n.cfg.PGPass +
		` host=db\ 1,db2 port=5432 sslmode=prefer application_name=me gssencmode=prefer channel_binding=prefer`
	if r["primary_conninfo"] != want {
		t.Errorf("primary_conninfo\n got %s\nwant %s", r["primary_conninfo"], want)
	}
	if r["primary_slot_name"] != "me" || r["restore_command"] != "get %f %p" || r["recovery_min_apply_delay"] != "1h" || r["recovery_target_timeline"] != "latest" || r["recovery_target_time"] != "" {
		t.Errorf("recovery settings %v", r)
	}
	if _, ok := r["standby_mode"]; ok {
		t.Error("standby_mode is no server parameter")
	}
	if c := n.primaryConninfo(up, 12); strings.Contains(c, "channel_binding") {
		t.Errorf("for version 12: %s", c)
	}
	if c := n.primaryConninfo(up, 17); !strings.HasSuffix(c, "sslnegotiation=postgres") {
		t.Errorf("for version 17: %s", c)
	}
	none := n.recoverySettings(nil, 15)
	if v, ok := none["primary_conninfo"]; !ok || v != "" {
		t.Errorf("following nobody needs an explicit empty primary_conninfo: %v", none)
	}
}

func TestPgpass(t *testing.T) {
	a := config.Auth{Username: "u:1", Password: `p\:w`}
	for _, c := range []struct{ host, port, want string }{
		{"h", "1", "h:1:*:u\\:1:p\\\\\\:w\n"},
		{"h1,h2", "1", "h1:1:*:u\\:1:p\\\\\\:w\nh2:1:*:u\\:1:p\\\\\\:w\n"},
		{"h1,h2", "1,2", "h1:1:*:u\\:1:p\\\\\\:w\nh2:2:*:u\\:1:p\\\\\\:w\n"},
		{"/run/pg", "", "/run/pg:*:*:u\\:1:p\\\\\\:w\nlocalhost:*:*:u\\:1:p\\\\\\:w\n"},
		{"", "", "*:*:*:u\\:1:p\\\\\\:w\n"},
	} {
		if got := pgpassLines(c.host, c.port, a); got != c.want {
			t.Errorf("pgpass for %s:%s\n got %q\nwant %q", c.host, c.port, got, c.want)
		}
	}
	n := newNode(t, "n")
	up := Upstream{Host: "h", Port: "1"}
	must(t, n.writePgpass(up))
	must(t, os.Chmod(n.cfg.PGPass, 0o644))
	must(t, n.writePgpass(up))
	if fi, err := os.Stat(n.cfg.PGPass); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", fi.Mode(), err)
	}
	c := n.cfg
	c.Replication.Password = "two\nlines"
	n.SetConfig(c)
	if err := n.writePgpass(up); err == nil {
		t.Error("a password with a line break was written")
	}
}

func TestEnvironment(t *testing.T) {
	n := newNode(t, "n")
	for _, v := range []string{"PATRONI_SUPERUSER_PASSWORD", "PGHA_X", "NOTIFY_SOCKET", "KUBERNETES_PORT", "PGPASSWORD"} {
		t.Setenv(v, "canary")
	}
	t.Setenv("PG_MALLOC_ARENA_MAX", "1")
	t.Setenv("WALG_X", "kept")
	server, tool := strings.Join(n.serverEnv(), "\n"), strings.Join(n.toolEnv(), "\n")
	if strings.Contains(server+tool, "canary") {
		t.Error("a variable of the agent reaches its children")
	}
	if !strings.Contains(server, "\nMALLOC_ARENA_MAX=1") || !strings.Contains(server, "WALG_X=kept") || strings.Contains(tool, "WALG_X") {
		t.Errorf("server environment:\n%s\ntool environment:\n%s", server, tool)
	}
	if !strings.Contains(tool, "LC_ALL=C") {
		t.Error("tools must speak English")
	}
}
