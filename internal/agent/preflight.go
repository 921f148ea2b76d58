package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/postgres"
)

// preflight finds out, before anything is changed, what would make this node
// fail later. Each error is one line: what, where, how to mend it.
func preflight(e *config.Effective, leashBinary string) error {
	p := &e.Postgres
	if os.Geteuid() == 0 {
		return fmt.Errorf("this is running as root, and PostgreSQL refuses to; start it as the owner of %s, for example with User=postgres in the systemd unit", p.DataDir)
	}
	if err := checkPrograms(e, leashBinary); err != nil {
		return err
	}
	if err := checkBackupFiles(&e.PGHA.Backup).fatal; err != nil {
		return err
	}
	if err := watchdogNeedsLeash(e); err != nil {
		return err
	}
	probe, err := postgres.New(postgres.Options{
		Name: e.Local.Name, Scope: e.Local.Scope, Config: *p, Process: &postgres.ExecLauncher{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer probe.Close()
	if d := probe.State(); d.State == postgres.DirUnreadable {
		return fmt.Errorf("postgresql.data_dir: %w", d.Err)
	}
	if err := checkParent(p.DataDir); err != nil {
		return err
	}
	if err := checkPgpass(p.PGPass); err != nil {
		return err
	}
	if !postmasterAlive(p.DataDir) {
		return checkPort(p)
	}
	return nil
}

// checkPrograms makes sure that everything this node will run can be run.
func checkPrograms(e *config.Effective, leashBinary string) error {
	p := &e.Postgres
	for _, tool := range []string{"postgres", "initdb", "pg_ctl", "pg_controldata", "pg_basebackup", "pg_isready"} {
		if _, err := exec.LookPath(p.Bin(tool)); err != nil {
			return fmt.Errorf("the program %s cannot be run (%w); set postgresql.bin_dir to the directory of PostgreSQL's programs, for example /usr/lib/postgresql/15/bin", p.Bin(tool), errors.Unwrap(err))
		}
	}
	if e.PGHA.Leash != "off" {
		_, err := exec.LookPath(leashBinary)
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("the program pgha-leash cannot be executed (%s): permission denied; give it mode 0755", leashBinary)
		}
		if err != nil {
			return fmt.Errorf("the program pgha-leash is not beside this one (%s); install it there, or name it in PGHA_LEASH", leashBinary)
		}
	}
	return nil
}

// checkParent makes sure that a missing data directory can be made.
func checkParent(dataDir string) error {
	if _, err := os.Stat(dataDir); err == nil || !errors.Is(err, os.ErrNotExist) {
		return nil // its own checks apply
	}
	dir := filepath.Dir(filepath.Clean(dataDir))
	for {
		st, err := os.Stat(dir)
		if errors.Is(err, os.ErrNotExist) && dir != "/" {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return fmt.Errorf("postgresql.data_dir: %w", err)
		}
		if syscall.Access(dir, 2) != nil {
			owner := "somebody else"
			if sys, ok := st.Sys().(*syscall.Stat_t); ok {
				owner = userName(sys.Uid)
			}
			return fmt.Errorf("postgresql.data_dir %s cannot be made: %s belongs to %s; create the directory and give it to %s",
				dataDir, dir, owner, userName(uint32(os.Geteuid())))
		}
		return nil
	}
}

// checkPgpass: what is written as a file must not be anything else.
func checkPgpass(path string) error {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return fmt.Errorf("postgresql.pgpass %s is no file; name a file, which the agent writes itself", path)
	}
	return nil
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// checkPort: nobody else may listen where postgres shall.
func checkPort(p *config.Postgres) error {
	for _, host := range strings.Split(p.ListenAddresses, ",") {
		host = strings.TrimSpace(host)
		if host == "*" {
			host = ""
		}
		addr := net.JoinHostPort(host, strconv.Itoa(p.Port))
		l, err := net.Listen("tcp", addr)
		switch {
		case err == nil:
			_ = l.Close()
		case errors.Is(err, syscall.EADDRINUSE):
			return fmt.Errorf("postgresql.listen %s: another program listens there, and it is not the server of %s; stop it, or choose another port", addr, p.DataDir)
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return fmt.Errorf("postgresql.listen %s: this host has no such address; correct it, or use 0.0.0.0", addr)
		default:
			return fmt.Errorf("postgresql.listen %s: %w", addr, plain.Connection(err))
		}
	}
	return nil
}

// leashPath is where pgha-leash is: named by PGHA_LEASH, or beside this program.
func leashPath() string {
	if path := os.Getenv("PGHA_LEASH"); path != "" {
		return path
	}
	if self, err := os.Executable(); err == nil {
		return filepath.Join(filepath.Dir(self), "pgha-leash")
	}
	return "pgha-leash"
}

// runDir is the runtime directory of this node: configured, or the first place
// that can be written. It must be the same after a restart of the agent.
func runDir(e *config.Effective) (string, error) {
	name := e.Local.Scope + "-" + e.Local.Name
	places := []string{e.PGHA.RunDir}
	if e.PGHA.RunDir == "" {
		places = []string{filepath.Join("/run/pgha", name)}
		if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
			places = append(places, filepath.Join(d, "pgha", name))
		}
		places = append(places, filepath.Join("/dev/shm", "pgha-"+strconv.Itoa(os.Geteuid()), name))
	}
	var err error
	for _, dir := range places {
		if err = os.MkdirAll(dir, 0o700); err != nil {
			continue
		}
		st, serr := os.Stat(dir)
		if sys, ok := st.Sys().(*syscall.Stat_t); serr == nil && ok && int(sys.Uid) == os.Geteuid() {
			return dir, nil
		}
		err = fmt.Errorf("%s belongs to somebody else", dir)
	}
	return "", fmt.Errorf("no runtime directory: %w; set pgha.run_dir to one that %s can write, on a tmpfs", err, userName(uint32(os.Geteuid())))
}
