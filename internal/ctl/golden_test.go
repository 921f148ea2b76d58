package ctl

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	dirs, err := filepath.Glob("testdata/golden/0*")
	if err != nil || len(dirs) != 7 {
		t.Fatalf("want the 7 recorded states, found %v (%v)", dirs, err)
	}
	return dirs
}

// TestListMatchesPatronictl feeds the recorded keys of each state to the same
// list commands and compares every byte.
func TestListMatchesPatronictl(t *testing.T) {
	compared := 0
	for _, dir := range goldenStates(t) {
		cluster := recordedCluster(t, dir)
		for _, rec := range recordings(t, filepath.Join(dir, "cli.txt")) {
			args := strings.Fields(rec.args)
			if args[0] != "list" {
				continue
			}
			compared++
			t.Run(filepath.Base(dir)+"/"+rec.args, func(t *testing.T) {
				fake := &fakeCluster{cluster: cluster}
				if args[len(args)-1] == "other-cluster" {
					fake.cluster = &dcs.Cluster{}
				}
				app := newTestApp(t, fake)
				if code := app.run(args...); code != 0 {
					t.Fatalf("exit %d: %s", code, app.err.String())
				}
				if got, want := trim(app.out.String()), trim(rec.stdout); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
	if compared < 7*6 {
		t.Errorf("compared %d recordings, want at least six per state", compared)
	}
}
