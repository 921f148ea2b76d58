package ctl

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// oneLineOf checks that a command failed with one line that says all of words
// in their order, and returns it.
func oneLineOf(t *testing.T, app *testApp, code int, words ...string) {
	t.Helper()
	text := app.err.String()
	rest := text
	for _, word := range words {
		_, after, ok := strings.Cut(rest, word)
		if !ok {
			t.Errorf("no %q at its place in %q", word, text)
		}
		rest = after
	}
	if code != exitError || strings.Count(text, "\n") != 1 || strings.Contains(text, "goroutine") {
		t.Errorf("exit %d, %q", code, text)
	}
}

// everyCommand is a command line of each command that needs the cluster, made
// so that it asks nothing.
var everyCommand = []string{
	"list", "list --all", "topology", "history", "show-config", "dsn", "query -c x", "version x",
	"pause", "resume", "reload x --force", "restart x --force", "flush x restart --force", "flush x switchover",
	"edit-config -s ttl=30 --force", "switchover --force", "failover --candidate a --force", "reinit x a --force", "remove x",
	"demote-cluster --host h --force", "promote-cluster --force", "backup list", "restore --to-latest --force",
}

// TestFrozenEtcd is the eighth recorded state, where patronictl hangs: an etcd
// that takes connections and answers nothing.
func TestFrozenEtcd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	// All at once: each waits for as long as etcd is given.
	apps, codes := make([]*testApp, len(everyCommand)), make([]int, len(everyCommand))
	start := time.Now()
	var wg sync.WaitGroup
	for i, line := range everyCommand {
		apps[i] = newTestApp(t, nil)
		apps[i].Environ = []string{"PATRONI_SCOPE=x", "PATRONI_ETCD3_HOST=" + l.Addr().String()}
		wg.Go(func() { codes[i] = apps[i].run(strings.Fields(line)...) })
	}
	wg.Wait()
	if took := time.Since(start); took > dcsTimeout+10*time.Second {
		t.Errorf("took %v", took)
	}
	for i, line := range everyCommand {
		t.Run(line, func(t *testing.T) {
			oneLineOf(t, apps[i], codes[i], "Error: ", "cluster ", "http://"+l.Addr().String(), "etcd unavailable", "check that etcd runs there")
		})
	}
}

// TestDeadEtcd: nobody listens.
func TestDeadEtcd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	app := newTestApp(t, nil)
	app.Environ = []string{"PATRONI_SCOPE=x", "PATRONI_ETCD3_HOST=" + l.Addr().String()}
	oneLineOf(t, app, app.run("pause"), "Error: cannot read cluster x in etcd at http://"+l.Addr().String(), "from the environment",
		"): etcd unavailable: "+l.Addr().String()+": connection refused; check that etcd runs there")
}

// TestEtcdRefuses: a wrong password, or a user that may not, for every command.
func TestEtcdRefuses(t *testing.T) {
	for _, line := range everyCommand {
		app := newTestApp(t, &fakeCluster{err: dcs.ErrRejected})
		oneLineOf(t, app, app.run(strings.Fields(line)...), "Error: cannot read cluster ", "refused by etcd; check the user, the password and the permissions")
	}
	// It may read, and not write.
	for line, typed := range map[string]string{
		"edit-config -s ttl=31 --force": "",
		"remove pg-ha-cluster":          "pg-ha-cluster\nYes I am aware\npg-db-02\n",
	} {
		app := newTestApp(t, &fakeCluster{cluster: clusterAt(t, healthy, 1), putErr: dcs.ErrRejected, removeErr: dcs.ErrRejected})
		app.answer(typed)
		oneLineOf(t, app, app.run(strings.Fields(line)...), "Error: cannot ", "cluster pg-ha-cluster", "refused by etcd; check the user, the password and the permissions")
	}
}

// TestNumbers: an option that wants a number is given something else.
func TestNumbers(t *testing.T) {
	for _, line := range []string{"list -w soon", "list --group x", "events -n 1.5"} {
		app := newTestApp(t, nil)
		if code := app.run(strings.Fields(line)...); code != exitUsage || !strings.Contains(app.err.String(), "flag: a number is wanted; see \"pghactl ") {
			t.Errorf("%s: exit %d, %q", line, code, app.err.String())
		}
	}
}

// TestMissingFile: the file that was named, and what to do.
func TestMissingFile(t *testing.T) {
	app := newTestApp(t, nil)
	oneLineOf(t, app, app.run("-c", "/nonexistent.yml", "list"), "Error: read configuration: /nonexistent.yml: no such file or directory; name an existing file with -c")
}

// TestEtcdTLS: certificates that cannot be read, and a server that has none.
func TestEtcdTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Second}
	go func() { _ = plain.Serve(l) }()
	t.Cleanup(func() { _ = plain.Close() })
	for name, tc := range map[string]struct {
		environ string
		words   []string
	}{
		"missing authority": {"PATRONI_ETCD3_CACERT=/gone/ca.crt", []string{"/gone/ca.crt", "no such file"}},
		"not TLS":           {"PATRONI_ETCD3_PROTOCOL=https", []string{"https://" + l.Addr().String()}},
	} {
		t.Run(name, func(t *testing.T) {
			app := newTestApp(t, nil)
			app.Environ = []string{"PATRONI_SCOPE=x", "PATRONI_ETCD3_HOST=" + l.Addr().String(), tc.environ}
			oneLineOf(t, app, app.run("list"), append([]string{"Error: "}, tc.words...)...)
		})
	}
}

// TestMemberErrors: a REST API that is not there, whose certificate nobody
// vouches for, or that speaks no TLS.
func TestMemberErrors(t *testing.T) {
	quiet := func(srv *httptest.Server) *httptest.Server {
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		t.Cleanup(srv.Close)
		return srv
	}
	secure := quiet(httptest.NewUnstartedServer(http.NotFoundHandler()))
	secure.StartTLS()
	plain := quiet(httptest.NewUnstartedServer(http.NotFoundHandler()))
	plain.Start()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, tc := range map[string]struct {
		url   string
		words []string
	}{
		"not there":   {gone.URL, []string{"connection refused", "check that its agent runs"}},
		"not trusted": {secure.URL, []string{"x509: ", "set ctl.cacert", "-k"}},
		"not TLS":     {strings.Replace(plain.URL, "http:", "https:", 1), []string{"HTTP response to HTTPS client"}},
		"not HTTP":    {"ftp://x", []string{"unsupported protocol"}},
		"no URL":      {"http://[", []string{"missing ']'"}},
	} {
		for _, line := range []string{"reload pg-ha-cluster pg-db-01 --force", "restart pg-ha-cluster pg-db-01 --force", "reinit pg-ha-cluster pg-db-01 --force"} {
			t.Run(name+"/"+line, func(t *testing.T) {
				c := clusterAt(t, healthy, 1)
				c.Member("pg-db-01").APIURL = tc.url
				app := newTestApp(t, &fakeCluster{cluster: c})
				oneLineOf(t, app, app.run(strings.Fields(line)...), append([]string{"Error: member pg-db-01 does not answer: "}, tc.words...)...)
			})
		}
	}
}

// TestWrongCluster: a name nobody has. What only shows shows nothing; orders
// are refused, and nothing is written.
func TestWrongCluster(t *testing.T) {
	for line, want := range map[string]string{
		"pause nowhere":                    "Error: Can not find accessible cluster member\n",
		"resume nowhere":                   "Error: Cluster is not paused\n",
		"reload nowhere --force":           "Error: nowhere cluster doesn't have any members\n",
		"restart nowhere --force":          "Error: nowhere cluster doesn't have any members\n",
		"reinit nowhere --force":           "Error: nowhere cluster doesn't have any members\n",
		"flush nowhere restart --force":    "Error: nowhere cluster doesn't have any members\n",
		"switchover nowhere --force":       "Error: This cluster has no leader\n",
		"failover nowhere --force":         "Error: No candidates found to failover to\n",
		"dsn nowhere":                      "Error: Can not find a suitable member\n",
		"edit-config nowhere -s a=1":       "Error: The config key does not exist in the cluster nowhere\n",
		"promote-cluster nowhere --force":  "Error: Cluster has no leader, promotion is not possible\n",
		"demote-cluster nowhere --port 1":  "Error: Cluster has no leader, demotion is not possible\n",
		"restart nowhere somebody --force": "Error: No any among provided members\n",
	} {
		fake := &fakeCluster{cluster: &dcs.Cluster{}}
		app := newTestApp(t, fake)
		code := app.run(strings.Fields(line)...)
		oneLineOf(t, app, code, want)
		if len(fake.writes) > 0 {
			t.Errorf("%s wrote %v", line, fake.writes)
		}
	}
}

// TestMissingArguments: what every command needs is named.
func TestMissingArguments(t *testing.T) {
	for _, command := range []string{"reload", "restart", "reinit", "flush", "remove"} {
		app := newTestApp(t, nil)
		if code := app.run(command); code != exitUsage || !strings.Contains(app.err.String(), "usage: pghactl "+command+" CLUSTER") {
			t.Errorf("%s: exit %d, %q", command, code, app.err.String())
		}
	}
}

// TestCertificateCures: what is wrong with a certificate has a cure of its own.
func TestCertificateCures(t *testing.T) {
	for want, cause := range map[string]error{
		"subjectAltName":     x509.HostnameError{Certificate: &x509.Certificate{}, Host: "pg1"},
		"renew":              x509.CertificateInvalidError{Reason: x509.Expired},
		"set ctl.cacert":     x509.UnknownAuthorityError{},
		"set ctl.cacert to ": x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign},
	} {
		if got := cureOf(fmt.Errorf("post: %w", &tls.CertificateVerificationError{Err: cause})); !strings.Contains(got, want) {
			t.Errorf("%v: %q does not say %q", cause, got, want)
		}
	}
}
