package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/pkg/config"
)

// archived is a primary with an archive made by cp, and a base backup of it.
type archived struct {
	*node
	archive, backup string
}

func archivedPrimary(t *testing.T) archived {
	t.Helper()
	dir := t.TempDir()
	a := archived{archive: dir + "/archive", backup: dir + "/backup"}
	must(t, os.Mkdir(a.archive, 0o700))
	a.node = primaryNode(t, "a", func(c *config.Postgres) {
		c.Parameters["archive_mode"], c.Parameters["archive_command"] = "on", "cp %p "+a.archive+"/%f"
	})
	a.sql("INSERT INTO public.t VALUES (1)")
	b := newNode(t, "backup")
	must(t, b.BaseBackup(testContext(t), a.upstream(), nil))
	must(t, removeFile(b.inData(standbySignal)))
	must(t, os.Rename(b.cfg.DataDir, a.backup))
	return a
}

// step inserts a row and gives the position after its commit, and the time.
func (a archived) step(id int) (lsn, at string) {
	a.t.Helper()
	a.sql(fmt.Sprintf("INSERT INTO public.t VALUES (%d)", id))
	return a.ask("SELECT pg_current_wal_lsn()::text"), a.ask("SELECT clock_timestamp()::text")
}

// flush brings all WAL into the archive.
func (a archived) flush() {
	a.t.Helper()
	a.sql("INSERT INTO public.t VALUES (-1)")
	name := a.ask("SELECT pg_walfile_name(pg_switch_wal())")
	eventually(a.t, name+" is archived", func() bool { _, err := os.Stat(a.archive + "/" + name); return err == nil })
}

func (n *node) rows() string {
	n.t.Helper()
	return n.ask("SELECT string_agg(id::text, ' ' ORDER BY id) FROM public.t")
}

// copyScript is a bootstrap method that puts the backup in place.
func (a archived) copyScript() string {
	return script(a.t, `for x in "$@"; do case $x in --datadir=*) d=${x#*=};; esac; done; cp -a `+a.backup+` "$d"; touch "$d/promote"`)
}

func TestCustomBootstrap(t *testing.T) {
	t.Parallel()
	a := archivedPrimary(t)
	a.step(2)
	a.sql("SELECT pg_create_restore_point('mark')")
	a.step(3)
	a.flush()
	hba := []string{"host all all 192.0.2.1/32 reject"}
	n := newNode(t, "n", func(c *config.Postgres) {
		c.Superuser.Password, c.Replication.Password = "other pw", "other repl"
		c.PGHBA = nil
	})
	ctx := testContext(t)
	m := config.CustomMethod{Name: "copy", Command: a.copyScript(), RecoveryConf: map[string]string{
		"restore_command": "cp " + a.archive + "/%f %p", "recovery_target_name": "mark", "Recovery_Target_Timeline": "latest", "recovery_target_action": "pause"}}
	must(t, n.CustomBootstrap(ctx, m, append(hba, a.cfg.PGHBA...)))
	if got := n.rows(); got != "1 2" {
		t.Errorf("rows %q", got)
	}
	if got := n.ask("SELECT pg_is_in_recovery()::text || current_setting('restore_command') || current_setting('hot_standby') || timeline_id FROM pg_control_checkpoint()"); got != "falseon2" {
		t.Errorf("after recovery: %q", got)
	}
	if d := n.State(); d.State != DirInProgress || d.Kind != KindBootstrap || d.Resumable {
		t.Errorf("before PostBootstrap: %+v", d)
	}
	must(t, n.PostBootstrap(ctx, PostBootstrapOptions{}))
	must(t, n.Finish())
	if d := n.State(); d.State != DirPresent {
		t.Errorf("after PostBootstrap: %+v", d)
	}
	text, err := os.ReadFile(n.inData("pg_hba.conf"))
	if err != nil || !strings.Contains(string(text), hba[0]) {
		t.Errorf("pg_hba.conf, %v:\n%s", err, text)
	}
	for _, gone := range []string{recoverySignal, standbySignal, "promote"} {
		if _, err := os.Stat(n.inData(gone)); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	if _, err := n.IdentifySystem(ctx, nil); err != nil {
		t.Errorf("the new replication password: %v", err)
	}
}

// TestCustomBootstrapWays: without recovery_conf, with what the backup brings,
// and the failures.
func TestCustomBootstrapWays(t *testing.T) {
	t.Parallel()
	a := archivedPrimary(t)
	a.step(2)
	a.flush()
	ctx := testContext(t)

	// Kept: the method wrote the recovery settings itself.
	keep := newNode(t, "keep")
	own := script(t, a.copyScript()+` "$@" && cd `+keep.cfg.DataDir+` && touch recovery.signal && echo "restore_command = 'cp `+a.archive+`/%f %p'" >> postgresql.auto.conf`)
	must(t, keep.CustomBootstrap(ctx, config.CustomMethod{Name: "keep", Command: own, KeepExistingRecoveryConf: true}, nil))
	if got := keep.rows(); got != "-1 1 2" {
		t.Errorf("kept recovery settings: rows %q", got)
	}
	must(t, keep.Kill(ctx))

	// A plain copy of a stopped server.
	must(t, a.Stop(ctx, StopFast, true))
	plain := newNode(t, "plain")
	sh := script(t, `cp -a `+a.cfg.DataDir+` `+plain.cfg.DataDir)
	must(t, plain.CustomBootstrap(ctx, config.CustomMethod{Name: "plain", Command: sh, NoParams: true}, nil))
	if got := plain.rows(); got != "-1 1 2" {
		t.Errorf("plain copy: rows %q", got)
	}
	must(t, plain.Kill(ctx))

	for name, c := range map[string]struct{ command, err string }{
		"fails":   {"/bin/sh -c 'echo no backup found; exit 4'", "bootstrap by fails: run sh: exit status 4: no backup found"},
		"nothing": {"/bin/true", "is not a complete data directory"},
		"quote":   {"'/bin/true", "bootstrap.quote.command: split command"},
		"missing": {"/nowhere/x", "/nowhere/x: no such file"},
	} {
		n := newNode(t, name)
		err := n.CustomBootstrap(ctx, config.CustomMethod{Name: name, Command: c.command, NoParams: true}, nil)
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
		if d := n.State(); d.State == DirPresent {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// restoreFrom prepares a directory as a restore leaves it.
func (a archived) restoreFrom(name string) *node {
	a.t.Helper()
	n := newNode(a.t, name, func(c *config.Postgres) {
		c.Parameters["restore_command"] = "cp " + a.archive + "/%f %p"
	})
	if out, err := exec.Command("cp", "-a", a.backup, n.cfg.DataDir).CombinedOutput(); err != nil {
		a.t.Fatalf("%v: %s", err, out)
	}
	must(a.t, n.Begin(KindRestore, false))
	return n
}

// TestRecoverToTarget is exact to the row.
func TestRecoverToTarget(t *testing.T) {
	t.Parallel()
	a := archivedPrimary(t)
	_, before := a.step(2)
	lsn, at := a.step(3)
	a.sql("SELECT pg_create_restore_point('mark')")
	xid := a.ask("WITH i AS (INSERT INTO public.t VALUES (4) RETURNING id) SELECT pg_current_xact_id()::text FROM i")
	a.step(5)
	a.flush()
	for _, c := range []struct {
		target RecoveryTarget
		want   string
	}{
		{RecoveryTarget{Type: "time", Value: at}, "1 2 3"},
		{RecoveryTarget{Type: "time", Value: before, Exclusive: true}, "1 2"},
		{RecoveryTarget{Type: "lsn", Value: lsn}, "1 2 3"},
		{RecoveryTarget{Type: "name", Value: "mark"}, "1 2 3"},
		{RecoveryTarget{Type: "xid", Value: xid}, "1 2 3 4"},
		{RecoveryTarget{Type: "xid", Value: xid, Exclusive: true}, "1 2 3"},
		{RecoveryTarget{Type: "immediate"}, "1"},
		{RecoveryTarget{}, "-1 1 2 3 4 5"},
	} {
		n := a.restoreFrom("n")
		if err := n.Recover(testContext(t), Recovery{Target: c.target}); err != nil {
			t.Errorf("%s: %v", c.target, err)
			continue
		}
		if got := n.rows(); got != c.want {
			t.Errorf("%s, exclusive %v: rows %q, want %q", c.target, c.target.Exclusive, got, c.want)
		}
		if d := n.State(); d.State != DirPresent {
			t.Errorf("%s: state %+v", c.target, d)
		}
		must(t, n.Kill(testContext(t)))
	}
}

// TestRecoverFails: what PostgreSQL says becomes one line that tells what to do.
func TestRecoverFails(t *testing.T) {
	t.Parallel()
	a := archivedPrimary(t)
	lsn, _ := a.step(2)
	a.flush()
	hidden := a.archive + ".away"
	for _, c := range []struct {
		name   string
		target RecoveryTarget
		break_ func(n *node)
		err    string
	}{
		{"beyond the archive", RecoveryTarget{Type: "time", Value: "2090-01-01 00:00:00Z"}, nil, "the target (time 2090-01-01 00:00:00Z) lies beyond the end of the archive"},
		{"unknown point", RecoveryTarget{Type: "name", Value: "nope"}, nil, "lies beyond the end of the archive"},
		{"no such timeline", RecoveryTarget{Timeline: "9"}, nil, "the timeline asked for is not in the archive"},
		{"before the backup", RecoveryTarget{Type: "lsn", Value: "0/200000"}, nil, "lies before the end of the backup: choose an older backup set"},
		{"archive away", RecoveryTarget{Type: "lsn", Value: lsn}, func(n *node) {
			must(t, os.Rename(a.archive, hidden))
			must(t, os.RemoveAll(n.inData("pg_wal")))
			must(t, os.MkdirAll(n.inData("pg_wal", "archive_status"), 0o700))
		}, "WAL that belongs to the backup is missing"},
	} {
		n := a.restoreFrom("n")
		if c.break_ != nil {
			c.break_(n)
		}
		err := n.Recover(testContext(t), Recovery{Target: c.target})
		if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n") || !errors.Is(err, ErrRecovery) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, running := n.Running(); running {
			t.Errorf("%s: the server runs", c.name)
		}
		if d := n.State(); d.State == DirPresent {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
	n := a.restoreFrom("n")
	if err := n.Recover(testContext(t), Recovery{Target: RecoveryTarget{Type: "time", Value: "2026-01-01 00:00:00"}}); err == nil || !strings.Contains(err.Error(), "no zone") {
		t.Errorf("a time without a zone: %v", err)
	}
}

// TestPrivateServer: while it recovers nobody else reaches the server.
func TestPrivateServer(t *testing.T) {
	t.Parallel()
	a := archivedPrimary(t)
	a.flush()
	n := a.restoreFrom("n")
	n.cfg.RunDir = t.TempDir()
	n.SetConfig(n.cfg)
	ctx := testContext(t)
	must(t, n.prepareRecovery(ctx, Recovery{}))
	must(t, n.unmark())
	must(t, os.Mkdir(filepath.Join(n.cfg.RunDir, privatePrefix+"left"), 0o700))
	port := strconv.Itoa(n.cfg.Port)
	err := n.runPrivately(ctx, Recovery{}, func(ctx context.Context, do session) error {
		dirs, _ := filepath.Glob(n.cfg.RunDir + "/*")
		if len(dirs) != 1 {
			t.Fatalf("private directories %q", dirs)
		}
		fi, err := os.Stat(dirs[0])
		must(t, err)
		if fi.Mode().Perm() != 0o700 {
			t.Errorf("mode %o", fi.Mode().Perm())
		}
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			t.Error("it listens on the network")
		}
		if c, err := net.Dial("unix", filepath.Dir(n.cfg.DataDir)+"/.s.PGSQL."+port); err == nil {
			c.Close()
			t.Error("it listens on its usual socket")
		}
		if st, err := n.Status(ctx); err == nil {
			t.Errorf("Status gives %+v", st)
		}
		if _, err := n.Reload(ctx); err != nil {
			t.Errorf("reload: %v", err)
		}
		if text, _ := os.ReadFile(n.confPath()); !strings.Contains(string(text), "\nrestore_command") {
			t.Error("a reload took the recovery settings away")
		}
		return do(ctx, func(ctx context.Context, c *pgx.Conn) error {
			var got string
			err := c.QueryRow(ctx, "SELECT pg_is_in_recovery()::text || current_setting('listen_addresses') || current_setting('hot_standby')").Scan(&got)
			if got != "falseoff" {
				t.Errorf("settings %q", got)
			}
			return err
		})
	})
	must(t, err)
	if left, _ := filepath.Glob(n.cfg.RunDir + "/*"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}

	// A path too long for a socket makes it go elsewhere.
	n.cfg.RunDir = filepath.Join(t.TempDir(), strings.Repeat("x", 90))
	must(t, os.Mkdir(n.cfg.RunDir, 0o700))
	n.SetConfig(n.cfg)
	dir, cleanup, err := n.privateDir()
	must(t, err)
	defer cleanup()
	if len(dir)+len("/.s.PGSQL.")+len(port) > maxSocketPath {
		t.Errorf("directory %q", dir)
	}
}

// A server that somebody ended while it recovered has not failed: the same
// recovery goes on.
func TestRecoveryKilled(t *testing.T) {
	t.Parallel()
	a := archivedPrimary(t)
	a.step(2)
	a.flush()
	n := a.restoreFrom("n")
	// A restore_command that never ends holds recovery until the signal.
	r := Recovery{Settings: map[string]string{"restore_command": "sleep 600"}}
	done := make(chan error, 1)
	go func() { done <- n.Recover(testContext(t), r) }()
	// It handles signals from when its pid file says that it starts.
	eventually(t, "the server to recover", func() bool {
		p, err := n.readPidFile()
		return err == nil && p.Status == "starting"
	})
	pid, _ := n.Running()
	must(t, syscall.Kill(pid, syscall.SIGQUIT))
	if err := <-done; !errors.Is(err, ErrRecoveryKilled) || errors.Is(err, ErrRecovery) {
		t.Fatalf("ended from outside: %v", err)
	}
	r.Settings["restore_command"] = "cp " + a.archive + "/%f %p"
	must(t, n.Recover(testContext(t), r))
	if got := n.ask("SELECT max(id)::text FROM public.t"); got != "2" {
		t.Errorf("newest row after going on: %s", got)
	}
}
