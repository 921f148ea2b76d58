package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/restapi"
)

// failsafe asks the members of /failsafe beside the loop: it implements
// loop.Failsafe.
type failsafe struct {
	me   ha.Identity
	ask  func(ctx context.Context, apiURL string, r restapi.FailsafeRequest) error
	now  func() ha.Instant
	wake func()
	log  *slog.Logger

	group  sync.WaitGroup
	mu     sync.Mutex
	round  ha.FailsafeRound
	serial int
	cancel context.CancelFunc
}

// Poll implements loop.Failsafe.
func (f *failsafe) Poll() ha.FailsafeRound {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.round
}

// Cancel implements loop.Failsafe. Who was asked already keeps its promise.
func (f *failsafe) Cancel() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
}

// drop forgets the round; what is under way has no effect any more.
func (f *failsafe) drop() {
	f.serial++
	f.round = ha.FailsafeRound{}
	if f.cancel != nil {
		f.cancel()
		f.cancel = nil
	}
}

// close ends what is under way and waits for it.
func (f *failsafe) close() {
	f.Cancel()
	f.group.Wait()
}

// Begin implements loop.Failsafe.
func (f *failsafe) Begin(a ha.AskFailsafe) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
	ctx, cancel := context.WithTimeout(context.Background(), a.Until.Sub(f.now()))
	f.cancel = cancel
	f.round = ha.FailsafeRound{Running: true, Epoch: a.Epoch, Timing: a.Timing}
	serial := f.serial
	f.group.Go(func() {
		defer cancel()
		f.run(ctx, serial, a)
	})
}

func (f *failsafe) run(ctx context.Context, serial int, a ha.AskFailsafe) {
	alone := time.NewTimer(a.After)
	defer alone.Stop()
	select {
	case <-alone.C:
	case <-ctx.Done():
		f.end(serial, 0, "no time was left to ask")
		return
	}
	sent := f.now()
	f.end(serial, sent, f.poll(ctx, a))
}

// end publishes the result of a round, unless it was dropped meanwhile.
func (f *failsafe) end(serial int, sent ha.Instant, missing string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.serial != serial {
		return
	}
	f.round.Running, f.round.Sent, f.round.Complete, f.round.Missing = false, sent, missing == "", missing
	if missing != "" {
		f.log.Warn("failsafe mode: not everybody agrees: " + missing)
	}
	f.wake()
}

// poll asks everybody at once; it returns what is missing, "" if nothing is.
func (f *failsafe) poll(ctx context.Context, a ha.AskFailsafe) string {
	request := restapi.FailsafeRequest{
		Name: f.me.Name, ConnURL: f.me.ConnURL, APIURL: f.me.APIURL, Slots: a.Slots,
		PGHA: restapi.FailsafeTTL{TTL: a.Timing.TTL.Milliseconds()},
	}
	answers := make(chan string, len(a.Members))
	for _, mem := range a.Members {
		go func() {
			if err := f.twice(ctx, mem, request); err != nil {
				answers <- mem.Name + ": " + err.Error()
				return
			}
			answers <- ""
		}()
	}
	missing := ""
	for range a.Members { // each ends with ctx at the latest
		if m := <-answers; m != "" && missing == "" {
			missing = m
		}
	}
	return missing
}

// twice asks one member, and once more if half of the time brings no yes.
func (f *failsafe) twice(ctx context.Context, mem dcs.Member, r restapi.FailsafeRequest) error {
	end, _ := ctx.Deadline()
	first, cancel := context.WithTimeout(ctx, time.Until(end)/2)
	err := f.ask(first, mem.APIURL, r)
	cancel()
	if err == nil || ctx.Err() != nil {
		return err
	}
	return f.ask(ctx, mem.APIURL, r)
}
