package agent

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

// restarts hands requests to restart the server to the loop, and tells whoever
// sent one what became of it. A scheduled request lives here and nowhere else.
type restarts struct {
	mu      sync.Mutex
	serial  int64
	pending ha.Restarts
	taken   int64         // serial of the last scheduled request that was taken up or dropped
	open    chan<- string // why pending.Now was not carried out, "" if it was; nil: it has ended
}

// newest are the requests for the next observation.
func (r *restarts) newest() ha.Restarts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pending
}

// noted takes in what the loop made of the requests.
func (r *restarts) noted(s ha.RestartState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = s.Scheduled
	if r.open != nil && s.Now == r.pending.Now.Serial && !s.Runs {
		r.open <- s.Failure
		r.open = nil
	}
}

// ask files a request to restart at once; nil while an earlier one is open.
func (r *restarts) ask(next ha.RestartRequest) <-chan string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != nil {
		return nil
	}
	r.serial++
	next.Serial = r.serial
	end := make(chan string, 1)
	r.pending.Now, r.open = next, end
	return end
}

// scheduled tells whether a request waits for its time; the caller holds mu.
func (r *restarts) scheduled() bool { return r.pending.Scheduled.Serial != r.taken }

func (r *restarts) schedule(next ha.RestartRequest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scheduled() {
		return false
	}
	r.serial++
	next.Serial = r.serial
	r.pending.Scheduled = next
	return true
}

func (r *restarts) cancel() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.scheduled() {
		return false
	}
	r.pending.Scheduled = ha.RestartRequest{Serial: r.taken}
	return true
}

// Restart implements restapi.Restarts.
func (d *desk) Restart(ctx context.Context, r ha.RestartRequest) *restapi.Refusal {
	end := d.restarts.ask(r)
	if end == nil {
		return refusal(http.StatusServiceUnavailable, "restart already in progress")
	}
	d.wake()
	select {
	case why := <-end:
		if why != "" {
			return refusal(http.StatusServiceUnavailable, why)
		}
		return nil
	case <-ctx.Done():
		return refusal(http.StatusServiceUnavailable, "the restart has not ended yet; see the state of this member")
	}
}

// ScheduleRestart implements restapi.Restarts. It is meant for the server that
// runs now: if that was restarted meanwhile, nothing is to be done any more.
func (d *desk) ScheduleRestart(r ha.RestartRequest) *restapi.Refusal {
	r.PostmasterStart = d.view().PostmasterStartTime
	if !d.restarts.schedule(r) {
		return refusal(http.StatusConflict, "Another restart is already scheduled")
	}
	d.wake()
	return nil
}

// CancelScheduledRestart implements restapi.Restarts.
func (d *desk) CancelScheduledRestart() bool {
	defer d.wake()
	return d.restarts.cancel()
}

// errStillStarting: the words that patronictl's users know.
var errStillStarting = errors.New("postgres is still starting")

// restart stops the server and starts it again in the same role. The leader key
// goes on being renewed meanwhile, and the leash keeps its deadline.
func (n *node) restart(ctx context.Context, a ha.Restart) error {
	if _, up := n.srv.Running(); up {
		n.checkpointFirst(ctx)
		n.expectStop()
		if err := n.srv.Stop(ctx, postgres.StopFast, false); err != nil {
			n.mu.Lock()
			n.stopping = false
			n.mu.Unlock()
			return err
		}
	}
	if a.Timeout <= 0 {
		a.Timeout = n.config().Postgres.PgCtlTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, max(a.Timeout, time.Second))
	defer cancel()
	up := a.Upstream
	res, err := n.srv.Start(ctx, n.startOptions(ha.Start{Primary: a.Primary, Upstream: up}))
	for err == nil && res == postgres.StillStarting && ctx.Err() == nil { // a wait ends earlier than the timeout allows
		res, err = n.srv.WaitReady(ctx)
	}
	if err == nil && !a.Primary {
		n.setUpstream(up)
	}
	switch {
	case err != nil:
		return err
	case res == postgres.StillStarting:
		return errStillStarting
	}
	n.askPending(ctx) // the flag is gone when the answer is given
	return nil
}
