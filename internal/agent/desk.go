package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

// operations is the one long operation of this node.
type operations interface {
	Poll() ha.Operation
}

// desk takes requests about backups, restores and reinitialisation: it
// implements restapi.Backups. What it answers comes from what the runner, the
// watch and the loop know; what it is asked for it writes to etcd.
type desk struct {
	me     string
	store  dcs.Store
	config func() *config.Effective
	view   func() *ha.View
	now    func() ha.Instant
	ops    operations
	peers  *peers
	server backupServer
	// present asks the own server where it is; nil: only what is known counts.
	present func(ctx context.Context) (postgres.Status, error)
	// dir is the state of the own data directory.
	dir   func() postgres.DataDir
	repo  *repository
	watch *archiveWatch
	run   *backups
	wake  func()
	log   *slog.Logger

	reinit   reinits
	restarts restarts
}

// etcdTime bounds requests to etcd on behalf of a REST client.
func (d *desk) etcdTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, max(d.view().LoopWait, 5*time.Second))
}

func (d *desk) readCluster(ctx context.Context) (*dcs.Cluster, error) {
	ctx, cancel := d.etcdTime(ctx)
	defer cancel()
	return d.store.Read(ctx)
}

// enabled refuses where backups are not configured.
func (d *desk) enabled() (*config.Backup, *restapi.Refusal) {
	b := &d.config().PGHA.Backup
	if !b.Enabled {
		return nil, refusal(http.StatusNotFound, "backups are not configured: there is no section pgha.backup")
	}
	return b, nil
}

// How long GET /backup waits for a look into the repository that is due, and how
// old what it shows may be without one.
const (
	repositoryPatience = 2 * time.Second
	repositoryAge      = time.Minute
)

// Backup implements restapi.Backups.
func (d *desk) Backup(ctx context.Context) (*restapi.BackupDocument, *restapi.Refusal) {
	if _, no := d.enabled(); no != nil {
		return nil, no
	}
	ctx, cancel := context.WithTimeout(ctx, repositoryPatience)
	defer cancel()
	d.repo.within(ctx, repositoryAge)
	return d.BackupKnown(), nil
}

// RequestBackup implements restapi.Backups. Of two requests the stronger stays.
func (d *desk) RequestBackup(ctx context.Context, kind, by string) *restapi.Refusal {
	if _, no := d.enabled(); no != nil {
		return no
	}
	if l := d.repo.last(); l.err != nil && !l.known() {
		// It may have been mended since.
		if _, no := d.readRepository(ctx); no != nil {
			return no
		}
	}
	ctx, cancel := d.etcdTime(ctx)
	defer cancel()
	pending := ""
	err := changeBackup(ctx, d.store, func(b *dcs.Backup) bool {
		if pending = b.Requested; pending != "" && covers(pending, kind) {
			return false
		}
		pending = ""
		b.Requested, b.RequestedAt, b.RequestedBy = kind, time.Now().Truncate(time.Second), by
		return true
	})
	switch {
	case err != nil:
		d.log.Warn("write the request for a backup: " + err.Error())
		return unreadable()
	case pending != "":
		return refusal(http.StatusConflict, "a "+pending+" backup was asked for already and is not made yet")
	}
	d.run.wake()
	return nil
}

// CancelBackup implements restapi.Backups.
func (d *desk) CancelBackup(ctx context.Context, by string) *restapi.Refusal {
	if _, no := d.enabled(); no != nil {
		return no
	}
	if d.run.cancelCurrent(errCancelled{by}) {
		return nil
	}
	c, err := d.readCluster(ctx)
	if err != nil {
		return unreadable()
	}
	if l := c.BackupLock; l != nil && l.Member != d.me {
		return refusal(http.StatusConflict, "the backup is made by "+l.Member+"; ask there")
	}
	taken := false
	ctx, cancel := d.etcdTime(ctx)
	defer cancel()
	err = changeBackup(ctx, d.store, func(b *dcs.Backup) bool {
		taken = b.Requested != ""
		b.Requested, b.RequestedAt, b.RequestedBy = "", time.Time{}, ""
		return taken
	})
	switch {
	case err != nil:
		return unreadable()
	case !taken:
		return refusal(http.StatusNotFound, "no backup is being made or asked for")
	}
	return nil
}

// CheckBackup implements restapi.Backups.
func (d *desk) CheckBackup(ctx context.Context) (*restapi.BackupCheck, *restapi.Refusal) {
	cfg, no := d.enabled()
	if no != nil {
		return nil, no
	}
	out := &restapi.BackupCheck{OK: true}
	add := func(name string, err error) {
		item := restapi.CheckItem{Name: name, OK: err == nil}
		if err != nil {
			item.Text, out.OK = plain.OneLine(err.Error()), false
		}
		out.Items = append(out.Items, item)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	problems := checkBackupFiles(cfg)
	add("files and program", errors.Join(problems.fatal, problems.other))
	leads := d.view().IsLeader(d.now())
	l, err := d.repo.anew(ctx)
	if err == nil {
		err = l.err
	}
	if leads && errors.Is(err, postgres.ErrNoStanza) { // an operator asks: it is made anew even if it was lost
		if err = d.server.StanzaCreate(ctx); err == nil {
			d.repo.forget()
			l, err = d.repo.anew(ctx)
		}
		if err == nil {
			err = l.err
		}
	}
	add("repository", err)
	if err == nil {
		err = sameCluster(l.repo, d.view().SystemID)
		add("cluster", err)
	}
	if leads {
		add("archiving", d.server.CheckRepository(ctx))
	}
	for _, a := range alarmTexts(d.watch) {
		add("alarm", errors.New(a))
	}
	return out, nil
}

func alarmTexts(w *archiveWatch) []string {
	_, _, alarms := w.newest()
	return texts(alarms)
}

func sameCluster(r *postgres.Repository, systemID string) error {
	if r == nil || r.SystemID == "" || systemID == "" || r.SystemID == systemID {
		return nil
	}
	return errors.New("the repository is of the cluster with system identifier " + r.SystemID + ", ours is " + systemID + "; set pgha.backup.stanza to the right one")
}

// hosts are the servers that a backup from a standby is made with: the leader's,
// whose directory it tells us itself.
func (d *desk) hosts(ctx context.Context, c *dcs.Cluster) []postgres.BackupHost {
	leader := c.Member(c.LeaderName())
	if leader == nil {
		return nil
	}
	p := d.config().Postgres
	h := postgres.BackupHost{Name: leader.Name, Path: p.DataDir, Port: p.Port}
	host, port := hostOf(leader.ConnURL)
	if port != 0 {
		h.Port = port
	}
	if own, _ := hostOf(p.ConnURL()); host != own {
		h.Host = host
	}
	ask, cancel := context.WithTimeout(ctx, memberPatience)
	defer cancel()
	if doc, _, err := d.peers.client.Backup(ask, leader.APIURL); err == nil && doc != nil && doc.DataDir != "" {
		h.Path, h.Socket = filepath.Clean(doc.DataDir), doc.SocketDir
	}
	return []postgres.BackupHost{h}
}

// memberPatience is how long another member has to answer a question.
const memberPatience = 5 * time.Second
