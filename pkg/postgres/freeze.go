package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// receiverPatience is how long a WAL receiver may take to see that it is not
// wanted any more; a startup process that is held up would leave it running.
const receiverPatience = 250 * time.Millisecond

// frozenSQL asks whether the settings in force name nobody, which process
// receives WAL (also one that has no connection yet), and whether the position is
// complete: a server that has received nothing since its start knows only what it
// has replayed, until there is nothing left to replay.
const frozenSQL = `SELECT current_setting('primary_conninfo') = '',
 COALESCE((SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'walreceiver'), 0),
 pg_last_wal_receive_lsn() IS NOT NULL OR EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup'
  AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream', 'RecoveryWalAll'))`

// Freeze makes a running standby stream from nobody, also after a restart, and
// returns once its WAL receiver has ended and its position is complete (safety
// B.5). FollowRestartNeeded: the server is too old to be told; it must be restarted
// as a standby of nobody first.
func (s *Server) Freeze(ctx context.Context) (FollowResult, error) {
	res, err := s.Follow(ctx, nil)
	if err != nil || res == FollowRestartNeeded {
		return res, err
	}
	var told time.Time
	b := backoff{next: 2 * time.Millisecond, max: 20 * time.Millisecond}
	for {
		alone, receiver, complete, err := s.frozen(ctx)
		switch {
		case err == nil && alone && receiver == 0 && complete:
			return res, nil
		case err == nil && alone && told.IsZero():
			told = time.Now()
		case err == nil && alone && receiver != 0 && time.Since(told) > receiverPatience:
			s.endReceiver(ctx, receiver)
		}
		if werr := b.wait(ctx, s.proc.Exited()); werr != nil {
			return res, errors.Join(errNotFrozen(alone, receiver, complete), err, werr)
		}
	}
}

func errNotFrozen(alone bool, receiver int, complete bool) error {
	switch {
	case !alone:
		return errors.New("the server has not read its new settings")
	case receiver != 0:
		return fmt.Errorf("the WAL receiver (pid %d) has not ended", receiver)
	case !complete:
		return errors.New("the server still replays what it had before its start")
	}
	return nil
}

func (s *Server) frozen(ctx context.Context) (alone bool, receiver int, complete bool, err error) {
	err = s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, frozenSQL).Scan(&alone, &receiver, &complete)
	})
	if err != nil {
		return false, 0, false, fmt.Errorf("ask for the WAL receiver: %w", err)
	}
	return alone, receiver, complete, nil
}

// endReceiver ends the WAL receiver, if pid still is its.
func (s *Server) endReceiver(ctx context.Context, pid int) {
	fd, err := unix.PidfdOpen(pid, 0) // first the handle, then the look: a pid may be somebody else's by now
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	if parent, ok := s.Running(); !ok || parentOf(pid) != parent {
		return
	}
	if _, now, _, err := s.frozen(ctx); err == nil && now == pid {
		_ = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0) // gone meanwhile: all the better
	}
}
