package agent

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

// BackupKnown implements restapi.Backups: everything in it was found out before.
func (d *desk) BackupKnown() *restapi.BackupDocument {
	e, v := d.config(), d.view()
	state, _, alarms := d.watch.newest()
	doc := &restapi.BackupDocument{
		Member: d.me, Backups: []restapi.BackupEntry{}, Schedule: []restapi.BackupPlan{}, Alarms: texts(alarms),
		Archive: archiveOf(&state), DataDir: e.Postgres.DataDir, SocketDir: socketDir(&e.Postgres),
	}
	b := &e.PGHA.Backup
	if !b.Enabled {
		return doc
	}
	doc.Stanza, doc.From, doc.Schedule = b.Stanza, string(b.From), scheduleOf(b, time.Now())
	l := d.repo.last()
	doc.ReadAt = l.good
	if l.err != nil {
		doc.Error = plain.OneLine(l.err.Error())
	}
	if l.repo != nil {
		doc.Archive.Min, doc.Archive.Max = l.repo.MinWAL, l.repo.MaxWAL
		for i := range l.repo.Backups {
			doc.Backups = append(doc.Backups, entryOf(&l.repo.Backups[i]))
		}
	}
	fillCluster(doc, v.Cluster, d.run.plan())
	if doc.Runner == "" && b.From != config.BackupFromStandby && v.Cluster != nil {
		doc.Runner = v.Cluster.LeaderName()
	}
	return doc
}

// fillCluster adds what etcd tells of backups.
func fillCluster(doc *restapi.BackupDocument, c *dcs.Cluster, plan ha.BackupStep) {
	doc.Runner = plan.Runner
	if c == nil {
		return
	}
	if l := c.BackupLock; l != nil {
		doc.Runner = l.Member
		doc.Running = &restapi.RunningBackup{Member: l.Member, Type: l.Type, Started: l.Started, Progress: restapi.ProgressOf(l.Progress)}
	}
	b := c.Backup
	if b == nil {
		return
	}
	doc.Pending = b.Requested
	if doc.Running != nil && doc.Running.Type == b.Requested && !doc.Running.Started.Before(b.RequestedAt) {
		doc.Pending = ""
	}
	if !b.Ended.IsZero() {
		doc.Last = &restapi.LastBackup{Type: b.Type, Member: b.Member, Started: b.Started, Ended: b.Ended, Label: b.Label, Error: b.Error}
	}
}

func scheduleOf(b *config.Backup, now time.Time) []restapi.BackupPlan {
	out := []restapi.BackupPlan{}
	for _, s := range []struct {
		kind string
		at   *config.Schedule
	}{{"full", b.Full}, {"diff", b.Diff}, {"incr", b.Incr}} {
		if s.at != nil {
			out = append(out, restapi.BackupPlan{Type: s.kind, Cron: s.at.Text, Next: s.at.Next(now)})
		}
	}
	return out
}

func entryOf(b *postgres.BackupSet) restapi.BackupEntry {
	return restapi.BackupEntry{
		Label: b.Label, Type: b.Type, Start: b.Start, Stop: b.Stop, Timeline: int64(b.Timeline),
		StartLSN: b.StartLSN.String(), StopLSN: b.StopLSN.String(), StartWAL: b.StartWAL, StopWAL: b.StopWAL,
		Size: b.Size, RepoSize: b.RepoSize, Reference: b.Prior, Damaged: b.Damaged,
	}
}

func archiveOf(a *postgres.ArchiveState) restapi.ArchiveState {
	return restapi.ArchiveState{
		ReadyFiles: a.ReadyFiles, OldestReady: a.OldestReady.Seconds(), LastArchived: a.LastArchived, LastTime: a.LastTime,
		LastFailed: a.LastFailed, LastFailTime: a.LastFailTime, FailedCount: a.FailedCount, Failing: a.Failing,
		WALBytes: a.WALBytes, WALFreeBytes: a.WALFreeBytes,
	}
}

// hostOf takes host and port out of a connection URL.
func hostOf(connURL string) (host string, port int) {
	u, err := url.Parse(connURL)
	if err != nil {
		return "", 0
	}
	port, _ = strconv.Atoi(u.Port()) // 0: not named
	return u.Hostname(), port
}

// socketDir is the first of unix_socket_directories; "" the compiled-in one.
func socketDir(p *config.Postgres) string {
	first, _, _ := strings.Cut(p.Parameters["unix_socket_directories"], ",")
	return strings.TrimSpace(first)
}

// address is host and port of a member for people.
func address(m *dcs.Member) string {
	host, port := hostOf(m.ConnURL)
	return m.Name + " (" + net.JoinHostPort(host, strconv.Itoa(port)) + ")"
}
