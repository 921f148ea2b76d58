package sim

import (
	"context"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
)

// freezeTime is how long a voter takes to freeze, or to say that it has not.
const freezeTime = 1200 * ms

// AskPatiently implements loop.Peers: the servers of the model tell their position
// at once, or do not run.
func (p peers) AskPatiently(ctx context.Context, members []dcs.Member) map[string]ha.Peer {
	return p.Ask(ctx, members, nil)
}

// AskFrozen implements loop.Peers: POST /freeze. Each voter is asked, and its
// position counts as it is once its view says that it is frozen.
func (p peers) AskFrozen(ctx context.Context, epoch int64, await, glance []dcs.Member) map[string]ha.Peer {
	n := p.n
	out := p.Ask(ctx, await, glance) // it gets there, or not
	var asked []*node
	for _, other := range n.w.nodes {
		if _, there := out[other.name]; there && other.loop != nil {
			other.freeze++
			other.wake()
			asked = append(asked, other)
		}
	}
	done := func(other *node) bool {
		return other.loop != nil && other.view != nil && other.view.Frozen && other.view.Promise >= epoch
	}
	waiting := func() bool {
		for _, other := range asked {
			if !done(other) {
				return true
			}
		}
		return false
	}
	for end := n.w.now + min(freezeTime, n.w.budget(ctx)); waiting() && n.w.now < end; {
		n.sleep(5 * ms)
	}
	for _, other := range asked {
		peer, s := out[other.name], &other.server
		if other.off || other.loop == nil || n.cutPeers || other.cutPeers || s.proc != ha.ProcessRunning {
			delete(out, other.name)
			continue
		}
		peer.InRecovery, peer.Position, peer.Timeline = s.recovery, s.flush, s.br.number
		if done(other) && s.recovery {
			peer.Frozen, peer.Promise = true, other.view.Promise
			n.w.sometimes("a voter froze for a candidate")
		}
		out[other.name] = peer
	}
	return out
}
