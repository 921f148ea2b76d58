package main

import (
	"bytes"
	"strings"
	"testing"
)

// A command line that cannot be understood gets one line and status 2.
func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string // in what is printed
	}{
		{"--bogus", 2, "error: flag provided but not defined: -bogus; see pgha-agent --help\n"},
		{"--dsn", 2, "error: flag needs an argument: -dsn; see pgha-agent --help\n"},
		{"--validate-config --generate-config", 2, "error: --validate-config, --generate-config and --generate-sample-config exclude each other\n"},
		{"a.yml b.yml", 2, "error: more than one file is named; name one, or a directory that holds them\n"},
		{"a.yml -p", 2, "error: --print and --ignore-listen-port go with --validate-config\n"},
		{"--dsn host=x a.yml", 2, "error: --dsn goes with --generate-config\n"},
		{"/nonexistent.yml --validate-config", 1, "error: read configuration: /nonexistent.yml does not exist; check the path, or set PATRONI_* variables\n"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(strings.Fields(c.args), &stdout, &stderr); code != c.code || stderr.String() != c.want || stdout.Len() > 0 {
				t.Errorf("status %d\n%s%s, want %d %s", code, stdout.String(), stderr.String(), c.code, c.want)
			}
		})
	}
	for _, args := range []string{"--help", "-h", "a.yml --help"} {
		var stdout, stderr bytes.Buffer
		if code := run(strings.Fields(args), &stdout, &stderr); code != 0 || stdout.String() != usage || stderr.Len() > 0 {
			t.Errorf("%s: status %d, %q", args, code, stderr.String())
		}
	}
}
