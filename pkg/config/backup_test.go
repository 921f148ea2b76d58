package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const fullBackup = `pgha:
  postgresql_log_keep: 7d
  backup:
    stanza: main
    command: /usr/bin/pgbackrest
    repo:
      type: s3
      path: /prefix
      s3_bucket: b
      s3_endpoint: minio.example
      s3_region: us-east-1
      s3_uri_style: path
      s3_key_file: /etc/pgha/s3.key
      s3_port: 9000
      s3_verify_tls: false
      s3_ca_file: /etc/pgha/ca.pem
      cipher_pass_file: /etc/pgha/cipher
    options: {compress-type: zst, start-fast: true, buffer-size: 1MB}
    archive: off
    restore: no
    process_max: 4
    schedule: {full: 30 1 * * 0, diff: 30 1 * * 1-6, incr: "@hourly"}
    retention: {full: 2, diff: 6}
    from: standby
    max_age: 26h
    archive_max_lag: 5min
`

func TestBackupDecoded(t *testing.T) {
	l, ps := mustParse(t, minimal+fullBackup)
	if len(ps) != 0 {
		t.Error(lines(ps))
	}
	e := EffectiveOf(l, nil)
	b := e.PGHA.Backup
	if !reflect.DeepEqual(b, e.Postgres.Backup) {
		t.Errorf("the driver's copy differs: %+v", e.Postgres.Backup)
	}
	for name, s := range map[string]*Schedule{"30 1 * * 0": b.Full, "30 1 * * 1-6": b.Diff, "@hourly": b.Incr} {
		if s == nil || s.Text != name {
			t.Errorf("schedule %q: %+v", name, s)
		}
	}
	b.Full, b.Diff, b.Incr = nil, nil, nil
	want := Backup{
		Enabled: true, Stanza: "main", Command: "/usr/bin/pgbackrest",
		Repo: Repo{Type: "s3", Path: "/prefix", Bucket: "b", Endpoint: "minio.example", Region: "us-east-1", URIStyle: "path", KeyFile: "/etc/pgha/s3.key",
			Port: 9000, CAFile: "/etc/pgha/ca.pem", CipherPassFile: "/etc/pgha/cipher"},
		Options:    []Option{{Name: "compress-type", Value: "zst"}, {Name: "start-fast", Value: "y"}, {Name: "buffer-size", Value: "1MB"}},
		ProcessMax: 4, RetentionFull: 2, RetentionDiff: 6, From: BackupFromStandby, MaxAge: 26 * time.Hour, ArchiveMaxLag: 5 * time.Minute,
	}
	if !reflect.DeepEqual(b, want) {
		t.Errorf("got  %+v\nwant %+v", b, want)
	}
	if e.PGHA.LogKeep != 7*24*time.Hour || fmt.Sprint(e.Postgres.CreateReplicaMethods) != "[basebackup]" {
		t.Errorf("%v %v", e.PGHA.LogKeep, e.Postgres.CreateReplicaMethods)
	}
}

func TestBackupDefaults(t *testing.T) {
	for _, none := range []string{"", "pgha: {backup: }\n", "pgha: {backup: {}}\n"} {
		l, _ := mustParse(t, minimal+none)
		e := EffectiveOf(l, nil)
		if !reflect.DeepEqual(e.PGHA.Backup, Backup{}) || !reflect.DeepEqual(e.Postgres.Backup, Backup{}) || e.PGHA.LogKeep != 0 {
			t.Errorf("%q: %+v", none, e.PGHA.Backup)
		}
		if fmt.Sprint(e.Postgres.CreateReplicaMethods) != "[basebackup]" {
			t.Errorf("%q: %v", none, e.Postgres.CreateReplicaMethods)
		}
	}
	l, ps := mustParse(t, minimal+"pgha: {backup: {repo: {path: /b}}}\n")
	e := EffectiveOf(l, nil)
	want := Backup{Enabled: true, Stanza: "s", Command: "pgbackrest", Repo: Repo{Type: "posix", Path: "/b", URIStyle: "host", VerifyTLS: true},
		Archive: true, Restore: true, ProcessMax: 2, From: BackupFromLeader, ArchiveMaxLag: 10 * time.Minute}
	if !reflect.DeepEqual(e.PGHA.Backup, want) || len(ps)+len(e.Problems) != 0 {
		t.Errorf("got  %+v\nwant %+v\n%s", e.PGHA.Backup, want, lines(ps))
	}
	l, _ = mustParse(t, minimal+"pgha: {backup: {archive: true}}\n")
	if r := EffectiveOf(l, nil).PGHA.Backup.Repo; r.Path != "/var/lib/pgbackrest" {
		t.Errorf("%+v", r)
	}
}

// Keys of the file go before those of /config, section by section.
func TestBackupMerged(t *testing.T) {
	d, err := ParseDynamic([]byte(`{"pgha":{"postgresql_log_keep":60,"backup":{"stanza":"x","process_max":8,"repo":{"type":"s3","s3_bucket":"shared","s3_region":"r"},"schedule":{"full":"@daily","diff":"@hourly"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	l, _ := mustParse(t, minimal+"pgha: {backup: {stanza: y, repo: {s3_key_file: /k, s3_region: q}, schedule: {diff: null}}}\n")
	e := EffectiveOf(l, d)
	b := e.PGHA.Backup
	if b.Stanza != "y" || b.ProcessMax != 8 || b.Repo.Type != "s3" || b.Repo.Bucket != "shared" || b.Repo.Region != "q" || b.Repo.KeyFile != "/k" ||
		b.Full == nil || b.Diff != nil || e.PGHA.LogKeep != time.Minute {
		t.Errorf("%+v", b)
	}
	l, _ = mustParse(t, minimal+"pgha: {backup: null}\n")
	if EffectiveOf(l, d).PGHA.Backup.Enabled {
		t.Error("null in the file does not switch it off")
	}
	l, _ = mustParse(t, minimal)
	if b := EffectiveOf(l, d).PGHA.Backup; !b.Enabled || b.Stanza != "x" {
		t.Errorf("%+v", b)
	}
	// An operator's own file counts alone.
	l, _ = mustParse(t, minimal+"pgha: {backup: {config: /etc/pgbackrest.conf}}\n")
	if b := EffectiveOf(l, d).PGHA.Backup; b.ConfigFile != "/etc/pgbackrest.conf" || b.Repo != (Repo{}) {
		t.Errorf("%+v", b)
	}
}

func TestBackupFindings(t *testing.T) {
	for in, want := range map[string]string{
		`{"stanza":"a\nb"}`:                               `error: /config: pgha.backup.stanza: holds a line break; remove it`,
		`{"stanza":"a/b"}`:                                `error: /config: pgha.backup.stanza: is no name for a directory`,
		`{"stanza":"a'b"}`:                                `error: /config: pgha.backup.stanza: holds a quote`,
		`{"repo":{"path":"/a\u0000"}}`:                    `error: /config: pgha.backup.repo.path: holds a zero byte`,
		`{"repo":{"path":"/a\"b"}}`:                       `error: /config: pgha.backup.repo.path: holds a quote`,
		`{"repo":{"path":"a"}}`:                           `error: /config: pgha.backup.repo.path: is not an absolute path; begin it with /`,
		`{"config":"a.conf"}`:                             `error: /config: pgha.backup.config: is not an absolute path`,
		`{"repo":{"type":"s4"}}`:                          `error: /config: pgha.backup.repo.type: needs one of posix, s3 but holds the text "s4"; did you mean "s3"?`,
		`{"repo":{"type":"s3","s3_key_file":"/k"}}`:       `warning: /config: pgha.backup.repo.s3_bucket: is required with type: s3 and not set; add the name of the bucket`,
		`{"repo":{"type":"s3","s3_bucket":"b"}}`:          `warning: /config: pgha.backup.repo.s3_endpoint: is required with type: s3`,
		`{"repo":{"type":"s3","s3_endpoint":"b"}}`:        `warning: /config: pgha.backup.repo.s3_region: is required with type: s3`,
		`{"repo":{"type":"s3","s3_region":"b"}}`:          `warning: /config: pgha.backup.repo.s3_key_file: is required with type: s3 and not set; add the path of a file of mode 0600`,
		`{"repo":{"type":"s3","s3_endpoint":"http://x"}}`: `error: /config: pgha.backup.repo.s3_endpoint: is a URL; write the host only`,
		`{"repo":{"s3_bucket":"b"}}`:                      `warning: /config: pgha.backup.repo.s3_bucket: has no meaning without type: s3; add type: s3`,
		`{"repo":{"s3_buckt":"b"}}`:                       `warning: /config: pgha.backup.repo.s3_buckt: unknown key, ignored; did you mean "s3_bucket"?`,
		`{"stanzza":"b"}`:                                 `warning: /config: pgha.backup.stanzza: unknown key, ignored; did you mean "stanza"?`,
		`{"s3_bucket":"b"}`:                               `warning: /config: pgha.backup.s3_bucket: s3_bucket belongs under pgha.backup.repo; move it there`,
		`{"schedule":{"fulll":"@daily"}}`:                 `did you mean "full"?`,
		`{"schedule":{"full":"every night"}}`:             `error: /config: pgha.backup.schedule.full: "every night" is no schedule (`,
		`{"schedule":{"diff":"61 * * * *"}}`:              `; write minute, hour, day, month and weekday, for example "30 1 * * 0"`,
		`{"schedule":{"incr":"@every 1h"}}`:               `"@every 1h" is no schedule (@every has no fixed times)`,
		`{"schedule":{"incr":"0 0 30 2 *"}}`:              `"0 0 30 2 *" is no schedule (this time never comes)`,
		`{"schedule":{"incr":"TZ=Europe/Berlin"}}`:        `is no schedule (the time zone is not followed by five fields)`,
		`{"schedule":"@daily"}`:                           `error: /config: pgha.backup.schedule: needs a section`,
		`{"max_age":"soon"}`:                              `error: /config: pgha.backup.max_age: needs a whole number (seconds)`,
		`{"process_max":0}`:                               `warning: /config: pgha.backup.process_max: 0 is outside the range 1 to 999`,
		`{"from":"replica"}`:                              `error: /config: pgha.backup.from: needs one of leader, standby`,
		`{"archive":"maybe"}`:                             `error: /config: pgha.backup.archive: needs true or false`,
		`{"config":"/c","repo":{"path":"/r"}}`:            `warning: /config: pgha.backup.repo: ignored, because config is set as well and counts; remove one of the two`,
		`{"config":"/c","options":{"compress":"n"}}`:      `warning: /config: pgha.backup.options: ignored, because config is set as well`,
		`{"options":{"a":{"b":1}}}`:                       `error: /config: pgha.backup.options.a: needs one value but holds a map`,
		`{"options":{"a":"x\ny"}}`:                        `error: /config: pgha.backup.options.a: holds a line break`,
		`{"options":{"a\nb":"x"}}`:                        `is no name of an option of pgBackRest`,
		`{"options":{"repo1-path":"/x"}}`:                 `warning: /config: pgha.backup.options.repo1-path: ignored, its value comes from pgha.backup.repo.path`,
		`{"options":{"pg1-path":"/x"}}`:                   `ignored, its value comes from the postgresql section`,
		`{"options":[1]}`:                                 `error: /config: pgha.backup.options: needs a map (option: value lines)`,
	} {
		if got := lines(ValidateDynamic([]byte(`{"pgha":{"backup":` + in + `}}`))); strings.Count(got, want) != 1 {
			t.Errorf("%s:\n got %swant %s", in, got, want)
		}
	}
	for _, in := range []string{
		`{"repo":{"type":"s3","s3_bucket":"b","s3_endpoint":"e","s3_region":"r","s3_key_file":"/k"},"options":{"compress-level":3}}`,
		`{"repo":{"path":"/with blank/and%"},"schedule":{"full":"CRON_TZ=Europe/Berlin 0 2 * * sun","diff":null},"archive_max_lag":0}`,
	} {
		if ps := ValidateDynamic([]byte(`{"pgha":{"backup":` + in + `}}`)); len(ps) != 0 {
			t.Errorf("%s: %s", in, lines(ps))
		}
	}
}

// The plain words of the section are no hint elsewhere.
func TestBackupKeysElsewhere(t *testing.T) {
	for key, want := range map[string]string{"options": "unknown key", "restore": "unknown key", "pgha": ""} {
		if got := lines(ValidateDynamic([]byte(`{"` + key + `":{}}`))); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %s", key, got)
		}
	}
}

// What one document leaves out may stand in the other.
func TestBackupRepoInTwoDocuments(t *testing.T) {
	const first = "bootstrap: {dcs: {pgha: {backup: {repo: {s3_bucket: b, s3_endpoint: e, s3_region: r%s}}}}}\n"
	for _, c := range []struct{ own, more, want string }{
		{"type: s3, s3_key_file: /k", "", ""},
		{"s3_key_file: /k", ", type: s3", ""},
		{"type: s3", "", "error: configuration:10: pgha.backup.repo.s3_key_file: is required"},
		{"path: /x", ", type: s3", "error: configuration:9: bootstrap.dcs.pgha.backup.repo.s3_key_file: is required"},
	} {
		text := minimal + fmt.Sprintf(first, c.more) + "pgha: {backup: {repo: {" + c.own + "}}}\n"
		l, ps := mustParse(t, text)
		if got := lines(ps); c.want == "" && got != "" || !strings.Contains(got, c.want) || len(ps) > 1 {
			t.Errorf("%s %s: want %q, got %s", c.own, c.more, c.want, got)
		}
		d, err := ParseDynamic(l.Bootstrap.DCS)
		if err != nil {
			t.Fatal(err)
		}
		if e := EffectiveOf(l, d); len(e.Problems) != len(ps) || HasErrors(e.Problems) {
			t.Errorf("%s %s: joined: %s", c.own, c.more, lines(e.Problems))
		}
	}
	l, _ := mustParse(t, minimal)
	d, err := ParseDynamic([]byte(`{"pgha":{"backup":{"repo":{"type":"s3"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if e := EffectiveOf(l, d); len(e.Problems) != 4 || HasErrors(e.Problems) {
		t.Error(lines(e.Problems))
	}
}

// A secret in the configuration is refused by name, and never shown.
func TestBackupInlineSecrets(t *testing.T) {
	const secret = "hunter2"
	for _, at := range []string{"repo", "options", ""} {
		for _, key := range []string{"s3_key", "s3_key_secret", "repo1-s3-key", "repo1-s3-key-secret", "cipher_pass", "repo1-cipher-pass", "repo1-azure-key", "repo1-s3-token", "REPO1_CIPHER_PASS"} {
			body := fmt.Sprintf("{%s: %s, archive: off}", key, secret)
			if at != "" {
				body = fmt.Sprintf("{%s: {%s: %s}}", at, key, secret)
			}
			l, ps := mustParse(t, minimal+"pgha: {backup: "+body+"}\n")
			n := 0
			for _, p := range ps {
				if p.Severity == Error && p.Line > 0 && strings.HasSuffix(p.Path, key) && strings.Contains(p.Cure, "a file of mode 0600 and name that file in pgha.backup.repo.") {
					n++
				}
			}
			if got := lines(ps); n != 1 || len(ps) != 1 || strings.Contains(got, secret) {
				t.Errorf("%s: %s", body, got)
			}
			if want := map[bool]string{true: "cipher_pass_file", false: "s3_key_file"}[strings.Contains(strings.ToLower(key), "cipher")]; !strings.Contains(lines(ps), want) {
				t.Errorf("%s does not name %s: %s", body, want, lines(ps))
			}
			if e := EffectiveOf(l, nil); strings.Contains(fmt.Sprintf("%+v %s", e.PGHA.Backup, lines(e.Problems)), secret) {
				t.Errorf("%s reached the effective configuration", body)
			}
		}
	}
}

// What another tool put into /config unchecked is dropped, not acted on.
func TestBackupBadValuesInConfigAreDropped(t *testing.T) {
	d, err := ParseDynamic([]byte(`{"pgha":{"backup":{"stanza":"a\nb","command":"x\u0000","repo":{"path":"rel","s3_key":"hunter2"},"options":{"compress-type":"x\ny","pg1-path":"/x","repo1-cipher-pass":"hunter2","fine":1},"schedule":{"full":"never","diff":"@daily"},"process_max":"many","foo.s3_key":"hunter2","x.y":{}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	l, _ := mustParse(t, minimal)
	before := string(d.Raw)
	e := EffectiveOf(l, d)
	b := e.PGHA.Backup
	if b.Stanza != "s" || b.Command != "pgbackrest" || b.Repo.Path != "/var/lib/pgbackrest" || b.Full != nil || b.Diff == nil || b.ProcessMax != 2 ||
		fmt.Sprint(b.Options) != "[{fine 1 false}]" {
		t.Errorf("%+v", b)
	}
	if got := lines(e.Problems); len(e.Problems) != 8 || HasErrors(e.Problems) || strings.Contains(got, "hunter2") || strings.Count(got, "so it is left out") != 8 {
		t.Error(got)
	}
	if again := EffectiveOf(l, d); len(again.Problems) != 8 || string(d.Raw) != before || d.root.get("pgha", "backup", "command") == nil {
		t.Error("the document was changed")
	}
}

func TestSchedule(t *testing.T) {
	at := time.Date(2026, 3, 1, 1, 30, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"30 1 * * *":                at.AddDate(0, 0, 1),
		"31 1 * * *":                at.Add(time.Minute),
		"0 0 29 2 *":                time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC),
		"CRON_TZ=Asia/Tokyo @daily": time.Date(2026, 3, 1, 15, 0, 0, 0, time.UTC),
	} {
		s, err := ParseSchedule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := s.Next(at); !got.Equal(want) {
			t.Errorf("%s: next %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"", "* * * *", "* * * * * *", "*/0 * * * *", "TZ=", "TZ=Nowhere 0 0 * * *", "CRON_TZ=UTC", "CRON_TZ=UTC ", "@every 1s", "TZ=UTC @every 5m", "0 0 31 4 *"} {
		if s, err := ParseSchedule(text); err == nil {
			t.Errorf("%q is accepted: next %v", text, s.Next(at))
		}
	}
	if !(*Schedule)(nil).Next(at).IsZero() {
		t.Error("nil has a next time")
	}
}

func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"0 2 * * *", "TZ=UTC 0 0 1-5/2 * mon", "@daily", "CRON_TZ=", "*/99999999999 * * * *", "0 0 30 2 *"} {
		f.Add(s)
	}
	at := time.Date(2026, 3, 1, 1, 30, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSchedule(text)
		if err == nil && !s.Next(at).After(at) {
			t.Fatalf("%q: next after %v is %v", text, at, s.Next(at))
		}
	})
}

func TestReplicaMethods(t *testing.T) {
	const backup = "pgha: {backup: {archive: true}}\n"
	for _, c := range []struct{ pg, pgha, list, native, command string }{
		{"", "", "[basebackup]", "", ""},
		{"", backup, "[pgbackrest basebackup]", "pgbackrest", ""},
		{"", "pgha: {backup: {restore: off}}\n", "[basebackup]", "", ""},
		{"  create_replica_methods: [basebackup]\n", backup, "[basebackup]", "", ""},
		{"  create_replica_methods: [pgbackrest]\n", backup, "[pgbackrest]", "pgbackrest", ""},
		{"  create_replica_method: pgbackrest\n", "pgha: {backup: {restore: off}}\n", "[pgbackrest]", "pgbackrest", ""},
		{"  create_replica_methods: [pgbackrest, basebackup]\n  pgbackrest: {keep_data: true}\n", backup, "[pgbackrest basebackup]", "pgbackrest", ""},
		{"  create_replica_methods: [pgbackrest, basebackup]\n  pgbackrest: {command: /x}\n", backup, "[pgbackrest basebackup]", "", "/x"},
		{"  pgbackrest: {command: /x}\n", backup, "[pgbackrest basebackup]", "", "/x"},
		{"  create_replica_methods: [pgbackrest]\n", "", "[pgbackrest]", "", "pgbackrest"},
	} {
		l, _ := mustParse(t, minimal+c.pg+c.pgha)
		p := EffectiveOf(l, nil).Postgres
		native, command := "", ""
		for _, m := range p.Methods {
			if m.Native {
				native += m.Name
			}
			command += m.Command
		}
		if fmt.Sprint(p.CreateReplicaMethods) != c.list || native != c.native || command != c.command {
			t.Errorf("%q %q: %v, native %q, command %q", c.pg, c.pgha, p.CreateReplicaMethods, native, command)
		}
	}
}

func TestBootstrapMethods(t *testing.T) {
	const backup = "pgha: {backup: {archive: true}}\n"
	const repo = "bootstrap:\n  dcs: {}\n  method: pgbackrest\n  pgbackrest: {stanza: other, set: 20260101-000000F, target_type: time, target: '2026-01-01 12:00:00+00', target_timeline: current, target_exclusive: true}\n"
	l, ps := mustParse(t, minimal+repo+backup)
	b := EffectiveOf(l, nil).Bootstrap
	want := RepositoryBootstrap{Stanza: "other", Set: "20260101-000000F", TargetType: "time", Target: "2026-01-01 12:00:00+00", TargetTimeline: "current", TargetExclusive: true}
	if !b.Native || b.Custom != nil || b.Repository != want || len(ps) != 0 || l.Bootstrap.Native {
		t.Errorf("%+v\n%s", b, lines(ps))
	}
	for _, c := range []struct {
		name, text     string
		native, custom bool
		finding        string
	}{
		{"from bootstrap.dcs", "bootstrap: {dcs: {pgha: {backup: {archive: on}}}, method: pgbackrest}\n", true, false, ""},
		{"no section", "bootstrap: {dcs: {}, method: pgbackrest}\n", false, false, "notice: configuration:9: bootstrap.method: there is neither a section pgha.backup nor bootstrap.pgbackrest with a command, so initdb is used"},
		{"command wins", "bootstrap: {dcs: {}, method: pgbackrest, pgbackrest: {command: /x, any: thing}}\n" + backup, false, true, ""},
		{"custom", "bootstrap: {dcs: {}, method: clone, clone: {command: /x}, post_bootstrap: /y}\n" + backup, false, true, ""},
		{"without a command", "bootstrap: {dcs: {}, method: clone, clone: {a: b}}\n" + backup, false, false, "notice: configuration:9: bootstrap.method: there is no section bootstrap.clone with a command, so initdb is used"},
		{"no method", "bootstrap: {dcs: {}}\n" + backup, false, false, ""},
		{"no target", "bootstrap: {dcs: {}, method: pgbackrest, pgbackrest: {target_type: lsn}}\n" + backup, true, false, "error: configuration:9: bootstrap.pgbackrest.target: is required with target_type: lsn and not set"},
		{"no type", "bootstrap: {dcs: {}, method: pgbackrest, pgbackrest: {target: 0/0}}\n" + backup, true, false, `error: configuration:9: bootstrap.pgbackrest.target: is set, but recovery stops at "latest"`},
		{"bad type", "bootstrap: {dcs: {}, method: pgbackrest, pgbackrest: {target_type: tme, target: x}}\n" + backup, true, false, `bootstrap.pgbackrest.target_type: needs one of latest, immediate, time, lsn, name, xid but holds the text "tme"; did you mean "time"?`},
		{"typo", "bootstrap: {dcs: {}, method: pgbackrest, pgbackrest: {stanzza: x}}\n" + backup, true, false, `warning: configuration:9: bootstrap.pgbackrest.stanzza: unknown key, ignored; did you mean "stanza"?`},
		{"bad stanza", "bootstrap: {dcs: {}, method: pgbackrest, pgbackrest: {stanza: ../x}}\n" + backup, true, false, "error: configuration:9: bootstrap.pgbackrest.stanza: is no name for a directory"},
	} {
		l, ps := mustParse(t, minimal+c.text)
		d, err := ParseDynamic(l.Bootstrap.DCS)
		if err != nil {
			t.Fatal(err)
		}
		b := EffectiveOf(l, d).Bootstrap
		if b.Native != c.native || (b.Custom != nil) != c.custom {
			t.Errorf("%s: %+v", c.name, b)
		}
		if got := lines(ps); c.finding == "" && got != "" || strings.Count(got, c.finding) != 1 && c.finding != "" {
			t.Errorf("%s: want %q, got %s", c.name, c.finding, got)
		}
	}
}

// The tutorial's methods are commands of the operator's, and taken as such.
func TestTutorialMethods(t *testing.T) {
	l, ps, err := Load("testdata/tutorial.yml", nil)
	if err != nil {
		t.Fatal(err, lines(ps))
	}
	d, err := ParseDynamic(l.Bootstrap.DCS)
	if err != nil {
		t.Fatal(err)
	}
	e := EffectiveOf(l, d)
	const restore = "/usr/bin/pgbackrest --stanza=pg-ha-cluster archive-get %f %p"
	recovery := map[string]string{"recovery_target_timeline": "latest", "restore_command": restore}
	m := e.Postgres.Methods["pgbackrest"]
	if fmt.Sprint(e.Postgres.CreateReplicaMethods) != "[pgbackrest basebackup]" || m == nil || len(e.Postgres.Methods) != 1 {
		t.Fatalf("%v %+v", e.Postgres.CreateReplicaMethods, e.Postgres.Methods)
	}
	if m.Native || m.Command != "/usr/bin/pgbackrest --stanza=pg-ha-cluster restore --delta --link-all" || !m.KeepData || !m.NoParams || m.NoLeader ||
		fmt.Sprint(m.Options) != "[{keep_data True false} {no_params True false}]" {
		t.Errorf("%+v", m)
	}
	if !reflect.DeepEqual(e.Postgres.RecoveryConf, recovery) {
		t.Errorf("%v", e.Postgres.RecoveryConf)
	}
	b := e.Bootstrap
	if b.Method != "pgbackrest" || b.Native || b.Custom == nil || b.Custom.Command != "/etc/patroni/boot_pgbackrest.sh" || b.Custom.KeepExistingRecoveryConf ||
		b.Custom.NoParams || !reflect.DeepEqual(b.Custom.RecoveryConf, recovery) || !b.Present {
		t.Errorf("%+v %+v", b, b.Custom)
	}
	if e.PGHA.Backup.Enabled || e.Postgres.Backup.Enabled {
		t.Error("backups without pgha.backup")
	}
}
