package etcd

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/credentials"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// pingTime is how long a connection with an open stream may be silent before
// it is pinged; etcd refuses pings more often than every 5 s.
const pingTime = 10 * time.Second

// newClient makes the client of one endpoint. It connects with the first
// request.
func newClient(cfg *Config, token credentials.PerRPCCredentialsBundle, url string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:            []string{url},
		TLS:                  cfg.TLS,
		DialKeepAliveTime:    pingTime,
		DialKeepAliveTimeout: min(max(cfg.RetryTimeout/2, time.Second), 5*time.Second),
		// One try: Store.call decides about the next one.
		MaxUnaryRetries: 1,
		Logger:          zap.NewNop(), // not to stderr
		// Username and Password stay empty: with them New would wait for a
		// token, and each stream, that is each keepalive, would ask for
		// another one.
		DialOptions: []grpc.DialOption{
			grpc.WithPerRPCCredentials(token.PerRPCCredentials()),
			grpc.WithNoProxy(),
			grpc.WithUserAgent("pgha"),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: 2 * time.Second,
			}),
			grpc.WithChainUnaryInterceptor(unaryOnce),
			grpc.WithChainStreamInterceptor(streamOnce),
		},
	})
}

// flight is what is known about the one call made under a context.
type flight struct {
	sent atomic.Bool             // handed to a connection: it may have had its effect
	stop context.CancelCauseFunc // ends the context
	over <-chan struct{}         // closed when the context has ended
}

type flightKey struct{}

// track returns a context for one call. It demands that the server has a
// leader: one without refuses at once instead of letting us wait.
func track(ctx context.Context) (context.Context, *flight) {
	ctx, stop := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	f := &flight{stop: stop, over: ctx.Done()}
	return context.WithValue(ctx, flightKey{}, f), f
}

func flightOf(ctx context.Context) *flight {
	if f, ok := ctx.Value(flightKey{}).(*flight); ok {
		return f
	}
	return &flight{stop: func(error) {}}
}

// failFast undoes clientv3's wait for a connection: an endpoint that refuses
// connections is left at once.
var failFast = grpc.WaitForReady(false)

func unaryOnce(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var p peer.Peer // is filled in when the call got a connection
	err := invoke(ctx, method, req, reply, cc, append(opts, failFast, grpc.Peer(&p))...)
	if p.Addr != nil {
		flightOf(ctx).sent.Store(true)
	}
	return err
}

// streamOnce ends the context of a stream with the stream. Otherwise
// KeepAliveOnce would repeat a failed request without pause until the context
// ends, and Watch would reconnect silently.
func streamOnce(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	f := flightOf(ctx)
	select {
	case <-f.over: // ctx itself does not tell: Watch hides the end of its context
		return nil, status.Error(codes.Canceled, "the call is over")
	default:
	}
	stream, err := open(ctx, desc, cc, method, append(opts, failFast)...)
	if err != nil {
		f.stop(err)
		return nil, err
	}
	f.sent.Store(true)
	return &onceStream{stream, f}, nil
}

type onceStream struct {
	grpc.ClientStream
	flight *flight
}

func (s *onceStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	// A stream that clientv3 itself cancels has ended for a reason it reports.
	if err != nil && status.Code(err) != codes.Canceled {
		s.flight.stop(err)
	}
	return err
}

// SendMsg leaves it to RecvMsg to tell why the stream has ended.
func (s *onceStream) SendMsg(m any) error {
	if err := s.ClientStream.SendMsg(m); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
