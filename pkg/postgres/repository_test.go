package postgres

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// withRepository configures a repository in path.
func withRepository(t *testing.T, path string) func(*config.Postgres) {
	t.Helper()
	if _, err := exec.LookPath("pgbackrest"); err != nil {
		t.Skip("pgbackrest is not installed")
	}
	return func(c *config.Postgres) {
		c.Backup = config.Backup{Enabled: true, Archive: true, Restore: true, Stanza: "demo", Command: "pgbackrest",
			Repo: config.Repo{Type: "posix", Path: path}, ProcessMax: 1}
		c.RunDir = filepath.Join(filepath.Dir(c.DataDir), "run")
		c.CreateReplicaMethods = []string{config.NativeMethod, baseBackupMethod}
		c.Methods = map[string]*config.CustomMethod{config.NativeMethod: {Name: config.NativeMethod, Native: true}}
	}
}

// repositoryPrimary is a primary with a repository that holds one backup.
func repositoryPrimary(t *testing.T) (a *node, repo string) {
	t.Helper()
	repo = t.TempDir()
	a = primaryNode(t, "a", withRepository(t, repo))
	ctx := testContext(t)
	must(t, a.StanzaCreate(ctx))
	a.sql("INSERT INTO public.t VALUES (1)")
	a.backup("full")
	return a, repo
}

func (n *node) backup(kind string) BackupSet {
	n.t.Helper()
	set, err := n.RunBackup(testContext(n.t), kind, false, nil, nil)
	must(n.t, err)
	return set
}

func (n *node) systemID() string {
	n.t.Helper()
	c, err := n.ControlData(testContext(n.t))
	must(n.t, err)
	return c.SystemID
}

func (n *node) logged(what string) bool { return strings.Contains(n.log.String(), what) }

func TestCloneFromRepository(t *testing.T) {
	t.Parallel()
	a, repo := repositoryPrimary(t)
	a.sql("INSERT INTO public.t VALUES (2)")
	ctx := testContext(t)
	from := a.upstream()
	spec := CloneSpec{Upstream: &from, SystemID: a.systemID(), Wipe: true}
	n := newNode(t, "n", withRepository(t, repo))
	var method string
	spec.Progress = func(m string, _, _ int64) { method = m }
	must(t, n.Clone(ctx, spec))
	if method != config.NativeMethod || n.logged("cannot make a replica") {
		t.Errorf("method %q, log:\n%s", method, n.log)
	}
	// The repository may be away from here on, as long as the leader has the WAL.
	must(t, os.Rename(repo, repo+".away"))
	n.start(StartOptions{Role: RoleStandby, Upstream: &from})
	n.streaming()
	n.caughtUp(a)
	if got := n.rows(); got != "1 2" {
		t.Errorf("rows %q", got)
	}
	if got := n.ask("SELECT current_setting('restore_command')"); !strings.Contains(got, "archive-get") {
		t.Errorf("restore_command %q", got)
	}

	// Without the repository: the next method, and one line that says why.
	must(t, n.Stop(ctx, StopFast, false))
	must(t, n.Clone(ctx, spec))
	if method != baseBackupMethod || strings.Count(n.log.String(), "cannot make a replica this way") != 1 {
		t.Errorf("repository away: method %q, log:\n%s", method, n.log)
	}
	n.start(StartOptions{Role: RoleStandby, Upstream: &from})
	n.streaming()
	must(t, os.Rename(repo+".away", repo))

	// An outdated copy is brought up to date: equal files stay, others go.
	must(t, n.Stop(ctx, StopFast, false))
	junk := n.inData("base", "1", "99999")
	must(t, os.WriteFile(junk, []byte("junk"), 0o600))
	a.sql("INSERT INTO public.t VALUES (3)")
	n.log.Reset()
	must(t, n.Clone(ctx, spec))
	if _, err := os.Stat(junk); err == nil || method != config.NativeMethod || !n.logged("already_there=") || n.logged("already_there=0") {
		t.Errorf("delta: junk %v, method %q, log:\n%s", err, method, n.log)
	}
	n.start(StartOptions{Role: RoleStandby, Upstream: &from})
	n.streaming()
	n.caughtUp(a)
	if got := n.rows(); got != "1 2 3" {
		t.Errorf("rows %q", got)
	}
}

// TestCloneNeverFromAnotherHistory: a backup made on a branch that the leader
// left is not used, however new it is, and the WAL of that branch leads no
// replica astray.
func TestCloneNeverFromAnotherHistory(t *testing.T) {
	t.Parallel()
	a, repo := repositoryPrimary(t)
	ctx := testContext(t)
	b := standbyOf(t, a, "b", withRepository(t, repo))
	must(t, b.Promote(ctx, 1, 0))
	a.sql("INSERT INTO public.t VALUES (66)") // on the branch that loses
	wrong := a.backup("incr")
	must(t, a.Stop(ctx, StopImmediate, false))
	b.sql("INSERT INTO public.t VALUES (2)")
	from := b.upstream()
	n := newNode(t, "n", withRepository(t, repo))
	spec := CloneSpec{Upstream: &from, SystemID: b.systemID(), Wipe: true}
	must(t, n.Clone(ctx, spec))
	if !n.logged(errStrayWAL.Error()) {
		t.Errorf("log:\n%s", n.log)
	}
	check := func() {
		t.Helper()
		n.start(StartOptions{Role: RoleStandby, Upstream: &from})
		n.streaming()
		n.caughtUp(b)
		if got := n.rows(); got != "1 2" {
			t.Errorf("rows %q", got)
		}
		must(t, n.Stop(ctx, StopFast, false))
	}
	check()
	must(t, b.WaitArchived(ctx)) // the archive has the leader's branch now
	n.log.Reset()
	must(t, n.Clone(ctx, spec))
	if n.logged(wrong.Label) || !n.logged("restoring files") || n.logged("cannot make a replica") {
		t.Errorf("log:\n%s", n.log)
	}
	check()
}

func TestCloneFromRepositoryInterrupted(t *testing.T) {
	t.Parallel()
	a, repo := repositoryPrimary(t)
	from := a.upstream()
	n := newNode(t, "n", withRepository(t, repo))
	ctx, cancel := context.WithCancel(testContext(t))
	spec := CloneSpec{Upstream: &from, SystemID: a.systemID(), Progress: func(_ string, done, total int64) {
		if done > total/4 {
			cancel()
		}
	}}
	if err := n.Clone(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if d := n.State(); d.State != DirInProgress || d.Kind != KindRestore {
		t.Fatalf("state %+v", d)
	}
	again := openNode(t, n.cfg) // a restarted agent
	spec.Progress = nil
	must(t, again.Clone(testContext(t), spec))
	if !again.logged("going on with the interrupted replica") || again.logged("already_there=0") {
		t.Errorf("log:\n%s", again.log)
	}
	again.start(StartOptions{Role: RoleStandby, Upstream: &from})
	again.streaming()
}

func TestBootstrapFromRepository(t *testing.T) {
	t.Parallel()
	a, repo := repositoryPrimary(t)
	a.sql("INSERT INTO public.t VALUES (2)", "SELECT pg_create_restore_point('mark')", "INSERT INTO public.t VALUES (3)")
	must(t, a.WaitArchived(testContext(t)))
	must(t, a.Stop(testContext(t), StopFast, true))

	n := newNode(t, "n", withRepository(t, repo), func(c *config.Postgres) {
		c.Superuser.Password = "another password"
		c.Backup.Stanza = "other"
		c.PGHBA = nil
	})
	o := RepositoryBootstrap{Stanza: "demo", Target: RecoveryTarget{Type: "name", Value: "mark"}, HBA: a.cfg.PGHBA}
	ctx, cancel := context.WithCancel(testContext(t))
	err := n.BootstrapFromRepository(ctx, o, func(_ string, done, total int64) {
		if done > total/4 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if d := n.State(); d.Kind != KindBootstrap || !d.Resumable {
		t.Fatalf("state %+v", d)
	}
	// Once more, to be interrupted while it replays.
	again := openNode(t, n.cfg)
	ctx, cancel = context.WithCancel(testContext(t))
	o.Segment = func(string) { cancel() }
	go func() {
		pause := backoff{next: time.Millisecond, max: 20 * time.Millisecond}
		for note, _ := again.loadRepair(); note.Phase != phaseReplay && pause.wait(ctx, nil) == nil; note, _ = again.loadRepair() {
		}
		cancel()
	}()
	if err := again.BootstrapFromRepository(ctx, o, nil); err == nil {
		t.Log("it was too fast to be interrupted")
	}
	must(t, again.Kill(testContext(t)))
	last := openNode(t, n.cfg)
	o.Segment = nil
	must(t, last.BootstrapFromRepository(testContext(t), o, nil))
	if got := last.rows(); got != "1 2" {
		t.Errorf("rows %q", got)
	}
	must(t, last.PostBootstrap(testContext(t), PostBootstrapOptions{}))
	must(t, last.Finish())
	if d := last.State(); d.State != DirPresent {
		t.Errorf("state %+v", d)
	}
	text, err := os.ReadFile(last.inData("pg_hba.conf"))
	if err != nil || strings.Count(string(text), a.cfg.PGHBA[0]) > 2 {
		t.Errorf("pg_hba.conf, %v:\n%s", err, text)
	}
}

func TestRestoreInPlace(t *testing.T) {
	t.Parallel()
	a, _ := repositoryPrimary(t)
	a.sql("INSERT INTO public.t VALUES (2)")
	at := a.ask("SELECT clock_timestamp()::text")
	a.sql("INSERT INTO public.t VALUES (3)")
	o := RestoreOrder{ID: "o1", Target: RecoveryTarget{Type: "time", Value: at}, SystemID: a.systemID()}

	// Refusals change nothing and leave the server running.
	for name, bad := range map[string]RestoreOrder{
		"no backup before":    {ID: "x", Target: RecoveryTarget{Type: "time", Value: "2020-01-01 00:00:00Z"}},
		"another system":      {ID: "x", SystemID: "1"},
		"unknown set":         {ID: "x", Set: "nope"},
		"a time without zone": {ID: "x", Target: RecoveryTarget{Type: "time", Value: "2020-01-01 00:00:00"}},
	} {
		if _, err := a.RestoreInPlace(testContext(t), bad, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, up := a.Running(); !up || a.State().State != DirPresent {
			t.Fatalf("%s: running %v, %+v", name, up, a.State())
		}
	}

	// Interrupted while files are put in place, and again while it replays.
	ctx, cancel := context.WithCancel(testContext(t))
	if _, err := a.RestoreInPlace(ctx, o, func(_ string, done, total int64) {
		if done > total/4 {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if d := a.State(); d.Kind != KindRestore || !d.Resumable || d.Order != "o1" {
		t.Fatalf("state %+v", d)
	}
	b := openNode(t, a.cfg)
	ctx, cancel = context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { _, err := b.RestoreInPlace(ctx, o, nil); done <- err }()
	eventually(t, "replay begins", func() bool { _, up := b.Running(); return up })
	cancel()
	if err := <-done; err == nil {
		t.Fatal("not interrupted")
	}
	if d := b.State(); d.Kind != KindRestore || !d.Resumable {
		t.Fatalf("state %+v", d)
	}
	c := openNode(t, a.cfg)
	tl, err := c.RestoreInPlace(testContext(t), o, nil)
	must(t, err)
	if got := c.rows(); got != "1 2" || tl != 2 {
		t.Errorf("rows %q on timeline %d", got, tl)
	}
	c.sql("INSERT INTO public.t VALUES (4)")

	// The same order again: it is done, and stays so.
	must(t, c.Stop(testContext(t), StopFast, false))
	d := openNode(t, a.cfg)
	tl, err = d.RestoreInPlace(testContext(t), o, nil)
	must(t, err)
	if got := d.rows(); got != "1 2 4" || tl != 2 {
		t.Errorf("the same order again: rows %q on timeline %d", got, tl)
	}

	// A target that does not exist leaves a half-made directory, which a new
	// order may use.
	if _, err := d.RestoreInPlace(testContext(t), RestoreOrder{ID: "o2", Target: RecoveryTarget{Type: "name", Value: "nope"}, SystemID: o.SystemID}, nil); !errors.Is(err, ErrRecovery) {
		t.Errorf("unknown restore point: %v", err)
	}
	if st := d.State(); st.State != DirInProgress || st.Resumable {
		t.Errorf("after a failure: %+v", st)
	}
	if tl, err = d.RestoreInPlace(testContext(t), RestoreOrder{ID: "o3", SystemID: o.SystemID}, nil); err != nil || tl != 3 || d.rows() != "1 2 4" {
		t.Errorf("to the latest: timeline %d, %v", tl, err)
	}
}

// TestRestoreKeepsUnarchivedWAL: WAL that the archive lacks is given up only by force.
func TestRestoreKeepsUnarchivedWAL(t *testing.T) {
	t.Parallel()
	a, _ := repositoryPrimary(t)
	a.cfg.Parameters["archive_command"] = "/bin/false"
	a.SetConfig(a.cfg)
	_, err := a.Reload(testContext(t))
	must(t, err)
	a.sql("INSERT INTO public.t VALUES (2)")
	o := RestoreOrder{ID: "o", Target: RecoveryTarget{Type: "immediate"}, SystemID: a.systemID()}
	short, cancel := context.WithTimeout(testContext(t), 3*time.Second)
	defer cancel()
	if _, err := a.RestoreInPlace(short, o, nil); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("error %v", err)
	}
	if _, up := a.Running(); !up || a.State().State != DirPresent || a.rows() != "1 2" {
		t.Errorf("running %v, %+v", up, a.State())
	}
	must(t, a.Kill(testContext(t)))
	if _, err := a.RestoreInPlace(testContext(t), o, nil); err == nil || !strings.Contains(err.Error(), "not shut down cleanly") || a.State().State != DirPresent {
		t.Errorf("after a crash: %v", err)
	}
	o.Force = true
	if _, err := a.RestoreInPlace(testContext(t), o, nil); err != nil || a.rows() != "1" {
		t.Errorf("by force: %v", err)
	}
}

// TestRecoverArchiveAway: a repository that cannot be read is not the end of
// the archive. The server must not be promoted without the rest.
func TestRecoverArchiveAway(t *testing.T) {
	t.Parallel()
	a, repo := repositoryPrimary(t)
	a.sql("INSERT INTO public.t VALUES (2)")
	ctx := testContext(t)
	must(t, a.WaitArchived(ctx))
	must(t, a.Stop(ctx, StopFast, true))
	must(t, a.Begin(KindRestore, false))
	must(t, a.putFiles(ctx, RestoreFiles{}, nil))
	must(t, os.Rename(repo, repo+".away"))
	if err := a.Recover(ctx, Recovery{}); !errors.Is(err, ErrRecovery) || !strings.Contains(err.Error(), "the archive cannot be read") {
		t.Errorf("error %v", err)
	}
	must(t, os.Rename(repo+".away", repo))
	if err := a.Recover(ctx, Recovery{}); err != nil || a.rows() != "1 2" {
		t.Errorf("with the archive back: %v", err)
	}
}

// TestRestoreTorn: PostgreSQL died between removing the signal file and leaving
// recovery. The files are restored again.
func TestRestoreTorn(t *testing.T) {
	t.Parallel()
	a, _ := repositoryPrimary(t)
	a.sql("SELECT pg_create_restore_point('mark')", "INSERT INTO public.t VALUES (2)")
	ctx := testContext(t)
	must(t, a.WaitArchived(ctx))
	must(t, a.Stop(ctx, StopFast, true))
	o := RestoreOrder{ID: "o", Target: RecoveryTarget{Type: "name", Value: "mark"}, SystemID: a.systemID()}
	r := Recovery{Target: o.Target, order: o.ID}
	must(t, a.Begin(KindRestore, false))
	must(t, a.putFiles(ctx, RestoreFiles{}, nil))
	must(t, a.prepareRecovery(ctx, r))
	must(t, a.enterReplay(r))
	// Stop it while it recovers: it is made to wait at the target.
	conf, err := os.ReadFile(a.confPath())
	must(t, err)
	must(t, os.WriteFile(a.confPath(), []byte(strings.ReplaceAll(string(conf), "= 'promote'", "= 'shutdown'")), 0o600))
	_ = a.replay(ctx, r)
	must(t, removeFile(a.inData(recoverySignal)))
	if _, err := a.replayed(ctx, r); !errors.Is(err, errTorn) {
		t.Fatalf("not recognised: %v", err)
	}
	tl, err := a.RestoreInPlace(ctx, o, nil)
	if err != nil || tl != wal.Timeline(2) || a.rows() != "1" {
		t.Errorf("timeline %d, %v", tl, err)
	}
}
