package postgres

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

// backupServer is a driver that is never started.
func backupServer(t *testing.T, change ...func(*config.Postgres)) *Server {
	t.Helper()
	dir := t.TempDir()
	cfg := config.Postgres{
		DataDir: filepath.Join(dir, "data"), Port: 5433, RunDir: filepath.Join(dir, "run"), UseUnixSocket: true,
		Parameters: map[string]string{"unix_socket_directories": "relative, /run/my pg"},
		Superuser:  config.Auth{Username: "super", Password: superPassword},
		Backup:     config.Backup{Enabled: true, Archive: true, Restore: true, Stanza: "main", ProcessMax: 3, Repo: config.Repo{Path: "/srv/repo"}},
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(Options{Name: "a", Scope: "scope", Config: cfg, Process: &ExecLauncher{}})
	must(t, err)
	return s
}

func writeTestFile(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, []byte(text), mode))
	must(t, os.Chmod(path, mode))
	return path
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func TestBackrestConf(t *testing.T) {
	key := writeTestFile(t, "key", "# comment\nkey = AKIA=1\nsecret=s/e+c=\n", 0o600)
	pass := writeTestFile(t, "pass", "open sesame\n", 0o600)
	s := backupServer(t, func(c *config.Postgres) {
		c.Backup.Repo = config.Repo{Type: "s3", Path: "backups", Bucket: "b", Endpoint: "s3.example.com", Region: "eu-1",
			URIStyle: "path", KeyFile: key, Port: 9000, CAFile: "/etc/ca.pem", CipherPassFile: pass}
		c.Backup.RetentionFull, c.Backup.RetentionDiff = 2, 5
		c.Backup.Options = []config.Option{{Name: "compress-type", Value: "lz4"}, {Name: "repo1-bundle", Flag: true}, {Name: "pg2-host-type", Value: "tls"}}
	})
	must(t, s.WriteBackupConfig())
	path := filepath.Join(s.config().RunDir, "pgbackrest.conf")
	run := s.config().RunDir
	want := `# Written by pgha from pgha.backup; changes are overwritten.

[global]
archive-timeout=60
compress-type=lz4
io-timeout=30
lock-path=` + run + `/pgbackrest-lock
log-level-file=off
process-max=3
repo1-bundle=y
repo1-cipher-pass=open sesame
repo1-cipher-type=aes-256-cbc
repo1-path=/backups
repo1-retention-diff=5
repo1-retention-full=2
repo1-s3-bucket=b
repo1-s3-endpoint=s3.example.com
repo1-s3-key=AKIA=1
repo1-s3-key-secret=s/e+c=
repo1-s3-region=eu-1
repo1-s3-uri-style=path
repo1-storage-ca-file=/etc/ca.pem
repo1-storage-port=9000
repo1-storage-verify-tls=n
repo1-type=s3
spool-path=` + run + `/pgbackrest-spool
start-fast=y

[main]
pg1-database=postgres
pg1-path=` + s.config().DataDir + `
pg1-port=5433
pg1-socket-path=/run/my pg
pg1-user=super
pg2-host-type=tls
`
	if got := readText(t, path); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	file, err := os.Stat(path)
	must(t, err)
	dir, err := os.Stat(run)
	must(t, err)
	if file.Mode().Perm() != 0o600 || dir.Mode().Perm() != 0o700 {
		t.Fatalf("modes: file %v, directory %v", file.Mode(), dir.Mode())
	}
	must(t, s.WriteBackupConfig())
	if again, _ := os.Stat(path); !os.SameFile(file, again) {
		t.Error("an unchanged file was written again")
	}
	must(t, os.Chmod(path, 0o644))
	must(t, s.WriteBackupConfig())
	if again, _ := os.Stat(path); again.Mode().Perm() != 0o600 {
		t.Error("a file that others can read was left that way")
	}
}

func TestBackrestConfRefuses(t *testing.T) {
	s3 := func(keyFile string) func(*config.Postgres) {
		return func(c *config.Postgres) { c.Backup.Repo.Type, c.Backup.Repo.KeyFile = "s3", keyFile }
	}
	open := writeTestFile(t, "open", "key=a\nsecret=b\n", 0o640)
	half := writeTestFile(t, "half", "key=a\n", 0o600)
	for name, c := range map[string]struct {
		change func(*config.Postgres)
		want   string
	}{
		"no key file":     {s3(""), "s3_key_file is not set"},
		"missing":         {s3("/nonexistent/key"), "/nonexistent/key does not exist"},
		"others can read": {s3(open), "chmod 600 " + open},
		"half":            {s3(half), "must hold the two lines"},
		"line break": {func(c *config.Postgres) {
			c.Backup.Options = []config.Option{{Name: "x", Value: "a\nrepo1-path=/"}}
		}, "line break"},
		"section":       {func(c *config.Postgres) { c.Backup.Stanza = "a]\n[b" }, "not a name"},
		"no run dir":    {func(c *config.Postgres) { c.RunDir = "" }, "runtime directory"},
		"operator file": {func(c *config.Postgres) { c.Backup.ConfigFile = "/nonexistent/x.conf" }, "pgha.backup.config"},
	} {
		s := backupServer(t, c.change)
		err := s.WriteBackupConfig()
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if _, err := os.Stat(filepath.Join(s.config().RunDir, "pgbackrest.conf")); err == nil {
			t.Errorf("%s: a file was written", name)
		}
	}
}

func TestBackrestCommands(t *testing.T) {
	s := backupServer(t, func(c *config.Postgres) { c.RunDir, c.DataDir = "/run/a", "/data" })
	if got, want := s.archiveCommand(), `pgbackrest --config=/run/a/pgbackrest.conf --stanza=main archive-push "%p"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := s.restoreCommand("other"), `pgbackrest --config=/run/a/pgbackrest.conf --stanza=other --pg1-path=/data archive-get %f "%p"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// As the server does: %p and %f replaced, %% halved, then the shell.
	odd := filepath.Join(t.TempDir(), `100% "it's" $HOME`)
	must(t, os.MkdirAll(odd, 0o700))
	program := filepath.Join(odd, "show")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\nfor a; do echo \"<$a>\"; done\n"), 0o755))
	s = backupServer(t, func(c *config.Postgres) { c.Backup.Command, c.RunDir, c.Backup.Stanza = program, odd, "50%f" })
	line := strings.NewReplacer("%%", "%", "%p", "pg_wal/X Y", "%f", "Z").Replace(s.restoreCommand(""))
	out, err := exec.Command("/bin/sh", "-c", line).CombinedOutput()
	want := "<--config=" + odd + "/pgbackrest.conf>\n<--stanza=50%f>\n<archive-get>\n<Z>\n<pg_wal/X Y>\n"
	if err != nil || string(out) != want {
		t.Fatalf("%s\ngot %s, %v, want %s", line, out, err, want)
	}
}

func TestBackrestEnvironment(t *testing.T) {
	t.Setenv("PGBACKREST_REPO1_PATH", "/elsewhere")
	t.Setenv("PGPASSFILE", "/operator/pgpass")
	t.Setenv("PGHOST", "other.example.com")
	has := func(env []string, kv string) bool {
		return strings.Contains("\n"+strings.Join(env, "\n")+"\n", "\n"+kv)
	}
	pass := func(c *config.Postgres) { c.PGPass = filepath.Join(filepath.Dir(c.DataDir), "pgpass") }
	s := backupServer(t, pass, func(c *config.Postgres) {
		c.UseUnixSocket, c.LocalHost, c.Superuser.SSLMode = false, "127.0.0.1", "require"
	})
	env, cleanup, err := s.backrestEnv()
	must(t, err)
	if !has(env, "PGHOST=127.0.0.1\n") || !has(env, "PGSSLMODE=require\n") || has(env, "PGBACKREST_") || has(env, "PGPASSFILE=/operator") || !has(env, "PGPASSFILE=") {
		t.Errorf("our file: %q", env)
	}
	if strings.Contains(strings.Join(env, " "), superPassword) {
		t.Error("the password is in the environment")
	}
	cleanup()
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.config().PGPass), ".pgha-pgpass-*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if has(s.serverEnv(), "PGBACKREST_") {
		t.Error("the server's environment overrides the repository")
	}
	own := backupServer(t, pass, func(c *config.Postgres) { c.Backup.ConfigFile = "/etc/br.conf" })
	env, _, err = own.backrestEnv()
	must(t, err)
	if !has(env, "PGBACKREST_REPO1_PATH=/elsewhere\n") || !has(env, "PGPASSFILE=/operator/pgpass\n") || has(env, "PGHOST=") || !has(own.serverEnv(), "PGBACKREST_") {
		t.Errorf("the operator's file: %q", env)
	}
}

func TestBackrestErrors(t *testing.T) {
	want := map[string]struct {
		kind  error
		words string
	}{
		"badkey":   {ErrRepository, "key= in the file of pgha.backup.repo.s3_key_file"},
		"nobucket": {ErrRepository, "pgha.backup.repo.s3_bucket"}, "badregion-info": {ErrRepository, "another region (eu-test-1): mend pgha.backup.repo.s3_region"},
		"badregion-stanza": {ErrRepository, "s3_region or s3_uri_style"},
		"badsecret-info":   {ErrRepository, "secret= in the file of pgha.backup.repo.s3_key_file"}, "badsecret-stanza": {ErrRepository, "refuses key or secret"},
		"tls":             {ErrRepository, "certificate of 127.0.0.1:27010 is not trusted: name its CA in pgha.backup.repo.s3_ca_file"},
		"dns":             {ErrRepository, "nonexistent.invalid has no address: mend pgha.backup.repo.s3_endpoint"},
		"refused":         {ErrRepository, "nobody answers at 127.0.0.1:27099: mend pgha.backup.repo.s3_endpoint"},
		"notls":           {ErrRepository, "does not speak TLS there"},
		"unwritable":      {ErrRepository, "/other/repo/archive/s1/archive.info must be readable and writable"},
		"ro":              {ErrRepository, "must be readable and writable for this user"},
		"full":            {ErrRepository, "disk is full: make room in pgha.backup.repo.path"},
		"nostanza-backup": {ErrNoStanza, "(main)"}, "nostanza-check": {ErrNoStanza, "(main)"}, "nostanza-restore": {ErrNoBackup, "pghactl backup list"},
		"nobackup-restore": {ErrNoBackup, ""}, "badset": {ErrNoBackup, ""},
		"badpath":    {ErrForeignRepository, "system identifier 7710977655267222238, this cluster is 7710982194509444860: set pgha.backup.stanza"},
		"v14-backup": {ErrForeignRepository, "PostgreSQL 14, this server is 15"}, "v14-stanza": {ErrForeignRepository, "set pgha.backup.stanza"},
		"lock": {ErrRepositoryBusy, "holds the lock"}, "noconf": {ErrRepository, "pgha.backup.config does not exist"},
		"unreadable": {ErrRepository, "pgha.backup.config cannot be read"}, "cipher": {ErrRepository, "cipher_pass_file"},
		"badopt": {nil, "the option --bogus=1: mend pgha.backup.options"}, "badcompress": {nil, "the option compress-type has a bad value"},
		"pgdown": {nil, "no running primary was found"},
	}
	seen := make(map[string]bool)
	s := backupServer(t, func(c *config.Postgres) { c.Backup.Repo.Type = "s3" })
	for _, section := range strings.Split(readText(t, "testdata/pgbackrest_errors.txt"), "== ")[1:] {
		head, output, _ := strings.Cut(section, "\n")
		name, codeText, _ := strings.Cut(head, " ")
		code, err := strconv.Atoi(codeText)
		must(t, err)
		key := name
		for w, ok := want[key]; !ok || w.words == "-"; w, ok = want[key] {
			i := strings.LastIndexByte(key, '-')
			if i < 0 {
				t.Fatalf("%s: no expectation", name)
			}
			key = key[:i]
		}
		seen[key] = true
		got := s.translate("main", code, output)
		w := want[key]
		if w.kind != nil && !errors.Is(got, w.kind) || !strings.Contains(got.Error(), w.words) || strings.Contains(got.Error(), "\n") || strings.Contains(got.Error(), "%s") {
			t.Errorf("%s: got %v, want %v with %q", name, got, w.kind, w.words)
		}
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("%s: no sample", name)
		}
	}
	if got := s.translate("main", 77, "INFO: begin\nERROR: [077]: something new\n  HINT: x"); got.Error() != "pgbackrest failed (code 77): [077]: something new" {
		t.Errorf("unknown failure: %v", got)
	}
	early := s.backrestError("main", "P00  ERROR: [032]: 'many' is not valid for 'io-timeout' option\n", &CommandError{Code: 32})
	if !strings.HasPrefix(early.Error(), "the option io-timeout has a bad value") {
		t.Errorf("a failure on standard output: %v", early)
	}
	own := backupServer(t, func(c *config.Postgres) { c.Backup.ConfigFile = "/etc/br.conf" })
	if got := own.translate("main", 64, "ERROR: [064]: unable to write: [28] No space left on device"); strings.Contains(got.Error(), "pgha.backup.repo") {
		t.Errorf("a setting that is not in use is named: %v", got)
	}
}

func TestParseFileLine(t *testing.T) {
	for _, c := range []struct {
		line, what string
		size       int64
		percent    float64
		ok         bool
	}{
		{"DETAIL: restore file /d/base/1 2 (17.5MB, 54.68%) checksum ab12", "restore file ", 18350080, 54.68, true},
		{"DETAIL: restore file /d/g - exists and matches backup (768KB, 1.90%) checksum a93", "restore file ", 768 << 10, 1.9, true},
		{"DETAIL: restore file /d/g - exists and is zero size (0B, 100.00%)", "restore file ", 0, 100, true},
		{"DETAIL: restore file /d/(b)/x - exists and matches backup (bundle 1/2524257, 8KB, 43.75%) checksum f6", "restore file ", 8192, 43.75, true},
		{"DETAIL: backup file db1:/d/x (8B, 100.00%) checksum 347f", "backup file ", 8, 100, true},
		{"DETAIL: backup file /d/x (8B, 100.00%) checksum 347f", "restore file ", 0, 0, false},
		{"INFO: restore file /d/x (8B, 1.00%)", "restore file ", 0, 0, false},
		{"DETAIL: restore file /d/x (1.2.3MB, 1.00%)", "restore file ", 0, 0, false},
		{"DETAIL: restore file /d/x (1MB, 101.00%)", "restore file ", 0, 0, false},
	} {
		size, percent, ok := parseFileLine(c.line, c.what)
		if size != c.size || percent != c.percent || ok != c.ok {
			t.Errorf("%s: got %d %v %v", c.line, size, percent, ok)
		}
	}
}

const infoSample = `[{"archive":[{"database":{"id":1,"repo-key":1},"id":"14-1","max":"0000000100000000000000FF","min":"000000010000000000000001"},
{"database":{"id":2,"repo-key":1},"id":"15-2","max":"00000002000000000000002B","min":"000000010000000000000008"}],
"backup":[{"archive":{"start":"000000010000000000000029","stop":"000000010000000000000029"},"backrest":{"format":5,"version":"2.45"},
"database":{"id":1,"repo-key":1},"error":false,"info":{"delta":41342786,"repository":{"delta":4398373,"size":4398373},"size":41342786},
"label":"20261122-125133F","lsn":{"start":"0/2900028","stop":"0/2900100"},"prior":null,"reference":null,"timestamp":{"start":1795351919,"stop":1795351921},"type":"full"},
{"archive":{"start":"00000002000000000000002B","stop":"00000002000000000000002B"},"database":{"id":2,"repo-key":1},"error":true,
"info":{"delta":18792736,"repository":{"delta":1604880,"size":4398381},"size":41342787},"label":"20261122-125133F_20261122-125202D",
"lsn":{"start":"0/2B00028","stop":"0/2B00100"},"prior":"20261122-125133F","timestamp":{"start":1795351922,"stop":1795351923},"type":"diff"}],
"cipher":"none","db":[{"id":1,"repo-key":1,"system-id":7710977655267222238,"version":"14"},{"id":2,"repo-key":1,"system-id":18446744073709551615,"version":"15"}],
"name":"main","repo":[{"cipher":"none","key":1,"status":{"code":0,"message":"ok"}}],"status":{"code":0,"message":"ok"}}]`

func TestParseInfo(t *testing.T) {
	info, err := parseInfo(infoSample, "main")
	must(t, err)
	r, err := info.repository()
	must(t, err)
	if r.SystemID != "18446744073709551615" || r.Version != "15" || r.MinWAL != "000000010000000000000008" || r.MaxWAL != "00000002000000000000002B" || len(r.Backups) != 2 {
		t.Fatalf("got %+v", r)
	}
	d := r.Backups[1]
	if d.Label != "20261122-125133F_20261122-125202D" || d.Type != "diff" || d.Prior != r.Backups[0].Label || d.Timeline != 2 || !d.Damaged ||
		d.StopLSN != 0x2B00100 || d.Size != 41342787 || d.RepoSize != 1604880 || d.Start.Unix() != 1795351922 || d.SystemID != r.SystemID {
		t.Fatalf("got %+v", d)
	}
	if r.Backups[0].SystemID != "7710977655267222238" {
		t.Fatalf("the older set is of %s", r.Backups[0].SystemID)
	}
	if set, err := r.find(""); err != nil || set.Label != d.Label {
		t.Errorf("newest: %+v, %v", set, err)
	}
	if _, err := r.find("x"); !errors.Is(err, ErrNoBackup) {
		t.Errorf("unknown label: %v", err)
	}
	for text, want := range map[string]error{
		`[]`:                                    ErrNoStanza,
		`zzz`:                                   ErrRepository,
		`[{"name":"main","status":{"code":1}}]`: ErrNoStanza,
		`[{"name":"main","status":{"code":3}}]`: ErrNoStanza,
		`[{"name":"main","status":{"code":6}}]`: ErrNoBackup,
		`[{"name":"main","status":{"code":2}}]`: nil,
		`[{"name":"main","status":{"code":4},"repo":[{"status":{"code":0}},{"status":{"code":99}}]}]`: nil,
	} {
		if _, err := parseInfo(text, "main"); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: got %v, want %v", text, err, want)
		}
	}
	var failure *infoFailure
	if _, err := parseInfo(`[{"name":"main","status":{"code":99,"message":"other"},"repo":[{"status":{"code":99,"message":"why"}}]}]`, "main"); !errors.As(err, &failure) || failure.message != "why" {
		t.Errorf("unreadable: %v", err)
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add(infoSample, "main")
	f.Add(`[{"name":"x","status":{"code":99},"repo":[{"status":{"code":99,"message":"m"}}]}]`, "x")
	f.Fuzz(func(t *testing.T, text, stanza string) {
		info, err := parseInfo(text, stanza)
		if err != nil {
			return
		}
		r, err := info.repository()
		if err != nil {
			return
		}
		if r.Stanza != stanza {
			t.Fatalf("asked for %q, got %q", stanza, r.Stanza)
		}
		for _, b := range r.Backups {
			if len(b.StopWAL) != 24 {
				t.Fatalf("set without a last segment: %+v", b)
			}
		}
	})
}
