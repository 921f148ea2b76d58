package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/restapi"
)

func TestFailsafeRound(t *testing.T) {
	no := errors.New("it answers 502")
	for _, c := range []struct {
		name     string
		answers  map[string][]error // by member, in order; then silence
		members  []dcs.Member
		complete bool
		took     time.Duration
	}{
		{"nobody else", nil, nil, true, time.Second},
		{"everybody", map[string][]error{"a": {nil}, "b": {nil}}, []dcs.Member{{Name: "a", APIURL: "a"}, {Name: "b", APIURL: "b"}}, true, time.Second},
		{"at the second try", map[string][]error{"a": {nil}, "b": {no, nil}}, []dcs.Member{{Name: "a", APIURL: "a"}, {Name: "b", APIURL: "b"}}, true, time.Second},
		{"one refuses", map[string][]error{"a": {nil}, "b": {no, no}}, []dcs.Member{{Name: "a", APIURL: "a"}, {Name: "b", APIURL: "b"}}, false, time.Second},
		{"one is silent", map[string][]error{"a": {nil}}, []dcs.Member{{Name: "a", APIURL: "a"}, {Name: "b", APIURL: "b"}}, false, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				clock := func() ha.Instant { return ha.Instant(time.Since(begun) + time.Hour) }
				woken := make(chan struct{}, 9)
				var mu sync.Mutex
				f := &failsafe{me: ha.Identity{Name: "me"}, now: clock, wake: func() { woken <- struct{}{} }, log: slog.New(slog.DiscardHandler)}
				f.ask = func(ctx context.Context, apiURL string, r restapi.FailsafeRequest) error {
					mu.Lock()
					left := c.answers[apiURL]
					if len(left) > 0 {
						c.answers[apiURL] = left[1:]
					}
					mu.Unlock()
					if r.Name != "me" || r.PGHA.TTL != 30000 {
						t.Errorf("request %+v", r)
					}
					if len(left) == 0 {
						<-ctx.Done()
						return ctx.Err()
					}
					return left[0]
				}
				f.Begin(ha.AskFailsafe{Epoch: 5, Members: c.members, After: time.Second, Until: clock().Add(5 * time.Second), Timing: ha.Timing{TTL: 30 * time.Second}})
				if r := f.Poll(); !r.Running || r.Epoch != 5 {
					t.Errorf("begun: %+v", r)
				}
				<-woken
				if r := f.Poll(); r.Running || r.Complete != c.complete || (r.Missing == "") != c.complete || time.Since(begun) != c.took {
					t.Errorf("after %v: %+v", time.Since(begun), r)
				}
				if r := f.Poll(); r.Sent != ha.Instant(time.Hour+time.Second) {
					t.Errorf("sent at %v: the clock is read after the wait and before the first question", r.Sent)
				}
				f.close()
			})
		})
	}
}

// TestFailsafeCancel: a round that was dropped has no result any more.
func TestFailsafeCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		f := &failsafe{now: func() ha.Instant { return 0 }, wake: func() {}, log: slog.New(slog.DiscardHandler)}
		f.ask = func(context.Context, string, restapi.FailsafeRequest) error { asked++; return nil }
		f.Begin(ha.AskFailsafe{Epoch: 5, Members: []dcs.Member{{Name: "a"}}, After: time.Second, Until: ha.Instant(5 * time.Second)})
		f.Cancel()
		time.Sleep(10 * time.Second)
		if r := f.Poll(); r != (ha.FailsafeRound{}) || asked != 0 {
			t.Errorf("%+v, asked %d times", r, asked)
		}
		f.close()
	})
}
