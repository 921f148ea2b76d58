//go:build e2e

package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/lab"
)

func hostRows() []row {
	return []row{
		{id: "10", title: "whole host frozen 20 s, thawed", expect: "F", run: freezeHost, needs: hostFreezer},
		{id: "11", title: "SIGSTOP postmaster", expect: "failover within 10 s", run: stopPostmaster, proc: true},
		{id: "12", title: "SIGSTOP one backend, then demote", expect: "F, server gone in time", run: stopBackend},
		{id: "13", title: "no memory: the kernel kills the agent, restarted after 1 s", expect: "N", run: agentOutOfMemory, needs: memoryCgroup},
		{id: "13b", title: "no memory: the kernel kills a backend", expect: "N", run: backendOutOfMemory, needs: memoryCgroup},
		{id: "14", title: "no more processes, no more files for the agent, 15 s", expect: "N", run: starve, needs: pidsCgroup, fast: true},
		{id: "15", title: "8 busy loops on the primary's host, 30 s", expect: "N", run: hog, fast: true},
		{id: "16", title: "DNS dead", expect: "N", run: deafDNS},
	}
}

func freezeHost(x *run) {
	x.must(x.FreezeHost(x.leader))
	x.whenHealed(func() error { return x.ThawHost(x.leader) })
	x.failsOver(x.c.failover())
	x.lasts(20 * time.Second)
	thawed := lab.Boottime()
	x.heal()
	x.must(x.settled(patience))
	late := 0
	for _, op := range x.load.History() {
		if op.Outcome == lab.OK && op.Node == x.leader.Name && op.Return > thawed {
			late++
		}
	}
	x.figure("writes acknowledged by the old primary after the thaw", float64(late), "")
}

func stopPostmaster(x *run) {
	x.whenHealed(func() error {
		_ = x.Signal(x.leader, lab.Postmaster, syscall.SIGCONT) // long gone, one hopes
		return nil
	})
	x.must(x.Signal(x.leader, lab.Postmaster, syscall.SIGSTOP))
	x.failsOver(slack(10 * time.Second))
}

// stopBackend stops a backend that then answers no signal but SIGKILL, and has the
// primary demoted by cutting it off from etcd.
func stopBackend(x *run) {
	server, err := x.Pid(x.leader, lab.Postmaster)
	x.must(err)
	x.must(x.SignalBackend(x.leader, syscall.SIGSTOP))
	x.fault()
	x.must(x.Isolate(x.leader, lab.FromEtcd))
	x.whenHealed(func() error { return x.Heal(x.leader, lab.FromEtcd) })
	x.eventually("the end of the server", func() bool {
		now, err := x.Pid(x.leader, lab.Postmaster)
		return err != nil || now != server
	})
	gone := lab.Boottime() - x.began
	x.millis("server gone after", gone)
	if gone > x.c.last {
		x.wrong("the server lived for %s, more than %s", gone, x.c.last)
	}
	x.failsOver(x.c.failover())
}

// starve lets every fork fail, and every new file descriptor of the agent.
func starve(x *run) {
	agent, err := x.Pid(x.leader, lab.Agent)
	x.must(err)
	// As the agent's own account: the rig need not have the capability.
	limit := func(how ...string) (string, error) {
		return x.AsServer(x.ctx, x.leader, "prlimit", append([]string{"--pid", strconv.Itoa(agent), "--noheadings", "--raw"}, how...)...)
	}
	before, err := limit("--nofile", "--output=SOFT")
	x.must(err)
	_, err = limit("--nofile=8:") // fewer than it has: what is open stays
	x.must(err)
	x.whenHealed(func() error {
		_, err := limit("--nofile=" + strings.TrimSpace(before) + ":")
		return err
	})
	dir := "/sys/fs/cgroup/pids/pgha-chaos-" + strconv.Itoa(agent)
	x.must(os.Mkdir(dir, 0o755))
	set := func(file, value string) error { return os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644) }
	move := func(procs string) error {
		for _, pid := range x.Pids(x.leader) {
			_ = os.WriteFile(procs, []byte(strconv.Itoa(pid)), 0o644) // it may have ended
		}
		return nil
	}
	x.whenHealed(func() error {
		if err := move("/sys/fs/cgroup/pids/cgroup.procs"); err != nil {
			return err
		}
		_ = os.Remove(dir) // what was born meanwhile holds it
		return nil
	})
	x.must(move(filepath.Join(dir, "cgroup.procs")))
	x.fault()
	x.must(set("pids.max", "1"))
	x.whenHealed(func() error { return set("pids.max", "max") })
	x.lasts(15 * time.Second)
}

// confine moves a process into a cgroup of its own with so much memory. What it has
// already does not count.
func (x *run) confine(pid int, bytes int64) {
	dir := filepath.Join(memoryRoot, "pgha-chaos-"+strconv.Itoa(pid))
	x.must(os.Mkdir(dir, 0o755))
	x.whenHealed(func() error {
		_ = os.Remove(dir) // when it is empty
		return nil
	})
	x.must(os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte(strconv.FormatInt(bytes, 10)), 0o644))
	x.must(os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644))
}

func agentOutOfMemory(x *run) {
	x.must(x.Supervise(x.leader, true))
	x.whenHealed(func() error { return x.Supervise(x.leader, false) })
	server, err := x.Pid(x.leader, lab.Postmaster)
	x.must(err)
	agent, err := x.Pid(x.leader, lab.Agent)
	x.must(err)
	x.fault()
	x.confine(agent, 64<<10)
	x.eventually("another agent", func() bool {
		_, _ = x.Get(x.ctx, x.leader, "/metrics", nil) // it needs some memory to say no
		now, err := x.Pid(x.leader, lab.Agent)
		return err == nil && now != agent
	})
	x.millis("killed and restarted after", lab.Boottime()-x.began)
	x.lasts(lab.Boottime() - x.began + x.c.ttl + time.Second)
	if now, err := x.Pid(x.leader, lab.Postmaster); err != nil || now != server {
		x.wrong("the server was touched: postmaster %d, now %d (%v)", server, now, err)
	}
}

func backendOutOfMemory(x *run) {
	conn, err := x.ConnectLocal(x.ctx, x.leader)
	x.must(err)
	defer func() { _ = conn.Close(x.ctx) }()
	_, err = conn.Exec(x.ctx, "SET work_mem = '1GB'")
	x.must(err)
	x.confine(int(conn.PgConn().PID()), 8<<20)
	x.fault()
	if _, err := conn.Exec(x.ctx, "SELECT count(*) FROM (SELECT i FROM generate_series(1, 2000000) i ORDER BY i % 1000, i) s"); err == nil {
		x.wrong("the backend was not killed: the row proves nothing")
	}
	x.acked(lab.Boottime())
	x.gapWithin(release() + 2*time.Second) // the server's own restart after a crash of a backend
}

const spinners = 8

func hog(x *run) {
	for range spinners {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		x.must(cmd.Start())
		x.whenHealed(func() error {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return nil
		})
	}
	x.lasts(30 * time.Second)
}

// deafDNS points resolvers to an address nobody has, for everybody in the rig's
// mount namespace.
func deafDNS(x *run) {
	path := filepath.Join(x.Options().Dir, "resolv.conf")
	x.must(os.WriteFile(path, []byte("nameserver 192.0.2.250\n"), 0o644))
	x.must(unix.Mount(path, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	x.whenHealed(func() error {
		if err := unix.Unmount("/etc/resolv.conf", 0); err != nil {
			return fmt.Errorf("unmount resolv.conf: %w", err)
		}
		return nil
	})
	x.lasts(2*x.c.ttl + time.Second)
}
