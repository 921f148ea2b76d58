// Package chaos breaks a running cluster in many ways and prints what its users
// would have noticed. Run it with 'make chaos' as root; 'make chaos-quick' runs a
// few short rows, and 'make chaos PEER=patroni' the same rows against real Patroni
// beside ours, with equal timings.
//
// A row is one fault on a cluster that lives through all of them: load, fault, heal,
// settle until all stream, check. Workloads: set (a client that follows /primary),
// probe (a client on every node that writes to that node whatever its role), role
// (GET /primary on every node), and where a row asks for them proc (long procedures
// that commit inside), reg (registers, checked for linearizability), app (lists that
// transactions append to, checked for one order that explains what all of them saw) and
// commits that are cancelled while they wait for a standby. The checks
// are pure functions, here and in internal/lab, each with a test in which a broken
// history fails. A row passes when what it expects has happened, no acknowledged row
// is missing beyond what the mode promises, no row is there that nobody wrote, no two
// nodes acknowledged or answered /primary at once, no timeline was made twice, and no
// password is in a log.
//
// 'make chaos-long' lets clusters with synchronous replication live through many faults
// each, with one load for the whole life.
//
// A run keeps a Result per row in a file, and makes the tables of docs/safety.md from
// that file alone, so an interrupted run can go on where it was (CHAOS_RESUME=1).
package chaos
