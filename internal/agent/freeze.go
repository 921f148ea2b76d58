package agent

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

// freezes hands a candidate's request to freeze to the loop, and tells whoever
// waits that the loop has turned.
type freezes struct {
	mu     sync.Mutex
	serial int64
	turned chan struct{} // nil: nobody waits
}

// newest is the serial of the newest request, for the loop.
func (f *freezes) newest() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.serial
}

func (f *freezes) ask() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serial++
}

// next is closed after the loop's next turn.
func (f *freezes) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.turned == nil {
		f.turned = make(chan struct{})
	}
	return f.turned
}

func (f *freezes) published() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.turned != nil {
		close(f.turned)
		f.turned = nil
	}
}

// Freeze implements restapi.Agent (safety B.5).
func (b *board) Freeze(ctx context.Context, epoch int64) (int64, ha.Sample, *restapi.Refusal) {
	b.freezes.ask()
	b.wake()
	for {
		turned := b.freezes.next()
		v := b.View()
		if v.Frozen && v.Promise >= epoch {
			return b.frozenAt(ctx, v.Promise)
		}
		if v.Known && !v.Row.InRecovery {
			return 0, ha.Sample{}, refusal(http.StatusConflict, "I run as a primary")
		}
		select {
		case <-turned:
		case <-ctx.Done():
			return 0, ha.Sample{}, refusal(http.StatusServiceUnavailable, "not frozen: "+v.Reason)
		}
	}
}

// frozenAt reads the position anew: one of before may be from before the end of
// the WAL receiver.
func (b *board) frozenAt(ctx context.Context, promise int64) (int64, ha.Sample, *restapi.Refusal) {
	s, err := b.position(ctx)
	switch {
	case err != nil:
		return 0, ha.Sample{}, refusal(http.StatusServiceUnavailable, "the server does not answer: "+err.Error())
	case !s.InRecovery:
		return 0, ha.Sample{}, refusal(http.StatusConflict, "I run as a primary")
	}
	return promise, s, nil
}

// Freeze implements loop.Node.
func (n *node) Freeze(ctx context.Context) error {
	if err := n.acquire(ctx); err != nil {
		return err
	}
	defer n.release()
	n.setUpstream(ha.Upstream{}) // whatever comes of it, nobody knows whom it follows
	res, err := n.srv.Freeze(ctx)
	if err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	if res == postgres.FollowRestartNeeded {
		n.restartStandby(ha.Upstream{})
		return fmt.Errorf("freeze: the server is restarted, which this version needs to stream from nobody")
	}
	n.mu.Lock()
	n.frozen = n.pid
	n.mu.Unlock()
	n.forgetFacts()
	return nil
}

// forgetFacts makes the next look one that began after this call.
func (n *node) forgetFacts() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.disk.serial++
}

// AskFrozen implements loop.Peers.
func (p *peers) AskFrozen(ctx context.Context, epoch int64, await, glance []dcs.Member) map[string]ha.Peer {
	return p.all(ctx, await, glance, func(ctx context.Context, apiURL string) (ha.Peer, error) {
		return p.client.AskFrozen(ctx, apiURL, epoch)
	})
}
