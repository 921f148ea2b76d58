package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// dcsTimeout bounds every request to etcd, the first one included: a person
// is waiting.
const dcsTimeout = 5 * time.Second

// session is one command's configuration and its connections.
type session struct {
	app      *App
	local    *config.Local
	file     string // the configuration file, "" without one
	source   string // where the configuration came from, for messages
	insecure bool
	stores   map[string]clusterStore
}

// newSession reads the configuration the options name (wire contract §6.1).
func (a *App) newSession(o *globals) (*session, error) {
	path, err := a.configPath(o.configFile)
	if err != nil {
		return nil, err
	}
	dcsURL := o.dcsURL
	if dcsURL == "" {
		dcsURL = a.getenv("DCS_URL")
	}
	if path == "" && dcsURL == "" && !a.configuredByEnvironment() {
		return nil, errors.New("no configuration: pass -c /etc/patroni/patroni.yml (any member's file will do)" +
			" or -d etcd3://HOST:2379, or set PATRONICTL_CONFIG_FILE")
	}
	s := &session{app: a, file: path, source: path, insecure: o.insecure, stores: map[string]clusterStore{}}
	if path == "" {
		s.source = "the environment"
	}
	if s.local, err = a.loadConfig(path); err != nil {
		return nil, err
	}
	if dcsURL != "" {
		s.local, err = withDCS(s.local, dcsURL)
		s.source = "-d " + dcsURL
		if err != nil {
			return nil, err
		}
	}
	if s.local.Etcd.Kind == "" {
		return nil, fmt.Errorf("%s has no etcd3 section: add one with the hosts of etcd, or pass -d etcd3://HOST:2379", s.source)
	}
	return s, nil
}

// configPath finds the file: the option, the variable, the default place. Only
// a missing file in the default place is no error; then it returns "".
func (a *App) configPath(option string) (string, error) {
	path := option
	if path == "" {
		path = a.getenv("PATRONICTL_CONFIG_FILE")
	}
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("read configuration: %s: %s; name an existing file with -c or PATRONICTL_CONFIG_FILE", path, plain.Reason(err))
		}
		return path, nil
	}
	dir := a.getenv("XDG_CONFIG_HOME")
	if dir == "" && a.getenv("HOME") != "" {
		dir = filepath.Join(a.getenv("HOME"), ".config")
	}
	path = filepath.Join(dir, "patroni", "patronictl.yaml")
	if _, err := os.Stat(path); dir == "" || err != nil {
		return "", nil
	}
	return path, nil
}

func (a *App) configuredByEnvironment() bool {
	for _, entry := range a.Environ {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PATRONI_") && value != "" {
			return true
		}
	}
	return false
}

// loadConfig reads the file, or the environment alone. What matters to a
// server only (data directories, parameters) is not our business here; an
// unusable etcd or ctl section is.
func (a *App) loadConfig(path string) (*config.Local, error) {
	if path == "" && !a.configuredByEnvironment() {
		return &config.Local{}, nil // -d says it all
	}
	local, problems, err := config.Load(path, a.Environ)
	for _, p := range problems {
		if p.Severity == config.Error && (err != nil || concernsUs(p.Path)) {
			return nil, errors.New(p.String())
		}
	}
	return local, err
}

// concernsUs tells whether pghactl reads the setting at path.
func concernsUs(path string) bool {
	section, _, _ := strings.Cut(path, ".")
	switch section {
	case "scope", "namespace", "etcd", "etcd3", "ctl", "restapi":
		return true
	}
	return false
}

// read returns the cluster called name; the connection stays open for the
// next time.
func (s *session) read(ctx context.Context, name string) (*dcs.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, dcsTimeout)
	defer cancel()
	store, err := s.store(ctx, name)
	if err != nil {
		return nil, s.dcsError(ctx, "read", name, err)
	}
	c, err := store.Read(ctx)
	if err != nil {
		return nil, s.dcsError(ctx, "read", name, err)
	}
	return c, nil
}

// readAll returns all clusters of the namespace.
func (s *session) readAll(ctx context.Context) (map[string]*dcs.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, dcsTimeout)
	defer cancel()
	namespace := "*, below " + dcs.Base(s.local.Namespace, "") + ","
	store, err := s.store(ctx, "")
	if err != nil {
		return nil, s.dcsError(ctx, "read", namespace, err)
	}
	clusters, err := store.ReadClusters(ctx)
	if err != nil {
		return nil, s.dcsError(ctx, "read", namespace, err)
	}
	return clusters, nil
}

func (s *session) store(ctx context.Context, name string) (clusterStore, error) {
	if store, ok := s.stores[name]; ok {
		return store, nil
	}
	store, err := s.app.openCluster(ctx, s.local, name)
	if err != nil {
		return nil, err
	}
	s.stores[name] = store
	return store, nil
}

// requestFailover writes /failover directly, for when no member can be asked
// (wire contract §6.4). The lock holder judges it before acting.
func (s *session) requestFailover(ctx context.Context, name string, f *dcs.Failover) error {
	return s.put(ctx, name, dcs.Write{Key: dcs.KeyFailover, Value: f.Encode()})
}

// put writes one key of the cluster called name.
func (s *session) put(ctx context.Context, name string, w dcs.Write) error {
	return s.change(ctx, "write to", name, func(ctx context.Context, store clusterStore) error { return store.Put(ctx, w) })
}

// remove deletes all keys of the cluster called name while its leadership is
// that of epoch.
func (s *session) remove(ctx context.Context, name string, epoch int64) error {
	err := s.change(ctx, "remove", name, func(ctx context.Context, store clusterStore) error { return store.RemoveCluster(ctx, epoch) })
	return changedMeanwhile(err, "The leader of the cluster has changed meanwhile; nothing was removed")
}

func (s *session) change(ctx context.Context, verb, name string, do func(context.Context, clusterStore) error) error {
	ctx, cancel := context.WithTimeout(ctx, dcsTimeout)
	defer cancel()
	store, err := s.store(ctx, name)
	if err == nil {
		err = do(ctx, store)
	}
	if err != nil {
		return s.dcsError(ctx, verb, name, err)
	}
	return nil
}

// dcsError says which etcd did not do it, and what to look at.
func (s *session) dcsError(ctx context.Context, verb, name string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return errAborted
	}
	where := strings.Join(s.local.Etcd.Endpoints(), ", ")
	if where == "" {
		where = "the SRV records of " + s.local.Etcd.SRV
	}
	cure := "check that etcd runs there and that the address is right"
	switch {
	case errors.Is(err, dcs.ErrRejected):
		cure = "check the user, the password and the permissions"
	case errors.Is(err, dcs.ErrUnknown):
		cure = "it may have been done: look before you try again"
	case errors.Is(err, dcs.ErrConflict):
		cure = "look at it and try again"
	}
	return fmt.Errorf("cannot %s cluster %s in etcd at %s (from %s): %w; %s", verb, name, where, s.source, withoutStep(err), cure)
}

// withoutStep leaves out which request of the library failed: the sentence it
// becomes part of says what was wanted.
func withoutStep(err error) error {
	for _, sentinel := range []error{dcs.ErrUnavailable, dcs.ErrUnknown, dcs.ErrConflict, dcs.ErrRejected} {
		if _, rest, found := strings.Cut(err.Error(), sentinel.Error()); found && errors.Is(err, sentinel) {
			return fmt.Errorf("%w%s", sentinel, rest)
		}
	}
	return err
}

func (s *session) memberAPI() (memberAPI, error) { return s.app.newAPI(s.local, s.insecure) }

func (s *session) close() {
	for _, store := range s.stores {
		_ = store.Close() // nothing was promised to last
	}
}
