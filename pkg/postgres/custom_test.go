package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

func TestCustomCommands(t *testing.T) {
	s, err := New(Options{Name: "n", Scope: "demo", Config: config.Postgres{DataDir: "/d"}, Process: &ExecLauncher{}})
	must(t, err)
	options := []config.Option{
		{Name: "no_leader", Value: "True"}, {Name: "threads", Value: "4"}, {Name: "keep_data", Value: "True"},
		{Name: "no_params", Value: "True"}, {Name: "opt", Value: "a b"},
	}
	m := config.CustomMethod{Name: "mine", Command: `/x/y.sh 'one two'`, Options: options}
	bare := m
	bare.NoParams = true
	for _, c := range []struct {
		name string
		f    func() ([]string, error)
		want []string
	}{
		{"replica", func() ([]string, error) { return s.replicaCommand(&m, "dbname=x") }, []string{
			"/x/y.sh", "one two", "--no_leader=True", "--threads=4", "--keep_data=True", "--no_params=True", "--opt=a b",
			"--scope=demo", "--role=replica", "--datadir=/d", "--connstring=dbname=x"}},
		{"replica, nobody to copy from", func() ([]string, error) {
			return s.replicaCommand(&config.CustomMethod{Name: "m", Command: "m"}, "")
		}, []string{"m", "--scope=demo", "--role=replica", "--datadir=/d", "--connstring="}},
		{"replica, no_params", func() ([]string, error) { return s.replicaCommand(&bare, "dbname=x") },
			[]string{"/x/y.sh", "one two", "--threads=4", "--opt=a b"}},
		{"bootstrap", func() ([]string, error) { return s.bootstrapCommand(&m) }, []string{
			"/x/y.sh", "one two", "--scope=demo", "--datadir=/d", "--no_leader=True", "--threads=4", "--keep_data=True", "--opt=a b"}},
		{"bootstrap, no_params", func() ([]string, error) { return s.bootstrapCommand(&bare) }, []string{
			"/x/y.sh", "one two", "--no_leader=True", "--threads=4", "--keep_data=True", "--opt=a b"}},
	} {
		if got, err := c.f(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q, %v\nwant %q", c.name, got, err, c.want)
		}
	}
	if _, err := s.replicaCommand(&config.CustomMethod{Name: "m", Command: "'x"}, ""); err == nil || !strings.Contains(err.Error(), "postgresql.m.command") {
		t.Errorf("unclosed quote: %v", err)
	}
}

// script writes an executable shell script.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "method.sh")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700))
	return path
}

// withMethods configures replica creation methods, in this order.
func withMethods(methods ...*config.CustomMethod) func(*config.Postgres) {
	return func(c *config.Postgres) {
		c.Methods = map[string]*config.CustomMethod{}
		for _, m := range methods {
			c.CreateReplicaMethods = append(c.CreateReplicaMethods, m.Name)
			if m.Name != baseBackupMethod {
				c.Methods[m.Name] = m
			}
		}
	}
}

var baseBackupRung = &config.CustomMethod{Name: baseBackupMethod}

// copyMethod copies with what a method is given: connstring and PGPASSFILE.
func copyMethod(t *testing.T, name string) *config.CustomMethod {
	argv := filepath.Join(t.TempDir(), "argv")
	return &config.CustomMethod{Name: name, Options: []config.Option{{Name: "argv", Value: argv}}, Command: script(t, `
for a in "$@"; do case $a in
  --argv=*) argv=${a#*=};; --datadir=*) dir=${a#*=};; --connstring=*) conn=${a#--connstring=};; esac; done
printf '%s\n' "$@" PGPASSFILE="$PGPASSFILE" > "$argv"
ls -A "$dir" >> "$argv" 2>/dev/null
echo copying
exec `+binDir(t)+`/pg_basebackup --checkpoint=fast --no-sync -X stream --no-password --pgdata="$dir" --dbname="$conn"`)}
}

func TestCloneLadder(t *testing.T) {
	a := primaryNode(t, "a")
	a.sql("INSERT INTO public.t VALUES (1)")
	broken := &config.CustomMethod{Name: "broken", Command: script(t, "echo on standard output; echo disk is on fire >&2; exit 3")}
	mine := copyMethod(t, "mine")
	n := newNode(t, "n", withMethods(broken, mine, baseBackupRung))
	ctx := testContext(t)
	from := a.upstream()
	id, err := a.IdentifySystem(ctx, nil)
	must(t, err)
	must(t, n.Clone(ctx, CloneSpec{Upstream: &from, SystemID: id.ID}))
	if log := n.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "method=broken") ||
		!strings.Contains(log, "exit status 3: disk is on fire") || !strings.Contains(log, "on standard output") {
		t.Errorf("log:\n%s", log)
	}
	argv, err := os.ReadFile(mine.Options[0].Value)
	must(t, err)
	for _, want := range []string{"--scope=testcluster\n--role=replica\n--datadir=" + n.cfg.DataDir + "\n--connstring=dbname=postgres user=replicator host=127.0.0.1 port=" + strconv.Itoa(a.cfg.Port) + "\n",
		"PGPASSFILE=" + n.cfg.PGPass + "\n"} {
		if !strings.Contains(string(argv), want) {
			t.Errorf("arguments lack %q:\n%s", want, argv)
		}
	}
	n.start(StartOptions{Role: RoleStandby, Upstream: &from})
	n.streaming()

	// A complete directory: given up only when Wipe is set and the leader runs.
	must(t, n.Stop(ctx, StopFast, false))
	if err := n.Clone(ctx, CloneSpec{Upstream: &from}); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("without Wipe: %v", err)
	}
	foreign := CloneSpec{Upstream: &from, Wipe: true, SystemID: "1"}
	if err := n.Clone(ctx, foreign); !errors.Is(err, ErrForeignSystem) || n.State().State != DirPresent {
		t.Errorf("from another system: %v, %v", err, n.State())
	}
	nobody := CloneSpec{Upstream: &Upstream{Name: "gone", Host: "127.0.0.1", Port: "1"}, Wipe: true}
	if err := n.Clone(ctx, nobody); err == nil || !strings.Contains(err.Error(), "before the leader is seen to run") || n.State().State != DirPresent {
		t.Errorf("leader away: %v, %v", err, n.State())
	}
	if err := n.Clone(ctx, CloneSpec{Wipe: true}); err == nil || !strings.Contains(err.Error(), "no_leader") || n.State().State != DirPresent {
		t.Errorf("no upstream: %v, %v", err, n.State())
	}
	n.start(StartOptions{Role: RoleStandby, Upstream: &from})
	must(t, n.Stop(ctx, StopFast, false))
	must(t, n.Clone(ctx, CloneSpec{Upstream: &from, Wipe: true, FromLeader: true, SystemID: id.ID}))
	if strings.Count(n.log.String(), "method=broken") != 3 { // one more in each of two refusals above
		t.Errorf("--from-leader used another method:\n%s", n.log.String())
	}
}

// TestCloneAllFail: the directory is never startable, and each failure is told.
func TestCloneAllFail(t *testing.T) {
	a := primaryNode(t, "a")
	half := &config.CustomMethod{Name: "half", Command: script(t, `for a in "$@"; do case $a in --datadir=*) d=${a#*=};; esac; done; mkdir -p $d; chmod 700 $d; echo 15 > $d/PG_VERSION`)}
	keep := &config.CustomMethod{Name: "keep", NoParams: true, KeepData: true, NoLeader: true, Command: "/bin/false"}
	n := newNode(t, "n", withMethods(half, keep))
	ctx := testContext(t)
	from := a.upstream()
	err := n.Clone(ctx, CloneSpec{Upstream: &from})
	if err == nil || !strings.Contains(err.Error(), "is not a complete data directory") || !strings.Contains(err.Error(), "keep: run false: exit status 1") {
		t.Errorf("error: %v", err)
	}
	if d := n.State(); d.State != DirEmpty {
		t.Errorf("state %v", d)
	}
	// keep_data keeps, with no_params as well: what is there is not removed.
	must(t, os.MkdirAll(n.inData("global"), 0o700))
	must(t, os.WriteFile(n.inData("precious"), nil, 0o600))
	must(t, n.Begin(KindClone, false))
	if err := n.Clone(ctx, CloneSpec{}); err == nil || strings.Contains(err.Error(), "half") {
		t.Errorf("without an upstream: %v", err)
	}
	if _, err := os.Stat(n.inData("precious")); err != nil || n.State().State != DirInProgress {
		t.Errorf("after the failure of a method with keep_data: %v, %v", err, n.State())
	}
	if err := n.startable(StartOptions{Role: RoleStandby, Bootstrap: true}); !errors.Is(err, ErrNotStartable) {
		t.Errorf("startable: %v", err)
	}
}

// TestCloneInterrupted: cancelling ends the whole process group, and the next
// call goes on with the same method.
func TestCloneInterrupted(t *testing.T) {
	t.Parallel()
	a := primaryNode(t, "a")
	pids := filepath.Join(t.TempDir(), "pids")
	failed := &config.CustomMethod{Name: "failed", Command: "/bin/false"}
	slow := &config.CustomMethod{Name: "slow", Command: script(t, `[ -e `+pids+` ] && exit 7; sleep 600 & echo $$ $! > `+pids+`.tmp; mv `+pids+`.tmp `+pids+`; wait`)}
	n := newNode(t, "n", withMethods(failed, slow, baseBackupRung))
	from := a.upstream()
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { done <- n.Clone(ctx, CloneSpec{Upstream: &from}) }()
	eventually(t, "the method runs", func() bool { _, err := os.Stat(pids); return err == nil })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	text, err := os.ReadFile(pids)
	must(t, err)
	for _, f := range strings.Fields(string(text)) {
		pid, _ := strconv.Atoi(f)
		eventually(t, "the end of process "+f, func() bool {
			stat, err := os.ReadFile("/proc/" + f + "/stat")
			return err != nil || strings.Contains(string(stat), ") Z ") || syscall.Kill(pid, 0) != nil
		})
	}
	if d := n.State(); d.State != DirInProgress {
		t.Fatalf("state %v", d)
	}
	must(t, n.Clone(testContext(t), CloneSpec{Upstream: &from}))
	if got := strings.Count(n.log.String(), "method=failed"); got != 1 {
		t.Errorf("the method that failed was tried %d times", got)
	}
	if !strings.Contains(n.log.String(), "exit status 7") {
		t.Error("the interrupted method was not tried again")
	}
	n.start(StartOptions{Role: RoleStandby, Upstream: &from})
}

// TestScriptOutputIsBounded: a command cannot fill the log.
func TestScriptOutputIsBounded(t *testing.T) {
	n := newNode(t, "n")
	sh := script(t, `i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; head -c 100000 /dev/zero | tr '\0' x`)
	must(t, n.runScript(testContext(t), "noisy", []string{sh}, nil))
	if size := n.log.Len(); size > 300_000 || strings.Count(n.log.String(), "output=") != scriptLines {
		t.Errorf("%d bytes of log, %d lines", size, strings.Count(n.log.String(), "output="))
	}
	quick := script(t, "sleep 30 & echo $!")
	start := time.Now()
	must(t, n.runScript(testContext(t), "leaver", []string{quick}, nil))
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("a process left behind held the command up for %v", took)
	}
}
