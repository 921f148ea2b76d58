package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const minimal = `scope: s
name: n
restapi: {listen: 192.0.2.1:8008}
etcd3: {host: 192.0.2.4}
postgresql:
  listen: 192.0.2.1:5432
  data_dir: /data/
  authentication: {replication: {username: r, password: p}}
`

func mustParse(t *testing.T, text string, environ ...string) (*Local, []Problem) {
	t.Helper()
	l, ps, err := Parse([]byte(text), environ)
	if err != nil {
		t.Fatalf("%v\n%v", err, ps)
	}
	return l, ps
}

func lines(ps []Problem) string {
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, "%s: %s\n", p.Severity, p)
	}
	return b.String()
}

func TestTutorialValidates(t *testing.T) {
	l, ps, err := Load("testdata/tutorial.yml", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(ps, l.Missing()...) {
		if p.Severity != Notice {
			t.Errorf("%s: %s", p.Severity, p)
		}
	}
	if len(ps) != 2 {
		t.Error(lines(ps))
	}
	all := lines(ps)
	for _, want := range []string{"etcd: taken as etcd v3", "bootstrap.users"} {
		if strings.Count(all, want) != 1 {
			t.Errorf("want one notice with %q in\n%s", want, all)
		}
	}
	if got := strings.Join(l.Etcd.Endpoints(), " "); got != "http://192.0.2.4:2379 http://192.0.2.5:2379 http://192.0.2.6:2379" {
		t.Error(got)
	}
	if !strings.HasPrefix(string(l.Bootstrap.DCS), `{"ttl":120,"loop_wait":10,"retry_timeout":10,"maximum_lag_on_failover":1048576,"postgresql":{"use_pg_rewind":true,"use_slots":true,"parameters":{"archive_command":`) {
		t.Errorf("%s", l.Bootstrap.DCS)
	}
	if got := fmt.Sprint(l.Bootstrap.InitDB); got != "[{encoding UTF8 false} {data-checksums  true}]" {
		t.Error(got)
	}
	if l.Bootstrap.Custom == nil || l.Bootstrap.Custom.Command != "/etc/patroni/boot_pgbackrest.sh" || len(l.Tags) != 0 {
		t.Errorf("%+v %v", l.Bootstrap.Custom, l.Tags)
	}
}

// The tutorial's text as printed: everything a person would mend, in one run.
func TestTutorialAsPrinted(t *testing.T) {
	l, ps, err := Load("testdata/as-printed.yml", nil)
	if l != nil || !errors.Is(err, ErrUnusable) {
		t.Fatal(l, err)
	}
	got := lines(ps)
	for _, want := range []string{
		`error: testdata/as-printed.yml:1: scope: "scope:pg-ha-cluster" lacks a space after the colon; write "scope: pg-ha-cluster"`,
		`:2: name: "name:pg-db-01" lacks a space`,
		`:3: namespace: "namespace:/opt/pgsql/patroni/" lacks a space`,
		`:9: etcd: top-level key "etcd" is indented by 1 space; start it in the first column`,
		`:12: bootstrap: top-level key "bootstrap" is indented by 1 space`,
		`:21: bootstrap.dcs.parameters: parameters belongs under bootstrap.dcs.postgresql; move it there`,
		`:22: bootstrap.dcs.parameters.archive_command: the placeholder <stanza-name> was left in`,
		`:39: bootstrap.dcs.parameters.create_replica_methods: create_replica_methods is a list, not a setting of parameters; create_replica_methods belongs under bootstrap.dcs.postgresql`,
		`:41: bootstrap.dcs.parameters.pgbackrest: pgbackrest is the section of a replica creation method, not a setting of parameters; pgbackrest belongs under bootstrap.dcs.postgresql`,
		`:45: bootstrap.dcs.recovery_conf: recovery_conf belongs under bootstrap.dcs.postgresql`,
		`:47: bootstrap.dcs.recovery_conf.restore_command: PostgreSQL does not know %P; write %p`,
		`:48: bootstrap.method: is indented by 4 spaces, but the other keys of bootstrap by 3 spaces`,
		`:49: bootstrap.pgbackrest: is indented by 4 spaces`,
		`:63: bootstrap.pg_hba[4]: the placeholder x.x.x.0/0 was left in`,
		`:71: postgresql: top-level key "postgresql" is indented by 1 space`,
		`:72: postgresql: the section is empty, because the keys meant for it are not indented below it: listen, connect_address, data_dir, pgpass, authentication, parameters (lines 72 to 86)`,
		`:89: tags: top-level key "tags" is indented by 1 space`,
	} {
		if strings.Count(got, want) != 1 {
			t.Errorf("want once: %s", want)
		}
	}
	if n := strings.Count(got, "error: "); n != 13 {
		t.Errorf("%d errors in\n%s", n, got)
	}
}

// Each bad file holds one mistake; its first line says what must be reported:
// "# want SEVERITY LINE text".
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yml")
	if err != nil || len(files) < 25 {
		t.Fatal(len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := strings.Cut(string(data), "\n")
			fields := strings.SplitN(strings.TrimPrefix(head, "# want "), " ", 3)
			if len(fields) != 3 {
				t.Fatalf("bad first line %q", head)
			}
			l, ps, _ := Load(f, nil)
			if l != nil {
				ps = append(ps, l.Missing()...)
			}
			want := fmt.Sprintf("%s: %s:%s: %s", fields[0], f, fields[1], fields[2])
			if got := lines(ps); !strings.Contains(got, want) {
				t.Errorf("want %s\ngot\n%s", want, got)
			}
			for _, p := range ps {
				if p.Severity > Notice && p.Cure == "" {
					t.Errorf("no cure: %s", p)
				}
				if strings.ContainsAny(p.String(), "\n\t") {
					t.Errorf("not one line: %q", p)
				}
			}
		})
	}
}

func TestMinimalIsClean(t *testing.T) {
	l, ps := mustParse(t, minimal)
	if ps = append(ps, l.Missing()...); len(ps) != 0 {
		t.Error(lines(ps))
	}
	if l.Namespace != "service" || l.RestAPI.URL() != "http://192.0.2.1:8008/patroni" || l.Etcd.Endpoints()[0] != "http://192.0.2.4:2379" || l.Etcd.Line != 4 || l.Bootstrap.Present {
		t.Errorf("%+v", l)
	}
	if got := l.Origin("restapi.listen"); got != "configuration:3" {
		t.Error(got)
	}
}

// What Patroni takes for granted where a file says nothing (wire contract §1.2-§1.10).
func TestLocalDefaults(t *testing.T) {
	l, _ := mustParse(t, minimal)
	p := EffectiveOf(l, nil).Postgres
	for _, c := range []struct{ name, got, want string }{
		{"log", fmt.Sprintf("%+v", l.Log), "{Type:plain Level:INFO TracebackLevel:ERROR Format: Fields:[] DateFormat: StaticFields:[] MaxQueueSize:1000 Dir: FileSize:25000000 FileNum:4 Mode:-1 Loggers:[] Deduplicate:false}"},
		{"restapi", fmt.Sprintln(l.RestAPI.ConnectAddress, l.RestAPI.TLS(), l.RestAPI.AuthConfigured(), l.RestAPI.VerifyClient, l.RestAPI.Allowlist, l.RestAPI.AllowlistIncludeMembers, l.RestAPI.ServerTokens),
			"192.0.2.1:8008 false false [] false original"},
		{"ctl", fmt.Sprintln(l.Ctl.Insecure, l.Ctl.CACert, l.Ctl.CertFile), "false"},
		{"etcd3", fmt.Sprintln(l.Etcd.Endpoints(), l.Etcd.UseProxies), "[http://192.0.2.4:2379] false"},
		{"bootstrap.method", l.Bootstrap.Method, "initdb"},
		{"watchdog", fmt.Sprintf("%+v", l.Watchdog), "{Mode:automatic Device:/dev/watchdog SafetyMargin:5 Driver:default Present:false}"},
		{"tags", fmt.Sprintln(len(l.Tags), l.Tags.NoFailover(), l.Tags.FailoverPriority(), l.Tags.NoSync(), l.Tags.SyncPriority()), "0 false 1 false 1"},
		{"postgresql", fmt.Sprintln(p.ConfigDir, p.ConfigBaseName, p.BinDir, p.Database, p.ConnURL(), p.ProxyURL(), p.PGPass, p.PgCtlTimeout, p.CreateReplicaMethods),
			"/data postgresql postgres postgres://192.0.2.1:5432/postgres 1m0s [basebackup]"},
		{"switches", fmt.Sprintln(p.UsePgRewind, p.UseSlots, p.UseUnixSocket, p.UseUnixSocketRepl, p.RemoveDataDirOnRewindFailure, p.RemoveDataDirOnDivergedTimeline), "false true false false false false"},
		{"lists", fmt.Sprintln(p.PGHBA == nil, p.PGIdent == nil, p.KrbSrvName, p.CustomConf), "true true"},
	} {
		if strings.Join(strings.Fields(c.got), " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
}

// The older form of credentials counts where today's is not there.
func TestAuthOfOld(t *testing.T) {
	for text, want := range map[string]string{
		"restapi: {auth: 'u:p:q'}":                                                  "u p:q, u p:q",
		"restapi: {auth: 'u:p'}\nctl: {auth: 'v:w'}":                                "u p, v w",
		"restapi: {auth: 'u:p', authentication: {username: a, password: b}}":        "a b, a b",
		"restapi: {authentication: {username: a, password: b}}\nctl: {auth: 'v:w'}": "a b, v w",
		"ctl: {auth: 'v:w'}":                                                        " , v w",
	} {
		l, problems := mustParse(t, text)
		if got := fmt.Sprintf("%s %s, %s %s", l.RestAPI.Username, l.RestAPI.Password.Reveal(), l.Ctl.Username, l.Ctl.Password.Reveal()); got != want || HasErrors(problems) {
			t.Errorf("%s: %q, want %q; %v", text, got, want, problems)
		}
	}
}

// Words that Patroni takes in any case.
func TestWordsInAnyCase(t *testing.T) {
	l, problems := mustParse(t, "log: {traceback_level: Debug}\nrestapi: {verify_client: Optional, server_tokens: MINIMAL}\nwatchdog: {mode: REQUIRED}\n")
	if HasErrors(problems) || l.RestAPI.VerifyClient != "optional" || l.RestAPI.ServerTokens != "minimal" || l.Watchdog.Mode != "required" {
		t.Errorf("%+v\n%s", l.RestAPI, lines(problems))
	}
}

func TestEmptyFileListsEverythingMissing(t *testing.T) {
	l, _ := mustParse(t, "log: {level: INFO}\n")
	if got := len(l.Missing()); got != 7 {
		t.Error(lines(l.Missing()))
	}
	if _, _, err := Parse(nil, nil); !errors.Is(err, ErrUnusable) {
		t.Error(err)
	}
}

func TestDirectoryMerge(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("10-base.yml", minimal+"tags: {a: 1, b: 2}\n")
	write("20-site.yaml", "name: other\ntags: {b: null, c: 3}\nrestapi: {listne: x}\n")
	write("30-empty.yml", "")
	write("ignored.txt", "name: wrong\n")
	l, ps, err := Load(dir, nil)
	if err != nil || l.Name != "other" || l.Scope != "s" {
		t.Fatal(l, err)
	}
	if j, _ := l.Tags.MarshalJSON(); string(j) != `{"a":1,"c":3}` {
		t.Errorf("%s", j)
	}
	want := filepath.Join(dir, "20-site.yaml") + `:3: restapi.listne: unknown key, ignored; did you mean "listen"?`
	if !strings.Contains(lines(ps), want) {
		t.Error(lines(ps))
	}
	write("40-bad.yml", "- a\n")
	if _, _, err := Load(dir, nil); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "40-bad.yml") {
		t.Error(err)
	}
}

func TestMissingFileAndConfigurationVariable(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.yml")
	if _, _, err := Load(none, nil); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Error(err)
	}
	if _, _, err := Load("", nil); err == nil || !strings.Contains(err.Error(), "no file was named") {
		t.Error(err)
	}
	// PATRONI_CONFIGURATION is the whole configuration: PATRONI_NAME is not applied.
	l, _, err := Load(none, []string{"PATRONI_CONFIGURATION=" + minimal, "PATRONI_NAME=env"})
	if err != nil || l.Name != "n" {
		t.Error(l, err)
	}
	l, _, err = Load("", []string{"PATRONI_NAME=env", "PATRONI_ETCD3_HOSTS=a:1,'b:2'"})
	if err != nil || l.Name != "env" || strings.Join(l.Etcd.Hosts, " ") != "a:1 b:2" {
		t.Error(l, err)
	}
	if _, _, err := Load(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "holds no *.yml") {
		t.Error(err)
	}
}

func TestAliasBombIsRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), i-1)
	}
	if _, _, err := Parse([]byte(b.String()), nil); !errors.Is(err, ErrUnusable) {
		t.Error(err)
	}
}

func FuzzLoad(f *testing.F) {
	for _, name := range []string{"testdata/tutorial.yml", "testdata/as-printed.yml"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "PATRONI_ETCD3_HOSTS=a:1")
	}
	f.Add([]byte(minimal), "PATRONI_LOG_FORMAT=[a, {b: c}]")
	f.Add([]byte("a: &a [*a]\n<<: {x: 1}\n"), "")
	f.Add([]byte(minimal+fullBackup), "")
	f.Add([]byte("- \n  x:y\n\tb: |\n   c\n-- d"), "")
	f.Fuzz(func(t *testing.T, data []byte, env string) {
		l, ps, err := Parse(data, []string{env})
		if (l == nil) != (err != nil) {
			t.Fatalf("local %v, error %v", l, err)
		}
		if l == nil {
			if errors.Is(err, ErrUnusable) && len(data) > 0 && strings.Contains(err.Error(), "mending") && !HasErrors(ps) {
				t.Fatalf("refused without a reason: %q", data)
			}
			return
		}
		l.Missing()
		EffectiveOf(l, nil)
		_, _ = l.Tags.MarshalJSON()
		if _, err := parseJSON(l.Bootstrap.DCS, ""); err != nil {
			t.Fatalf("bootstrap document %q: %v", l.Bootstrap.DCS, err)
		}
	})
}

// Tags that say the same thing twice are what Patroni generates; those that
// contradict each other are named.
func TestTagsInAgreement(t *testing.T) {
	for tags, want := range map[string]int{
		"{nofailover: false, failover_priority: 1, nosync: false, sync_priority: 1}": 0,
		"{nofailover: true, failover_priority: 0}":                                   0,
		"{nofailover: true, failover_priority: 1}":                                   1,
		"{nosync: false, sync_priority: 0}":                                          1,
	} {
		_, problems := mustParse(t, "tags: "+tags)
		said := 0
		for _, p := range problems {
			if strings.Contains(p.Message, "is set as well and wins") {
				said++
			}
		}
		if said != want {
			t.Errorf("%s: %v", tags, problems)
		}
	}
}

// Members that demand a certificate of each other and show none are named.
func TestMembersShutOut(t *testing.T) {
	for text, want := range map[string]bool{
		"restapi: {certfile: /c, verify_client: required}":                      true,
		"restapi: {certfile: /c, verify_client: required}\nctl: {cacert: /ca}":  true,
		"restapi: {certfile: /c, verify_client: required}\nctl: {certfile: /c}": false,
		"restapi: {certfile: /c, verify_client: optional}":                      false,
		"restapi: {verify_client: required}":                                    false,
	} {
		_, problems := mustParse(t, text)
		said := false
		for _, p := range problems {
			said = said || strings.Contains(p.Cure, "set ctl.certfile")
		}
		if said != want {
			t.Errorf("%s: %v", text, problems)
		}
	}
}
