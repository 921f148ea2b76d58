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

// writeAccess writes pg_hba.conf and pg_ident.conf when they are configured
// and not redirected by hba_file or ident_file.
func (s *Server) writeAccess(c config.Postgres) (changed bool, err error) {
	for _, f := range []struct {
		guc, name string
		lines     []string
	}{
		{"hba_file", "pg_hba.conf", c.PGHBA},
		{"ident_file", "pg_ident.conf", c.PGIdent},
	} {
		path := filepath.Join(c.ConfigDir, f.name)
		if f.lines == nil || c.Parameters[f.guc] != "" {
			if f.guc == "ident_file" && c.Parameters[f.guc] == "" {
				if err := s.ensureFile(path); err != nil {
					return false, err
				}
			}
			continue
		}
		text, err := accessText(f.name, f.lines)
		if err != nil {
			return false, err
		}
		wrote, err := writeIfChanged(path, []byte(text), s.fileMode(path))
		if err != nil {
			return false, err
		}
		changed = changed || wrote
	}
	return changed, nil
}

func accessText(name string, lines []string) (string, error) {
	for _, l := range lines {
		if strings.ContainsAny(l, "\n\r\x00") {
			return "", fmt.Errorf("%s: the line %q holds a line break or a zero byte: give one rule per item", name, l)
		}
	}
	return confHeader + strings.Join(lines, "\n") + "\n", nil
}

// ensureFile creates path empty when it is missing.
func (s *Server) ensureFile(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeFile(path, nil, s.fileMode(path))
}

// appendHBA adds the bootstrap's lines to the pg_hba.conf that initdb made.
func (s *Server) appendHBA(lines []string) error {
	c := s.config()
	if len(lines) == 0 || c.PGHBA != nil || c.Parameters["hba_file"] != "" {
		return nil
	}
	add, err := accessText("bootstrap.pg_hba", lines)
	if err != nil {
		return err
	}
	add = strings.TrimPrefix(add, confHeader)
	path := filepath.Join(c.ConfigDir, "pg_hba.conf")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return writeFile(path, []byte(string(old)+"\n"+add), s.fileMode(path))
}

// backedUp lists the files whose copies are kept in the data directory, since
// a base backup takes neither files outside nor links (wire contract §1.8).
func (s *Server) backedUp() []string {
	base := s.config().ConfigBaseName
	return []string{base + ".conf", base + ".base.conf", "pg_hba.conf", "pg_ident.conf"}
}

// SaveConfBackups refreshes the *.backup copies. It is called after each
// successful start; a copy that cannot be written is not worth a failure.
func (s *Server) SaveConfBackups() {
	for _, name := range s.backedUp() {
		b, err := os.ReadFile(filepath.Join(s.config().ConfigDir, name))
		if err != nil {
			continue
		}
		to := s.inData(name + ".backup")
		if _, err := writeIfChanged(to, b, s.fileMode(to)); err != nil {
			s.log.Warn("cannot keep a copy of a configuration file", "error", err)
		}
	}
}

// restoreConfBackups puts missing configuration files back after a clone; a
// missing pg_ident.conf is created empty.
func (s *Server) restoreConfBackups() error {
	dir := s.config().ConfigDir
	for _, name := range s.backedUp() {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		b, err := os.ReadFile(s.inData(name + ".backup"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("restore configuration file: %w", err)
		}
		if err := writeFile(path, b, s.fileMode(path)); err != nil {
			return err
		}
	}
	return s.ensureFile(filepath.Join(dir, "pg_ident.conf"))
}
