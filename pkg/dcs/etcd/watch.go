package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/internal/view"
)

// silence is how long a watch stream may give no message before it is dead.
func (s *Store) silence() time.Duration {
	return min(max(s.cfg.RetryTimeout, time.Second), 10*time.Second)
}

// watchLoop keeps the view whole: read everything, watch, and again as soon
// as the watch ends. It waits only when the read fails.
func (s *Store) watchLoop(ctx context.Context) {
	wait := firstPause
	for ctx.Err() == nil {
		err := s.watchOnce(ctx)
		s.view.Lost()
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errResync) {
			continue
		}
		s.log.Info("watch on etcd ended, reading anew", "reason", reason(err))
		if !errors.Is(err, errNotRead) {
			wait = firstPause
			continue
		}
		if pause(ctx, wait) != nil {
			return
		}
		wait = min(2*wait, lastPause)
	}
}

var (
	errResync  = errors.New("the view has to be read anew")
	errNotRead = errors.New("cluster could not be read")
	errSilent  = errors.New("no message on the watch stream")
)

// watchOnce reads the cluster and follows it until the stream ends.
func (s *Store) watchOnce(ctx context.Context) error {
	s.watchMu.Lock()
	generation := s.generation
	s.watchMu.Unlock()

	readCtx, cancel := context.WithTimeout(ctx, s.cfg.RetryTimeout)
	kvs, header, err := s.readAll(readCtx, "read cluster for the watch")
	cancel()
	if err != nil {
		return fmt.Errorf("%w: %w", errNotRead, err)
	}
	eps, err := s.pool.order(ctx)
	if err != nil {
		return err
	}
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	if !s.install(generation, kvs, header, eps[0], cancel) {
		return errResync
	}
	defer s.uninstall()
	return s.follow(ctx, cancel, eps[0], header.GetRevision()+1)
}

// install makes the view whole, unless it was declared lost since generation.
func (s *Store) install(generation int, kvs []dcs.KV, h *pb.ResponseHeader, ep *endpoint, stop context.CancelFunc) bool {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	if s.generation != generation {
		return false
	}
	s.view.Reset(kvs, h.GetRevision(), h.GetClusterId())
	s.watchAt, s.watchStop = ep, stop
	return true
}

func (s *Store) uninstall() {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	s.watchAt, s.watchStop = nil, nil
}

// resync declares the view lost at once, so that no Snapshot after a failed
// compare shows what the compare has just refuted.
func (s *Store) resync() {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	s.lose()
}

// dropWatch loses the view if it is fed by ep.
func (s *Store) dropWatch(ep *endpoint) {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	if s.watchAt == ep {
		s.lose()
	}
}

func (s *Store) lose() {
	s.generation++
	s.view.Lost()
	if s.watchStop != nil {
		s.watchStop()
	}
}

// follow watches from revision from on, at ep.
func (s *Store) follow(ctx context.Context, stop context.CancelFunc, ep *endpoint, from int64) error {
	token, err := s.auth.get(ctx, ep)
	if err != nil {
		return err
	}
	stream, err := pb.NewWatchClient(ep.conn).Watch(outgoing(ctx, token))
	if err != nil {
		return err
	}
	prefix := s.cfg.Base + "/"
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(prefix), RangeEnd: []byte(dcs.PrefixEnd(prefix)), StartRevision: from, ProgressNotify: true,
	}}})
	if err != nil {
		_, err = stream.Recv() // tells why
		return err
	}
	var heard atomic.Int64
	heard.Store(time.Now().UnixNano())
	dead := make(chan struct{})
	prober := make(chan struct{})
	go func() {
		defer close(prober)
		s.probe(ctx, stop, stream, &heard, dead)
	}()
	err = s.receive(stream, &heard)
	stop()
	<-prober
	select {
	case <-dead:
		s.pool.bad(ep, time.Now())
		return errSilent
	default:
		if judge(err, true) == reauth {
			s.auth.drop(token)
		}
		return err
	}
}

// probe asks for progress on the stream, and stops it when nothing came back
// for too long. It closes dead in that case.
func (s *Store) probe(ctx context.Context, stop context.CancelFunc, stream pb.Watch_WatchClient, heard *atomic.Int64, dead chan<- struct{}) {
	limit := s.silence()
	ticker := time.NewTicker(limit / 3)
	defer ticker.Stop()
	ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if now.UnixNano()-heard.Load() > int64(limit) {
				s.view.Lost()
				close(dead)
				stop()
				return
			}
			if stream.Send(ask) != nil {
				return // Recv reports the reason
			}
		}
	}
}

// receive applies what the stream brings until it ends.
func (s *Store) receive(stream pb.Watch_WatchClient, heard *atomic.Int64) error {
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		heard.Store(time.Now().UnixNano())
		if resp.CompactRevision != 0 {
			return fmt.Errorf("watched revision is compacted, history starts at %d", resp.CompactRevision)
		}
		if resp.Canceled {
			return fmt.Errorf("watch cancelled by etcd: %s", resp.CancelReason)
		}
		if len(resp.Events) == 0 {
			continue
		}
		events := make([]view.Event, 0, len(resp.Events))
		for _, e := range resp.Events {
			events = append(events, view.Event{KV: toKV(e.Kv), Deleted: e.Type == mvccpb.DELETE})
		}
		// The header may be ahead of the events (etcd issue 15220): only they
		// tell how far the view is complete.
		s.view.Apply(events, events[len(events)-1].KV.ModRevision)
	}
}
