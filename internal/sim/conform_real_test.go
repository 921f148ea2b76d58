package sim

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres"
)

// servers is the trio of real ones, driven as an agent does it.
type servers struct {
	t        *testing.T
	of       [3]*postgres.Server
	port     [3]int
	returned [3]atomic.Int32
	held     [3]int // pid of a receiver that was stopped
}

func newReal(t *testing.T) *servers {
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
	r := &servers{t: t}
	for i := range r.of {
		dir, l := t.TempDir(), listen(t)
		r.port[i] = l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		log := &bytes.Buffer{}
		s, err := postgres.New(postgres.Options{
			Name: letters[i : i+1], Scope: "conformance", Process: &postgres.ExecLauncher{}, LogPath: filepath.Join(dir, "server.log"),
			Logger: slog.New(slog.NewTextHandler(log, nil)),
			Config: config.Postgres{
				Scope: "conformance", Name: letters[i : i+1], ListenAddresses: "127.0.0.1", Port: r.port[i], LocalHost: "127.0.0.1",
				DataDir: filepath.Join(dir, "data"), BinDir: filepath.Dir(found[len(found)-1]), Database: "postgres",
				Superuser: config.Auth{Username: "postgres"}, Replication: config.Auth{Username: "replicator"}, Rewind: config.Auth{Username: "rewinder"},
				Parameters: map[string]string{
					"unix_socket_directories": dir, "fsync": "off", "shared_buffers": "16MB", "wal_keep_size": "64MB", "autovacuum": "off",
					"wal_retrieve_retry_interval": "100ms", "wal_log_hints": "on", "max_wal_senders": "5", "hot_standby": "on",
				},
				PGHBA:       []string{"local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"},
				PGPass:      filepath.Join(dir, "pgpass"),
				UsePgRewind: true, PgCtlTimeout: time.Minute, BaseBackup: []config.Option{{Name: "no-sync", Flag: true}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.of[i] = s
		t.Cleanup(func() {
			r.hold(i, false)
			if err := s.Kill(context.Background()); err != nil {
				t.Errorf("clean up %c: %v", letters[i], err)
			}
			s.Close()
			if t.Failed() {
				t.Logf("the driver of %c:\n%s", letters[i], log)
			}
		})
	}
	return r
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (r *servers) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	r.t.Cleanup(cancel)
	return ctx
}

func (r *servers) must(what string, i int, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%s %c: %v", what, letters[i], err)
	}
}

func (r *servers) up(i int) postgres.Upstream {
	return postgres.Upstream{Name: letters[i : i+1], Host: "127.0.0.1", Port: strconv.Itoa(r.port[i]), Database: "postgres"}
}

func (r *servers) create(i int) {
	s, ctx := r.of[i], r.context()
	r.must("initdb", i, s.Initdb(ctx, postgres.InitdbOptions{}))
	r.run(i, postgres.StartOptions{Role: postgres.RolePrimary, Bootstrap: true})
	r.must("set up", i, s.PostBootstrap(ctx, postgres.PostBootstrapOptions{}))
	r.must("finish", i, s.Finish())
	r.exec(i, "CREATE TABLE commits ()")
}

func (r *servers) run(i int, o postgres.StartOptions) {
	r.t.Helper()
	res, err := r.of[i].Start(r.context(), o)
	if err == nil && res != postgres.Started {
		err = fmt.Errorf("result %v", res)
	}
	r.must("start", i, err)
}

func (r *servers) clone(i, from int) {
	r.must("clone", i, r.of[i].BaseBackup(r.context(), r.up(from), nil))
}

func (r *servers) start(i, up int) {
	if i == up {
		r.run(i, postgres.StartOptions{Role: postgres.RolePrimary})
		return
	}
	from := r.up(up)
	r.run(i, postgres.StartOptions{Role: postgres.RoleStandby, Upstream: &from})
}

func (r *servers) stop(i int, immediately bool) {
	mode := postgres.StopFast
	if immediately {
		mode = postgres.StopImmediate
	}
	r.must("stop", i, r.of[i].Stop(r.context(), mode, false))
}

func (r *servers) kill(i int) { r.must("kill", i, r.of[i].Kill(r.context())) }

func (r *servers) follow(i, up int) {
	var err error
	if i == up {
		_, err = r.of[i].Freeze(r.context())
	} else {
		from := r.up(up)
		_, err = r.of[i].Follow(r.context(), &from)
	}
	r.must("follow", i, err)
}

func (r *servers) promote(i int) {
	s := r.of[i]
	st, err := s.Status(r.context())
	r.must("promote", i, err)
	r.must("promote", i, s.Promote(r.context(), st.Timeline, 0))
}

func (r *servers) rewind(i, from int) {
	_, err := r.of[i].Rewind(r.context(), r.up(from))
	r.must("rewind", i, err)
}

func (r *servers) hold(i int, on bool) {
	if on {
		pid, err := strconv.Atoi(r.ask(i, "SELECT pid::text FROM pg_stat_wal_receiver"))
		r.must("find the receiver of", i, err)
		r.must("stop the receiver of", i, syscall.Kill(pid, syscall.SIGSTOP))
		r.held[i] = pid
		return
	}
	if pid := r.held[i]; pid != 0 {
		r.held[i] = 0
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

func (r *servers) names(i int, text string) {
	r.must("set names of", i, r.of[i].SetSyncStandbyNames(r.context(), &text))
}

func (r *servers) connect(ctx context.Context, i int) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", r.port[i]))
}

func (r *servers) exec(i int, sql string) {
	r.t.Helper()
	conn, err := r.connect(r.context(), i)
	r.must("connect to", i, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(r.context(), sql)
	r.must(sql, i, err)
}

func (r *servers) ask(i int, sql string) (out string) {
	r.t.Helper()
	conn, err := r.connect(r.context(), i)
	r.must("connect to", i, err)
	defer func() { _ = conn.Close(context.Background()) }()
	r.must(sql, i, conn.QueryRow(r.context(), sql).Scan(&out))
	return out
}

// write begins a commit; whether it returns is seen in acked.
func (r *servers) write(i int) {
	conn, err := r.connect(r.context(), i)
	r.must("connect to", i, err)
	go func() {
		defer func() { _ = conn.Close(context.Background()) }()
		if _, err := conn.Exec(context.Background(), "INSERT INTO commits DEFAULT VALUES"); err == nil {
			r.returned[i].Add(1)
		}
	}()
}

func (r *servers) acked(i int) int { return int(r.returned[i].Load()) }

func (r *servers) visible(i int) int {
	n, err := strconv.Atoi(r.ask(i, "SELECT count(*)::text FROM commits"))
	r.must("count on", i, err)
	return n
}

func (r *servers) look(i int) sight {
	s := r.of[i]
	if s.State().State != postgres.DirPresent {
		return sight{}
	}
	control, err := s.ControlData(r.context())
	r.must("read the control file of", i, err)
	out := sight{control: control.State, checkpoint: control.CheckpointTLI}
	if _, runs := s.Running(); !runs {
		return out
	}
	st, err := s.Status(r.context())
	r.must("look at", i, err)
	out.runs, out.recovery, out.streams, out.timeline = true, st.InRecovery, st.Receiver.State == "streaming", st.Timeline
	out.at = max(st.FlushLSN, st.ReceiveLSN, st.ReplayLSN)
	return out
}
