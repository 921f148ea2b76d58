package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every variable is set alone and must arrive at its key.
func TestEveryVariable(t *testing.T) {
	values := map[envKind]string{envString: "text", envInt: "7", envBool: "on", envList: "a, 'b'", envMap: "a: b", envFormat: "asctime, message"}
	want := map[envKind]string{envString: `"text"`, envInt: "7", envBool: "true", envList: `["a","b"]`, envMap: `{"a":"b"}`, envFormat: `["asctime","message"]`}
	schema := &checker{spec: localSpec()}
	for _, v := range envTable() {
		for _, name := range []string{v.name, v.legacy} {
			if name == "" {
				continue
			}
			environ := []string{envPrefix + name + "=" + values[v.kind]}
			if kind, _, ok := strings.Cut(v.path, "."); ok && strings.HasPrefix(kind, "etcd") {
				environ = append(environ, envPrefix+strings.ToUpper(kind)+"_SRV=text")
			}
			tree, ps := environTree(environ)
			got := tree.get(strings.Split(v.path, ".")...)
			if got == nil || string(got.json()) != want[v.kind] || len(ps) != 0 {
				t.Errorf("%s: %v %s %v", name, got, got.json(), ps)
			}
			if ps := unknownEnv(environ); len(ps) != 0 {
				t.Errorf("%s: %v", name, ps)
			}
		}
		s := schema.specAt(v.path)
		if s == nil {
			t.Errorf("%s: %s is not in the schema", v.name, v.path)
		}
	}
	if n := len(envTable()); n != 119 {
		t.Errorf("%d variables; count again in wire contract §2", n)
	}
}

func TestEnvironmentPrecedenceAndRules(t *testing.T) {
	l, ps := mustParse(t, minimal+"log: {level: DEBUG}\n",
		"PATRONI_NAME=env", "PATRONI_SCOPE=", "PATRONI_LOGLEVEL=ERROR", "PATRONI_LOG_LEVEL=WARN", "PATRONI_LOG_FORMAT=%(message)s",
		"PATRONI_RESTAPI_PASSWORD=pw", "PATRONI_RESTAPI_USERNAME=u", "PATRONI_LOG_MODE=0644", "OTHER=1",
		"PATRONI_ETCD_USERNAME=lonely", "PATRONI_LOG_FILE_NUM=many", "PATRONI_CTL_INSECURE=maybe", "PATRONI_RESTAPI_ALLOWLIST=[", "PATRONI_SCOOPE=x", "PATRONI_CONSUL_HOST=x")
	if l.Name != "env" || l.Scope != "s" || l.Log.Level != "WARNING" || l.Log.Format != "%(message)s" || l.Log.Mode != 0o644 {
		t.Errorf("%+v", l)
	}
	if l.Ctl.Username != "u" || l.Ctl.Password.Reveal() != "pw" || !l.RestAPI.AuthConfigured() {
		t.Errorf("%+v", l.Ctl)
	}
	if l.Etcd.Kind != "etcd3" {
		t.Error("etcd credentials alone made a section")
	}
	if got := l.Origin("name"); got != "environment PATRONI_NAME" {
		t.Error(got)
	}
	got := lines(ps)
	for _, want := range []string{
		"warning: environment: PATRONI_LOG_FILE_NUM: ignored: needs a whole number", "PATRONI_CTL_INSECURE: ignored: needs true or false",
		"PATRONI_RESTAPI_ALLOWLIST: ignored: needs a list", `PATRONI_SCOOPE: unknown variable, ignored; did you mean PATRONI_SCOPE?`, "PATRONI_CONSUL_HOST: ignored: etcd v3 is the only store",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %s in\n%s", want, got)
		}
	}
	if len(ps) != 5 {
		t.Error(got)
	}
}

func TestWrongTypeFromEnvironmentNamesTheVariable(t *testing.T) {
	_, ps := mustParse(t, minimal, "PATRONI_POSTGRESQL_LISTEN=a:b")
	if got := lines(ps); !strings.Contains(got, `error: environment PATRONI_POSTGRESQL_LISTEN: postgresql.listen: "a:b" is not an address`) {
		t.Error(got)
	}
}

// The sources may not read the process environment behind the caller's back.
func TestNoHiddenInputs(t *testing.T) {
	files, _ := os.ReadDir(".")
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(`os\.(Getenv|Environ|LookupEnv)|time\.Now`).Find(data); m != nil {
			t.Errorf("%s uses %s", f.Name(), m)
		}
	}
}
