package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgha/pgha/pkg/config"
)

var pgpassEscape = strings.NewReplacer(`\`, `\\`, ":", `\:`)

// pgpassLines renders the password file for a connection (wire contract §1.8):
// a line per host of a comma list, * for what is missing, and an extra
// localhost line when a host is a socket directory, since libpq looks it up
// under that name.
func pgpassLines(host, port string, a config.Auth) string {
	hosts := strings.Split(host, ",")
	ports := strings.Split(port, ",")
	star := func(v string) string {
		if v == "" {
			return "*"
		}
		return pgpassEscape.Replace(v)
	}
	var b strings.Builder
	local := false
	line := func(h, p string) {
		fmt.Fprintf(&b, "%s:%s:*:%s:%s\n", star(h), star(p), star(a.Username), pgpassEscape.Replace(a.Password.Reveal()))
	}
	for i, h := range hosts {
		p := ports[0]
		if len(ports) == len(hosts) {
			p = ports[i]
		}
		line(h, p)
		if strings.HasPrefix(h, "/") && !local {
			local = true
			line("localhost", p)
		}
	}
	return b.String()
}

// checkPassword refuses what the line format of a password file cannot hold.
func checkPassword(a config.Auth) error {
	if strings.ContainsAny(a.Username+a.Password.Reveal(), "\n\r\x00") {
		return fmt.Errorf("write password file: name or password of the role %q holds a line break or a zero byte", a.Username)
	}
	return nil
}

// writePgpass writes the server's own password file, for the WAL receiver.
// Without a password there is nothing to write.
func (s *Server) writePgpass(up Upstream) error {
	cfg := s.config()
	if !cfg.Replication.Password.IsSet() {
		return nil
	}
	if err := checkPassword(cfg.Replication); err != nil {
		return err
	}
	lines := pgpassLines(up.Host, up.Port, cfg.Replication)
	if err := os.MkdirAll(filepath.Dir(cfg.PGPass), 0o700); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	if fi, err := os.Stat(cfg.PGPass); err == nil && fi.Mode().Perm()&0o077 != 0 {
		// libpq ignores a file others can read; an equal one must be replaced too.
		return writeFile(cfg.PGPass, []byte(lines), 0o600)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write password file: %w", err)
	}
	_, err := writeIfChanged(cfg.PGPass, []byte(lines), 0o600)
	return err
}

// toolPgpass writes a password file for one run of a tool and gives its
// environment entry; cleanup removes it. Without a password it does nothing.
func (s *Server) toolPgpass(up Upstream, a config.Auth) (env []string, cleanup func(), err error) {
	if !a.Password.IsSet() {
		return nil, func() {}, nil
	}
	if err := checkPassword(a); err != nil {
		return nil, nil, err
	}
	dir := filepath.Dir(s.config().PGPass)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("write password file: %w", err)
	}
	f, err := os.CreateTemp(dir, ".pgha-pgpass-*") // O_EXCL, 0600
	if err != nil {
		return nil, nil, fmt.Errorf("write password file: %w", err)
	}
	_, err = f.WriteString(pgpassLines(up.Host, up.Port, a))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	cleanup = func() { _ = os.Remove(f.Name()) }
	if err != nil {
		cleanup()
		return nil, nil, fmt.Errorf("write password file: %w", err)
	}
	return []string{"PGPASSFILE=" + f.Name()}, cleanup, nil
}
