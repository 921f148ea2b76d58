package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// recording is one command of a cli.txt: what real patronictl 4.1.4 was asked
// and what it answered.
type recording struct {
	args   string
	exit   string
	stdout string
	stderr string
}

// recordings reads a cli.txt. Each entry is "$ patronictl ARGS", "[exit N]",
// the output, an empty line; standard error follows a line "--- stderr".
func recordings(t *testing.T, file string) []recording {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []recording
	for _, part := range strings.Split("\n"+string(data), "\n$ patronictl ")[1:] {
		args, rest, _ := strings.Cut(part, "\n")
		exit, out, _ := strings.Cut(rest, "\n")
		out, stderr, _ := strings.Cut(out, "--- stderr\n")
		all = append(all, recording{args, exit, out, stderr})
	}
	return all
}

// trim removes the empty lines at the end, whose number the recording mixes
// with its own separators.
func trim(s string) string { return strings.TrimRight(s, "\n") }

const goldenBase = "/service/pg-ha-cluster"

// recordedCluster decodes the keys of a golden state.
func recordedCluster(t *testing.T, dir string) *dcs.Cluster {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "etcd.json"))
	if err != nil {
		t.Fatal(err)
	}
	var keys []struct{ Key, Value string }
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	var kvs []dcs.KV
	for _, k := range keys {
		kvs = append(kvs, dcs.KV{Key: k.Key, Value: []byte(k.Value), ModRevision: 1, CreateRevision: 1})
	}
	return dcs.Decode(goldenBase, kvs)
}

func goldenStates(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("testdata/golden/0*/etcd.json")
	if err != nil || len(dirs) != 7 {
		t.Fatalf("want the 7 recorded states that have keys, found %v (%v)", dirs, err)
	}
	for i := range dirs {
		dirs[i] = filepath.Dir(dirs[i])
	}
	return dirs
}

// words splits a recorded command line; the only argument with blanks is SQL.
func words(line string) []string {
	const sql = "select 1 as one"
	args := strings.Fields(strings.Replace(line, sql, "SQL", 1))
	for i := range args {
		args[i] = strings.Replace(args[i], "SQL", sql, 1)
	}
	return args
}

// statusOf answers GET /patroni as the recorded members did; pg-db-02 of the
// seventh state does not answer.
type statusOf struct{ state string }

func (s statusOf) Get(_ context.Context, url string) (int, string, error) {
	if strings.HasPrefix(s.state, "07") && strings.Contains(url, "192.0.2.2") {
		return 0, "", errors.New("connection refused")
	}
	return 200, `{"server_version": 150020, "patroni": {"version": "4.1.4"}}`, nil
}

func (statusOf) Send(context.Context, string, string, string, any) (int, string, error) {
	return 0, "", errors.New("a recorded refusal asks no member")
}

func (statusOf) Post(context.Context, string, string, any) (int, string, error) {
	return 0, "", errors.New("a recorded refusal asks no member")
}

// TestMatchesPatronictl gives the recorded keys of each state to every command
// that was recorded there and compares exit code, output and reasons, byte by
// byte. Where ours differ on purpose, matches says how.
func TestMatchesPatronictl(t *testing.T) {
	compared := 0
	for _, dir := range goldenStates(t) {
		state := filepath.Base(dir)
		for _, rec := range recordings(t, filepath.Join(dir, "cli.txt")) {
			args := words(rec.args)
			if args[0] == "query" {
				continue // TestQueryMatchesPatronictl
			}
			compared++
			t.Run(state+"/"+rec.args, func(t *testing.T) {
				fake := &fakeCluster{cluster: recordedCluster(t, dir)}
				switch {
				case strings.HasSuffix(rec.args, "other-cluster"), strings.Contains(rec.args, "wrong-cluster"):
					fake.cluster = &dcs.Cluster{}
				case state == healthy && args[0] != "list":
					fake.cluster = clusterAt(t, healthy, 0x4000060)
				}
				app := newTestApp(t, fake)
				app.newAPI = func(*config.Local, bool) (memberAPI, error) { return statusOf{state}, nil }
				code := app.run(args...)
				if got := fmt.Sprintf("[exit %d]", code); got != rec.exit {
					t.Errorf("got %s, want %s; stderr %q", got, rec.exit, app.err.String())
				}
				matches(t, rec, app)
				if len(fake.writes) > 0 {
					t.Errorf("wrote %v", fake.writes)
				}
			})
		}
	}
	if compared < 7*14+11 {
		t.Errorf("compared %d recordings", compared)
	}
}

// matches compares what was printed with the recording.
func matches(t *testing.T, rec recording, app *testApp) {
	t.Helper()
	out, err := trim(app.out.String()), trim(app.err.String())
	wantOut, wantErr := trim(rec.stdout), trim(rec.stderr)
	switch {
	case strings.HasPrefix(rec.args, "version"):
		// Our name stands in the first line; the text of a failed connection is
		// not Python's, and nothing is logged beside it.
		_, out, _ = strings.Cut(out, "\n")
		_, wantOut, _ = strings.Cut(wantOut, "\n")
		out, wantOut, wantErr = withoutCause(out), withoutCause(wantOut), ""
	case strings.HasPrefix(rec.args, "nonexistent"):
		wantErr = `Error: no such command "nonexistent" ("pghactl --help" lists them)`
	}
	if out != wantOut {
		t.Errorf("got\n%s\nwant\n%s", out, wantOut)
	}
	if err != wantErr {
		t.Errorf("stderr %q, want %q", err, wantErr)
	}
}

// withoutCause cuts the lines that report a failure after their first words.
func withoutCause(text string) string {
	const failure = "failed to get version: "
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if head, _, failed := strings.Cut(line, failure); failed {
			lines[i] = head + failure
		}
	}
	return strings.Join(lines, "\n")
}
