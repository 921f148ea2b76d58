package ctl

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/dcs"
)

const storedDoc = `{"ttl":30,"loop_wait":10,"postgresql":{"use_slots":true,"parameters":{"max_connections":100,"pg_stat_statements.max":500}},"x":1.5}`

// editing is pghactl over a cluster with storedDoc, and a file for drafts.
func editing(t *testing.T) (*testApp, *fakeCluster) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	fake := &fakeCluster{cluster: cluster(map[string]string{"config": storedDoc})}
	app := newTestApp(t, fake)
	return app, fake
}

// drafts are the files an editor was given and that are still there.
func drafts(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestEditConfig(t *testing.T) {
	const (
		apply   = "Apply these changes? [y/N]: "
		changed = "Configuration changed\n"
		ttl     = "--- \n+++ \n@@ -4,5 +4,5 @@\n     max_connections: 100\n     pg_stat_statements.max: 500\n   use_slots: true\n-ttl: 30\n+ttl: 40\n x: 1.5\n"
	)
	with := func(old, new string) string { return strings.Replace(storedDoc, old, new, 1) }
	file := writeFile(t, t.TempDir(), "new.yml", "ttl: 40\nloop_wait: null\npostgresql: {parameters: {max_connections: 100, wal_level: logical}}\n")
	for _, tc := range []struct {
		name, typed string
		args        []string
		code        int
		out, err    string
		written     string
	}{
		{name: "set", args: []string{"-s", "ttl=40"}, typed: "y\n", out: ttl + apply + changed, written: with("30", "40")},
		{name: "declined", args: []string{"-s", "ttl=40"}, typed: "\n", out: ttl + apply},
		{name: "end of input", args: []string{"-s", "ttl=40"}, code: 1, out: ttl + apply, err: "Aborted!\n"},
		{name: "force", args: []string{"--set", "ttl=40", "--force"}, out: ttl + changed, written: with("30", "40")},
		{name: "quiet", args: []string{"--set", "ttl=40", "--force", "-q"}, out: changed, written: with("30", "40")},
		{name: "unchanged", args: []string{"-s", "ttl=30"}, out: "Not changed\n"},
		{name: "unchanged, quiet", args: []string{"-s", "ttl=30", "-q"}},
		{name: "a parameter with a dot", args: []string{"-p", "pg_stat_statements.max=600", "-p", " work_mem='8MB'", "-q", "--force"}, out: changed,
			written: with(`500`, `600,"work_mem":"8MB"`)},
		{name: "the long way", args: []string{"-s", "postgresql.parameters.pg_stat_statements.max=600", "-q", "--force"}, out: changed, written: with(`500`, `600`)},
		{name: "emptied maps go", args: []string{"-p", "max_connections=null", "-p", "pg_stat_statements.max=", "-q", "--force"}, out: changed,
			written: with(`,"parameters":{"max_connections":100,"pg_stat_statements.max":500}`, ``)},
		{name: "new maps", args: []string{"-s", "a.b.c=[1, on, 1.0]", "-s", "a.d={e: x}", "-q", "--force"}, out: changed,
			written: with(`"x":1.5`, `"x":1.5,"a":{"b":{"c":[1,true,1.0]},"d":{"e":"x"}}`)},
		{name: "a map in place of a value", args: []string{"-s", "x.y=1", "-q", "--force"}, out: changed, written: with(`1.5`, `{"y":1}`)},
		{name: "nothing to remove", args: []string{"-s", "nosuch.key=null"}, out: "Not changed\n"},
		{name: "a slip of the pen", args: []string{"-s", "loop_wiat=3", "-q", "--force"}, out: changed,
			err: "Warning: /config: loop_wiat: unknown key, ignored; did you mean \"loop_wait\"?\n", written: with(`"x":1.5`, `"x":1.5,"loop_wiat":3`)},
		{name: "no value", args: []string{"-s", "ttl"}, code: 1, err: "Error: Invalid parameter setting ttl; write KEY=VALUE\n"},
		{name: "no YAML", args: []string{"-s", "ttl={"}, code: 1, err: "Error: value of ttl:1: a bracket, brace, quote or comma is missing; close what the lines above open, or put the value in quotes\n"},
		{name: "refused", args: []string{"-s", "ttl=soon", "--force"}, code: 1, err: "Error: /config: ttl: "},
		{name: "apply", args: []string{"--apply", file, "-q", "--force"}, out: changed,
			written: `{"ttl":40,"postgresql":{"use_slots":true,"parameters":{"max_connections":100,"pg_stat_statements.max":500,"wal_level":"logical"}},"x":1.5}`},
		{name: "apply from standard input", args: []string{"--apply", "-", "-q", "--force"}, typed: "ttl: 40\n", out: changed, written: with("30", "40")},
		{name: "standard input without force", args: []string{"--apply", "-"}, typed: "ttl: 40\n", out: ttl + "Use --force option to apply changes\n"},
		{name: "replace", args: []string{"--replace", file, "-q", "--force"}, out: changed,
			written: `{"ttl":40,"postgresql":{"parameters":{"max_connections":100,"wal_level":"logical"}}}`},
		{name: "replace, then set", args: []string{"--replace", "-", "-s", "ttl=50", "-q", "--force"}, typed: "{ttl: 40, x: 1}\n", out: changed, written: `{"ttl":50,"x":1}`},
		{name: "an empty file", args: []string{"--apply", "-"}, code: 1, err: "Error: standard input holds no settings; write \"key: value\" lines\n"},
		{name: "a list", args: []string{"--replace", "-"}, typed: "- a\n", code: 1, err: "Error: standard input holds no settings; write \"key: value\" lines\n"},
		{name: "no file", args: []string{"--apply", "/gone.yml"}, code: 1, err: "Error: read the settings: open /gone.yml: no such file or directory; name a YAML file\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app, fake := editing(t)
			app.answer(tc.typed)
			if code := app.run(append([]string{"edit-config"}, tc.args...)...); code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			if app.out.String() != tc.out || !strings.HasPrefix(app.err.String(), tc.err) || strings.Count(app.err.String(), "\n") > 1 {
				t.Errorf("got\n%s%s\nwant\n%s%s", app.out.String(), app.err.String(), tc.out, tc.err)
			}
			got := ""
			for _, w := range fake.writes {
				if got += string(w.Value); w.Key != dcs.KeyConfig || w.Revision == nil || *w.Revision != 1 {
					t.Errorf("write %+v", w)
				}
			}
			if got != tc.written {
				t.Errorf("wrote\n%s\nwant\n%s", got, tc.written)
			}
		})
	}
}

// TestEditByHand: what the editor leaves is what counts, and is not lost when
// it cannot be used.
func TestEditByHand(t *testing.T) {
	for _, tc := range []struct {
		name, script, typed string
		code                int
		out, err            string // parts
		written             string
		kept                bool
	}{
		{name: "changed", script: `sed -i s/30/40/ "$1"; echo '# why' >> "$1"`, typed: "y\n", out: "+# why\nApply these changes? [y/N]: Configuration changed\n",
			written: `{"loop_wait":10,"postgresql":{"parameters":{"max_connections":100,"pg_stat_statements.max":500},"use_slots":true},"ttl":40,"x":1.5}`},
		{name: "unchanged", script: "true", out: "Not changed\n"},
		{name: "declined", script: `sed -i s/30/40/ "$1"`, typed: "n\n", out: "Apply these changes? [y/N]: "},
		{name: "failed", script: "exit 3", code: 1, err: "Error: Editor exited with return code 3\n"},
		{name: "no YAML", script: `echo 'a: {' >> "$1"`, code: 1, err: "your text is kept in this file\n", kept: true},
		{name: "refused", script: `sed -i s/30/soon/ "$1"`, code: 1, err: "nothing was changed; your text is kept in ", kept: true},
		{name: "emptied", script: `: > "$1"`, code: 1, err: " holds no settings; ", kept: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app, fake := editing(t)
			script := writeFile(t, t.TempDir(), "editor.sh", tc.script)
			app.Environ = append(app.Environ, "EDITOR=sh "+script)
			typed, err := os.Open(writeFile(t, t.TempDir(), "typed", tc.typed)) // the editor's own standard input
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = typed.Close() }()
			app.In = typed
			if code := app.run("edit-config"); code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			if !strings.HasSuffix(app.out.String(), tc.out) || !strings.Contains(app.err.String(), tc.err) {
				t.Errorf("got\n%s%s", app.out.String(), app.err.String())
			}
			written := ""
			for _, w := range fake.writes {
				written += string(w.Value)
			}
			if written != tc.written {
				t.Errorf("wrote %s, want %s", written, tc.written)
			}
			left := drafts(t)
			if kept := len(left) == 1 && strings.Contains(app.err.String(), left[0]); kept != tc.kept || len(left) > 1 {
				t.Errorf("files left: %v", left)
			}
		})
	}
}

// TestEditConfigConcurrently: a change by somebody else wins, and the text of
// the editor stays.
func TestEditConfigConcurrently(t *testing.T) {
	app, fake := editing(t)
	fake.onRead = func(int) { fake.putErr = dcs.ErrConflict }
	app.Environ = append(app.Environ, "EDITOR=sh "+writeFile(t, t.TempDir(), "editor.sh", `sed -i s/30/40/ "$1"`))
	code := app.run("edit-config", "--force")
	left := drafts(t)
	if want := "Error: Config modification aborted due to concurrent changes; your text is kept in "; code != 1 || len(left) != 1 || app.err.String() != want+left[0]+"\n" {
		t.Errorf("exit %d, stderr %q, left %v", code, app.err.String(), left)
	}
}

func TestEditConfigWithoutOne(t *testing.T) {
	app := newTestApp(t, &fakeCluster{cluster: cluster(nil)})
	if code := app.run("edit-config", "-s", "ttl=30"); code != 1 || app.err.String() != "Error: The config key does not exist in the cluster pg-ha-cluster\n" {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

// TestDiffMatchesPython compares with what Python's difflib printed.
func TestDiffMatchesPython(t *testing.T) {
	data, err := os.ReadFile("testdata/difflib.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Before, After string
		Diff          []string
	}
	if err := json.Unmarshal(data, &cases); err != nil || len(cases) < 6 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for i, tc := range cases {
		app := newTestApp(t, nil)
		if err := app.showDiff(t.Context(), tc.Before, tc.After); err != nil {
			t.Fatal(err)
		}
		if got, want := app.out.String(), strings.Join(tc.Diff, "\n")+"\n"; got != want {
			t.Errorf("case %d: got\n%s\nwant\n%s", i, got, want)
		}
	}
}

// TestDiffOnATerminal goes through the pager, in colour.
func TestDiffOnATerminal(t *testing.T) {
	app := newTestApp(t, nil)
	app.Terminal = true
	app.Environ = []string{"PAGER=sed s/^/page:/"}
	if err := app.showDiff(t.Context(), "a: 1\nb: 1\n", "a: 1\nb: 2\n"); err != nil {
		t.Fatal(err)
	}
	want := "page:\x1b[1m--- \x1b[0m\npage:\x1b[1m+++ \x1b[0m\npage:\x1b[36m@@ -1,2 +1,2 @@\x1b[0m\npage: a: 1\npage:\x1b[31m-b: 1\x1b[0m\npage:\x1b[32m+b: 2\x1b[0m\n"
	if got := app.out.String(); got != want {
		t.Errorf("got %q", got)
	}
	app = newTestApp(t, nil)
	app.Terminal = true
	app.Environ = []string{fmt.Sprintf("PAGER=%s/nosuchpager", t.TempDir())}
	if got := app.pager(); len(got) > 0 && strings.Contains(got[0], "nosuchpager") {
		t.Errorf("pager %v", got)
	}
}
