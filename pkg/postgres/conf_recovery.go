package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/pgha/pgha/pkg/config"
)

const (
	standbySignal  = "standby.signal"
	recoverySignal = "recovery.signal"
)

// recoveryGUCs are the settings that had a file of their own before PostgreSQL
// 12. They never go into the ordinary part of the file, and they are removed
// from postgresql.auto.conf, where they would win over ours.
var recoveryGUCs = map[string]bool{
	"archive_cleanup_command": true, "promote_trigger_file": true, "recovery_end_command": true,
	"recovery_min_apply_delay": true, "recovery_target": true, "recovery_target_action": true,
	"recovery_target_inclusive": true, "recovery_target_lsn": true, "recovery_target_name": true,
	"recovery_target_time": true, "recovery_target_timeline": true, "recovery_target_xid": true,
	"restore_command": true, "primary_conninfo": true, "primary_slot_name": true,
}

// archiveDefaults makes the server archive into our repository where nobody
// chose another way, or none: one setting of the user's leaves all to him.
func (s *Server) archiveDefaults(c config.Postgres, all settings) {
	if !c.Backup.Enabled || !c.Backup.Archive {
		return
	}
	included := s.included()
	set := func(name string) bool { _, ok := all[name]; return ok || included[name] }
	if set("archive_command") || set("archive_library") {
		return
	}
	if !set("archive_mode") {
		all["archive_mode"] = "on"
	}
	if on, known := parseBool(strings.ToLower(all["archive_mode"])); known && !on {
		return
	}
	all["archive_command"] = s.archiveCommand()
}

// reportBackupConfig says once what is wrong with pgbackrest.conf. The server
// does without it; archiving and restoring will not.
func (s *Server) reportBackupConfig(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	said := s.saidBackup == text
	s.saidBackup = text
	s.mu.Unlock()
	if err != nil && !said {
		s.log.Warn("archiving and restoring will fail", "error", err)
	}
}

// restoreDefault lets a standby fetch WAL from our repository where nobody
// chose another way.
func (s *Server) restoreDefault(c config.Postgres, r settings) {
	if !c.Backup.Enabled || !c.Backup.Archive {
		return
	}
	if _, set := r["restore_command"]; !set && !s.included()["restore_command"] {
		r["restore_command"] = s.restoreCommand("")
	}
}

// recoverySettings builds the recovery part for a standby (ha-behaviour 6.7).
func (s *Server) recoverySettings(up *Upstream, major int) settings {
	c := s.config()
	r := make(settings)
	for name, value := range c.RecoveryConf {
		name = strings.ToLower(name)
		if recoveryGUCs[name] && !strings.HasPrefix(name, "recovery_target") {
			r[name] = value
		}
	}
	for name, value := range c.Parameters {
		// Recovery settings among the parameters come before recovery_conf.
		if name = strings.ToLower(name); recoveryGUCs[name] && !strings.HasPrefix(name, "recovery_target") {
			r[name] = value
		}
	}
	if major >= 16 {
		delete(r, "promote_trigger_file")
	}
	r["recovery_target_timeline"] = "latest"
	// Empty values defeat targets in included files.
	for _, name := range []string{"", "_name", "_time", "_xid", "_lsn"} {
		r["recovery_target"+name] = ""
	}
	r["primary_conninfo"], r["primary_slot_name"] = "", ""
	s.restoreDefault(c, r)
	standbyCluster(c.Standby, r, up != nil && up.Remote)
	if up == nil {
		return r
	}
	if up.Host != "" {
		r["primary_conninfo"] = s.primaryConninfo(*up, major)
		r["primary_slot_name"] = up.SlotName
	}
	return r
}

// standbyCluster lays the commands of a standby cluster over r, and its delay for
// the one server that follows the remote.
func standbyCluster(sc *config.StandbyCluster, r settings, remote bool) {
	if sc == nil {
		return
	}
	set := func(name, value string) {
		if value != "" {
			r[name] = value
		}
	}
	set("restore_command", sc.RestoreCommand)
	set("archive_cleanup_command", sc.ArchiveCleanupCommand)
	if remote {
		set("recovery_min_apply_delay", sc.RecoveryMinApplyDelay)
	}
}

// keptRecovery is the recovery part of the file on disk.
func (s *Server) keptRecovery() string {
	b, err := os.ReadFile(s.confPath())
	if err != nil {
		return ""
	}
	_, after, ok := strings.Cut(string(b), "\n"+recoveryMark)
	if !ok {
		return ""
	}
	return "\n" + recoveryMark + after
}

// stripAutoConf removes recovery settings from postgresql.auto.conf.
func (s *Server) stripAutoConf() (changed bool, err error) {
	path := s.inData("postgresql.auto.conf")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return writeIfChanged(path, []byte(stripRecovery(string(b))), s.fileMode(path))
}

// stripRecovery drops the lines that set recovery parameters.
func stripRecovery(text string) string {
	var b strings.Builder
	for _, line := range strings.SplitAfter(text, "\n") {
		if !recoveryGUCs[confLineName(line)] {
			b.WriteString(line)
		}
	}
	return b.String()
}

// writeSignal makes the data directory that of a standby, or of a primary.
func (s *Server) writeSignal(role Role) error {
	if err := removeFile(s.inData(recoverySignal)); err != nil {
		return err
	}
	path := s.inData(standbySignal)
	if role == RolePrimary {
		return removeFile(path)
	}
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return writeFile(path, nil, s.fileMode(path))
}
