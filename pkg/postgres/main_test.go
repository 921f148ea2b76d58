package postgres

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/internal/testuser"
	"github.com/pgha/pgha/pkg/config"
)

// TestMain gives up root, under which PostgreSQL refuses to run.
func TestMain(m *testing.M) {
	flag.Parse()
	keepGateway()
	if err := testuser.Postgres(); err != nil {
		fmt.Fprintln(os.Stderr, "tests run as root and cannot become postgres:", err)
		os.Exit(1)
	}
	code := m.Run()
	if gateway != "" {
		_ = os.RemoveAll(filepath.Dir(gateway))
	}
	if tmpl.dir != "" {
		_ = os.RemoveAll(filepath.Dir(tmpl.dir))
	}
	os.Exit(code)
}

const (
	superPassword = `su per'pass\word:1`
	replPassword  = `rep:li\cator pw`
	rewPassword   = `re'wind pw`
)

var nextPort atomic.Int32

func freePort(t *testing.T) int {
	t.Helper()
	base := 23000
	if v, err := strconv.Atoi(os.Getenv("PGHA_TEST_PORT")); err == nil {
		base = v
	}
	for {
		port := base + int(nextPort.Add(1))
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
}

// binDir holds PostgreSQL's programs: PGHA_PGBIN, or else the newest installed ones.
func binDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("PGHA_PGBIN"); dir != "" {
		return dir
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	sort.Strings(found)
	if len(found) == 0 {
		if path, err := exec.LookPath("postgres"); err == nil {
			found = []string{path}
		}
	}
	if len(found) == 0 {
		t.Skip("no PostgreSQL server is installed")
	}
	return filepath.Dir(found[len(found)-1])
}

// node is one server under test.
type node struct {
	*Server
	t   *testing.T
	cfg config.Postgres
	log *bytes.Buffer // what the driver logged
}

type lockedBuffer struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// newNode makes a driver over a data directory that does not exist yet.
func newNode(t *testing.T, name string, change ...func(*config.Postgres)) *node {
	t.Helper()
	dir := t.TempDir()
	cfg := config.Postgres{
		Scope: "testcluster", Name: name,
		ListenAddresses: "127.0.0.1", Port: freePort(t), LocalHost: "127.0.0.1",
		DataDir: filepath.Join(dir, "data"), BinDir: binDir(t), Database: "postgres",
		Superuser:   config.Auth{Username: "postgres", Password: superPassword},
		Replication: config.Auth{Username: "replicator", Password: replPassword},
		Rewind:      config.Auth{Username: "rewind_user", Password: rewPassword},
		Parameters: map[string]string{
			"unix_socket_directories": dir, "fsync": "off", "shared_buffers": "16MB", "log_min_messages": "warning",
			"wal_keep_size": "128MB", "autovacuum": "off", "jit": "off", "wal_receiver_status_interval": "1s",
		},
		Controlled: []config.ControlledGUC{
			{Name: "max_connections", Value: "40", CommandLine: true},
			{Name: "max_wal_senders", Value: "5", CommandLine: true},
			{Name: "max_replication_slots", Value: "6", CommandLine: true},
			{Name: "max_worker_processes", Value: "4", CommandLine: true},
			{Name: "wal_level", Value: "hot_standby", CommandLine: true},
			{Name: "wal_log_hints", Value: "on", CommandLine: true},
			{Name: "hot_standby", Value: "on", CommandLine: true},
			{Name: "wal_keep_segments", Value: "8", MaxVersion: 130000},
		},
		PGHBA: []string{
			"local all all scram-sha-256", "host all all 127.0.0.1/32 scram-sha-256",
			"local replication replicator scram-sha-256", "host replication replicator 127.0.0.1/32 scram-sha-256",
		},
		PGPass: filepath.Join(dir, "pgpass"), UsePgRewind: true, UseSlots: true, PgCtlTimeout: 20 * time.Second,
		BaseBackup: []config.Option{{Name: "no-sync", Flag: true}},
	}
	for _, f := range change {
		f(&cfg)
	}
	return openNode(t, cfg)
}

// openNode makes a driver as a restarted agent would.
func openNode(t *testing.T, cfg config.Postgres) *node {
	t.Helper()
	log := &bytes.Buffer{}
	s, err := New(Options{
		Name: cfg.Name, Scope: cfg.Scope, Config: cfg, Process: &ExecLauncher{},
		Logger:  slog.New(slog.NewTextHandler(&lockedBuffer{b: log}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		LogPath: filepath.Join(filepath.Dir(cfg.DataDir), "server.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Server: s, t: t, cfg: cfg, log: log}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Kill(ctx); err != nil {
			t.Errorf("clean up %s: %v", cfg.Name, err)
		}
		s.Close()
		if t.Failed() {
			t.Logf("driver log of %s:\n%s", cfg.Name, log.String())
			if b, err := os.ReadFile(s.logPath); err == nil {
				t.Logf("server log of %s:\n%s", cfg.Name, b[max(0, len(b)-3000):])
			}
		}
	})
	return n
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// tmpl is a bootstrapped and cleanly stopped cluster that tests copy.
var tmpl struct {
	once sync.Once
	dir  string
}

// primaryNode gives a running primary, copied from the template.
func primaryNode(t *testing.T, name string, change ...func(*config.Postgres)) *node {
	t.Helper()
	tmpl.once.Do(func() { makeTemplate(t) })
	if tmpl.dir == "" {
		t.Fatal("the template cluster could not be made")
	}
	n := newNode(t, name, change...)
	if out, err := exec.Command("cp", "-a", tmpl.dir, n.cfg.DataDir).CombinedOutput(); err != nil {
		t.Fatalf("copy template: %v: %s", err, out)
	}
	n.start(StartOptions{Role: RolePrimary})
	return n
}

func makeTemplate(t *testing.T) {
	n := newNode(t, "template")
	ctx := testContext(t)
	must(t, n.Initdb(ctx, InitdbOptions{Flags: []config.Option{
		{Name: "data-checksums", Flag: true}, {Name: "encoding", Value: "UTF8"}, {Name: "wal-segsize", Value: "1"},
	}}))
	n.start(StartOptions{Role: RolePrimary, Bootstrap: true})
	must(t, n.PostBootstrap(ctx, PostBootstrapOptions{}))
	must(t, n.Finish())
	n.sql("CREATE TABLE public.t (id int)")
	must(t, n.Stop(ctx, StopFast, true))
	dir, err := os.MkdirTemp("", "pgtemplate")
	must(t, err)
	if out, err := exec.Command("cp", "-a", n.cfg.DataDir, dir+"/data").CombinedOutput(); err != nil {
		t.Fatalf("copy template: %v: %s", err, out)
	}
	tmpl.dir = dir + "/data"
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (n *node) start(o StartOptions) {
	n.t.Helper()
	res, err := n.Start(testContext(n.t), o)
	if err != nil || res != Started {
		n.t.Fatalf("start %s: %v, %v", n.cfg.Name, res, err)
	}
}

// upstream is how others reach n.
func (n *node) upstream() Upstream {
	return Upstream{Name: n.cfg.Name, Host: "127.0.0.1", Port: strconv.Itoa(n.cfg.Port), Database: "postgres"}
}

// connect opens a client connection.
func (n *node) connect() *pgx.Conn {
	n.t.Helper()
	cfg, err := n.localConn("test", 10*time.Second)
	must(n.t, err)
	conn, err := pgx.ConnectConfig(testContext(n.t), cfg)
	must(n.t, err)
	n.t.Cleanup(func() { drop(conn) })
	return conn
}

func (n *node) sql(stmts ...string) {
	n.t.Helper()
	conn := n.connect()
	defer drop(conn)
	for _, s := range stmts {
		if _, err := conn.Exec(testContext(n.t), s); err != nil {
			n.t.Fatalf("%s: %s: %v", n.cfg.Name, s, err)
		}
	}
}

func (n *node) ask(query string) string {
	n.t.Helper()
	conn := n.connect()
	defer drop(conn)
	var out string
	if err := conn.QueryRow(testContext(n.t), query).Scan(&out); err != nil {
		n.t.Fatalf("%s: %s: %v", n.cfg.Name, query, err)
	}
	return out
}

// eventually waits for a condition of the server itself, not for our code.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	b := backoff{next: time.Millisecond, max: 20 * time.Millisecond}
	for !cond() {
		if b.wait(ctx, nil) != nil {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

// standbyOf clones and starts a standby that streams from up.
func standbyOf(t *testing.T, up *node, name string, change ...func(*config.Postgres)) *node {
	t.Helper()
	n := newNode(t, name, change...)
	ctx := testContext(t)
	from := up.upstream()
	must(t, n.BaseBackup(ctx, from, nil))
	n.start(StartOptions{Role: RoleStandby, Upstream: &from})
	n.streaming()
	return n
}

func (n *node) streaming() {
	n.t.Helper()
	eventually(n.t, n.cfg.Name+" streams", func() bool {
		st, err := n.Status(testContext(n.t))
		return err == nil && st.Receiver.State == "streaming"
	})
}

// caughtUp waits until n has replayed what up has written.
func (n *node) caughtUp(up *node) {
	n.t.Helper()
	st, err := up.Status(testContext(n.t))
	must(n.t, err)
	eventually(n.t, n.cfg.Name+" catches up", func() bool {
		mine, err := n.Sample(testContext(n.t))
		return err == nil && mine.ReplayLSN >= st.WriteLSN
	})
}
