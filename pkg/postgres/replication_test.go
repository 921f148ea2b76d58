package postgres

import (
	"context"
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

func TestStandby(t *testing.T) {
	ctx := testContext(t)
	a := primaryNode(t, "a")
	for _, name := range []string{"b", "c"} {
		must(t, a.CreateSlot(ctx, Slot{Name: name, Type: "physical"}))
	}
	if s := a.slot("b"); s.RestartLSN == 0 || s.Type != "physical" {
		t.Errorf("a new slot reserves no WAL: %+v", s)
	}

	b := newNode(t, "b")
	from := a.upstream()
	from.SlotName = "b"
	var done, total int64
	must(t, b.BaseBackup(ctx, from, func(d, n int64) { done, total = d, n }))
	if done == 0 || done < total {
		t.Errorf("progress ended at %d of %d bytes", done, total)
	}
	if b.DiskRole() != RoleStandby || b.State().State != DirPresent {
		t.Fatalf("after the clone: %v, %v", b.DiskRole(), b.State())
	}
	if err := b.BaseBackup(ctx, from, nil); err == nil {
		t.Error("a clone over a complete data directory was accepted")
	}
	b.start(StartOptions{Role: RoleStandby, Upstream: &from})
	b.streaming()
	a.sql("INSERT INTO public.t SELECT generate_series(1, 10)")
	b.caughtUp(a)

	st, err := b.Status(ctx)
	must(t, err)
	if !st.InRecovery || st.Timeline != 1 || st.ReplayLSN == 0 || st.ReceiveLSN == 0 || st.WrittenLSN == 0 || st.WriteLSN != 0 ||
		st.Receiver.Slot != "b" || st.Receiver.Timeline != 1 || st.ReplayPaused || st.ReplayedAt == "" {
		t.Errorf("status of a standby: %+v", st)
	}
	info, err := parseConninfo(st.Receiver.ConnInfo)
	if err != nil || info["application_name"] != "b" || info["passfile"] != b.cfg.PGPass || info["password"] != "" {
		t.Errorf("receiver's connection string %q: %v", st.Receiver.ConnInfo, err)
	}
	primary, err := a.Status(ctx)
	must(t, err)
	if len(primary.Replication) != 1 || *primary.Replication[0].Application != "b" || *primary.Replication[0].State != "streaming" ||
		*primary.Replication[0].ClientAddr != "127.0.0.1" || primary.Replication[0].FlushLSN == 0 || primary.Replication[0].SentLSN < primary.Replication[0].FlushLSN {
		t.Errorf("replication rows: %+v", primary.Replication)
	}
	if len(primary.Slots) != 2 {
		t.Errorf("slots in the status: %+v", primary.Slots)
	}
	sys, err := b.IdentifySystem(ctx, &from)
	must(t, err)
	if control, err := b.ControlData(ctx); err != nil || control.SystemID != sys.ID || sys.Timeline != 1 {
		t.Errorf("identify system %+v, control %+v, %v", sys, control, err)
	}

	// An upstream of nobody ends the receiver (the freeze of safety P11).
	if res, err := b.Freeze(ctx); err != nil || res != FollowReloaded {
		t.Fatalf("freeze: %v, %v", res, err)
	}
	if res, err := b.Follow(ctx, &from); err != nil || res != FollowReloaded {
		t.Fatalf("follow again: %v, %v", res, err)
	}
	b.streaming()
	eventually(t, "the second follow has nothing to do", func() bool {
		res, err := b.Follow(ctx, &from)
		return err == nil && res == FollowUnchanged
	})
	if res, err := a.Follow(ctx, &from); err != nil || res != FollowRestartNeeded {
		t.Errorf("follow on a primary: %v, %v", res, err)
	}

	// A restarted agent does not know whom it follows: a reload must not lose it.
	again := openNode(t, b.cfg)
	again.proc = b.proc
	if _, err := again.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if got := b.ask("SELECT setting FROM pg_settings WHERE name = 'primary_slot_name'"); got != "b" {
		t.Errorf("the reload of a restarted agent lost the upstream: slot %q", got)
	}
}

// A frozen standby receives nothing from the moment Freeze has returned, also when
// its startup process has no time for that, and over a restart.
func TestFreeze(t *testing.T) {
	ctx := testContext(t)
	a := primaryNode(t, "a")
	b := standbyOf(t, a, "b")
	from := a.upstream()
	frozen := func(when string) {
		t.Helper()
		before, err := b.Sample(ctx)
		must(t, err)
		a.sql("INSERT INTO public.t SELECT generate_series(1, 10)")
		st, err := b.Status(ctx)
		must(t, err)
		if st.Receiver.State != "" || max(st.ReceiveLSN, st.ReplayLSN) != max(before.ReceiveLSN, before.ReplayLSN) {
			t.Fatalf("%s: receiver %q, at %v and then at %v", when, st.Receiver.State, before.ReceiveLSN, st.ReceiveLSN)
		}
	}
	_, err := b.Freeze(ctx)
	must(t, err)
	frozen("streaming before")

	must(t, b.Stop(ctx, StopFast, false))
	b.start(StartOptions{Role: RoleStandby})
	_, err = b.Freeze(ctx)
	must(t, err)
	frozen("restarted")
	if st, err := b.Status(ctx); err != nil || st.ReplayLSN == 0 || st.ReceiveLSN != 0 {
		t.Errorf("a restarted server has received nothing, and is complete by its replay: %+v, %v", st, err)
	}

	_, err = b.Follow(ctx, &from)
	must(t, err)
	b.streaming()
	b.sql("SELECT pg_wal_replay_pause()")
	a.sql("INSERT INTO public.t SELECT generate_series(1, 10)")
	eventually(t, "replay stands still, the receiver does not", func() bool {
		st, err := b.Status(ctx)
		return err == nil && st.ReplayPaused && st.ReceiveLSN > st.ReplayLSN
	})
	_, err = b.Freeze(ctx)
	must(t, err)
	frozen("replay paused")

	b.Server.cfg.Replication.Password = "wrong" // whoever asks the walsender now is refused, and says so
	b.log.Reset()
	if st, err := b.Status(ctx); err != nil || st.Timeline != 1 || strings.Contains(b.log.String(), "replay timeline") {
		t.Errorf("without a receiver, and with nothing replayed, the timeline is asked for anew: %+v, %v\n%s", st, err, b.log)
	}
}

// TestPromotePastANumber: a standby is promoted past a number that was given on a
// host that died; another standby follows over the gap, and over a restart.
func TestPromotePastANumber(t *testing.T) {
	ctx := testContext(t)
	a := primaryNode(t, "a")
	b, c := standbyOf(t, a, "b"), standbyOf(t, a, "c")
	b.caughtUp(a)
	c.caughtUp(a)
	must(t, b.takeNumbers(1, 3)) // a promotion that comes to nothing
	fromA, fromB := a.upstream(), b.upstream()
	_, err := b.Follow(ctx, &fromA)
	must(t, err)
	if _, err := os.Lstat(b.historyPath(2)); err == nil {
		t.Error("the number is still taken on a standby that was not promoted")
	}
	must(t, a.Stop(ctx, StopFast, false))
	must(t, b.Promote(ctx, 1, 3))
	st, err := b.Status(ctx)
	must(t, err)
	history, err := b.LocalHistory(3)
	must(t, err)
	if st.InRecovery || st.Timeline != 3 || len(history) != 1 || history[0].Timeline != 1 {
		t.Fatalf("promoted to %+v, history %v", st, history)
	}
	b.sql("INSERT INTO public.t VALUES (7)")
	_, err = c.Follow(ctx, &fromB)
	must(t, err)
	c.caughtUp(b)
	must(t, c.Stop(ctx, StopFast, false)) // and over a restart
	_, err = c.Start(ctx, StartOptions{Role: RoleStandby, Upstream: &fromB})
	must(t, err)
	b.sql("INSERT INTO public.t VALUES (8)")
	c.caughtUp(b)
	if st, err := c.Status(ctx); err != nil || st.Timeline != 3 {
		t.Errorf("the other standby: %+v, %v", st, err)
	}
}

func TestPromote(t *testing.T) {
	ctx := testContext(t)
	a := primaryNode(t, "a")
	bySQL, byCtl := standbyOf(t, a, "b"), standbyOf(t, a, "c")
	for _, n := range []*node{bySQL, byCtl} {
		n.caughtUp(a)
		_, err := n.Slots(ctx) // the connection the loop would have
		must(t, err)
	}
	must(t, a.Kill(ctx))

	begin := time.Now()
	must(t, bySQL.Promote(ctx, 1, 0))
	sqlTime := time.Since(begin)
	bySQL.sql("INSERT INTO public.t VALUES (1)")

	begin = time.Now()
	_, err := byCtl.run(ctx, command{path: byCtl.bin("pg_ctl"), args: []string{"promote", "-W", "-s", "-D", byCtl.cfg.DataDir}})
	must(t, err)
	must(t, byCtl.waitWritable(ctx))
	t.Logf("promotion until writable: pg_promote %v, pg_ctl %v", sqlTime, time.Since(begin))

	must(t, bySQL.Promote(ctx, 1, 0)) // again: nothing to do
	st, err := bySQL.Status(ctx)
	must(t, err)
	if st.InRecovery || st.Timeline != 2 || bySQL.DiskRole() != RolePrimary {
		t.Errorf("after the promotion: %+v", st)
	}
	history, err := bySQL.LocalHistory(2)
	must(t, err)
	remote, err := bySQL.TimelineHistory(ctx, nil, 2)
	must(t, err)
	if len(history) != 1 || history[0].Timeline != 1 || len(remote) != 1 || remote[0] != history[0] {
		t.Errorf("history: local %v, remote %v", history, remote)
	}
	if done, err := bySQL.CheckpointAfterPromote(ctx); err != nil || !done {
		t.Errorf("checkpoint after promote: %v, %v", done, err)
	}
	control, err := bySQL.ControlData(ctx)
	must(t, err)
	if control.CheckpointTLI != 2 {
		t.Errorf("the control file is on timeline %d", control.CheckpointTLI)
	}
	if pending, err := bySQL.Reload(ctx); err != nil || len(pending) > 0 {
		t.Errorf("reload after the promotion: pending %v, %v", pending, err)
	}
}

// TestDivergence walks an old primary and a standby through every relation to
// a promoted server, and rewinds what has to be.
func TestDivergence(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	a := primaryNode(t, "a")
	b, c := standbyOf(t, a, "b"), standbyOf(t, a, "c")
	up := b.upstream()

	check := func(n *node, want Divergence) {
		t.Helper()
		got, err := n.CheckDivergence(ctx, up)
		if got != want || (err != nil) != (want == DivergenceUnknown) {
			t.Errorf("%s: divergence %v, %v; want %v", n.cfg.Name, got, err, want)
		}
	}
	check(c, DivergenceUnknown) // b is in recovery

	// A clean stop with everything shipped: the old primary can just stream.
	must(t, a.Stop(ctx, StopFast, true))
	checkpoint, publish, err := a.ShutdownCheckpoint(ctx)
	must(t, err)
	if checkpoint == 0 || publish != checkpoint {
		t.Errorf("shutdown checkpoint %v, to publish %v", checkpoint, publish)
	}
	eventually(t, "b has the shutdown checkpoint", func() bool {
		s, err := b.Sample(ctx)
		return err == nil && s.ReplayLSN > checkpoint
	})
	must(t, b.Promote(ctx, 1, 0))
	if done, err := a.LeaderCheckpointed(ctx, up); err != nil {
		t.Errorf("leader checkpointed: %v, %v", done, err)
	}
	must(t, b.Checkpoint(ctx))
	if done, err := a.LeaderCheckpointed(ctx, up); err != nil || !done {
		t.Errorf("leader checkpointed: %v, %v", done, err)
	}
	check(a, RewindNotNeeded)
	check(c, RewindNotNeeded)
	a.start(StartOptions{Role: RoleStandby, Upstream: &up})
	a.streaming()
	check(a, RewindNotNeeded) // running, same timeline
	b.sql("INSERT INTO public.t VALUES (7)")
	a.caughtUp(b)
	st, err := a.Status(ctx)
	must(t, err)
	if st.Timeline != 2 {
		t.Errorf("the standby replays timeline %d, want 2", st.Timeline)
	}

	// c is left behind on timeline 1, and goes down there.
	must(t, c.Stop(ctx, StopFast, false))
	check(c, RewindNotNeeded)

	// b moves on to timeline 3, and dies with WAL nobody has.
	a.caughtUp(b)
	if _, err := a.Follow(ctx, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a is cut off", func() bool {
		st, err := a.Status(ctx)
		return err == nil && st.Receiver.State == ""
	})
	b.sql("CREATE TABLE public.lost (id int)", "INSERT INTO public.lost SELECT generate_series(1, 10000)")
	must(t, b.Kill(ctx))
	must(t, a.Promote(ctx, 1, 0))
	must(t, a.Checkpoint(ctx))
	up = a.upstream()
	check(b, DivergenceUnknown)
	if ok, err := b.CanRewind(ctx); err != nil || !ok {
		t.Fatalf("can rewind: %v, %v", ok, err)
	}
	begin := time.Now()
	res, err := b.Rewind(ctx, up)
	if res != RewindDone || err != nil {
		t.Fatalf("rewind: %v, %v", res, err)
	}
	t.Logf("rewind with single-user recovery took %v", time.Since(begin))
	if b.DiskRole() != RoleStandby || b.State().State != DirPresent {
		t.Errorf("after the rewind: %v, %v", b.DiskRole(), b.State())
	}
	b.start(StartOptions{Role: RoleStandby, Upstream: &up})
	b.streaming()
	b.caughtUp(a)
	if got := b.ask("SELECT count(*)::text FROM pg_class WHERE relname = 'lost'"); got != "0" {
		t.Error("the rewound server still has what its leader never had")
	}
	if strings.Contains(b.log.String(), rewPassword) {
		t.Error("a password is in the log")
	}

	// c's timeline 1 is still a prefix of a's history, two switches later.
	check(c, RewindNotNeeded)

	// b is cut off, and a stops cleanly with WAL that c has and b has not.
	if _, err := b.Follow(ctx, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b is cut off", func() bool {
		st, err := b.Status(ctx)
		return err == nil && st.Receiver.State == ""
	})
	a.sql("INSERT INTO public.t SELECT generate_series(1, 1000)")
	from := a.upstream()
	c.start(StartOptions{Role: RoleStandby, Upstream: &from})
	c.streaming()
	c.caughtUp(a)
	must(t, a.Stop(ctx, StopFast, true))
	must(t, b.Promote(ctx, 1, 0))
	must(t, b.Checkpoint(ctx))
	up = b.upstream()
	check(a, RewindNeeded) // a primary that stopped beyond the switch point
	check(c, RewindNeeded) // a running standby that replayed beyond it
	must(t, c.Stop(ctx, StopFast, false))
	check(c, RewindNeeded) // and stopped
	if res, err := c.Rewind(ctx, up); res != RewindDone || err != nil {
		t.Fatalf("rewind of a standby: %v, %v", res, err)
	}
	c.start(StartOptions{Role: RoleStandby, Upstream: &up})
	c.streaming()
}

func TestRewindFailures(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	a := primaryNode(t, "a")
	b := standbyOf(t, a, "b")
	b.caughtUp(a)
	up := b.upstream()
	if res, err := a.Rewind(ctx, up); res != RewindRetry || err == nil {
		t.Errorf("rewind of a running server: %v, %v", res, err)
	}
	must(t, a.Kill(ctx))
	if res, err := a.Rewind(ctx, up); res != RewindRetry || err == nil {
		t.Errorf("rewind from a standby: %v, %v", res, err)
	}
	must(t, b.Promote(ctx, 1, 0))
	must(t, b.Checkpoint(ctx))
	b.sql("INSERT INTO public.t SELECT generate_series(1, 100)")

	// pg_rewind that dies before it changes anything, and one that dies after.
	fake := func(body string) {
		c := a.cfg
		path := filepath.Join(t.TempDir(), "pg_rewind")
		must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700))
		c.BinNames = map[string]string{"pg_rewind": strings.Repeat("../", 20) + path}
		a.SetConfig(c)
	}
	fake("echo 'pg_rewind: error: could not find common ancestor' >&2; exit 1")
	if res, err := a.Rewind(ctx, up); res != RewindFailed || err == nil || a.State().State != DirPresent {
		t.Errorf("early failure: %v, %v, state %v", res, err, a.State())
	}
	fake("echo 'pg_rewind: need to copy 5 MB' >&2; kill -9 $$")
	if res, err := a.Rewind(ctx, up); res != RewindDamaged || err == nil {
		t.Errorf("failure half way: %v, %v", res, err)
	}
	if d := a.State(); d.State != DirInProgress || d.Kind != KindRewind {
		t.Errorf("after a failure half way: %v", d)
	}
	if _, err := a.Start(ctx, StartOptions{Role: RoleStandby, Upstream: &up}); err == nil {
		t.Error("a damaged directory was started")
	}
	// The way out is a clone over it.
	a.SetConfig(a.cfg)
	must(t, a.BaseBackup(ctx, up, nil))
	a.start(StartOptions{Role: RoleStandby, Upstream: &up})
	a.streaming()

	// Another cluster's server is never a source.
	other := newNode(t, "other")
	must(t, other.Initdb(ctx, InitdbOptions{}))
	other.start(StartOptions{Role: RolePrimary, Bootstrap: true})
	must(t, other.PostBootstrap(ctx, PostBootstrapOptions{}))
	must(t, other.Finish())
	must(t, a.Stop(ctx, StopFast, false))
	if res, err := a.Rewind(ctx, other.upstream()); res != RewindFailed || err == nil {
		t.Errorf("rewind from a foreign cluster: %v, %v", res, err)
	}
	if d, err := a.CheckDivergence(ctx, other.upstream()); d != DivergenceUnknown || err == nil {
		t.Errorf("divergence from a foreign cluster: %v, %v", d, err)
	}
}

func TestBaseBackupFailure(t *testing.T) {
	a := primaryNode(t, "a")
	b := newNode(t, "b", func(c *config.Postgres) { c.Replication.Password = "wrong" })
	ctx, cancel := context.WithTimeout(testContext(t), 2*time.Second)
	defer cancel()
	err := b.BaseBackup(ctx, a.upstream(), nil)
	if err == nil || !strings.Contains(err.Error(), "password authentication failed") {
		t.Errorf("clone with a wrong password: %v", err)
	}
	if d := b.State(); d.State != DirEmpty {
		t.Errorf("afterwards: %v", d)
	}
}

// TestCancelledClone: whatever is left behind is recognised and replaced.
func TestCancelledClone(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	a := primaryNode(t, "a")
	b := newNode(t, "b", func(c *config.Postgres) {
		c.BaseBackup = append(c.BaseBackup, config.Option{Name: "max-rate", Value: "1M"})
	})
	// As after a crash of the agent in the middle: a marker and half a directory.
	must(t, b.Begin(KindClone, false))
	must(t, os.MkdirAll(b.inData("base"), 0o700))
	must(t, os.Chmod(b.cfg.DataDir, 0o700))
	must(t, os.WriteFile(b.inData("base", "1"), nil, 0o600))
	again := openNode(t, b.cfg)
	if d := again.State(); d.State != DirInProgress || d.Kind != KindClone {
		t.Fatalf("after the crash: %v", d)
	}
	running, stop := context.WithCancel(ctx)
	err := again.BaseBackup(running, a.upstream(), func(done, _ int64) {
		if done > 0 {
			stop()
		}
	})
	stop()
	if err == nil {
		t.Fatal("a cancelled clone reports success")
	}
	if d := again.State(); d.State != DirEmpty {
		t.Fatalf("after the cancelled clone: %v", d)
	}
	c := b.cfg
	c.BaseBackup = c.BaseBackup[:1]
	again.SetConfig(c)
	must(t, again.BaseBackup(ctx, a.upstream(), nil))
	if again.State().State != DirPresent {
		t.Errorf("after the clone: %v", again.State())
	}
}

func TestDecreaseRule(t *testing.T) {
	ctx := testContext(t)
	a := primaryNode(t, "a")
	b := standbyOf(t, a, "b", func(c *config.Postgres) {
		c.Controlled = append([]config.ControlledGUC(nil), c.Controlled...)
		c.Controlled[0].Value = "30"
	})
	if got := b.ask("SELECT current_setting('max_connections')"); got != "40" {
		t.Errorf("max_connections on the standby: %s, want 40 as in the control file", got)
	}
	pending, err := b.Pending(ctx)
	if err != nil || pending["max_connections"] != (Pending{OldValue: "40", NewValue: "30"}) || len(pending) != 1 {
		t.Errorf("pending: %v, %v", pending, err)
	}
}

func TestStalePidFile(t *testing.T) {
	ctx := testContext(t)
	n := primaryNode(t, "n")
	must(t, n.Kill(ctx))
	pidfile := n.inData("postmaster.pid")
	b, err := os.ReadFile(pidfile)
	must(t, err)
	_, rest, _ := strings.Cut(string(b), "\n")
	// Another process of the same user has the pid now.
	must(t, os.WriteFile(pidfile, []byte(fmt.Sprintf("%d\n%s", os.Getppid(), rest)), 0o600))
	if unix.Kill(os.Getppid(), 0) == nil {
		n.start(StartOptions{Role: RolePrimary})
		must(t, n.Stop(ctx, StopFast, false))
	}
	sleeper, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{})
	must(t, err)
	defer func() { _ = sleeper.Kill(); _, _ = sleeper.Wait() }()
	must(t, os.WriteFile(pidfile, []byte(strconv.Itoa(sleeper.Pid)+"\n"+rest), 0o600))
	n.start(StartOptions{Role: RolePrimary})
	// A second driver, as after the loss of the leash, must see the live one.
	second := openNode(t, n.cfg)
	if _, err := second.Start(ctx, StartOptions{Role: RolePrimary}); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("start over a live server: %v", err)
	}
}
