package configgen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
)

// localGUCs stay with the node: commands and files that differ between hosts.
var localGUCs = []string{
	"archive_command", "restore_command", "archive_cleanup_command", "recovery_end_command", "ssl_passphrase_command",
	"hba_file", "ident_file", "config_file",
}

// notGUCs are said elsewhere in the file, or belong to nobody's configuration.
var notGUCs = []string{
	"data_directory", "cluster_name", "listen_addresses", "port", "primary_conninfo", "primary_slot_name", "promote_trigger_file",
	"synchronous_standby_names", "transaction_isolation", "transaction_read_only", "transaction_deferrable", "lc_collate", "lc_ctype", "server_encoding",
}

const settingsSQL = `SELECT name, pg_catalog.current_setting(name), source FROM pg_catalog.pg_settings
 WHERE context <> 'internal' AND category NOT LIKE '%Recovery Target%' AND setting <> '(disabled)'
   AND (source IN ('configuration file', 'command line', 'environment variable')
        OR name IN ('data_directory', 'listen_addresses', 'port', 'cluster_name', 'hba_file', 'ident_file', 'config_file'))`

// FromServer writes a configuration from what a running server says. password
// is asked when the server wants one that the connection string does not hold;
// nil: nobody can be asked.
func FromServer(ctx context.Context, dsn string, environ []string, password func() (string, error)) ([]byte, error) {
	env := config.Environment(environ)
	conn, cfg, err := connect(ctx, dsn, password)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing was changed
	var super bool
	if err := conn.QueryRow(ctx, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").Scan(&super); err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if !super {
		return nil, fmt.Errorf("the user %s is no superuser of the server; connect as one", cfg.User)
	}
	f := hostFacts()
	f.superuser, f.password, f.replication = cfg.User, cfg.Password, fixme
	gucs, err := f.readSettings(ctx, conn)
	if err != nil {
		return nil, err
	}
	f.place(gucs)
	if err := f.readFiles(gucs); err != nil {
		return nil, err
	}
	if f.binDir = lookup(env, "postgresql", "bin_dir"); f.binDir == "" {
		f.binDir = postmasterDir(f.dataDir)
	}
	return f.document(env)
}

func connect(ctx context.Context, dsn string, password func() (string, error)) (*pgx.Conn, *pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, nil, errors.New("the connection string cannot be read; write for example --dsn 'host=192.0.2.1 user=postgres dbname=postgres'") // the cause may show a password
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && strings.HasPrefix(refused.Code, "28") && cfg.Password == "" && password != nil {
		if cfg.Password, err = password(); err != nil {
			return nil, nil, fmt.Errorf("read the password: %w", err)
		}
		conn, err = pgx.ConnectConfig(ctx, cfg)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the server at %s port %d as %s: %w; check --dsn (or PGHOST, PGPORT, PGUSER) and the password", cfg.Host, cfg.Port, cfg.User, plain.Connection(err))
	}
	return conn, cfg, nil
}

// readSettings gives what the server does not have by default.
func (f *facts) readSettings(ctx context.Context, conn *pgx.Conn) (map[string]string, error) {
	rows, err := conn.Query(ctx, settingsSQL)
	if err != nil {
		return nil, fmt.Errorf("ask the server for its settings: %w", err)
	}
	gucs := map[string]string{}
	var name, value, source string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value, &source}, func() error {
		gucs[name] = value
		return nil
	}); err != nil {
		return nil, fmt.Errorf("ask the server for its settings: %w", err)
	}
	return gucs, nil
}

// place sorts the settings into the cluster's and this node's.
func (f *facts) place(gucs map[string]string) {
	f.dataDir = gucs["data_directory"]
	if f.scope = gucs["cluster_name"]; f.scope == "" {
		f.scope = fixme
	}
	port := gucs["port"]
	listen := strings.Join(strings.Fields(gucs["listen_addresses"]), "")
	f.listen, f.connect = listen+":"+port, net.JoinHostPort(f.address, port)
	names := make([]string, 0, len(gucs))
	for name := range gucs {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		value := typed(gucs[name])
		switch {
		case slices.Contains(notGUCs, name):
		case !slices.Contains(localGUCs, name):
			f.dcs = append(f.dcs, entry{name, value})
		case !f.standardFile(name, gucs[name]):
			f.local = append(f.local, entry{name, value})
		}
	}
}

// standardFile tells whether a file is where it is without being configured.
func (f *facts) standardFile(guc, path string) bool {
	names := map[string]string{"hba_file": "pg_hba.conf", "ident_file": "pg_ident.conf", "config_file": "postgresql.conf"}
	return names[guc] != "" && path == filepath.Join(f.dataDir, names[guc])
}

// typed keeps whole numbers as such.
func typed(value string) any {
	if n, err := strconv.Atoi(value); err == nil && strconv.Itoa(n) == value {
		return n
	}
	return value
}

// readFiles takes over pg_hba.conf and pg_ident.conf, if they are where the
// agent would write them.
func (f *facts) readFiles(gucs map[string]string) error {
	for guc, into := range map[string]*[]string{"hba_file": &f.hba, "ident_file": &f.ident} {
		if !f.standardFile(guc, gucs[guc]) {
			continue
		}
		text, err := os.ReadFile(gucs[guc])
		if err != nil {
			return fmt.Errorf("read %s: %w; run this as the owner of the data directory", guc, err)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				*into = append(*into, line)
			}
		}
	}
	return nil
}

// postmasterDir is where the program of the running server is, "" unknown.
func postmasterDir(dataDir string) string {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return ""
	}
	pid, _, _ := strings.Cut(string(text), "\n")
	exe, err := os.Readlink(filepath.Join("/proc", strings.TrimSpace(pid), "exe"))
	if err != nil {
		return ""
	}
	return filepath.Dir(exe)
}
