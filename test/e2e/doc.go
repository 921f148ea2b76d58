// Package e2e tests whole clusters of real processes: etcd, agents, leashes and
// PostgreSQL, on the rig of internal/lab. Run it with 'make e2e', as root: then
// every host has a network namespace with the tutorial's address. Otherwise
// everything shares the loopback interface, and the rows that cut networks are
// skipped.
//
// One cluster lives through all rows; a row that fails has it rebuilt for the
// next. Every row runs under load, with a prober writing to each node whatever
// its role, and ends with the same checks: no acknowledged row missing that
// asynchronous replication promises, never two nodes acknowledging (or calling
// themselves primary) at once, all members streaming.
//
// Rows about backups (TestBackup...) set data back or lose it, so each has a
// cluster of its own, with a repository in a directory or in an S3 server that
// speaks TLS; two run side by side. Their checks are: exactly the rows of the
// target, on every member; indexes and tables that amcheck finds sound; never two
// backups at once; never a server on a directory that is being restored. The long
// ones, of all kinds, run by 'make e2e-long' only.
package e2e
