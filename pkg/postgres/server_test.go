package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/pkg/config"
)

func TestBootstrap(t *testing.T) {
	n := newNode(t, "n1", func(c *config.Postgres) {
		c.PGHBA = nil
		delete(c.Parameters, "log_min_messages")
		c.Parameters["log_statement"] = "all"
	})
	ctx := testContext(t)
	if d := n.State(); d.State != DirEmpty {
		t.Fatalf("state %v, want empty", d)
	}
	if err := n.Initdb(ctx, InitdbOptions{Flags: []config.Option{{Name: "pwfile", Value: "/etc/passwd"}}}); err == nil {
		t.Fatal("a forbidden initdb option was accepted")
	}
	must(t, n.Initdb(ctx, InitdbOptions{
		Flags: []config.Option{{Name: "data-checksums", Flag: true}, {Name: "auth", Value: "'scram-sha-256'"}},
		HBA:   []string{"host replication replicator 127.0.0.1/32 scram-sha-256"},
	}))
	if d := n.State(); d.State != DirInProgress || d.Kind != KindBootstrap {
		t.Fatalf("after initdb: %v, want a bootstrap in progress", d)
	}
	if _, err := n.Start(ctx, StartOptions{Role: RolePrimary}); !errors.Is(err, ErrNotStartable) {
		t.Fatalf("start of a half-made cluster: %v, want ErrNotStartable", err)
	}
	n.start(StartOptions{Role: RolePrimary, Bootstrap: true})
	script := filepath.Join(t.TempDir(), "post.sh")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\nprintf %s \"$1|$2|$PGOPTIONS|$(cat $PGPASSFILE)\" > "+script+".out\n"), 0o700))
	must(t, n.PostBootstrap(ctx, PostBootstrapOptions{Script: []string{script, "first"}}))
	must(t, n.Finish())
	if d := n.State(); d.State != DirPresent {
		t.Fatalf("after post bootstrap: %v, want present", d)
	}
	out, err := os.ReadFile(script + ".out")
	must(t, err)
	if !strings.HasPrefix(string(out), "first|dbname=postgres user=postgres host=127.0.0.1 port=") ||
		!strings.Contains(string(out), `su per'pass\\word\:1`) {
		t.Errorf("post_bootstrap got %q", out)
	}
	// The other roles can log in with what is configured for them.
	if _, err := n.IdentifySystem(ctx, nil); err != nil {
		t.Errorf("replication role: %v", err)
	}
	var size int
	if err := n.askUpstream(ctx, n.upstream(), "SELECT length(pg_read_binary_file('global/pg_control'))", &size); err != nil || size != 8192 {
		t.Errorf("rewind role reads %d bytes: %v", size, err)
	}
	serverLog, err := os.ReadFile(n.logPath)
	must(t, err)
	for _, secret := range []string{`pass\word`, `li\cator`, "re'wind", "re''wind"} {
		if strings.Contains(string(serverLog), secret) || strings.Contains(n.log.String(), secret) {
			t.Errorf("a password is in a log")
		}
	}
	if !strings.Contains(string(serverLog), "SET LOCAL log_statement") {
		t.Error("statements are not logged at all, so the check above proves nothing")
	}
	hba, err := os.ReadFile(n.inData("pg_hba.conf"))
	must(t, err)
	if !strings.Contains(string(hba), "\nhost replication replicator 127.0.0.1/32 scram-sha-256\n") || !strings.Contains(string(hba), "# TYPE") {
		t.Errorf("bootstrap.pg_hba was not appended:\n%s", hba)
	}
	for _, f := range []string{"postgresql.conf.backup", "postgresql.base.conf.backup", "pg_hba.conf.backup", "pg_ident.conf.backup"} {
		if _, err := os.Stat(n.inData(f)); err != nil {
			t.Error(err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(n.cfg.PGPass), ".pgha-*"))
	if len(left) > 0 {
		t.Errorf("password files left behind: %v", left)
	}
}

func TestInitdbFailureLeavesNothing(t *testing.T) {
	n := newNode(t, "n1")
	err := n.Initdb(testContext(t), InitdbOptions{Flags: []config.Option{{Name: "encoding", Value: "KLINGON"}}})
	var failed *CommandError
	if !errors.As(err, &failed) || failed.Code != 1 || !strings.Contains(err.Error(), "KLINGON") {
		t.Fatalf("initdb with a bad encoding: %v", err)
	}
	if d := n.State(); d.State != DirEmpty {
		t.Fatalf("afterwards: %v, want empty", d)
	}
}

func TestStartStop(t *testing.T) {
	n := primaryNode(t, "n1")
	ctx := testContext(t)
	st, err := n.Status(ctx)
	must(t, err)
	if st.InRecovery || st.Timeline != 1 || st.WriteLSN == 0 || st.FlushLSN == 0 || st.ServerVersion < 120000 || st.SyncCommit != "on" {
		t.Errorf("status of a primary: %+v", st)
	}
	if _, err := time.Parse("2006-01-02 15:04:05.999999-07:00", st.StartTime); err != nil {
		t.Errorf("start time: %v", err)
	}
	// A smart stop waits for clients, but must not wait for our own connections.
	if _, err := n.Sample(ctx); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	must(t, n.Stop(ctx, StopSmart, true))
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("a smart stop took %v: it waited for our connections", d)
	}
	if control, err := n.ControlData(ctx); err != nil || control.State != StateShutDown {
		t.Fatalf("control data after stop: %+v, %v", control, err)
	}
	if r, err := n.Accepting(ctx); r != NoResponse || err == nil {
		t.Errorf("a stopped server is %v", r)
	}
	n.start(StartOptions{Role: RolePrimary})

	// A held transaction makes a smart stop run into its limit.
	conn := n.connect()
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if err := n.Stop(short, StopSmart, false); !errors.Is(err, ErrStopTimeout) {
		t.Errorf("smart stop with a client: %v, want ErrStopTimeout", err)
	}
	must(t, n.Stop(ctx, StopImmediate, false))
	drop(conn)
	n.start(StartOptions{Role: RolePrimary})
	second, err := n.Status(ctx)
	must(t, err)
	if second.StartTime == st.StartTime {
		t.Error("the status still shows the first postmaster")
	}
	if res, err := n.Restart(ctx, StartOptions{Role: RolePrimary}); err != nil || res != Started {
		t.Errorf("restart: %v, %v", res, err)
	}
}

func TestKillAndRecover(t *testing.T) {
	n := primaryNode(t, "n1")
	ctx := testContext(t)
	n.sql("INSERT INTO public.t SELECT generate_series(1, 1000)")
	pid, _ := n.Running()
	exited := n.Exited()
	must(t, unix.Kill(pid, unix.SIGKILL))
	select {
	case <-exited:
	case <-ctx.Done():
		t.Fatal("the death of the postmaster was not noticed")
	}
	if left := serverProcesses(n.cfg.DataDir); len(left) > 0 {
		t.Errorf("orphans at the time of exit: %v", left)
	}
	n.start(StartOptions{Role: RolePrimary})
	if got := n.ask("SELECT count(*)::text FROM public.t"); got != "1000" {
		t.Errorf("rows after crash recovery: %s", got)
	}
	// Sweeping works on a stopped postmaster too (safety P4).
	if _, err := n.Reload(ctx); err != nil { // a connection stays open for the next
		t.Fatal(err)
	}
	pid, _ = n.Running()
	must(t, unix.Kill(pid, unix.SIGSTOP))
	begin := time.Now()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if r, err := n.Accepting(short); r != NoResponse || err == nil {
		t.Errorf("a hanging postmaster is %v, %v", r, err)
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("asking a hanging postmaster took %v", d)
	}
	// A reload that it will never confirm ends with it, not with its own patience: a
	// leader has to hand over.
	names, done := "n9", make(chan error, 1)
	go func() { done <- n.SetSyncStandbyNames(ctx, &names) }()
	eventually(t, "the reload is under way", func() bool { return hasPending(t, pid, unix.SIGHUP) })
	begin = time.Now()
	must(t, n.Kill(ctx))
	if err := <-done; !errors.Is(err, errExited) || time.Since(begin) > time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}

// hasPending tells whether a stopped process has been sent sig.
func hasPending(t *testing.T, pid int, sig unix.Signal) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "ShdPnd:")
	mask, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	must(t, err)
	return mask>>(sig-1)&1 == 1
}

func TestStartFailureSaysWhy(t *testing.T) {
	n := primaryNode(t, "n1")
	ctx := testContext(t)
	must(t, n.Stop(ctx, StopFast, false))
	c := n.cfg
	c.Parameters = map[string]string{"unix_socket_directories": filepath.Dir(c.DataDir), "shared_preload_libraries": "no_such_library"}
	n.SetConfig(c)
	_, err := n.Start(ctx, StartOptions{Role: RolePrimary})
	if !errors.Is(err, ErrStartFailed) || !strings.Contains(err.Error(), "FATAL") {
		t.Errorf("start without a library: %v", err)
	}
}

// A value that PostgreSQL does not start with is left out, as long as it is there;
// others are not.
func TestRefusedParameters(t *testing.T) {
	n := primaryNode(t, "n1")
	ctx := testContext(t)
	must(t, n.Stop(ctx, StopFast, false))
	c := n.cfg
	with := func(shared, sync string) {
		c.Parameters = map[string]string{
			"unix_socket_directories": filepath.Dir(c.DataDir), "shared_buffers": shared, "Work_Mem": "1kB", "log_statement": "work_mem",
			"autovacuum": "perhaps", "maintenance_work_mem": "17MB", "synchronous_standby_names": sync,
		}
		n.SetConfig(c)
	}
	with("a lot", "(((")
	if _, err := n.Start(ctx, StartOptions{Role: RolePrimary}); !errors.Is(err, ErrStartFailed) {
		t.Errorf("started without the synchronous standbys that were asked for: %v", err)
	}
	with("a lot", "")
	if res, err := n.Start(ctx, StartOptions{Role: RolePrimary}); res != Started || err != nil {
		t.Fatalf("start with bad values: %v, %v", res, err)
	}
	for name, want := range map[string]string{"shared_buffers": "128MB", "work_mem": "4MB", "log_statement": "none", "autovacuum": "on", "maintenance_work_mem": "17MB"} {
		if got := n.ask("SHOW " + name); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}
	must(t, n.Stop(ctx, StopFast, false))
	with("17MB", "")
	if res, err := n.Start(ctx, StartOptions{Role: RolePrimary}); res != Started || err != nil {
		t.Fatalf("start with a value that was mended: %v, %v", res, err)
	}
	if got := n.ask("SHOW shared_buffers"); got != "17MB" {
		t.Errorf("the mended value does not count: %s", got)
	}
}

func TestConnectionBreaks(t *testing.T) {
	n := primaryNode(t, "n1")
	ctx := testContext(t)
	for range 2 {
		_, err := n.Status(ctx)
		must(t, err)
		n.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'Patroni%'")
	}
	if _, err := n.Status(ctx); err != nil {
		t.Errorf("status after our connection was killed: %v", err)
	}
	// A query in flight ends when the connections are closed from outside.
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- n.slotExec(ctx, "hold", "x", "SELECT pg_sleep(30)") }()
	eventually(t, "the query runs", func() bool {
		return n.ask("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
	})
	n.CloseConnections()
	if err := <-done; !errors.Is(err, errClosed) {
		t.Errorf("interrupted query: %v, want errClosed", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("closing took %v", d)
	}
	// And a caller that waits for its turn gives up with its context.
	n.slots.token <- struct{}{}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := n.Slots(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a busy connection: %v", err)
	}
	<-n.slots.token
}
