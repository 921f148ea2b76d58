package ctl

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

// explainer answers as a member's REST API would.
type explainer struct {
	status int
	body   string
	asked  string
}

func (e *explainer) Get(_ context.Context, url string) (int, string, error) {
	e.asked = url
	return e.status, e.body, nil
}

func (e *explainer) Post(context.Context, string, string, any) (int, string, error) { panic("unused") }

func (e *explainer) Send(context.Context, string, string, string, any) (int, string, error) {
	panic("unused")
}

func TestConfigExplain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "patroni.yml")
	if err := os.WriteFile(path, []byte("scope: pg-ha-cluster\nname: node1\netcd3: {host: h}\npostgresql:\n  parameters:\n    work_mem: 9MB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{
		"config": `{"ttl":25,"postgresql":{"parameters":{"max_connections":200}}}`,
		"members/node1": `{"conn_url":"postgres://10.0.0.1:5432/postgres","api_url":"http://10.0.0.1:8008/patroni","state":"running","role":"replica",` +
			`"pending_restart":true,"pending_restart_reason":{"max_connections":{"old_value":"100","new_value":"200"}}}`,
	}
	remote := `[{"key":"ttl","value":7,"source":"dynamic","origin":"/config"}]`
	for _, c := range []struct {
		args string
		api  *explainer
		code int
		want string // of standard output, or in standard error
	}{
		{args: "postgresql.parameters.work_mem", want: "postgresql.parameters.work_mem = 9MB\n  from: " + path + ":6\n"},
		{args: "postgresql.parameters.max_connections", want: "postgresql.parameters.max_connections = 200\n  from: /config\n  pending restart: 100 -> 200\n"},
		{args: "namespace", want: "namespace = service\n  from: default\n"},
		{args: "retry_timeout", want: "retry_timeout = 10\n  from: default\n"},
		{args: "postgresql.parameters.port", want: "postgresql.parameters.port = 5432\n  from: forced\n  taken from postgresql.listen\n"},
		{args: "ttl --format json", want: "[\n  {\n    \"key\": \"ttl\",\n    \"value\": 25,\n    \"source\": \"dynamic\",\n    \"origin\": \"/config\"\n  }\n]\n"},
		{args: "etcd3", want: "+----------------+-------+", code: 0},
		{args: "workmem", code: 1, want: "Error: workmem is not set, has no default, or is no setting"},
		{args: "work_mem", code: 1, want: "did you mean postgresql.parameters.work_mem?"},
		{args: "ttl -f yaml", code: 2, want: "choose pretty or json"},
		{args: "ttl loop_wait", code: 2, want: `Error: unexpected argument "loop_wait"; usage: pghactl config explain [KEY]`},
		{args: "ttl -m node1", api: &explainer{status: 200, body: remote}, want: "ttl = 7\n  from: /config\n"},
		{args: "ttl -m node9", api: &explainer{}, code: 1, want: "there is no member node9"},
		{args: "ttl -m node1", api: &explainer{status: 401, body: "no auth header received"}, code: 1, want: "set ctl.authentication"},
		{args: "ttl -m node1", api: &explainer{status: 503, body: "{}"}, code: 1, want: "may be a member that runs Patroni"},
	} {
		app := newTestApp(t, &fakeCluster{cluster: cluster(keys)})
		app.Environ = nil
		if c.api != nil {
			app.newAPI = func(*config.Local, bool) (memberAPI, error) { return c.api, nil }
		}
		code := app.run(append([]string{"-c", path, "config", "explain"}, strings.Fields(c.args)...)...)
		out := app.out.String()
		ok := code == c.code
		switch {
		case code != 0:
			ok = ok && strings.Contains(app.err.String(), c.want) && strings.Count(app.err.String(), "\n") == 1
		case strings.HasPrefix(c.want, "+"):
			ok = ok && strings.HasPrefix(out, c.want)
		default:
			ok = ok && out == c.want
		}
		if !ok {
			t.Errorf("%s: exit %d\n%s%s\nwant %s", c.args, code, out, app.err.String(), c.want)
		}
		if c.api != nil && c.api.asked != "" && c.api.asked != "http://10.0.0.1:8008/explain" {
			t.Errorf("asked %s", c.api.asked)
		}
	}
	app := newTestApp(t, &fakeCluster{cluster: cluster(keys)})
	if code := app.run("config", "explain", "-f", "json"); code != 0 || !json.Valid(app.out.Bytes()) {
		t.Errorf("everything: exit %d\n%s", code, app.out.String())
	}
}
