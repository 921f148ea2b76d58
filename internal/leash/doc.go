// Package leash is the small process that guarantees the deadline of a
// primary. It is the parent of postgres and knows one number: the instant, on
// CLOCK_BOOTTIME, until which this node may act as primary. When the number
// passes without being extended (agent killed, hung, cut off from etcd), it
// kills every process of the server, latches the epoch, and says so.
//
// The parts, from the inside out:
//
//   - core.go: Step, a pure function from (State, Extension, Input, now) to the
//     next state and the actions to take. Every rule of safety B.6 is there.
//   - record.go: 4 KiB of shared memory. The agent extends the deadline by
//     writing to it (no system call that could block); the leash reads it
//     before it acts on a timer, so no wake-up is needed.
//   - dog.go: the rules of the kernel watchdog, part of Step.
//   - run.go, conn.go, ops.go, dogshell.go: the shell, one thread around poll(2).
//   - proc.go, sweep.go, datadir.go, postmaster.go: what it looks at and does.
//   - client.go, spawn.go: the side of the agent.
//
// The process belongs to nobody: an agent that dies, restarts or is replaced
// attaches again and finds the server untouched. If the leash itself dies,
// the kernel sends SIGQUIT to the postmaster (PR_SET_PDEATHSIG), which stops
// it within tens of milliseconds.
//
// Duties of the agent:
//
//  1. Arm before promoting, and promote only after Arm returned nil.
//  2. Extend only with a deadline computed from the time before the request
//     that renewed the lease was sent.
//  3. Disarm only after demotion, never while a promotion may be under way.
//  4. Suspend in pause, Resume with a fresh round.
//  5. Watch Client.Beat: a leash that does not beat cannot be relied on.
//
// The kernel watchdog (dog.go, dogshell.go) is the leash's own: it is opened for
// the first arm, gets a keepalive only while armed and only as long as the reset
// would still come before another node may promote, and is switched off only
// where nothing needs to be reset. Without one, a leash that hangs together with
// the agent is not covered.
//
// There is no real-time scheduling and no locked memory yet.
package leash
