package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/pkg/config"
)

const syncNamesGUC = "synchronous_standby_names"

// nobodyYet names no member: a server that waits for it acknowledges nothing.
const nobodyYet = "__patroni_strict_sync_replica_placeholder__"

// ownSyncNames gives synchronous_standby_names the value of the agent while it
// owns the parameter. An agent that was restarted goes on with what the server's
// file says until it has decided anew: to name fewer would acknowledge what
// waits for a standby that does not have it.
func (s *Server) ownSyncNames(c config.Postgres, all settings) {
	s.mu.Lock()
	value, role := s.syncNames, s.role
	s.mu.Unlock()
	if value == nil {
		if c.SynchronousMode == config.SyncOff || c.SynchronousMode == "" {
			return
		}
		text, there := s.storedSetting(syncNamesGUC)
		if !there && c.SynchronousStrict && role == RolePrimary {
			text = nobodyYet
		}
		value = &text
	}
	if *value == "" {
		delete(all, syncNamesGUC)
		return
	}
	all[syncNamesGUC] = *value
}

// storedSetting reads a line of the file this agent, or Patroni, wrote.
func (s *Server) storedSetting(name string) (value string, ok bool) {
	b, err := os.ReadFile(s.confPath())
	if err != nil || !strings.HasPrefix(string(b), ownHeader) {
		return "", false
	}
	for line := range strings.Lines(string(b)) {
		if confLineName(line) != name {
			continue
		}
		_, text, _ := strings.Cut(line, "=")
		text = strings.TrimSpace(text)
		if n := len(text); n >= 2 && text[0] == '\'' && text[n-1] == '\'' {
			value, ok = unescapeConf.Replace(text[1:n-1]), true
		}
	}
	return value, ok
}

var unescapeConf = strings.NewReplacer("''", "'", `\\`, `\`, `\'`, "'")

// SyncNamesOwned tells whether SetSyncStandbyNames has taken the parameter over.
func (s *Server) SyncNamesOwned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.syncNames != nil
}

// SetSyncStandbyNames takes over synchronous_standby_names: it writes the
// value, reloads, waits until the server uses it, and makes a little WAL by
// which standbys can show that they have caught up. "" names nobody, nil gives
// the parameter back to the configuration.
func (s *Server) SetSyncStandbyNames(ctx context.Context, value *string) error {
	s.mu.Lock()
	s.syncNames = value
	s.mu.Unlock()
	if s.isPrivate() {
		return nil // it is in force with the next start
	}
	role, up, follow := s.followState()
	_, changed, err := s.writeConf(ctx, role, up, follow)
	if err != nil {
		return err
	}
	if _, ok := s.Running(); !ok || value == nil && !changed {
		return nil
	}
	if err := s.hup(ctx); err != nil || value == nil {
		return err
	}
	b := backoff{next: 2 * time.Millisecond, max: 20 * time.Millisecond}
	for {
		var now string
		err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
			return c.QueryRow(ctx, "SELECT current_setting('"+syncNamesGUC+"')").Scan(&now)
		})
		if err == nil && now == *value {
			break
		}
		if werr := b.wait(ctx, s.proc.Exited()); werr != nil {
			return fmt.Errorf("set %s: the server did not take the value: %w", syncNamesGUC, errors.Join(werr, err))
		}
	}
	if *value == "" || role != RolePrimary {
		return nil
	}
	return s.nudgeWAL(ctx)
}

// nudgeWAL commits an empty transaction, without waiting for anybody.
func (s *Server) nudgeWAL(ctx context.Context) error {
	err := s.admin.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit TO 'off'"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "SELECT CASE WHEN NOT pg_is_in_recovery() THEN txid_current() END")
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("set %s: %w", syncNamesGUC, err)
	}
	return nil
}
