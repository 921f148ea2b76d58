package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"time"
)

// Network tells where the hosts of a lab live.
type Network int

const (
	// Loopback puts every host on 127.0.0.1 with ports from Options.BasePort.
	Loopback Network = iota
	// Namespaces gives every host a network namespace and an address of
	// 192.0.2.0/24, with the tutorial's ports. It needs root.
	Namespaces
)

// Options describe a lab. The zero value of a field means the default.
type Options struct {
	// Dir holds everything the lab writes. It must be absent or empty.
	Dir string
	// Nodes is the number of database nodes (default 3), Etcd the number of
	// etcd members (default 1; odd).
	Nodes int
	Etcd  int

	Network Network
	// NodePrefix is how the nodes' names begin (default "pg-db"): those of two
	// clusters that replicate from one another must differ.
	NodePrefix string
	// Scope is the cluster's name (default "pg-ha-cluster").
	Scope string
	// BasePort is the first of 200 ports used by a Loopback lab (default 25000).
	BasePort int

	// TTL, LoopWait and RetryTimeout go into bootstrap.dcs, in whole seconds
	// (defaults 30, 10, 10).
	TTL, LoopWait, RetryTimeout time.Duration
	// MaximumLag is maximum_lag_on_failover in bytes (default 1 MiB).
	MaximumLag int64
	// DCS holds further keys of bootstrap.dcs.
	DCS map[string]any
	// Parameters are further GUCs, over the lab's small defaults.
	Parameters map[string]string
	// Backup gives every node a pgha.backup section and the repository it names.
	Backup Backup
	// Repository is the directory of a posix repository (default: "repo" below
	// Dir). Two labs that name the same one share it.
	Repository string
	// Password is that of the superuser and the replication user (default: a
	// random one).
	Password string
	// Config is laid over every node's patroni.yml; nil values take keys out.
	Config map[string]any
	// Volume, when not 0, gives every node a disk of its own for its data directory,
	// of so many bytes: a loop device, which can be filled, hung and broken. It needs
	// root.
	Volume int64
	// Home, when not 0, gives every node a file system of so many bytes for its logs,
	// configuration and run directory: memory, which Close takes away. It needs root.
	Home int64
	// Watchdog gives every node a watchdog behind the testing driver. It listens
	// only, until Unleash.
	Watchdog bool
	// Patroni, when set, is the path of Patroni's agent, which then runs instead of
	// pgha-agent; it ignores the section pgha of its configuration.
	Patroni string
	// NoFsync switches fsync off: faster, and safe against killed processes
	// though not against a killed machine.
	NoFsync bool

	// BinDir holds pgha-agent, pgha-leash, pgha-etcd and pghactl (default: the directory
	// of the running program). PGBin holds PostgreSQL's programs (default:
	// FindPostgres).
	BinDir, PGBin string
	// S3Program is versitygw, for BackupS3 (default: $PGHA_VERSITYGW, or what
	// 'scripts/deps.sh test' puts into the tools cache).
	S3Program string
	// User runs etcd, agents and PostgreSQL when the rig is root (default
	// "postgres").
	User string
	// InitCommand starts the per-host init: a program that calls RunInit
	// (default: the running program with the argument InitArg).
	InitCommand []string

	// Progress, when set, is told what the lab is doing, a short line each.
	Progress func(line string)
}

// programs are what BinDir holds.
var programs = []string{"pgha-agent", "pgha-leash", "pgha-etcd", "pghactl"}

// etcdElection is the election timeout of the lab's etcd members. It bounds the
// smallest lease etcd grants (1.5 times it), so it is kept short.
const (
	etcdHeartbeat = 100 * time.Millisecond
	etcdElection  = 500 * time.Millisecond
)

var errNotRoot = errors.New("network namespaces need root")

// complete fills in defaults and checks what can be checked without touching
// anything.
func (o *Options) complete() error {
	setDefault(&o.Nodes, 3)
	setDefault(&o.Etcd, 1)
	setDefault(&o.BasePort, 25000)
	setDefault(&o.TTL, 30*time.Second)
	setDefault(&o.LoopWait, 10*time.Second)
	setDefault(&o.RetryTimeout, 10*time.Second)
	setDefault(&o.MaximumLag, 1<<20)
	setDefault(&o.User, "postgres")
	setDefault(&o.Scope, Scope)
	setDefault(&o.NodePrefix, "pg-db")
	setDefault(&o.Repository, filepath.Join(o.Dir, "repo"))
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Dir == "" {
		return errors.New("lab needs a directory")
	}
	if o.Etcd%2 == 0 {
		return fmt.Errorf("number of etcd members is %d: use an odd number", o.Etcd)
	}
	if o.Network == Namespaces && os.Geteuid() != 0 {
		return errNotRoot
	}
	return o.findPrograms()
}

func (o *Options) findPrograms() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own executable: %w", err)
	}
	if len(o.InitCommand) == 0 {
		o.InitCommand = []string{self, InitArg}
	}
	if o.BinDir == "" {
		o.BinDir = filepath.Dir(self)
	}
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(o.BinDir, name)); err != nil {
			return fmt.Errorf("find %s: not in %s (run 'make build')", name, o.BinDir)
		}
	}
	if o.PGBin == "" {
		if o.PGBin, err = FindPostgres(); err != nil {
			return err
		}
	}
	return o.findBackup()
}

// findBackup makes sure that what Backup needs is installed.
func (o *Options) findBackup() error {
	if o.Backup == BackupNone {
		return nil
	}
	if _, err := exec.LookPath("pgbackrest"); err != nil {
		return fmt.Errorf("find pgbackrest: %w (run 'scripts/deps.sh backup')", err)
	}
	if o.Backup != BackupS3 {
		return nil
	}
	if o.S3Program == "" {
		o.S3Program = os.Getenv("PGHA_VERSITYGW")
	}
	if o.S3Program == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find tools cache: %w", err)
		}
		o.S3Program = filepath.Join(cache, "pgha-tools", s3ProgramName)
	}
	if _, err := os.Stat(o.S3Program); err != nil {
		return fmt.Errorf("find %s: %w (run 'scripts/deps.sh test')", s3ProgramName, err)
	}
	return nil
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// FindPostgres gives the directory of the newest PostgreSQL server installed
// the Debian way (/usr/lib/postgresql/*/bin), or else of the one on PATH.
func FindPostgres() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	sort.Slice(dirs, func(i, j int) bool { return majorOf(dirs[i]) > majorOf(dirs[j]) })
	if len(dirs) > 0 {
		return filepath.Dir(dirs[0]), nil
	}
	if p, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(p), nil
	}
	return "", errors.New("find postgres: no server below /usr/lib/postgresql or on PATH; install it with 'apt-get install postgresql'")
}

func majorOf(postgres string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(postgres))))
	return n
}

// account is the identity the servers run as.
type account struct {
	uid, gid int
	home     string
	change   bool // the rig is root: children switch to uid and gid
}

func lookupAccount(name string) (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid(), home: os.Getenv("HOME")}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("find user to run PostgreSQL as (it refuses root): %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return account{}, fmt.Errorf("read ids of user %s: %w", name, err)
	}
	return account{uid: uid, gid: gid, home: u.HomeDir, change: true}, nil
}
