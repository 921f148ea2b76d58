// Package postgres drives one PostgreSQL server: its data directory, its
// configuration files, its process and the tools that PostgreSQL ships. It
// decides nothing; every method does one thing the loop asked for, within the
// context it was given, and reports what became of it.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres/wal"
)

// Options are the parts a Server is made of.
type Options struct {
	Name    string // this member; application_name of its WAL receiver
	Scope   string // the cluster; becomes cluster_name
	Config  config.Postgres
	Process Launcher
	Logger  *slog.Logger
	// LogPath receives what the server prints before its logging collector
	// runs. Empty: the output of whoever starts it.
	LogPath string
	// StateDir holds the in-progress marker when the parent of the data
	// directory is not writable for us; else the marker is a sibling of the
	// directory. Empty: always a sibling.
	StateDir string
}

// Server is the driver of one PostgreSQL instance. Its methods may be called
// from several goroutines, but only one of the operations that change the
// data directory or the process may run at a time: the loop sees to that.
type Server struct {
	name, scope string
	proc        Launcher
	log         *slog.Logger
	home        string
	logPath     string
	stateDir    string
	life        string       // marks our tools; see leftover.go
	runs        atomic.Int64 // of tools so far
	callbacks   [2]lane      // on_reload has one of its own
	noTLS       atomic.Bool  // the server was seen to have none

	monitor *link // status row
	rest    *link // WAL position for REST
	admin   *link // everything that changes something
	slots   *link // but slots: they must not hold up the rest

	mu        sync.Mutex
	cfg       config.Postgres
	role      Role
	upstream  *Upstream
	following bool    // upstream was set by Start or Follow
	syncNames *string // synchronous_standby_names while the agent owns it
	feedback  bool    // hot_standby_feedback is forced on
	raised    map[string]Pending
	gucs      map[string]bool // known names, nil until asked
	refused   settings        // values the server did not start with, see learnRefused
	timeline  timelineCache
	compress  compression // what pgBackRest was built with
	// private: the server runs for a recovery, with settings that must not be
	// rewritten and out of reach of everybody else.
	private    bool
	saidRepair bool   // an unreadable repair file was reported
	saidBackup string // what was reported last about pgbackrest.conf
}

// Role is what the server shall be.
type Role int

// The two roles a server can be started in.
const (
	RolePrimary Role = iota
	RoleStandby
)

// String gives Patroni's word for the role.
func (r Role) String() string {
	if r == RolePrimary {
		return "primary"
	}
	return "replica"
}

// Upstream is a server to stream, clone or rewind from.
type Upstream struct {
	Name     string // member name, for messages
	Host     string // host, address or socket directory; may be a comma list
	Port     string // may be a comma list like Host
	Database string // database of its conn_url; default: ours
	SlotName string // primary_slot_name; empty: none
	// Remote: no member, but what a standby cluster follows; Host may be empty then.
	Remote bool
}

// Pending is one GUC that needs a restart (wire contract §1.13).
type Pending struct {
	OldValue string `json:"old_value"`
	NewValue string `json:"new_value"`
}

// New makes a driver. It touches nothing on disk.
func New(o Options) (*Server, error) {
	if o.Config.DataDir == "" {
		return nil, errors.New("postgresql.data_dir is not set: name the data directory")
	}
	if !filepath.IsAbs(o.Config.DataDir) {
		return nil, fmt.Errorf("postgresql.data_dir %q: give an absolute path", o.Config.DataDir)
	}
	if o.Process == nil || o.Name == "" {
		return nil, errors.New("make postgres driver: a name and a launcher are needed")
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	o.Config.DataDir = filepath.Clean(o.Config.DataDir)
	s := &Server{
		name: o.Name, scope: o.Scope, proc: o.Process, log: log, home: home,
		logPath: o.LogPath, stateDir: o.StateDir, cfg: withDefaults(o.Config, home), life: newLife(), refused: make(settings),
	}
	s.monitor = newLink(s.monitorConn)
	s.rest = newLink(s.restConn)
	s.admin = newLink(s.adminConn)
	s.slots = newLink(s.slotsConn)
	if s.hasSignal() {
		s.role = RoleStandby
	}
	return s, nil
}

// SetConfig swaps the configuration. It takes effect with the next Start,
// Reload or Follow; connections are made anew with the new credentials.
func (s *Server) SetConfig(c config.Postgres) {
	c.DataDir = filepath.Clean(c.DataDir)
	s.mu.Lock()
	s.cfg = withDefaults(c, s.home)
	s.mu.Unlock()
}

// config returns the configuration in force.
func (s *Server) config() config.Postgres {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

// Close drops all connections; the server itself goes on.
func (s *Server) Close() { s.CloseConnections() }

// CloseConnections drops the driver's own connections at once, interrupting
// what runs on them, so that a smart or fast stop does not wait for us.
func (s *Server) CloseConnections() {
	s.monitor.close()
	s.rest.close()
	s.admin.close()
	s.slots.close()
}

// Running tells whether the launcher has a server.
func (s *Server) Running() (pid int, ok bool) { return s.proc.Running() }

// Exited is closed when the current server and all its orphans are gone.
func (s *Server) Exited() <-chan struct{} { return s.proc.Exited() }

// DiskRole reads the role from the data directory: a signal file makes a
// standby (ha-behaviour 1.2).
func (s *Server) DiskRole() Role {
	if s.hasSignal() {
		return RoleStandby
	}
	return RolePrimary
}

func (s *Server) hasSignal() bool {
	for _, name := range []string{standbySignal, recoverySignal} {
		if _, err := os.Lstat(s.inData(name)); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

func (s *Server) inData(elem ...string) string {
	return filepath.Join(append([]string{s.config().DataDir}, elem...)...)
}

// timelineCache remembers the replay timeline of a standby; asking costs a
// replication connection.
type timelineCache struct {
	tl    wal.Timeline
	start string // postmaster start the value belongs to
	// replayed is the position of replay before it was asked for.
	replayed wal.LSN
}

// withDefaults fills what may be left out.
func withDefaults(c config.Postgres, home string) config.Postgres {
	if c.Port == 0 {
		c.Port = 5432
	}
	if c.ConfigDir == "" {
		c.ConfigDir = c.DataDir
	}
	if c.ConfigBaseName == "" {
		c.ConfigBaseName = "postgresql"
	}
	if c.Database == "" {
		c.Database = "postgres"
	}
	if c.PGPass == "" {
		c.PGPass = filepath.Join(home, "pgpass")
	}
	if c.PgCtlTimeout <= 0 {
		c.PgCtlTimeout = 60 * time.Second
	}
	if c.LocalHost == "" {
		c.LocalHost = localHost(c.ListenAddresses)
	}
	if c.Rewind.Username == "" {
		c.Rewind = c.Superuser
	}
	return c
}

// localHost picks the address for connections from this host (wire contract §1.8).
func localHost(listen string) string {
	first := ""
	for _, a := range strings.Split(listen, ",") {
		switch a = strings.TrimSpace(a); a {
		case "*", "localhost", "0.0.0.0", "127.0.0.1":
			return "localhost"
		case "":
		default:
			if first == "" {
				first = a
			}
		}
	}
	if first == "" {
		return "localhost"
	}
	return first
}

// bin gives the path of a PostgreSQL tool.
func (s *Server) bin(tool string) string {
	c := s.config()
	if name := c.BinNames[tool]; name != "" {
		tool = name
	}
	if c.BinDir == "" {
		return tool
	}
	return filepath.Join(c.BinDir, tool)
}

// backoff waits longer each time, from first to max; it returns ctx's error
// when ctx ends and errExited when done is closed first.
type backoff struct {
	next, max time.Duration
}

func (b *backoff) wait(ctx context.Context, done <-chan struct{}) error {
	t := time.NewTimer(b.next)
	defer t.Stop()
	b.next = min(b.next*2, b.max)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-done:
		return errExited
	case <-t.C:
		return nil
	}
}

var errExited = errors.New("the server process ended")
