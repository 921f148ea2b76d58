package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Recovery describes one recovery from the archive in place.
type Recovery struct {
	Target RecoveryTarget
	Stanza string // whose archive the WAL comes from; "" ours
	// Settings are the recovery_conf of a custom bootstrap method; they take the
	// place of Target and Stanza.
	Settings map[string]string
	Keep     bool // leave the recovery settings the directory came with alone
	None     bool // no recovery from an archive: the directory is started as it is
	// Bootstrap: the directory is a new cluster's, under a KindBootstrap marker;
	// nobody holds the leader key.
	Bootstrap bool
	// Progress (may be nil) gets the WAL segment being replayed.
	Progress func(segment string)

	order string // of a restore
}

// Recover replays the archive up to the target in a server that nobody else
// can reach, lets it promote itself, sets the passwords of our roles, and
// starts it with its real configuration. The directory holds the files of a
// backup. There is no time limit but ctx: cancelled, it can be called again
// and goes on. After another error the directory must not be used.
func (s *Server) Recover(ctx context.Context, r Recovery) error {
	if _, ok := s.Running(); ok {
		return fmt.Errorf("recover: %w", ErrRunning)
	}
	over, err := s.replayed(ctx, r)
	if err == nil && !over {
		if err = s.prepareRecovery(ctx, r); err == nil {
			err = s.enterReplay(r)
		}
	}
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if err := s.replay(ctx, r); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	return s.startRecovered(ctx, r)
}

// enterReplay notes that the files are complete. For a restore the marker goes
// here, since the leash starts nothing over it; the note stands for it.
func (s *Server) enterReplay(r Recovery) error {
	note, ok := s.loadRepair()
	if purpose := r.purpose(); !ok || note.Purpose != purpose || note.Order != r.order {
		note = repair{Purpose: purpose, Order: r.order}
	}
	note.Phase = phaseReplay
	if err := s.saveRepair(note); err != nil || r.Bootstrap {
		return err
	}
	return s.unmark()
}

func (r Recovery) purpose() string {
	if r.Bootstrap {
		return purposeBootstrap
	}
	return purposeRestore
}

// replay runs the private server until recovery is over and the roles are
// made. A directory that had come so far before only gets the roles.
func (s *Server) replay(ctx context.Context, r Recovery) error {
	return s.runPrivately(ctx, r, func(ctx context.Context, do session) error {
		if err := s.ensureSuperuser(ctx, do); err != nil {
			return err
		}
		return s.ensureOthers(ctx, do)
	})
}

// startRecovered ends the repair and starts the server for everybody. A new
// cluster stays under its marker until PostBootstrap.
func (s *Server) startRecovered(ctx context.Context, r Recovery) error {
	if err := s.writeSignal(RolePrimary); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if !r.Bootstrap {
		control, err := s.ControlData(ctx)
		if err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		note, _ := s.loadRepair()
		note.Purpose, note.Order, note.Phase, note.Timeline = purposeRestore, r.order, phaseDone, control.CheckpointTLI
		if err := s.saveRepair(note); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
	}
	res, err := s.Start(ctx, StartOptions{Role: RolePrimary, Bootstrap: r.Bootstrap})
	if err != nil {
		return fmt.Errorf("start the recovered server: %w", err)
	}
	if res != Started {
		return errors.New("start the recovered server: it did not accept connections in time")
	}
	return nil
}

// prepareRecovery writes configuration and signal file.
func (s *Server) prepareRecovery(ctx context.Context, r Recovery) error {
	recovery, err := s.recoveryFor(r)
	if err != nil {
		return err
	}
	if r.None {
		return s.writeSignal(RolePrimary)
	}
	if r.Keep {
		return nil
	}
	f, err := s.renderRecovery(ctx, recovery)
	if err != nil {
		return err
	}
	if _, err := s.storeConf(f); err != nil {
		return err
	}
	if _, err := s.stripAutoConf(); err != nil {
		return err
	}
	if err := removeFile(s.inData(standbySignal)); err != nil {
		return err
	}
	return writeFile(s.inData(recoverySignal), nil, s.fileMode(s.inData(recoverySignal)))
}

// renderRecovery renders the configuration with the given recovery part.
func (s *Server) renderRecovery(ctx context.Context, recovery settings) (confFile, error) {
	major, err := s.MajorVersion()
	if err != nil {
		return confFile{}, err
	}
	f, err := s.renderBase(ctx, major, RoleStandby, nil)
	if err != nil {
		return confFile{}, err
	}
	// The target comes last: an empty one after it counts as a second target.
	target := make(settings)
	for name, value := range recovery {
		if recoveryTargets[name] && value != "" {
			target[name] = value
			delete(recovery, name)
		}
	}
	text, err := renderSettings(recovery)
	if err != nil {
		return confFile{}, err
	}
	last, err := renderSettings(target)
	if err != nil {
		return confFile{}, err
	}
	f.text += "\n" + recoveryMark + text + last
	return f, nil
}

// recoveryTargets are the settings of which one may be set.
var recoveryTargets = map[string]bool{
	"recovery_target": true, "recovery_target_name": true, "recovery_target_time": true, "recovery_target_xid": true, "recovery_target_lsn": true,
}

// recoveryFor gives the recovery settings of r.
func (s *Server) recoveryFor(r Recovery) (settings, error) {
	if r.Keep || r.None {
		return nil, nil
	}
	if r.Settings != nil {
		return s.givenRecovery(r.Settings), nil
	}
	out, err := r.Target.settings()
	if err != nil {
		return nil, err
	}
	if command := s.recoveryCommand(r.Stanza); command != "" {
		out["restore_command"] = command
	}
	out["primary_conninfo"], out["primary_slot_name"] = "", ""
	return out, nil
}

// recoveryCommand is the restore_command of a recovery. Ours tells a segment
// that is not there (1) from a repository that cannot be read: PostgreSQL takes
// every exit code up to 125 for the end of the archive, and would promote a
// server that lacks the rest.
func (s *Server) recoveryCommand(stanza string) string {
	if stanza == "" {
		own := s.recoverySettings(nil, 0)["restore_command"]
		if own != "" && own != s.restoreCommand("") || s.included()["restore_command"] {
			return own // the user's own way, as for a standby
		}
	}
	return s.restoreCommand(stanza) + " || { e=$?; test $e -eq 1 && exit 1; exit 255; }"
}

// givenRecovery takes over a custom method's recovery_conf. The server shall
// become a primary, so whatever else it says about the end does not count.
func (s *Server) givenRecovery(given map[string]string) settings {
	out := make(settings)
	for name := range recoveryTargets {
		out[name] = "" // defeats one in an included file
	}
	for name, value := range given {
		switch name = strings.ToLower(name); name {
		case "standby_mode", "recovery_target_action":
			if (name == "standby_mode") != (value == "off") && value != "promote" {
				s.log.Warn("a setting of recovery_conf does not count: a new cluster's server is promoted", "setting", name, "value", value)
			}
		default:
			out[name] = value
		}
	}
	out["recovery_target_action"] = "promote"
	return out
}

// errTorn means that the server died at the very end of recovery: PostgreSQL
// has removed the signal file, but the control file is still that of a
// recovery. Such a directory would replay WAL beyond the target.
var errTorn = fmt.Errorf("%w: it was interrupted in its last moment; the files must be restored again", ErrRecovery)

// replayed tells whether an earlier run of this recovery has come to its end.
func (s *Server) replayed(ctx context.Context, r Recovery) (bool, error) {
	note, ok := s.loadRepair()
	if !ok || note.Phase != phaseReplay || note.Purpose != r.purpose() || note.Order != r.order || s.hasSignal() {
		return false, nil
	}
	control, err := s.ControlData(ctx)
	if err != nil {
		return false, err
	}
	if control.State == StateInArchiveRecovery || control.State == StateShutDownInRecovery {
		return false, errTorn
	}
	return true, nil
}

// dropStalePid removes the pid file of a server that is gone: pgbackrest takes
// it for a running one.
func (s *Server) dropStalePid() error {
	if _, err := os.Lstat(s.inData("postmaster.pid")); err != nil {
		return nil
	}
	if _, err := s.staleOwner(); err != nil {
		return err
	}
	return removeFile(s.inData("postmaster.pid"))
}

// reportEvery is the interval of the log lines about a long replay.
const reportEvery = 5 * time.Second
