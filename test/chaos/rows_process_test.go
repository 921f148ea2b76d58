//go:build e2e

package chaos

import (
	"errors"
	"syscall"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

func processRows() []row {
	return []row{
		{id: "1", title: "kill -9 postmaster", expect: "restart in place or Q", run: killPostmaster, proc: true, quick: true},
		{id: "2", title: "kill -9 one backend", expect: "N", run: killBackend, reg: true},
		{id: "3", title: "kill -9 agent, restarted after 1 s", expect: "N", run: killAgentSupervised, reg: true, fast: true, quick: true},
		{id: "4", title: "kill -9 agent, not restarted", expect: "F", run: killAgent, proc: true, fast: true, quick: true},
		{id: "5", title: "kill -9 leash", expect: "Q, server dead within 0.2 s", run: killLeash, oursOnly: true},
		{id: "6", title: "kill -9 agent and leash at once", expect: "F", run: killBoth, oursOnly: true},
		{id: "7", title: "SIGSTOP agent 30 s", expect: "F", run: stopAgent, fast: true},
		{id: "8", title: "SIGSTOP leash, no watchdog", expect: "restart in place or failover, within 5 s", run: stopLeash, oursOnly: true},
		{id: "9", title: "SIGSTOP agent and leash, no watchdog", expect: "F, overlap allowed in async (documented)", run: stopBoth, oursOnly: true},
		{id: "9w", title: "SIGSTOP agent and leash, watchdog", expect: "F", run: stopBothWithDog, oursOnly: true},
	}
}

func killPostmaster(x *run) {
	x.must(x.Kill(x.leader, lab.Postmaster))
	x.acked(x.began + 100*time.Millisecond) // a backend of the dead postmaster may write on
	x.gapWithin(release())
}

// gapWithin checks the time clients had to wait since the fault.
func (x *run) gapWithin(limit time.Duration) {
	now := x.acked(lab.Boottime()).Return
	if gap, _ := lab.LongestGap(x.writes(), x.began, now); gap > limit {
		x.wrong("clients waited %s, more than %s", gap.Round(time.Millisecond), limit)
	}
}

func killBackend(x *run) {
	x.must(x.SignalBackend(x.leader, syscall.SIGKILL))
	x.acked(x.began + 100*time.Millisecond)
	x.gapWithin(release())
}

func killAgentSupervised(x *run) {
	x.must(x.Supervise(x.leader, true))
	x.whenHealed(func() error { return x.Supervise(x.leader, false) })
	server, err := x.Pid(x.leader, lab.Postmaster)
	x.must(err)
	x.fault()
	x.must(x.Kill(x.leader, lab.Agent))
	x.eventually("/primary of the restarted agent", func() bool {
		code, err := x.Get(x.ctx, x.leader, "/primary", nil)
		return err == nil && code == 200
	})
	x.millis("/primary back after", lab.Boottime()-x.began)
	x.lasts(x.c.ttl + time.Second) // past its old deadline only a renewed lease keeps it
	if now, err := x.Pid(x.leader, lab.Postmaster); err != nil || now != server {
		x.wrong("the server was touched: postmaster %d, now %d (%v)", server, now, err)
	}
}

// restarts has the leader's agent started again when the row is healed.
func (x *run) restarts() {
	x.whenHealed(func() error { return x.StartAgent(x.leader) })
}

func killAgent(x *run) {
	x.restarts()
	x.must(x.Kill(x.leader, lab.Agent))
	x.failsOver(x.c.failover())
	x.watchOld()
	x.deadInTime()
}

// watchOld goes on for some seconds after a failover: an old primary that still
// writes must be seen, and its rows counted.
func (x *run) watchOld() { x.lasts(lab.Boottime() - x.began + 4*time.Second) }

func killLeash(x *run) {
	server, err := x.Pid(x.leader, lab.Postmaster)
	x.must(err)
	x.fault()
	x.must(x.Kill(x.leader, lab.Leash))
	x.eventually("the end of the server", func() bool { return errors.Is(syscall.Kill(server, 0), syscall.ESRCH) })
	dead := lab.Boottime() - x.began
	x.millis("server dead after", dead)
	if dead > slack(200*time.Millisecond) {
		x.wrong("the server lived on for %s without its leash", dead)
	}
	x.acked(x.began + dead)
	x.gapWithin(release())
}

func killBoth(x *run) {
	x.restarts()
	leash, err := x.Pid(x.leader, lab.Leash)
	x.must(err)
	agent, err := x.Pid(x.leader, lab.Agent)
	x.must(err)
	x.must(errors.Join(syscall.Kill(agent, syscall.SIGKILL), syscall.Kill(leash, syscall.SIGKILL)))
	x.failsOver(x.c.failover())
	x.deadInTime()
}

func stopAgent(x *run) {
	x.must(x.Signal(x.leader, lab.Agent, syscall.SIGSTOP))
	x.whenHealed(func() error { return x.Signal(x.leader, lab.Agent, syscall.SIGCONT) })
	x.failsOver(x.c.failover())
	x.lasts(30 * time.Second)
	x.deadInTime()
}

// stopLeash lets the leash hang: its agent kills it, and with it the server.
func stopLeash(x *run) {
	leash, err := x.Pid(x.leader, lab.Leash)
	x.must(err)
	x.fault()
	x.must(x.Signal(x.leader, lab.Leash, syscall.SIGSTOP))
	x.whenHealed(func() error {
		_ = syscall.Kill(leash, syscall.SIGCONT) // gone, one hopes
		return nil
	})
	x.eventually("the end of the hung leash", func() bool { return errors.Is(syscall.Kill(leash, 0), syscall.ESRCH) })
	dead := lab.Boottime() - x.began
	x.millis("leash dead after", dead)
	x.acked(x.began + dead)
	x.gapWithin(slack(5 * time.Second))
}

// stopBoth is the gap that only a watchdog closes: nothing that could stop the old
// primary runs. Its overlap is a figure, not a failure.
func stopBoth(x *run) {
	x.allowOverlap = true
	x.hang()
	x.failsOver(x.c.failover())
	x.watchOld()
	x.heal()
	x.must(x.settled(patience))
}

func (x *run) hang() {
	for _, target := range []lab.Target{lab.Agent, lab.Leash} {
		x.must(x.Signal(x.leader, target, syscall.SIGSTOP))
		x.whenHealed(func() error { return x.Signal(x.leader, target, syscall.SIGCONT) })
	}
}

func stopBothWithDog(x *run) {
	if _, armed := x.Bitten(x.leader); !armed {
		x.wrong("the watchdog of the primary is not armed")
	}
	x.Unleash(x.leader, true)
	x.fault()
	for _, target := range []lab.Target{lab.Agent, lab.Leash} {
		x.must(x.Signal(x.leader, target, syscall.SIGSTOP))
	}
	x.whenHealed(func() error {
		x.Unleash(x.leader, false)
		return x.StartAgent(x.leader)
	})
	x.failsOver(x.c.failover())
	at, _ := x.Bitten(x.leader)
	if at < x.began {
		x.wrong("the watchdog did not reset the host")
	}
	x.millis("reset after", at-x.began)
	x.deadInTime()
}
