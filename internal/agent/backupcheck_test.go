package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

func TestBackupPreflight(t *testing.T) {
	dir := t.TempDir()
	program := func(name, script string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("key=a\nsecret=b\n"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := program("good", "echo pgBackRest 2.45")
	secret, open := file("secret", 0o600), file("open", 0o640)
	for _, c := range []struct {
		name         string
		b            config.Backup
		fatal, other string // parts, "" none
	}{
		{"off", config.Backup{Command: "/nowhere"}, "", ""},
		{"in order", config.Backup{Enabled: true, Command: good, Repo: config.Repo{Type: "posix", Path: dir, KeyFile: secret}}, "", ""},
		{"directory still to be made", config.Backup{Enabled: true, Command: good, Repo: config.Repo{Path: dir + "/new"}}, "", ""},
		{"no program", config.Backup{Enabled: true, Command: dir + "/none"}, "pgha.backup.command", ""},
		{"program fails", config.Backup{Enabled: true, Command: program("bad", "exit 3")}, "does not run", ""},
		{"another program", config.Backup{Enabled: true, Command: program("other", "echo hello")}, "is no pgBackRest", ""},
		{"too old", config.Backup{Enabled: true, Command: program("old", "echo pgBackRest 2.29")}, "2.30 or later", ""},
		{"just new enough", config.Backup{Enabled: true, Command: program("edge", "echo pgBackRest 2.30dev")}, "", ""},
		{"key file is open", config.Backup{Enabled: true, Command: good, Repo: config.Repo{Type: "s3", KeyFile: open}}, "chmod 0600", ""},
		{"passphrase is missing", config.Backup{Enabled: true, Command: good, Repo: config.Repo{Type: "s3", CipherPassFile: dir + "/none"}}, "cipher_pass_file", ""},
		{"repository is a file", config.Backup{Enabled: true, Command: good, Repo: config.Repo{Path: secret}}, "", "is no directory"},
		{"configuration is missing", config.Backup{Enabled: true, Command: good, ConfigFile: dir + "/none"}, "", "pgha.backup.config"},
	} {
		p := checkBackupFiles(&c.b)
		for _, x := range []struct {
			err  error
			want string
		}{{p.fatal, c.fatal}, {p.other, c.other}} {
			if x.want == "" && x.err != nil || x.want != "" && (x.err == nil || !strings.Contains(x.err.Error(), x.want)) {
				t.Errorf("%s: %v, want %q", c.name, x.err, x.want)
			}
		}
	}
}
