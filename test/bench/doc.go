// Package bench measures pgha beside Patroni: the same machine, the same three
// hosts in network namespaces, the same PostgreSQL, etcd and timings, one after
// the other in one run. 'make bench' runs it, as root, and writes
// docs/benchmarks.md.
//
// Seconds differ from machine to machine, so what counts are the ratios.
package bench
