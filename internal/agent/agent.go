// Package agent wires one node's process: configuration, etcd, the server, its
// leash, the loop and the REST API. It joins them and decides nothing.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/pgha/pgha/internal/leash"
	"github.com/pgha/pgha/internal/logging"
	"github.com/pgha/pgha/internal/version"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
	"github.com/pgha/pgha/pkg/dcs/etcd"
	"github.com/pgha/pgha/pkg/ha"
	"github.com/pgha/pgha/pkg/ha/loop"
	"github.com/pgha/pgha/pkg/postgres"
	"github.com/pgha/pgha/pkg/restapi"
	"github.com/pgha/pgha/pkg/restapi/metric/prom"
)

// Options are what main knows.
type Options struct {
	ConfigPath string
	Environ    []string
	Stderr     io.Writer
	// Reload is readable for each SIGHUP, Upgrade for each SIGUSR2; Stop is closed
	// for SIGTERM.
	Reload  <-chan struct{}
	Upgrade <-chan struct{}
	Stop    <-chan struct{}
}

// agent is one running process. Parts open in order and close in reverse.
type agent struct {
	Options
	logs   *logging.Log
	log    *slog.Logger
	notify *notifier
	said   said

	upgrade *upgrade

	config atomic.Pointer[config.Effective]
	using  sync.Mutex // serialises the writers of config
	// kept is what the copy of /config in the data directory was made of last; only
	// the loop's goroutine uses it.
	kept *config.Dynamic
	// reloading is held by a reload: SIGHUP and POST /reload may come at once.
	reloading sync.Mutex
	runDir    string
	store     *etcd.Store
	keeper    guardian
	node      *node
	runner    *loop.Runner
	board     *board
	client    *restapi.Client
	api       *restapi.Server
	backups   *backups
	watch     *archiveWatch
	journal   *journal
	seen      *seenFile
	wakeups   chan struct{}
	group     sync.WaitGroup
}

// Run is the life of the agent. It returns the exit code of the process; what
// went wrong has been said in one line.
func Run(ctx context.Context, o Options) int {
	a := &agent{Options: o, wakeups: make(chan struct{}, 1), notify: newNotifier(), said: said{lines: map[string]bool{}}, upgrade: newUpgrade()}
	local, ok := a.load()
	if !ok {
		return 1
	}
	forgetSecrets(o.Environ)
	a.logs = logging.New(o.Stderr, local.Log)
	a.log = a.logs.Logger()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.upgrade.end = cancel
	code, err := 1, a.logs.Open(local.Log)
	if err == nil {
		code, err = a.run(ctx, local)
	}
	if err != nil {
		a.log.Error(err.Error())
		code = max(code, 1)
	}
	end, done := context.WithTimeout(context.WithoutCancel(ctx), logPatience)
	defer done()
	stuck := a.logs.Close(end) != nil
	switch {
	case errors.Is(context.Cause(ctx), errUpgrade):
		fmt.Fprintln(o.Stderr, "error: "+a.upgrade.replace(o.Environ).Error())
		return 1
	case stuck:
		return exitLogStuck
	}
	return code
}

// The end waits this long for a log that cannot be written, and then says so by
// Patroni's exit code (wire contract §7.5).
const (
	logPatience  = 2 * time.Second
	exitLogStuck = 5
)

// forgetSecrets removes PATRONI_* from this process's environment: children
// inherit it, and passwords travel there (wire contract §2).
func forgetSecrets(environ []string) {
	for _, entry := range environ {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "PATRONI_") {
			_ = os.Unsetenv(name) // cannot fail for a name without "="
		}
	}
}

// load reads the configuration and says what is wrong with it.
func (a *agent) load() (*config.Local, bool) {
	local, problems, err := config.Load(a.ConfigPath, a.Environ)
	if local != nil {
		problems = append(problems, local.Missing()...)
	}
	for _, p := range problems {
		fmt.Fprintf(a.Stderr, "%s: %s\n", p.Severity, p)
		a.said.lines[p.String()] = true
	}
	if err != nil && len(problems) == 0 {
		fmt.Fprintln(a.Stderr, "error: "+err.Error())
	}
	return local, err == nil && !config.HasErrors(problems)
}

// run opens everything, turns the loop until it ends, and closes in reverse.
func (a *agent) run(ctx context.Context, local *config.Local) (code int, err error) {
	a.log.Info("pgha-agent "+version.Version()+" starting", "member", local.Name, "scope", local.Scope)
	a.use(local, localDynamic(local))
	leashBinary := leashPath()
	if err := preflight(a.config.Load(), leashBinary); err != nil {
		return 1, err
	}
	if a.runDir, err = runDir(a.config.Load()); err != nil {
		return 1, err
	}
	a.use(nil, nil) // with the runtime directory
	a.sayWatchdog()
	if dataDir := a.config.Load().Postgres.DataDir; a.config.Load().PGHA.Leash == "off" {
		a.keeper = newUnleashed(dataDir, a.runDir, a.wake, a.log)
	} else {
		a.keeper = newKeeper(dataDir, a.spawnOptions(leashBinary), a.wake, a.log)
	}
	srv, err := postgres.New(postgres.Options{
		Name: local.Name, Scope: local.Scope, Config: a.config.Load().Postgres,
		Process: a.keeper, Logger: a.log, StateDir: a.runDir, LogPath: filepath.Join(a.runDir, "postgres.log"),
	})
	if err != nil {
		return 1, err
	}
	if err := a.openStore(ctx); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, a.store.Close()) }()
	cluster, err := a.firstLook(ctx)
	switch {
	case err != nil:
		return 1, err
	case cluster == nil:
		return 0, a.leave(context.WithoutCancel(ctx), srv)
	}
	if err := a.refuseV2(ctx); err != nil {
		return 1, err
	}
	if err := a.openClient(ctx, cluster); err != nil {
		return 1, err
	}
	defer a.client.Close()
	if err := a.keeper.attach(ctx); err != nil {
		return 1, err
	}
	a.node = newNode(local.Name, srv, a.keeper, a.config.Load, now, a.wake, a.log)
	a.node.watch()
	// Until decisions are made: without it, what logical slots need would be removed
	// on the primary.
	srv.ForceFeedback(slices.ContainsFunc(a.config.Load().Dynamic.Slots, func(s config.Slot) bool { return s.Type == string(ha.SlotLogical) }))
	defer func() {
		a.node.close()
		a.keeper.close(context.WithoutCancel(ctx))
	}()
	if _, up := a.keeper.Running(); up && srv.DiskRole() == postgres.RolePrimary {
		a.node.apply(false) // a standby's recovery settings wait until the leader is known (ha-behaviour 1.2)
	}
	return a.serve(ctx)
}

// spawnOptions are read anew each time: the timing may have changed.
func (a *agent) spawnOptions(binary string) func() leash.SpawnOptions {
	return func() leash.SpawnOptions {
		s := settings(a.config.Load())
		t, _ := ha.NewTiming(s.TTL, s.LoopWait, s.RetryTimeout) // its warning is the loop's to give
		return leash.SpawnOptions{
			Binary: binary, RunDir: a.runDir, Quiet: t.Quit, Lmax: 2 * s.TTL, Watchdog: watchdogOptions(a.config.Load(), t),
		}
	}
}

// now is the clock of the whole agent.
func now() ha.Instant { return ha.Instant(leash.Now()) }

func (a *agent) wake() {
	select {
	case a.wakeups <- struct{}{}:
	default:
	}
}

// openClient makes the client for peers and refuses a name that is in use.
func (a *agent) openClient(ctx context.Context, c *dcs.Cluster) error {
	l := a.config.Load().Local
	options, err := clientOptions(a.config.Load())
	if err != nil {
		return err
	}
	a.client = restapi.NewClient(options)
	mem := c.Member(l.Name)
	if mem == nil || mem.APIURL == "" {
		return nil
	}
	ask, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if status, _, err := a.client.Get(ask, strings.TrimSuffix(mem.APIURL, "/patroni")+"/liveness"); err == nil {
		return fmt.Errorf("a member called %s is running already (%s answers %d); give this node another name, or stop that one", l.Name, mem.APIURL, status)
	}
	return nil
}

// clientOptions are how this member calls its peers (wire contract §1.5).
func clientOptions(e *config.Effective) (restapi.ClientOptions, error) {
	ctl := e.Local.Ctl
	tlsConfig, err := restapi.ClientTLS(ctl, !e.PGHA.VerifyPeers)
	return restapi.ClientOptions{
		Username: ctl.Username, Password: ctl.Password, TLS: tlsConfig,
		UserAgent: "Patroni/" + version.Patroni + " pgha/" + version.Version(),
	}, err
}

// serve runs loop and REST API until the loop ends.
func (a *agent) serve(ctx context.Context) (int, error) {
	e := a.config.Load()
	holder, err := loadHolder(e.Postgres.DataDir, a.runDir)
	if err != nil {
		return 1, err
	}
	if a.seen, err = openSeen(e.Postgres.DataDir, a.runDir, dcs.Base(e.Local.Namespace, e.Local.Scope), a.log); err != nil {
		return 1, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "pgha_log_records_lost_total", Help: "Log records that were lost because they came faster than they could be written.",
		}, func() float64 { return float64(a.logs.Lost()) }))
	me := identity(e, holder)
	a.runner = loop.NewRunner(a.node, now)
	defer a.runner.Close()
	a.board = newBoard(&ha.View{Name: me.Name, Scope: me.Scope, Version: me.Version, State: "stopped", Role: "replica"})
	a.board.store, a.board.now, a.board.wake = a.store, now, a.wake
	a.board.peers = &peers{client: a.client, log: a.log}
	a.board.sampler = restapi.NewSampler(a.node.sample, now)
	defer a.board.sampler.Close()
	a.board.reload, a.board.seen, a.board.remote, a.board.position = a.reload, a.seen, a.node.remoteAnswer, a.node.sample
	a.board.refused = a.node.refusedValues
	a.journal = newJournal(me.Name, time.Now, a.log)
	a.board.journal = a.journal
	a.openBackups(me.Name)
	defer a.backups.repo.close()
	if a.api, err = restapi.New(restapi.Options{
		Agent: a.board, Settings: restapi.Settings{RestAPI: e.Local.RestAPI, Strict: e.PGHA.RestAPIStrict},
		Metrics: prom.Exporter(registry), Logger: a.log, Config: a.config.Load,
	}); err != nil {
		return 1, err
	}
	if err := a.api.Listen(ctx); err != nil {
		return 1, err
	}
	return a.turn(ctx, me)
}

// callbackPatience is how long the end of the agent waits for a callback, which
// may have an address to take away. After that it goes on by itself.
const callbackPatience = 10 * time.Second

func (a *agent) turn(ctx context.Context, me ha.Identity) (int, error) {
	ask := &failsafe{me: me, ask: a.client.Failsafe, now: now, wake: a.wake, log: a.log}
	defer ask.close()
	l := loop.New(loop.Options{
		Me: me, DCS: a.store, Node: a.node, Ops: a.runner, Leash: a.keeper, Peers: a.board.peers, Failsafe: ask, Promises: a.board.promises,
		Settings:  func() ha.Settings { return settings(a.config.Load()) },
		Configure: a.takeDocument, Reinit: a.board.reinit.newest, Restart: a.board.restarts.newest,
		Freeze: a.board.freezes.newest, Seen: a.seen.first, Accepted: a.seen.accepted, Now: now, Wall: time.Now, Publish: a.board.publish, Log: a.log,
		Trace:     a.journal.turned,
		Callback:  a.node.callback,
		Heartbeat: a.heartbeat, Myself: func() ha.Identity { return identity(a.config.Load(), me.Holder) },
	})
	side, cancel := context.WithCancel(ctx)
	waitBackups := a.runBackups(side)
	waitJournal := a.journal.start(side, journalPlaces(a.config.Load().Postgres.DataDir, a.runDir), a.store)
	defer func() { cancel(); waitBackups(); waitJournal(); a.group.Wait() }()
	a.beside(func() {
		if err := a.api.Serve(side); err != nil {
			a.log.Error(err.Error())
		}
	})
	a.beside(func() { a.listen(side) })
	a.beside(func() { a.seen.run(side) })
	last := ""
	exit := l.Run(ctx, a.wakeups, a.Stop, func() {
		v := a.board.View()
		a.notify.turned(v.Reason, v.Reason != last)
		last = v.Reason
		a.keepDocument(v.State)
	})
	if !errors.Is(context.Cause(ctx), errUpgrade) {
		a.notify.stopping()
	}
	end, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	if err := a.api.Shutdown(end); err != nil {
		a.log.Debug(err.Error())
	}
	if exit == nil {
		return 0, nil
	}
	a.node.srv.WaitCallbacks(callbackPatience)
	if exit.Code != 0 {
		return exit.Code, errors.New(exit.Message)
	}
	return 0, nil
}

// heartbeat: a scraper of the log expects a line per loop_wait, as Patroni writes.
func (a *agent) heartbeat() time.Duration {
	e := a.config.Load()
	if e.Local.Log.Deduplicate {
		return 0
	}
	return e.Dynamic.LoopWait
}

// beside runs do in a goroutine that turn waits for.
func (a *agent) beside(do func()) {
	a.group.Add(1)
	go func() {
		defer a.group.Done()
		do()
	}()
}

// listen passes the ends of operations and reload requests on, and tells
// systemd of the end as soon as it is asked for.
func (a *agent) listen(ctx context.Context) {
	beat, end := a.notify.beat()
	defer end()
	stop := a.Stop
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat:
			a.wake()
		case <-stop:
			a.notify.stopping()
			stop = nil
		case <-a.runner.Done():
			a.wake()
		case <-a.Reload:
			a.reload()
		case <-a.Upgrade:
			a.beside(func() { a.upgradeWhenIdle(ctx) })
		}
	}
}
