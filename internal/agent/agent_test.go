package agent

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/logging"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/restapi"
)

// logTo returns a logger that writes into out, and what waits until it has.
func logTo(t *testing.T, out *bytes.Buffer) (log *slog.Logger, flush func()) {
	l := logging.New(out, config.Log{Level: "INFO"})
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	flush = func() {
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return l.Logger(), flush
}

func TestSecretsAreNotLogged(t *testing.T) {
	var out bytes.Buffer
	log, flush := logTo(t, &out)
	log.Info("configured", "password", config.Secret("hunter22"))
	flush()
	if strings.Contains(out.String(), "hunter22") {
		t.Fatalf("leaked: %s", out.String())
	}
}

func TestHolderSurvivesRestartsAndIsNotInTheDataDirectory(t *testing.T) {
	dir := t.TempDir()
	data, run := filepath.Join(dir, "data"), t.TempDir()
	first, err := loadHolder(data, run)
	if err != nil || len(first) != 32 {
		t.Fatalf("got %q, %v", first, err)
	}
	if again, err := loadHolder(data, run); err != nil || again != first {
		t.Fatalf("got %q, %v after a restart, want %q", again, err, first)
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Fatal("the data directory was touched")
	}
	if other, _ := loadHolder(filepath.Join(t.TempDir(), "data"), t.TempDir()); other == first {
		t.Fatal("two installations share an id")
	}
}

func TestHolderFallsBackToTheRuntimeDirectory(t *testing.T) {
	run := t.TempDir()
	id, err := loadHolder("/proc/nowhere/data", run)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := loadHolder("/proc/nowhere/data", run); err != nil || again != id {
		t.Fatalf("got %q, %v, want %q", again, err, id)
	}
	if _, err := loadHolder("/proc/nowhere/data", "/proc/nowhere"); err == nil {
		t.Fatal("an id that cannot be kept was accepted")
	}
}

func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	sock, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sock.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "1000000")
	n := newNotifier()
	if _, left := os.LookupEnv("NOTIFY_SOCKET"); left {
		t.Fatal("children would inherit NOTIFY_SOCKET")
	}
	n.turned("starting", true)
	n.turned("leading", true)
	for _, want := range []string{"READY=1\nSTATUS=starting", "STATUS=leading", "WATCHDOG=1"} {
		buf := make([]byte, 256)
		_ = sock.SetReadDeadline(time.Now().Add(5 * time.Second))
		k, err := sock.Read(buf)
		if err != nil || string(buf[:k]) != want {
			t.Fatalf("got %q, %v, want %q", buf[:k], err, want)
		}
	}
}

func TestBoardTellsOfANewCluster(t *testing.T) {
	b := newBoard(&ha.View{})
	before := b.ClusterChanged()
	c := &dcs.Cluster{}
	b.publish(&ha.View{Cluster: c})
	select {
	case <-before:
	default:
		t.Fatal("a new cluster snapshot was not announced")
	}
	same := b.ClusterChanged()
	b.publish(&ha.View{Cluster: c})
	select {
	case <-same:
		t.Fatal("an unchanged snapshot was announced")
	default:
	}
}

// A dead host that nobody waits for must not cost its timeout.
func TestPeersWaitOnlyForThoseAwaited(t *testing.T) {
	silent := make(chan struct{})
	dead := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silent }))
	defer dead.Close()
	defer close(silent)
	alive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"state": "running", "role": "replica", "xlog": {"received_location": 5, "replayed_location": 4}, "timeline": 3}`))
	}))
	defer alive.Close()
	client := restapi.NewClient(restapi.ClientOptions{UserAgent: "test"})
	defer client.Close()
	p := &peers{client: client, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	start := time.Now()
	got := p.Ask(ctx, []dcs.Member{{Name: "a", APIURL: alive.URL + "/patroni"}}, []dcs.Member{{Name: "d", APIURL: dead.URL + "/patroni"}})
	if took := time.Since(start); took > 10*time.Second {
		t.Fatalf("waited %s for a member that was only glanced at", took)
	}
	if a := got["a"]; !a.Reachable || a.Position != 5 || a.Timeline != 3 || !a.InRecovery {
		t.Fatalf("got %+v", got)
	}
	if _, ok := got["d"]; ok {
		t.Fatal("an answer of a silent member appeared")
	}
}

func effective(t *testing.T, text string) *config.Effective {
	t.Helper()
	path := filepath.Join(t.TempDir(), "patroni.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	local, problems, err := config.Load(path, nil)
	if err != nil || config.HasErrors(problems) {
		t.Fatalf("%v %v", problems, err)
	}
	return config.EffectiveOf(local, nil)
}

const minimal = `
scope: demo
name: n1
restapi: {listen: 192.0.2.1:8008, connect_address: 192.0.2.1:8008}
etcd3: {host: 192.0.2.4:2379}
postgresql:
  listen: LISTEN
  connect_address: 192.0.2.1:5432
  data_dir: DATADIR
  bin_dir: BINDIR
  authentication: {replication: {username: r, password: p}, superuser: {username: postgres, password: p}}
`

func configured(t *testing.T, listen, dataDir, binDir string) *config.Effective {
	t.Helper()
	return effective(t, strings.NewReplacer("LISTEN", listen, "DATADIR", dataDir, "BINDIR", binDir).Replace(minimal))
}

func fakeBinaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"postgres", "initdb", "pg_ctl", "pg_controldata", "pg_basebackup", "pg_isready", "pgha-leash"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMissingPrograms(t *testing.T) {
	bin := fakeBinaries(t)
	data := filepath.Join(t.TempDir(), "data")
	if err := checkPrograms(configured(t, "127.0.0.1:25999", data, "/nonexistent"), filepath.Join(bin, "pgha-leash")); err == nil ||
		!strings.Contains(err.Error(), "/nonexistent/postgres") || !strings.Contains(err.Error(), "bin_dir") {
		t.Fatalf("got %v", err)
	}
	if err := checkPrograms(configured(t, "127.0.0.1:25999", data, bin), "/nonexistent/pgha-leash"); err == nil || !strings.Contains(err.Error(), "PGHA_LEASH") {
		t.Fatalf("got %v", err)
	}
	locked := filepath.Join(t.TempDir(), "pgha-leash")
	if err := os.WriteFile(locked, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkPrograms(configured(t, "127.0.0.1:25999", data, bin), locked); err == nil || !strings.Contains(err.Error(), locked+"): permission denied; give it mode 0755") {
		t.Fatalf("got %v", err)
	}
	if err := checkPrograms(configured(t, "127.0.0.1:25999", data, bin), filepath.Join(bin, "pgha-leash")); err != nil {
		t.Fatal(err)
	}
}

func TestPortOfAStranger(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	e := configured(t, l.Addr().String(), filepath.Join(t.TempDir(), "data"), "/usr/bin")
	if err := checkPort(&e.Postgres); err == nil || !strings.Contains(err.Error(), "another program listens there") {
		t.Fatalf("got %v", err)
	}
	e = configured(t, "203.0.113.9:5432", filepath.Join(t.TempDir(), "data"), "/usr/bin")
	if err := checkPort(&e.Postgres); err == nil || !strings.Contains(err.Error(), "no such address") {
		t.Fatalf("got %v", err)
	}
}

func TestValidate(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "patroni.yml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	etcd, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = etcd.Close() }()
	bin, data := t.TempDir(), t.TempDir()
	for _, tool := range []string{"postgres", "initdb", "pg_ctl", "pg_controldata", "pg_basebackup", "pg_isready", "pgha-leash"} {
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) 15.20'\n"
		if err := os.WriteFile(filepath.Join(bin, tool), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PGHA_LEASH", filepath.Join(bin, "pgha-leash"))
	good := strings.NewReplacer("192.0.2.4:2379", etcd.Addr().String(), "listen: 192.0.2.1:8008", "listen: 127.0.0.1:28901", "LISTEN", "127.0.0.1:28902", "DATADIR", data, "BINDIR", bin).Replace(minimal)
	for _, c := range []struct {
		name, text string
		o          ValidateOptions
		environ    []string
		code       int
		want       string // in what is printed; "" for nothing at all
	}{
		{name: "good", text: good},
		{name: "printed", text: good, o: ValidateOptions{Print: true}, environ: []string{"PATRONI_NAME=other"}, want: "name: other\n"},
		{name: "unknown key", text: good + "scoope: x\n", code: 1, want: "scope"},
		{name: "no space", text: "scope:demo\n", code: 1, want: ":1:"},
		{name: "template", text: good + "tags: {zone: '#FIXME'}\n", code: 1, want: "tags.zone: the placeholder #FIXME was left in; write your own value"},
		{name: "pgpass", text: strings.Replace(good, "postgresql:\n", "postgresql:\n  pgpass: "+bin+"\n", 1), code: 1, want: "postgresql.pgpass " + bin + " is no file"},
		{name: "programs", text: strings.ReplaceAll(good, bin, "/none"), code: 1, want: "set postgresql.bin_dir"},
		{name: "port in use", text: strings.ReplaceAll(good, "127.0.0.1:28902", etcd.Addr().String()), code: 1, want: "another program listens there"},
		{name: "ignored", text: strings.ReplaceAll(good, "127.0.0.1:28902", etcd.Addr().String()), o: ValidateOptions{IgnoreListenPort: true}},
		{name: "etcd", text: strings.ReplaceAll(good, etcd.Addr().String(), "127.0.0.1:2"), code: 1, want: "etcd: 127.0.0.1:2 cannot be reached (connection refused); is it running"},
		{name: "REST address", text: strings.ReplaceAll(good, "127.0.0.1:28901", "192.0.2.77:8008"), code: 1, want: "restapi.listen 192.0.2.77:8008: this host has no such address"},
	} {
		var out, errs bytes.Buffer
		code := Validate(write(c.text), c.environ, c.o, &out, &errs)
		if said := out.String() + errs.String(); code != c.code || c.want == "" && said != "" || !strings.Contains(said, c.want) {
			t.Errorf("%s: code %d, %q", c.name, code, said)
		}
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("14\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := Validate(write(good), nil, ValidateOptions{}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "is of PostgreSQL 14") {
		t.Errorf("another version: code %d: %s", code, errs.String())
	}
	errs.Reset()
	if code := Validate(filepath.Join(t.TempDir(), "none.yml"), nil, ValidateOptions{}, &out, &errs); code != 1 || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("a missing file: code %d: %s", code, errs.String())
	}
}

func TestForgetSecrets(t *testing.T) {
	t.Setenv("PATRONI_SUPERUSER_PASSWORD", "x")
	t.Setenv("OTHER", "y")
	forgetSecrets(os.Environ())
	if _, left := os.LookupEnv("PATRONI_SUPERUSER_PASSWORD"); left {
		t.Fatal("children would inherit the password")
	}
	if os.Getenv("OTHER") != "y" {
		t.Fatal("an unrelated variable is gone")
	}
}

// Keys that a Patroni wrote through etcd's protocol v2 end the start.
func TestRefuseV2(t *testing.T) {
	keys := `{"action":"get","node":{"key":"/service/demo","dir":true,"nodes":[{"key":"/service/demo/leader","value":"x"}]}}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v2/keys/service/demo") || keys == "" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(keys))
	}))
	defer srv.Close()
	text := strings.NewReplacer("LISTEN", "127.0.0.1:25999", "DATADIR", t.TempDir(), "BINDIR", "/usr/bin",
		"etcd3: {host: 192.0.2.4:2379}", "SECTION: {host: "+srv.Listener.Addr().String()+"}").Replace(minimal)
	start := func(section string) error {
		a := &agent{}
		a.config.Store(effective(t, strings.Replace(text, "SECTION", section, 1)))
		return a.refuseV2(context.Background())
	}
	if err := start("etcd"); err == nil || !strings.Contains(err.Error(), "etcd3:") {
		t.Errorf("keys of protocol v2: got %v", err)
	}
	if err := start("etcd3"); err != nil {
		t.Errorf("etcd3 means v3 to Patroni, too: got %v", err)
	}
	keys = ""
	if err := start("etcd"); err != nil {
		t.Errorf("no keys of protocol v2: got %v", err)
	}
}
