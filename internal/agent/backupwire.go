package agent

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// openBackups joins the parts that see to backups and archiving. They exist
// without pgha.backup, too: it may come with a reload.
func (a *agent) openBackups(me string) {
	srv, view := a.node.srv, a.board.View
	backup := func() *config.Backup { return &a.config.Load().PGHA.Backup }
	a.backups = &backups{
		me: me, store: a.store, server: srv, config: backup, view: view, now: now, wall: time.Now, log: a.log,
		began: time.Now(), poke: make(chan struct{}, 1),
	}
	a.backups.repo = newRepository(srv.Repository, time.Now, func() {
		a.backups.wake()
		a.watch.wake()
	})
	a.watch = &archiveWatch{
		state: srv.ArchiveState, config: a.config.Load, view: view, now: now,
		repo: a.backups.repo, stanza: &a.backups.stanza.problem, log: a.log, poke: make(chan struct{}, 1),
	}
	a.board.desk = &desk{
		me: me, store: a.store, config: a.config.Load, view: view, now: now, ops: a.runner, peers: a.board.peers,
		server: srv, present: srv.Status, dir: srv.State, repo: a.backups.repo, watch: a.watch, run: a.backups, wake: a.wake, log: a.log,
	}
	a.backups.hosts = a.board.hosts
	a.board.published = a.backups.wake
	a.node.cluster = func() *dcs.Cluster { return view().Cluster }
	a.node.background(func(context.Context) {
		p := checkBackupFiles(backup()) // what is fatal ended the start
		if err := errors.Join(p.fatal, p.other); err != nil {
			a.log.Warn(strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		a.node.writeBackupConfig()
	})
}

// backupsEnd is how long the end of a backup is waited for when the agent ends;
// what is left of it then dies with the agent.
const backupsEnd = 2 * time.Second

// runBackups starts what runs beside the loop. The runner ends with the request
// to stop already, so that pgbackrest is gone before the server is. The
// function returned waits for it.
func (a *agent) runBackups(side context.Context) (wait func()) {
	ctx, cancel := context.WithCancelCause(side)
	a.beside(func() {
		defer cancel(errAgentEnds)
		select {
		case <-a.Stop:
		case <-side.Done():
		}
	})
	a.beside(func() { a.watch.run(side) })
	a.beside(func() { cleanLogs(side, a.config.Load, a.log) })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.backups.run(ctx)
	}()
	return func() {
		late := time.NewTimer(backupsEnd)
		defer late.Stop()
		select {
		case <-ended:
		case <-late.C:
			a.log.Warn("pgbackrest does not end; it is killed with the agent")
		}
	}
}
