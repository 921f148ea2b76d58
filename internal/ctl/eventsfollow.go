package ctl

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
)

// Following: a member answers a long poll at the latest after followWait; one
// that cannot be asked is tried again, and the ring in etcd is looked at, every
// followPause.
const (
	followWait  = 25 * time.Second
	followPause = 3 * time.Second
)

// follow prints events as they come, until ctx ends, which is how one leaves it.
func (f *eventFollower) follow(ctx context.Context, c *dcs.Cluster, o *eventsOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	found := make(chan []dcs.Event)
	running := map[string]chan struct{}{}
	defer func() {
		cancel()
		for _, done := range running {
			<-done
		}
	}()
	pause := followPause
	if f.app.pollPeriod != 0 {
		pause = f.app.pollPeriod
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		for i := range c.Members {
			m := c.Members[i]
			if m.APIURL == "" || running[m.Name] != nil {
				continue
			}
			done := make(chan struct{})
			running[m.Name] = done
			go func() {
				defer close(done)
				f.poll(ctx, &m, f.cursors[m.Name], pause, found)
			}()
		}
		var list []dcs.Event
		select {
		case <-ctx.Done():
			return nil
		case list = <-found:
		case <-tick.C:
			if next, err := f.session.read(ctx, f.cluster); err == nil {
				c, list = next, next.Events.Events()
			}
		}
		if err := f.app.writeEvents(slices.DeleteFunc(f.news(list), func(e dcs.Event) bool { return !o.shows(&e) }), o); err != nil {
			return err
		}
	}
}

// poll asks one member again and again for what is new.
func (f *eventFollower) poll(ctx context.Context, m *dcs.Member, cursor string, pause time.Duration, found chan<- []dcs.Event) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for ctx.Err() == nil {
		q := url.Values{"wait": {strconv.Itoa(int(followWait / time.Second))}, "limit": {"1000"}}
		if cursor == "" {
			cursor = f.app.Now().UTC().Format(time.RFC3339)
		}
		q.Set("since", cursor)
		doc, err := f.session.askEvents(ctx, m, q, followWait+memberTimeout)
		if err != nil || doc == nil {
			timer.Reset(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			continue
		}
		if doc.Cursor != "" {
			cursor = doc.Cursor
		}
		if len(doc.Events) == 0 {
			continue
		}
		select {
		case found <- doc.Events:
		case <-ctx.Done():
		}
	}
}
