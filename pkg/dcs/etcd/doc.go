// Package etcd is the store over etcd v3, on etcd's own client.
//
// # What clientv3 does, and what it must not do
//
// There is one clientv3.Client per endpoint. It makes connections, carries
// TLS and the token, and builds and sends the requests. A leader lives or
// dies by what happens to one request, so which endpoint gets it, for how
// long, and whether once more is decided here, and what clientv3 would do by
// itself is turned off in client.go: it waits for connections that are refused,
// repeats reads and keepalives, reconnects watches silently, and with a
// password in its configuration asks for a new token before each stream. The
// password is therefore not given to it; tokens come from its Authenticate.
//
// # Requests and endpoints
//
// One endpoint is preferred as long as it answers. A request that it does not
// answer goes to the others within the same context (see attemptTimeout). An
// attempt that never left this process, and one that etcd definitely refused
// to serve, can always be repeated. An attempt whose outcome is unknown is
// repeated only if doing it twice is the same as doing it once: reads,
// keepalives, and transactions guarded by the epoch. A claim is repeated
// because a claim of ours that got through is recognised by our lease on the
// key. Other writes report dcs.ErrUnknown at once.
//
// # The view
//
// One goroutine reads all keys (linearizable) and watches them from there on.
// A progress request travels on the watch stream every third of RetryTimeout;
// a stream that gave no message for RetryTimeout (within 1 to 10 s) is dead,
// whatever TCP thinks. The stream is also dropped when its endpoint fails a
// request, and when a compare fails, which hints at a stale view. Between the
// loss and the next complete read Snapshot waits.
package etcd
