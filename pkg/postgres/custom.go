package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pgha/pgha/pkg/config"
)

// scriptLines and scriptWidth bound what a user's command may put into our log.
const (
	scriptLines = 1000
	scriptWidth = 500
)

// runScript runs a user's command and puts what it prints into the log. Its
// exit code and its last line are in the error. Cancelling ctx ends it with
// all its children.
func (s *Server) runScript(ctx context.Context, name string, words, env []string) error {
	_, err := s.run(ctx, command{
		path: words[0], args: words[1:], env: append(s.serverEnv(), env...), both: true, line: s.scriptLine(name),
	})
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it ended well, but left something running that holds its output open
	}
	return err
}

// scriptLine puts what a user's command prints into the log, within bounds.
func (s *Server) scriptLine(name string) func(line string) {
	lines := 0
	return func(line string) {
		switch lines++; {
		case lines <= scriptLines:
			s.log.Info(name, "output", s.scrub(clip(line, scriptWidth)))
		case lines == scriptLines+1:
			s.log.Warn("the command prints too much, the rest is not logged", "command", name)
		}
	}
}

// replicaCommand gives the command line of a replica creation method (wire
// contract §8.3). The user's keys come in the order of the file, housekeeping
// keys among them unless no_params is set.
func (s *Server) replicaCommand(m *config.CustomMethod, connstring string) ([]string, error) {
	words, err := commandWords("postgresql."+m.Name+".command", m.Command)
	if err != nil {
		return nil, err
	}
	for _, o := range m.Options {
		if m.NoParams && (o.Name == "no_params" || o.Name == "no_leader" || o.Name == "keep_data") {
			continue
		}
		words = append(words, "--"+o.Name+"="+o.Value)
	}
	if m.NoParams {
		return words, nil
	}
	return append(words, "--scope="+s.scope, "--role=replica", "--datadir="+s.config().DataDir, "--connstring="+connstring), nil
}

// customReplica runs a replica creation method. The directory is under its
// marker, and empty unless the method keeps the data.
func (s *Server) customReplica(ctx context.Context, m *config.CustomMethod, up *Upstream) error {
	c := s.config()
	connstring := ""
	var env []string
	if up != nil {
		connstring = s.toolInfo(*up, c.Replication).String()
		if err := s.writePgpass(*up); err != nil {
			return err
		}
	}
	if c.Replication.Password.IsSet() {
		env = append(env, "PGPASSFILE="+c.PGPass)
	}
	words, err := s.replicaCommand(m, connstring)
	if err != nil {
		return err
	}
	if err := s.runScript(ctx, m.Name, words, env); err != nil {
		return err
	}
	return s.complete()
}

// complete tells whether a command that reported success left a data directory.
func (s *Server) complete() error {
	if _, err := s.MajorVersion(); err != nil || !s.hasControlFile() {
		return fmt.Errorf("the command ended with success, but %s is not a complete data directory", s.config().DataDir)
	}
	return nil
}

// bootstrapIgnored are the keys of a bootstrap method that are not passed on.
var bootstrapIgnored = map[string]bool{
	"command": true, "no_params": true, "keep_existing_recovery_conf": true, "recovery_conf": true, "scope": true, "datadir": true,
}

// bootstrapCommand gives the command line of a bootstrap method (wire contract §8.2).
func (s *Server) bootstrapCommand(m *config.CustomMethod) ([]string, error) {
	words, err := commandWords("bootstrap."+m.Name+".command", m.Command)
	if err != nil {
		return nil, err
	}
	if !m.NoParams {
		words = append(words, "--scope="+s.scope, "--datadir="+s.config().DataDir)
	}
	for _, o := range m.Options {
		if !bootstrapIgnored[o.Name] {
			words = append(words, "--"+o.Name+"="+o.Value)
		}
	}
	return words, nil
}

// CustomBootstrap makes a new cluster in the empty data directory with the
// user's command, recovers it as the method says and starts it as a primary.
// hba is bootstrap.pg_hba. Like Initdb it leaves the marker to PostBootstrap.
func (s *Server) CustomBootstrap(ctx context.Context, m config.CustomMethod, hba []string) error {
	if err := s.customBootstrap(ctx, m, hba); err != nil {
		return fmt.Errorf("bootstrap by %s: %w", m.Name, err)
	}
	return nil
}

func (s *Server) customBootstrap(ctx context.Context, m config.CustomMethod, hba []string) error {
	if d := s.State(); d.State != DirEmpty {
		return fmt.Errorf("%w: %s", errors.Join(ErrNotEmpty, d.Err), s.config().DataDir)
	}
	words, err := s.bootstrapCommand(&m)
	if err != nil {
		return err
	}
	if err := s.clearRepair(); err != nil {
		return err
	}
	if err := s.Begin(KindBootstrap, false); err != nil {
		return err
	}
	if err := s.runScript(ctx, m.Name, words, nil); err != nil {
		return err
	}
	if err := s.complete(); err != nil {
		return err
	}
	// The leash demands the marker in the directory for a first start.
	if err := s.Begin(KindBootstrap, true); err != nil {
		return err
	}
	if err := s.restoreConfBackups(); err != nil {
		return err
	}
	if err := s.removeTriggers(); err != nil {
		return err
	}
	if err := s.appendHBA(hba); err != nil {
		return err
	}
	r := Recovery{Settings: m.RecoveryConf, Keep: m.KeepExistingRecoveryConf, Bootstrap: true}
	if len(m.RecoveryConf) > 0 {
		r.Keep = false
	} else {
		r.Settings, r.None = nil, !r.Keep
	}
	return s.Recover(ctx, r)
}

// removeTriggers removes what would promote the copy at once.
func (s *Server) removeTriggers() error {
	paths := []string{s.inData("promote")}
	c := s.config()
	for _, from := range []map[string]string{c.RecoveryConf, c.Parameters} {
		for name, path := range from {
			name = strings.ToLower(name)
			if (name == "promote_trigger_file" || name == "trigger_file") && path != "" {
				if !filepath.IsAbs(path) {
					path = s.inData(path)
				}
				paths = append(paths, path)
			}
		}
	}
	for _, path := range paths {
		if fi, err := os.Lstat(path); err == nil && !fi.IsDir() {
			if err := removeFile(path); err != nil {
				return err
			}
		}
	}
	return nil
}
