package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/internal/view"
)

// silence is how long a watch stream may give no message before it is dead.
func (s *Store) silence() time.Duration {
	return min(max(s.cfg.RetryTimeout, time.Second), 10*time.Second)
}

// watchLoop keeps the view whole: read everything, watch, and again as soon
// as the watch ends. It waits only when that led nowhere.
func (s *Store) watchLoop(ctx context.Context) {
	wait := firstPause
	for ctx.Err() == nil {
		start := time.Now()
		err := s.watchOnce(ctx)
		s.view.Lost()
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errResync) {
			continue
		}
		s.log.Info("watch on etcd ended, reading anew", "reason", reason(err))
		if !errors.Is(err, errNotRead) && time.Since(start) > firstPause {
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
	errResync     = errors.New("the view has to be read anew")
	errNotRead    = errors.New("cluster could not be read")
	errSilent     = errors.New("no message on the watch stream")
	errDropped    = errors.New("its endpoint did not serve a request")
	errWatchEnded = errors.New("etcd ended it")
)

// watchOnce reads the cluster and follows it until the stream ends.
func (s *Store) watchOnce(ctx context.Context) error {
	s.watchMu.Lock()
	generation := s.generation
	s.watchMu.Unlock()

	since := s.view.Newest()
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
	ctx, f := track(ctx)
	defer f.stop(nil)
	if !s.install(generation, since, kvs, header, eps[0], f.stop) {
		return errResync
	}
	defer s.uninstall()
	// From the revision read, not the next one: etcd does not answer a progress
	// request before the first revision that is watched.
	return s.follow(ctx, f.stop, eps[0], header.GetRevision())
}

// install makes the view whole, unless it was declared lost since generation.
func (s *Store) install(generation int, since int64, kvs []dcs.KV, h *pb.ResponseHeader, ep *endpoint, stop context.CancelCauseFunc) bool {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	if s.generation != generation {
		return false
	}
	s.view.Reset(kvs, h.GetRevision(), h.GetClusterId(), since)
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
	s.lose(errResync)
}

// dropWatch loses the view if it is fed by ep.
func (s *Store) dropWatch(ep *endpoint) {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	if s.watchAt == ep {
		s.lose(errDropped)
	}
}

func (s *Store) lose(why error) {
	s.generation++
	s.view.Lost()
	if s.watchStop != nil {
		s.watchStop(why)
	}
}

// follow watches from revision from on, at ep, until ctx ends, which a broken
// stream (see streamOnce) and silence see to.
func (s *Store) follow(ctx context.Context, stop context.CancelCauseFunc, ep *endpoint, from int64) error {
	// A Watcher of its own, because that of the client would go on connecting
	// for a watch that is given up: Close ends the stream and all behind it.
	watcher := clientv3.NewWatcher(ep.client)
	defer watcher.Close()
	limit := s.silence()
	silent := time.AfterFunc(limit, func() { stop(errSilent) })
	defer silent.Stop()
	ask := time.NewTicker(limit / 3)
	defer ask.Stop()
	watch := watcher.Watch(ctx, s.cfg.Base+"/", clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithProgressNotify())
	for {
		select {
		case <-ctx.Done():
			return s.unfollow(ctx, ep)
		case <-ask.C:
			_ = watcher.RequestProgress(ctx) // if it fails, ctx ends
		case resp, open := <-watch:
			err := resp.Err()
			if !open {
				err = errWatchEnded
			}
			if err != nil {
				stop(err) // does nothing if ctx has ended before
				return s.unfollow(ctx, ep)
			}
			silent.Reset(limit)
			s.applyEvents(resp.Events)
		}
	}
}

// unfollow returns why ctx has ended.
func (s *Store) unfollow(ctx context.Context, ep *endpoint) error {
	s.view.Lost()
	err := context.Cause(ctx)
	if errors.Is(err, errSilent) {
		s.pool.bad(ep, time.Now())
	}
	return err
}

func (s *Store) applyEvents(list []*clientv3.Event) {
	if len(list) == 0 {
		return
	}
	events := make([]view.Event, 0, len(list))
	for _, e := range list {
		events = append(events, view.Event{KV: toKV(e.Kv), Deleted: e.Type == clientv3.EventTypeDelete})
	}
	// The header may be ahead of the events (etcd issue 15220): only they
	// tell how far the view is complete.
	s.view.Apply(events, events[len(events)-1].KV.ModRevision)
}
