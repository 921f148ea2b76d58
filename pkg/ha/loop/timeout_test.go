package loop

import (
	"context"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/ha"
)

// TestLookTimeout: a read past the watched view takes nothing of the time in which
// a server has to stop before its leash acts, also once the lease is given up.
func TestLookTimeout(t *testing.T) {
	for name, test := range map[string]struct {
		change func(l *Loop)
		want   time.Duration
	}{
		"nothing is suspect":       {func(l *Loop) { l.reread = false }, snapshotTimeout},
		"nobody leads here":        {func(*Loop) {}, time.Second},
		"the leash is armed":       {func(l *Loop) { l.seen.Leash = ha.Leash{Armed: 7, Deadline: 2_000_000_000} }, snapshotTimeout},
		"its deadline is near":     {func(l *Loop) { l.seen.Leash = ha.Leash{Armed: 7, Deadline: 1_000_000_000} }, lateTimeout},
		"it is set aside":          {func(l *Loop) { l.seen.Leash = ha.Leash{Armed: 7, Suspended: true} }, time.Second},
		"the stop instant is near": {func(l *Loop) { l.memory.Lease = ha.Lease{Epoch: 7, Deadline: 500_000_000} }, 500 * time.Millisecond},
		"the stop instant is past": {func(l *Loop) { l.memory.Lease = ha.Lease{Epoch: 7} }, lateTimeout},
		"nor for the watched view": {func(l *Loop) { l.reread, l.memory.Lease = false, ha.Lease{Epoch: 7} }, lateTimeout},
	} {
		l := &Loop{reread: true, Options: Options{Now: func() ha.Instant { return 0 }}}
		test.change(l)
		if got := l.lookTimeout(); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// TestRequestTimeout: nor does a write.
func TestRequestTimeout(t *testing.T) {
	for name, test := range map[string]struct {
		lease  ha.Lease
		leash  ha.Leash
		server ha.Process
		want   time.Duration
	}{
		"nobody leads here":                {ha.Lease{}, ha.Leash{}, ha.ProcessRunning, 10 * time.Second},
		"a round is due":                   {ha.Lease{Epoch: 7, Deadline: 20_000_000_000}, ha.Leash{}, ha.ProcessRunning, 500 * time.Millisecond},
		"a round is due, the stop is near": {ha.Lease{Epoch: 7, Deadline: 300_000_000}, ha.Leash{}, ha.ProcessRunning, 300 * time.Millisecond},
		"the stop instant has come":        {ha.Lease{Epoch: 7}, ha.Leash{}, ha.ProcessRunning, lateTimeout},
		"nothing is left to stop":          {ha.Lease{Epoch: 7}, ha.Leash{}, ha.ProcessDown, 500 * time.Millisecond},
		"the lease is lost":                {ha.Lease{}, ha.Leash{Armed: 7, Deadline: 1_400_000_000}, ha.ProcessRunning, 400 * time.Millisecond},
		"lost, and nothing runs any more":  {ha.Lease{}, ha.Leash{Armed: 7, Deadline: 1_400_000_000}, ha.ProcessDown, 10 * time.Second},
	} {
		var got time.Duration
		l := &Loop{Options: Options{Now: func() ha.Instant { return 0 }, Timeout: func(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
			got = d
			return ctx, func() {}
		}}}
		_ = l.request(t.Context(), &ha.Observation{Settings: ha.Settings{RetryTimeout: 10 * time.Second}, Memory: ha.Memory{Lease: test.lease}, Leash: test.leash, PG: ha.Postgres{Process: test.server}}, func(context.Context) error { return nil })
		if got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// TestFactsTimeout: a server that answers late leaves time for something between
// two rounds.
func TestFactsTimeout(t *testing.T) {
	for name, test := range map[string]struct {
		period, renewed, attempt time.Duration
		want                     time.Duration
	}{
		"the next round is far":          {10 * time.Second, 60 * time.Second, 0, time.Second},
		"it follows soon":                {time.Second, 60 * time.Second, 0, 400 * time.Millisecond},
		"it is due":                      {time.Second, 59 * time.Second, 0, 200 * time.Millisecond},
		"the last one failed just now":   {time.Second, 59 * time.Second, 60 * time.Second, 200 * time.Millisecond},
		"one of a long period failed":    {10 * time.Second, 59 * time.Second, 60 * time.Second, 900 * time.Millisecond},
		"the time for a stop comes soon": {10 * time.Second, 30 * time.Second, 0, 200 * time.Millisecond},
	} {
		l := &Loop{}
		l.memory.Lease = ha.Lease{Epoch: 7, Deadline: ha.Instant(test.renewed + 30*time.Second), Timing: ha.Timing{Period: test.period}, Renewed: ha.Instant(test.renewed), Attempt: ha.Instant(test.attempt)}
		if got := l.factsTimeout(ha.Instant(60 * time.Second)); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	if got := (&Loop{}).factsTimeout(0); got != time.Second {
		t.Errorf("nobody leads here: %v", got)
	}
	l := &Loop{}
	l.seen.Leash = ha.Leash{Armed: 7, Deadline: 1_000_000_000}
	if got := l.factsTimeout(0); got != 200*time.Millisecond {
		t.Errorf("the deadline of a leadership of before is near: %v", got)
	}
}
