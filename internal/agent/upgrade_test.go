package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An agent is replaced only by a program that runs, under a configuration that
// it will accept.
func TestUpgradeLooksFirst(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, broken := write("good", "#!/bin/sh\n[ \"$1\" = --version ]\n"), write("broken", "#!/bin/sh\necho 'no such library' >&2\nexit 127\n")
	conf := write("patroni.yml", strings.NewReplacer("LISTEN", "192.0.2.1:5432", "DATADIR", "/data", "BINDIR", "/usr/bin").Replace(minimal))
	for _, c := range []struct{ program, config, want string }{
		{good, conf, ""},
		{broken, conf, "no such library"},
		{filepath.Join(dir, "none"), conf, "no such file"},
		{good, write("bad.yml", "scope:x\n"), "bad.yml"},
		{good, write("short.yml", "scope: x\n"), "is required and not set"},
		{good, filepath.Join(dir, "none.yml"), "does not exist"},
	} {
		u := &upgrade{path: c.program}
		err := u.ready(t.Context(), &Options{ConfigPath: c.config})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: %v, want %q", c.program, c.config, err, c.want)
		}
	}
}
