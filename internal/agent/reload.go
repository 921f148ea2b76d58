package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/restapi"
)

// localDynamic is the dynamic configuration to begin with: the copy kept in the
// data directory, else what bootstrap.dcs asks for.
func localDynamic(local *config.Local) *config.Dynamic {
	probe := config.EffectiveOf(local, nil)
	if text, err := os.ReadFile(filepath.Join(probe.Postgres.DataDir, dynamicCache)); err == nil {
		if d, err := config.ParseDynamic(text); err == nil {
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

// dynamicCache is Patroni's copy of /config in the data directory.
const dynamicCache = "patroni.dynamic.json"

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
	old := a.config.Load()
	a.use(old.Local, d)
	if a.node == nil || d.Equal(old.Dynamic) {
		return
	}
	a.log.Info("the dynamic configuration changed")
	a.backupsChanged(&old.PGHA.Backup)
	a.retellWatchdog()
	a.node.apply()
	a.keepDocument(doc)
}

// use puts a configuration into force.
func (a *agent) use(local *config.Local, d *config.Dynamic) {
	e := config.EffectiveOf(local, d)
	e.Postgres.RunDir = a.runDir
	a.config.Store(e)
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

// keepDocument writes the local copy of /config, off the loop's path.
func (a *agent) keepDocument(doc []byte) {
	dir := a.config.Load().Postgres.DataDir
	a.node.background(func(context.Context) {
		if _, err := os.Stat(filepath.Join(dir, "PG_VERSION")); err != nil {
			return
		}
		if err := writeNew(filepath.Join(dir, dynamicCache), string(doc)); err != nil {
			a.log.Warn("keep a copy of the dynamic configuration: " + err.Error())
		}
	})
}

// reload reads the local configuration again (wire contract §1.12). What is
// wrong with it is said, and the old one stays in force.
func (a *agent) reload() {
	defer a.notify.reloading()()
	local, problems, err := config.Load(a.ConfigPath, a.Environ)
	for _, p := range problems {
		a.log.Warn(p.String())
	}
	if err != nil || config.HasErrors(problems) {
		a.log.Error("the configuration is not reloaded; the old one stays in force")
		return
	}
	old := a.config.Load()
	if moved := immovable(old, config.EffectiveOf(local, old.Dynamic)); moved != "" {
		a.log.Error("the configuration is not reloaded: " + moved + " cannot change while the agent runs; restart it")
		return
	}
	if err := watchdogNeedsLeash(config.EffectiveOf(local, old.Dynamic)); err != nil {
		a.log.Error("the configuration is not reloaded; the old one stays in force: " + err.Error())
		return
	}
	a.level.Set(logLevel(local.Log.Level))
	a.use(local, old.Dynamic)
	a.backupsChanged(&old.PGHA.Backup)
	if old.Local.Watchdog != local.Watchdog || old.PGHA.Leash != a.config.Load().PGHA.Leash {
		a.sayWatchdog()
	}
	a.retellWatchdog()
	if err := a.api.Reconfigure(restapi.Settings{RestAPI: local.RestAPI, Strict: a.config.Load().PGHA.RestAPIStrict}); err != nil {
		a.log.Error("restapi: " + err.Error() + "; restart the agent to change it")
	}
	if err := a.api.ReloadTLS(); err != nil {
		a.log.Error(err.Error())
	}
	a.node.apply()
	a.wake()
	a.log.Info("the local configuration was read again")
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
	}
	return ""
}
