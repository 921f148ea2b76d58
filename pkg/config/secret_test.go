package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const canary = "hunter2-canary"

func TestSecretNeverPrints(t *testing.T) {
	s := Secret(canary)
	nested := struct {
		Auth Auth
		Map  map[string]Secret
		Ptr  *Secret
	}{Auth{Username: "u", Password: s}, map[string]Secret{"p": s}, &s}
	var out []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T%v"} {
		out = append(out, fmt.Sprintf(verb, s), fmt.Sprintf(verb, nested))
	}
	j, err := json.Marshal(nested)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(nested)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, l := range []*slog.Logger{slog.New(slog.NewTextHandler(&log, nil)), slog.New(slog.NewJSONHandler(&log, nil))} {
		l.Info("m", "s", s, "nested", nested, "err", fmt.Errorf("bad %v", s))
	}
	out = append(out, string(j), string(y), log.String(), errors.New("x "+s.String()).Error())
	for _, o := range out {
		if strings.Contains(o, canary) || strings.Contains(o, fmt.Sprintf("%x", canary)) {
			t.Errorf("secret leaks in %s", o)
		}
	}
	if s.Reveal() != canary || !strings.Contains(string(j), redacted) {
		t.Error("secret lost")
	}
}

// A configuration whose every secret is the canary, with mistakes around them.
const secretYAML = `
scope:
  x: 1
restapi: {listen: "1.2.3.4", keyfile_password: {a: ` + canary + `}, authentication: {username: u, password: [` + canary + `]}}
ctl: {authentication: {password: ` + canary + `, pasword: ` + canary + `}}
etcd3: {url: "http://u:` + canary + `@[bad", password: ` + canary + `, proxy: "` + canary + `"}
postgresql:
  authentication:
    superuser: {username: p, password: ` + canary + `, sslpassword: ` + canary + `}
    replication: "password:` + canary + `"
`

func TestNoSecretInProblemsOrPrintedConfig(t *testing.T) {
	l, ps, err := Parse([]byte(secretYAML), []string{"PATRONI_REWIND_PASSWORD=" + canary})
	if err != nil {
		t.Fatal(err)
	}
	if len(ps) < 5 {
		t.Errorf("only %d problems", len(ps))
	}
	l.root = nil
	text := fmt.Sprintf("%v %+v", ps, *l)
	if strings.Contains(text, canary) {
		t.Errorf("secret leaks: %s", text)
	}
	_, ps, _ = Parse([]byte("scope:x\nrestapi:\n  authentication:\n    password:"+canary+"\n"), nil)
	if text := fmt.Sprint(ps); strings.Contains(text, canary) {
		t.Errorf("secret leaks: %s", text)
	}
}
