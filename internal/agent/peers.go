package agent

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/restapi"
)

// peers asks other members over REST.
type peers struct {
	client *restapi.Client
	log    *slog.Logger
}

type answer struct {
	name string
	peer ha.Peer
}

// Ask implements loop.Peers. Members that are only glanced at have their say if
// they are quicker than the last one waited for.
func (p *peers) Ask(ctx context.Context, await, glance []dcs.Member) map[string]ha.Peer {
	return p.all(ctx, await, glance, p.client.MemberStatus)
}

// positionPause is the pause before a member is asked for its position again: its
// server may be about to tell it.
const positionPause = 20 * time.Millisecond

// AskPatiently implements loop.Peers. It asks until each has told its position, or ctx ends. In an election
// who is not quick enough has no say; an operator's order is not to fail because a
// server on a busy host, or one that nobody has asked before, takes a moment.
func (p *peers) AskPatiently(ctx context.Context, members []dcs.Member) map[string]ha.Peer {
	return p.all(ctx, members, nil, func(ctx context.Context, apiURL string) (ha.Peer, error) {
		for {
			peer, err := p.client.MemberStatus(ctx, apiURL)
			if !errors.Is(err, restapi.ErrNoPosition) {
				return peer, err
			}
			select {
			case <-ctx.Done():
				return peer, err
			case <-time.After(positionPause):
			}
		}
	})
}

// all puts one question to everybody at once.
func (p *peers) all(ctx context.Context, await, glance []dcs.Member, question func(ctx context.Context, apiURL string) (ha.Peer, error)) map[string]ha.Peer {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the questions nobody waits for; their goroutines deliver into the buffer and end
	got := make(chan answer, len(await)+len(glance))
	waiting := map[string]bool{}
	ask := func(mem dcs.Member) {
		peer, err := question(ctx, mem.APIURL)
		if err != nil {
			p.log.Debug("ask " + mem.Name + ": " + err.Error())
		}
		got <- answer{mem.Name, peer}
	}
	for _, mem := range await {
		waiting[mem.Name] = true
		go ask(mem)
	}
	for _, mem := range glance {
		go ask(mem)
	}
	out := make(map[string]ha.Peer, len(await)+len(glance))
	for len(waiting) > 0 {
		select {
		case a := <-got:
			out[a.name] = a.peer
			delete(waiting, a.name)
		case <-ctx.Done():
			return out
		}
	}
	for {
		select {
		case a := <-got:
			out[a.name] = a.peer
		default:
			return out
		}
	}
}
