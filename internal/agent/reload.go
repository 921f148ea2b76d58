package agent

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
)

// localDynamic is the dynamic configuration to begin with: the copy kept in the
// data directory, else what bootstrap.dcs asks for.
func localDynamic(local *config.Local) *config.Dynamic {
	probe := config.EffectiveOf(local, nil)
	if text, err := os.ReadFile(filepath.Join(probe.Postgres.DataDir, postgres.DynamicCopy)); err == nil {
		if d, err := config.ParseDynamic(text); err == nil && d.Timing().Check() == nil {
			return d
		}
	}
	if len(local.Bootstrap.DCS) > 0 {
		if d, err := config.ParseDynamic(local.Bootstrap.DCS); err == nil {
			return d
		}
	}
	return config.DefaultDynamic()
}

func (a *agent) configure(ctx context.Context, c *dcs.Cluster) {
	if c.Config != nil {
		a.takeDocument(ctx, c.Config.Raw)
	}
}

// takeDocument puts a /config document into force; one that cannot be used
// leaves the last good one.
func (a *agent) takeDocument(_ context.Context, doc []byte) {
	d, err := config.ParseDynamic(doc)
	if err != nil {
		a.log.Error("the dynamic configuration is not applied, the last good one stays in force: " + err.Error())
		return
	}
	a.goodTiming(d)
	old := a.config.Load()
	a.use(nil, d)
	if a.node == nil || d.Equal(old.Dynamic) {
		return
	}
	a.log.Info("the dynamic configuration changed")
	a.complain(config.ValidateDynamic(doc))
	a.backupsChanged(&old.PGHA.Backup)
	a.retellLeash()
	a.node.apply(false)
}

// use puts a configuration into force; nil keeps that part as it is. The loop
// and a reload may both call it.
func (a *agent) use(local *config.Local, d *config.Dynamic) {
	a.using.Lock()
	defer a.using.Unlock()
	if old := a.config.Load(); old != nil {
		local, d = cmp.Or(local, old.Local), cmp.Or(d, old.Dynamic)
	}
	e := config.EffectiveOf(local, d)
	e.Postgres.RunDir = a.runDir
	a.config.Store(e)
	a.complain(e.Problems)
}

// complain logs findings that were not reported before. What is merely without
// effect is named at the start and not again.
func (a *agent) complain(problems []config.Problem) {
	a.said.Lock()
	defer a.said.Unlock()
	for _, p := range problems {
		if line := p.String(); p.Severity != config.Notice && !a.said.lines[line] {
			a.said.lines[line] = true
			a.log.Warn(line)
		}
	}
}

// said are the findings reported so far.
type said struct {
	sync.Mutex
	lines map[string]bool
}

// backupsChanged looks at pgha.backup where it is another than before. What
// would have kept the agent from starting is said, and the agent goes on.
func (a *agent) backupsChanged(old *config.Backup) {
	b := &a.config.Load().PGHA.Backup
	if reflect.DeepEqual(old, b) {
		return
	}
	a.node.background(func(context.Context) {
		p := checkBackupFiles(b)
		if err := errors.Join(p.fatal, p.other); err != nil {
			a.log.Error(strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	})
	if a.backups != nil {
		a.backups.repo.forget()
		a.backups.repo.look()
		a.backups.wake()
	}
}

// keepDocument keeps a copy of /config in the data directory, off the loop's path,
// where the loop calls it. A server that does not run may get another directory,
// with an old copy in it or none: that is looked at again once it does.
func (a *agent) keepDocument(state string) {
	d := a.config.Load().Dynamic
	if state != "running" {
		a.kept = nil
		return
	}
	if a.kept == d {
		return
	}
	a.kept = d
	a.node.background(func(context.Context) { // without the turn: a disk that hangs must not keep the server from being stopped
		if _, up := a.node.keeper.Running(); !up {
			return
		}
		if err := a.node.srv.KeepDynamic(d.Raw); err != nil {
			a.log.Warn("keep a copy of the dynamic configuration: " + err.Error())
		}
	})
}

// reload reads the local configuration again (wire contract §1.12). What is
// wrong with it is said, and the old one stays in force.
func (a *agent) reload() {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	defer a.notify.reloading()()
	defer func() { a.node.apply(true); a.wake() }() // also when nothing changed (wire contract §1.12)
	local, problems, err := config.Load(a.ConfigPath, a.Environ)
	if local != nil {
		problems = append(problems, local.Missing()...)
	}
	if err != nil || config.HasErrors(problems) {
		for _, p := range problems {
			if p.Severity == config.Error {
				a.log.Error(p.String())
			}
		}
		if err != nil && len(problems) == 0 {
			a.log.Error(err.Error())
		}
		a.log.Error("the configuration is not reloaded; the old one stays in force")
		return
	}
	a.complain(problems)
	old := a.config.Load()
	neu := config.EffectiveOf(local, old.Dynamic)
	if moved := immovable(old, neu); moved != "" {
		a.log.Error("the configuration is not reloaded: " + moved + " cannot change while the agent runs; restart it")
		return
	}
	err = watchdogNeedsLeash(neu)
	if err == nil {
		err = a.reconnect(neu)
	}
	if err != nil {
		a.log.Error("the configuration is not reloaded; the old one stays in force: " + err.Error())
		return
	}
	a.reloadEtcd(old.Local.Etcd, local.Etcd)
	if err := a.logs.Configure(local.Log); err != nil {
		a.log.Error(err.Error())
	}
	a.use(local, nil)
	a.backupsChanged(&old.PGHA.Backup)
	if old.Local.Watchdog != local.Watchdog {
		a.sayWatchdog()
	}
	a.retellLeash()
	a.log.Info("the local configuration was read again")
}

// reconnect makes the REST API and the client for the peers anew, with certificates
// that may have been replaced. The two go with the rest of the configuration or not
// at all: a member must not publish an address that it does not serve.
func (a *agent) reconnect(e *config.Effective) error {
	options, err := clientOptions(e)
	if err != nil {
		return err
	}
	if err := a.api.Reconfigure(restapi.Settings{RestAPI: e.Local.RestAPI, Strict: e.PGHA.RestAPIStrict}); err != nil {
		return err
	}
	a.client.Reconfigure(options)
	return nil
}

// reloadEtcd takes over credentials; anything else about etcd waits for a restart.
func (a *agent) reloadEtcd(old, neu config.Etcd) {
	if old.Username != neu.Username || old.Password != neu.Password {
		a.store.SetCredentials(neu.Username, neu.Password.Reveal())
	}
	neu.Username, neu.Password, neu.Line = old.Username, old.Password, old.Line
	if !reflect.DeepEqual(old, neu) {
		a.log.Warn("the changed section " + neu.Kind + " is in force after a restart of the agent")
	}
}

// immovable names the first setting that a running agent cannot change.
func immovable(old, neu *config.Effective) string {
	switch {
	case old.Local.Scope != neu.Local.Scope:
		return "scope"
	case old.Local.Name != neu.Local.Name:
		return "name"
	case old.Local.Namespace != neu.Local.Namespace:
		return "namespace"
	case old.Postgres.DataDir != neu.Postgres.DataDir:
		return "postgresql.data_dir"
	case old.Postgres.ConfigDir != neu.Postgres.ConfigDir:
		return "postgresql.config_dir" // the server would go on reading the files of before
	case old.Postgres.ConfigBaseName != neu.Postgres.ConfigBaseName:
		return "postgresql.config_base_name"
	case (old.PGHA.Leash == "off") != (neu.PGHA.Leash == "off"):
		return "pgha.leash"
	}
	return ""
}
