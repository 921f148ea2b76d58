package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// meter records progress and checks it.
type meter struct {
	t           *testing.T
	calls       int
	done, total int64
}

func (m *meter) report(done, total int64) {
	m.calls++
	if done < 0 || total != 0 && done > total {
		m.t.Errorf("progress %d of %d", done, total)
	}
	m.done, m.total = done, total
}

// firstBackup makes the stanza and a full backup of a primary.
func firstBackup(t *testing.T, n *node) BackupSet {
	t.Helper()
	ctx := longContext(t)
	must(t, n.StanzaCreate(ctx))
	set, err := n.RunBackup(ctx, "full", false, nil, nil)
	must(t, err)
	return set
}

// restoreTarget is a driver for an empty directory over the same repository.
func restoreTarget(t *testing.T, from *node, name string, change ...func(*config.Postgres)) *node {
	t.Helper()
	inRAM := func(c *config.Postgres) { c.DataDir = filepath.Join(ramDir(t), "data") }
	return newNode(t, name, append([]func(*config.Postgres){inRAM, withBackup(from.cfg.Backup.Repo)}, change...)...)
}

// restore is what the ladder does around RestoreFiles.
func (n *node) restore(o RestoreFiles, progress func(done, total int64)) error {
	n.t.Helper()
	must(n.t, n.Begin(KindRestore, false))
	return n.RestoreFiles(longContext(n.t), o, progress)
}

// replayArchive starts the restored files as a standby without upstream, which reads
// the archive until it has what it is waited for.
func (n *node) replayArchive(rows string) {
	n.t.Helper()
	for _, left := range []string{recoverySignal, standbySignal, backupManifest} {
		if _, err := os.Lstat(n.inData(left)); err == nil {
			n.t.Errorf("%s was left behind", left)
		}
	}
	must(n.t, n.writeSignal(RoleStandby))
	must(n.t, n.Finish())
	n.start(StartOptions{Role: RoleStandby, Upstream: &Upstream{}})
	eventually(n.t, "all archived rows are there", func() bool { return n.ask("SELECT count(*)::text FROM public.t") == rows })
	must(n.t, n.Stop(longContext(n.t), StopFast, true))
}

func TestBackrestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, repo := range map[string]func() config.Repo{
		"posix": func() config.Repo { return posixRepo(t) },
		"s3":    func() config.Repo { posixRepo(t); return startObjectStore(t).repo() },
	} {
		t.Run(name, func(t *testing.T) { roundTrip(t, repo()) })
	}
}

func roundTrip(t *testing.T, repo config.Repo) {
	ctx := longContext(t)
	n := primaryNode(t, "primary", withBackup(repo))
	if _, err := n.Repository(ctx, ""); !errors.Is(err, ErrNoStanza) {
		t.Fatalf("no stanza yet: %v", err)
	}
	must(t, n.StanzaCreate(ctx))
	must(t, n.StanzaCreate(ctx))
	must(t, n.CheckRepository(ctx))
	r, err := n.Repository(ctx, "")
	must(t, err)
	if len(r.Backups) != 0 || r.SystemID == "" || r.Version == "" {
		t.Fatalf("empty stanza: %+v", r)
	}
	if err := restoreTarget(t, n, "early").restore(RestoreFiles{}, nil); !errors.Is(err, ErrNoBackup) {
		t.Fatalf("restore without any backup: %v", err)
	}
	m := &meter{t: t}
	full, err := n.RunBackup(ctx, "diff", false, nil, m.report)
	must(t, err)
	if full.Type != "full" || full.SystemID != r.SystemID || full.StopLSN <= full.StartLSN || full.Timeline != 1 || full.Damaged {
		t.Fatalf("first backup: %+v", full)
	}
	if m.calls < 10 || m.done != m.total || m.done < full.Size*8/10 || m.done > full.Size*12/10 {
		t.Errorf("progress %+v of a backup of %d bytes", m, full.Size)
	}
	n.sql("INSERT INTO public.t SELECT generate_series(1,1000)")
	diff, err := n.RunBackup(ctx, "diff", false, nil, nil)
	must(t, err)
	if diff.Type != "diff" || diff.Prior != full.Label || diff.RepoSize >= full.RepoSize {
		t.Fatalf("second backup: %+v after %+v", diff, full)
	}
	n.sql("INSERT INTO public.t SELECT generate_series(1,500)")
	must(t, n.WaitArchived(ctx))
	r, err = n.Repository(ctx, "")
	must(t, err)
	if len(r.Backups) != 2 || r.Backups[0] != full || r.Backups[1] != diff || r.MaxWAL <= diff.StopWAL || r.MinWAL > full.StartWAL {
		t.Fatalf("repository: %+v", r)
	}

	c := restoreTarget(t, n, "copy")
	m = &meter{t: t}
	must(t, c.restore(RestoreFiles{}, m.report))
	if m.total != diff.Size || m.done != m.total || m.calls < 10 {
		t.Errorf("progress %+v of a set of %d bytes", m, diff.Size)
	}
	c.replayArchive("1500")

	// Over an outdated copy, from the older set; its WAL brings it up to date too.
	must(t, os.WriteFile(c.inData("foreign"), []byte("x"), 0o600))
	must(t, os.WriteFile(c.inData("PG_VERSION"), []byte("1\n"), 0o600))
	must(t, os.WriteFile(c.inData("postgresql.auto.conf"), []byte("restore_command = 'false'\n"), 0o600))
	c.log.Reset()
	must(t, c.restore(RestoreFiles{Set: full.Label}, nil))
	if _, err := os.Stat(c.inData("foreign")); err == nil {
		t.Error("a file that is not in the backup was kept")
	}
	if strings.Contains(readText(t, c.inData("postgresql.auto.conf")), "restore_command") {
		t.Error("recovery settings were left")
	}
	if !strings.Contains(c.log.String(), "set="+full.Label) || strings.Contains(c.log.String(), "already_there=0") {
		t.Error("equal files were copied again")
	}
	c.replayArchive("1500")
	if err := c.restore(RestoreFiles{Set: "20200101-000000F"}, nil); !errors.Is(err, ErrNoBackup) {
		t.Errorf("unknown set: %v", err)
	}
	if err := c.restore(RestoreFiles{Stanza: "other"}, nil); !errors.Is(err, ErrNoStanza) {
		t.Errorf("unknown stanza: %v", err)
	}
	for _, secret := range []string{storeSecret, superPassword} {
		if strings.Contains(n.log.String()+c.log.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

func TestRestoreInterrupted(t *testing.T) {
	t.Parallel()
	n := primaryNode(t, "primary", withBackup(posixRepo(t)))
	n.sql("INSERT INTO public.t SELECT generate_series(1,100)")
	set := firstBackup(t, n)
	must(t, n.WaitArchived(longContext(t)))

	c := restoreTarget(t, n, "copy")
	// Cancelled and killed, twice: nothing can be started, and the next call goes on.
	for range 2 {
		ctx, cancel := context.WithCancel(longContext(t))
		must(t, c.Begin(KindRestore, false))
		must(t, os.RemoveAll(c.inData("base"))) // else there may be too little left to do
		err := c.RestoreFiles(ctx, RestoreFiles{}, func(done, total int64) { cancel() })
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled: %v", err)
		}
		if _, err := os.Stat(c.inData("global", "pg_control")); err == nil {
			t.Fatal("cancelled: pg_control is there")
		}
		if d := c.State(); d.State != DirInProgress {
			t.Fatalf("cancelled: %+v", d)
		}
		if c.killRestore(t); c.State().State != DirInProgress {
			t.Fatal("killed: the directory counts as whole")
		}
	}
	must(t, c.restore(RestoreFiles{}, nil))
	c.replayArchive("100")

	// Killed before the manifest was written, and a mount point's lost+found.
	for _, left := range [][]string{{"base/1", "global"}, {"lost+found"}} {
		must(t, os.RemoveAll(c.cfg.DataDir))
		for _, dir := range left {
			must(t, os.MkdirAll(c.inData(dir), 0o700))
		}
		must(t, c.restore(RestoreFiles{Set: set.Label}, nil))
	}
	c.replayArchive("100")

	// Without a marker nobody may delete what is there.
	must(t, os.RemoveAll(c.cfg.DataDir))
	must(t, os.MkdirAll(c.inData("precious"), 0o700))
	if err := c.RestoreFiles(longContext(t), RestoreFiles{}, nil); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("foreign directory: %v", err)
	}
	if _, err := os.Stat(c.inData("precious")); err != nil {
		t.Fatal("a foreign file is gone")
	}
}

// killRestore runs a restore whose program is killed when it copies files.
func (n *node) killRestore(t *testing.T) {
	t.Helper()
	pidFile := filepath.Join(filepath.Dir(n.cfg.DataDir), "pid")
	wrapper := writeTestFile(t, "pgbackrest", "#!/bin/sh\necho $$ > "+pidFile+"\nexec pgbackrest \"$@\"\n", 0o755)
	cfg := n.cfg
	cfg.Backup.Command = wrapper
	n.SetConfig(cfg)
	defer n.SetConfig(n.cfg)
	must(t, os.RemoveAll(n.inData("base"))) // else there may be too little left to do
	err := n.restore(RestoreFiles{}, func(done, total int64) {
		pid, err := strconv.Atoi(strings.TrimSpace(readText(t, pidFile)))
		must(t, err)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	})
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("killed: %v", err)
	}
}

func TestRestoreLinks(t *testing.T) {
	t.Parallel()
	space := filepath.Join(t.TempDir(), "space")
	must(t, os.Mkdir(space, 0o700))
	n := primaryNode(t, "primary", withBackup(posixRepo(t)))
	n.sql("CREATE TABLESPACE s LOCATION '"+space+"'", "CREATE TABLE public.s TABLESPACE s AS SELECT 1 AS a", "INSERT INTO public.t VALUES (1)")
	first := firstBackup(t, n)
	must(t, n.WaitArchived(longContext(t)))

	c := restoreTarget(t, n, "copy")
	walDir := filepath.Join(filepath.Dir(c.cfg.DataDir), "wal")
	must(t, os.Mkdir(walDir, 0o700))
	must(t, os.MkdirAll(c.cfg.DataDir, 0o700))
	must(t, os.Symlink(walDir, c.inData("pg_wal")))
	must(t, os.WriteFile(c.inData("PG_VERSION"), []byte("15\n"), 0o600))
	// The primary lives on this host: its tablespace must survive.
	if err := c.restore(RestoreFiles{}, nil); !errors.Is(err, ErrForeignFiles) || !strings.Contains(err.Error(), space) {
		t.Fatalf("tablespace in use: %v", err)
	}
	if n.ask("SELECT count(*)::text FROM public.s") != "1" {
		t.Fatal("the primary lost its tablespace")
	}
	must(t, os.RemoveAll(c.cfg.DataDir))
	if err := c.restore(RestoreFiles{}, nil); !errors.Is(err, ErrForeignFiles) {
		t.Fatalf("tablespace in use, empty directory: %v", err)
	}
	must(t, n.Stop(longContext(t), StopFast, true))
	must(t, os.RemoveAll(space))
	must(t, os.Mkdir(space, 0o700))
	must(t, os.RemoveAll(c.cfg.DataDir))
	must(t, os.Mkdir(c.cfg.DataDir, 0o700))
	must(t, os.Symlink(walDir, c.inData("pg_wal")))
	for range 2 {
		must(t, c.restore(RestoreFiles{Set: first.Label}, nil))
		if to, err := os.Readlink(c.inData("pg_wal")); err != nil || to != walDir {
			t.Fatalf("pg_wal moved: %s, %v", to, err)
		}
	}
	c.replayArchive("1")
}

func TestBackupStandbyAndCancel(t *testing.T) {
	t.Parallel()
	n := primaryNode(t, "primary", withBackup(posixRepo(t)), func(c *config.Postgres) { c.UseUnixSocket = true })
	first := firstBackup(t, n)
	s := standbyOf(t, n, "standby", withBackup(n.cfg.Backup.Repo))
	host := func(m *node) BackupHost {
		return BackupHost{Name: m.cfg.Name, Port: m.cfg.Port, Path: m.cfg.DataDir, Socket: filepath.Dir(m.cfg.DataDir)}
	}
	ctx := longContext(t)
	for from, other := range map[*node]*node{n: s, s: n} {
		n.sql("INSERT INTO public.t VALUES (1)")
		set, err := from.RunBackup(ctx, "incr", true, []BackupHost{host(other)}, nil)
		must(t, err)
		if set.Type != "incr" || !strings.Contains(from.log.String(), "wait for replay on the standby") {
			t.Errorf("made by %s: %+v", from.cfg.Name, set)
		}
	}
	if _, err := s.RunBackup(ctx, "incr", false, nil, nil); err == nil || !strings.Contains(err.Error(), "no running primary") {
		t.Errorf("a standby alone: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	if _, err := n.RunBackup(cancelled, "full", false, nil, func(done, total int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	eventually(t, "the session of the backup ends", func() bool {
		return n.ask("SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'pgBackRest%'") == "0"
	})
	set, err := n.RunBackup(ctx, "full", false, nil, nil)
	must(t, err)
	if set.Type != "full" || set.Label == first.Label {
		t.Errorf("after the cancelled one: %+v", set)
	}
}

func TestArchivingSurvivesRepository(t *testing.T) {
	t.Parallel()
	posixRepo(t)
	store := startObjectStore(t)
	// pgBackRest 2.55 gives a host that refuses up after nine times as long.
	n := primaryNode(t, "primary", withBackup(store.repo()), func(c *config.Postgres) {
		c.Backup.Options = []config.Option{{Name: "io-timeout", Value: "1"}}
	})
	ctx := longContext(t)
	must(t, n.StanzaCreate(ctx))
	must(t, n.WaitArchived(ctx))
	st, err := n.ArchiveState(ctx)
	must(t, err)
	if !st.On || st.Failing || st.ReadyFiles != 0 || st.LastArchived == "" || st.WALBytes < 1<<20 || st.WALFreeBytes <= 0 || time.Since(st.LastTime) > time.Minute {
		t.Fatalf("good archive: %+v", st)
	}
	store.stop()
	n.sql("INSERT INTO public.t SELECT generate_series(1,100)", "SELECT pg_switch_wal()")
	for b := (backoff{next: time.Millisecond, max: 100 * time.Millisecond}); !st.Failing; {
		if st, err = n.ArchiveState(ctx); err != nil || !st.Failing && b.wait(ctx, nil) != nil {
			t.Fatalf("the archiver does not fail: %+v, %v", st, err)
		}
	}
	n.sql("INSERT INTO public.t SELECT generate_series(1,100)", "SELECT pg_switch_wal()")
	if st, err = n.ArchiveState(ctx); err != nil || st.ReadyFiles < 1 || st.FailedCount == 0 || st.OldestReady <= 0 || st.OldestReady > time.Minute {
		t.Errorf("failing archive: %+v, %v", st, err)
	}
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if err := n.WaitArchived(short); !errors.Is(err, ErrArchiving) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), st.LastFailed) {
		t.Errorf("waiting for a broken archive: %v", err)
	}
	if _, err := n.Repository(ctx, ""); !errors.Is(err, ErrRepository) || !strings.Contains(err.Error(), "nobody answers") {
		t.Errorf("store is down: %v", err)
	}
	store.start()
	must(t, n.WaitArchived(ctx))
	if st, err = n.ArchiveState(ctx); err != nil || st.Failing || st.ReadyFiles != 0 {
		t.Errorf("after the store came back: %+v, %v", st, err)
	}
	if n.ask("SELECT count(*)::text FROM public.t") != "200" {
		t.Error("rows are missing")
	}
	storeMistakes(t, n, store)

	off := primaryNode(t, "off")
	if st, err := off.ArchiveState(ctx); err != nil || st.On {
		t.Errorf("archiving is off: %+v, %v", st, err)
	}
	if err := off.WaitArchived(ctx); !errors.Is(err, ErrArchiving) {
		t.Errorf("waiting where archiving is off: %v", err)
	}
}

// storeMistakes runs against the real store what an operator may get wrong.
func storeMistakes(t *testing.T, n *node, store *objectStore) {
	t.Helper()
	ctx := longContext(t)
	for name, c := range map[string]struct {
		change func(*config.Repo)
		want   string
	}{
		"key":    {func(r *config.Repo) { r.KeyFile = store.keyFile("wrong", storeSecret) }, "key= in the file of pgha.backup.repo.s3_key_file"},
		"secret": {func(r *config.Repo) { r.KeyFile = store.keyFile(storeKey, "wrong") }, "secret= in the file of pgha.backup.repo.s3_key_file"},
		"bucket": {func(r *config.Repo) { r.Bucket = "missing" }, "pgha.backup.repo.s3_bucket"},
		"region": {func(r *config.Repo) { r.Region = "eu-other-2" }, "(" + storeRegion + "): mend pgha.backup.repo.s3_region"},
		"tls":    {func(r *config.Repo) { r.CAFile = "" }, "pgha.backup.repo.s3_ca_file"},
		"style":  {func(r *config.Repo) { r.URIStyle, r.Endpoint = "host", "nonexistent.invalid" }, "pgha.backup.repo.s3_endpoint"},
		"port":   {func(r *config.Repo) { r.Port = freePort(t) }, "pgha.backup.repo.s3_endpoint or s3_port"},
	} {
		cfg := n.cfg
		cfg.RunDir = t.TempDir() // the server goes on archiving with its own file
		c.change(&cfg.Backup.Repo)
		other := openNode(t, cfg).Server
		_, err := other.Repository(ctx, "")
		if !errors.Is(err, ErrRepository) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
}

func TestBackrestMistakes(t *testing.T) {
	t.Parallel()
	repo := posixRepo(t)
	n := primaryNode(t, "primary", withBackup(repo))
	firstBackup(t, n)
	ctx := longContext(t)
	try := func(what string, do func(*Server) error, kind error, want string, change func(*config.Postgres)) {
		t.Helper()
		cfg := n.cfg
		cfg.RunDir = t.TempDir()
		change(&cfg)
		s, err := New(Options{Name: "x", Scope: cfg.Scope, Config: cfg, Process: &ExecLauncher{}})
		must(t, err)
		err = do(s)
		if err == nil || kind != nil && !errors.Is(err, kind) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %v: %s", what, err, kind, want)
		}
	}
	look := func(s *Server) error { _, err := s.Repository(ctx, ""); return err }
	create := func(s *Server) error { return s.StanzaCreate(ctx) }
	backup := func(s *Server) error { _, err := s.RunBackup(ctx, "incr", false, nil, nil); return err }
	try("program", look, nil, "set pgha.backup.command", func(c *config.Postgres) { c.Backup.Command = "/nonexistent/pgbackrest" })
	try("kind", func(s *Server) error { _, err := s.RunBackup(ctx, "all", false, nil, nil); return err }, nil, "full, diff or incr", func(*config.Postgres) {})
	try("stanza", backup, ErrNoStanza, "(nobody)", func(c *config.Postgres) { c.Backup.Stanza = "nobody" })
	try("port", backup, nil, "no running primary", func(c *config.Postgres) { c.Port = freePort(t) })
	try("password", backup, nil, "mend postgresql.authentication.superuser", func(c *config.Postgres) { c.Superuser.Password = "wrong" })
	try("option", look, nil, "pgha.backup.options", func(c *config.Postgres) { c.Backup.Options = []config.Option{{Name: "io-timeout", Value: "many"}} })
	closed := t.TempDir()
	must(t, os.Chmod(closed, 0o500))
	try("directory", create, ErrRepository, "pgha.backup.repo.path", func(c *config.Postgres) { c.Backup.Repo.Path = closed })
	must(t, os.Chmod(closed, 0))
	try("unreadable", look, ErrRepository, "pgha.backup.repo.path", func(c *config.Postgres) { c.Backup.Repo.Path = closed })
	must(t, os.Chmod(closed, 0o700))
	pass := writeTestFile(t, "pass", "secret\n", 0o600)
	try("cipher", look, ErrRepository, "cipher_pass_file", func(c *config.Postgres) { c.Backup.Repo.CipherPassFile = pass })

	other := newNode(t, "foreign", withBackup(repo))
	must(t, other.Initdb(ctx, InitdbOptions{}))
	other.start(StartOptions{Role: RolePrimary, Bootstrap: true})
	must(t, other.PostBootstrap(ctx, PostBootstrapOptions{}))
	must(t, other.Finish())
	for what, do := range map[string]func(*Server) error{"create": create, "backup": backup} {
		if err := do(other.Server); !errors.Is(err, ErrForeignRepository) || !strings.Contains(err.Error(), "pgha.backup.stanza") {
			t.Errorf("%s in another cluster's stanza: %v", what, err)
		}
	}
	var once sync.Once
	var busy error
	_, err := n.RunBackup(ctx, "full", false, nil, func(done, total int64) { once.Do(func() { busy = backup(n.Server) }) })
	must(t, err)
	if !errors.Is(busy, ErrRepositoryBusy) {
		t.Errorf("two backups at once: %v", busy)
	}
}
