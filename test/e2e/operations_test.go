//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/lab"
)

// notebook is a script of the operator's that writes down how it was called.
type notebook struct {
	*row
	script, notes string
}

// notebookOf makes one for a node.
func (r *row) notebookOf(n *lab.Node) *notebook {
	r.Helper()
	b := &notebook{row: r, script: filepath.Join(n.Dir, "script.sh"), notes: filepath.Join(n.Dir, "script.notes")}
	r.must(r.WriteOwnFile(b.script, []byte("#!/bin/sh\necho \"$*\" >> "+b.notes+"\n"), 0o755))
	r.must(r.WriteOwnFile(b.notes, nil, 0o644))
	return b
}

func (b *notebook) lines() []string {
	text, err := os.ReadFile(b.notes)
	b.must(err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// told waits until the script was called with these words.
func (b *notebook) told(words string) {
	b.Helper()
	b.eventually("a call with "+words+" in "+b.notes, func() bool { return slices.Contains(b.lines(), words) })
}

func (b *notebook) clear() { b.must(os.Truncate(b.notes, 0)) }

// All callbacks and hooks with their arguments, along a reload, a restart, a
// switchover and the end of an agent; and settings that are bound to a role.
func TestOperatorScripts(t *testing.T) {
	r := begin(t)
	scope := r.Options().Scope
	books := map[*lab.Node]*notebook{}
	for _, n := range r.Nodes {
		b := r.notebookOf(n)
		books[n] = b
		callbacks := object{}
		for _, event := range []string{"on_start", "on_stop", "on_restart", "on_reload", "on_role_change"} {
			callbacks[event] = b.script
		}
		r.must(r.WriteConfig(n, object{"postgresql": object{
			"callbacks": callbacks, "pre_promote": b.script + " may promote", "before_stop": b.script + " before stop",
			"parameters_primary": object{"work_mem": "6MB"}, "parameters_replica": object{"work_mem": "7MB"},
		}}))
		r.send(n, "POST", "/reload", nil, 202, "reload scheduled")
	}
	standby := r.replica()
	workMem := func(n *lab.Node, want string) {
		t.Helper()
		r.eventually("work_mem "+want+" at "+n.Name, func() bool { return r.sql("show work_mem", "-m", n.Name) == "work_mem\n"+want+"\n" })
	}
	books[r.leader].told("on_reload primary " + scope)
	books[standby].told("on_reload replica " + scope)
	workMem(r.leader, "6MB")
	workMem(standby, "7MB")

	r.send(standby, "POST", "/restart", nil, 200, "restarted successfully")
	books[standby].told("on_restart replica " + scope)
	books[standby].told("before stop")

	r.switchover(r.leader, standby)
	if next := r.newLeader(r.leader); next != standby {
		t.Fatalf("%s leads, not %s", next.Name, standby.Name)
	}
	books[standby].told("may promote")
	books[standby].told("on_role_change primary " + scope)
	books[r.leader].told("before stop")
	books[r.leader].told("on_role_change replica " + scope)
	r.streaming(lab.Boottime())
	workMem(standby, "6MB")
	workMem(r.leader, "7MB")

	books[r.leader].clear()
	_, err := r.StopAgent(r.ctx, r.leader)
	r.must(err)
	books[r.leader].told("on_stop replica " + scope)
	if got := books[r.leader].lines(); !slices.Equal(got, []string{"before stop", "on_stop replica " + scope}) {
		t.Errorf("at its end the agent called the script with %q", got)
	}
	books[r.leader].clear()
	r.must(r.StartAgent(r.leader))
	books[r.leader].told("on_start replica " + scope)
	r.streaming(lab.Boottime())

	for _, n := range r.Nodes {
		r.must(r.WriteConfig(n))
		r.send(n, "POST", "/reload", nil, 202, "reload scheduled")
	}
	for _, n := range r.Nodes {
		workMem(n, "4MB")
	}
	r.finish(none)
}

// A primary that takes long to stop: the key goes as soon as a member has
// everything, and not when the last process is gone.
func TestEarlyRelease(t *testing.T) {
	onlyLong(t)
	r := begin(t)
	archiving := func(mode, command any) {
		t.Helper()
		r.patch(object{"postgresql": object{"parameters": object{"archive_mode": mode, "archive_command": command}}})
	}
	archiving("on", "sleep 30")
	r.eventually("the restart is pending", func() bool { return r.pendingRestart(r.leader, "archive_mode") })
	r.send(r.leader, "POST", "/restart", nil, 200, "restarted successfully")
	r.streaming(lab.Boottime())
	r.sql("select pg_switch_wal()")

	began := lab.Boottime()
	r.switchover(r.leader, r.replica())
	next := r.newLeader(r.leader)
	if !r.ServerRuns(r.leader) {
		t.Error("the old server is gone: either its archiver did not hang, or the key was kept until then")
	}
	t.Logf("switchover to %s while archiving hangs: gap %d ms", next.Name, r.gap(began).Milliseconds())
	archiving(nil, nil)
	r.streaming(lab.Boottime())
	r.finish(none)
	cluster.broken = true // archive_mode waits for restarts: the next row gets a cluster of its own
}

// pgha.leash: off, as in a container: the member says so loudly, serves all the
// same, and stops its server when it is stopped.
func TestLeashOff(t *testing.T) {
	r := begin(t)
	n := r.stopStandby(r.ctx)
	_, offset := r.AgentLog(n, 0)
	r.must(r.WriteConfig(n, object{"pgha": object{"leash": "off"}}))
	r.must(r.StartAgent(n))
	r.streaming(lab.Boottime())
	if log, _ := r.AgentLog(n, offset); !strings.Contains(log, "pgha.leash") {
		t.Errorf("the agent does not say that it has no leash:\n%s", log)
	}
	if _, err := r.Pid(n, lab.Leash); err == nil {
		t.Error("there is a leash")
	}
	_, text, err := r.Send(r.ctx, n, "GET", "/metrics", nil)
	r.must(err)
	if !strings.Contains(text, "pgha_leash_off{") || !strings.Contains(text[strings.Index(text, "pgha_leash_off{"):], "} 1") {
		t.Error("/metrics does not say so")
	}

	began := lab.Boottime()
	r.switchover(r.leader, n)
	if next := r.newLeader(r.leader); next != n {
		t.Fatalf("%s leads, not %s", next.Name, n.Name)
	}
	t.Logf("switchover to a member without a leash: gap %d ms", r.gap(began).Milliseconds())
	r.streaming(lab.Boottime())
	_, err = r.StopAgent(r.ctx, n)
	r.must(err)
	r.stopped(n)
	r.newLeader(n)
	r.must(r.WriteConfig(n))
	r.must(r.StartAgent(n))
	r.streaming(lab.Boottime())
	r.finish(none)
}

// scripts is a directory of an operator's scripts, each of which writes down its
// arguments and knows --datadir as $d and --connstring as $c.
type scripts struct {
	t   *testing.T
	dir string
}

func newScripts(t *testing.T) *scripts {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgha-e2e-scripts-") // not t.TempDir: the servers' account has no way in there
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &scripts{t, dir}
}

func (s *scripts) write(name, body string) (path string) {
	path = filepath.Join(s.dir, name)
	head := "#!/bin/sh\nset -e\necho \"$*\" >> " + path + ".args\n" +
		"for a in \"$@\"; do case $a in --datadir=*) d=${a#*=};; --connstring=*) c=${a#*=};; esac; done\n"
	if err := os.WriteFile(path, []byte(head+body+"\n"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *scripts) args(name string) string {
	text, err := os.ReadFile(filepath.Join(s.dir, name+".args"))
	if err != nil {
		s.t.Error(err)
	}
	return strings.TrimSpace(string(text))
}

// A cluster that is made by a script, whose replica is made by another, and that
// gets its first objects from a third; each with the arguments of the contract.
func TestCustomMethods(t *testing.T) {
	t.Parallel() // a cluster of its own
	s := newScripts(t)
	bin, err := lab.FindPostgres()
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(o *lab.Options) {
		o.Nodes, o.Etcd, o.BasePort = 2, 1, 25800
		o.Config = object{
			"bootstrap": object{
				"method":         "ours",
				"ours":           object{"command": s.write("make", bin+`/initdb -D "$d" -U postgres -E UTF8 -k --locale=C.UTF-8 >/dev/null`), "colour": "blue"},
				"post_bootstrap": s.write("first", bin+`/psql -XAtq "$1" -c "CREATE TABLE made_by_hand AS SELECT 42 AS v"`),
			},
			"postgresql": object{
				"create_replica_methods": []any{"copy", "basebackup"},
				"copy":                   object{"command": s.write("copy", bin+`/pg_basebackup -D "$d" -X stream -c fast -d "$c"`), "speed": 7},
			},
		}
	})
	r := &row{T: t, Lab: l, ctx: t.Context()}
	t.Cleanup(func() {
		if t.Failed() {
			logs(t, l)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(l.Options().Dir)
	})
	boot(t, l)
	r.leader = r.soleLeader()
	for _, n := range r.Nodes {
		r.eventually("the table at "+n.Name, func() bool { return r.sql("select v from made_by_hand", "-m", n.Name) == "v\n42\n" })
	}
	scope, replica := l.Options().Scope, r.replica()
	if got, want := s.args("make"), "--scope="+scope+" --datadir="+r.leader.DataDir+" --colour=blue"; got != want {
		t.Errorf("bootstrap: %q, want %q", got, want)
	}
	got, want := s.args("copy"), "--speed=7 --scope="+scope+" --role=replica --datadir="+replica.DataDir+" --connstring="
	if !strings.HasPrefix(got, want) || !strings.Contains(got, "user=replicator") || strings.Contains(got, l.Password()) {
		t.Errorf("replica: %q, want %q and a connection string without a password", got, want)
	}
	if got := s.args("first"); !strings.Contains(got, "user=postgres") || strings.Contains(got, l.Password()) {
		t.Errorf("post_bootstrap: %q", got)
	}
}
