package leash

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func in(d time.Duration) int64 { return Now() + int64(d) }

// TestDeadline: what the clients see when nobody extends the deadline.
func TestDeadline(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(r *rig) // with the server running
		// hurry: SIGQUIT is enough, the sweep has nothing to wait for
		hurry bool
	}{
		{name: "healthy", before: func(*rig) {}, hurry: true},
		{name: "postmaster stopped (P4)", before: func(r *rig) { r.signal(r.pid, syscall.SIGSTOP) }},
		{name: "backend stopped (P3)", before: func(r *rig) {
			r.signal(int(r.connect().PgConn().PID()), syscall.SIGSTOP)
		}},
		{name: "procedure with commits (P1)", before: func(r *rig) { r.procedure() }, hurry: true},
		{name: "procedure, postmaster stopped", before: func(r *rig) {
			r.procedure()
			r.signal(r.pid, syscall.SIGSTOP)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t).primary(in(30 * time.Second))
			r.exec("create table probe(t timestamptz)")
			p := r.probe()
			c.before(r)
			late := r.yardstick()
			// A shorter deadline can only come with a fresh epoch.
			d := in(300 * time.Millisecond)
			r.must(r.agent.Arm(r.ctx, 2, d))
			if e := r.event(DeadlinePassed, 10*time.Second); e.Epoch != 2 {
				t.Errorf("deadline of epoch %d passed, want 2", e.Epoch)
			}
			e := r.event(ServerExited, 10*time.Second)
			last := p.end(r)
			gone := time.Duration(e.Exit.Gone - d)
			t.Logf("last ack %v, all gone %v after the deadline; %d commits, %d killed", time.Duration(last-d), gone, p.n, e.Exit.Killed)
			limit := slack + crowded(late())
			if !c.hurry {
				limit += testQuiet
			}
			if over := time.Duration(last - d); over > limit {
				t.Errorf("an ack %v after the deadline, limit %v", over, limit)
			}
			if last < d-int64(200*time.Millisecond) && c.hurry {
				t.Errorf("the last ack was %v before the deadline: the server went too early", time.Duration(d-last))
			}
			if gone > limit {
				t.Errorf("all gone %v after the deadline, limit %v", gone, limit)
			}
			if !e.Exit.Fenced || e.Exit.Epoch != 2 {
				t.Errorf("exit %+v, want one fenced for epoch 2", *e.Exit)
			}
			r.gone()
			r.afterDeadline(2)
		})
	}
}

// afterDeadline checks the latch and the trap for a stray pg_ctl start.
func (r *rig) afterDeadline(epoch int64) {
	r.Helper()
	st, err := r.agent.Status(r.ctx)
	r.must(err)
	if st.HighestLatched != epoch || st.Armed || st.Server != nil || st.LastExit == nil {
		r.Errorf("status %+v, want epoch %d latched and no server", st, epoch)
	}
	r.refused(r.agent.Arm(r.ctx, epoch, in(time.Second)), CodeLatched)
	if err := r.agent.Extend(epoch, in(time.Second)); !errors.Is(err, ErrLatched) {
		r.Errorf("extend: %v, want ErrLatched", err)
	}
	if !exists(r.standbySignal()) {
		r.Error("no standby.signal after the deadline")
	}
	r.must(os.Remove(r.standbySignal()))
	_, err = r.agent.Start(r.ctx, r.startRequest(true))
	r.refused(err, CodeNotArmed)
}

// TestExtend: the record alone keeps the server alive, without a wake-up.
func TestExtend(t *testing.T) {
	r := newRig(t).primary(in(10 * time.Second))
	r.must(r.agent.Arm(r.ctx, 2, in(800*time.Millisecond)))
	until := in(2 * time.Second)
	var d int64
	r.eventually(5*time.Second, func() bool {
		d = in(700 * time.Millisecond)
		r.must(r.agent.Extend(2, d))
		return Now() > until
	})
	if !r.alive(r.pid) {
		t.Fatal("the server died although its deadline was extended")
	}
	if err := r.agent.Extend(1, in(time.Second)); !errors.Is(err, ErrNotArmed) {
		t.Errorf("extend of another epoch: %v", err)
	}
	if err := r.agent.Extend(2, in(testLmax+time.Second)); !errors.Is(err, ErrDeadline) {
		t.Errorf("extend beyond the limit: %v", err)
	}
	if age := time.Duration(Now() - r.agent.Beat()); age > 3*BeatInterval {
		t.Errorf("last beat %v ago", age)
	}
	e := r.event(ServerExited, 10*time.Second)
	if e.Exit.At < d {
		t.Errorf("killed %v before the extended deadline", time.Duration(d-e.Exit.At))
	}
}

// TestAgentKilled: kill -9 of the agent, and a new one finds all as it was.
func TestAgentKilled(t *testing.T) {
	r := newRig(t)
	d := in(20 * time.Second)
	order, err := json.Marshal(agentOrder{Spawn: r.options, Start: r.startRequest(true), Epoch: 7, Deadline: d})
	r.must(err)
	agent := exec.Command(r.options.Binary)
	agent.Env = append(os.Environ(), partEnv+"=agent", "PGHA_LEASH_TEST_ORDER="+string(order))
	in, err := agent.StdinPipe()
	r.must(err)
	defer in.Close()
	out, err := agent.StdoutPipe()
	r.must(err)
	r.must(agent.Start())
	var line string
	_, err = fmt.Fscanln(out, &line)
	r.must(err)
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatalf("agent: %s", line)
	}
	r.pid = pid
	r.ready()
	r.exec("create table probe(t timestamptz)")
	p := r.probe()
	r.must(agent.Process.Kill())
	_ = agent.Wait()

	r.spawn()
	st, err := r.agent.Status(r.ctx)
	r.must(err)
	if st.Server == nil || st.Server.PID != pid || !st.Armed || st.Epoch != 7 || st.Deadline != d || len(st.Degraded) > 0 {
		t.Fatalf("status %+v, server %+v", st, st.Server)
	}
	r.must(r.agent.Extend(7, Now()+int64(25*time.Second)))
	select {
	case <-p.done:
		t.Fatal("the client of the server lost its connection")
	default:
	}
	r.must(r.agent.Signal(r.ctx, syscall.SIGINT))
	e := r.event(ServerExited, 10*time.Second)
	p.end(r)
	if e.Exit.Code != 0 || e.Exit.Fenced || e.Exit.Orphans != 0 || e.Exit.PID != pid {
		t.Errorf("exit of an orderly stop: %+v", *e.Exit)
	}
}

// TestLeashKilled: the kernel stops the server with its leash.
func TestLeashKilled(t *testing.T) {
	r := newRig(t).primary(in(20 * time.Second))
	r.exec("create table probe(t timestamptz)")
	p := r.probe()
	st, err := r.agent.Status(r.ctx)
	r.must(err)
	late := r.yardstick()
	killed := Now()
	r.signal(st.PID, syscall.SIGKILL)
	r.event(LeashLost, 10*time.Second)
	last := p.end(r)
	if !r.eventually(5*time.Second, func() bool { return len(r.processes()) == 0 }) {
		t.Fatalf("processes left: %v", r.processes())
	}
	gone := time.Duration(Now() - killed)
	t.Logf("last ack %v, all gone %v after the kill", time.Duration(last-killed), gone)
	if gone > 500*time.Millisecond+crowded(late()) {
		t.Errorf("all gone after %v", gone)
	}
	if err := r.agent.Arm(r.ctx, 2, in(time.Second)); err == nil {
		t.Error("a dead leash was armed")
	}
	r.must(r.agent.Close())

	// The next leash remembers the epoch, and may start it again in place.
	r.spawn()
	if st, err = r.agent.Status(r.ctx); err != nil || st.HighestArmed != 1 || !st.Armed || st.Epoch != 1 {
		t.Fatalf("status %+v, %v", st, err)
	}
	r.refused(r.agent.Arm(r.ctx, 0, in(time.Second)), CodeEpoch)
	r.must(r.agent.Arm(r.ctx, 1, in(25*time.Second)))
	r.start(true)
}

// TestLeashKilledBackendStopped: what the kernel could not stop is swept by
// the next leash.
func TestLeashKilledBackendStopped(t *testing.T) {
	r := newRig(t).primary(in(20 * time.Second))
	stopped := int(r.connect().PgConn().PID())
	r.signal(stopped, syscall.SIGSTOP)
	st, err := r.agent.Status(r.ctx)
	r.must(err)
	r.signal(st.PID, syscall.SIGKILL)
	r.event(LeashLost, 10*time.Second)
	r.signal(r.pid, syscall.SIGKILL) // it would wait 5 s for the stopped one (P3)
	if !r.eventually(5*time.Second, func() bool { return !r.alive(r.pid) && len(r.processes()) == 1 }) {
		t.Fatalf("processes left: %v, want only %d", r.processes(), stopped)
	}
	r.must(r.agent.Close())
	r.spawn()
	_, err = r.agent.Start(r.ctx, r.startRequest(true))
	r.refused(err, CodeDataDir)
	if !strings.Contains(err.Error(), "sweep") {
		t.Errorf("the refusal does not say how to go on: %v", err)
	}
	r.must(r.agent.Sweep(r.ctx, r.data))
	r.gone()
	r.start(true)
}

// TestSuspended: in pause the deadline passes without effect.
func TestSuspended(t *testing.T) {
	r := newRig(t).primary(in(10 * time.Second))
	d := in(300 * time.Millisecond)
	r.must(r.agent.Arm(r.ctx, 2, d))
	r.must(r.agent.Suspend(r.ctx, "pause"))
	r.refused(r.agent.Arm(r.ctx, 3, in(time.Second)), CodeSuspended)
	r.eventually(2*time.Second, func() bool { return Now() > d+int64(500*time.Millisecond) })
	st, err := r.agent.Status(r.ctx)
	r.must(err)
	if !st.Suspended || st.SuspendReason != "pause" || st.HighestLatched != 0 || st.Server == nil || !r.alive(r.pid) {
		t.Fatalf("status %+v", st)
	}
	r.refused(r.agent.Resume(r.ctx, 0, 0), CodeWritable)
	r.must(r.agent.Resume(r.ctx, 2, in(300*time.Millisecond)))
	if e := r.event(ServerExited, 10*time.Second); !e.Exit.Fenced {
		t.Errorf("exit %+v", *e.Exit)
	}
}

// TestPostmasterKilled: orphans go on committing (P1), so they are swept
// before anybody is told that the server is gone.
func TestPostmasterKilled(t *testing.T) {
	r := newRig(t).primary(in(20 * time.Second))
	r.exec("create table probe(t timestamptz)")
	backend := r.procedure()
	r.signal(r.pid, syscall.SIGKILL)
	e := r.event(ServerExited, 10*time.Second)
	told := time.Now()
	if r.alive(backend) {
		t.Error("the backend of the procedure lives")
	}
	r.gone()
	if e.Exit.Orphans == 0 || e.Exit.Signal != int(syscall.SIGKILL) || e.Exit.Fenced {
		t.Errorf("exit %+v, want orphans and signal 9", *e.Exit)
	}
	t.Logf("%d orphans gone %v after the postmaster", e.Exit.Orphans, time.Duration(e.Exit.Gone-e.Exit.At))
	r.start(true) // in place: still armed
	last := r.value("select extract(epoch from max(t))::text from probe")
	sec, err := strconv.ParseFloat(last, 64)
	r.must(err)
	if sec > float64(told.UnixNano())/1e9 {
		t.Error("a commit after the server was reported gone")
	}
}

// TestFence: the sequence of the deadline on request, the epoch stays.
func TestFence(t *testing.T) {
	r := newRig(t).primary(in(20 * time.Second))
	r.signal(r.pid, syscall.SIGSTOP)
	r.must(r.agent.Fence(r.ctx))
	r.gone()
	st, err := r.agent.Status(r.ctx)
	r.must(err)
	if !st.Armed || st.HighestLatched != 0 || exists(r.standbySignal()) {
		t.Errorf("status %+v", st)
	}
	r.refused(r.agent.Fence(r.ctx), CodeNoServer)
	r.start(true)
	r.must(r.agent.Sweep(r.ctx, r.data))
	r.gone()
}

// TestStartRefused: every directory that must not come up.
func TestStartRefused(t *testing.T) {
	r := newRig(t).spawn()
	_, err := r.agent.Start(r.ctx, r.startRequest(true))
	r.refused(err, CodeNotArmed)
	_, err = r.agent.Start(r.ctx, r.startRequest(false))
	r.refused(err, CodeWritable)

	// recovery.signal alone ends in a server that writes.
	r.touch(filepath.Join(r.data, recoverySignal), "")
	_, err = r.agent.Start(r.ctx, r.startRequest(true))
	r.refused(err, CodeNotArmed)
	r.must(os.Remove(filepath.Join(r.data, recoverySignal)))

	r.touch(r.standbySignal(), "")
	for _, path := range MarkerPaths(r.data) {
		r.touch(path, "clone\n")
		_, err = r.agent.Start(r.ctx, r.startRequest(false))
		r.refused(err, CodeInProgress)
		r.must(os.Remove(path))
	}
	foreign := r.startRequest(false)
	foreign.SystemID = "1"
	_, err = r.agent.Start(r.ctx, foreign)
	r.refused(err, CodeDataDir)
	r.must(os.Chmod(r.data, 0o755))
	_, err = r.agent.Start(r.ctx, r.startRequest(false))
	r.refused(err, CodeDataDir)
	r.must(os.Chmod(r.data, 0o700))
	missing := r.startRequest(false)
	missing.Path = "/nonexistent/postgres"
	_, err = r.agent.Start(r.ctx, missing)
	r.refused(err, CodeSystem)
	r.gone()

	r.start(false)
	_, err = r.agent.Start(r.ctx, r.startRequest(false))
	r.refused(err, CodeServerRuns)
	r.refused(r.agent.Quit(r.ctx), CodeServerRuns)
}

// TestBootstrap: the one start of a writable server without a deadline.
func TestBootstrap(t *testing.T) {
	r := newRig(t).spawn()
	req := r.startRequest(true)
	req.Bootstrap = true
	_, err := r.agent.Start(r.ctx, req)
	r.refused(err, CodeNotArmed)
	r.touch(filepath.Join(r.data, InProgressMarker), MarkerBootstrap)
	_, err = r.agent.Start(r.ctx, r.startRequest(true))
	r.refused(err, CodeInProgress)
	r.pid, err = r.agent.Start(r.ctx, req)
	r.must(err)
	r.ready()
	r.must(r.agent.Arm(r.ctx, 1, in(5*time.Second)))
}

// TestEpochsOfAnotherEtcd: which etcd cluster the epochs are of outlives the leash,
// and is not known again when an agent of an earlier version arms.
func TestEpochsOfAnotherEtcd(t *testing.T) {
	r := newRig(t).spawn()
	check := func(epoch int64, etcd uint64) {
		t.Helper()
		st, err := r.agent.Status(r.ctx)
		r.must(err)
		if st.HighestArmed != epoch || st.Etcd != etcd {
			t.Errorf("epoch %d of etcd %x, want %d of %x", st.HighestArmed, st.Etcd, epoch, etcd)
		}
	}
	r.agent.OfEtcd(0xfeed)
	r.must(r.agent.Arm(r.ctx, 500, in(20*time.Second)))
	r.must(r.agent.Disarm(r.ctx, 500))
	r.must(r.agent.Quit(r.ctx))
	r.spawn()
	check(500, 0xfeed)
	r.refused(r.agent.Arm(r.ctx, 8, in(20*time.Second)), CodeEpoch) // within one count: the agent begins another
	r.must(r.agent.Arm(r.ctx, 501, in(20*time.Second)))
	check(501, 0)
}

// TestDisarm: proof of recovery, from a standby that was armed and not promoted,
// and none from one that was.
func TestDisarm(t *testing.T) {
	r := newRig(t).spawn()
	r.touch(r.standbySignal(), "")
	r.start(false)
	r.must(r.agent.Arm(r.ctx, 1, in(20*time.Second)))
	r.must(r.agent.Disarm(r.ctx, 1))
	r.refused(r.agent.Arm(r.ctx, 1, in(time.Second)), CodeEpoch)

	r.must(r.agent.Arm(r.ctx, 2, in(20*time.Second)))
	r.exec("select pg_promote()")
	r.refused(r.agent.Disarm(r.ctx, 2), CodeWritable)
	r.touch(r.standbySignal(), "") // the file alone proves nothing
	r.refused(r.agent.Disarm(r.ctx, 2), CodeWritable)
	r.must(r.agent.Signal(r.ctx, syscall.SIGINT))
	r.event(ServerExited, 10*time.Second)
	r.must(r.agent.Disarm(r.ctx, 2))
}

// TestAdopt: a server that somebody else started is killed all the same.
func TestAdopt(t *testing.T) {
	r := newRig(t).spawn()
	_, err := r.agent.Adopt(r.ctx, r.data, "")
	r.refused(err, CodeDataDir)
	out, err := exec.Command(pgBin+"/pg_ctl", "start", "-w", "-D", r.data, "-o", "-k "+r.base, "-l", filepath.Join(r.base, "server.log")).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_ctl: %v: %s", err, out)
	}
	r.exec("create table probe(t timestamptz)")
	r.must(r.agent.Arm(r.ctx, 1, in(20*time.Second)))
	_, err = r.agent.Start(r.ctx, r.startRequest(true))
	r.refused(err, CodeDataDir)
	r.refused(r.agent.Sweep(r.ctx, r.data), CodeDataDir)
	_, err = r.agent.Adopt(r.ctx, r.data, "1")
	r.refused(err, CodeDataDir)
	r.pid, err = r.agent.Adopt(r.ctx, r.data, "")
	r.must(err)
	st, err := r.agent.Status(r.ctx)
	r.must(err)
	if st.Server == nil || !st.Server.Adopted || !st.Server.Writable || len(st.Degraded) == 0 {
		t.Errorf("status %+v, server %+v", st, st.Server)
	}
	r.procedure()
	r.signal(r.pid, syscall.SIGKILL) // its orphans are not our children
	e := r.event(ServerExited, 10*time.Second)
	r.gone()
	if e.Exit.Orphans == 0 || !e.Exit.Unknown {
		t.Errorf("exit %+v, want orphans and an unknown status", *e.Exit)
	}
}

// TestAdoptedDeadline: the postmaster does not answer and is not our child.
func TestAdoptedDeadline(t *testing.T) {
	r := newRig(t).spawn()
	out, err := exec.Command(pgBin+"/pg_ctl", "start", "-w", "-D", r.data, "-o", "-k "+r.base, "-l", filepath.Join(r.base, "server.log")).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_ctl: %v: %s", err, out)
	}
	r.exec("create table probe(t timestamptz)")
	r.pid, err = r.agent.Adopt(r.ctx, r.data, "")
	r.must(err)
	r.procedure()
	r.signal(r.pid, syscall.SIGSTOP)
	late := r.yardstick()
	d := in(200 * time.Millisecond)
	r.must(r.agent.Arm(r.ctx, 1, d))
	e := r.event(ServerExited, 10*time.Second)
	r.gone()
	if gone := time.Duration(e.Exit.Gone - d); gone > testQuiet+slack+crowded(late()) {
		t.Errorf("all gone %v after the deadline", gone)
	}
}

// TestOneLeash: a run directory has one leash, which leaves when told to.
func TestOneLeash(t *testing.T) {
	r := newRig(t).spawn()
	first, err := r.agent.Status(r.ctx)
	r.must(err)
	other, err := Spawn(r.ctx, r.options)
	r.must(err)
	st, err := other.Status(r.ctx)
	r.must(err)
	if st.PID != first.PID {
		t.Errorf("a second leash: %d beside %d", st.PID, first.PID)
	}
	r.must(other.Close())
	out, err := exec.Command(r.options.Binary, "-run-dir", r.run, "-foreground").CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != exitLocked {
		t.Errorf("second leash: %v: %s", err, out)
	}
	r.signal(first.PID, syscall.SIGHUP)
	r.signal(first.PID, syscall.SIGPIPE)
	_, err = r.agent.Status(r.ctx)
	r.must(err)
	r.must(r.agent.Quit(r.ctx))
	if _, err := Attach(r.ctx, r.run); !errors.Is(err, ErrNoLeash) {
		t.Errorf("attach after quit: %v", err)
	}
}

// TestIdle: nobody needs a leash without agent and server.
func TestIdle(t *testing.T) {
	r := newRig(t)
	cmd := exec.Command(r.options.Binary, "-run-dir", r.run, "-idle", "100ms", "-log-file", r.options.LogFile)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("start: %v: %s", err, out)
	}
	if !r.eventually(10*time.Second, func() bool { return strings.HasSuffix(r.log(), "leaving") }) {
		t.Fatalf("log: %s", r.log())
	}
	if _, err := Attach(r.ctx, r.run); !errors.Is(err, ErrNoLeash) {
		t.Errorf("attach: %v", err)
	}
}

// TestHoldIsVerifiedLate: right after an exec the auxiliary vector may not be
// there yet, as it is not there any more in a zombie.
func TestHoldIsVerifiedLate(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	var st unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &st, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	s := &server{pid: cmd.Process.Pid, unverified: true}
	if s.degraded() == "" {
		t.Error("no doubt about a process without an auxiliary vector")
	}
	s.pid = os.Getpid()
	if text := s.degraded(); text != "" {
		t.Errorf("once the vector is there: %s", text)
	}
}

// TestSweepWithoutFiles: a leash that cannot open anything, /proc neither, kills the
// postmaster by what it holds already.
func TestSweepWithoutFiles(t *testing.T) {
	fd := -1
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	s := &server{pid: cmd.Process.Pid, pidfd: fd, killed: map[procKey]bool{}}
	none := unix.Rlimit{Cur: 0, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	done, err := s.pass(Now())
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); e != nil {
		t.Fatal(e)
	}
	if done || err == nil {
		t.Errorf("done %v, error %v", done, err)
	}
	late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill(); t.Error("it lived on") })
	defer late.Stop()
	if err := cmd.Wait(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
}
