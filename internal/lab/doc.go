// Package lab runs a local cluster of real processes: etcd members, agents with
// their leashes, and PostgreSQL. The demo, the end-to-end tests and the
// benchmarks all stand on it, so what a user tries is what the tests use.
//
// Every host (database node or etcd member) has an init process of its own, a
// re-executed copy of the calling program (see RunInit). It is the subreaper of
// everything on its host, reaps orphans at once as systemd does, restarts the
// agent when asked to, and kills the whole host when told to or when the rig
// goes away. Where the rig is root, hosts live in network namespaces with the
// addresses of the tutorial (192.0.2.0/24) and can be cut off from each other;
// otherwise they share the loopback interface on different ports.
//
// With Options.Backup the nodes share a pgBackRest repository, which can be hidden,
// stopped or given a wrong key; Watch records which of the tools ran when.
//
// The workloads (Writer, Prober) record when each write was invoked and
// acknowledged; the checkers in history.go are pure functions over such
// records.
package lab
