// Package etcd is the store over etcd v3, by native gRPC.
//
// It uses the protocol stubs of etcd's api module and not clientv3: a leader
// lives or dies by what happens to one request, so every attempt, endpoint
// and time limit must be decided here. clientv3 retries unary calls inside a
// connection it balances by itself, loops on lease keepalives without pause,
// authenticates anew for every stream, and hides a broken watch.
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
// One goroutine reads all keys (linearizable) and watches them from the next
// revision on. A progress request travels on the watch stream every third of
// RetryTimeout; a stream that gave no message for RetryTimeout (within 1 to
// 10 s) is dead, whatever TCP thinks. The stream is also dropped when its
// endpoint fails a request, and when a compare fails, which hints at a stale
// view. Between the loss and the next complete read Snapshot waits.
package etcd
