package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// Pace of the writes to the ring: events of one moment go together, a member
// writes at most every other second, and an etcd that does not answer is left
// alone for a while. Without events nothing is written.
const (
	ringGather = 100 * time.Millisecond
	ringPause  = 2 * time.Second
	ringBroken = 10 * time.Second
	ringTime   = 5 * time.Second // for one write
	ringTries  = 8               // after another member was faster
)

// keepRing writes to the ring until ctx ends, and then what is left.
func (j *journal) keepRing(ctx context.Context, store dcs.Store) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), journalEnd)
			defer cancel()
			_ = j.flush(end, store) // best effort: the local file has it
			return
		case <-j.poke:
		}
		if !pause(ctx, timer, ringGather) {
			j.prod()
			continue
		}
		err := j.flush(ctx, store)
		wait := ringPause
		if err != nil {
			if wait = ringBroken; !failing && ctx.Err() == nil {
				j.log.Info("the events are not in etcd yet: " + err.Error())
			}
			j.prod()
		}
		failing = err != nil
		pause(ctx, timer, wait)
	}
}

// prod makes the next turn of keepRing try again.
func (j *journal) prod() {
	select {
	case j.poke <- struct{}{}:
	default:
	}
}

// pause waits; false: ctx ended first.
func pause(ctx context.Context, timer *time.Timer, d time.Duration) bool {
	timer.Reset(d)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// flush brings everything that is not in the ring into it.
func (j *journal) flush(ctx context.Context, store dcs.Store) error {
	ctx, cancel := context.WithTimeout(ctx, ringTime)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	j.mu.Lock()
	more := j.ring
	j.mu.Unlock()
	if len(more) == 0 {
		return nil
	}
	var err error
	for range ringTries {
		if err = addToRing(ctx, store, more); !errors.Is(err, dcs.ErrConflict) && !errors.Is(err, dcs.ErrUnknown) {
			break
		}
		if !pause(ctx, timer, 10*time.Millisecond+rand.N(90*time.Millisecond)) {
			break
		}
	}
	if err != nil {
		return err
	}
	done := more[len(more)-1].Seq
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.ring) > 0 && j.ring[0].Seq <= done {
		j.ring = j.ring[1:]
	}
	return nil
}

// addToRing reads the ring and writes it with more in it, unless somebody else
// did meanwhile. What an unanswered write brought in is recognised.
func addToRing(ctx context.Context, store dcs.Store, more []dcs.Event) error {
	c, err := store.Read(ctx)
	if err != nil {
		return err
	}
	value := c.Events.With(more)
	if value == nil {
		return nil
	}
	revision := c.ModRevision(dcs.KeyEvents)
	return store.Put(ctx, dcs.Write{Key: dcs.KeyEvents, Value: value, Revision: &revision})
}
