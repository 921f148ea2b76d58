package leash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

const (
	pgBin     = "/usr/lib/postgresql/15/bin"
	testPort  = "22010"
	testQuiet = 300 * time.Millisecond
	testLmax  = time.Minute
	// slack is what scheduling and the sweep may cost on a busy machine with
	// two cores; K of safety B.1 is 0.8 s at the least, q included.
	slack = 400 * time.Millisecond
)

var template struct {
	once sync.Once
	dir  string
	err  error
}

// fastDir is a file system in memory, if there is one: these tests copy a
// cluster each, and none of them is about disks.
func fastDir() string {
	const shm = "/dev/shm"
	if unix.Access(shm, unix.W_OK) != nil {
		return ""
	}
	return shm
}

// makeTemplate runs initdb once for all tests.
func makeTemplate() (string, error) {
	template.once.Do(func() {
		dir, err := os.MkdirTemp(fastDir(), "leash-template-")
		if err != nil {
			template.err = err
			return
		}
		template.dir = filepath.Join(dir, "data") // removed by TestMain
		out, err := exec.Command(pgBin+"/initdb", "-D", template.dir, "-N", "-A", "trust", "-U", "postgres",
			"--wal-segsize=1", "--locale=C").CombinedOutput()
		if err != nil {
			template.err = fmt.Errorf("initdb: %w: %s", err, out)
			return
		}
		conf := "fsync=off\nshared_buffers=4MB\nlisten_addresses=''\nport=" + testPort + "\ndynamic_shared_memory_type=mmap\n"
		template.err = os.WriteFile(filepath.Join(template.dir, "postgresql.auto.conf"), []byte(conf), 0o600)
	})
	return template.dir, template.err
}

// rig is one data directory and one run directory.
type rig struct {
	*testing.T
	ctx     context.Context
	base    string
	data    string
	run     string
	agent   *Client
	pid     int // of the postmaster
	options SpawnOptions
}

func newRig(t *testing.T) *rig {
	t.Helper()
	src, err := makeTemplate()
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.MkdirTemp(fastDir(), "leash-test-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	r := &rig{T: t, ctx: ctx, base: base, data: filepath.Join(base, "data"), run: filepath.Join(base, "run")}
	if out, err := exec.Command("cp", "-a", src, r.data).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r.options = SpawnOptions{Binary: self, RunDir: r.run, Quiet: testQuiet, Lmax: testLmax, LogFile: filepath.Join(base, "leash.log")}
	t.Setenv(partEnv, "leash")
	t.Cleanup(func() {
		r.tearDown()
		cancel()
	})
	return r
}

// tearDown ends what is left through the leash itself, and shows its log when
// the test failed.
func (r *rig) tearDown() {
	if c, err := Attach(r.ctx, r.run); err == nil {
		_ = c.Sweep(r.ctx, r.data)
		_ = c.Quit(r.ctx)
		_ = c.Close()
	}
	if r.agent != nil {
		_ = r.agent.Close()
	}
	if r.Failed() {
		for _, name := range []string{"leash.log", "server.log"} {
			text, _ := os.ReadFile(filepath.Join(r.base, name))
			r.Logf("%s:\n%s", name, text)
		}
	}
	if left := r.processes(); len(left) > 0 {
		r.Errorf("processes left: %v", left)
	}
	r.removeShm()
	_ = os.RemoveAll(r.base)
}

// removeShm frees the segment a killed server leaves behind; a server that is
// started again on the directory would do it.
func (r *rig) removeShm() {
	f, err := readPidFile(r.data)
	if err == nil && f.shm.known {
		_, _ = unix.SysvShmCtl(f.shm.id, unix.IPC_RMID, nil)
	}
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) refused(err error, code string) {
	r.Helper()
	var ref *Refusal
	if !errors.As(err, &ref) || ref.Code != code {
		r.Fatalf("got %v, want a refusal with code %s", err, code)
	}
}

func (r *rig) spawn() *rig {
	r.Helper()
	c, err := Spawn(r.ctx, r.options)
	r.must(err)
	r.agent = c
	return r
}

func (r *rig) startRequest(writable bool) StartRequest {
	return StartRequest{
		Path: pgBin + "/postgres", Args: []string{"-D", r.data, "-k", r.base},
		Env: []string{"PATH=/usr/bin:/bin"}, DataDir: r.data, LogPath: filepath.Join(r.base, "server.log"), Writable: writable,
	}
}

// primary arms epoch 1 until the deadline and starts a writable server.
func (r *rig) primary(deadline int64) *rig {
	r.Helper()
	r.spawn()
	r.must(r.agent.Arm(r.ctx, 1, deadline))
	r.start(true)
	return r
}

func (r *rig) start(writable bool) {
	r.Helper()
	pid, err := r.agent.Start(r.ctx, r.startRequest(writable))
	r.must(err)
	r.pid = pid
	r.ready()
}

// ready connects until the server takes it.
func (r *rig) ready() {
	r.Helper()
	r.connect().Close(r.ctx)
}

func (r *rig) connect() *pgx.Conn {
	r.Helper()
	var last error
	var conn *pgx.Conn
	ok := r.eventually(10*time.Second, func() bool {
		c, err := pgx.Connect(r.ctx, r.dsn())
		if err != nil {
			last = err
			return false
		}
		r.Cleanup(func() { _ = c.Close(context.Background()) })
		conn = c
		return true
	})
	if !ok {
		r.Fatalf("connect: %v", last)
	}
	return conn
}

func (r *rig) dsn() string {
	return "host=" + r.base + " port=" + testPort + " user=postgres dbname=postgres"
}

func (r *rig) exec(sql string) {
	r.Helper()
	c := r.connect()
	_, err := c.Exec(r.ctx, sql)
	r.must(err)
	r.must(c.Close(r.ctx))
}

func (r *rig) value(sql string) string {
	r.Helper()
	c := r.connect()
	var v string
	r.must(c.QueryRow(r.ctx, sql).Scan(&v))
	r.must(c.Close(r.ctx))
	return v
}

// eventually looks again every few milliseconds, within a limit.
func (r *rig) eventually(limit time.Duration, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(r.ctx, limit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return ok()
		case <-tick.C:
		}
	}
	return true
}

func (r *rig) event(kind EventKind, limit time.Duration) Event {
	r.Helper()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		select {
		case e, ok := <-r.agent.Events():
			if !ok {
				r.Fatalf("events ended, waiting for %s", kind)
			}
			if e.Kind == kind {
				return e
			}
		case <-timeout.C:
			r.Fatalf("no event %s within %v", kind, limit)
		}
	}
}

// processes are the living postgres processes of the data directory.
func (r *rig) processes() []int {
	dir, ok := statID(r.data)
	if !ok {
		return nil
	}
	all, err := processes()
	r.must(err)
	var found []int
	for pid, p := range all {
		if !p.dead() && runsServerIn(pid, dir) {
			found = append(found, pid)
		}
	}
	return found
}

func (r *rig) gone() {
	r.Helper()
	if left := r.processes(); len(left) > 0 {
		r.Fatalf("processes left: %v", left)
	}
	if n := attachedTo(r.data); n > 0 {
		r.Fatalf("%d processes attached to the shared memory", n)
	}
}

func (r *rig) alive(pid int) bool {
	p, ok := readProc(pid)
	return ok && !p.dead()
}

// prober commits as fast as it can and keeps the time of the last success.
type prober struct {
	stop context.CancelFunc
	done chan struct{}
	last int64
	n    int
}

func (r *rig) probe() *prober {
	r.Helper()
	c := r.connect()
	ctx, cancel := context.WithCancel(r.ctx)
	p := &prober{stop: cancel, done: make(chan struct{})}
	first := make(chan struct{})
	go func() {
		defer close(p.done)
		for ctx.Err() == nil {
			if _, err := c.Exec(ctx, "insert into probe values (clock_timestamp())"); err != nil {
				return
			}
			p.last, p.n = Now(), p.n+1
			if p.n == 1 {
				close(first)
			}
		}
	}()
	select {
	case <-first:
	case <-p.done:
		r.Fatal("the prober never succeeded")
	}
	return p
}

// end waits until the prober has failed and gives its last success.
func (p *prober) end(r *rig) int64 {
	r.Helper()
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		r.Error("the prober still waits for its server")
		p.stop()
		<-p.done
	}
	p.stop()
	return p.last
}

// yardstick measures how late this process itself wakes up, from now until the
// returned function is called. The promise of the leash holds while the host
// gives it a CPU (assumption A2 of safety); a test on a crowded machine has to
// know how crowded it was.
func (r *rig) yardstick() (worst func() time.Duration) {
	const step = 2 * time.Millisecond
	stop, result := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		var most time.Duration
		tick := time.NewTicker(step)
		defer tick.Stop()
		for last := Now(); ; last = Now() {
			select {
			case <-stop:
				result <- most
				return
			case <-tick.C:
				most = max(most, time.Duration(Now()-last)-step)
			}
		}
	}()
	return func() time.Duration { close(stop); return <-result }
}

// crowded turns the worst delay into an allowance: timer, sweep and report are
// a handful of wake-ups in a row.
func crowded(worst time.Duration) time.Duration {
	if worst < 20*time.Millisecond {
		return 0
	}
	return 8 * worst
}

// procedure commits inside one call, without a client in between (P1). The
// returned pid is its backend.
func (r *rig) procedure() int {
	r.Helper()
	r.exec(`create or replace procedure many() language plpgsql as $$
		begin loop insert into probe values (clock_timestamp()); commit; end loop; end $$`)
	c := r.connect()
	pid := int(c.PgConn().PID())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _, _ = c.Exec(ctx, "call many()") }()
	r.Cleanup(func() { cancel(); <-done })
	if !r.eventually(5*time.Second, func() bool { return r.value("select count(*)::text from probe") != "0" }) {
		r.Fatal("the procedure does not commit")
	}
	return pid
}

func (r *rig) signal(pid int, sig syscall.Signal) {
	r.Helper()
	r.must(unix.Kill(pid, sig))
}

func (r *rig) touch(path, text string) {
	r.Helper()
	r.must(os.WriteFile(path, []byte(text), 0o600))
}

func (r *rig) standbySignal() string { return filepath.Join(r.data, standbySignal) }

func (r *rig) log() string {
	text, _ := os.ReadFile(r.options.LogFile)
	return strings.TrimSpace(string(text))
}
