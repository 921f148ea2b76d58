// Package sim is a deterministic simulator of a cluster: the real loop of
// every node, over the in-memory etcd of dcs/mem and a model of PostgreSQL,
// its leash and the network, in virtual time.
//
// A schedule follows from its seed alone. Events sit in one heap ordered by
// (time, number); each agent is a coroutine that runs only while an event
// resumes it, so that nothing ever runs at the same time as anything else.
// Every source of faults draws from a random stream of its own. After every
// event the ghost, which knows the truth that no agent has, checks the
// invariants of the safety design (S1-S15, S11 where etcd goes back); faults heal
// in the last quarter of a run, and the cluster must then come to rest (L1, L3-L5).
// Needless failovers (L2) are a test of their own.
//
// Deadlines of requests are in virtual time too, so a seed replays to the
// nanosecond.
package sim
