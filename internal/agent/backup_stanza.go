package agent

import (
	"context"
	"errors"
	"time"

	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
)

// stanzaKeeper sees to it that the stanza exists, once per life of the process
// and again when another cluster or stanza is configured, and that one check
// from end to end has passed before the first backup. Only the runner's
// goroutine uses it, but for problem.
type stanzaKeeper struct {
	ready   string // stanza and system identifier it was made sure of for
	checked string // the same for the check
	next    ha.Instant
	pause   time.Duration
	problem lockedText
}

// Limits of the two calls, and how often a failed stanza-create is tried again.
const (
	stanzaTimeout = time.Minute
	checkTimeout  = 70 * time.Second
	firstPause    = 5 * time.Second
	longestPause  = 5 * time.Minute
)

// keep makes the stanza where this member leads: archiving needs it long before
// the first backup. It returns when to look again at the latest.
func (k *stanzaKeeper) keep(ctx context.Context, b *backups, v *ha.View) time.Duration {
	id := b.config().Stanza + " " + v.SystemID
	if !v.IsLeader(b.now()) {
		k.pause = 0
		k.problem.set("") // the leader's to mend
	}
	switch left := k.next.Sub(b.now()); {
	case k.ready == id, v.SystemID == "", !v.IsLeader(b.now()), v.Row.InRecovery, v.State != "running", v.Operation.Running, v.Cluster.Restore.Open():
		return idleWait
	case k.pause > 0 && left > 0:
		return left
	}
	l := b.repo.last()
	if l.at.IsZero() {
		return idleWait // the end of the first look wakes us
	}
	if v.Cluster.Backup != nil && v.Cluster.Backup.Label != "" && errors.Is(l.err, postgres.ErrNoStanza) {
		k.failed(b, errStanzaGone)
		return k.pause
	}
	limited, cancel := context.WithTimeout(ctx, stanzaTimeout)
	defer cancel()
	err := b.server.StanzaCreate(limited)
	if ctx.Err() != nil {
		return idleWait
	}
	if err == nil {
		k.ready, k.pause = id, 0
		k.problem.set("")
		b.log.Info("the stanza is there", "stanza", b.config().Stanza)
		b.repo.look()
		return idleWait
	}
	k.failed(b, err)
	return k.pause
}

// errStanzaGone: the cluster has made backups, and the repository knows nothing
// of them. A new stanza in the wrong place would hide that.
var errStanzaGone = errors.New("the cluster has made backups, but the repository holds none and no stanza: is the right one mounted? If it is lost for good, make a new one with: pghactl backup check")

func (k *stanzaKeeper) failed(b *backups, err error) {
	k.pause = min(max(2*k.pause, firstPause), longestPause)
	k.next = b.now().Add(k.pause)
	if k.problem.set(err.Error()) {
		b.log.Warn("make the stanza: " + err.Error())
	}
}

// check tests archiving from end to end, once.
func (k *stanzaKeeper) check(ctx context.Context, b *backups) error {
	id := b.config().Stanza + " " + b.view().SystemID
	if k.checked == id {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := b.server.CheckRepository(limited)
	if err == nil {
		k.checked = id
	}
	return err
}
