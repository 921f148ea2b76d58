package agent

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/postgres/wal"
	"github.com/pgha/pgha/pkg/restapi"
)

// targetOf takes the target out of a request.
func targetOf(r restapi.RestoreRequest) (dcs.RestoreTarget, error) {
	t := dcs.RestoreTarget{Type: r.Type, Value: strings.TrimSpace(r.Value), Timeline: r.Timeline, Exclusive: r.Exclusive}
	if t.Type == "" {
		return t, errors.New("type is missing: give latest, immediate, time, lsn, name or xid")
	}
	if err := recoveryTarget(t).Validate(); err != nil {
		return t, err
	}
	return t, nil
}

// recoveryTarget is t as the driver takes it.
func recoveryTarget(t dcs.RestoreTarget) postgres.RecoveryTarget {
	return postgres.RecoveryTarget{Type: t.Type, Value: t.Value, Timeline: t.Timeline, Exclusive: t.Exclusive}
}

// choice is what a backup set is chosen by.
type choice struct {
	target   dcs.RestoreTarget
	set      string // label asked for, "" none
	now      time.Time
	position wal.LSN      // of the cluster, 0 unknown
	timeline wal.Timeline // of the cluster, 0 unknown
	history  []dcs.HistoryLine
}

// choose picks the backup set to begin with: the one asked for, or the newest
// that lies before the target on the way to the present timeline.
func (c *choice) choose(repo *postgres.Repository) (*postgres.BackupSet, error) {
	if err := c.checkTarget(repo); err != nil {
		return nil, err
	}
	var best, unsuited *postgres.BackupSet
	for i := range repo.Backups {
		b := &repo.Backups[i]
		switch {
		case c.set != "":
			if b.Label == c.set {
				best = b
			}
		case !c.before(b):
		case b.Damaged || !c.leadsHere(b):
			unsuited = b
		default:
			best = b // oldest first, so the last one stays
		}
	}
	switch {
	case best == nil && c.set != "":
		return nil, fmt.Errorf("there is no backup %q in the stanza %s; pghactl backup list shows them", c.set, repo.Stanza)
	case best == nil && unsuited != nil:
		return nil, errors.New("no undamaged backup of the cluster's own history ends before the target; pghactl backup list shows them, and one can be named with set")
	case best == nil:
		return nil, errors.New("no backup ends before the target; a cluster can only be set back to a time after a backup ended")
	case !c.before(best):
		return nil, fmt.Errorf("the backup %s ends at %s (%s), which is after the target", best.Label, best.Stop.UTC().Format(time.DateTime+"Z07:00"), best.StopLSN)
	}
	return best, nil
}

// checkTarget refuses what lies in the future, or before every backup.
func (c *choice) checkTarget(repo *postgres.Repository) error {
	if len(repo.Backups) == 0 {
		return fmt.Errorf("there is no backup in the stanza %s; make one with: pghactl backup run --type full", repo.Stanza)
	}
	switch c.target.Type {
	case "time":
		at, err := postgres.ParseTargetTime(c.target.Value)
		if err != nil {
			return err
		}
		if at.After(c.now) {
			return fmt.Errorf("the target %s lies in the future", c.target.Value)
		}
		if oldest := repo.Backups[0].Stop; !at.After(oldest) {
			return fmt.Errorf("the target %s lies before the end of the oldest backup (%s, %s)", c.target.Value, repo.Backups[0].Label, oldest.UTC().Format(time.DateTime+"Z07:00"))
		}
	case "lsn":
		at, err := wal.ParseLSN(c.target.Value)
		if err != nil {
			return err
		}
		if c.position != 0 && at > c.position {
			return fmt.Errorf("the target %s lies in the future: the cluster is at %s", at, c.position)
		}
	}
	return nil
}

// before tells whether b ends before the target; of a name or a transaction
// nobody knows.
func (c *choice) before(b *postgres.BackupSet) bool {
	switch c.target.Type {
	case "time":
		at, err := postgres.ParseTargetTime(c.target.Value)
		return err == nil && b.Stop.Before(at)
	case "lsn":
		at, err := wal.ParseLSN(c.target.Value)
		return err == nil && b.StopLSN <= at
	}
	return true
}

// leadsHere tells whether the present timeline can be reached from b. Backups of
// a branch that was given up by an earlier restore cannot.
func (c *choice) leadsHere(b *postgres.BackupSet) bool {
	if c.timeline == 0 || b.Timeline == c.timeline || c.target.Timeline != "" && c.target.Timeline != "latest" {
		return true
	}
	if b.Timeline > c.timeline {
		return false
	}
	oldest := wal.Timeline(0)
	for _, l := range c.history {
		if l.Timeline == b.Timeline {
			return b.StopLSN <= l.LSN
		}
		if oldest == 0 || l.Timeline < oldest {
			oldest = l.Timeline
		}
	}
	return oldest == 0 || b.Timeline < oldest // older than what /history still tells
}

// warnings are what an operator should know before.
func (c *choice) warnings(b *postgres.BackupSet, cluster *dcs.Cluster, archive postgres.ArchiveState) []string {
	out := []string{}
	switch c.target.Type {
	case "name", "xid":
		if c.set == "" {
			out = append(out, fmt.Sprintf("where the %s lies is not known beforehand: if it is older than the backup %s, name an older one with set, else the restore fails", c.target.Type, b.Label))
		}
	}
	if c.target.Type != "latest" {
		out = append(out, "everything committed after the target is lost from the cluster; it stays in the archive on the present timeline")
	}
	if c.set != "" && b.Damaged {
		out = append(out, "the backup "+b.Label+" holds pages with wrong checksums")
	}
	if l := cluster.BackupLock; l != nil {
		out = append(out, fmt.Sprintf("the %s backup that %s makes is ended", l.Type, l.Member))
	}
	if archive.Failing || archive.ReadyFiles > 0 {
		out = append(out, fmt.Sprintf("%d WAL segments are not archived yet; the restore waits for them first", archive.ReadyFiles))
	}
	return out
}

// clusterRefusal says why a restore cannot be ordered at this member now. half
// is set when the own directory is one that a restore left half-made.
func clusterRefusal(me string, c *dcs.Cluster, paused, leads, half bool) *restapi.Refusal {
	no := func(format string, args ...any) *restapi.Refusal {
		return refusal(http.StatusPreconditionFailed, fmt.Sprintf(format, args...))
	}
	leader := c.LeaderName()
	switch {
	case c.Restore.Open():
		return refusal(http.StatusConflict, fmt.Sprintf("a restore is under way already (%s, by %s); take it back with: pghactl restore --cancel", c.Restore.ID, c.Restore.By))
	case paused:
		return no("the cluster is paused; resume it first")
	case leader != "" && leader != me:
		return no("this member is not the leader, %s is; ask there", leader)
	case leader == "" && !half:
		return no("the cluster has no leader; a restore is carried out by the leader")
	case leader == me && !leads:
		return no("the server of the leader does not run as primary yet; try again later")
	}
	return nil
}
