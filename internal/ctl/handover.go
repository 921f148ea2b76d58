package ctl

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

// catchUpPatience is how long a promotion waits for WAL of a remote that accepts
// no writes any more.
const catchUpPatience = 30 * time.Second

// remoteState tells, before a standby cluster is promoted, what that would leave
// behind: where the remote's WAL ends and how much of it is here. It forbids
// nothing, because the remote may be gone for good.
func (a *App) remoteState(ctx context.Context, s *session, leader *dcs.Member) error {
	began := a.Now()
	for {
		d, known, err := a.askRemote(ctx, s, leader)
		switch {
		case err != nil:
			return err
		case !known:
			a.printf("What the remote has that is not here cannot be told: ask where its WAL ends\n")
			return nil
		case d.Error != "":
			a.printf("The remote (%s) cannot be asked: %s. What it acknowledged and did not send is lost by this promotion\n", d.Remote, plain.OneLine(d.Error))
			return nil
		case !d.InRecovery:
			a.printf("The remote (%s) still accepts writes, at %s on timeline %d. What it acknowledges from here on is lost by this promotion; demote it first (pghactl demote-cluster)\n", d.Remote, d.LSN, d.Timeline)
			return nil
		case d.Missing == 0:
			a.printf("The remote (%s) accepts no writes any more. All of its WAL is here: it ends at %s, received up to %s\n", d.Remote, d.LSN, d.Received)
			return nil
		case a.Now().Sub(began) > catchUpPatience:
			a.printf("The remote (%s) accepts no writes any more. Its WAL ends at %s, and %d bytes of it are not here: received up to %s\n", d.Remote, d.LSN, d.Missing, d.Received)
			return nil
		}
		if err := a.rest(ctx); err != nil {
			return err
		}
	}
}

func (a *App) rest(ctx context.Context) error {
	t := time.NewTimer(followPeriod)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return errAborted
	case <-t.C:
		return nil
	}
}

// askRemote lets the standby leader ask its remote. A member of Patroni's, or one
// that does not answer, cannot: known is false then.
func (a *App) askRemote(ctx context.Context, s *session, leader *dcs.Member) (d restapi.RemoteDocument, known bool, err error) {
	r, err := a.askOne(ctx, s, leader, request{method: http.MethodGet, path: "/remote", limit: checkTimeout})
	switch {
	case ctx.Err() != nil:
		return d, false, errAborted
	case err != nil || r.status != http.StatusOK || r.isPatroni() || r.decode(&d) != nil:
		return d, false, nil
	}
	return d, d.Remote != "", nil
}

// walEnd says where a demoted cluster's WAL ends: what the other side must have
// before it is promoted.
func walEnd(c *dcs.Cluster) string {
	leader := c.Member(c.LeaderName())
	if c.Status == nil || c.Status.Optime == 0 || leader == nil {
		return ""
	}
	return fmt.Sprintf("No member accepts writes any more. The WAL ends at %s on timeline %d: the other side must have it before it is promoted\n", c.Status.Optime, leader.Timeline)
}
