// Package mem is an etcd in memory for simulation and tests: revisions, create
// and mod revisions, leases, guarded transactions, watches, and the faults and
// lies of real etcd servers (safety E1-E5).
//
// It starts no goroutine, reads no clock and draws no random number. Time is
// Options.Now; leases are scanned for expiry when any call is made or Tick is
// called, at most once per Options.ScanEvery of that clock. The same sequence
// of calls therefore gives the same results, byte for byte. A mutex makes it
// usable from several goroutines as well; determinism is then the caller's.
//
// A Server is the cluster; each Client is one process talking to it, with its
// own lease, its own watched view and its own faults:
//
//	srv := mem.NewServer(mem.Options{Now: clock.Now})
//	a := srv.Store(dcs.Base("service", "batman"), "a")
//	a.SetAutoDeliver(false)                      // events wait for a.Deliver()
//	a.SetHook(func(op mem.Op) mem.Fault { ... }) // per request
//	a.SetPartitioned(true)                       // cut off, watch included
//
// No call waits: what would block against etcd fails at once with
// dcs.ErrUnavailable. Contexts are looked at only for being over already.
package mem
