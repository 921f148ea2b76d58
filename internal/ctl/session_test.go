package ctl

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// writeFile makes a file below dir and returns its path.
func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestConfigurationLookup: which etcd and which cluster a command line means.
func TestConfigurationLookup(t *testing.T) {
	dir := t.TempDir()
	conf := func(host string) string {
		return "scope: demo\nnamespace: /db/\nname: n\netcd3:\n  host: " + host + "\n"
	}
	file := writeFile(t, dir, "patroni.yml", conf("file:1"))
	other := writeFile(t, dir, "other.yml", conf("other:1"))
	writeFile(t, dir, "home/.config/patroni/patronictl.yaml", conf("home:1"))
	writeFile(t, dir, "xdg/patroni/patronictl.yaml", conf("xdg:1"))
	home := "HOME=" + filepath.Join(dir, "home")

	for _, tc := range []struct {
		name    string
		environ []string
		args    []string
		want    string // endpoint base
	}{
		{"option", []string{home, "PATRONICTL_CONFIG_FILE=" + other}, []string{"-c", file, "list"}, "http://file:1 /db/demo"},
		{"option after the command", nil, []string{"list", "-c", file}, "http://file:1 /db/demo"},
		{"variable", []string{home, "PATRONICTL_CONFIG_FILE=" + other}, []string{"list"}, "http://other:1 /db/demo"},
		{"default place", []string{home}, []string{"list"}, "http://home:1 /db/demo"},
		{"XDG_CONFIG_HOME", []string{home, "XDG_CONFIG_HOME=" + filepath.Join(dir, "xdg")}, []string{"list"}, "http://xdg:1 /db/demo"},
		{"environment over file", []string{"PATRONI_SCOPE=envscope"}, []string{"-c", file, "list"}, "http://file:1 /db/envscope"},
		{"environment alone", []string{"PATRONI_SCOPE=s", "PATRONI_ETCD3_HOST=env:1"}, []string{"list"}, "http://env:1 /service/s"},
		{"named cluster", nil, []string{"-c", file, "list", "x"}, "http://file:1 /db/x"},
		{"dcs over file", []string{"DCS_URL=unused:1"}, []string{"-c", file, "-d", "etcd3://d:5", "list"}, "http://d:5 /db/demo"},
		{"dcs variable", []string{"DCS_URL=d:6"}, []string{"-c", file, "list"}, "http://d:6 /db/demo"},
		{"dcs alone", nil, []string{"--dcs", "etcd://d/ns", "list", "x"}, "http://d:2379 /ns/x"},
		{"dcs without a host", nil, []string{"--dcs-url", "etcd3://", "list", "x"}, "http://localhost:2379 /service/x"},
		{"dcs without its scheme", nil, []string{"-d", "//h:7/ns", "list", "x"}, "http://h:7 /ns/x"},
		{"dcs, port alone", nil, []string{"-d", ":7", "list", "x"}, "http://localhost:7 /service/x"},
		{"dcs with IPv6", nil, []string{"-d", "[::1]:7", "list", "x"}, "http://[::1]:7 /service/x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app := newTestApp(t, nil)
			app.Environ = tc.environ
			got := ""
			app.openCluster = func(_ context.Context, l *config.Local, scope string) (clusterStore, error) {
				got = strings.Join(l.Etcd.Endpoints(), ",") + " " + dcs.Base(l.Namespace, scope)
				return &fakeCluster{cluster: &dcs.Cluster{}}, nil
			}
			if code := app.run(tc.args...); code != 0 {
				t.Fatalf("exit %d: %s", code, app.err.String())
			}
			if got != tc.want {
				t.Errorf("asked %s, want %s", got, tc.want)
			}
		})
	}
}

// TestErrors: every mistake gives its exit code and one line that says what to
// do about it.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	noEtcd := writeFile(t, dir, "noetcd.yml", "scope: demo\nname: n\n")
	noScope := writeFile(t, dir, "noscope.yml", "name: n\netcd3: {host: h}\n")
	broken := writeFile(t, dir, "broken.yml", "scope: demo\nname: [\n")
	for _, tc := range []struct {
		name string
		args []string
		code int
		want []string // in this order
	}{
		{"unknown command", []string{"swichover"}, 2, []string{"Error: ", "swichover", "did you mean switchover?"}},
		{"nothing like it", []string{"qqqqqq"}, 2, []string{"Error: ", "qqqqqq", "--help"}},
		{"unknown option", []string{"list", "--bogus"}, 2, []string{"Error: ", "--bogus", "list --help"}},
		{"bad format", []string{"list", "-f", "xml"}, 2, []string{"Error: ", "xml", "pretty, tsv, json, yaml"}},
		{"bad interval", []string{"list", "-w", "-1"}, 2, []string{"Error: ", "-w needs"}},
		{"too many arguments", []string{"failover", "a", "b"}, 2, []string{"Error: ", `"b"`, "failover [CLUSTER]"}},
		{"no cluster to switch", []string{"-c", noScope, "switchover"}, 2, []string{"Error: ", "no scope", "switchover CLUSTER"}},
		{"no configuration", []string{"list"}, 1, []string{"Error: no configuration", "-c ", "-d ", "PATRONICTL_CONFIG_FILE"}},
		{"missing file", []string{"-c", dir + "/gone.yml", "list"}, 1, []string{"Error: ", "gone.yml", "-c"}},
		{"broken file", []string{"-c", broken, "list"}, 1, []string{"Error: ", "broken.yml", "; "}},
		{"no etcd section", []string{"-c", noEtcd, "list"}, 1, []string{"Error: ", "noetcd.yml", "etcd3", "-d"}},
		{"other DCS", []string{"-d", "consul://h", "list", "x"}, 1, []string{"Error: ", "consul", "etcd3://"}},
		{"password on the command line", []string{"-d", "etcd3://u:geheim@h", "list", "x"}, 2, []string{"Error: ", "configuration file"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app := newTestApp(t, &fakeCluster{err: errors.New("must not be asked")})
			app.Environ = nil
			if code := app.run(tc.args...); code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			text := app.err.String()
			rest := text
			for _, part := range tc.want {
				_, after, ok := strings.Cut(rest, part)
				if !ok {
					t.Fatalf("no %q at its place in %q", part, text)
				}
				rest = after
			}
			if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
				t.Errorf("want one line, got %q", text)
			}
			if strings.Contains(text, "geheim") {
				t.Errorf("the password shows in %q", text)
			}
			if app.out.Len() > 0 {
				t.Errorf("printed %q", app.out.String())
			}
		})
	}
}

// TestListWithoutCluster: a warning, and no failure.
func TestListWithoutCluster(t *testing.T) {
	app := newTestApp(t, &fakeCluster{err: errors.New("must not be asked")})
	app.Environ = []string{"DCS_URL=h:1"}
	want := "2026-11-22 08:03:57,478 - WARNING - Listing members: No cluster names were provided\n"
	if code := app.run("list"); code != 0 || app.err.String() != want {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

// TestDCSErrors: the endpoints and the cure are named; a refusal is no matter
// of reachability.
func TestDCSErrors(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want []string
	}{
		{dcs.ErrUnavailable, []string{"pg-ha-cluster", "http://127.0.0.1:24500", "etcd unavailable", "check that etcd runs"}},
		{dcs.ErrRejected, []string{"http://127.0.0.1:24500", "refused by etcd", "password"}},
	} {
		app := newTestApp(t, &fakeCluster{err: tc.err})
		if code := app.run("list"); code != 1 {
			t.Errorf("exit %d", code)
		}
		for _, part := range tc.want {
			if !strings.Contains(app.err.String(), part) {
				t.Errorf("no %q in %q", part, app.err.String())
			}
		}
	}
}

// TestInterruptDuringRead: Ctrl-C is no failure of etcd.
func TestInterruptDuringRead(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fake := &fakeCluster{err: dcs.ErrUnavailable, onRead: func(int) { cancel() }}
	app := newTestApp(t, fake)
	app.ctx = ctx
	if code := app.run("list"); code != 1 || app.err.String() != "Aborted!\n" {
		t.Errorf("exit %d, stderr %q", code, app.err.String())
	}
}

func TestNoCommandShowsHelp(t *testing.T) {
	app := newTestApp(t, nil)
	if code := app.run(); code != 0 || !strings.Contains(app.out.String(), "switchover") {
		t.Errorf("exit %d, output %q", code, app.out.String())
	}
}

// TestInsecure: -k is or-ed with ctl.insecure.
func TestInsecure(t *testing.T) {
	c := clusterAt(t, healthy, 0x4000060)
	for _, tc := range []struct {
		args []string
		want bool
	}{
		{[]string{"version", "x"}, false},
		{[]string{"-k", "version", "x"}, true},
		{[]string{"version", "--insecure", "x"}, true},
	} {
		app := newTestApp(t, &fakeCluster{cluster: c})
		got := !tc.want
		app.newAPI = func(_ *config.Local, insecure bool) (memberAPI, error) {
			got = insecure
			return nil, errors.New("stop here")
		}
		app.run(tc.args...)
		if got != tc.want {
			t.Errorf("%v: insecure %v", tc.args, got)
		}
	}
}

// TestRESTVerification: a certificate nobody vouches for is refused, unless
// the option or the configuration says otherwise.
func TestRESTVerification(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	for _, tc := range []struct{ option, configured, ok bool }{
		{false, false, false}, {true, false, true}, {false, true, true},
	} {
		api, err := newRESTClient(&config.Local{Ctl: config.Ctl{Insecure: tc.configured}}, tc.option)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := api.Get(t.Context(), srv.URL); (err == nil) != tc.ok {
			t.Errorf("-k %v, ctl.insecure %v: %v", tc.option, tc.configured, err)
		}
	}
}
